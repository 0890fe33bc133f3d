import numpy as np

from layers import Highway
from tests.layers.check import assert_close, check_layer, normal


def test_layer_does_what_every_layer_does():
    check_layer(Highway, {"carry_bias": -1.0}, (3, 4, 6), (3, 4, 6), weights=4)


def test_one_value_by_hand():
    # A gate of sigmoid(log 3) = 3/4 mixes relu(2 * 5 + 1) = 11 with 5.
    layer = Highway(carry_bias=float(np.log(3)))
    layer.build((1, 1))
    layer.kernel.assign([[2.0]])
    layer.bias.assign([1.0])
    layer.gate_kernel.assign([[0.0]])
    assert_close(layer(np.float32([[5]])), [[0.75 * 11 + 0.25 * 5]], atol=1e-5)


def test_equals_the_equation_written_out():
    layer = Highway(activation="tanh")
    x = normal(3, 5)
    layer.build(x.shape)
    layer.set_weights([normal(*weight.shape, seed=4) for weight in layer.weights])
    kernel, bias, gate_kernel, gate_bias = layer.get_weights()
    gate = 1 / (1 + np.exp(-(x @ gate_kernel + gate_bias)))
    wanted = np.tanh(x @ kernel + bias) * gate + x * (1 - gate)
    assert_close(layer(x), wanted, atol=1e-5)


def test_begins_by_carrying_its_input_through():
    x = normal(3, 5)
    assert_close(Highway(carry_bias=-30.0)(x), x, atol=1e-5)
    layer = Highway()
    layer.build(x.shape)
    assert_close(layer.gate_bias, np.full(5, -2.0))
