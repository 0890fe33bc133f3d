"""Pooling that removes high frequencies."""

import keras
import numpy as np
from keras import ops

from layers.pooling_windows import _Pooling2D


@keras.saving.register_keras_serializable(package="hornbook")
class SpectralPooling2D(_Pooling2D):
    """Shrinks images by cropping their spectrum to the lowest frequencies.

    Computes the discrete Fourier transform of each channel, keeps as many frequencies per side as
    the output has pixels, and transforms back. If the output has an even number of pixels, its
    highest frequency has lost its conjugate. Taking the real part of the inverse transform restores
    it, as the paper's "treat corner cases" does. The scale keeps the value of a constant image.
    Without a crop the layer is the identity.

    Reference:
        Rippel, Snoek & Adams, Spectral Representations for Convolutional Neural Networks, 2015,
        section 3 and algorithm 1. https://arxiv.org/abs/1506.03767

    Args:
        pool_size: Height and width of a window in pixels, or one number for both. The output has
            one pixel per window, as in other pooling layers.
        strides: Step from one window to the next, in pixels. None: `pool_size`.
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
        x = self._channels_last(inputs)
        (down, *_), (across, *_) = self._grid(x.shape)
        high, wide = x.shape[1:3]
        if (down, across) == (high, wide):
            return self._as_outputs(x)
        # Transform, crop and inverse transform are linear and separable in height and width. So
        # two products with small matrices replace complex numbers, which not every device has.
        rows, columns = _cosines(down, high), _cosines(across, wide)
        outputs = _both_sides(rows, x, columns)
        if down % 2 == across % 2 == 0:
            outputs -= _both_sides(_sines(down, high), x, _sines(across, wide))
        return self._as_outputs(outputs)


def _both_sides(rows, x, columns):
    """Computes `rows x[b, :, :, c] columns^T` for each example b and channel c."""
    height, width, channels = x.shape[1:]
    x = ops.reshape(x, (-1, height, width * channels))
    x = ops.matmul(ops.convert_to_tensor(rows, x.dtype), x)
    x = ops.reshape(x, (-1, width, channels))  # (batch * windows down, width, channels)
    x = ops.matmul(ops.convert_to_tensor(columns, x.dtype), x)
    return ops.reshape(x, (-1, len(rows), len(columns), channels))


def _cosines(count: int, side: int) -> np.ndarray:
    """Returns the real part `(count, side)` of transform, crop and inverse transform."""
    frequencies = np.arange(count) - count // 2
    shifts = np.arange(count)[:, None] / count - np.arange(side) / side
    return np.cos(2 * np.pi * frequencies[:, None, None] * shifts).sum(axis=0) / side


def _sines(count: int, side: int) -> np.ndarray:
    """Returns the imaginary part `(count, side)`, that of the frequency without its conjugate."""
    shifts = np.arange(count)[:, None] / count - np.arange(side) / side
    return np.sin(-np.pi * count * shifts) / side
