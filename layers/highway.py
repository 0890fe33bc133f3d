"""The highway layer, which learns how much of its input to pass through."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="hornbook")
class Highway(keras.layers.Layer):
    """Mixes the output of a dense layer with its input by a learned gate.

    Computes `y = t * activation(x @ kernel + bias) + (1 - t) * x` with
    `t = sigmoid(x @ gate_kernel + gate_bias)`.

    Reference:
        Srivastava, Greff & Schmidhuber, Highway Networks, 2015, equation 3.
        https://arxiv.org/abs/1505.00387

    Args:
        activation: Name of a Keras activation, a callable, or None for linear.
        carry_bias: Initial value of `gate_bias`. A value below 0 makes the layer pass most of its
            input through at first.

    Input shape:
        `(..., channels)`.

    Output shape:
        `(..., channels)`.

    Example:
        >>> tuple(Highway()(ops.ones((2, 5, 3))).shape)
        (2, 5, 3)
    """

    def __init__(self, activation="relu", carry_bias: float = -2.0, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.carry_bias = carry_bias
        self.supports_masking = True

    def build(self, input_shape):
        channels = input_shape[-1]
        self.kernel = self.add_weight(shape=(channels, channels), name="kernel")
        self.bias = self.add_weight(shape=(channels,), initializer="zeros", name="bias")
        self.gate_kernel = self.add_weight(shape=(channels, channels), name="gate_kernel")
        self.gate_bias = self.add_weight(
            shape=(channels,),
            initializer=keras.initializers.Constant(self.carry_bias),
            name="gate_bias",
        )

    def call(self, inputs):
        transformed = self.activation(ops.matmul(inputs, self.kernel) + self.bias)
        gate = ops.sigmoid(ops.matmul(inputs, self.gate_kernel) + self.gate_bias)
        return inputs + gate * (transformed - inputs)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "carry_bias": self.carry_bias,
        }
