"""Pooling by drawing one pixel of each window."""

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
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        places = [ops.relu(place) for place in self.windows(inputs)]
        if training:
            return self._draw(places)
        # Squares overflow in float16 beyond 255.
        wide = [ops.cast(place, "float32") for place in places]
        total = sum(wide)
        squares = sum(place * place for place in wide)
        return ops.cast(squares / ops.where(total > 0, total, 1.0), inputs.dtype)

    def _draw(self, places):
        # A uniform number in [0, total) falls into one of the intervals that the activations,
        # put end to end, make of it: one number a window, however large the window is.
        ends = [ops.cast(ops.stop_gradient(places[0]), "float32")]
        for place in places[1:]:
            ends.append(ends[-1] + ops.cast(ops.stop_gradient(place), "float32"))
        uniform = keras.random.uniform(ops.shape(ends[0]), dtype="float32", seed=self.generator)
        point = uniform * ends[-1]
        # From the last place to the first, so that the first interval that holds the point wins.
        drawn = places[-1]
        for place, end in zip(places[-2::-1], ends[-2::-1], strict=True):
            drawn = ops.where(point < end, place, drawn)
        return drawn

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}
