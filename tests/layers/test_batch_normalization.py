import keras
import numpy as np
import pytest
from keras import ops

from layers import BatchNormalization
from tests.layers.check import (
    BACKEND,
    assert_close,
    check_layer,
    gradient_penalty,
    gradients,
    normal,
)


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ({"momentum": 0.9}, 2),
        ({"center": False, "epsilon": 1e-2}, 1),
        ({"scale": False}, 1),
    ],
    ids=["gamma and beta", "gamma alone", "beta alone"],
)
def test_layer_does_what_every_layer_does(config, weights):
    # XLA on the CPU sums a batch in another order.
    check_layer(
        BatchNormalization, config, (3, 5, 4, 6), (3, 5, 4, 6), weights=weights, tolerance=1e-4
    )


def trained_pair(x, steps=2, **arguments):
    """Our layer and Keras' own with the same random gamma and beta, after some training steps."""
    pair = BatchNormalization(**arguments), keras.layers.BatchNormalization(**arguments)
    channels = x.shape[arguments.get("axis", -1)]
    for layer in pair:
        layer.build(x.shape)
        layer.gamma.assign(normal(channels, seed=1))
        layer.beta.assign(normal(channels, seed=2))
        for step in range(steps):
            layer(x * (1 + step), training=True)
    return pair


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((8, 5, 4, 6), -1), ((8, 5, 4, 6), 3), ((8, 6, 5, 4), 1), ((9, 6), -1), ((4, 7, 6), -1)],
    ids=str,
)
def test_equals_keras_in_training_inference_moving_statistics_and_gradients(shape, axis):
    x = normal(*shape, mean=3.0)
    ours, theirs = trained_pair(x, axis=axis, momentum=0.8)
    assert_close(ours.moving_mean, theirs.moving_mean, atol=1e-5)
    assert_close(ours.moving_variance, theirs.moving_variance, atol=1e-5)
    for training in (False, True):
        assert_close(ours(x, training=training), theirs(x, training=training), atol=1e-4)
        for mine, reference in zip(
            gradients(ours, x, training=training),
            gradients(theirs, x, training=training),
            strict=True,
        ):
            for a, b in zip(mine, reference, strict=True):
                assert_close(a, b, atol=1e-4)


def test_one_value_by_hand():
    # The channel holds 0, 2, 4, 6 over two examples: mean 3, variance 5.
    layer = BatchNormalization(momentum=0.5, epsilon=4.0)
    y = layer(np.array([[[[0], [2]]], [[[4], [6]]]], "float32"), training=True)
    assert_close(y, [[[[-1], [-1 / 3]]], [[[1 / 3], [1]]]], atol=1e-6)
    assert_close(layer.moving_mean, [1.5], atol=1e-6)
    assert_close(layer.moving_variance, [0.5 + 2.5], atol=1e-6)


@pytest.mark.skipif(BACKEND == "torch", reason="the layer is Keras' there, which subtracts squares")
def test_a_large_mean_cancels_nothing():
    x = normal(8, 9, 9, 3, mean=1e4)
    exact = (x - x.mean((0, 1, 2), dtype="float64")) / np.sqrt(
        x.var((0, 1, 2), dtype="float64") + 1e-3
    )
    assert_close(BatchNormalization()(x, training=True), exact, atol=5e-3)


def test_float16_does_not_overflow():
    x = np.full((2, 4, 4, 3), 60000.0, "float32")
    x[0] = 0.0
    layer = BatchNormalization(dtype="mixed_float16")
    y = ops.convert_to_numpy(layer(x, training=True))
    assert_close(y, np.where(x > 0, 1.0, -1.0), atol=1e-2)
    assert np.isfinite(ops.convert_to_numpy(layer.moving_variance)).all()


def test_one_value_a_channel_is_its_own_mean():
    y = BatchNormalization()(normal(1, 1, 1, 3), training=True)
    assert_close(y, np.zeros((1, 1, 1, 3)), atol=1e-6)


def test_a_frozen_layer_does_not_follow_the_batch():
    layer = BatchNormalization()
    layer.trainable = False
    x = normal(8, 5, 4, 6, mean=3.0)
    assert_close(layer(x, training=True), x / np.sqrt(1 + 1e-3), atol=1e-4)
    assert_close(layer.moving_mean, np.zeros(6), atol=0)


def test_masked_positions_do_not_count():
    x = normal(4, 7, 6)
    mask = np.arange(7) < np.array([[7], [3], [1], [5]])
    ours, theirs = BatchNormalization(), keras.layers.BatchNormalization()
    assert_close(ours(x, training=True, mask=mask), theirs(x, training=True, mask=mask), atol=1e-5)


def test_second_derivatives_are_those_of_keras():
    x = normal(4, 3, 3, 2)
    ours, theirs = trained_pair(x)
    assert_close(gradient_penalty(ours, x), gradient_penalty(theirs, x), atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_all_in_16_bits_it_is_keras_own(dtype):
    x = normal(8, 4, 4, 3, mean=1.0)
    layer, reference = BatchNormalization(dtype=dtype), keras.layers.BatchNormalization(dtype=dtype)
    for training in (True, False):
        answers = [ops.cast(one(x, training=training), "float32") for one in (layer, reference)]
        assert_close(*answers, atol=1e-2)
