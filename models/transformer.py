"""The Transformer: an encoder that reads a text, and a decoder that writes its translation."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from models.decoder_layers import decoder_layers, hidden, normalized, positions_of
from models.generation import Steps


class TransformerSize(NamedTuple):
    """Layers of encoder and of decoder, features of a token, features in the MLP, heads."""

    num_layers: int
    hidden_dim: int
    intermediate_dim: int
    num_heads: int


TRANSFORMER_SIZES = {
    "tiny": TransformerSize(4, 128, 256, 4),
    "small": TransformerSize(4, 256, 1024, 4),
    "base": TransformerSize(6, 512, 2048, 8),
}
"""base: Vaswani et al. (2017), table 3; tiny and small, for small data."""

NAMES = tuple(f"transformer_{size}" for size in TRANSFORMER_SIZES)


def transformer(
    vocabulary_size: int, size: str = "base", dropout: float = 0.1, norm_first: bool = False
) -> keras.Model:
    """Builds an encoder-decoder Transformer with random weights.

    Source, target and output share one embedding, whose rows are multiplied by sqrt(hidden_dim) as
    inputs. Sines and cosines of the position are added. Dropout is also applied to the attention
    weights, as in the authors' code.

    Reference:
        Vaswani et al., Attention Is All You Need, 2017. https://arxiv.org/abs/1706.03762
        norm_first: Xiong et al., On Layer Normalization in the Transformer Architecture, 2020,
        figure 1 (b). https://arxiv.org/abs/2002.04745

    Args:
        vocabulary_size: Number of different tokens in both languages together; at least 1.
        size: A name in `TRANSFORMER_SIZES`.
        dropout: Dropout rate, in [0, 1); 0.1 in the paper.
        norm_first: Whether each sublayer begins with its normalization, and one more follows the
            last layer. In the paper normalization follows each sublayer.

    Returns:
        A model from `source_ids` `(batch, source tokens)` and `target_ids`, the translation without
        its last token behind a token that begins it, `(batch, target tokens)`, int32, -1 in padding
        at the end; to `logits`, float32 `(batch, target tokens, vocabulary_size)`, in a dict.
    """
    if size not in TRANSFORMER_SIZES:
        known = ", ".join(TRANSFORMER_SIZES)
        raise ValueError(f"`size` must be one of {known}. Received: size={size!r}")
    import keras_hub

    chosen = TRANSFORMER_SIZES[size]
    names = ("source_ids", "target_ids")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    embedding = keras_hub.layers.ReversibleEmbedding(
        vocabulary_size,
        chosen.hidden_dim,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=chosen.hidden_dim**-0.5),
        name="token_embedding",
    )
    # In 16 bits, neighboring positions would be equal.
    positions = keras_hub.layers.SinePositionEncoding(dtype="float32", name="position_encoding")

    def embedded(name):
        x = embedding(ops.maximum(inputs[name], 0)) * chosen.hidden_dim**0.5
        x = keras.layers.Add(name=f"{name}_embedded")([x, positions(x)])
        return keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)

    def normalized_last(x, name):
        return keras.layers.LayerNormalization(epsilon=1e-5, name=name)(x) if norm_first else x

    settings = {
        "intermediate_dim": chosen.intermediate_dim,
        "num_heads": chosen.num_heads,
        "dropout": dropout,
        "normalize_first": norm_first,
    }
    real = inputs["source_ids"] >= 0
    x = embedded("source_ids")
    for number in range(chosen.num_layers):
        layer = keras_hub.layers.TransformerEncoder(**settings, name=f"encoder_layer_{number}")
        x = layer(x, padding_mask=real)
    source = normalized_last(x, "encoder_norm")
    # Only names a layer, so that others find the encoder's output.
    source = keras.layers.Identity(name="encoded")(source)
    x = embedded("target_ids")
    for number in range(chosen.num_layers):
        layer = keras_hub.layers.TransformerDecoder(**settings, name=f"decoder_layer_{number}")
        # Padding is at the end, where only padding sees it.
        x = layer(x, source, encoder_padding_mask=real)
    x = normalized_last(x, "decoder_norm")
    x = embedding(x, reverse=True)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(x)
    return keras.Model(inputs, {"logits": logits}, name="transformer")


def transformer_steps(model: keras.Model, begin_id: int, context: int) -> Steps:
    """Returns how a Transformer writes token by token, with the keys and values of all before.

    Keys and values of the source are computed once.

    Args:
        model: From `transformer`.
        begin_id: The token before the first one of a translation.
        context: Maximum number of tokens of a translation, that one included.

    Returns:
        The features of `start` are source tokens, int32 `(n, tokens)`, -1 in padding at the end, at
        least one in each row.
    """
    network = _Network(model, context)

    def start(source_ids, room):
        rows = tf.shape(source_ids)[0]
        begin = tf.fill((rows, 1), begin_id)
        caches, source = network.empty(rows, room), network.source(source_ids)
        x, caches, _ = network.read(begin, 0, caches, source)
        return network.logits(x), (caches, source, 1)

    def step(state, tokens):
        caches, source, position = state
        x, caches, _ = network.read(tokens[:, None], position, caches, source)
        return network.logits(x), (caches, source, position + 1)

    def pick(state, rows):
        caches, source, position = state
        caches = tf.nest.map_structure(lambda part: tf.gather(part, rows), caches)
        return caches, source, position

    return Steps(start, step, pick)


def transformer_attention(model: keras.Model, source_ids: Any, target_ids: Any) -> tf.Tensor:
    """Computes the weight of each source token for each target token.

    Args:
        model: From `transformer`.
        source_ids: As the input of the model.
        target_ids: As the input of the model, at least one column.

    Returns:
        float32 `(layers, batch, heads, target tokens, source tokens)`. Each row sums to 1, and
        padding of the source has weight 0.
    """
    rows, context = tf.shape(target_ids)[0], target_ids.shape[1]
    network = _Network(model, context)
    source = network.source(source_ids)
    caches = network.empty(rows, context)
    *_, weights = network.read(tf.maximum(target_ids, 0), 0, caches, source)
    return tf.cast(tf.stack(weights), tf.float32)


class _Network:
    """The layers of a model from `transformer`, run one by one.

    Args:
        model: The model.
        context: Maximum number of tokens of a translation.
    """

    def __init__(self, model: keras.Model, context: int):
        ends = (model.get_layer("source_ids").output, model.get_layer("encoded").output)
        self._encoder = keras.Model(*ends)
        self._layers = decoder_layers(model, "decoder_layer")
        self._norms = [layer for layer in model.layers if layer.name == "decoder_norm"]
        table = tf.convert_to_tensor(model.get_layer("token_embedding").embeddings)
        self._embeddings = table
        self._table = tf.cast(table, self._layers[0].dtype)
        self._scale, self._context = table.shape[-1] ** 0.5, context
        encoding = model.get_layer("position_encoding")
        self._positions = encoding(tf.zeros((1, context, table.shape[-1])))[0]

    def source(self, source_ids):
        """Returns what later steps need of the source: keys and values by layer, and its mask."""
        encoded = self._encoder(source_ids, training=False)
        encoded = tf.cast(encoded, self._table.dtype)
        padding = hidden(source_ids[:, None, None] < 0)
        return [layer.memory(encoded) for layer in self._layers], padding

    def empty(self, rows, room):
        """Returns the caches of all layers before the first token."""
        room = tf.minimum(room, self._context)
        return [layer.empty(rows, room) for layer in self._layers]

    def read(self, tokens, first, caches, source):
        """Reads tokens `(n, t)`, the first of them at a position that is the same in all rows.

        Returns the features of the tokens `(n * t, hidden_dim)`, the new caches, and the weights of
        the source by layer.
        """
        room = tf.shape(caches[0].keys)[2]
        memories, padding = source
        # After the last position, further tokens replace that one.
        positions = tf.minimum(first + tf.range(tf.shape(tokens)[1]), room - 1)
        x = tf.cast(tf.gather(self._table, tokens) * self._scale, tf.float32)
        x = tf.cast(x + tf.gather(self._positions, positions), self._table.dtype)
        x = tf.reshape(x, (-1, x.shape[-1]))
        positions = tf.broadcast_to(positions, tf.shape(tokens))
        where = positions_of(positions, self._layers[0].heads, room)
        new, weights = [], []
        for layer, cache, memory in zip(self._layers, caches, memories, strict=True):
            x, cache, one = layer.read(x, cache, where, memory, padding)
            new.append(cache)
            weights.append(one)
        for norm in self._norms:
            x = normalized(x, norm.gamma, norm.beta, norm.epsilon)
        return x, new, weights

    def logits(self, x):
        # In 16 bits, many of a vocabulary would be equal.
        return tf.matmul(tf.cast(x, tf.float32), self._embeddings, transpose_b=True)
