"""The residual networks for ImageNet."""

from typing import Literal, NamedTuple

import keras

from models.parts import normalization, pooling, require_input


class ResNetSize(NamedTuple):
    """Blocks of conv2 to conv5, and whether they are bottlenecks of 1 x 1, 3 x 3, 1 x 1."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool


RESNET_SIZES = {
    18: ResNetSize((2, 2, 2, 2), False),
    34: ResNetSize((3, 4, 6, 3), False),
    50: ResNetSize((3, 4, 6, 3), True),
    101: ResNetSize((3, 4, 23, 3), True),
    152: ResNetSize((3, 8, 36, 3), True),
}
"""He et al. (2016), table 1."""


def resnet(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    depth: int = 50,
    norm: str = "batch",
    pool: str = "max",
    stride_in: Literal["1x1", "3x3"] = "3x3",
) -> keras.Model:
    """Builds ResNet-18, 34, 50, 101 or 152.

    A block computes `relu(F(x) + shortcut(x))`. The shortcut is a 1 x 1 convolution if the shape
    changes (option B), otherwise the identity.

    Reference:
        He et al., Deep Residual Learning for Image Recognition, 2016, table 1.
        https://arxiv.org/abs/1512.03385

    Args:
        input_shape: Height, width (at least 1 pixel) and channels of an image.
        num_classes: Number of classes; at least 1.
        depth: Number of layers with weights: 18, 34, 50, 101 or 152.
        norm: `batch`, `group`, `layer` or `none`.
        pool: Pooling after conv1: `max`, `average`, `lp`, `mixed`, `stochastic` or `spectral`.
        stride_in: The convolution of a bottleneck with the stride: the first, `1x1`, as in the
            paper; or the second, `3x3`, which is more accurate and usual in later work.

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    if depth not in RESNET_SIZES:
        raise ValueError(f"`depth` must be one of {tuple(RESNET_SIZES)}. Received: depth={depth}")
    if stride_in not in ("1x1", "3x3"):
        raise ValueError(f"`stride_in` must be 1x1 or 3x3. Received: stride_in={stride_in!r}")
    require_input(input_shape, 1)
    build = _Builder(norm, stride_in)
    images = keras.Input(input_shape, name="images")
    x = keras.layers.ZeroPadding2D(3, name="conv1_pad")(images)
    x = build.convolution(x, 64, 7, 2, "conv1", padding="valid")
    x = keras.layers.ReLU(name="conv1_relu")(x)
    x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = pooling(pool, 3, 2, name="pool1")(x)
    size = RESNET_SIZES[depth]
    for stage, blocks in enumerate(size.blocks, start=2):
        filters = 64 * 2 ** (stage - 2)
        for block in range(1, blocks + 1):
            strides = 2 if stage > 2 and block == 1 else 1
            block_of = build.bottleneck if size.bottleneck else build.basic
            x = block_of(x, filters, strides, f"conv{stage}_block{block}")
    x = keras.layers.GlobalAveragePooling2D(name="pool5")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name=f"resnet{depth}")


class _Builder(NamedTuple):
    """Settings that all blocks of a network share."""

    norm: str
    stride_in: str

    def convolution(self, x, filters, size, strides, name, padding="same"):
        x = keras.layers.Conv2D(
            filters,
            size,
            strides,
            padding=padding,
            use_bias=self.norm == "none",
            kernel_initializer="he_normal",
            name=name,
        )(x)
        normalize = normalization(self.norm, filters, epsilon=1e-5, name=f"{name}_norm")
        return normalize(x) if normalize else x

    def three_by_three(self, x, filters, strides, name):
        # Equal padding on both sides, unlike "same", keeps windows centered if the stride is 2.
        if strides == 1:
            return self.convolution(x, filters, 3, 1, name)
        x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        return self.convolution(x, filters, 3, strides, name, padding="valid")

    def shortcut(self, x, filters, strides, name):
        if strides == 1 and x.shape[-1] == filters:
            return x
        return self.convolution(x, filters, 1, strides, f"{name}_0")

    def basic(self, x, filters, strides, name):
        shortcut = self.shortcut(x, filters, strides, name)
        x = self.three_by_three(x, filters, strides, f"{name}_1")
        x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
        x = self.three_by_three(x, filters, 1, f"{name}_2")
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
        return keras.layers.ReLU(name=name)(x)

    def bottleneck(self, x, filters, strides, name):
        first, second = (strides, 1) if self.stride_in == "1x1" else (1, strides)
        shortcut = self.shortcut(x, 4 * filters, strides, name)
        x = self.convolution(x, filters, 1, first, f"{name}_1")
        x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
        x = self.three_by_three(x, filters, second, f"{name}_2")
        x = keras.layers.ReLU(name=f"{name}_2_relu")(x)
        x = self.convolution(x, 4 * filters, 1, 1, f"{name}_3")
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
        return keras.layers.ReLU(name=name)(x)
