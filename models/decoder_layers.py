"""The layers of a Transformer's decoder, read token by token with keys and values kept.

KerasHub's own cache is written by an operation that only XLA's library registers, so an export must
not contain it.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

Cache = tuple[tf.Tensor, tf.Tensor]
"""Keys and values of all tokens so far, `(context, n, heads, features)` each. Time comes first, so
that one scatter writes the tokens of all rows."""


class Memory(NamedTuple):
    """What a decoder layer attends to in the source.

    Args:
        keys: `(n, source tokens, heads, features)`.
        values: As the keys.
    """

    keys: tf.Tensor
    values: tf.Tensor


class DecoderLayer:
    """Reads tokens with the weights of a `keras_hub.layers.TransformerDecoder`.

    Args:
        layer: A built layer, with or without attention to a source.
    """

    def __init__(self, layer: Any):
        self.dtype = layer.compute_dtype
        self._weights = _cast_weights(layer)
        self._normalize_first = layer.normalize_first
        self._activation = layer.activation
        self._epsilon = layer.layer_norm_epsilon

    def empty(self, context: int, rows: tf.Tensor) -> Cache:
        """Returns the cache of rows without tokens.

        Args:
            context: Maximum number of tokens.
            rows: Number of rows.
        """
        return _empty(self._weights, context, rows)

    def memory(self, source: tf.Tensor) -> Memory:
        """Returns keys and values of an encoder's output `(n, source tokens, hidden_dim)`."""
        return Memory(*(self._projected("cross_attention", n, source) for n in ("key", "value")))

    def read(
        self,
        x: tf.Tensor,
        cache: Cache,
        indices: tf.Tensor,
        visible: tf.Tensor,
        memory: Memory | None = None,
        source_visible: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, Cache, tf.Tensor | None]:
        """Reads tokens and adds them to the cache.

        Args:
            x: Features of the tokens, `(n, t, hidden_dim)`.
            cache: Keys and values of the tokens before.
            indices: Position and row of each token in the cache, int32 `(n, t, 2)`.
            visible: Which positions of the cache each token sees, bool `(n, 1, t, context)`.
            memory: Keys and values of the source, for a layer that attends to one.
            source_visible: Which tokens of the source are no padding, bool `(n, 1, 1, source)`.

        Returns:
            The features of the tokens after the layer, the cache, and the weights of the source
            `(n, heads, t, source)`, or None.
        """

        def attend_to_itself(y):
            query, key, value = (
                self._projected("self_attention", name, y) for name in ("query", "key", "value")
            )
            keys, values = (
                tf.tensor_scatter_nd_update(old, indices, new)
                for old, new in zip(cache, (key, value), strict=True)
            )
            weights = _weights(tf.einsum("nthf,cnhf->nhtc", query, keys), query, visible)
            y = tf.einsum("nhtc,cnhf->nthf", weights, values)
            return self._combined("self_attention", y), (keys, values)

        def attend_to_source(y):
            query = self._projected("cross_attention", "query", y)
            scores = tf.einsum("nthf,nshf->nhts", query, memory.keys)
            weights = _weights(scores, query, source_visible)
            y = tf.einsum("nhts,nshf->nthf", weights, memory.values)
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

    def _projected(self, attention: str, name: str, x: tf.Tensor) -> tf.Tensor:
        kernel, bias = (self._weights[f"{attention}/{name}/{w}"] for w in ("kernel", "bias"))
        return tf.einsum("ntd,dhf->nthf", x, kernel) + bias

    def _combined(self, attention: str, x: tf.Tensor) -> tf.Tensor:
        path = f"{attention}/attention_output"
        y = tf.einsum("nthf,hfd->ntd", x, self._weights[f"{path}/kernel"])
        return y + self._weights[f"{path}/bias"]

    def _dense(self, name: str, x: tf.Tensor) -> tf.Tensor:
        kernel, bias = self._weights[f"{name}/kernel"], self._weights[f"{name}/bias"]
        return tf.einsum("ntd,df->ntf", x, kernel) + bias


