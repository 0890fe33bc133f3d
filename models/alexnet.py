"""AlexNet, the network that won ImageNet's challenge of 2012."""

import keras

from layers import LocalResponseNormalization
from models.parts import pooling, require_input


def alexnet(
    input_shape: tuple[int, int, int] = (227, 227, 3),
    num_classes: int = 1000,
    pool: str = "max",
    dropout: float = 0.5,
) -> keras.Model:
    """Builds AlexNet with its grouped convolutions, local response normalisation and overlapping
    pooling.

    Inputs are 227 pixels wide, with which the sizes of the paper's figure 2 come out; its text
    says 224. The two groups of conv2, conv4 and conv5 lived on two GPUs.

    Reference:
        Krizhevsky, Sutskever & Hinton, ImageNet Classification with Deep Convolutional Neural
        Networks, 2012, section 3.
        https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html

    Args:
        input_shape: Height, width (at least 67 pixels) and channels of an image.
        num_classes: How many classes; at least 1.
        pool: `max`, `average`, `lp`, `mixed`, `stochastic` or `spectral`; windows of 3, stride 2.
        dropout: Share of fc6 and fc7 that training drops, in [0, 1).

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    require_input(input_shape, 67)
    images = keras.Input(input_shape, name="images")
    x = _convolution(images, 96, 11, "conv1", strides=4, padding="valid")
    x = LocalResponseNormalization(name="norm1")(x)
    x = pooling(pool, 3, 2, name="pool1")(x)
    x = _convolution(x, 256, 5, "conv2", groups=2, bias=1.0)
    x = LocalResponseNormalization(name="norm2")(x)
    x = pooling(pool, 3, 2, name="pool2")(x)
    x = _convolution(x, 384, 3, "conv3")
    x = _convolution(x, 384, 3, "conv4", groups=2, bias=1.0)
    x = _convolution(x, 256, 3, "conv5", groups=2, bias=1.0)
    x = pooling(pool, 3, 2, name="pool5")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for name in ("fc6", "fc7"):
        x = keras.layers.Dense(
            4096, "relu", kernel_initializer="he_normal", bias_initializer="ones", name=name
        )(x)
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="fc8")(x)
    return keras.Model(images, logits, name="alexnet")


def _convolution(x, filters, size, name, *, strides=1, padding="same", groups=1, bias=0.0):
    return keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding=padding,
        groups=groups,
        activation="relu",
        kernel_initializer="he_normal",
        bias_initializer=keras.initializers.Constant(bias),
        name=name,
    )(x)
