"""Inception v4, the larger and more uniform successor of Inception v3."""

from functools import partial

import keras

from models.inception_module import Conv, Pool, Split, convolution, inception_module
from models.parts import require_input


def inception_v4(
    input_shape: tuple[int, int, int] = (299, 299, 3),
    num_classes: int = 1000,
    dropout: float = 0.2,
    norm: str = "batch",
    pool: str = "max",
) -> keras.Model:
    """Builds Inception v4.

    Reference:
        Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections on
        Learning, 2017, figures 3 to 9 and table 1. https://arxiv.org/abs/1602.07261

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
    module = partial(inception_module, norm=norm)
    images = keras.Input(input_shape, name="images")
    x = _stem(images, norm, pool)
    for number in range(1, 5):
        x = module(x, _module_a(), name=f"inception_a{number}")
    x = module(x, _reduction_a(pool), name="reduction_a")
    for number in range(1, 8):
        x = module(x, _module_b(), name=f"inception_b{number}")
    x = module(x, _reduction_b(pool), name="reduction_b")
    for number in range(1, 4):
        x = module(x, _module_c(), name=f"inception_c{number}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="inception_v4")


def _stem(x, norm: str, pool: str):
    """Figure 3 of the paper."""
    convolve = partial(convolution, norm=norm)
    module = partial(inception_module, norm=norm)
    x = convolve(x, Conv(32, 3, 2, "valid"), name="stem_conv1")
    x = convolve(x, Conv(32, 3, 1, "valid"), name="stem_conv2")
    x = convolve(x, Conv(64, 3), name="stem_conv3")
    x = module(x, ([Pool(pool, 2, "valid")], [Conv(96, 3, 2, "valid")]), name="stem_mixed1")
    branches = (
        [Conv(64, 1), Conv(96, 3, 1, "valid")],
        [Conv(64, 1), Conv(64, (7, 1)), Conv(64, (1, 7)), Conv(96, 3, 1, "valid")],
    )
    x = module(x, branches, name="stem_mixed2")
    return module(x, ([Conv(192, 3, 2, "valid")], [Pool(pool, 2, "valid")]), name="stem_mixed3")


def _module_a():
    """Figure 4 of the paper."""
    return (
        [Pool("average"), Conv(96, 1)],
        [Conv(96, 1)],
        [Conv(64, 1), Conv(96, 3)],
        [Conv(64, 1), Conv(96, 3), Conv(96, 3)],
    )


def _reduction_a(pool: str):
    """Figure 7 of the paper with k = 192, l = 224, m = 256, n = 384."""
    return (
        [Pool(pool, 2, "valid")],
        [Conv(384, 3, 2, "valid")],
        [Conv(192, 1), Conv(224, 3), Conv(256, 3, 2, "valid")],
    )


def _module_b():
    """Figure 5 of the paper."""
    return (
        [Pool("average"), Conv(128, 1)],
        [Conv(384, 1)],
        [Conv(192, 1), Conv(224, (1, 7)), Conv(256, (7, 1))],
        [
            Conv(192, 1),
            Conv(192, (1, 7)),
            Conv(224, (7, 1)),
            Conv(224, (1, 7)),
            Conv(256, (7, 1)),
        ],
    )


def _reduction_b(pool: str):
    """Figure 8 of the paper."""
    return (
        [Pool(pool, 2, "valid")],
        [Conv(192, 1), Conv(192, 3, 2, "valid")],
        [Conv(256, 1), Conv(256, (1, 7)), Conv(320, (7, 1)), Conv(320, 3, 2, "valid")],
    )


def _module_c():
    """Figure 6 of the paper."""
    split = Split(Conv(256, (1, 3)), Conv(256, (3, 1)))
    return (
        [Pool("average"), Conv(256, 1)],
        [Conv(256, 1)],
        [Conv(384, 1), split],
        [Conv(384, 1), Conv(448, (1, 3)), Conv(512, (3, 1)), split],
    )
