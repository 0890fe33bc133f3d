"""Pooling by drawing one pixel of each window."""

import itertools

import keras
from keras import ops

from layers.pooling_windows import _Pooling2D


@keras.saving.register_keras_serializable(package="hornbook")
class StochasticPooling2D(_Pooling2D):
    """Draws one activation of each window while training, weighs all of them otherwise.

    With the probabilities `p_j = a_j / sum_k a_k`, where `a = max(x, 0)` are the positive
    activations of a window, computes

    - while training: `y = a_l`, where l is drawn with the probabilities p; the gradient
      reaches only the drawn pixel;
    - at inference: `y = sum_j p_j a_j`.

    A window without a positive activation gives 0.

    Reference:
        Zeiler & Fergus, Stochastic Pooling for Regularization of Deep Convolutional Neural
        Networks, 2013, equations 4 to 6. https://arxiv.org/abs/1301.3557

    Args:
        pool_size: Height and width of a window, or one number for both, in pixels.
        strides: Pixels between two windows, or None for `pool_size`.
        padding: "valid" or "same".
        data_format: "channels_last", "channels_first", or None for Keras' own setting.
        seed: Seeds the draws; None for Keras' global seed.

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
        # One number a window, however many pixels it has.
        uniform = keras.random.uniform(
            (ops.shape(x)[0], down, across, x.shape[3]), dtype=x.dtype, seed=self.seed_generator
        )

        @ops.custom_gradient
        def draw(x):
            windows = self._windows(ops.relu(x))
            # Laid end to end, the activations are intervals; the point falls into the first one
            # that ends beyond it. An interval without length never gets it.
            ends = list(itertools.accumulate(windows))
            point = uniform * ends[-1]
            falls_before = [point < end for end in ends[:-1]]
            drawn = windows[-1]
            for pixels, is_before in zip(windows[-2::-1], falls_before[::-1], strict=True):
                drawn = ops.where(is_before, pixels, drawn)
            # Before the end of the drawn interval, but not before the end of the one before it.
            falls_before.append(drawn > 0)
            is_drawn = [
                falls_before[0],
                *itertools.starmap(ops.not_equal, itertools.pairwise(falls_before)),
            ]

            def gradient(*arguments, upstream=None):
                (upstream,) = arguments if upstream is None else (upstream,)
                # Zeros of the same shape: TensorFlow is slow to choose between unlike shapes.
                zeros = ops.zeros_like(upstream)
                shares = [ops.where(mask, upstream, zeros) for mask in is_drawn]
                return self._from_windows(shares, x.shape)

            return drawn, gradient

        return draw(x)
