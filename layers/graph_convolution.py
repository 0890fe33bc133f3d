"""The graph convolution of Kipf & Welling, for one graph or a batch of graphs."""

import keras
from keras import ops

from layers.adjacency import propagate


@keras.saving.register_keras_serializable(package="hornbook")
class GraphConvolution(keras.layers.Layer):
    """Mixes the features of each node with those of its neighbors.

    Computes `activation(A (X W) + b)` of the adjacency A, features X, kernel W and bias b. The
    layer does not normalize the adjacency: pass that of `data.graphs.normalized_adjacency`.

    Reference:
        Kipf & Welling, Semi-Supervised Classification with Graph Convolutional Networks, 2017,
        eq. 2. https://arxiv.org/abs/1609.02907

    Args:
        units: Features of each node after the layer; at least 1.
        activation: Name of a Keras activation, a callable, or None for linear.
        use_bias: Whether there is b.
        kernel_initializer: Initializer of W.
        kernel_regularizer: Regularizer of W, or None.

    Call arguments:
        inputs: The pair `(features, adjacency)`; the adjacency is a tensor or a triple, as
            `layers.adjacency.propagate` takes it.

    Input shape:
        features `(..., nodes, channels)`, adjacency `(..., nodes, nodes)` or three of
        `(..., links)`.

    Output shape:
        `(..., nodes, units)`.

    Example:
        >>> layer = GraphConvolution(16, activation="relu")
        >>> tuple(layer((ops.ones((5, 8)), ops.eye(5))).shape)
        (5, 16)
    """

    def __init__(
        self,
        units: int,
        activation=None,
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        **kwargs,
    ):
        if not isinstance(units, int) or units < 1:
            raise ValueError(f"`units` must be a positive integer. Received: units={units!r}")
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        features_shape, _ = input_shape
        if len(features_shape) < 2 or features_shape[-1] is None:
            raise ValueError(
                "Features must have the shape (..., nodes, channels), channels known. Received: "
                f"{tuple(features_shape)}"
            )
        self.kernel = self.add_weight(
            shape=(features_shape[-1], self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            name="kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, inputs):
        features, adjacency = inputs
        # The product with the kernel comes first: the sum over neighbors then has `units` columns.
        outputs = propagate(adjacency, ops.matmul(features, self.kernel))
        if self.bias is not None:
            outputs = outputs + self.bias
        return self.activation(outputs)

    def compute_output_shape(self, input_shape):
        features_shape, _ = input_shape
        return (*features_shape[:-1], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
