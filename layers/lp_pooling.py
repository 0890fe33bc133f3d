"""Pooling by the power mean."""

import keras
from keras import ops

from layers.pooling_windows import _Pooling2D


@keras.saving.register_keras_serializable(package="hornbook")
class LpPooling2D(_Pooling2D):
    """Pools each window to the power mean of its absolute values.

    Computes `y = (sum_j w_j |x_j|^p)^(1/p)` with `w_j = 1 / n` over the `n` pixels of a
    window: p = 1 is average pooling of |x|, p = 2 the root mean square, and a large p comes
    close to max pooling of |x|. The gradient is finite everywhere; a window of zeros has none.

    Reference:
        Sermanet, Chintala & LeCun, Convolutional Neural Networks Applied to House Numbers
        Digit Classification, 2012, section 2.2. https://arxiv.org/abs/1204.3968

    Args:
        pool_size: Height and width of a window, or one number for both, in pixels.
        p: The power; at least 1.
        strides: Pixels between two windows, or None for `pool_size`.
        padding: "valid" or "same".
        data_format: "channels_last", "channels_first", or None for Keras' own setting.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` for
        "channels_first"; height and width known.

    Output shape:
        As of `keras.layers.MaxPooling2D`.

    Example:
        >>> x = ops.reshape(ops.array([3.0, -4.0, 0.0, 0.0]), (1, 2, 2, 1))
        >>> round(float(ops.squeeze(LpPooling2D(p=2.0)(x))), 4)
        2.5
    """

    def __init__(
        self,
        pool_size=2,
        p: float = 2.0,
        strides=None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs,
    ):
        if not p >= 1:
            raise ValueError(f"`p` must be at least 1. Received: p={p}")
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.p = p

    def call(self, inputs):
        # Powers overflow in float16 and lose in bfloat16 what makes a mean.
        x = ops.abs(ops.cast(inputs, "float32"))
        places = self.windows(x)
        largest = places[0]
        for place in places[1:]:
            largest = ops.maximum(largest, place)
        # Shares of the window's largest value can be raised to any power. The result does not
        # depend on the divisor, so neither does the gradient.
        largest = ops.stop_gradient(largest)
        is_positive = largest > 0
        divisor = ops.where(is_positive, largest, 1.0)
        total = sum(ops.power(place / divisor, self.p) for place in places)
        mean = total / self._counts(inputs)
        # The root's slope at 0 is infinite, so windows of zeros go around it.
        root = ops.power(ops.where(is_positive, mean, 1.0), 1 / self.p)
        return ops.cast(ops.where(is_positive, divisor * root, 0.0), inputs.dtype)

    def _counts(self, inputs):
        """Pixels of each window that lie inside the image."""
        if self.padding == "valid":
            return float(self.pool_size[0] * self.pool_size[1])
        return sum(self.windows(ops.ones_like(inputs, dtype="float32")))

    def get_config(self):
        return {**super().get_config(), "p": self.p}
