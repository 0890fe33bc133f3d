import keras
import numpy as np
import pytest

from callbacks import DeadUnits
from callbacks.dead_units import dead_share, is_relu
from layers import Highway


def log(callback, model):
    logs = {}
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_end(0, logs)
    return logs


def test_share_counts_units_that_fire_on_no_example():
    inputs = keras.Input((1,))
    hidden = keras.layers.Dense(4, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, name="logits")(hidden))
    # On inputs -1 and 2 the units fire on 2, on -1, never (bias -5) and never (all 0).
    model.get_layer("hidden").set_weights([np.array([[1, -1, 1, 0]]), np.array([0, 0, -5, 0])])
    probe = np.array([[-1.0], [2.0]], "float32")
    assert log(DeadUnits(probe), model) == {"dead_units/hidden": 0.5}


def test_a_channel_is_one_unit_and_a_relu_layer_counts():
    inputs = keras.Input((2, 2, 1))
    x = keras.layers.Conv2D(3, 1, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.ReLU(name="relu")(x))
    # Channel 0 fires at the single bright pixel, channels 1 and 2 nowhere.
    model.get_layer("conv").set_weights([np.array([1, -1, 0]).reshape(1, 1, 1, 3), np.zeros(3)])
    image = np.zeros((1, 2, 2, 1), "float32")
    image[0, 1, 1, 0] = 1.0
    assert log(DeadUnits(image), model) == pytest.approx({"dead_units/relu": 2 / 3})


def test_channels_first_counts_channels_too():
    outputs = np.zeros((2, 4, 3, 3), "float32")
    outputs[0, 1, 2, 2] = 1.0
    layer = keras.layers.Conv2D(4, 1, data_format="channels_first")
    assert float(dead_share(layer, outputs=keras.ops.convert_to_tensor(outputs))) == 0.75


def test_layers_can_be_chosen_by_name():
    inputs = keras.Input((1,))
    x = keras.layers.Dense(2, activation="relu", name="first")(inputs)
    x = keras.layers.Dense(2, activation="relu", name="second")(x)
    model = keras.Model(inputs, x)
    assert list(log(DeadUnits(np.ones((1, 1))), model)) == ["dead_units/first", "dead_units/second"]
    assert list(log(DeadUnits(np.ones((1, 1)), ["second"]), model)) == ["dead_units/second"]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (keras.layers.Dense(1, activation="relu"), True),
        (keras.layers.Dense(1, activation="relu6"), True),
        (keras.layers.Activation("relu"), True),
        (keras.layers.ReLU(6.0), True),
        (keras.layers.ReLU(negative_slope=0.1), False),
        (keras.layers.LeakyReLU(), False),
        (keras.layers.Dense(1, activation="tanh"), False),
        (keras.layers.SimpleRNN(1, activation="relu"), False),
        (Highway(activation="relu"), False),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_relu_layers_are_told_from_others(layer, expected):
    assert is_relu(layer) is expected


def test_a_model_without_relu_is_refused():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="ReLU"):
        log(DeadUnits(np.ones((1, 1))), model)


def test_fit_keeps_the_share_of_every_epoch_in_its_history():
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(3, activation="relu", bias_initializer=lambda *_, **__: [-9, 1, 1.0],
                               trainable=False, kernel_initializer="zeros", name="hidden"),
            keras.layers.Dense(1),
        ]
    )  # fmt: skip
    model.compile("sgd", "mse")
    x = np.ones((4, 2), "float32")
    history = model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[DeadUnits(x)])
    assert history.history["dead_units/hidden"] == pytest.approx([1 / 3, 1 / 3])
