import keras
import numpy as np
import pytest
from keras import ops

from layers import RewardHead
from tests.layers.check import assert_close, check_layer, normal


def built(features: np.ndarray) -> RewardHead:
    layer = RewardHead()
    layer.build(features.shape)
    return layer


def test_it_does_what_all_layers_do():
    check_layer(RewardHead, {}, (3, 5, 4), (3,), weights=1, output_dtype="float32")


def test_the_kernel_begins_with_the_deviation_of_the_paper():
    kernel = ops.convert_to_numpy(built(normal(1, 1, 4095)).kernel)
    assert np.std(kernel) == pytest.approx(1 / 64, rel=0.05)


def test_the_last_token_that_is_no_padding_is_read():
    layer = RewardHead()
    features = np.arange(12, dtype="float32").reshape(2, 3, 2)
    layer.build(features.shape)
    layer.kernel.assign([1.0, 10.0])
    # Tokens: (0, 1), (2, 3), (4, 5) and (6, 7), (8, 9), (10, 11).
    assert_close(layer(features), [4 + 50, 10 + 110])
    assert_close(layer(features, mask=np.array([[1, 1, 0], [1, 0, 0]])), [2 + 30, 6 + 70])


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_padding_on_either_side_changes_nothing(dtype):
    features, noise = normal(3, 4, 6), np.full((3, 2, 6), np.nan, "float32")
    layer = built(features)
    expected = layer(features)
    ones, zeros = np.ones((3, 4), dtype), np.zeros((3, 2), dtype)
    for parts in ((0, 1), (1, 0)):
        padded = np.concatenate([(features, noise)[i] for i in parts], axis=1)
        mask = np.concatenate([(ones, zeros)[i] for i in parts], axis=1)
        assert_close(layer(padded, mask=mask), expected)


def test_a_row_of_padding_gets_the_bias():
    features = normal(2, 3, 4)
    layer = built(features)
    layer.calibrate(-7.0, 2.0)
    assert_close(layer(features, mask=np.zeros((2, 3), "int32")), [3.5, 3.5])


def test_calibrated_rewards_have_mean_0_and_deviation_1_and_twice_is_once():
    features = normal(50, 3, 4, mean=1.0)
    layer = built(features)
    first = ops.convert_to_numpy(layer(features))
    for _ in range(2):
        rewards = ops.convert_to_numpy(layer(features))
        layer.calibrate(rewards.mean(), rewards.std())
        rewards = ops.convert_to_numpy(layer(features))
        assert_close([rewards.mean(), rewards.std()], [0, 1], atol=1e-6)
    assert_close(layer.gain, 1 / first.std(), rtol=1e-5)
    layer.calibrate(layer.bias, layer.gain)
    assert_close(layer.gain, 1)
    assert_close(layer.bias, 0, atol=1e-6)
    assert_close(layer(features), first, rtol=1e-5, atol=1e-6)


def test_rewards_are_summed_in_float32_under_mixed_precision():
    # 1000 products of 1 stick at 256 in bfloat16.
    layer = RewardHead(dtype="mixed_bfloat16")
    layer.build((1, 1, 1000))
    layer.kernel.assign(np.ones(1000))
    reward = layer(np.ones((1, 1, 1000), "float32"))
    assert keras.backend.standardize_dtype(reward.dtype) == "float32"
    assert_close(reward, [1000])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RewardHead().build((2, 3)), "must have the shape"),
        (lambda: built(normal(1, 1, 1)).calibrate(0.0, 0.0), "`deviation` must be above 0"),
    ],
    ids=["shape", "deviation"],
)
def test_wrong_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()
