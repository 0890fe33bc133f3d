"""Inception v3, with factorized convolutions and batch normalization."""

from functools import partial

import keras

from models.inception_module import Conv, Pool, Split, convolution, inception_module
from models.parts import pooling, require_input


def inception_v3(
    input_shape: tuple[int, int, int] = (299, 299, 3),
    num_classes: int = 1000,
    dropout: float = 0.2,
    norm: str = "batch",
    pool: str = "max",
) -> keras.Model:
    """Builds Inception v3, without the auxiliary classifier.

    Layers `mixed0` to `mixed10` are the outputs of the inception modules. The batch normalization
    learns no scale, because the next convolution after ReLU can do so.

    Reference:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016,
        section 6 and table 1. https://arxiv.org/abs/1512.00567

    Args:
        input_shape: Height, width (at least 75 pixels) and channels of an image.
        num_classes: Number of classes; at least 1.
        dropout: Dropout rate of the last features, in [0, 1).
        norm: Normalization after each convolution: `batch`, `group`, `layer` or `none`.
        pool: Pooling between stages: `max`, `average`, `lp`, `mixed`, `stochastic`, `spectral`.

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    require_input(input_shape, 75)
    module = partial(inception_module, norm=norm, scale=False)
    images = keras.Input(input_shape, name="images")
    x = _stem(images, norm, pool)
    for number, pooled_filters in enumerate((32, 64, 64)):
        x = module(x, _module_a(pooled_filters), name=f"mixed{number}")
    x = module(x, _reduction_a(pool), name="mixed3")
    for number, filters in enumerate((128, 160, 160, 192), start=4):
        x = module(x, _module_b(filters), name=f"mixed{number}")
    x = module(x, _reduction_b(pool), name="mixed8")
    x = module(x, _module_c(), name="mixed9")
    x = module(x, _module_c(), name="mixed10")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="inception_v3")


def _stem(x, norm: str, pool: str):
    convolve = partial(convolution, norm=norm, scale=False)
    x = convolve(x, Conv(32, 3, 2, "valid"), name="conv1")
    x = convolve(x, Conv(32, 3, 1, "valid"), name="conv2")
    x = convolve(x, Conv(64, 3), name="conv3")
    x = pooling(pool, 3, 2, "valid", name="pool1")(x)
    x = convolve(x, Conv(80, 1), name="conv4")
    x = convolve(x, Conv(192, 3, 1, "valid"), name="conv5")
    return pooling(pool, 3, 2, "valid", name="pool2")(x)


def _module_a(pooled_filters: int):
    """Figure 5 of the paper, but with a 5 x 5 convolution."""
    return (
        [Conv(64, 1)],
        [Conv(48, 1), Conv(64, 5)],
        [Conv(64, 1), Conv(96, 3), Conv(96, 3)],
        [Pool("average"), Conv(pooled_filters, 1)],
    )


def _reduction_a(pool: str):
    return (
        [Conv(384, 3, 2, "valid")],
        [Conv(64, 1), Conv(96, 3), Conv(96, 3, 2, "valid")],
        [Pool(pool, 2, "valid")],
    )


def _module_b(filters: int):
    """Figure 6 of the paper, with n = 7."""
    return (
        [Conv(192, 1)],
        [Conv(filters, 1), Conv(filters, (1, 7)), Conv(192, (7, 1))],
        [
            Conv(filters, 1),
            Conv(filters, (7, 1)),
            Conv(filters, (1, 7)),
            Conv(filters, (7, 1)),
            Conv(192, (1, 7)),
        ],
        [Pool("average"), Conv(192, 1)],
    )


def _reduction_b(pool: str):
    return (
        [Conv(192, 1), Conv(320, 3, 2, "valid")],
        [Conv(192, 1), Conv(192, (1, 7)), Conv(192, (7, 1)), Conv(192, 3, 2, "valid")],
        [Pool(pool, 2, "valid")],
    )


def _module_c():
    """Figure 7 of the paper: the coarsest grid, with expanded filter banks."""
    split = Split(Conv(384, (1, 3)), Conv(384, (3, 1)))
    return (
        [Conv(320, 1)],
        [Conv(384, 1), split],
        [Conv(448, 1), Conv(384, 3), split],
        [Pool("average"), Conv(192, 1)],
    )
