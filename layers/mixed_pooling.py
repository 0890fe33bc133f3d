"""Pooling between the maximum and the mean."""

import keras
from keras import ops

from layers.pooling_windows import _Pooling2D

MODES = ("fixed", "random", "learned")


@keras.saving.register_keras_serializable(package="hornbook")
class MixedPooling2D(_Pooling2D):
    """Blends max pooling and average pooling.

    Computes `y = alpha max_j x_j + (1 - alpha) mean_j x_j` over each window. The mode decides what
    alpha is:

    - `"fixed"`: the argument;
    - `"random"`: 0 or 1, drawn at each training call, and 1/2 at inference (Yu et al.);
    - `"learned"`: a trained number in [0, 1] whose initial value is the argument (Lee et al.).

    Reference:
        Yu et al., Mixed Pooling for Convolutional Neural Networks, 2014, eq. 6.
        https://doi.org/10.1007/978-3-319-11740-9_34
        Lee, Gallagher & Tu, Generalizing Pooling Functions in Convolutional Neural Networks,
        2016, section 3.1. https://arxiv.org/abs/1509.08985

    Args:
        pool_size: Height and width of a window, or one number for both, in pixels.
        strides: Step from one window to the next, in pixels. None: `pool_size`.
        padding: "valid" or "same".
        data_format: "channels_last", "channels_first", or None for Keras' own setting.
        mode: "fixed", "random" or "learned".
        alpha: Share of the maximum, in [0, 1]; not used by "random".
        seed: Seed of "random". None: Keras' global seed.

    Call arguments:
        inputs: Images.
        training: Whether "random" draws alpha.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` for
        "channels_first"; height and width known.

    Output shape:
        As of `keras.layers.MaxPooling2D`.

    Example:
        >>> x = ops.reshape(ops.array([0.0, 1.0, 3.0, 4.0]), (1, 2, 2, 1))
        >>> float(ops.squeeze(MixedPooling2D(alpha=0.5)(x)))
        3.0
    """

    def __init__(
        self,
        pool_size=2,
        strides=None,
        padding: str = "valid",
        data_format: str | None = None,
        mode: str = "fixed",
        alpha: float = 0.5,
        seed: int | None = None,
        **kwargs,
    ):
        if mode not in MODES:
            raise ValueError(f"`mode` must be one of {', '.join(MODES)}. Received: mode={mode!r}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"`alpha` must be in [0, 1]. Received: alpha={alpha}")
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.mode = mode
        self.alpha = alpha
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed) if mode == "random" else None

    def build(self, input_shape):
        super().build(input_shape)
        if self.mode == "learned":
            self.share = self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(self.alpha),
                constraint=_unit_interval,
                autocast=False,
                name="alpha",
            )

    def call(self, inputs, training=None):
        x = self._channels_last(inputs)
        mean = self._mean(x)
        largest = ops.max_pool(x, self.pool_size, self.strides, self.padding, "channels_last")
        return self._as_outputs(mean + self._share(training, x.dtype) * (largest - mean))

    def get_config(self):
        return {**super().get_config(), "mode": self.mode, "alpha": self.alpha, "seed": self.seed}

    def _share(self, training, dtype):
        """Returns alpha for this call."""
        if self.mode == "learned":
            return ops.cast(self.share, dtype)
        if self.mode == "fixed":
            return self.alpha
        if not training:
            return 0.5
        return ops.cast(keras.random.uniform((), seed=self.seed_generator) < 0.5, dtype)


@keras.saving.register_keras_serializable(package="hornbook")
def _unit_interval(weight):
    return ops.clip(weight, 0.0, 1.0)
