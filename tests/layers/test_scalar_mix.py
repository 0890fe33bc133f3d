import keras
import numpy as np
import pytest
from keras import ops

from layers import ScalarMix
from tests.layers.check import assert_close, check_layer, normal


@pytest.mark.parametrize("layer_normalization", [False, True], ids=["plain", "normalized"])
def test_layer_does_what_every_layer_does(layer_normalization):
    config = {"layer_normalization": layer_normalization}
    # The seed of the check is one for all inputs: those of three axes differ all the same.
    check_layer(ScalarMix, config, [(2, 4, 6)] * 3, (2, 4, 6), weights=2)


def test_begins_with_the_mean():
    layers = [normal(2, 3, 4, seed=seed) for seed in range(3)]
    assert_close(ScalarMix()(layers), np.mean(layers, axis=0), atol=1e-6)


def test_one_value_by_hand():
    # Weights softmax(log 1, log 3) = 1/4, 3/4; 2 * (8/4 + 3 * 4/4) = 10.
    layer = ScalarMix()
    layer.build([(1, 1), (1, 1)])
    layer.w.assign(np.log([1.0, 3.0]))
    layer.gamma.assign(2.0)
    assert_close(layer([np.float32([[8]]), np.float32([[4]])]), [[10]], atol=1e-5)


def test_normalized_layers_have_mean_zero_and_variance_one():
    x = normal(2, 3, 64)
    mixed = ops.convert_to_numpy(ScalarMix(layer_normalization=True)([100 * x + 7, x]))
    wanted = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    assert_close(mixed, wanted, atol=1e-4)


def test_one_layer_is_itself():
    x = normal(2, 3)
    assert_close(ScalarMix()([x]), x)


def test_the_regularizer_draws_to_the_mean():
    layer = ScalarMix(regularizer=keras.regularizers.L2(0.1))
    layer.build([(1, 2), (1, 2)])
    layer.w.assign([1.0, -3.0])
    assert_close(sum(layer.losses), 0.1 * 10, rtol=1e-6)


def test_bfloat16_does_not_round_the_shares():
    layers = [np.ones((1, 2), "float32")] * 11
    assert_close(ScalarMix(dtype="mixed_bfloat16")(layers), np.ones((1, 2)))
    # Of 100.2 and 1.0035 bfloat16 would make 100 and 1.
    layer = ScalarMix(dtype="mixed_bfloat16")
    layer.build([(1, 1), (1, 1)])
    layer.w.assign([100.2, 100.0])
    assert_close(layer([np.float32([[1]]), np.float32([[2]])]), [[2 - 0.5498]], atol=4e-3)
    layer.gamma.assign(1.0035)
    assert_close(layer([np.float32([[1.296875]])] * 2), [[1.3046875]])


@pytest.mark.parametrize(
    "shapes", [(2, 3), [(2, 3), (2, 4)]], ids=["one tensor", "different shapes"]
)
def test_wrong_inputs(shapes):
    with pytest.raises(ValueError, match="must be a list of outputs of the same shape"):
        ScalarMix().build(shapes)
