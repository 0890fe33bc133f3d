"""Recurrent cells with layer normalization: LSTM, GRU and the simple recurrent cell.

Batch normalization does not fit inside a recurrence:

- Its mean and variance differ between steps, so each step needs its own moving statistics. A text
  longer than all training texts has steps without any.
- The texts of a batch end at different steps, so the last steps are normalized over few rows.
- At inference the output of one row would depend on other rows, or on statistics of other data.

Layer normalization takes mean and variance over the units of one row at one step.
"""

import keras
from keras import ops


class _LayerNormalization(keras.layers.Layer):
    """Adds layer normalization to the Keras cell that is the next base class."""

    def __init__(self, units: int, epsilon: float = 1e-5, **kwargs):
        if epsilon <= 0:
            raise ValueError(f"`epsilon` must be above 0. Received: epsilon={epsilon}")
        super().__init__(units, **kwargs)
        self.epsilon = epsilon

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}

    def _gain(self, size: int, name: str):
        return self.add_weight(shape=(size,), initializer="ones", name=name)

    def _dropped(self, inputs, hidden, training):
        """Applies the dropout masks of the cell, which are the same in all steps of a call."""
        if not training:
            return inputs, hidden
        # Keras' cells return one mask, or a list with one mask per gate, or None.
        masks = (self.get_dropout_mask(inputs), self.get_recurrent_dropout_mask(hidden))
        masks = [mask[0] if isinstance(mask, list) else mask for mask in masks]
        return tuple(
            x if mask is None else x * mask for x, mask in zip((inputs, hidden), masks, strict=True)
        )

    def _normalized(self, x, gain):
        """Normalizes each row to mean 0 and variance 1, in float32, and scales it."""
        return ops.layer_normalization(x, gamma=gain, epsilon=self.epsilon)


