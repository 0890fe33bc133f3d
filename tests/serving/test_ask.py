"""A trained model is queried with examples of several sizes, and progress may be shown."""

from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from serving.signature import Signature, ask


def lengths(dtype: tf.DType) -> Signature:
    """Counts what is no padding; the network adds nothing."""
    return Signature(
        inputs={"rows": tf.TensorSpec((None, None), dtype)},
        preprocess=lambda rows: tf.cast(rows != tf.zeros((), dtype), tf.float32),
        postprocess=lambda real: {"flat": real[real > 0], "width": tf.ones_like(real)},
        meanings=dict.fromkeys(("rows", "flat", "width"), "numbers"),
    )


def identity() -> keras.Model:
    rows = keras.Input((None,))
    return keras.Model(rows, keras.layers.Activation("linear")(rows))


def test_examples_of_different_sizes_are_padded_in_each_query():
    words = [np.array([b"a", b"b\0"], object), [b"c"], np.array([], object), ["d", "e", "f"]]
    for rows, dtype in ((words, tf.string), ([[1, 2], [3], [], [4, 5, 6]], tf.int32)):
        answer = ask(lengths(dtype), identity(), {"rows": rows}, batch_size=2)
        # What is not a row an example is put one behind the other, without padding.
        assert answer["flat"].tolist() == [1.0] * 6
        assert answer["width"].sum(axis=1).tolist() == [2, 2, 3, 3]


def test_queries_can_be_watched():
    seen = []

    def watch(queries):
        for query in queries:
            yield query
            seen.append((query.start, len(query)))

    rows = np.ones((5, 2), "float32")
    ask(lengths(tf.float32), identity(), {"rows": rows}, 2, watch)
    assert seen == [(0, 2), (2, 2), (4, 1)]


def test_a_signature_is_traced_once_for_each_network():
    traced = []

    def preprocess(rows):
        traced.append(rows)
        return rows

    signature = replace(lengths(tf.float32), preprocess=preprocess)
    doubling = keras.Sequential([keras.Input((None,)), keras.layers.Rescaling(2.0)])
    for network, factor in ((identity(), 1), (doubling, 2)):
        for rows in (np.full((5, 2), factor, "float32"), np.ones((1, 3), "float32")):
            answer = ask(signature, network, {"rows": rows}, batch_size=2)
            assert answer["flat"].tolist() == (factor * rows[rows > 0]).tolist()
    assert len(traced) == 2
