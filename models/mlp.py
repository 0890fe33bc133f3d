"""The multilayer perceptron."""

import keras


def mlp(
    input_shape: tuple[int, ...] = (28, 28, 1),
    num_classes: int = 10,
    units: tuple[int, ...] = (512, 512),
    activation: str = "relu",
    dropout: float = 0.2,
) -> keras.Model:
    """Builds a multilayer perceptron on the flattened input.

    Computes `h_k = activation(h_{k-1} @ kernel_k + bias_k)` for each hidden layer.

    Reference:
        Rumelhart, Hinton & Williams, Learning Representations by Back-propagating Errors, 1986.
        https://doi.org/10.1038/323533a0

    Args:
        input_shape: Shape of an example without the batch, such as height, width and channels.
        num_classes: How many classes; at least 1.
        units: Units of each hidden layer.
        activation: Name of a Keras activation.
        dropout: Share of each hidden layer that training drops, in [0, 1).

    Returns:
        A model from inputs `(batch, *input_shape)` to logits `(batch, num_classes)`.
    """
    inputs = keras.Input(input_shape, name="images")
    initializer = "he_normal" if activation == "relu" else "glorot_uniform"
    x = keras.layers.Flatten(name="flatten")(inputs)
    for number, width in enumerate(units, start=1):
        x = keras.layers.Dense(
            width, activation, kernel_initializer=initializer, name=f"hidden{number}"
        )(x)
        x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="mlp")
