import keras
import numpy as np
import pytest
from keras import ops

from layers import (
    LayerNormalizationGRUCell,
    LayerNormalizationLSTMCell,
    LayerNormalizationSimpleRNNCell,
)
from tests.layers.check import assert_close, check_layer, normal

CELLS = {
    LayerNormalizationLSTMCell: (keras.layers.LSTMCell, 3 + 4),
    LayerNormalizationGRUCell: (keras.layers.GRUCell, 3 + 2),
    LayerNormalizationSimpleRNNCell: (keras.layers.SimpleRNNCell, 3 + 1),
}
"""Keras' own cell of each, and the number of weights."""


class Loop(keras.layers.RNN):
    """A cell in its loop, as `keras.layers.LSTM` is."""

    cell_class: type

    def __init__(self, units, seed=None, dropout=0.0, return_sequences=True, **kwargs):
        choices = {"seed": seed, "dropout": dropout, "recurrent_dropout": dropout}
        cell = self.cell_class(units, **choices, dtype=kwargs.get("dtype"), name="cell")
        super().__init__(cell, return_sequences=return_sequences, **kwargs)

    def get_config(self):
        config = super().get_config()
        del config["cell"]
        cell = self.cell
        return {**config, "units": cell.units, "seed": cell.seed, "dropout": cell.dropout}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def loop_of(cell_class) -> type:
    loop = type(f"{cell_class.__name__}Loop", (Loop,), {"cell_class": cell_class})
    return keras.saving.register_keras_serializable(package="hornbook")(loop)


LOOPS = {cell_class: loop_of(cell_class) for cell_class in CELLS}


def with_random_weights(layer, shape):
    layer.build(shape)
    for seed, weight in enumerate(layer.trainable_weights):
        weight.assign(normal(*weight.shape, seed=10 + seed))
    return layer


