"""Recurrent networks that read a text and write its translation, with or without attention."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from layers import AttentionDecoder
from models.generation import Steps

CELLS = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}
ATTENTIONS = ("bahdanau", "luong", "none")
SCORES = ("dot", "general", "concat")


def seq2seq(
    vocabulary_size: int,
    cell: str = "gru",
    attention: str = "bahdanau",
    score: str = "general",
    units: int = 256,
    dropout: float = 0.3,
) -> keras.Model:
    """Builds a recurrent encoder, which reads in both directions, and a recurrent decoder.

    Source, target and output share one embedding. The decoder begins with the final states of both
    directions. What the logits are computed from depends on the attention:

    - `bahdanau`: `tanh(W [s_i, c_i, x_i])` of the state, the mean of the source that the state
      before it chose, and the token. The paper's output layer has the state before, and maxout.
    - `luong`: `tanh(W [c_i, s_i])` with the mean of the source that the state itself chooses, which
      the recurrence does not get. Score of state s and source h: `dot`: `s . h`; `general`:
      `s . W h`; `concat`: `v . tanh(W s + U h)`.
    - `none`: the state.

    Reference:
        bahdanau: Bahdanau, Cho & Bengio, Neural Machine Translation by Jointly Learning to Align
        and Translate, 2015. https://arxiv.org/abs/1409.0473
        luong: Luong, Pham & Manning, Effective Approaches to Attention-based Neural Machine
        Translation, 2015, section 3.1, equations 5 and 8. https://arxiv.org/abs/1508.04025
        none: Sutskever, Vinyals & Le, Sequence to Sequence Learning with Neural Networks, 2014.
        https://arxiv.org/abs/1409.3215

    Args:
        vocabulary_size: Number of different tokens in both languages together; at least 1.
        cell: `gru` or `lstm`.
        attention: `bahdanau`, `luong` or `none`.
        score: `dot`, `general` or `concat`, for `luong`.
        units: Features of a token and of a state of the decoder, and of the states of both
            directions of the encoder together; even, at least 2.
        dropout: Dropout rate of the embeddings, and of what logits are computed from, in [0, 1).

    Returns:
        A model as from `models.transformer.transformer`.
    """
    for name, value, known in (
        ("cell", cell, tuple(CELLS)),
        ("attention", attention, ATTENTIONS),
        ("score", score, SCORES),
    ):
        if value not in known:
            raise ValueError(
                f"`{name}` must be one of {', '.join(known)}. Received: {name}={value!r}"
            )
    if units < 2 or units % 2:
        raise ValueError(f"`units` must be even and at least 2. Received: units={units}")
    import keras_hub

    names = ("source_ids", "target_ids")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    embedding = keras_hub.layers.ReversibleEmbedding(
        vocabulary_size,
        units,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=units**-0.5),
        name="token_embedding",
    )
    x, y = (
        keras.layers.Dropout(dropout, name=f"{name}_dropout")(
            embedding(ops.maximum(inputs[name], 0)) * units**0.5
        )
        for name in names
    )
    real = inputs["source_ids"] >= 0
    recurrent = CELLS[cell](units // 2, return_sequences=True, return_state=True)
    source, *both = keras.layers.Bidirectional(recurrent, name="encoder")(x, mask=real)
    half = len(both) // 2
    states = [
        keras.layers.Concatenate(name=f"first_state_{number}")(both[number::half])
        for number in range(half)
    ]
    if attention == "bahdanau":
        decoder = AttentionDecoder(units, cell, name="decoder")
        features = [decoder((y, source, *states), mask=real), y]
    else:
        state = CELLS[cell](units, return_sequences=True, name="decoder")(y, initial_state=states)
        features = [state]
    if attention == "luong":
        layers = _luong_layers(score, units)
        mean, _ = _luong(layers, state, source, _keys(layers, source), real)
        features = [mean, state]
    if attention != "none":
        x = keras.layers.Concatenate(name="attended")(features)
        state = keras.layers.Dense(units, "tanh", use_bias=False, name="attentional")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(state)
    x = embedding(x, reverse=True)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(x)
    return keras.Model(inputs, {"logits": logits}, name="seq2seq")


def seq2seq_steps(model: keras.Model, begin_id: int) -> Steps:
    """Returns how a network writes token by token; the state is that of its cell, and the source.

    Args:
        model: From `seq2seq`.
        begin_id: The token before the first one of a translation.

    Returns:
        The features of `start` are source tokens, int32 `(n, tokens)`, -1 in padding at the end, at
        least one in each row.
    """
    network = _Network(model)

    def start(source_ids, room):
        source, states = network.encoded(source_ids)
        begin = tf.fill((tf.shape(source_ids)[0],), begin_id)
        return step((states, source), begin)

    def step(state, tokens):
        states, source = state
        features, states, _ = network.read(tokens, states, source)
        return network.logits(features), (states, source)

    def pick(state, rows):
        states, source = state
        return [tf.gather(part, rows) for part in states], source

    return Steps(start, step, pick)


def seq2seq_attention(model: keras.Model, source_ids: Any, target_ids: Any) -> tf.Tensor:
    """Computes the weight of each source token for each target token.

    Args:
        model: From `seq2seq`, with attention.
        source_ids: As the input of the model.
        target_ids: As the input of the model.

    Returns:
        float32 `(1, batch, 1, target tokens, source tokens)`, one layer with one head. Each row
        sums to 1, and padding of the source has weight 0.
    """
    network = _Network(model)
    if not network.attends:
        raise ValueError("`model` must have attention. Received: a model without a layer for it")
    source, states = network.encoded(source_ids)

    def step(carried, tokens):
        states, _ = carried
        _, states, weights = network.read(tokens, states, source)
        return states, weights

    tokens = tf.transpose(tf.maximum(target_ids, 0))
    nothing = tf.zeros(tf.shape(source_ids), states[0].dtype)
    _, weights = tf.scan(step, tokens, (states, nothing))
    return tf.cast(tf.transpose(weights, (1, 0, 2)), tf.float32)[None, :, None]


class _Network:
    """The layers of a model from `seq2seq`, run one by one."""

    def __init__(self, model: keras.Model):
        self._embedding, self._encoder, self._decoder = (
            model.get_layer(name) for name in ("token_embedding", "encoder", "decoder")
        )
        self._luong = {
            layer.name: layer for layer in model.layers if layer.name.startswith("attention_")
        }
        self._attentional = next((one for one in model.layers if one.name == "attentional"), None)
        self.attends = self._attentional is not None

    def encoded(self, source_ids):
        """Returns what later steps need of the source, and the states before the first token."""
        real = source_ids >= 0
        x = self._embedded(tf.maximum(source_ids, 0))
        source, *both = self._encoder(x, mask=real, training=False)
        half = len(both) // 2
        states = [tf.concat(both[number::half], axis=-1) for number in range(half)]
        if self._luong:
            return (source, _keys(self._luong, source), real), states
        if self.attends:
            return (source, self._decoder.key(source), real), states
        return (), states

    def read(self, tokens, states, source):
        """Returns features for the logits, the states and the weights of the source.

        The source may have fewer rows: then as many rows of tokens for each follow one another.
        """
        x, weights = self._embedded(tokens), None
        if self.attends and not self._luong:
            states, mean, weights = self._decoder.step(x, states, *source)
            features = [states[0], mean, x]
        else:
            _, states = self._decoder.cell(x, states, training=False)
            features = [states[0]]
        if self._luong:
            memory, keys, real = source
            shape = (tf.shape(memory)[0], -1, states[0].shape[-1])
            found = _luong(self._luong, tf.reshape(states[0], shape), memory, keys, real)
            mean, weights = (tf.reshape(one, (-1, tf.shape(one)[-1])) for one in found)
            features = [mean, states[0]]
        x = tf.concat(features, axis=-1)
        return self._attentional(x) if self.attends else x, list(states), weights

    def logits(self, features):
        # In 16 bits, many of a vocabulary would be equal.
        x = tf.cast(features, tf.float32)
        return tf.matmul(x, self._embedding.embeddings, transpose_b=True)

    def _embedded(self, tokens):
        x = self._embedding(tokens)
        return x * x.shape[-1] ** 0.5


def _luong_layers(score: str, units: int) -> dict[str, keras.layers.Layer]:
    """Returns the layers of an attention of Luong et al. by their names."""
    names = {"dot": (), "general": ("key",), "concat": ("query", "key")}[score]
    made = [keras.layers.Dense(units, use_bias=False, name=f"attention_{one}") for one in names]
    kind = keras.layers.AdditiveAttention if score == "concat" else keras.layers.Attention
    return {layer.name: layer for layer in (*made, kind(name="attention_weights"))}


def _keys(layers: dict[str, keras.layers.Layer], source: Any) -> Any:
    return layers["attention_key"](source) if "attention_key" in layers else source


def _luong(layers: dict[str, keras.layers.Layer], state: Any, source: Any, keys: Any, real: Any):
    """Returns the mean of the source for each state `(batch, t, units)`, and its weights."""
    query = layers["attention_query"](state) if "attention_query" in layers else state
    return layers["attention_weights"](
        [query, source, keys], mask=[None, real], return_attention_scores=True
    )
