"""A learned weighted mean of the outputs of several layers."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="hornbook")
class ScalarMix(keras.layers.Layer):
    """Mixes the outputs of several layers.

    Computes `gamma * sum over j of softmax(w)_j * h_j`. Initially this is the mean.

    Reference:
        Peters et al., Deep Contextualized Word Representations, 2018, equation 1.
        https://arxiv.org/abs/1802.05365

    Args:
        layer_normalization: Whether to normalize each vector of each layer to mean 0 and variance 1
            first, for layers with different scales.
        regularizer: Regularizer of `w`; the paper's `l2` pulls the mix toward the mean. None: no
            regularization.

    Call arguments:
        inputs: A list of at least one output.

    Input shape:
        A list of tensors with the same shape `(..., channels)`.

    Output shape:
        `(..., channels)`.

    Example:
        >>> mixed = ScalarMix()([ops.zeros((1, 2)), ops.ones((1, 2))])
        >>> ops.convert_to_numpy(mixed).tolist()
        [[0.5, 0.5]]
    """

    def __init__(self, layer_normalization: bool = False, regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.layer_normalization = layer_normalization
        self.regularizer = keras.regularizers.get(regularizer)
        self.supports_masking = True

    def build(self, input_shape):
        shapes = [tuple(shape) for shape in input_shape if isinstance(shape, list | tuple)]
        if not shapes or any(shape != shapes[0] for shape in shapes):
            raise ValueError(
                "The input must be a list of outputs of the same shape. "
                f"Received: input_shape={input_shape}"
            )
        self.w = self.add_weight(
            shape=(len(shapes),),
            initializer="zeros",
            regularizer=self.regularizer,
            autocast=False,
            name="w",
        )
        self.gamma = self.add_weight(shape=(), initializer="ones", autocast=False, name="gamma")

    def call(self, inputs):
        # In float32, because shares rounded to 8 bits do not sum to 1.
        w = ops.cast(self.w, "float32")
        # The softmax is written out, because Keras' own warns about a single layer.
        shares = ops.exp(w - ops.max(w))
        shares = shares / ops.sum(shares)
        gamma = ops.cast(self.gamma, "float32")
        layers = [ops.cast(x, "float32") for x in inputs]
        if self.layer_normalization:
            layers = [ops.layer_normalization(x, epsilon=1e-5) for x in layers]
        mixed = sum(shares[j] * x for j, x in enumerate(layers))
        return ops.cast(gamma * mixed, self.compute_dtype)

    def compute_mask(self, inputs, mask=None):
        return mask[0] if isinstance(mask, list | tuple) else mask

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def get_config(self):
        return {
            **super().get_config(),
            "layer_normalization": self.layer_normalization,
            "regularizer": keras.regularizers.serialize(self.regularizer),
        }
