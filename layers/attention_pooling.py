"""Attention that pools a sequence into one vector."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="hornbook")
class AttentionPooling(keras.layers.Layer):
    """Averages the steps of a sequence, weighted by a learned score.

    Computes `score_t = query . tanh(x_t @ kernel + bias)`, `weight = softmax(score)` over the
    steps that are not masked, and `sum over t of weight_t * x_t`. The output of a row with only
    masked steps is zero.

    Reference:
        Bahdanau, Cho & Bengio, Neural Machine Translation by Jointly Learning to Align and
        Translate, 2015, section 3.1, with a learned query. https://arxiv.org/abs/1409.0473
        Yang et al., Hierarchical Attention Networks for Document Classification, 2016,
        equations 5 to 7. https://aclanthology.org/N16-1174

    Args:
        units: Number of features that scores are computed from; at least 1.

    Call arguments:
        inputs: The sequence.
        mask: `(batch, steps)`, False for steps to ignore. None: no step is masked.
        return_attention_scores: Whether to return the weights, too.

    Input shape:
        `(batch, steps, channels)`.

    Output shape:
        `(batch, channels)`. With `return_attention_scores`, a pair: that and the weights, float32
        `(batch, steps)`.

    Example:
        >>> layer = AttentionPooling(4)
        >>> tuple(layer(ops.ones((2, 5, 3))).shape)
        (2, 3)
    """

    def __init__(self, units: int, **kwargs):
        if not isinstance(units, int) or units < 1:
            raise ValueError(f"`units` must be a positive integer. Received: units={units!r}")
        super().__init__(**kwargs)
        self.units = units
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) != 3:
            raise ValueError(
                "The input must have the shape (batch, steps, channels). "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.query = self.add_weight(shape=(self.units, 1), name="query")

    def call(self, inputs, mask=None, return_attention_scores=False):
        features = ops.tanh(ops.matmul(inputs, self.kernel) + self.bias)
        scores = ops.matmul(features, self.query)[..., 0]  # (batch, steps)
        # In 16 bits the sum of many small weights would be rounded.
        weights = _masked_softmax(ops.cast(scores, "float32"), mask)
        pooled = ops.sum(ops.cast(inputs, "float32") * weights[..., None], axis=1)
        pooled = ops.cast(pooled, self.compute_dtype)
        return (pooled, weights) if return_attention_scores else pooled

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])

    def compute_output_spec(self, inputs, mask=None, return_attention_scores=False):
        pooled = keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)
        weights = keras.KerasTensor(inputs.shape[:2], "float32")
        return (pooled, weights) if return_attention_scores else pooled

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def _masked_softmax(scores, mask):
    """Softmax of float32 scores `(batch, steps)`; masked steps, and rows of them, are 0."""
    if mask is None:
        mask = ops.ones_like(scores)
    mask = ops.cast(mask, "bool")
    scores = ops.where(mask, scores, -1e9)
    # Written out, because Keras' softmax warns about sequences of one step.
    powers = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
    powers = ops.where(mask, powers, 0.0)
    # The largest power is 1, unless all steps are masked.
    return powers / ops.maximum(ops.sum(powers, axis=-1, keepdims=True), 1.0)
