"""Local response normalization by one matrix product over the channels."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="hornbook")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each activation by a power of the energy of the channels around it.

    Computes `x[c] / (bias + alpha * sum(x[j]^2))^beta`, where the sum is over the existing channels
    `j` from `c - depth_radius` to `c + depth_radius`. It equals
    `tf.nn.local_response_normalization`. The defaults are AlexNet's (its n = 5 is
    `depth_radius=2`). PyTorch divides `alpha` by n; this layer does not.

    Reference:
        Krizhevsky, Sutskever & Hinton, ImageNet Classification with Deep Convolutional
        Neural Networks, 2012, section 3.3.
        https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html

    Args:
        depth_radius: Number of channels on either side that are summed; at least 0.
        bias: Added to the sum; above 0.
        alpha: Weight of the sum; at least 0.
        beta: The power.
        data_format: "channels_last", "channels_first", or None for Keras' own setting.

    Input shape:
        `(batch, ..., channels)`, or `(batch, channels, ...)` for "channels_first".

    Output shape:
        Same as the input.

    Example:
        >>> layer = LocalResponseNormalization()
        >>> tuple(layer(ops.ones((1, 4, 4, 96))).shape)
        (1, 4, 4, 96)
    """

    def __init__(
        self,
        depth_radius: int = 2,
        bias: float = 2.0,
        alpha: float = 1e-4,
        beta: float = 0.75,
        data_format: str | None = None,
        **kwargs,
    ):
        if not isinstance(depth_radius, int) or depth_radius < 0:
            raise ValueError(
                "`depth_radius` must be an integer of at least 0. "
                f"Received: depth_radius={depth_radius!r}"
            )
        if bias <= 0:
            raise ValueError(f"`bias` must be above 0. Received: bias={bias}")
        if alpha < 0:
            raise ValueError(f"`alpha` must be at least 0. Received: alpha={alpha}")
        # Without autocast, which would turn 70000 in float32 into infinity in float16.
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True
        self.depth_radius = depth_radius
        self.bias = bias
        self.alpha = alpha
        self.beta = beta
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(
                "`data_format` must be 'channels_last' or 'channels_first'. "
                f"Received: data_format={data_format!r}"
            )

    def build(self, input_shape):
        channels = input_shape[1 if self.data_format == "channels_first" else -1]
        if channels is None:
            raise ValueError(
                f"The number of channels must be known. Received: input_shape={tuple(input_shape)}"
            )
        index = np.arange(channels)
        self._window = np.abs(index[:, None] - index) <= self.depth_radius

    def call(self, inputs):
        # At least float32: the square of 256 overflows float16.
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        x = ops.cast(inputs, dtype)
        outputs = ops.custom_gradient(self._normalized)(x)
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "depth_radius": self.depth_radius,
            "bias": self.bias,
            "alpha": self.alpha,
            "beta": self.beta,
            "data_format": self.data_format,
        }

    def _normalized(self, x):
        """Returns output and gradient, which is written out: this saves a quarter of the time."""
        x = ops.convert_to_tensor(x)
        base = self._window_sum(ops.square(x)) + self.bias
        scale = self._power(base)

        def gradient(*arguments, upstream=None):
            values, powers, inputs = base, scale, x
            if upstream is None:
                (upstream,) = arguments
            else:
                # PyTorch does not record the above, which second derivatives need.
                (inputs,) = arguments
                values = self._window_sum(ops.square(inputs)) + self.bias
                powers = self._power(values)
            direct = upstream * powers
            return direct - 2 * self.beta * inputs * self._window_sum(direct * inputs / values)

        return x * scale, gradient

    def _power(self, base):
        # exp(-beta log s) equals s^-beta and is several times as fast as a general power.
        return ops.exp(-self.beta * ops.log(base))

    def _window_sum(self, x):
        """Returns alpha times the sum over the channels around each channel."""
        # A product with a band matrix takes a quarter of the time of adding shifted copies.
        window = ops.convert_to_tensor(self.alpha * self._window, x.dtype)
        if self.data_format != "channels_first":
            return ops.matmul(x, window)
        flat = ops.reshape(x, (*ops.shape(x)[:2], -1))
        return ops.reshape(ops.matmul(window, flat), ops.shape(x))
