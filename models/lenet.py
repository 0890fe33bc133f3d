"""LeNet-5, the convolutional network that read digits on checks."""

import keras

from models.parts import pooling, require_input


def lenet5(
    input_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
    activation: str = "tanh",
    pool: str = "average",
) -> keras.Model:
    """Builds LeNet-5 with the layers C1 to F6.

    As in most later versions, C3 is connected to all maps of S2, and the output is a linear layer.
    The paper has a sparse table and radial basis functions instead.

    Reference:
        LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998, section II.B.
        https://doi.org/10.1109/5.726791

    Args:
        input_shape: Height, width (at least 12 pixels) and channels of an image.
        num_classes: Number of classes; at least 1.
        activation: Name of a Keras activation.
        pool: `max`, `average`, `lp`, `mixed`, `stochastic` or `spectral`.

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    require_input(input_shape, 12)
    images = keras.Input(input_shape, name="images")
    x = keras.layers.Conv2D(6, 5, padding="same", activation=activation, name="c1")(images)
    x = pooling(pool, 2, name="s2")(x)
    x = keras.layers.Conv2D(16, 5, activation=activation, name="c3")(x)
    x = pooling(pool, 2, name="s4")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(120, activation, name="c5")(x)
    x = keras.layers.Dense(84, activation, name="f6")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="output")(x)
    return keras.Model(images, logits, name="lenet5")
