"""The layers of a Transformer's decoder, read token by token with keys and values kept.

KerasHub's own cache is written by an operation that only XLA's library registers, so an export must
not contain it. A step of one token consists of many small operations that read a large cache. So
queries, keys and values are one product, and the cache is read as it is, without a transposition.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from models.lora import merged

HIDDEN = -1e9
"""Added to the scores of what a token does not see, in float32."""


class Memory(NamedTuple):
    """Keys and values that a layer attends to: those of the tokens so far, or of a source.

    Args:
        keys: `(n, heads, tokens, features)`.
        values: As the keys.
    """

    keys: tf.Tensor
    values: tf.Tensor


class Positions(NamedTuple):
    """Where tokens `(n, t)` are written in a cache, and what they see of it.

    Args:
        indices: Row, head and position of each token, int32 `(n, heads, t, 3)`.
        hidden: `HIDDEN` at the positions after that of the token, elsewhere 0; float32
            `(n, 1, t, room)`.
    """

    indices: tf.Tensor
    hidden: tf.Tensor


class _Layer:
    """What the layers have in common.

    Args:
        layer: A built layer.
    """

    def __init__(self, layer: Any):
        self.dtype = layer.compute_dtype
        # Once for all tokens that are written.
        weights = {w.path: w for w in layer.weights} | merged(layer)
        self._weights = {
            path.partition(f"{layer.name}/")[2]: tf.convert_to_tensor(weight)
            for path, weight in weights.items()
        }
        self._activation = layer.activation
        self._epsilon = layer.layer_norm_epsilon
        # Of keys and values; several heads of queries may share one.
        _, self.heads, self._features = self._weights["self_attention/key/kernel"].shape
        self._itself = self._joined("self_attention", "query", "key", "value")

    def empty(self, rows: tf.Tensor, room: tf.Tensor) -> Memory:
        """Returns the cache of rows without tokens.

        Args:
            rows: Number of rows.
            room: Maximum number of tokens.
        """
        nothing = tf.zeros((rows, self.heads, room, self._features), self.dtype)
        return Memory(nothing, nothing)

    def _joined(self, attention: str, *names: str) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns kernel and bias of several projections at once, `(hidden_dim, units)`."""
        joined: dict[str, list[tf.Tensor]] = {"kernel": [], "bias": []}
        for name in names:
            # Scores are divided by sqrt(features): the queries, as these are fewer.
            scale = self._features**-0.5 if name == "query" else 1.0
            for kind, axes in (("kernel", 1), ("bias", 0)):
                weight = self._weights.get(f"{attention}/{name}/{kind}")
                if weight is not None:
                    flat = tf.reshape(weight * scale, (*weight.shape[:axes], -1))
                    joined[kind].append(tf.cast(flat, self.dtype))
        bias = tf.concat(joined["bias"], axis=0) if joined["bias"] else None
        return tf.concat(joined["kernel"], axis=1), bias

    def _by_head(self, x: tf.Tensor, weights: Any, rows: tf.Tensor) -> tf.Tensor:
        """Returns joined projections of `(rows * t, hidden_dim)`, `(rows, heads, t, features)`."""
        y = _dense(x, *weights)
        heads = y.shape[-1] // self._features
        return tf.transpose(tf.reshape(y, (rows, -1, heads, self._features)), (0, 2, 1, 3))

    def _added(self, cache: Memory, positions: Positions, key, value) -> Memory:
        """Writes keys and values of tokens `(n, heads, t, features)` into the cache."""
        new = zip(cache, (key, value), strict=True)
        return Memory(*(tf.tensor_scatter_nd_update(a, positions.indices, b) for a, b in new))

    def _attended(self, query: tf.Tensor, memory: Memory, hidden: tf.Tensor):
        """Returns what queries `(n, heads, t, features)` find, of the same shape, and where."""
        scores = tf.cast(tf.matmul(query, memory.keys, transpose_b=True), tf.float32)
        weights = tf.cast(tf.nn.softmax(scores + hidden), self.dtype)
        return tf.matmul(weights, memory.values), weights

    def _combined(self, attention: str, y: tf.Tensor) -> tf.Tensor:
        """Returns the output of an attention, `(n * t, hidden_dim)`."""
        y = tf.reshape(tf.transpose(y, (0, 2, 1, 3)), (-1, y.shape[1] * self._features))
        return self._dense(f"{attention}/attention_output", y)

    def _dense(self, name: str, x: tf.Tensor) -> tf.Tensor:
        kernel, bias = self._weights[f"{name}/kernel"], self._weights.get(f"{name}/bias")
        kernel = tf.cast(tf.reshape(kernel, (-1, kernel.shape[-1])), self.dtype)
        return _dense(x, kernel, None if bias is None else tf.cast(bias, self.dtype))


