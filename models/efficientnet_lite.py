"""EfficientNet-Lite: inverted residuals without squeeze and excitation."""

import math
from typing import NamedTuple

import keras

from models.parts import normalization, require_input


class Stage(NamedTuple):
    """Blocks of one stage: size of the depthwise kernel, expansion, filters, blocks and stride."""

    kernel: int
    expansion: int
    filters: int
    blocks: int
    strides: int


STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 6, 24, 2, 2),
    Stage(5, 6, 40, 2, 2),
    Stage(3, 6, 80, 3, 2),
    Stage(5, 6, 112, 3, 1),
    Stage(5, 6, 192, 4, 2),
    Stage(3, 6, 320, 1, 1),
)
"""EfficientNet-B0: Tan & Le (2019), table 1."""


class LiteSize(NamedTuple):
    """Factors of the filters and of the blocks, and the dropout rate of the last features."""

    width: float
    depth: float
    dropout: float


LITE_SIZES = {
    0: LiteSize(1.0, 1.0, 0.2),
    1: LiteSize(1.0, 1.1, 0.2),
    2: LiteSize(1.1, 1.2, 0.3),
    3: LiteSize(1.2, 1.4, 0.3),
    4: LiteSize(1.4, 1.8, 0.3),
}
"""https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"""


def efficientnet_lite(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    size: int = 0,
    norm: str = "batch",
) -> keras.Model:
    """Builds EfficientNet-Lite0 to Lite4.

    A block expands the channels (1 x 1), filters each of them (3 x 3 or 5 x 5), and projects them
    without activation (1 x 1); where the shape stays, its input is added. Compared with
    EfficientNet there is no squeeze and excitation, the activation is ReLU6, and the stem, the last
    convolution and the numbers of blocks of the first and the last stage are the same in all sizes.

    Reference:
        Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019.
        https://arxiv.org/abs/1905.11946
        Liu, Higher accuracy on vision models with EfficientNet-Lite, 2020.
        https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html

    Args:
        input_shape: Height, width (at least 32 pixels) and channels of an image.
        num_classes: Number of classes; at least 1.
        size: 0 to 4.
        norm: `batch`, `group`, `layer` or `none`.

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    if size not in LITE_SIZES:
        raise ValueError(f"`size` must be one of {tuple(LITE_SIZES)}. Received: size={size}")
    require_input(input_shape, 32)
    width, depth, dropout = LITE_SIZES[size]
    images = keras.Input(input_shape, name="images")
    x = _convolution(images, 32, 3, 2, norm, "stem")
    for number, stage in enumerate(STAGES):
        is_fixed = number in (0, len(STAGES) - 1)
        blocks = stage.blocks if is_fixed else math.ceil(stage.blocks * depth)
        filters = _rounded(stage.filters * width)
        for block in range(blocks):
            strides = stage.strides if block == 0 else 1
            x = _block(x, stage, filters, strides, norm, f"stage{number}_block{block}")
    x = _convolution(x, 1280, 1, 1, norm, "head")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name=f"efficientnet_lite{size}")


def _block(x, stage: Stage, filters: int, strides: int, norm: str, name: str):
    shortcut = x
    if stage.expansion > 1:
        x = _convolution(x, stage.expansion * x.shape[-1], 1, 1, norm, f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(
        stage.kernel,
        strides,
        padding="same",
        use_bias=norm == "none",
        # He initialization for the inputs of one channel; Keras would count other inputs.
        depthwise_initializer=keras.initializers.VarianceScaling(2.0, "fan_out"),
        name=f"{name}_depthwise",
    )(x)
    x = _activated(x, norm, f"{name}_depthwise")
    x = _convolution(x, filters, 1, 1, norm, f"{name}_project", activated=False)
    if strides == 1 and shortcut.shape[-1] == filters:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _convolution(x, filters, kernel, strides, norm, name, activated=True):
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides,
        padding="same",
        use_bias=norm == "none",
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return _activated(x, norm, name) if activated else _normalized(x, norm, name)


def _normalized(x, norm: str, name: str):
    normalize = normalization(norm, x.shape[-1], name=f"{name}_norm")
    return normalize(x) if normalize else x


def _activated(x, norm: str, name: str):
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(_normalized(x, norm, name))


def _rounded(filters: float) -> int:
    """Rounds to a multiple of 8, and not down by more than a tenth."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded
