"""Networks that classify the nodes of a graph."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from layers import GraphConvolution

NAMES = ("gcn", "mlp")
PENALTY = 5e-4
"""Factor of `sum(w^2) / 2` of the first layer's kernel in the loss: Kipf & Welling, section 5.2."""


def graph_network(
    name: str,
    num_classes: int,
    *,
    layers: int = 2,
    units: int = 16,
    dropout: float = 0.5,
) -> keras.Model:
    """Builds a graph convolutional network, or with `mlp` the same without links.

    Each layer mixes the features of a node with those of its neighbors; there is dropout before
    each layer and a ReLU between them. The kernel of the first layer has a penalty in the loss.

    Reference:
        Kipf & Welling, Semi-Supervised Classification with Graph Convolutional Networks, 2017,
        section 3.1. https://arxiv.org/abs/1609.02907

    Args:
        name: One of `NAMES`.
        num_classes: Number of classes.
        layers: Number of layers; at least 1.
        units: Features of a node after each layer but the last.
        dropout: Share of the features that is dropped, in [0, 1).

    Returns:
        A model from `[features (nodes, channels), adjacency]`, the adjacency a sparse tensor or a
        triple as in `layers.adjacency.propagate`, to logits `(nodes, num_classes)`.
    """
    if name not in NAMES:
        raise ValueError(f"`name` must be one of {', '.join(NAMES)}. Received: name={name!r}")
    return GraphNetwork(
        has_links=name != "mlp",
        widths=[*[units] * (layers - 1), num_classes],
        dropout=dropout,
        name=name,
    )


@keras.saving.register_keras_serializable("hornbook")
class GraphNetwork(keras.Model):
    """Layers over the nodes of one graph or of a batch of graphs, as `graph_network` says.

    Args:
        widths: Features of a node after each layer, the last the number of classes.
        has_links: Whether neighbors are mixed; otherwise each node is classified on its own.
        dropout: Share of the features that is dropped before each layer, in [0, 1).
        name: Name of the network.
    """

    def __init__(
        self,
        widths: Sequence[int],
        has_links: bool = True,
        dropout: float = 0.5,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.widths, self.has_links, self.dropout = list(widths), has_links, dropout
        self.drop = keras.layers.Dropout(dropout)
        self.mixed = []
        for number, width in enumerate(widths):
            options: dict[str, Any] = {
                "units": width,
                "activation": "relu" if number < len(widths) - 1 else None,
                "use_bias": False,
                # Keras' L2 has no factor of 1/2.
                "kernel_regularizer": keras.regularizers.L2(PENALTY / 2) if not number else None,
                "name": f"layer{number + 1}",
            }
            layer = GraphConvolution if has_links else keras.layers.Dense
            self.mixed.append(layer(**options))

    def call(self, inputs, training=False):
        x, adjacency = inputs
        for layer in self.mixed:
            x = self.drop(x, training=training)
            x = layer((x, adjacency)) if self.has_links else layer(x)
        return x

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "widths": self.widths,
            "has_links": self.has_links,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable("hornbook")
class NodeClassifier(keras.Model):
    """A network together with the graph that it classifies the nodes of.

    It computes the logits of all nodes in each call and returns those of the given nodes.

    Args:
        network: From `graph_network`.
        nodes: Number of nodes of the graph.
        channels: Features of a node.
        links: Number of links of the adjacency.

    Returns:
        From numbers of nodes `(batch,)` int32 to logits `(batch, num_classes)`.
    """

    def __init__(
        self, network: keras.Model, nodes: int, channels: int, links: int, name: str | None = None
    ):
        super().__init__(name=name or network.name)
        self.network = network
        self.nodes, self.channels, self.links = nodes, channels, links
        self.features = self._constant("features", (nodes, channels), "float32")
        self.senders = self._constant("senders", (links,), "int32")
        self.receivers = self._constant("receivers", (links,), "int32")
        self.link_weights = self._constant("link_weights", (links,), "float32")
        self.network((self.features.value, self._adjacency()))
        self.built = True

    def _constant(self, name: str, shape: tuple[int, ...], dtype: str):
        return self.add_weight(
            shape=shape, dtype=dtype, initializer="zeros", trainable=False, name=name
        )

    def learn_about(
        self, features: np.ndarray, adjacency: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> "NodeClassifier":
        """Takes a graph: its features, and senders, receivers and weights of its adjacency."""
        for weight, values in zip(
            (self.features, self.senders, self.receivers, self.link_weights),
            (features, *adjacency),
            strict=True,
        ):
            weight.assign(values)
        return self

    def call(self, indices, training=False):
        logits = self.network((self.features, self._adjacency()), training=training)
        return keras.ops.take(logits, indices, axis=0)

    def _adjacency(self):
        """Returns the sparse matrix, whose product is faster than sums over links, on CPUs."""
        ends = tf.stack([self.receivers.value, self.senders.value], axis=1)
        shape = (self.nodes, self.nodes)
        weights = tf.cast(self.link_weights.value, self.compute_dtype)
        return tf.SparseTensor(tf.cast(ends, tf.int64), weights, shape)

    def count_params(self) -> int:
        """Counts the weights of the network; the graph has none that are learned."""
        return self.network.count_params()

    def get_config(self) -> dict[str, Any]:
        network = keras.saving.serialize_keras_object(self.network)
        numbers = {"nodes": self.nodes, "channels": self.channels, "links": self.links}
        return {"name": self.name, "network": network, **numbers}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        network = keras.saving.deserialize_keras_object(config["network"], custom_objects)
        return cls(**{**config, "network": network})


def of_graph(
    network: keras.Model,
    features: np.ndarray,
    adjacency: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> NodeClassifier:
    """Puts a network on a graph.

    Args:
        network: From `graph_network`.
        features: float32 `(nodes, channels)`.
        adjacency: Senders, receivers and weights, `(links,)` each, sorted by receiver and sender.
    """
    nodes, channels = features.shape
    made = NodeClassifier(network, nodes, channels, len(adjacency[0]))
    return made.learn_about(features, adjacency)
