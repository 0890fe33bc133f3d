import numpy as np
import pytest

from models.mlp import mlp


def test_each_layer_has_the_given_units():
    model = mlp(input_shape=(28, 28, 1), num_classes=10, units=(800, 800))
    # Simard et al. (2003) and many after them: 784-800-800-10 on MNIST.
    assert model.count_params() == 785 * 800 + 801 * 800 + 801 * 10
    assert model.get_layer("hidden2").output.shape == (None, 800)


def test_without_hidden_layers_it_is_linear_in_the_pixels():
    model = mlp(input_shape=(2, 2, 1), num_classes=3, units=())
    images = np.random.default_rng(0).uniform(size=(1, 2, 2, 1)).astype("float32")
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(model(images), images.reshape(1, 4) @ kernel + bias, rtol=1e-5)


def test_dropout_acts_only_in_training():
    model = mlp(input_shape=(4, 4, 1), num_classes=3, dropout=0.5)
    images = np.ones((2, 4, 4, 1), "float32")
    resting, training = model(images, training=False), model(images, training=True)
    assert not np.allclose(resting, training)
    np.testing.assert_array_equal(resting, model(images, training=False))


@pytest.mark.parametrize(("activation", "deviation"), [("relu", (2 / 64) ** 0.5), ("tanh", 0.125)])
def test_kernels_begin_as_the_activation_asks(activation, deviation):
    model = mlp(input_shape=(8, 8, 1), num_classes=3, units=(64,), activation=activation)
    kernel = model.get_layer("hidden1").kernel
    assert np.std(kernel) == pytest.approx(deviation, rel=0.05)
