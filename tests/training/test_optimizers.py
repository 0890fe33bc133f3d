import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from layers import LayerNormalizationGRUCell, LayerNormalizationLSTMCell
from training.optimizers import (
    ADAMW_DECAY,
    LEARNING_RATES,
    NOT_DECAYED,
    OPTIMIZERS,
    layerwise_scale,
    learning_rate_schedule,
    optimizer,
)
from training.updates import averages


def dense(value: float) -> keras.layers.Dense:
    layer = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(value))
    layer.build((None, 1))
    layer.bias.assign([value])
    return layer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_is_decoupled_and_spares_the_bias(name):
    layer = dense(2.0)
    made = optimizer(name, learning_rate=0.5, weight_decay=0.1)
    made.apply([np.zeros((1, 1)), np.zeros(1)], layer.trainable_variables)
    # A zero gradient moves nothing, so what is left is w - learning_rate * decay * w.
    assert layer.kernel.numpy().item() == pytest.approx(2.0 - 0.5 * 0.1 * 2.0)
    assert layer.bias.numpy().item() == 2.0


@pytest.mark.parametrize("cell_class", [LayerNormalizationLSTMCell, LayerNormalizationGRUCell])
def test_decay_spares_gains_and_shifts(cell_class):
    cell = cell_class(2)
    cell.build((None, 3))
    before = {w.name: w.numpy() for w in cell.trainable_weights}
    made = optimizer("adamw", learning_rate=0.5, weight_decay=0.1)
    made.apply([np.zeros(w.shape) for w in cell.trainable_weights], cell.trainable_weights)
    moved = [w.name for w in cell.trainable_weights if (w.numpy() != before[w.name]).any()]
    assert moved == ["kernel", "recurrent_kernel"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_decay_at_zero(name):
    layer = dense(2.0)
    optimizer(name, weight_decay=0.0).apply(
        [np.zeros((1, 1)), np.zeros(1)], layer.trainable_variables
    )
    assert layer.kernel.numpy().item() == 2.0


def test_adamw_alone_decays_by_default():
    for name, expected in {"adam": 2.0, "adamw": 2.0 - 0.5 * ADAMW_DECAY * 2.0}.items():
        layer = dense(2.0)
        made = optimizer(name, learning_rate=0.5)
        made.apply([np.zeros((1, 1)), np.zeros(1)], layer.trainable_variables)
        assert layer.kernel.numpy().item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["adam", "adam_98", "adamw"])
