"""The multilayer perceptron."""

import keras

from models.parts import require_input


def mlp(
    input_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
    units: tuple[int, ...] = (512, 512),
    activation: str = "relu",
    dropout: float = 0.2,
) -> keras.Model:
    """Builds a multilayer perceptron on the flattened image.

    Computes `h_k = activation(h_{k-1} @ kernel_k + bias_k)` for each hidden layer.

    Reference:
        Rumelhart, Hinton & Williams, Learning Representations by Back-propagating Errors, 1986.
        https://doi.org/10.1038/323533a0

    Args:
        input_shape: Height, width and channels of an image; each at least 1.
        num_classes: Number of classes; at least 1.
        units: Number of units of each hidden layer.
        activation: Name of a Keras activation.
        dropout: Dropout rate of each hidden layer, in [0, 1).

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`.
    """
    require_input(input_shape, 1)
    images = keras.Input(input_shape, name="images")
    initializer = "he_normal" if activation == "relu" else "glorot_uniform"
    x = keras.layers.Flatten(name="flatten")(images)
    for number, width in enumerate(units, start=1):
        x = keras.layers.Dense(
            width, activation, kernel_initializer=initializer, name=f"hidden{number}"
        )(x)
        x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="mlp")
