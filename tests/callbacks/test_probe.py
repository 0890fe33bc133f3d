import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from callbacks.probe import Probe, find_layers, has_activation
from layers import DropConnect, Highway


def two_layers():
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(3, activation="relu", name="hidden")(inputs)
    return keras.Model(inputs, keras.layers.Dense(1, name="logits")(hidden))


def test_layers_are_found_by_kind_or_by_name():
    model = two_layers()
    found = find_layers(model, None, lambda layer: isinstance(layer, keras.layers.Dense))
    assert [layer.name for layer in found] == ["hidden", "logits"]
    assert [layer.name for layer in find_layers(model, ["logits"], lambda layer: False)] == [
        "logits"
    ]
    with pytest.raises(ValueError, match=r"'logits'.*Received: \['output'\]"):
        find_layers(model, ["output"], lambda layer: True)


def test_a_recurrent_layer_does_not_end_in_its_activation():
    tanh = [keras.activations.tanh]
    assert has_activation(keras.layers.Dense(1, activation="tanh"), tanh)
    assert has_activation(keras.layers.Activation("tanh"), tanh)
    assert not has_activation(keras.layers.LSTM(1), tanh)
    assert not has_activation(Highway(activation="tanh"), tanh)
    assert not has_activation(keras_hub.layers.TransformerEncoder(4, 2, activation="tanh"), tanh)
    inner = keras.layers.Dense(1, activation="tanh")
    assert has_activation(DropConnect(keras.layers.TimeDistributed(inner)), tanh)
    assert not has_activation(keras.layers.Bidirectional(keras.layers.LSTM(1)), tanh)


def test_probe_measures_with_the_weights_of_the_moment():
    model = two_layers()
    layer = model.get_layer("logits")
    probe = Probe(model, [layer], np.ones((4, 2)), lambda _, outputs: tf.reduce_mean(outputs))
    layer.set_weights([np.zeros((3, 1)), np.array([2.0])])
    assert probe.measure() == {"logits": 2.0}
    layer.set_weights([np.zeros((3, 1)), np.array([5.0])])
    assert probe.measure() == {"logits": 5.0}


def test_probe_needs_a_functional_model():
    with pytest.raises(ValueError, match="functional"):
        Probe(keras.Sequential(), [], np.ones((1, 1)), lambda _, outputs: outputs)
