import keras
import numpy as np
import pytest
from keras import ops

from layers import AttentionPooling
from tests.layers.check import assert_close, check_layer, normal


def built(units, shape, **kwargs):
    layer = AttentionPooling(units, **kwargs)
    layer.build(shape)
    layer.set_weights([normal(*weight.shape, seed=5) for weight in layer.weights])
    return layer


def test_layer_does_what_every_layer_does():
    check_layer(AttentionPooling, {"units": 5}, (3, 4, 6), (3, 6), weights=3)


def test_one_value_by_hand():
    # Scores tanh(0) = 0 and 2 * tanh(1) = 1.5232, so weights 0.1790 and 0.8210.
    layer = AttentionPooling(1)
    layer.build((1, 2, 1))
    layer.set_weights([np.ones((1, 1)), np.array([-1.0]), np.array([[2.0]])])
    pooled, weights = layer(np.array([[[1.0], [2.0]]], "float32"), return_attention_scores=True)
    assert_close(weights, [[0.1790, 0.8210]], atol=1e-4)
    assert_close(pooled, [[1.8210]], atol=1e-4)


def test_equals_softmax_written_out_over_the_steps_that_count():
    x, mask = normal(3, 5, 6), np.arange(5) < np.array([[5], [2], [1]])
    layer = built(4, x.shape)
    kernel, bias, query = layer.get_weights()
    scores = np.exp(np.tanh(x @ kernel + bias) @ query)[..., 0] * mask
    weights = scores / scores.sum(-1, keepdims=True)
    pooled, found = layer(x, mask=ops.convert_to_tensor(mask), return_attention_scores=True)
    assert_close(found, weights, atol=1e-6)
    assert_close(pooled, np.einsum("bt,btc->bc", weights, x), atol=1e-5)
    assert_close(pooled[2], x[2, 0], atol=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "int32"])
def test_a_row_that_is_all_masked_gives_zeros(dtype):
    x, mask = normal(2, 3, 4), np.array([[0, 0, 0], [1, 1, 0]], dtype)
    pooled, weights = built(4, x.shape)(
        x, mask=ops.convert_to_tensor(mask), return_attention_scores=True
    )
    assert_close(pooled[0], np.zeros(4))
    assert_close(weights[0], np.zeros(3))
    assert_close(ops.sum(weights[1]), 1.0, atol=1e-6)


def test_the_mask_of_an_embedding_reaches_it_and_ends_there():
    ids = np.array([[3, 4, 0, 0]])
    embedding = keras.layers.Embedding(5, 6, mask_zero=True)
    layer = built(4, (1, 4, 6))
    assert_close(layer(embedding(ids)), layer(embedding(ids[:, :2])), atol=1e-6)
    assert layer.compute_mask(None, ids > 0) is None


def test_a_step_alone_has_the_weight_one():
    x = normal(2, 1, 4)
    pooled, weights = built(4, x.shape)(x, return_attention_scores=True)
    assert_close(weights, np.ones((2, 1)))
    assert_close(pooled, x[:, 0])


def test_weights_are_float32_under_mixed_precision():
    # 1000 equal weights in bfloat16 would sum to 0.9995 at best, and their sum stick at 0.5.
    layer = AttentionPooling(2, dtype="mixed_bfloat16")
    pooled, weights = layer(np.ones((1, 1000, 3), "float32"), return_attention_scores=True)
    assert keras.backend.standardize_dtype(weights.dtype) == "float32"
    assert keras.backend.standardize_dtype(pooled.dtype) == "bfloat16"
    assert_close(ops.sum(weights), 1.0, atol=1e-5)
    assert_close(pooled, np.ones((1, 3)))


def test_symbolic_shapes_are_those_of_the_answer():
    steps = keras.Input((None, 6))
    pooled, weights = AttentionPooling(2)(steps, return_attention_scores=True)
    assert pooled.shape == (None, 6) and weights.shape == (None, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttentionPooling(0), "`units` must be a positive integer"),
        (lambda: AttentionPooling(1).build((2, 3)), "must have the shape"),
    ],
    ids=["units", "shape"],
)
def test_wrong_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()
