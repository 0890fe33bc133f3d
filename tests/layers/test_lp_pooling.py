import keras
import numpy as np
import pytest
from keras import ops

from layers import LpPooling2D
from tests.layers.check import assert_close, check_layer, gradients


def normal(*shape):
    return np.float32(np.random.default_rng(0).normal(size=shape))


@pytest.mark.parametrize(
    ("config", "out"),
    [
        ({"pool_size": 2}, (2, 3, 4, 3)),
        ({"pool_size": (3, 2), "p": 3.5, "strides": (2, 1), "padding": "same"}, (2, 3, 8, 3)),
        ({"pool_size": 3, "p": 1.0, "strides": 2}, (2, 2, 3, 3)),
    ],
    ids=["side by side", "same", "overlapping"],
)
def test_layer_does_what_every_layer_does(config, out):
    check_layer(LpPooling2D, config, (2, 6, 8, 3), out)


def test_one_window_by_hand():
    x = np.array([3.0, -4.0, 0.0, 0.0], "float32").reshape(1, 2, 2, 1)
    assert_close(ops.squeeze(LpPooling2D(p=2)(x)), 2.5, rtol=1e-6)  # sqrt(25 / 4)
    assert_close(ops.squeeze(LpPooling2D(p=1)(x)), 1.75, rtol=1e-6)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_power_one_is_average_pooling_of_absolute_values(padding):
    x = normal(2, 7, 5, 3)
    average = keras.layers.AveragePooling2D(3, 2, padding)
    assert_close(LpPooling2D(3, 2, padding, p=1.0)(x), average(np.abs(x)), rtol=1e-5)


def test_large_power_comes_close_to_max_pooling_without_overflow():
    x = 1e3 * normal(2, 6, 6, 3)
    largest = ops.convert_to_numpy(keras.layers.MaxPooling2D(2)(np.abs(x)))
    for dtype in ("float32", "mixed_float16", "mixed_bfloat16"):
        y = LpPooling2D(p=512, dtype=dtype)(x)
        assert_close(y, largest, rtol=1.5e-2)


def test_gradient_of_zeros_is_finite_and_of_others_as_written_out():
    layer = LpPooling2D(p=3)
    zeros = np.zeros((1, 2, 2, 1), "float32")
    assert not gradients(layer, zeros)[1][0].any()
    x = np.array([1.0, -2.0, 0.0, 3.0], "float32").reshape(1, 2, 2, 1)
    direction = np.random.default_rng(1).normal(size=(1, 1, 1, 1)) / 8
    y = (np.mean(np.abs(x) ** 3)) ** (1 / 3)
    wanted = direction * np.sign(x) * x**2 / 4 / y**2
    assert_close(gradients(layer, x)[1][0], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": 0.5}, "`p` must be at least 1"),
        ({"pool_size": 0}, "`pool_size` must be a positive integer"),
        ({"strides": (1, 2, 3)}, "`strides` must be a positive integer or two"),
        ({"padding": "full"}, "`padding` must be .valid. or .same."),
        ({"data_format": "last"}, "`data_format` must be .channels_last. or"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LpPooling2D(**arguments)


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match="four axes"):
        LpPooling2D()(np.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match="must be at most the image"):
        LpPooling2D(5)(np.zeros((2, 4, 4, 1)))
