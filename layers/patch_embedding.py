"""Images as sequences of patches, each projected to a vector."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="hornbook")
class PatchEmbedding(keras.layers.Layer):
    """Cuts an image into square patches and projects each to a token.

    Computes `x_p @ kernel + bias` for each patch `x_p` of `patch_size x patch_size` pixels, row by
    row from the top left. It adds no position embedding.

    Reference:
        Dosovitskiy et al., An Image is Worth 16x16 Words, 2021, eq. 1.
        https://arxiv.org/abs/2010.11929

    Args:
        patch_size: Side of a patch in pixels; at least 1, and a divisor of both sides of
            the image.
        dim: Features of a token; at least 1.
        data_format: "channels_last", "channels_first", or None for Keras' own setting.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` for
        "channels_first".

    Output shape:
        `(batch, height / patch_size * width / patch_size, dim)`.

    Example:
        >>> tuple(PatchEmbedding(patch_size=16, dim=8)(ops.ones((2, 224, 224, 3))).shape)
        (2, 196, 8)
    """

    def __init__(self, patch_size: int, dim: int, data_format: str | None = None, **kwargs):
        if not isinstance(patch_size, int) or patch_size < 1:
            raise ValueError(
                f"`patch_size` must be a positive integer. Received: patch_size={patch_size!r}"
            )
        if not isinstance(dim, int) or dim < 1:
            raise ValueError(f"`dim` must be a positive integer. Received: dim={dim!r}")
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.dim = dim
        # A convolution whose stride is its size. Its kernel keeps both axes of a patch, as in
        # published weights.
        self.projection = keras.layers.Conv2D(
            dim,
            patch_size,
            strides=patch_size,
            data_format=data_format,
            dtype=self.dtype_policy,
            name="projection",
        )
        self.data_format = self.projection.data_format

    def build(self, input_shape):
        if len(input_shape) != 4:
            raise ValueError(
                "The input must be a batch of images with 4 axes. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        for side in self._sides(input_shape):
            if side is not None and side % self.patch_size:
                raise ValueError(
                    "`patch_size` must divide the height and the width of the image. "
                    f"Received: patch_size={self.patch_size}, input_shape={tuple(input_shape)}"
                )
        self.projection.build(input_shape)

    def call(self, inputs):
        tokens = self.projection(inputs)
        if self.data_format == "channels_first":
            tokens = ops.moveaxis(tokens, 1, -1)  # (batch, rows, columns, dim)
        batch, rows, columns, dim = ops.shape(tokens)
        return ops.reshape(tokens, (batch, rows * columns, dim))

    def compute_output_shape(self, input_shape):
        height, width = self._sides(input_shape)
        known = height is not None and width is not None
        tokens = (height // self.patch_size) * (width // self.patch_size) if known else None
        return (input_shape[0], tokens, self.dim)

    def get_config(self):
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "dim": self.dim,
            "data_format": self.data_format,
        }

    def _sides(self, input_shape):
        return input_shape[2:] if self.data_format == "channels_first" else input_shape[1:3]
