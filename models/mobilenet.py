"""MobileNet, a network of depthwise separable convolutions."""

import keras

from models.parts import normalization, require_input

BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""Filters and stride of each separable convolution: Howard et al. (2017), table 1."""


def mobilenet(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    width: float = 1.0,
    norm: str = "batch",
    dropout: float = 0.001,
) -> keras.Model:
    """Builds MobileNet v1.

    A separable convolution filters each channel separately (3 x 3), then mixes the channels
    (1 x 1). Normalization and ReLU6 follow each of the two.

    Reference:
        Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
        Applications, 2017, table 1. https://arxiv.org/abs/1704.04861

    Args:
        input_shape: Height, width (at least 32 pixels) and channels of an image.
        num_classes: Number of classes; at least 1.
        width: Multiplier of all filters; above 0.
        norm: `batch`, `group`, `layer` or `none`.
        dropout: Dropout rate of the last features, in [0, 1).

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    if not width > 0:
        raise ValueError(f"`width` must be above 0. Received: width={width}")
    require_input(input_shape, 32)
    images = keras.Input(input_shape, name="images")
    x = keras.layers.Conv2D(
        max(1, int(32 * width)),
        3,
        2,
        padding="same",
        use_bias=norm == "none",
        kernel_initializer="he_normal",
        name="conv1",
    )(images)
    x = _activated(x, norm, "conv1")
    for number, (filters, strides) in enumerate(BLOCKS, start=2):
        name = f"conv{number}"
        x = keras.layers.DepthwiseConv2D(
            3,
            strides,
            padding="same" if strides == 1 else "valid",
            use_bias=norm == "none",
            # He initialization for the 9 inputs of each output; Keras would count other inputs.
            depthwise_initializer=keras.initializers.VarianceScaling(2.0, "fan_out"),
            name=f"{name}_depthwise",
        )(_pad(x, strides, f"{name}_depthwise"))
        x = _activated(x, norm, f"{name}_depthwise")
        x = keras.layers.Conv2D(
            max(1, int(filters * width)),
            1,
            use_bias=norm == "none",
            kernel_initializer="he_normal",
            name=f"{name}_pointwise",
        )(x)
        x = _activated(x, norm, f"{name}_pointwise")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="mobilenet")


def _pad(x, strides: int, name: str):
    """Pads at the bottom and right before a stride of 2, as the ImageNet weights expect."""
    if strides == 1:
        return x
    return keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)


def _activated(x, norm: str, name: str):
    normalize = normalization(norm, x.shape[-1], name=f"{name}_norm")
    if normalize:
        x = normalize(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)
