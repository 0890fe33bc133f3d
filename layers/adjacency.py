"""Adjacency of graphs in three forms, and the sum over neighbors in each of them."""

from keras import ops


def propagate(adjacency, features):
    """Returns `adjacency @ features`: for each node the weighted sum over its neighbors.

    Args:
        adjacency: One of three forms with equal results, with `adjacency[i, j]` the weight of the
            link from node j to node i:

            - a dense tensor `(..., nodes, nodes)`;
            - a sparse tensor `(nodes, nodes)` of TensorFlow or JAX;
            - a triple `(senders, receivers, weights)`, `(..., links)` each. Rows with a negative
              sender or receiver are padding of any weight.
        features: `(..., nodes, channels)`; with a sparse tensor `(nodes, channels)`.

    Returns: `(..., nodes, channels)`.
    """
    if not isinstance(adjacency, (tuple, list)):
        return ops.matmul(adjacency, features)
    senders, receivers, weights = adjacency
    *leading, nodes, channels = ops.shape(features)
    is_link = ops.logical_and(senders >= 0, receivers >= 0)
    # The backends disagree about negative indices.
    senders, receivers = ops.maximum(senders, 0), ops.maximum(receivers, 0)
    weights = ops.where(is_link, ops.cast(weights, features.dtype), 0)
    rows = ops.reshape(features, (-1, channels))
    links = ops.shape(senders)[-1]
    # All graphs are one: the nodes of each follow those of the graph before.
    graphs = ops.arange(ops.shape(rows)[0] // nodes, dtype=senders.dtype)[:, None] * nodes
    senders = ops.reshape(ops.reshape(senders, (-1, links)) + graphs, (-1,))
    receivers = ops.reshape(ops.reshape(receivers, (-1, links)) + graphs, (-1,))
    messages = ops.reshape(weights, (-1, 1)) * ops.take(rows, senders, axis=0)
    sums = ops.segment_sum(messages, receivers, num_segments=ops.shape(rows)[0])
    return ops.reshape(sums, (*leading, nodes, channels))
