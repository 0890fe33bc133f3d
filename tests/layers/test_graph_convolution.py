import keras
import numpy as np
import pytest
from keras import ops

from layers import GraphConvolution
from layers.adjacency import propagate
from tests.layers.check import BACKEND, assert_close, check_layer, normal


def adjacency(nodes: int = 6, seed: int = 0) -> np.ndarray:
    """About half of the pairs are linked, in both directions with different weights."""
    random = np.random.default_rng(seed)
    weights = random.random((nodes, nodes)) * (random.random((nodes, nodes)) < 0.5)
    return weights.astype("float32")


def triple(dense: np.ndarray, padding: int = 0) -> tuple[np.ndarray, ...]:
    receivers, senders = dense.nonzero()
    empty = np.full(padding, -1, "int32")
    return (
        np.concatenate([senders.astype("int32"), empty]),
        np.concatenate([receivers.astype("int32"), empty]),
        np.concatenate([dense[receivers, senders], np.full(padding, 7, "float32")]),
    )


def test_layer_does_what_every_layer_does():
    inputs = [normal(6, 3), adjacency()]
    config = {"units": 4, "kernel_regularizer": keras.regularizers.L2(0.1)}
    check_layer(GraphConvolution, config, None, (6, 4), inputs=inputs, weights=2)


def test_layer_of_a_triple_answers_as_that_of_a_dense_adjacency():
    features, dense = normal(2, 6, 3), adjacency()
    layer = GraphConvolution(4, activation="relu", use_bias=False)
    wanted = layer((features, np.stack([dense] * 2)))
    triples = tuple(np.stack([part] * 2) for part in triple(dense, 2))
    assert_close(layer((features, triples)), wanted, rtol=1e-5)
    assert len(layer.trainable_weights) == 1


def test_output_is_that_of_the_formula():
    features, dense = normal(6, 3), adjacency()
    layer = GraphConvolution(2, activation="relu")
    found = layer((features, dense))
    kernel, bias = layer.get_weights()
    assert_close(found, np.maximum(dense @ features @ kernel + bias, 0), rtol=1e-5)


def test_dense_sparse_and_triple_agree():
    features, dense = normal(6, 3), adjacency()
    wanted = dense @ features
    assert_close(propagate(dense, features), wanted, rtol=1e-5)
    assert_close(propagate(triple(dense, 3), ops.convert_to_tensor(features)), wanted, rtol=1e-5)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        assert_close(propagate(tf.sparse.from_dense(dense), features), wanted, rtol=1e-5)


def test_graphs_of_a_batch_do_not_see_each_other():
    features, graphs = normal(2, 6, 3), [adjacency(seed=0), adjacency(seed=1)]
    most = max(np.count_nonzero(dense) for dense in graphs)
    triples = [triple(dense, most - np.count_nonzero(dense)) for dense in graphs]
    batch = tuple(np.stack(parts) for parts in zip(*triples, strict=True))
    found = propagate(batch, ops.convert_to_tensor(features))
    assert_close(found, np.stack(graphs) @ features, rtol=1e-5)


def test_permuted_nodes_have_permuted_outputs():
    features, dense, order = normal(6, 3), adjacency(), [3, 0, 5, 1, 4, 2]
    layer = GraphConvolution(4)
    permuted = layer((features[order], dense[order][:, order]))
    assert_close(permuted, ops.convert_to_numpy(layer((features, dense)))[order], rtol=1e-5)


@pytest.mark.parametrize("units", [0, 2.0])
def test_bad_units_are_refused(units):
    with pytest.raises(ValueError, match="`units` must be a positive integer"):
        GraphConvolution(units)
