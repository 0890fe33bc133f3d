import numpy as np
import pytest
from keras import ops

from layers import LocalResponseNormalization
from tests.layers.check import (
    BACKEND,
    assert_close,
    check_layer,
    gradient_penalty,
    gradients,
    normal,
)


@pytest.mark.parametrize(
    "config",
    [{}, {"depth_radius": 1, "bias": 1.0, "alpha": 0.5, "beta": 0.5}],
    ids=["AlexNet", "strong"],
)
def test_layer_does_what_every_layer_does(config):
    check_layer(LocalResponseNormalization, config, (2, 4, 3, 7), (2, 4, 3, 7))


def test_one_value_by_hand():
    # Energies of neighbors: 1 + 4, 1 + 4 + 9, 4 + 9; then 1 + 3 * energy is 16, 43, 40.
    layer = LocalResponseNormalization(depth_radius=1, bias=1, alpha=3, beta=0.5)
    y = layer(np.array([[1, 2, 3]], "float32"))
    assert_close(y, [[1 / 4, 2 / 43**0.5, 3 / 40**0.5]], rtol=1e-6)


def test_equals_sums_written_out():
    x = normal(2, 3, 3, 9)
    y = np.empty_like(x)
    for channel in range(9):
        energy = (x[..., max(0, channel - 2) : channel + 3] ** 2).sum(-1)
        y[..., channel] = x[..., channel] / (2 + 0.1 * energy) ** 0.75
    assert_close(LocalResponseNormalization(alpha=0.1)(x), y, rtol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="compares with tf.nn")
@pytest.mark.parametrize("depth_radius", [0, 2, 5, 20])
@pytest.mark.parametrize("beta", [0.5, 0.75, 1.0, 0.6])
def test_values_and_gradients_equal_those_of_tensorflow(depth_radius, beta):
    import tensorflow as tf

    x = tf.constant(normal(2, 4, 3, 12))
    layer = LocalResponseNormalization(depth_radius, 1.5, 0.2, beta)
    direction = tf.constant(normal(2, 4, 3, 12)[::-1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours = layer(x)
        reference = tf.nn.local_response_normalization(x, depth_radius, 1.5, 0.2, beta)
    assert_close(ours, reference, rtol=1e-5)
    found, wanted = (tape.gradient(y, x, output_gradients=direction) for y in (ours, reference))
    assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_second_derivatives_equal_those_of_the_formula():
    def formula(x):
        channels = [ops.sum(x[..., max(0, i - 1) : i + 2] ** 2, axis=-1) for i in range(5)]
        return x / (1 + 0.3 * ops.stack(channels, axis=-1)) ** 0.75

    x = normal(2, 3, 2, 5)
    found = gradient_penalty(LocalResponseNormalization(1, 1.0, 0.3, 0.75), x)
    assert_close(found, gradient_penalty(formula, x), rtol=1e-4, atol=1e-4)


def test_large_half_precision_activations_do_not_overflow():
    x = np.full((1, 2, 2, 4), 70000, "float32")
    half = LocalResponseNormalization(alpha=1.0, dtype="mixed_float16")(x)
    full = LocalResponseNormalization(alpha=1.0)(x)
    assert_close(ops.convert_to_numpy(half), full, rtol=1e-3)


def test_zeros_stay_zeros_with_a_finite_gradient():
    layer = LocalResponseNormalization()
    x = np.zeros((1, 2, 2, 4), "float32")
    assert not np.any(ops.convert_to_numpy(layer(x)))
    assert np.isfinite(gradients(layer, x)[1][0]).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"depth_radius": -1}, "`depth_radius` must be an integer of at least 0"),
        ({"bias": 0}, "`bias` must be above 0"),
        ({"alpha": -1}, "`alpha` must be at least 0"),
        ({"data_format": "NHWC"}, "`data_format` must be 'channels_last' or"),
    ],
    ids=["depth_radius", "bias", "alpha", "data_format"],
)
def test_wrong_argument(config, message):
    with pytest.raises(ValueError, match=message):
        LocalResponseNormalization(**config)


def test_unknown_channels():
    with pytest.raises(ValueError, match="number of channels must be known"):
        LocalResponseNormalization().build((None, 4, 4, None))