def norm(x, gain):
    spread = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (x - x.mean(-1, keepdims=True)) / spread * gain


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, h, c, kernel, recurrent, bias, kernel_gain, recurrent_gain, carry_gain, carry_shift):
    z = norm(x @ kernel, kernel_gain) + norm(h @ recurrent, recurrent_gain) + bias
    i, f, g, o = np.split(z, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(norm(c, carry_gain) + carry_shift)
    return h, c


def gru(x, h, kernel, recurrent, bias, kernel_gain, recurrent_gain):
    units = h.shape[-1]
    gates, candidate = slice(None, 2 * units), slice(2 * units, None)
    a, b = x @ kernel, h @ recurrent
    z, r = np.split(
        norm(a[:, gates], kernel_gain[gates])
        + norm(b[:, gates], recurrent_gain[gates])
        + bias.sum(0)[gates],
        2,
        axis=-1,
    )
    inner = norm(b[:, candidate], recurrent_gain[candidate]) + bias[1, candidate]
    outer = norm(a[:, candidate], kernel_gain[candidate]) + bias[0, candidate]
    return (sigmoid(z) * h + (1 - sigmoid(z)) * np.tanh(outer + sigmoid(r) * inner),)


def simple(x, h, kernel, recurrent, bias, gain):
    return (np.tanh(norm(x @ kernel + h @ recurrent, gain) + bias),)


STEPS = {
    LayerNormalizationLSTMCell: lstm,
    LayerNormalizationGRUCell: gru,
    LayerNormalizationSimpleRNNCell: simple,
}


@pytest.mark.parametrize("cell_class", CELLS)
def test_layer_does_what_every_layer_does(cell_class):
    # In a loop of Keras, since a cell takes and gives states, too.
    weights = CELLS[cell_class][1]
    check_layer(
        LOOPS[cell_class],
        {"units": 5, "seed": 0},
        (2, 3, 6),
        (2, 3, 5),
        weights=weights,
        tolerance=1e-4,
    )


@pytest.mark.parametrize("cell_class", CELLS)
def test_config_of_the_cell_rebuilds_it(cell_class):
    cell = cell_class(3, epsilon=1e-2, use_bias=False, dropout=0.1, recurrent_dropout=0.2, seed=1)
    config = keras.saving.serialize_keras_object(cell)
    assert config["registered_name"] == f"hornbook>{cell_class.__name__}"
    rebuilt = keras.saving.deserialize_keras_object(config)
    assert rebuilt.get_config() == cell.get_config()
    assert (rebuilt.epsilon, rebuilt.use_bias, rebuilt.recurrent_dropout) == (1e-2, False, 0.2)


@pytest.mark.parametrize("cell_class", CELLS)
def test_equals_the_equations_written_out(cell_class):
    cell = with_random_weights(cell_class(5), (3, 6))
    weights = [ops.convert_to_numpy(weight) for weight in cell.trainable_weights]
    states = [normal(3, 5, seed=seed) for seed in range(2 if len(weights) == 7 else 1)]
    x = normal(3, 6, seed=7)
    output, new = cell(x, [ops.convert_to_tensor(state) for state in states])
    wanted = STEPS[cell_class](x, *states, *weights)
    assert_close(output, wanted[0], atol=1e-4)
    for found, state in zip(new, wanted, strict=True):
        assert_close(found, state, atol=1e-4)


@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("cell_class", CELLS)
def test_without_normalization_it_is_keras_own_cell(cell_class, use_bias, monkeypatch):
    monkeypatch.setattr(cell_class, "_normalized", lambda self, x, gain: x)
    x = normal(2, 4, 6)
    theirs = keras.layers.RNN(CELLS[cell_class][0](5, use_bias=use_bias))
    ours = keras.layers.RNN(cell_class(5, use_bias=use_bias))
    theirs.build(x.shape)
    ours.build(x.shape)
    for mine, other in zip(ours.weights, theirs.weights, strict=False):
        value = normal(*mine.shape)
        mine.assign(value)
        other.assign(value)
    assert_close(ours(x), theirs(x), atol=1e-5)


@pytest.mark.parametrize("cell_class", CELLS)
def test_the_scale_of_the_input_changes_nothing(cell_class):
    cell = cell_class(5, epsilon=1e-12)
    x = normal(3, 6)
    state = cell.get_initial_state(3)
    cell.build(x.shape)
    assert_close(cell(x, state)[0], cell(1000 * x, state)[0], atol=1e-4)


@pytest.mark.parametrize("cell_class", CELLS)
def test_a_row_is_normalized_without_the_others(cell_class):
    loop = with_random_weights(keras.layers.RNN(cell_class(5)), (3, 4, 6))
    x = normal(3, 4, 6)
    assert_close(loop(x)[:1], loop(x[:1]), atol=1e-5)


@pytest.mark.parametrize(
    ("cell_class", "choice"),
    [*((kind, "recurrent_dropout") for kind in CELLS), (LayerNormalizationLSTMCell, "dropout")],
)
def test_dropout_drops_only_in_training(cell_class, choice):
    loop = keras.layers.RNN(cell_class(16, **{choice: 0.5}, seed=1))
    plain = keras.layers.RNN(cell_class(16))
    x = normal(2, 3, 8)
    loop(x)
    plain(x)
    for mine, other in zip(loop.trainable_weights, plain.trainable_weights, strict=True):
        other.assign(mine)
    assert_close(loop(x), plain(x), atol=1e-6)
    trained = ops.convert_to_numpy(loop(x, training=True))
    assert np.isfinite(trained).all()
    assert not np.allclose(trained, ops.convert_to_numpy(loop(x)), atol=1e-3)
    assert not np.allclose(trained, ops.convert_to_numpy(loop(x, training=True)), atol=1e-3)


@pytest.mark.parametrize("cell_class", CELLS)
def test_masked_steps_leave_the_state(cell_class):
    loop = with_random_weights(keras.layers.RNN(cell_class(5)), (3, 4, 6))
    x = normal(2, 4, 6)
    mask = np.array([[True, True, False, False]] * 2)
    assert_close(loop(x, mask=ops.convert_to_tensor(mask)), loop(x[:, :2]), atol=1e-5)


def test_float16_does_not_overflow_in_the_variance():
    cell = LayerNormalizationSimpleRNNCell(4, dtype="mixed_float16")
    x = np.full((1, 4), 1000.0, "float32")
    cell.build(x.shape)
    cell.kernel.assign(np.diag([1, -1, 1, -1]))
    output, _ = cell(x, cell.get_initial_state(1))
    assert_close(output, np.tanh([[1, -1, 1, -1]]), atol=1e-2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LayerNormalizationLSTMCell(3, epsilon=0), "`epsilon` must be above 0"),
        (lambda: LayerNormalizationGRUCell(3, reset_after=False), "`reset_after` must be True"),
    ],
    ids=["epsilon", "reset_after"],
)
def test_wrong_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()
