"""AlexNet, the network that won ImageNet's challenge of 2012."""

import keras
from keras import ops

from layers import LocalResponseNormalization
from models.parts import pooling, require_input


def alexnet(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    units: int = 4096,
    pool: str = "max",
    dropout: float = 0.5,
) -> keras.Model:
    """Builds AlexNet with its grouped convolutions, local response normalization and overlapping
    pooling.

    Three more pixels of padding turn the paper's 224 pixels into the 55 x 55 positions of its
    figure 2. The two groups of conv2, conv4 and conv5, which were on two GPUs, are separate layers,
    such as `conv2_1` and `conv2_2`. Weights below fc8 are initialized as in He et al. (2015). The
    paper's deviation of 0.01 needs a learning rate that is lowered manually.

    Reference:
        Krizhevsky, Sutskever & Hinton, ImageNet Classification with Deep Convolutional Neural
        Networks, 2012, section 3.
        https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html

    Args:
        input_shape: Height, width (at least 64 pixels) and channels of an image.
        num_classes: Number of classes; at least 1.
        units: Units of fc6 and of fc7; at least 1.
        pool: `max`, `average`, `lp`, `mixed`, `stochastic` or `spectral`; windows of 3, stride 2.
        dropout: Dropout rate of fc6 and fc7, in [0, 1).

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    require_input(input_shape, 64)
    images = keras.Input(input_shape, name="images")
    x = keras.layers.ZeroPadding2D(((1, 2), (1, 2)), name="conv1_pad")(images)
    x = _convolution(x, 96, 11, "conv1", strides=4, padding="valid")
    x = LocalResponseNormalization(name="norm1")(x)
    x = pooling(pool, 3, 2, name="pool1")(x)
    x = _grouped_convolution(x, 256, 5, "conv2")
    x = LocalResponseNormalization(name="norm2")(x)
    x = pooling(pool, 3, 2, name="pool2")(x)
    x = _convolution(x, 384, 3, "conv3")
    x = _grouped_convolution(x, 384, 3, "conv4")
    x = _grouped_convolution(x, 256, 3, "conv5")
    x = pooling(pool, 3, 2, name="pool5")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for name in ("fc6", "fc7"):
        x = keras.layers.Dense(
            units, "relu", kernel_initializer="he_normal", bias_initializer="ones", name=name
        )(x)
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="fc8")(x)
    return keras.Model(images, logits, name="alexnet")


def _grouped_convolution(x, filters: int, size: int, name: str):
    """Convolves each half of the channels separately, with initial biases of 1."""
    # Not `groups=2`, which takes ten times as long on a CPU.
    halves = ops.split(x, 2, axis=-1)
    return keras.layers.Concatenate(name=name)(
        [
            _convolution(half, filters // 2, size, f"{name}_{number}", bias=1.0)
            for number, half in enumerate(halves, start=1)
        ]
    )


def _convolution(x, filters, size, name, *, strides=1, padding="same", bias=0.0):
    return keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding=padding,
        activation="relu",
        kernel_initializer="he_normal",
        bias_initializer=keras.initializers.Constant(bias),
        name=name,
    )(x)
