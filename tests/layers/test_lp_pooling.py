import keras
import numpy as np
import pytest
from keras import ops

from layers import LpPooling2D
from tests.layers.check import assert_close, check_layer, gradients, normal


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


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("p", [1.5, 2.0, 7.0])
def test_equals_power_means_written_out(padding, p):
    x = normal(2, 7, 6, 3)
    y = ops.convert_to_numpy(LpPooling2D((3, 2), (2, 3), padding, p=p)(x))
    # "same" adds a row on both sides of 7 rows, and nothing to 6 columns.
    top = 1 if padding == "same" else 0
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            first = 2 * i - top
            window = np.abs(x[:, max(first, 0) : first + 3, 3 * j : 3 * j + 2])
            assert_close(y[:, i, j], (window**p).mean(axis=(1, 2)) ** (1 / p), rtol=1e-5)


@pytest.mark.parametrize("p", [64, 512])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_large_power_comes_close_to_max_pooling_without_overflow(p, dtype):
    x = 1e3 * normal(2, 6, 6, 3)
    layer = LpPooling2D(p=p, dtype=dtype)
    largest = ops.convert_to_numpy(keras.layers.MaxPooling2D(2)(np.abs(x)))
    y = ops.convert_to_numpy(ops.cast(layer(x), "float32"))
    assert (y <= 1.01 * largest).all() and (y >= 0.99 * 4 ** (-1 / p) * largest).all()
    assert np.isfinite(gradients(layer, x)[1][0]).all()


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
        ({"p": float("inf")}, "`p` must be at least 1 and finite"),
        ({"pool_size": 0}, "`pool_size` must be one positive integer"),
        ({"strides": (1, 2, 3)}, "`strides` must be one positive integer, or two"),
        ({"padding": "full"}, "`padding` must be .valid. or .same."),
        ({"data_format": "last"}, "`data_format` must be .channels_last. or"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LpPooling2D(**arguments)


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match="with 4 axes"):
        LpPooling2D()(np.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match="Height and width must be known"):
        LpPooling2D().build((None, None, 4, 1))
    with pytest.raises(ValueError, match="must be at most the height and width of the image"):
        LpPooling2D(5)(np.zeros((2, 4, 4, 1)))
