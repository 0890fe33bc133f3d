"""The VGG networks: only 3 x 3 convolutions and pooling before the dense layers."""

import keras

from models.parts import normalization, pooling, require_input

FILTERS = (64, 128, 256, 512, 512)

CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions of each of the five blocks: Simonyan & Zisserman (2015), table 1, A, B, D and E."""


def vgg(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    depth: int = 16,
    units: int = 4096,
    norm: str = "none",
    pool: str = "max",
    dropout: float = 0.5,
) -> keras.Model:
    """Builds VGG-11, 13, 16 or 19.

    Reference:
        Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
        2015, table 1. https://arxiv.org/abs/1409.1556

    Args:
        input_shape: Height, width (at least 32 pixels) and channels of an image.
        num_classes: Number of classes; at least 1.
        depth: Number of layers with weights: 11, 13, 16 or 19.
        units: Units of fc6 and of fc7; at least 1.
        norm: Normalization after each convolution: `batch`, `group`, `layer` or `none`.
        pool: `max`, `average`, `lp`, `mixed`, `stochastic` or `spectral`.
        dropout: Dropout rate of fc6 and fc7, in [0, 1).

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    if depth not in CONVOLUTIONS:
        raise ValueError(f"`depth` must be one of {tuple(CONVOLUTIONS)}. Received: depth={depth}")
    require_input(input_shape, 32)
    images = keras.Input(input_shape, name="images")
    x = images
    plan = zip(FILTERS, CONVOLUTIONS[depth], strict=True)
    for block, (filters, convolutions) in enumerate(plan, start=1):
        for number in range(1, convolutions + 1):
            name = f"conv{block}_{number}"
            x = keras.layers.Conv2D(
                filters,
                3,
                padding="same",
                use_bias=norm == "none",
                kernel_initializer="he_normal",
                name=name,
            )(x)
            normalize = normalization(norm, filters, name=f"{name}_norm")
            x = normalize(x) if normalize else x
            x = keras.layers.ReLU(name=f"{name}_relu")(x)
        x = pooling(pool, 2, name=f"pool{block}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for name in ("fc6", "fc7"):
        x = keras.layers.Dense(units, "relu", kernel_initializer="he_normal", name=name)(x)
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="fc8")(x)
    return keras.Model(images, logits, name=f"vgg{depth}")