@keras.saving.register_keras_serializable(package="hornbook")
class LayerNormalizationLSTMCell(_LayerNormalization, keras.layers.LSTMCell):
    """One step of an LSTM whose summed inputs and carry are normalized.

    `norm` normalizes each row to mean 0 and variance 1, and `*` multiplies elements:

    - `i, f, g, o = kernel_gain * norm(x @ kernel)
      + recurrent_gain * norm(hidden @ recurrent_kernel) + bias`, all four gates at once;
    - `carry = sigmoid(f) * carry + sigmoid(i) * tanh(g)`;
    - `hidden = sigmoid(o) * tanh(carry_gain * norm(carry) + carry_shift)`.

    The paper also shifts the first two normalizations, which is the same as the bias. Use the cell
    in `keras.layers.RNN`.

    Reference:
        Ba, Kiros & Hinton, Layer Normalization, 2016, the LSTM of the supplement.
        https://arxiv.org/abs/1607.06450

    Args:
        units: Features of the hidden state; at least 1.
        epsilon: Added to the variance; above 0.
        **kwargs: The other arguments of `keras.layers.LSTMCell`. With `recurrent_dropout` all
            gates share one mask, because they are normalized together.

    Call arguments:
        inputs: Features of one step.
        states: The pair `(hidden, carry)`.
        training: Whether to apply dropout.

    Input shape:
        `(batch, channels)`.

    Output shape:
        `(batch, units)`, and the list of both states, `(batch, units)` each.

    Example:
        >>> layer = keras.layers.RNN(LayerNormalizationLSTMCell(4))
        >>> tuple(layer(ops.ones((2, 5, 3))).shape)
        (2, 4)
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.kernel_gain = self._gain(4 * self.units, "kernel_gain")
        self.recurrent_gain = self._gain(4 * self.units, "recurrent_gain")
        self.carry_gain = self._gain(self.units, "carry_gain")
        self.carry_shift = self.add_weight(
            shape=(self.units,), initializer="zeros", name="carry_shift"
        )

    def call(self, inputs, states, training=False):
        hidden, carry = states
        inputs, hidden = self._dropped(inputs, hidden, training)
        z = self._normalized(ops.matmul(inputs, self.kernel), self.kernel_gain)
        recurrent = ops.matmul(hidden, self.recurrent_kernel)
        z = z + self._normalized(recurrent, self.recurrent_gain)
        if self.use_bias:
            z = z + self.bias
        i, f, g, o = ops.split(z, 4, axis=-1)
        kept = self.recurrent_activation(f) * carry
        carry = kept + self.recurrent_activation(i) * self.activation(g)
        seen = self._normalized(carry, self.carry_gain) + self.carry_shift
        hidden = self.recurrent_activation(o) * self.activation(seen)
        return hidden, [hidden, carry]


@keras.saving.register_keras_serializable(package="hornbook")
class LayerNormalizationGRUCell(_LayerNormalization, keras.layers.GRUCell):
    """One step of a GRU whose summed inputs are normalized.

    `norm` normalizes each row to mean 0 and variance 1, and `*` multiplies elements:

    - `x_z, x_r = kernel_gain * norm(x @ kernel) + bias`, both gates at once, and `x_g` separately;
    - `h_z, h_r = recurrent_gain * norm(hidden @ recurrent_kernel) + recurrent_bias`, and `h_g`;
    - `z = sigmoid(x_z + h_z)`, `r = sigmoid(x_r + h_r)`, `g = tanh(x_g + r * h_g)`;
    - `hidden = z * hidden + (1 - z) * g`.

    As in Keras, `z` is the share of the state that is kept; in the paper it is the share that is
    replaced. Use the cell in `keras.layers.RNN`.

    Reference:
        Ba, Kiros & Hinton, Layer Normalization, 2016, the GRU of the supplement.
        https://arxiv.org/abs/1607.06450

    Args:
        units: Features of the hidden state; at least 1.
        epsilon: Added to the variance; above 0.
        **kwargs: The other arguments of `keras.layers.GRUCell`; `reset_after` must be True. With
            `recurrent_dropout` all gates share one mask, because they are normalized together.

    Call arguments:
        inputs: Features of one step.
        states: A list with the hidden state.
        training: Whether to apply dropout.

    Input shape:
        `(batch, channels)`.

    Output shape:
        `(batch, units)`, and a list with the state.

    Example:
        >>> layer = keras.layers.RNN(LayerNormalizationGRUCell(4))
        >>> tuple(layer(ops.ones((2, 5, 3))).shape)
        (2, 4)
    """

    def __init__(self, units: int, epsilon: float = 1e-5, **kwargs):
        if not kwargs.get("reset_after", True):
            raise ValueError(
                "`reset_after` must be True, because the reset gate scales normalized values. "
                f"Received: reset_after={kwargs['reset_after']}"
            )
        super().__init__(units, epsilon, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        self.kernel_gain = self._gain(3 * self.units, "kernel_gain")
        self.recurrent_gain = self._gain(3 * self.units, "recurrent_gain")

    def call(self, inputs, states, training=False):
        hidden = states[0]
        inputs, recurrent = self._dropped(inputs, hidden, training)
        x = self._sums(ops.matmul(inputs, self.kernel), self.kernel_gain)
        h = self._sums(ops.matmul(recurrent, self.recurrent_kernel), self.recurrent_gain)
        if self.use_bias:
            x = x + self.bias[0]
            h = h + self.bias[1]
        x_z, x_r, x_g = ops.split(x, 3, axis=-1)
        h_z, h_r, h_g = ops.split(h, 3, axis=-1)
        z = self.recurrent_activation(x_z + h_z)
        r = self.recurrent_activation(x_r + h_r)
        hidden = z * hidden + (1 - z) * self.activation(x_g + r * h_g)
        return hidden, [hidden]

    def _sums(self, x, gain):
        """Normalizes the two gates together and the candidate separately."""
        gates = 2 * self.units
        parts = ((x[:, :gates], gain[:gates]), (x[:, gates:], gain[gates:]))
        return ops.concatenate([self._normalized(part, scale) for part, scale in parts], axis=-1)


@keras.saving.register_keras_serializable(package="hornbook")
class LayerNormalizationSimpleRNNCell(_LayerNormalization, keras.layers.SimpleRNNCell):
    """One step of the simple recurrent network, with normalization.

    Computes `hidden = tanh(gain * norm(x @ kernel + hidden @ recurrent_kernel) + bias)`, where
    `norm` normalizes each row to mean 0 and variance 1. Use the cell in `keras.layers.RNN`.

    Reference:
        Ba, Kiros & Hinton, Layer Normalization, 2016, equation 4.
        https://arxiv.org/abs/1607.06450

    Args:
        units: Features of the hidden state; at least 1.
        epsilon: Added to the variance; above 0.
        **kwargs: The other arguments of `keras.layers.SimpleRNNCell`.

    Call arguments:
        inputs: Features of one step.
        states: A list with the hidden state.
        training: Whether to apply dropout.

    Input shape:
        `(batch, channels)`.

    Output shape:
        `(batch, units)`, and a list with the state.

    Example:
        >>> layer = keras.layers.RNN(LayerNormalizationSimpleRNNCell(4))
        >>> tuple(layer(ops.ones((2, 5, 3))).shape)
        (2, 4)
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.gain = self._gain(self.units, "gain")

    def call(self, sequence, states, training=False):
        inputs, hidden = self._dropped(sequence, states[0], training)
        summed = ops.matmul(inputs, self.kernel) + ops.matmul(hidden, self.recurrent_kernel)
        hidden = self._normalized(summed, self.gain)
        if self.use_bias:
            hidden = hidden + self.bias
        hidden = self.activation(hidden)
        return hidden, [hidden]
