"""The decoder of Bahdanau et al.: a recurrence that attends to a source before each step."""

import keras
from keras import ops

CELLS = {"gru": keras.layers.GRUCell, "lstm": keras.layers.LSTMCell}


@keras.saving.register_keras_serializable(package="hornbook")
class AttentionDecoder(keras.layers.Layer):
    """Reads tokens one after another, each with a mean of the source that the last state chooses.

    Before token `x_i`, with the state `s` after the token before it and the source features `h_j`:

        score_ij = v . tanh(W s + U h_j)
        c_i = sum over j of softmax(score_i)_j h_j
        s' = cell([x_i, c_i], s)

    Reference:
        Bahdanau, Cho & Bengio, Neural Machine Translation by Jointly Learning to Align and
        Translate, 2015, section 3.1 and appendix A.1.2. https://arxiv.org/abs/1409.0473

    Args:
        units: Features of a state, and of the hidden layer of the scores; at least 1.
        cell: `gru` or `lstm`.

    Call arguments:
        inputs: The tuple `(tokens, source, *states)`; the states before the first token are one
            tensor for a GRU, and two for an LSTM.
        mask: Bool `(batch, source tokens)`, False in padding of the source. None: no padding.

    Input shape:
        tokens `(batch, tokens, features)`, source `(batch, source tokens, source features)`, each
        state `(batch, units)`.

    Output shape:
        `(batch, tokens, units + source features)`: the state after each token (of an LSTM the
        hidden one), and the mean of the source that it was computed with.

    Example:
        >>> layer = AttentionDecoder(8)
        >>> source, state = ops.ones((2, 5, 6)), ops.zeros((2, 8))
        >>> tuple(layer((ops.ones((2, 3, 4)), source, state)).shape)
        (2, 3, 14)
    """

    def __init__(self, units: int, cell: str = "gru", **kwargs):
        if not isinstance(units, int) or units < 1:
            raise ValueError(f"`units` must be a positive integer. Received: units={units!r}")
        if cell not in CELLS:
            raise ValueError(f"`cell` must be one of {', '.join(CELLS)}. Received: cell={cell!r}")
        super().__init__(**kwargs)
        self.supports_masking = True
        self.units = units
        self.cell = cell
        self.recurrence = CELLS[cell](units, dtype=self.dtype_policy, name="recurrence")
        projection = {"use_bias": False, "dtype": self.dtype_policy}
        self.query = keras.layers.Dense(units, **projection, name="query")
        self.key = keras.layers.Dense(units, **projection, name="key")
        self.attention = keras.layers.AdditiveAttention(dtype=self.dtype_policy, name="attention")
        self.loop = keras.layers.RNN(
            _Cell(self), return_sequences=True, dtype=self.dtype_policy, name="loop"
        )

    def build(self, input_shape):
        tokens, source, *states = input_shape
        if len(states) != (2 if self.cell == "lstm" else 1):
            count = "two states" if self.cell == "lstm" else "one state"
            raise ValueError(
                f"`inputs` must have {count} for cell={self.cell!r}. Received: {len(states)}"
            )
        self.query.build((tokens[0], 1, self.units))
        self.key.build(source)
        hidden = (tokens[0], None, self.units)
        self.attention.build([hidden, source, hidden])
        self.recurrence.build((tokens[0], tokens[2] + source[2]))

    def call(self, inputs, mask=None):
        # Keras gives a mask for each input, if any of them has one.
        mask = mask[1] if isinstance(mask, list | tuple) else mask
        tokens, source, *states = inputs
        if mask is None:
            mask = ops.ones_like(source[:, :, 0], "bool")
        fixed = [source, self.key(source), ops.cast(mask, self.compute_dtype)]
        return self.loop(tokens, initial_state=[*states, *fixed])

    def step(self, token, states, source, keys, mask=None):
        """Reads one token `(batch, features)`.

        Args:
            token: Its features.
            states: As in `inputs`, a list.
            source: As in `inputs`. It may have fewer rows than the tokens: then as many rows of
                these for each follow one another.
            keys: `self.key(source)`.
            mask: As in `call`.

        Returns:
            The new states, a list; the mean of the source `(batch, source features)`; and its
            weights `(batch, source tokens)`, which sum to 1.
        """
        query = ops.reshape(self.query(states[0]), (ops.shape(source)[0], -1, self.units))
        mean, weights = self.attention(
            [query, source, keys], mask=[None, mask], return_attention_scores=True
        )
        mean = ops.reshape(mean, (-1, source.shape[-1]))
        weights = ops.reshape(weights, (-1, ops.shape(source)[1]))
        _, states = self.recurrence(ops.concatenate([token, mean], axis=-1), list(states))
        return list(states), mean, weights

    def compute_mask(self, inputs, previous_mask):
        return None  # That of the source has no meaning for the tokens.

    def compute_output_shape(self, input_shape):
        tokens, source, *_ = input_shape
        return (*tokens[:2], self.units + source[2])

    def get_config(self):
        return {**super().get_config(), "units": self.units, "cell": self.cell}


class _Cell:
    """One step of the decoder, for Keras' loop: what does not change is a state, too."""

    def __init__(self, decoder: AttentionDecoder):
        self._decoder = decoder
        self.compute_dtype = decoder.compute_dtype
        # Keras' loop only asks for their number and for the first.
        self.state_size = [decoder.units] * (5 if decoder.cell == "lstm" else 4)
        self.output_size = decoder.units

    def call(self, token, states):
        *states, source, keys, mask = states
        states, mean, _ = self._decoder.step(token, states, source, keys, mask > 0)
        return ops.concatenate([states[0], mean], axis=-1), [*states, source, keys, mask]

    __call__ = call
