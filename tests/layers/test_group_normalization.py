import keras
import numpy as np
import pytest
from keras import ops

from layers import GroupNormalization
from tests.layers.check import assert_close, check_layer, gradient_penalty, gradients, normal


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ({"groups": 3}, 2),
        ({"groups": 1, "center": False, "epsilon": 1e-2}, 1),
        ({"groups": 6, "scale": False}, 1),
    ],
    ids=["groups", "one group", "a group a channel"],
)
def test_layer_does_what_every_layer_does(config, weights):
    check_layer(GroupNormalization, config, (2, 5, 4, 6), (2, 5, 4, 6), weights=weights)


@pytest.mark.parametrize("shape", [(2, 6), (2, 7, 6), (2, 3, 4, 5, 6)], ids=str)
def test_any_number_of_positions(shape):
    x = normal(*shape)
    layer, reference = GroupNormalization(3), keras.layers.GroupNormalization(3)
    assert_close(layer(x), reference(x), atol=1e-5)


def test_one_value_by_hand():
    # Group 1 holds 0, 2, 4, 6: mean 3, variance 5; group 2 holds 1, 1, 1, 1.
    x = np.array([[[0, 2, 1, 1], [4, 6, 1, 1]]], "float32")
    y = ops.convert_to_numpy(GroupNormalization(2, epsilon=4.0)(x))
    assert_close(y, [[[-1, -1 / 3, 0, 0], [1 / 3, 1, 0, 0]]], atol=1e-6)


def test_masks_pass_through():
    layers = [keras.layers.Embedding(10, 6, mask_zero=True), GroupNormalization(groups=2)]
    ours = keras.Sequential([*layers, keras.layers.GlobalAveragePooling1D()])
    ids = np.array([[3, 4, 0, 0]])
    features = ops.convert_to_numpy(keras.Sequential(layers)(ids))
    assert_close(ours(ids), features[:, :2].mean(axis=1), rtol=1e-5)


def test_one_group_is_layer_normalization():
    x = normal(3, 5, 4, 6)
    reference = keras.layers.LayerNormalization(axis=(1, 2, 3), epsilon=1e-3)
    assert_close(GroupNormalization(1)(x), reference(x), atol=1e-5)


def test_a_group_for_each_channel_is_instance_normalization():
    x = normal(3, 5, 4, 6)
    y = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-3)
    assert_close(GroupNormalization(6)(x), y, atol=1e-5)


def random_pair(groups, channels):
    """Our layer and Keras' own with the same random gamma and beta."""
    pair = GroupNormalization(groups), keras.layers.GroupNormalization(groups)
    for layer in pair:
        layer.build((None, 5, 4, channels))
        layer.set_weights([normal(channels, seed=1), normal(channels, seed=2)])
    return pair


def test_values_and_gradients_equal_those_of_keras():
    x = normal(3, 5, 4, 6)
    ours, reference = random_pair(2, 6)
    assert_close(ours(x), reference(x), atol=1e-5)
    for found, wanted in zip(gradients(ours, x), gradients(reference, x), strict=True):
        for ours_one, reference_one in zip(found, wanted, strict=True):
            assert_close(ours_one, reference_one, atol=1e-5)


def test_second_derivatives_equal_those_of_keras():
    x = normal(2, 3, 2, 4)
    ours, reference = random_pair(2, 4)
    wanted = gradient_penalty(reference, x)
    assert_close(gradient_penalty(ours, x), wanted, rtol=1e-4, atol=1e-3)


def test_large_mean_costs_no_digits():
    x = normal(2, 16, 16, 8).astype("float64") + 1e4
    x = x.astype("float32")  # what float32 can hold of it
    exact = x.astype("float64").reshape(2, 256, 4, 2)
    exact = (exact - exact.mean((1, 3), keepdims=True)) / np.sqrt(
        exact.var((1, 3), keepdims=True) + 1e-3
    )
    y = ops.convert_to_numpy(GroupNormalization(4)(x))
    assert_close(y, exact.reshape(x.shape), atol=2e-3)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_70000_does_not_overflow(dtype):
    x = np.float32(70000) * np.sign(normal(2, 8, 8, 4))
    y = ops.convert_to_numpy(ops.cast(GroupNormalization(2, dtype=dtype)(x), "float32"))
    assert np.abs(y).max() < 2
    assert_close(y, GroupNormalization(2)(x), atol=1e-2)


def test_constant_input_gives_beta_and_a_finite_gradient():
    x = np.full((1, 3, 3, 4), 7, "float32")
    layer = GroupNormalization(2, beta_initializer="ones")
    assert_close(layer(x), np.ones_like(x))
    assert np.isfinite(gradients(layer, x)[1][0]).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"groups": 0}, "`groups` must be a positive integer"),
        ({"epsilon": 0}, "`epsilon` must be above 0"),
        ({"data_format": "NHWC"}, "`data_format` must be 'channels_last' or"),
    ],
    ids=["groups", "epsilon", "data_format"],
)
def test_wrong_argument(config, message):
    with pytest.raises(ValueError, match=message):
        GroupNormalization(**config)


def test_groups_that_do_not_divide_the_channels():
    with pytest.raises(ValueError, match=r"must divide .* groups=4, input_shape=\(2, 3, 3, 6\)"):
        GroupNormalization(4)(normal(2, 3, 3, 6))
