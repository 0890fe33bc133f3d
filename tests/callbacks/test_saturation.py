import keras
import numpy as np
import pytest

from callbacks import Saturation
from callbacks.saturation import is_saturating


def model_with(activation):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4, activation, name="units")])
    model.layers[0].set_weights([np.array([[0.0, 1.0, 2.0, 5.0]]), np.zeros(4)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def log(callback, model):
    logs = {}
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_end(0, logs)
    return logs


INPUTS = np.array([[1.0], [-1.0]], "float32")


def test_both_tails_of_tanh_count():
    # tanh(0, 1, 2, 5) = 0, 0.76, 0.964, 0.9999, and mirrored: 4 of 8 beyond 0.95.
    assert log(Saturation(INPUTS), model_with("tanh")) == {"saturation/units": 0.5}


def test_both_tails_of_sigmoid_count():
    # sigmoid(0, 1, 2, 5) = 0.5, 0.73, 0.88, 0.993, and mirrored: 2 of 8 beyond 0.05 and 0.95.
    assert log(Saturation(INPUTS), model_with("sigmoid")) == {"saturation/units": 0.25}


def test_thresholds_decide_what_a_tail_is():
    wide = Saturation(INPUTS, sigmoid_tails=(0.2, 1.0), tanh_tails=(-1.0, 0.7))
    assert log(wide, model_with("sigmoid")) == {"saturation/units": 0.25}  # 0.12 and 0.007
    assert log(wide, model_with("tanh")) == {"saturation/units": 0.375}  # 0.76, 0.964, 0.9999


def test_only_sigmoid_and_tanh_can_be_watched():
    assert is_saturating(keras.layers.Activation("sigmoid"))
    assert not is_saturating(keras.layers.Dense(1, "relu"))
    with pytest.raises(ValueError, match=r"sigmoid or tanh.*'units'"):
        log(Saturation(INPUTS, ["units"]), model_with("relu"))
    with pytest.raises(ValueError, match="sigmoid or tanh"):
        log(Saturation(INPUTS), model_with("relu"))


def test_thresholds_are_checked():
    with pytest.raises(ValueError, match="`sigmoid_tails`"):
        Saturation(INPUTS, sigmoid_tails=(-0.1, 0.9))
    with pytest.raises(ValueError, match="`tanh_tails`"):
        Saturation(INPUTS, tanh_tails=(0.9, -0.9))


def test_fit_keeps_the_share_in_its_history():
    model = model_with("tanh")
    targets = np.zeros((2, 4), "float32")
    history = model.fit(INPUTS, targets, epochs=2, verbose=0, callbacks=[Saturation(INPUTS)])
    assert history.history["saturation/units"] == [0.5, 0.5]
