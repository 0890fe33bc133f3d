"""Watches for sigmoid and tanh units stuck in their tails."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from callbacks.probe import Probe, find_layers, has_activation

SIGMOID = (keras.activations.sigmoid,)
TANH = (keras.activations.tanh,)


class Saturation(keras.callbacks.Callback):
    """Logs, per layer, the fraction of sigmoid or tanh outputs in the tails.

    Counts every output on every example of a probe batch. At the tails the slope, and with it the
    gradient, is near 0: at the default thresholds a sigmoid's is below 0.0475 (its largest is
    0.25), tanh's below 0.0975 (its largest is 1). Written at the end of each epoch as
    `logs["saturation/<layer>"]`, in [0, 1].

    Reference:
        Glorot & Bengio, Understanding the Difficulty of Training Deep Feedforward Neural Networks,
        2010, section 3. https://proceedings.mlr.press/v9/glorot10a.html

    Args:
        inputs: The probe batch, as the model takes it.
        layers: Names of layers with sigmoid or tanh to watch; None finds all of a functional model.
        sigmoid_tails: Outputs of a sigmoid below the first or above the second are saturated;
            both in [0, 1].
        tanh_tails: The same for tanh; both in [-1, 1].
    """

    def __init__(
        self,
        inputs,
        layers: Sequence[str] | None = None,
        *,
        sigmoid_tails: tuple[float, float] = (0.05, 0.95),
        tanh_tails: tuple[float, float] = (-0.95, 0.95),
    ):
        super().__init__()
        for name, (low, high), lowest in (
            ("sigmoid_tails", sigmoid_tails, 0.0),
            ("tanh_tails", tanh_tails, -1.0),
        ):
            if not lowest <= low < high <= 1.0:
                raise ValueError(
                    f"`{name}` must be two rising numbers in [{lowest:g}, 1]. "
                    f"Received: {name}={(low, high)}"
                )
        self.inputs = inputs
        self.layers = layers
        self.sigmoid_tails = sigmoid_tails
        self.tanh_tails = tanh_tails

    def on_train_begin(self, logs=None):
        layers = find_layers(self.model, self.layers, is_saturating)
        unfit = [layer.name for layer in layers if not is_saturating(layer)]
        if unfit or not layers:
            raise ValueError(
                f"`layers` must name layers whose output is a sigmoid or tanh. "
                f"Received: {unfit or self.layers} of model {self.model.name!r}"
            )
        self._probe = Probe(self.model, layers, self.inputs, self._share_at_tails)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            shares = self._probe.measure()
            logs.update({f"saturation/{name}": share for name, share in shares.items()})

    def _share_at_tails(self, layer, outputs):
        low, high = self.sigmoid_tails if has_activation(layer, SIGMOID) else self.tanh_tails
        outputs = tf.cast(outputs, tf.float32)
        return tf.reduce_mean(tf.cast((outputs < low) | (outputs > high), tf.float32))


def is_saturating(layer: keras.layers.Layer) -> bool:
    """Whether the layer's output is a sigmoid or tanh of something."""
    return has_activation(layer, (*SIGMOID, *TANH))
