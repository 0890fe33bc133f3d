"""The LSTM cell with a projected hidden state."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="hornbook")
class ProjectedLSTMCell(keras.layers.Layer):
    """One step of an LSTM whose hidden state has fewer features than its carry.

    - `i, f, g, o = x @ kernel + hidden @ recurrent_kernel + bias`;
    - `carry = clip(sigmoid(f) * carry + sigmoid(i) * tanh(g))`;
    - `hidden = clip((sigmoid(o) * tanh(carry)) @ projection_kernel)`.

    The projection makes the largest matrix, from the hidden state to the gates,
    `units / projection` times smaller. The initial bias of `f` is 1. Use the cell in
    `keras.layers.RNN`.

    Reference:
        Sak, Senior & Beaufays, Long Short-Term Memory Based Recurrent Neural Network
        Architectures for Large Vocabulary Speech Recognition, 2014, equations 7 to 12, without
        peepholes. https://arxiv.org/abs/1402.1128

    Args:
        units: Features of the carry; at least 1.
        projection: Features of the hidden state; at least 1.
        clip: Maximum magnitude of the carry and of the hidden state. None: no limit.

    Call arguments:
        inputs: Features of one step.
        states: The pair `(hidden, carry)`.

    Input shape:
        `(batch, channels)`.

    Output shape:
        `(batch, projection)`, and the list of both states, `(batch, projection)` and
        `(batch, units)`.

    Example:
        >>> layer = keras.layers.RNN(ProjectedLSTMCell(8, 4))
        >>> tuple(layer(ops.ones((2, 5, 3))).shape)
        (2, 4)
    """

    def __init__(self, units: int, projection: int, clip: float | None = None, **kwargs):
        for name, value in (("units", units), ("projection", projection)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
        if clip is not None and clip <= 0:
            raise ValueError(f"`clip` must be above 0, or None. Received: clip={clip}")
        super().__init__(**kwargs)
        self.units = units
        self.projection = projection
        self.clip = clip
        self.state_size = [projection, units]
        self.output_size = projection

    def build(self, input_shape):
        gates = 4 * self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], gates), name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(self.projection, gates), name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(gates,), initializer=self._first_bias, name="bias")
        self.projection_kernel = self.add_weight(
            shape=(self.units, self.projection), name="projection_kernel"
        )

    def call(self, inputs, states):
        hidden, carry = states
        z = ops.matmul(inputs, self.kernel) + ops.matmul(hidden, self.recurrent_kernel) + self.bias
        i, f, g, o = ops.split(z, 4, axis=-1)
        carry = self._clipped(ops.sigmoid(f) * carry + ops.sigmoid(i) * ops.tanh(g))
        hidden = ops.matmul(ops.sigmoid(o) * ops.tanh(carry), self.projection_kernel)
        hidden = self._clipped(hidden)
        return hidden, [hidden, carry]

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "projection": self.projection,
            "clip": self.clip,
        }

    def _first_bias(self, shape, dtype=None):
        forget = (ops.arange(shape[0]) // self.units) == 1
        return ops.cast(forget, dtype)

    def _clipped(self, x):
        return x if self.clip is None else ops.clip(x, -self.clip, self.clip)
