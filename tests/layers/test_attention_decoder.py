import keras
import numpy as np
import pytest
from keras import ops

from layers import AttentionDecoder
from tests.layers.check import assert_close, check_layer, normal


@pytest.mark.parametrize(("cell", "states"), [("gru", 1), ("lstm", 2)])
def test_layer_does_what_every_layer_does(cell, states):
    shapes = [(3, 4, 6), (3, 5, 2), *states * [(3, 7)]]
    check_layer(AttentionDecoder, {"units": 7, "cell": cell}, shapes, (3, 4, 9), weights=6)


def test_each_step_is_that_of_the_paper():
    tokens, source, state = normal(2, 3, 4), normal(2, 5, 6, seed=1), normal(2, 8, seed=2)
    layer = AttentionDecoder(8)
    found = ops.convert_to_numpy(layer((tokens, source, state)))
    query, key = (ops.convert_to_numpy(one.kernel) for one in (layer.query, layer.key))
    scale = ops.convert_to_numpy(layer.attention.scale)
    cell = keras.layers.GRUCell(8)
    cell.build((2, 10))
    cell.set_weights(layer.recurrence.get_weights())
    for step in range(3):
        hidden = np.tanh((state @ query)[:, None] + source @ key)
        scores = np.exp(hidden @ scale)
        mean = np.einsum("bj,bjc->bc", scores / scores.sum(1, keepdims=True), source)
        state = ops.convert_to_numpy(cell(np.concatenate([tokens[:, step], mean], 1), [state])[0])
        assert_close(found[:, step], np.concatenate([state, mean], 1), atol=1e-5)


def test_padding_of_the_source_has_no_influence():
    tokens, source, state = normal(2, 3, 4), normal(2, 5, 6, seed=1), normal(2, 8, seed=2)
    layer = AttentionDecoder(8)
    mask = np.arange(5) < [[2], [5]]
    masked = ops.convert_to_numpy(layer((tokens, source, state), mask=mask))
    assert_close(masked[:1], layer((tokens[:1], source[:1, :2], state[:1])), atol=1e-5)
    assert_close(masked[1:], layer((tokens[1:], source[1:], state[1:])), atol=1e-5)


@pytest.mark.filterwarnings("ignore:[\\s\\S]*using a softmax over axis")
def test_a_source_of_one_token_is_its_own_mean():
    source = normal(2, 1, 6)
    found = AttentionDecoder(8)((normal(2, 3, 4), source, normal(2, 8)))
    assert_close(found[:, :, 8:], np.repeat(source, 3, axis=1))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`units` must be a positive integer"):
        AttentionDecoder(0)
    with pytest.raises(ValueError, match="`cell` must be one of gru, lstm"):
        AttentionDecoder(8, "rnn")
    with pytest.raises(ValueError, match="`inputs` must have two states for cell='lstm'"):
        AttentionDecoder(8, "lstm")((normal(2, 3, 4), normal(2, 5, 6), normal(2, 8)))