def test_adam_takes_the_steps_of_keras(name):
    def trained(made) -> list[np.ndarray]:
        kernel = keras.Variable(np.linspace(-1, 1, 12).reshape(4, 3), name="kernel")
        bias = keras.Variable(np.zeros(3), name="bias")
        random = np.random.default_rng(0)
        for _ in range(20):
            made.apply([random.normal(size=v.shape) for v in (kernel, bias)], [kernel, bias])
        return [np.asarray(v) for v in (kernel, bias, *made.variables)]

    theirs = OPTIMIZERS[name](0.01)
    if name == "adamw":
        theirs.weight_decay = 0.1
        theirs.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    ours = optimizer(name, 0.01, weight_decay=0.1 if name == "adamw" else 0.0)
    for mine, their in zip(trained(ours), trained(theirs), strict=True):
        np.testing.assert_allclose(mine, their, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_row_of_an_embedding_that_is_looked_up_twice_gets_one_gradient(name):
    def trained(gradient) -> np.ndarray:
        made, rows = optimizer(name, 0.1), keras.Variable(np.ones((3, 1)))
        for _ in range(2):
            made.apply([gradient], [rows])
        return np.asarray(rows)

    # Row 0 twice, with 1 and with 3, and row 2.
    slices = tf.IndexedSlices(tf.constant([[1.0], [3.0], [2.0]]), [0, 0, 2], tf.constant([3, 1]))
    whole = tf.constant([[4.0], [0.0], [2.0]])
    np.testing.assert_allclose(trained(slices), trained(whole), rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["adam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("adamw", "rmsprop"))]
)
def test_a_strategy_trains_an_embedding_as_it_is_without(name):
    def trained(strategy) -> np.ndarray:
        with strategy.scope():
            table = keras.layers.Embedding(3, 2, embeddings_initializer="ones")
            model = keras.Sequential([keras.Input((4,), dtype="int32"), table])
            model.compile(optimizer(name, 0.1), loss="mse")
        ids = np.array([[0, 0, 0, 2], [0, 1, 0, 0]], "int32")
        target = np.arange(16.0).reshape(2, 4, 2)
        model.fit(ids, target, batch_size=2, epochs=3, shuffle=False, verbose=0)
        return np.asarray(table.embeddings)

    together = trained(tf.distribute.MirroredStrategy(["CPU:0"]))
    np.testing.assert_allclose(together, trained(tf.distribute.get_strategy()), rtol=1e-5)


def test_second_step_of_momentum_and_nesterov_by_hand():
    # v = 0.9 v - 0.1 g; momentum: w += v; nesterov: w += 0.9 v - 0.1 g, both with g = 1.
    expected = {"sgd": -0.2, "momentum": -0.1 - 0.19, "nesterov": -0.19 - (0.171 + 0.1)}
    for name, value in expected.items():
        layer = dense(0.0)
        made = optimizer(name, learning_rate=0.1)
        for _ in range(2):
            made.apply([np.ones((1, 1)), np.zeros(1)], layer.trainable_variables)
        assert layer.kernel.numpy().item() == pytest.approx(value), name


def test_gradients_are_clipped_by_their_common_norm():
    layer = dense(0.0)
    made = optimizer("sgd", learning_rate=1.0, clip_norm=1.0)
    made.apply([np.full((1, 1), 3.0), np.full(1, 4.0)], layer.trainable_variables)
    assert layer.kernel.numpy().item() == pytest.approx(-0.6)
    assert layer.bias.numpy().item() == pytest.approx(-0.8)


def test_a_row_that_was_looked_up_twice_is_added_up_before_it_is_clipped():
    table = keras.Variable(np.zeros((3, 1)), dtype="float32")
    made = optimizer("sgd", learning_rate=1.0, clip_norm=1.0)
    made.build([table])
    made.apply([tf.IndexedSlices(tf.constant([[3.0], [3.0], [8.0]]), [1, 1, 2], [3, 1])], [table])
    # Whole the rows are 6 and 8, of norm 10.
    np.testing.assert_allclose(table.numpy(), [[0], [-0.6], [-0.8]], atol=1e-6)


def test_gradients_of_two_replicas_are_clipped_together(monkeypatch):
    def with_another(self, gradients_and_variables):
        return [(2 * gradient, variable) for gradient, variable in gradients_and_variables]

    monkeypatch.setattr(keras.optimizers.SGD, "_all_reduce_sum_gradients", with_another)
    layer = dense(0.0)
    made = optimizer("sgd", learning_rate=1.0, clip_norm=1.0)
    made.apply([np.full((1, 1), 3.0), np.full(1, 4.0)], layer.trainable_variables)
    assert layer.kernel.numpy().item() == pytest.approx(-0.6)
    assert layer.bias.numpy().item() == pytest.approx(-0.8)


def test_cosine_with_warmup_by_hand():
    rate = learning_rate_schedule(0.4, "cosine", warmup_steps=4, total_steps=12)
    got = [float(rate(step)) for step in (0, 2, 4, 6, 8, 12)]
    quarter = 0.2 * (1 + math.cos(math.pi / 4))
    assert got == pytest.approx([0.0, 0.2, 0.4, quarter, 0.2, 0.0], abs=1e-7)


@pytest.mark.parametrize(("warmup", "rates"), [(4, (0, 0.2, 0.4, 0.2)), (0, (0.4, 1 / 3, 4 / 15))])
def test_linear_by_hand(warmup, rates):
    rate = learning_rate_schedule(0.4, "linear", warmup, total_steps=12)
    got = [float(rate(step)) for step in (0, 2, 4, 8)[: len(rates)]]
    assert got == pytest.approx(list(rates), abs=1e-7) and float(rate(12)) == 0
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert again.get_config() == rate.get_config()


def test_cosine_and_constant_without_warmup():
    assert float(learning_rate_schedule(0.4, "cosine", 0, 10)(5)) == pytest.approx(0.2)
    assert learning_rate_schedule(0.4, "constant", 0, 10) == 0.4


def test_constant_stays_after_the_warmup():
    rate = learning_rate_schedule(0.4, "constant", 4, 10)
    assert [float(rate(step)) for step in (1, 4, 9)] == pytest.approx([0.1, 0.4, 0.4])


@pytest.mark.parametrize("hidden_dim", [128, 512])
def test_the_inverse_square_root_is_that_of_the_paper(hidden_dim):
    rate = learning_rate_schedule((hidden_dim * 400) ** -0.5, "inverse_sqrt", 400, 10_000)
    for step in (1, 100, 400, 900, 9999):
        paper = hidden_dim**-0.5 * min(step**-0.5, step * 400**-1.5)
        assert float(rate(step)) == pytest.approx(paper, rel=1e-5)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert again.get_config() == rate.get_config()


def test_every_optimizer_has_a_learning_rate():
    assert LEARNING_RATES.keys() == OPTIMIZERS.keys()
    assert "bias" in NOT_DECAYED


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_scale_gives_each_layer_the_learning_rate_it_would_have_alone(name):
    def trained(rate, scale):
        first, second = dense(0.5), dense(-0.25)
        made = optimizer(name, rate, weight_decay=0.0, scale=scale)
        variables = [first.kernel, second.kernel]
        made.build(variables)
        for _ in range(3):
            made.apply([np.array([[0.3]], np.float32), np.array([[-2.0]], np.float32)])
        return [float(variable.numpy().item()) for variable in variables]

    depths: dict[str, int] = {}

    def scale(path):
        depths.setdefault(path, len(depths))
        return layerwise_scale({path: depths[path], "last": 1}, 0.1)(path)

    both = trained(0.02, scale)
    assert both == pytest.approx([trained(0.002, None)[0], trained(0.02, None)[1]], abs=1e-7)


def small_classifier(made) -> keras.Model:
    """Looks up some rows of its table twice; has neither dropout nor batch statistics."""
    keras.utils.set_random_seed(1)
    ids = keras.Input((4,), dtype="int32")
    x = keras.layers.Flatten()(keras.layers.Embedding(6, 3)(ids))
    model = keras.Model(ids, keras.layers.Dense(2)(keras.layers.Dense(5, activation="tanh")(x)))
    model.compile(made, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def trained_in_batches(made, batch_size: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    ids = random.integers(0, 6, (36, 4)).astype("int32")
    model = small_classifier(made)
    model.fit(ids, ids[:, 0] % 2, batch_size=batch_size, epochs=2, shuffle=False, verbose=0)
    return [*model.get_weights(), *(np.asarray(average) for _, average in averages(made))]


@pytest.mark.parametrize(
    ("name", "schedule", "clip_norm"),
    [
        ("sgd", "constant", 0.05),
        pytest.param("momentum", "cosine", None, marks=pytest.mark.slow),
        ("adamw", "cosine", 0.05),
    ],
)
def test_accumulated_batches_train_as_one_large_batch(name, schedule, clip_norm):
    def made(accumulate):
        # 72 examples in updates of 12.
        rate = learning_rate_schedule(0.05, schedule, warmup_steps=2, total_steps=6)
        return optimizer(
            name, rate, 0.1, clip_norm, lambda _: 0.5, accumulate=accumulate, average=0.7
        )

    whole = trained_in_batches(made(1), 12)
    parts = trained_in_batches(made(4), 3)
    for part, one in zip(parts, whole, strict=True):
        np.testing.assert_allclose(part, one, atol=1e-6)


def test_weights_stay_until_the_last_batch_of_an_update():
    layer = dense(1.0)
    made = optimizer("sgd", learning_rate=1.0, accumulate=3)
    for gradient, expected in [(1.0, 1.0), (2.0, 1.0), (6.0, -2.0), (9.0, -2.0)]:
        made.apply([np.full((1, 1), gradient), np.zeros(1)], layer.trainable_variables)
        assert layer.kernel.numpy().item() == pytest.approx(expected)
    assert int(made.iterations) == 1


def test_float16_scales_the_loss_of_each_accumulated_batch():
    keras.config.set_dtype_policy("mixed_float16")
    layer = dense(1.0)
    made = keras.optimizers.LossScaleOptimizer(optimizer("sgd", 1.0, accumulate=2, average=0.5))
    made.build(layer.trainable_variables)
    for gradient in (1.0, 3.0):
        made.apply([made.scale_loss(np.full((1, 1), gradient, "float32")), np.zeros(1, "float32")])
    assert layer.kernel.numpy().item() == pytest.approx(-1.0)
    (kernel, average), _ = averages(made)
    assert kernel is layer.kernel and np.asarray(average).item() == pytest.approx(-1.0)


def test_moving_average_by_hand():
    layer = dense(0.0)
    made = optimizer("sgd", learning_rate=1.0, average=0.5)
    for _ in range(3):
        made.apply([np.full((1, 1), -1.0), np.zeros(1)], layer.trainable_variables)
    # Weights 1, 2, 3; averages 1, 1.5, 2.25.
    (_, average), _ = averages(made)
    assert np.asarray(average).item() == pytest.approx(2.25)
    assert averages(optimizer("sgd")) == []


def test_errors_name_the_value():
    with pytest.raises(ValueError, match=r"`name` must be one of sgd, momentum.*'lion'"):
        optimizer("lion")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"decay=1\.5"):
        layerwise_scale({"kernel": 0}, 1.5)
    with pytest.raises(ValueError, match="weight_decay=-1"):
        optimizer("sgd", weight_decay=-1)
    with pytest.raises(ValueError, match="warmup_steps=10, total_steps=10"):
        learning_rate_schedule(0.1, "cosine", 10, 10)
    with pytest.raises(ValueError, match=r"`accumulate` must be an integer of at least 1.*=0"):
        optimizer("sgd", accumulate=0)
    with pytest.raises(ValueError, match=r"average=1\.0"):
        optimizer("sgd", average=1.0)
