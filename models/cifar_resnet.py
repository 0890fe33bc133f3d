"""The residual networks for images of 32 x 32 pixels."""

import keras
from keras import ops

from models.parts import normalization, require_input

DEPTHS = (20, 32, 44, 56, 110)
"""He et al. (2016), table 6."""


def cifar_resnet(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    depth: int = 20,
    norm: str = "batch",
) -> keras.Model:
    """Builds a residual network of `6 n + 2` layers with 16, 32 and 64 filters.

    If a block doubles the filters, its shortcut takes every second pixel and fills the new channels
    with zeros (option A). So shortcuts have no weights.

    Reference:
        He et al., Deep Residual Learning for Image Recognition, 2016, section 4.2.
        https://arxiv.org/abs/1512.03385

    Args:
        input_shape: Height, width (at least 4 pixels) and channels of an image.
        num_classes: Number of classes; at least 1.
        depth: Number of layers with weights; one of `DEPTHS`.
        norm: `batch`, `group`, `layer` or `none`.

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    if depth not in DEPTHS:
        raise ValueError(f"`depth` must be one of {DEPTHS}. Received: depth={depth}")
    require_input(input_shape, 4)
    images = keras.Input(input_shape, name="images")
    x = _convolution(images, 16, 1, norm, "conv1")
    x = keras.layers.ReLU(name="conv1_relu")(x)
    for stage, filters in enumerate((16, 32, 64), start=2):
        for block in range(1, (depth - 2) // 6 + 1):
            strides = 2 if stage > 2 and block == 1 else 1
            x = _block(x, filters, strides, norm, f"conv{stage}_block{block}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name=f"cifar_resnet{depth}")


def _block(x, filters: int, strides: int, norm: str, name: str):
    shortcut = x
    if strides > 1:
        # The pixels that the windows of "same" padding are centered on.
        top, left = (1 - side % 2 for side in x.shape[1:3])
        added = filters - x.shape[-1]
        sides = (added // 2, added - added // 2)
        shortcut = ops.pad(x[:, top::strides, left::strides], ((0, 0), (0, 0), (0, 0), sides))
    x = _convolution(x, filters, strides, norm, f"{name}_1")
    x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
    x = _convolution(x, filters, 1, norm, f"{name}_2")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=name)(x)


def _convolution(x, filters: int, strides: int, norm: str, name: str):
    x = keras.layers.Conv2D(
        filters,
        3,
        strides,
        padding="same",
        use_bias=norm == "none",
        kernel_initializer="he_normal",
        name=name,
    )(x)
    normalize = normalization(norm, filters, epsilon=1e-5, name=f"{name}_norm")
    return normalize(x) if normalize else x
