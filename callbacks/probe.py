"""Numbers about the outputs of chosen layers on a fixed batch of inputs."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

# Whose last step is their `activation`.
ENDS_IN_ACTIVATION = (
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)


def find_layers(
    model: keras.Model, names: Sequence[str] | None, wanted: Callable[[keras.layers.Layer], bool]
) -> list[keras.layers.Layer]:
    """Returns the layers of these names or, where `names` is None, all that are `wanted`.

    Looks at the model's own layers, not into models nested in it.
    """
    if names is None:
        return [layer for layer in model.layers if wanted(layer)]
    by_name = {layer.name: layer for layer in model.layers}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ValueError(
            f"`layers` must be names of the model's layers, {sorted(by_name)}. Received: {unknown}"
        )
    return [by_name[name] for name in names]


def has_activation(layer: keras.layers.Layer, activations: Sequence[Callable]) -> bool:
    """Whether the layer's output is one of these activation functions of something.

    Dense layers, convolutions and `Activation` count, wrapped or not; recurrent layers and those
    of Transformers do not: their `activation` is not the last thing they apply.
    """
    while isinstance(layer, keras.layers.Wrapper) and not isinstance(
        layer, keras.layers.Bidirectional
    ):
        layer = layer.layer
    return isinstance(layer, ENDS_IN_ACTIVATION) and layer.activation in activations


class Probe:
    """Computes one number per layer from the layers' outputs on one batch, in inference mode.

    The numbers are reduced inside one graph, so that no activation leaves the device.

    Args:
        model: A functional or built sequential model.
        layers: Layers of this model. If a layer is called several times, its first output counts.
        inputs: The batch, as the model takes it.
        statistic: From a layer and its output to a scalar tensor.
    """

    def __init__(
        self,
        model: keras.Model,
        layers: Sequence[keras.layers.Layer],
        inputs,
        statistic: Callable[[keras.layers.Layer, tf.Tensor], tf.Tensor],
    ):
        if not isinstance(model, keras.models.Model) or not getattr(model, "inputs", None):
            raise ValueError(f"`model` must be a functional model. Received: {type(model)}")
        self.names = [layer.name for layer in layers]
        outputs = keras.Model(model.inputs, [layer.output for layer in layers])
        inputs = keras.tree.map_structure(tf.convert_to_tensor, inputs)

        @tf.function
        def measure():
            values = keras.tree.flatten(outputs(inputs, training=False))
            return [statistic(layer, value) for layer, value in zip(layers, values, strict=True)]

        self._measure = measure

    def measure(self) -> dict[str, float]:
        """Returns each layer's number with the current weights."""
        numbers = [float(number) for number in self._measure()]
        return dict(zip(self.names, numbers, strict=True))
