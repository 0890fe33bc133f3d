"""Pooling that draws one pixel of each window at random."""

import itertools

import keras
from keras import ops

from layers.pooling_windows import _Pooling2D


@keras.saving.register_keras_serializable(package="hornbook")
class StochasticPooling2D(_Pooling2D):
    """Draws one activation of each window during training, averages them at inference.

    The probabilities are `p_j = a_j / sum_k a_k`, where `a = max(x, 0)` are the positive
    activations of a window.

    - During training: `y = a_l`, where l is drawn with the probabilities p. Only the drawn pixel
      gets a gradient.
    - At inference: `y = sum_j p_j a_j`.

    The output of a window without a positive activation is 0.

    Reference:
        Zeiler & Fergus, Stochastic Pooling for Regularization of Deep Convolutional Neural
        Networks, 2013, equations 4 to 6. https://arxiv.org/abs/1301.3557

    Args:
        pool_size: Height and width of a window, or one number for both, in pixels.
        strides: Step from one window to the next, in pixels. None: `pool_size`.
        padding: "valid" or "same".
        data_format: "channels_last", "channels_first", or None for Keras' own setting.
        seed: Seed of the draws. None: Keras' global seed.

    Call arguments:
        inputs: Images.
        training: Whether to draw.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` for
        "channels_first"; height and width known.

    Output shape:
        As of `keras.layers.MaxPooling2D`.

    Example:
        >>> x = ops.reshape(ops.array([0.0, -2.0, 1.0, 3.0]), (1, 2, 2, 1))
        >>> float(ops.squeeze(StochasticPooling2D()(x)))
        2.5
    """

    def __init__(
        self,
        pool_size=2,
        strides=None,
        padding: str = "valid",
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=None):
        x = self._channels_last(inputs)
        return self._as_outputs(self._draw(x) if training else self._expect(x))

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}

    def _expect(self, x):
        activations = ops.relu(x)
        mean = self._mean(activations)
        return self._mean(ops.square(activations)) / ops.where(mean > 0, mean, 1.0)

    def _draw(self, x):
        (down, *_), (across, *_) = self._grid(x.shape)
        # One random number per window, however many pixels it has.
        uniform = keras.random.uniform(
            (ops.shape(x)[0], down, across, x.shape[3]), dtype=x.dtype, seed=self.seed_generator
        )

        @ops.custom_gradient
        def draw(x):
            windows = self._windows(ops.relu(x))
            # The activations are intervals, laid end to end. The point falls into the first one
            # that ends after it, so never into one of length 0.
            ends = list(itertools.accumulate(windows))
            point = uniform * ends[-1]
            falls_before = [point < end for end in ends[:-1]]
            drawn = windows[-1]
            for pixels, is_before in zip(windows[-2::-1], falls_before[::-1], strict=True):
                drawn = ops.where(is_before, pixels, drawn)
            # The drawn interval ends after the point; the previous one does not.
            falls_before.append(drawn > 0)
            is_drawn = [
                falls_before[0],
                *itertools.starmap(ops.not_equal, itertools.pairwise(falls_before)),
            ]

            def gradient(*arguments, upstream=None):
                (upstream,) = arguments if upstream is None else (upstream,)
                # Zeros of the same shape, because TensorFlow's `where` is slow to broadcast.
                zeros = ops.zeros_like(upstream)
                shares = [ops.where(mask, upstream, zeros) for mask in is_drawn]
                return self._from_windows(shares, x.shape)

            return drawn, gradient

        return draw(x)
