"""Inception v2, known as BN-Inception: the network that introduced batch normalization."""

from functools import partial

import keras

from models.inception_module import Conv, Pool, convolution, inception_module
from models.parts import normalization, pooling, require_input


def inception_v2(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    norm: str = "batch",
    pool: str = "max",
) -> keras.Model:
    """Builds Inception v2 (BN-Inception), without auxiliary classifiers.

    As in the paper, the first convolution is separable with depth multiplier 8, two 3 x 3
    convolutions replace each 5 x 5 convolution, and there is no dropout. The paper's table is
    inconsistent in modules 4c and 4d. Here they have the filters listed in their rows, so 608
    channels instead of 576.

    Reference:
        Ioffe & Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing
        Internal Covariate Shift, 2015, figure 5. https://arxiv.org/abs/1502.03167

    Args:
        input_shape: Height, width and channels of an image.
        num_classes: Number of classes; at least 1.
        norm: Normalization after each convolution: `batch`, `group`, `layer` or `none`.
        pool: Pooling between stages: `max`, `average`, `lp`, `mixed`, `stochastic`, `spectral`.

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    require_input(input_shape, 1)
    module = partial(inception_module, norm=norm)
    images = keras.Input(input_shape, name="images")
    x = _stem(images, norm, pool)
    x = module(x, _module(64, (64, 64), (64, 96), 32), name="inception_3a")
    x = module(x, _module(64, (64, 96), (64, 96), 64), name="inception_3b")
    x = module(x, _reduction((128, 160), (64, 96), pool), name="inception_3c")
    x = module(x, _module(224, (64, 96), (96, 128), 128), name="inception_4a")
    x = module(x, _module(192, (96, 128), (96, 128), 128), name="inception_4b")
    x = module(x, _module(160, (128, 160), (128, 160), 128), name="inception_4c")
    x = module(x, _module(96, (128, 192), (160, 192), 128), name="inception_4d")
    x = module(x, _reduction((128, 192), (192, 256), pool), name="inception_4e")
    x = module(x, _module(352, (192, 320), (160, 224), 128), name="inception_5a")
    x = module(x, _module(352, (192, 320), (192, 224), 128, "max"), name="inception_5b")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="inception_v2")


def _stem(x, norm: str, pool: str):
    x = keras.layers.SeparableConv2D(
        64,
        7,
        strides=2,
        padding="same",
        depth_multiplier=8,
        use_bias=norm == "none",
        name="conv1",
    )(x)
    normalize = normalization(norm, 64, name="conv1_norm")
    if normalize is not None:
        x = normalize(x)
    x = keras.layers.ReLU(name="conv1_relu")(x)
    x = pooling(pool, 3, 2, "same", name="pool1")(x)
    x = convolution(x, Conv(64, 1), norm, name="conv2_reduce")
    x = convolution(x, Conv(192, 3), norm, name="conv2")
    return pooling(pool, 3, 2, "same", name="pool2")(x)


def _module(
    filters: int,
    single: tuple[int, int],
    double: tuple[int, int],
    pooled: int,
    kind: str = "average",
):
    """Builds a row of the table: 1 x 1, 3 x 3 and two 3 x 3 (each reduced first), pooling."""
    return (
        [Conv(filters, 1)],
        [Conv(single[0], 1), Conv(single[1], 3)],
        [Conv(double[0], 1), Conv(double[1], 3), Conv(double[1], 3)],
        [Pool(kind), Conv(pooled, 1)],
    )


def _reduction(single: tuple[int, int], double: tuple[int, int], pool: str):
    """Builds a row of the table with stride 2, whose pooling branch has no convolution."""
    return (
        [Conv(single[0], 1), Conv(single[1], 3, 2)],
        [Conv(double[0], 1), Conv(double[1], 3), Conv(double[1], 3, 2)],
        [Pool(pool, 2)],
    )