class DecoderLayer(_Layer):
    """Reads tokens with the weights of a `keras_hub.layers.TransformerDecoder`.

    Args:
        layer: A built layer, with or without attention to a source.
    """

    def __init__(self, layer: Any):
        super().__init__(layer)
        self._normalize_first = layer.normalize_first
        if "cross_attention/query/kernel" in self._weights:
            self._query = self._joined("cross_attention", "query")
            self._source = self._joined("cross_attention", "key", "value")

    def memory(self, source: tf.Tensor) -> Memory:
        """Returns keys and values of an encoder's output `(n, source tokens, hidden_dim)`."""
        x = tf.reshape(source, (-1, source.shape[-1]))
        return Memory(*tf.split(self._by_head(x, self._source, tf.shape(source)[0]), 2, axis=1))

    def read(
        self,
        x: tf.Tensor,
        cache: Memory,
        positions: Positions,
        memory: Memory | None = None,
        source_hidden: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, Memory, tf.Tensor | None]:
        """Reads tokens and adds them to the cache.

        Args:
            x: Features of the tokens, `(n * t, hidden_dim)`.
            cache: Keys and values of the tokens before.
            positions: Of the tokens.
            memory: Keys and values of the source, for a layer that attends to one. It may have
                fewer rows than the cache: then as many rows as there are for each follow one
                another.
            source_hidden: `HIDDEN` in padding of the source, elsewhere 0; float32
                `(rows of the memory, 1, 1, source)`.

        Returns:
            The features of the tokens after the layer, the cache, and the weights of the source
            `(rows of the memory, heads, tokens, source)`, or None.
        """

        def attend_to_itself(y):
            y = self._by_head(y, self._itself, tf.shape(cache.keys)[0])
            query, key, value = tf.split(y, 3, axis=1)
            updated = self._added(cache, positions, key, value)
            y, _ = self._attended(query, updated, positions.hidden)
            return self._combined("self_attention", y), updated

        def attend_to_source(y):
            query = self._by_head(y, self._query, tf.shape(memory.keys)[0])
            y, weights = self._attended(query, memory, source_hidden)
            return self._combined("cross_attention", y), weights

        def feed_forward(y):
            y = self._activation(self._dense("feedforward_intermediate_dense", y))
            return self._dense("feedforward_output_dense", y), None

        attention = None
        x, cache = self._block("self_attention_layer_norm", attend_to_itself, x)
        if memory is not None:
            x, attention = self._block("cross_attention_layer_norm", attend_to_source, x)
        return self._block("feedforward_layer_norm", feed_forward, x)[0], cache, attention

    def _block(self, norm: str, function, x):
        gamma, beta = (self._weights[f"{norm}/{name}"] for name in ("gamma", "beta"))
        if self._normalize_first:
            y, kept = function(normalized(x, gamma, beta, self._epsilon))
            return x + y, kept
        y, kept = function(x)
        return normalized(x + y, gamma, beta, self._epsilon), kept