class LlamaLayer:
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
        self.dtype = layer.compute_dtype
        self._weights = _cast_weights(layer)
        self._rotary = layer._self_attention_layer.rotary_embedding_layer
        self._activation = layer.activation
        self._epsilon = layer.layer_norm_epsilon

    def empty(self, context: int, rows: tf.Tensor) -> Cache:
        """Returns the cache of rows without tokens, as `DecoderLayer.empty`."""
        return _empty(self._weights, context, rows)

    def rotations(self, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns cosines and sines of the rotations, which are the same in every layer.

        Reference:
            Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021, section
            3.2.2. https://arxiv.org/abs/2104.09864

        Args:
            positions: Position of each token, int32 `(n, t)`.

        Returns:
            `(n, t, 1, features / 2)` each.
        """
        features = self._weights["self_attention/key/kernel"].shape[2]
        angles = tf.cast(positions, tf.float32)[:, :, None, None]
        angles *= self._rotary._get_inverse_freq(features)
        return tf.cast(tf.cos(angles), self.dtype), tf.cast(tf.sin(angles), self.dtype)

    def read(
        self,
        x: tf.Tensor,
        cache: Cache,
        indices: tf.Tensor,
        visible: tf.Tensor,
        rotations: tuple[tf.Tensor, tf.Tensor],
    ) -> tuple[tf.Tensor, Cache, None]:
        """Reads tokens and adds them to the cache, as `DecoderLayer.read`.

        Args:
            x: As there, like the next three.
            cache: Keys and values.
            indices: Positions and rows.
            visible: What each token sees.
            rotations: From `rotations`.
        """
        y = rms_normalized(x, self._weights["self_attention_layernorm/scale"], self._epsilon)
        query, key, value = (
            tf.einsum("ntd,dhf->nthf", y, self._weights[f"self_attention/{name}/kernel"])
            for name in ("query", "key", "value")
        )
        query, key = (_rotated(one, *rotations) for one in (query, key))
        keys, values = (
            tf.tensor_scatter_nd_update(old, indices, new)
            for old, new in zip(cache, (key, value), strict=True)
        )
        shape = tf.shape(query)
        # Query heads in a row share a head of keys and values.
        grouped = tf.reshape(query, (shape[0], shape[1], key.shape[2], -1, query.shape[3]))
        scores = tf.einsum("nthgf,cnhf->nhgtc", grouped, keys)
        weights = _weights(scores, grouped, visible[:, :, None])
        y = tf.reshape(tf.einsum("nhgtc,cnhf->nthgf", weights, values), shape)
        x += tf.einsum("nthf,hfd->ntd", y, self._weights["self_attention/attention_output/kernel"])
        y = rms_normalized(x, self._weights["feedforward_layernorm/scale"], self._epsilon)
        # The gate in float32, as in KerasHub.
        gate = self._activation(tf.cast(self._dense("gate", y), tf.float32))
        y = self._dense("intermediate", y) * tf.cast(gate, self.dtype)
        return x + self._dense("output", y), (keys, values), None

    def _dense(self, name: str, x: tf.Tensor) -> tf.Tensor:
        return tf.einsum("ntd,df->ntf", x, self._weights[f"feedforward_{name}_dense/kernel"])


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


def normalized(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Normalizes the features in float32: in 16 bits their variance would be rough."""
    y = tf.cast(x, tf.float32)
    mean, variance = tf.nn.moments(y, axes=[-1], keepdims=True)
    y = (y - mean) * tf.math.rsqrt(variance + epsilon)
    return tf.cast(y * tf.cast(gamma, tf.float32) + tf.cast(beta, tf.float32), x.dtype)


def rms_normalized(x: tf.Tensor, scale: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Divides the features by the root of their mean square, in float32."""
    y = tf.cast(x, tf.float32)
    y *= tf.math.rsqrt(tf.reduce_mean(tf.square(y), axis=-1, keepdims=True) + epsilon)
    return tf.cast(y * tf.cast(scale, tf.float32), x.dtype)


def _rotated(x: tf.Tensor, cosine: tf.Tensor, sine: tf.Tensor) -> tf.Tensor:
    """Rotates pairs of features: each of the first half with the same one of the second."""
    first, second = tf.split(x, 2, axis=-1)
    return tf.concat([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def _cast_weights(layer: Any) -> dict[str, tf.Tensor]:
    """Returns the weights of a layer in the type it computes in, by path below the layer."""
    return {
        w.path.partition(f"{layer.name}/")[2]: tf.cast(w, layer.compute_dtype)
        for w in layer.weights
    }


def _empty(weights: dict[str, tf.Tensor], context: int, rows: tf.Tensor) -> Cache:
    kernel = weights["self_attention/key/kernel"]
    nothing = tf.zeros((context, rows, *kernel.shape[1:]), kernel.dtype)
    return nothing, nothing


def _weights(scores: tf.Tensor, query: tf.Tensor, visible: tf.Tensor) -> tf.Tensor:
    """Returns the attention weights, in float32 until they are done."""
    scores = tf.where(visible, tf.cast(scores / query.shape[-1] ** 0.5, tf.float32), -1e9)
    return tf.cast(tf.nn.softmax(scores), query.dtype)
