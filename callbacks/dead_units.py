"""Watches for ReLU units that never fire."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from callbacks.probe import Probe, find_layers, has_activation

RELUS = (keras.activations.relu, keras.activations.relu6)


class DeadUnits(keras.callbacks.Callback):
    """Logs, per layer, the fraction of ReLU units that fire on no example of a probe batch.

    A unit fires where its output is above 0. A channel of a feature map is one unit: it is alive
    if it fires anywhere on any example. A dead unit gets no gradient, so it seldom comes back.
    Written at the end of each epoch as `logs["dead_units/<layer>"]`, in [0, 1].

    Without names it takes every layer of a functional model that ends in ReLU or ReLU6, as its
    `activation` or as a ReLU layer without negative slope.

    Args:
        inputs: The probe batch, as the model takes it; a few hundred examples make a fair probe.
        layers: Names of layers to watch, of any kind; None finds the ReLUs.
    """

    def __init__(self, inputs, layers: Sequence[str] | None = None):
        super().__init__()
        self.inputs = inputs
        self.layers = layers

    def on_train_begin(self, logs=None):
        layers = find_layers(self.model, self.layers, is_relu)
        if not layers:
            raise ValueError(
                f"`model` must have a ReLU layer, or `layers` must name what to watch. "
                f"Received: model={self.model.name!r}"
            )
        self._probe = Probe(self.model, layers, self.inputs, dead_share)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            shares = self._probe.measure()
            logs.update({f"dead_units/{name}": share for name, share in shares.items()})


def is_relu(layer: keras.layers.Layer) -> bool:
    """Whether the layer's output is a ReLU, which is 0 for every negative input."""
    if isinstance(layer, keras.layers.ReLU):
        return float(layer.negative_slope) == 0.0
    return has_activation(layer, RELUS)


def dead_share(layer: keras.layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
    """Fraction of the layer's units (channels) whose output is above 0 nowhere in the batch."""
    unit_axis = _unit_axis(layer, outputs.shape.rank)
    other_axes = [axis for axis in range(outputs.shape.rank) if axis != unit_axis]
    fires = tf.reduce_any(outputs > 0, axis=other_axes)  # (units,)
    return 1.0 - tf.reduce_mean(tf.cast(fires, tf.float32))


def _unit_axis(layer, rank):
    # Activation layers do not say where their channels are: feature maps follow the default.
    default = keras.config.image_data_format() if rank > 3 else "channels_last"
    return 1 if getattr(layer, "data_format", default) == "channels_first" else rank - 1
