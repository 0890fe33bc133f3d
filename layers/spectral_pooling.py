"""Pooling by leaving out high frequencies."""

import keras
import numpy as np
from keras import ops

from layers.pooling_windows import _Pooling2D


@keras.saving.register_keras_serializable(package="hornbook")
class SpectralPooling2D(_Pooling2D):
    """Shrinks images by cutting their spectrum down to the lowest frequencies.

    Takes the discrete Fourier transform of each channel, keeps as many frequencies a side as
    the output has pixels, and transforms back. Where the output has an even number of pixels
    its highest frequency has no conjugate partner; there the mean of the two input frequencies
    `+n/2` and `-n/2` is kept, so that the output is real. Scaled so that a constant image keeps
    its value; without a crop the layer is the identity.

    Reference:
        Rippel, Snoek & Adams, Spectral Representations for Convolutional Neural Networks, 2015,
        section 3. https://arxiv.org/abs/1506.03767

    Args:
        pool_size: Height and width of the window whose count decides the output's size, or one
            number for both, in pixels.
        strides: Pixels between two such windows, or None for `pool_size`.
        padding: "valid" or "same".
        data_format: "channels_last", "channels_first", or None for Keras' own setting.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` for
        "channels_first"; height and width known.

    Output shape:
        As of `keras.layers.MaxPooling2D`.

    Example:
        >>> bool(ops.all(ops.abs(SpectralPooling2D()(ops.ones((1, 5, 6, 1))) - 1.0) < 1e-6))
        True
    """

    def call(self, inputs):
        # The transform, the crop and the transform back are linear and act on each side by
        # itself, so that each side takes one product with a real matrix.
        sides, out = self.sides(inputs.shape), self.output_sides(inputs.shape)
        rows, columns = (
            ops.convert_to_tensor(_low_frequencies(side, count), dtype="float32")
            for side, count in zip(sides, out, strict=True)
        )
        # bfloat16 has fewer digits than a sum over an image's side needs.
        x = ops.cast(inputs, "float32")
        if self.data_format == "channels_first":
            x = ops.einsum("mh,bchw,nw->bcmn", rows, x, columns)
        else:
            x = ops.einsum("mh,bhwc,nw->bmnc", rows, x, columns)
        return ops.cast(x, inputs.dtype)


def _low_frequencies(side: int, count: int) -> np.ndarray:
    """Matrix `(count, side)` that resamples a signal to its `count` lowest frequencies."""
    positions = np.arange(count)[:, None] / count - np.arange(side)[None, :] / side
    highest = (count - 1) // 2
    matrix = np.ones((count, side))
    for frequency in range(1, highest + 1):
        matrix += 2 * np.cos(2 * np.pi * frequency * positions)
    if count % 2 == 0:
        matrix += np.cos(np.pi * count * positions)
    return (matrix / side).astype("float32")
