"""The head of a reward model: one number for the answer at the end of a row."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="hornbook")
class RewardHead(keras.layers.Layer):
    """Rates a row of tokens by the features of its last token that is not padding.

    Computes `gain * (features . kernel) + bias`. The kernel begins with the standard deviation
    `1 / sqrt(channels + 1)`. Training moves only the kernel: `calibrate` sets the gain, which
    begins as 1, and the bias, which begins as 0. The reward of a row that is only padding is the
    bias.

    Reference:
        Stiennon et al., Learning to Summarize from Human Feedback, 2020, appendix B.1.
        https://arxiv.org/abs/2009.01325
        Ziegler et al., Fine-Tuning Language Models from Human Preferences, 2019, section 2.1, for
        the mean of 0 and the deviation of 1. https://arxiv.org/abs/1909.08593

    Call arguments:
        inputs: The features.
        mask: `(batch, tokens)`, 0 or False in padding, on either side. None: there is no padding.

    Input shape:
        `(batch, tokens, channels)`.

    Output shape:
        `(batch,)`, float32.

    Example:
        >>> tuple(RewardHead()(ops.ones((2, 5, 3))).shape)
        (2,)
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def build(self, input_shape):
        if len(input_shape) != 3:
            raise ValueError(
                "The input must have the shape (batch, tokens, channels). "
                f"Received: input_shape={tuple(input_shape)}"
            )
        channels = input_shape[-1]
        # One number in 16 bits would be too coarse to compare answers.
        self.kernel = self.add_weight(
            shape=(channels,),
            initializer=keras.initializers.RandomNormal(stddev=(channels + 1) ** -0.5),
            autocast=False,
            name="kernel",
        )
        self.gain = self.add_weight(
            shape=(), initializer="ones", trainable=False, autocast=False, name="gain"
        )
        self.bias = self.add_weight(
            shape=(), initializer="zeros", trainable=False, autocast=False, name="bias"
        )

    def call(self, inputs, mask=None):
        if mask is None:
            mask = ops.ones_like(inputs[..., 0])
        positions = ops.arange(ops.shape(inputs)[1])
        real = ops.where(ops.cast(mask, "bool"), positions, -1)  # (batch, tokens)
        is_last = ops.equal(positions, ops.max(real, axis=1, keepdims=True))
        is_last = ops.logical_and(is_last, ops.cast(mask, "bool"))
        last = ops.sum(ops.where(is_last[..., None], inputs, 0), axis=1)  # (batch, channels)
        score = ops.sum(ops.cast(last, "float32") * self.kernel, axis=-1)
        return self.gain * score + self.bias

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0],)

    def compute_output_spec(self, inputs, mask=None):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), "float32")

    def calibrate(self, mean: Any, deviation: Any = 1.0) -> None:
        """Sets gain and bias: rewards with this mean and deviation get the mean 0 and deviation 1.

        `calibrate(head.bias, head.gain)` undoes all calibrations.

        Args:
            mean: Mean of rewards as the head returns them now.
            deviation: Their standard deviation, above 0. 1 leaves the gain unchanged.
        """
        if deviation <= 0:
            raise ValueError(f"`deviation` must be above 0. Received: deviation={deviation}")
        gain, bias = self.gain / deviation, (self.bias - mean) / deviation
        self.gain.assign(gain)
        self.bias.assign(bias)
