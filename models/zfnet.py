"""ZFNet: AlexNet with finer first layers, chosen by visualizing features."""

import keras

from layers import LocalResponseNormalization
from models.parts import pooling, require_input


def zfnet(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    units: int = 4096,
    pool: str = "max",
    dropout: float = 0.5,
) -> keras.Model:
    """Builds ZFNet: windows of 7 pixels and stride 2 in conv1, stride 2 in conv2, no groups.

    Contrast is normalized across channels, as in AlexNet.

    Reference:
        Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, 2014, figure 3.
        https://arxiv.org/abs/1311.2901

    Args:
        input_shape: Height, width (at least 53 pixels) and channels of an image.
        num_classes: Number of classes; at least 1.
        units: Units of fc6 and of fc7; at least 1.
        pool: `max`, `average`, `lp`, `mixed`, `stochastic` or `spectral`; windows of 3, stride 2.
        dropout: Dropout rate of fc6 and fc7, in [0, 1).

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    require_input(input_shape, 53)
    images = keras.Input(input_shape, name="images")
    x = keras.layers.ZeroPadding2D(1, name="conv1_pad")(images)
    x = _convolution(x, 96, 7, "conv1", strides=2, padding="valid")
    x = pooling(pool, 3, 2, padding="same", name="pool1")(x)
    x = LocalResponseNormalization(name="norm1")(x)
    x = _convolution(x, 256, 5, "conv2", strides=2, padding="valid")
    x = pooling(pool, 3, 2, padding="same", name="pool2")(x)
    x = LocalResponseNormalization(name="norm2")(x)
    x = _convolution(x, 384, 3, "conv3")
    x = _convolution(x, 384, 3, "conv4")
    x = _convolution(x, 256, 3, "conv5")
    x = pooling(pool, 3, 2, name="pool5")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for name in ("fc6", "fc7"):
        x = keras.layers.Dense(units, "relu", kernel_initializer="he_normal", name=name)(x)
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="fc8")(x)
    return keras.Model(images, logits, name="zfnet")


def _convolution(x, filters, size, name, *, strides=1, padding="same"):
    return keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding=padding,
        activation="relu",
        kernel_initializer="he_normal",
        name=name,
    )(x)
