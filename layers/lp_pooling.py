"""Pooling by the power mean."""

import functools
import math

import keras
from keras import ops

from layers.pooling_windows import _Pooling2D


@keras.saving.register_keras_serializable(package="hornbook")
class LpPooling2D(_Pooling2D):
    """Pools each window to the power mean of its absolute values.

    Computes `y = (sum_j w_j |x_j|^p)^(1/p)` with `w_j = 1 / n` over the `n` pixels of a window.
    p = 1 is average pooling of |x|, p = 2 is the root mean square, and a large p approaches max
    pooling of |x|. The gradient is finite everywhere, and 0 for a window of zeros.

    Reference:
        Sermanet, Chintala & LeCun, Convolutional Neural Networks Applied to House Numbers
        Digit Classification, 2012, section 2.2. https://arxiv.org/abs/1204.3968

    Args:
        pool_size: Height and width of a window, or one number for both, in pixels.
        strides: Step from one window to the next, in pixels. None: `pool_size`.
        padding: "valid" or "same".
        data_format: "channels_last", "channels_first", or None for Keras' own setting.
        p: The power; at least 1.

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
        strides=None,
        padding: str = "valid",
        data_format: str | None = None,
        p: float = 2.0,
        **kwargs,
    ):
        if not 1 <= p < math.inf:
            raise ValueError(f"`p` must be at least 1 and finite. Received: p={p}")
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.p = p

    def call(self, inputs):
        x = self._channels_last(inputs)
        weight = self._weight(x)

        @ops.custom_gradient
        def pool(x):
            outputs = self._power_mean(self._windows(x), weight)

            def gradient(*arguments, upstream=None):
                # PyTorch, which names `upstream`, does not record the above, so for second
                # derivatives the outputs are computed again from the inputs.
                images, y = x, outputs
                if upstream is None:
                    (upstream,) = arguments
                else:
                    (images,) = arguments
                    y = self._power_mean(self._windows(images), weight)
                return self._gradient(images, y, upstream * weight)

            return outputs, gradient

        return self._as_outputs(pool(x))

    def get_config(self):
        return {**super().get_config(), "p": self.p}

    def _weight(self, x):
        """Returns one over the number of pixels of each window inside the image."""
        if self.padding == "valid":
            return 1.0 / len(self._offsets())
        return 1.0 / sum(self._windows(ops.ones((1, *x.shape[1:3], 1), x.dtype)))

    def _power_mean(self, windows, weight):
        sizes = [ops.abs(pixels) for pixels in windows]
        largest = functools.reduce(ops.maximum, sizes)
        # Powers relative to the largest value do not overflow, and at least one is not 0.
        divisor = ops.where(largest > 0, largest, 1.0)
        mean = sum(self._power(size / divisor, self.p) for size in sizes) * weight
        return largest * self._power(mean, 1 / self.p)

    def _gradient(self, x, y, upstream):
        """Returns `upstream sign(x) (|x| / y)^(p - 1)`, written out so that it is finite at 0."""
        divisor = ops.where(y > 0, y, 1.0)
        return self._from_windows(
            [
                upstream * ops.sign(pixels) * self._power(ops.abs(pixels) / divisor, self.p - 1)
                for pixels in self._windows(x)
            ],
            x.shape,
        )

    @staticmethod
    def _power(x, power: float):
        # General powers take ten times as long as these.
        if power == 0:
            return ops.ones_like(x)
        if power in (1, 2):
            return x if power == 1 else ops.square(x)
        return ops.sqrt(x) if power == 0.5 else ops.power(x, power)
