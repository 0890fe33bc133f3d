import keras
import numpy as np
import pytest
from keras import ops

from layers import DropConnect, WeightNoise
from tests.layers.check import assert_close, check_layer, gradients

LAYERS = {
    "dense": (lambda: keras.layers.Dense(3), (4, 5), (4, 3)),
    "convolution": (lambda: keras.layers.Conv2D(3, 2, padding="same"), (2, 4, 4, 5), (2, 4, 4, 3)),
    "depthwise": (lambda: keras.layers.DepthwiseConv2D(3), (2, 5, 5, 3), (2, 3, 3, 3)),
}


@pytest.mark.parametrize("kind", [DropConnect, WeightNoise])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_does_what_every_layer_does(kind, name):
    make, input_shape, output_shape = LAYERS[name]
    argument = {DropConnect: {"rate": 0.3}, WeightNoise: {"stddev": 0.2}}[kind]
    config = {"layer": make(), "seed": 1, **argument}
    check_layer(kind, config, input_shape, output_shape, weights=2)


def drawn_kernel(layer):
    """The kernel that a call while training used: identity in, kernel out."""
    return ops.convert_to_numpy(layer(np.eye(200, dtype="float32"), training=True))


@pytest.mark.parametrize("kind", [DropConnect, WeightNoise])
def test_inference_is_the_layer_itself(kind):
    dense = keras.layers.Dense(3, bias_initializer="ones")
    x = np.float32(np.random.default_rng(0).normal(size=(4, 5)))
    assert_close(kind(dense)(x), dense(x))
    assert_close(kind(dense)(x, training=False), dense(x))


def test_weights_are_dropped_with_the_rate_and_the_rest_scaled():
    dense = keras.layers.Dense(500, kernel_initializer="ones", use_bias=False)
    kernel = drawn_kernel(DropConnect(dense, rate=0.2, seed=1))
    assert set(np.unique(kernel)) == {0, np.float32(1 / 0.8)}
    # 100,000 draws: the deviation of the share is 0.0013.
    assert np.mean(kernel == 0) == pytest.approx(0.2, abs=0.005)
    assert kernel.mean() == pytest.approx(1, abs=0.01)


def test_noise_has_the_given_deviation():
    dense = keras.layers.Dense(500, kernel_initializer="ones", use_bias=False)
    kernel = drawn_kernel(WeightNoise(dense, stddev=0.1, seed=1))
    assert kernel.mean() == pytest.approx(1, abs=0.002)
    assert kernel.std() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("kind", [DropConnect, WeightNoise])
def test_a_seed_repeats_and_calls_differ(kind):
    def kernels():
        layer = kind(keras.layers.Dense(3, kernel_initializer="ones"), seed=7)
        return drawn_kernel(layer), drawn_kernel(layer)

    first, second = kernels(), kernels()
    assert_close(np.stack(first), np.stack(second))
    assert np.any(first[0] != first[1])


def test_biases_are_kept():
    dense = keras.layers.Dense(50, kernel_initializer="zeros", bias_initializer="ones")
    layer = DropConnect(dense, rate=0.9)
    answer = layer(np.ones((2, 5), "float32"), training=True)
    assert_close(answer, np.ones((2, 50)))


def test_dropped_weights_get_no_gradient():
    dense = keras.layers.Dense(1, kernel_initializer="ones", use_bias=False)
    layer = DropConnect(dense, rate=0.5, seed=1)
    layer.build((None, 200))
    (kernel_gradient,), _ = gradients(layer, np.ones((1, 200), "float32"), training=True)
    assert np.mean(kernel_gradient == 0) == pytest.approx(0.5, abs=0.15)
    assert len(np.unique(kernel_gradient)) == 2


@pytest.mark.parametrize("kind", [DropConnect, WeightNoise])
@pytest.mark.parametrize("inner", [lambda layer: layer, keras.layers.SpectralNormalization])
def test_stored_kernel_never_changes(kind, inner):
    layer = kind(inner(keras.layers.Dense(3)))
    x = np.ones((2, 5), "float32")
    layer(x)
    kernels = [weight for weight in layer.layer.weights if weight.name == "kernel"]
    before = [ops.convert_to_numpy(kernel) for kernel in kernels]
    layer(x, training=True)
    for old, new in zip(before, kernels, strict=True):
        assert_close(old, new)


def test_a_frozen_bias_is_not_rounded_in_mixed_precision():
    bias = keras.initializers.Constant(0.1234567)
    dense = keras.layers.Dense(3, dtype="mixed_bfloat16", bias_initializer=bias)
    layer = DropConnect(dense)
    layer.build((None, 5))
    dense.trainable = False
    layer(np.ones((1, 5), "float32"), training=True)
    assert_close(dense.bias, np.full(3, 0.1234567), rtol=1e-6)


@pytest.mark.parametrize(("kind", "nothing"), [(DropConnect, "rate"), (WeightNoise, "stddev")])
def test_no_noise_is_the_layer_itself_while_training(kind, nothing):
    dense = keras.layers.Dense(3)
    x = np.ones((2, 5), "float32")
    assert_close(kind(dense, **{nothing: 0})(x, training=True), dense(x))


def test_activity_losses_of_the_layer_are_kept():
    dense = keras.layers.Dense(3, kernel_initializer="ones", activity_regularizer="l1")
    layer = WeightNoise(dense, stddev=0.0)
    layer(np.ones((1, 2), "float32"), training=True)
    assert_close(sum(layer.losses), 0.01 * 6, rtol=1e-5)
    # As every `fit` on JAX calls it.
    states = (
        [v.value for v in layer.trainable_variables],
        [v.value for v in layer.non_trainable_variables],
    )
    _, _, losses = layer.stateless_call(
        *states, ops.ones((1, 2)), training=True, return_losses=True
    )
    assert_close(sum(losses), 0.01 * 6, rtol=1e-5)


def test_training_through_fit_lowers_the_loss():
    x = np.float32(np.random.default_rng(0).normal(size=(64, 4)))
    model = keras.Sequential([keras.Input((4,)), WeightNoise(keras.layers.Dense(1), stddev=0.01)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    losses = model.fit(x, x.sum(1), epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DropConnect(keras.layers.Dense(1), rate=1), "`rate` must be at least 0 and below"),
        (lambda: WeightNoise(keras.layers.Dense(1), stddev=-1), "`stddev` must be at least 0"),
        (lambda: WeightNoise(keras.layers.ReLU()).build((1, 2)), "must have a weight whose name"),
    ],
    ids=["rate", "stddev", "no kernel"],
)
def test_wrong_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()
