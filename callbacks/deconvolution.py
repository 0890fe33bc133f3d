"""The deconvolutional network: feature maps of a convolutional model back to pixels."""

import keras
import tensorflow as tf

RELUS = (keras.activations.relu, keras.activations.relu6)
# Their backward step in inference mode is linear and needs no change.
LINEAR = (
    keras.layers.Conv2D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
    keras.layers.Rescaling,
)
# By the class's name, since layers of the same name exist inside and outside Keras.
PASS_THROUGH = (
    "Activation",
    "BatchNormalization",
    "Dropout",
    "GroupNormalization",
    "LayerNormalization",
    "LocalResponseNormalization",
    "ReLU",
    "SpatialDropout2D",
)


class Deconvolution:
    """Projects features of one layer down to the input of a chain of layers.

    From the layer to the input, each layer is undone as in the paper:

    - Conv2D: the transposed convolution with the same kernel, without bias.
    - Max pooling: each value goes to where its maximum was in the forward pass (the switches).
      Where windows overlap, values that meet are added.
    - Average pooling: each value is spread evenly over its window. Padding: the margin is cut off.
    - ReLU: ReLU again, on the signal on its way down. Other activations pass it on unchanged.
    - Batch, group, layer and local response normalisation pass the signal on unchanged: a
      division by running or local statistics scales a pattern, it does not move it.
    - Rescaling, which networks with ImageNet weights begin with: times its scale.

    All the linear steps are the layers' vector-Jacobian products, so without ReLU the
    projection of an activation a is `a da/dpixels`.

    Reference:
        Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, 2014, section 2.1.
        https://arxiv.org/abs/1311.2901

    Args:
        model: A functional or sequential model, channels last.
        layer_name: The layer whose features are projected; its output is a feature map, and every
            layer from the input to it has one input and is of a kind named above.
    """

    def __init__(self, model: keras.Model, layer_name: str):
        self.chain = _chain(model, layer_name)
        for layer in self.chain:
            _require_known(layer)
        if len(self.chain[-1].output.shape) != 4:
            raise ValueError(
                f"`layer_name` must name a layer with feature maps (batch, height, width, "
                f"channels). Received: {layer_name!r} with {self.chain[-1].output.shape}"
            )

    def activations(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the layer's features `(batch, rows, columns, channels)`, float32."""
        return self._forward(images)[-1]

    def project(self, images: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
        """Projects features, with all that is not of interest set to 0, down to the pixels.

        Args:
            images: `(batch, height, width, channels)`; they decide the switches.
            features: `(batch, rows, columns, channels)`, what is left of `activations(images)`.

        Returns:
            `(batch, height, width, channels)`, float32, of either sign.
        """
        inputs = self._forward(images)[:-1]
        signal = tf.cast(features, tf.float32)
        for layer, layer_inputs in zip(reversed(self.chain), reversed(inputs), strict=True):
            signal = _step_down(layer, layer_inputs, signal)
        return signal

    def _forward(self, images):
        values = [tf.cast(images, tf.float32)]
        for layer in self.chain:
            values.append(tf.cast(layer(values[-1], training=False), tf.float32))
        return values


def _chain(model, layer_name):
    """The layers from the first after the input to the named one, by their connections."""
    names = [layer.name for layer in model.layers]
    if layer_name not in names:
        raise ValueError(f"`layer_name` must be one of {names}. Received: {layer_name!r}")
    makers = {id(layer.output): layer for layer in model.layers if not _is_merged(layer.output)}
    chain = [model.get_layer(layer_name)]
    while not any(chain[0].input is start for start in model.inputs):
        if _is_merged(chain[0].input) or id(chain[0].input) not in makers:
            raise ValueError(
                f"Every layer from the input to {layer_name!r} must have one input. "
                f"Received: layer {chain[0].name!r} ({type(chain[0]).__name__})"
            )
        chain.insert(0, makers[id(chain[0].input)])
    return chain


def _is_merged(tensors):
    return isinstance(tensors, list | tuple | dict)


def _require_known(layer):
    if not isinstance(layer, LINEAR) and type(layer).__name__ not in PASS_THROUGH:
        known = ", ".join(sorted({kind.__name__ for kind in LINEAR} | set(PASS_THROUGH)))
        raise ValueError(
            f"Deconvolution knows these layers: {known}. "
            f"Received: layer {layer.name!r} ({type(layer).__name__})"
        )
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise ValueError(
            f"Deconvolution needs data_format 'channels_last'. Received: layer {layer.name!r} "
            f"with {layer.data_format!r}"
        )


def _step_down(layer, layer_inputs, signal):
    if isinstance(layer, keras.layers.ReLU) or getattr(layer, "activation", None) in RELUS:
        signal = tf.nn.relu(signal)
    if not isinstance(layer, LINEAR):
        return signal
    with tf.GradientTape() as tape:
        tape.watch(layer_inputs)
        if isinstance(layer, keras.layers.Conv2D):
            outputs = layer.convolution_op(layer_inputs, tf.cast(layer.kernel, tf.float32))
        else:
            outputs = layer(layer_inputs)
    return tape.gradient(outputs, layer_inputs, output_gradients=tf.cast(signal, outputs.dtype))