class LlamaLayer(_Layer):
    """Reads tokens with the weights of a layer of `keras_hub.models.Llama3Backbone`.

    Reference:
        Touvron et al., LLaMA: Open and Efficient Foundation Language Models, 2023, section 2.2.
        https://arxiv.org/abs/2302.13971
        Ainslie et al., GQA: Training Generalized Multi-Query Transformer Models, 2023, section 2.2.
        https://arxiv.org/abs/2305.13245

    Args:
        layer: A built layer.
    """

    def __init__(self, layer: Any):
        super().__init__(layer)
        self._rotary = layer._self_attention_layer.rotary_embedding_layer

    def rotations(self, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns cosines and sines of the rotations, which are the same in every layer.

        Reference:
            Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021, section
            3.2.2. https://arxiv.org/abs/2104.09864

        Args:
            positions: Position of each token, int32 `(n, t)`.

        Returns:
            `(n, 1, t, features / 2)` each.
        """
        angles = tf.cast(positions, tf.float32)[:, None, :, None]
        angles *= self._rotary._get_inverse_freq(self._features)
        return tf.cast(tf.cos(angles), self.dtype), tf.cast(tf.sin(angles), self.dtype)

    def read(
        self,
        x: tf.Tensor,
        cache: Memory,
        positions: Positions,
        rotations: tuple[tf.Tensor, tf.Tensor],
    ) -> tuple[tf.Tensor, Memory, None]:
        """Reads tokens and adds them to the cache, as `DecoderLayer.read`.

        Args:
            x: As there, like the next two.
            cache: Keys and values.
            positions: Of the tokens.
            rotations: From `rotations`.
        """
        y = rms_normalized(x, self._weights["self_attention_layernorm/scale"], self._epsilon)
        rows, shared = tf.shape(cache.keys)[0], self.heads
        y = self._by_head(y, self._itself, rows)
        heads = y.shape[1] - 2 * shared
        query, key, value = tf.split(y, (heads, shared, shared), axis=1)
        query, key = (_rotated(one, *rotations) for one in (query, key))
        cache = self._added(cache, positions, key, value)
        # Query heads in a row share a head of keys and values.
        grouped = tf.reshape(query, (rows, shared, -1, self._features))
        hidden = tf.tile(positions.hidden, (1, 1, heads // shared, 1))
        y = tf.reshape(self._attended(grouped, cache, hidden)[0], tf.shape(query))
        x += self._combined("self_attention", tf.ensure_shape(y, query.shape))
        y = rms_normalized(x, self._weights["feedforward_layernorm/scale"], self._epsilon)
        # The gate in float32, as in KerasHub.
        gate = self._activation(tf.cast(self._dense("feedforward_gate_dense", y), tf.float32))
        y = self._dense("feedforward_intermediate_dense", y) * tf.cast(gate, self.dtype)
        return x + self._dense("feedforward_output_dense", y), cache, None


def decoder_layers(model: keras.Model, prefix: str) -> list[Any]:
    """Returns the decoder layers of a model, whose names begin with a prefix, in their order."""
    import keras_hub

    return [
        (DecoderLayer if isinstance(layer, keras_hub.layers.TransformerDecoder) else LlamaLayer)(
            layer
        )
        for layer in model.layers
        if layer.name.startswith(prefix)
    ]


def positions_of(tokens: tf.Tensor, heads: int, room: tf.Tensor) -> Positions:
    """Returns where tokens are written in caches.

    Args:
        tokens: Position of each token, int32 `(n, t)`, below `room`.
        heads: Number of heads of a cache.
        room: Maximum number of tokens of a cache.
    """
    rows, count = tf.shape(tokens)[0], tf.shape(tokens)[1]
    parts = (tf.range(rows)[:, None, None], tf.range(heads)[:, None], tokens[:, None])
    shape = (rows, heads, count)
    indices = tf.stack([tf.broadcast_to(part, shape) for part in parts], axis=-1)
    return Positions(indices, hidden(tf.range(room) > tokens[:, None, :, None]))


def hidden(is_hidden: tf.Tensor) -> tf.Tensor:
    """Returns what is added to scores, `HIDDEN` where a token does not see what they are of."""
    return tf.where(is_hidden, HIDDEN, 0.0)


def normalized(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Normalizes the features in float32: in 16 bits their variance would be rough."""
    y = tf.cast(x, tf.float32)
    mean, variance = tf.nn.moments(y, axes=[-1], keepdims=True)
    gamma, beta = tf.cast(gamma, tf.float32), tf.cast(beta, tf.float32)
    return tf.cast(tf.nn.batch_normalization(y, mean, variance, beta, gamma, epsilon), x.dtype)


def rms_normalized(x: tf.Tensor, scale: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Divides the features by the root of their mean square, in float32."""
    y = tf.cast(x, tf.float32)
    y *= tf.math.rsqrt(tf.reduce_mean(tf.square(y), axis=-1, keepdims=True) + epsilon)
    return tf.cast(y * tf.cast(scale, tf.float32), x.dtype)


def _rotated(x: tf.Tensor, cosine: tf.Tensor, sine: tf.Tensor) -> tf.Tensor:
    """Rotates pairs of features: each of the first half with the same one of the second."""
    first, second = tf.split(x, 2, axis=-1)
    return tf.concat([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def _dense(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    y = tf.matmul(x, kernel)
    # Not `+`: a server fuses this with the product.
    return y if bias is None else tf.nn.bias_add(y, bias)
