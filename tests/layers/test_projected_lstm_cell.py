import keras
import numpy as np
import pytest
from keras import ops

from layers import ProjectedLSTMCell
from tests.layers.check import assert_close, check_layer, normal


@keras.saving.register_keras_serializable(package="hornbook")
class ProjectedLSTMLoop(keras.layers.RNN):
    """The cell in its loop, as `keras.layers.LSTM` is."""

    def __init__(self, units, projection, clip=None, return_sequences=True, **kwargs):
        cell = ProjectedLSTMCell(units, projection, clip, dtype=kwargs.get("dtype"), name="cell")
        super().__init__(cell, return_sequences=return_sequences, **kwargs)

    def get_config(self):
        config = super().get_config()
        del config["cell"]
        cell = self.cell
        return {
            **config,
            "units": cell.units,
            "projection": cell.projection,
            "clip": cell.clip,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def test_layer_does_what_every_layer_does():
    # In a loop of Keras, since a cell takes and gives states, too.
    config = {"units": 7, "projection": 5, "clip": 3.0}
    check_layer(ProjectedLSTMLoop, config, (3, 4, 6), (3, 4, 5), weights=4)


def test_with_the_identity_as_projection_it_is_keras_lstm():
    x = normal(2, 4, 6)
    ours = keras.layers.RNN(ProjectedLSTMCell(5, 5))
    theirs = keras.layers.RNN(keras.layers.LSTMCell(5))
    ours(x)
    theirs(x)
    assert_close(ours.cell.bias, theirs.cell.bias)
    *values, _ = (normal(*weight.shape, seed=3) for weight in ours.weights)
    theirs.set_weights(values)
    ours.set_weights([*values, np.eye(5)])
    assert_close(ours(x), theirs(x), atol=1e-5)


def test_one_step_written_out():
    cell = ProjectedLSTMCell(3, 2, clip=0.3)
    x, hidden, carry = normal(4, 5, seed=1), normal(4, 2, seed=2), normal(4, 3, seed=3)
    cell.build(x.shape)
    for seed, weight in enumerate(cell.weights):
        weight.assign(normal(*weight.shape, seed=10 + seed))
    kernel, recurrent, bias, projection = (ops.convert_to_numpy(w) for w in cell.weights)
    i, f, g, o = np.split(x @ kernel + hidden @ recurrent + bias, 4, axis=-1)
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    wanted_carry = np.clip(f * carry + i * np.tanh(g), -0.3, 0.3)
    wanted = np.clip((o * np.tanh(wanted_carry)) @ projection, -0.3, 0.3)
    output, states = cell(x, [ops.convert_to_tensor(hidden), ops.convert_to_tensor(carry)])
    assert_close(output, wanted, atol=1e-5)
    assert_close(states[0], wanted, atol=1e-5)
    assert_close(states[1], wanted_carry, atol=1e-5)
    assert (np.abs(wanted) == np.float32(0.3)).any() and (np.abs(wanted) < 0.3).any()


def test_masked_steps_leave_the_states():
    loop = keras.layers.RNN(ProjectedLSTMCell(4, 3))
    x = normal(2, 4, 6)
    mask = ops.convert_to_tensor(np.array([[True, True, False, False]] * 2))
    assert_close(loop(x, mask=mask), loop(x[:, :2]), atol=1e-6)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"units": 0}, "`units` must be a positive integer"),
        ({"projection": 2.5}, "`projection` must be a positive integer"),
        ({"clip": 0}, "`clip` must be above 0, or None"),
    ],
    ids=["units", "projection", "clip"],
)
def test_wrong_argument(choices, message):
    with pytest.raises(ValueError, match=message):
        ProjectedLSTMCell(**{"units": 4, "projection": 2, **choices})
