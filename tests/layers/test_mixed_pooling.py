import keras
import numpy as np
import pytest
from keras import ops

from layers import MixedPooling2D
from tests.layers.check import assert_close, check_layer, normal


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ({"alpha": 0.3, "pool_size": 3, "strides": 2, "padding": "same"}, 0),
        ({"mode": "random", "seed": 1}, 0),
        ({"mode": "learned"}, 1),
    ],
    ids=["fixed", "random", "learned"],
)
def test_layer_does_what_every_layer_does(config, weights):
    check_layer(MixedPooling2D, config, (2, 6, 6, 3), (2, 3, 3, 3), weights=weights)


def test_one_window_by_hand():
    x = np.array([0.0, 1.0, 3.0, 4.0], "float32").reshape(1, 2, 2, 1)
    for alpha, wanted in {0.0: 2.0, 0.25: 2.5, 1.0: 4.0}.items():
        assert_close(ops.squeeze(MixedPooling2D(alpha=alpha)(x)), wanted)


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("strides", [2, 3])
def test_padding_counts_neither_as_maximum_nor_in_the_mean(size, strides):
    x = normal(2, size, size, 3) - 3
    y = ops.convert_to_numpy(MixedPooling2D(3, strides, "same", alpha=0.25)(x))
    top = max((y.shape[1] - 1) * strides + 3 - size, 0) // 2
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            rows, columns = (
                slice(max(strides * n - top, 0), strides * n - top + 3) for n in (i, j)
            )
            window = x[:, rows, columns]
            wanted = 0.25 * window.max(axis=(1, 2)) + 0.75 * window.mean(axis=(1, 2))
            assert_close(y[:, i, j], wanted, rtol=1e-5)


def test_mean_of_large_half_precision_activations_does_not_overflow():
    x = np.full((1, 4, 4, 1), 30000, "float32")
    y = MixedPooling2D(4, dtype="mixed_float16")(x)
    assert_close(ops.squeeze(y), 30000, rtol=1e-3)


def test_random_is_max_or_mean_while_training_and_halfway_otherwise():
    x = normal(2, 5, 5, 3)
    largest = ops.convert_to_numpy(keras.layers.MaxPooling2D(3, 2)(x))
    mean = ops.convert_to_numpy(keras.layers.AveragePooling2D(3, 2)(x))
    layer = MixedPooling2D(3, 2, mode="random", seed=0)
    drawn = [ops.convert_to_numpy(layer(x, training=True)) for _ in range(60)]
    times_max = sum(np.allclose(y, largest, atol=1e-6) for y in drawn)
    assert times_max + sum(np.allclose(y, mean, atol=1e-6) for y in drawn) == 60
    assert 15 < times_max < 45  # Binomial(60, 1/2): outside once in 20,000.
    assert_close(layer(x), (largest + mean) / 2, rtol=1e-5, atol=1e-6)


def test_learned_alpha_stays_in_the_unit_interval():
    layer = MixedPooling2D(mode="learned", alpha=0.9)
    model = keras.Sequential([keras.Input((4, 4, 1)), layer, keras.layers.Flatten()])
    x = normal(8, 4, 4, 1)
    target = ops.convert_to_numpy(keras.layers.MaxPooling2D(2)(x)).reshape(8, 4) + 1
    model.compile(keras.optimizers.SGD(10.0), "mse", jit_compile=False)
    model.fit(x, target, epochs=3, verbose=0)
    assert float(ops.convert_to_numpy(layer.share)) == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 1.5}, r"`alpha` must be in \[0, 1\]"),
        ({"mode": "both"}, "`mode` must be one of fixed, random, learned"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MixedPooling2D(**arguments)
