"""The learned token that represents a whole sequence."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="hornbook")
class ClassToken(keras.layers.Layer):
    """Prepends a learned token to every sequence.

    Computes `[token; x_1; ...; x_n]`. After a Transformer, a classifier reads the output at this
    first position.

    Reference:
        Dosovitskiy et al., An Image is Worth 16x16 Words, 2021, eq. 1.
        https://arxiv.org/abs/2010.11929

    Args:
        initializer: Initializer of the token.

    Input shape:
        `(batch, tokens, dim)`.

    Output shape:
        `(batch, 1 + tokens, dim)`.

    Example:
        >>> tuple(ClassToken()(ops.ones((2, 196, 8))).shape)
        (2, 197, 8)
    """

    def __init__(self, initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        if len(input_shape) != 3:
            raise ValueError(
                "The input must have the shape (batch, tokens, dim). "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.token = self.add_weight(
            shape=(1, 1, input_shape[-1]), initializer=self.initializer, name="token"
        )

    def call(self, inputs):
        batch, _, dim = ops.shape(inputs)
        token = ops.broadcast_to(ops.cast(self.token, inputs.dtype), (batch, 1, dim))
        return ops.concatenate([token, inputs], axis=1)

    def compute_output_shape(self, input_shape):
        batch, tokens, dim = input_shape
        return (batch, None if tokens is None else tokens + 1, dim)

    def get_config(self):
        return {
            **super().get_config(),
            "initializer": keras.initializers.serialize(self.initializer),
        }
