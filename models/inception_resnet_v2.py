"""Inception-ResNet v2: inception modules whose output is added to their input."""

from functools import partial

import keras

from models.inception_module import Branch, Conv, Pool, convolution, inception_module
from models.parts import pooling, require_input


def inception_resnet_v2(
    input_shape: tuple[int, int, int] = (299, 299, 3),
    num_classes: int = 1000,
    dropout: float = 0.2,
    norm: str = "batch",
    pool: str = "max",
) -> keras.Model:
    """Builds Inception-ResNet v2 as its authors released it.

    A block computes `relu(x + scale * conv(concat(branches(x))))`; the last one has no ReLU. The
    small scales (0.17, 0.1, 0.2) keep the deep network stable. The release differs from the figures
    of the paper. It has the stem of Inception v3, then one module before the first block, and 10,
    20 and 10 blocks. Its batch normalization learns no scale.

    Reference:
        Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections on
        Learning, 2017, figures 15 to 19 and section 3.3. https://arxiv.org/abs/1602.07261

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
    x = module(_stem(images, norm, pool), _MODULE, name="mixed_5b")
    for number in range(1, 11):
        x = _block(x, _BLOCK_35, 0.17, norm, name=f"block35_{number}")
    x = module(x, _reduction_a(pool), name="mixed_6a")
    for number in range(1, 21):
        x = _block(x, _BLOCK_17, 0.1, norm, name=f"block17_{number}")
    x = module(x, _reduction_b(pool), name="mixed_7a")
    for number in range(1, 10):
        x = _block(x, _BLOCK_8, 0.2, norm, name=f"block8_{number}")
    x = _block(x, _BLOCK_8, 1.0, norm, name="block8_10", rectify=False)
    x = convolution(x, Conv(1536, 1), norm, name="conv_7b", scale=False)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="inception_resnet_v2")


def _stem(x, norm: str, pool: str):
    convolve = partial(convolution, norm=norm, scale=False)
    x = convolve(x, Conv(32, 3, 2, "valid"), name="conv1")
    x = convolve(x, Conv(32, 3, 1, "valid"), name="conv2")
    x = convolve(x, Conv(64, 3), name="conv3")
    x = pooling(pool, 3, 2, "valid", name="pool1")(x)
    x = convolve(x, Conv(80, 1), name="conv4")
    x = convolve(x, Conv(192, 3, 1, "valid"), name="conv5")
    return pooling(pool, 3, 2, "valid", name="pool2")(x)


def _block(x, branches, scale: float, norm: str, name: str, rectify: bool = True):
    mixed = inception_module(x, branches, norm, f"{name}_mixed", scale=False)
    change = keras.layers.Conv2D(x.shape[-1], 1, name=f"{name}_conv")(mixed)
    change = keras.layers.Rescaling(scale, name=f"{name}_scale")(change)
    x = keras.layers.Add(name=name)([x, change])
    return keras.layers.ReLU(name=f"{name}_relu")(x) if rectify else x


_MODULE: tuple[Branch, ...] = (
    [Conv(96, 1)],
    [Conv(48, 1), Conv(64, 5)],
    [Conv(64, 1), Conv(96, 3), Conv(96, 3)],
    [Pool("average"), Conv(64, 1)],
)
_BLOCK_35: tuple[Branch, ...] = (
    [Conv(32, 1)],
    [Conv(32, 1), Conv(32, 3)],
    [Conv(32, 1), Conv(48, 3), Conv(64, 3)],
)
_BLOCK_17: tuple[Branch, ...] = (
    [Conv(192, 1)],
    [Conv(128, 1), Conv(160, (1, 7)), Conv(192, (7, 1))],
)
_BLOCK_8: tuple[Branch, ...] = (
    [Conv(192, 1)],
    [Conv(192, 1), Conv(224, (1, 3)), Conv(256, (3, 1))],
)


def _reduction_a(pool: str):
    return (
        [Conv(384, 3, 2, "valid")],
        [Conv(256, 1), Conv(256, 3), Conv(384, 3, 2, "valid")],
        [Pool(pool, 2, "valid")],
    )


def _reduction_b(pool: str):
    return (
        [Conv(256, 1), Conv(384, 3, 2, "valid")],
        [Conv(256, 1), Conv(288, 3, 2, "valid")],
        [Conv(256, 1), Conv(288, 3), Conv(320, 3, 2, "valid")],
        [Pool(pool, 2, "valid")],
    )
