import json

import keras
import numpy as np
import pytest

from callbacks import EarlyStopping
from callbacks.early_stopping import generalization_loss, training_progress


def one_weight_model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.stop_training = False
    return model


def run(callback, val_losses, losses=None, start=0, state=None):
    """Plays epochs whose weight after epoch e is e, until the callback stops; returns the model."""
    model = one_weight_model()
    callback.set_model(model)
    callback.on_train_begin()
    if state is not None:
        callback.set_state(state)
    for epoch in range(start, len(val_losses)):
        if model.stop_training:
            break
        model.set_weights([np.full((1, 1), epoch, "float32")])
        training_loss = losses[epoch] if losses else 1.0
        callback.on_epoch_end(epoch, {"loss": training_loss, "val_loss": val_losses[epoch]})
    return model


def final_weight(callback, model):
    callback.on_train_end()
    return float(model.get_weights()[0][0, 0])


def test_patience_stops_after_that_many_epochs_without_improvement_and_restores_the_best():
    callback = EarlyStopping(patience=2)
    model = run(callback, [5.0, 3.0, 4.0, 3.0, 1.0])
    assert (callback.stopped_epoch, callback.best_epoch, callback.best) == (3, 1, 3.0)
    assert final_weight(callback, model) == 1.0


def test_without_restoring_the_last_weights_stay():
    callback = EarlyStopping(patience=2, restore_best_weights=False)
    model = run(callback, [5.0, 3.0, 4.0, 3.0])
    assert final_weight(callback, model) == 3.0


def test_best_weights_are_restored_even_if_nothing_stopped_the_run():
    callback = EarlyStopping(patience=5)
    model = run(callback, [5.0, 3.0, 4.0])
    assert callback.stopped_epoch is None
    assert final_weight(callback, model) == 1.0


def test_improvement_within_min_delta_does_not_count():
    callback = EarlyStopping(patience=2, min_delta=0.5)
    run(callback, [5.0, 4.6, 4.5, 1.0])
    assert (callback.stopped_epoch, callback.best_epoch) == (2, 0)


def test_epochs_without_validation_never_stop_a_run():
    callback = EarlyStopping(patience=4, every=3)
    nothing = float("nan")
    run(callback, [nothing, nothing, 0.4, nothing, nothing, 0.5, nothing, nothing, 0.6, 0.7])
    assert (callback.stopped_epoch, callback.best_epoch) == (8, 2)


def test_nan_counts_as_no_improvement():
    callback = EarlyStopping(patience=2)
    run(callback, [float("nan"), 2.0, float("nan"), float("nan"), 1.0])
    assert (callback.stopped_epoch, callback.best) == (3, 2.0)


def test_generalization_loss_and_progress_follow_the_formulas():
    # 100 (0.6 / 0.5 - 1) = 20 %; mean (4 + 3 + 2) / 3 = 3, 1000 (3 / 2 - 1) = 500 per mille.
    assert generalization_loss(0.6, 0.5) == pytest.approx(20.0)
    assert training_progress([4.0, 3.0, 2.0]) == pytest.approx(500.0)
    assert generalization_loss(0.0, 0.0) == 0.0
    with pytest.raises(ValueError, match="at least 0"):
        generalization_loss(1.0, -1.0)


@pytest.mark.parametrize(("alpha", "stopped"), [(4.0, 2), (5.5, 3), (10.0, None)])
def test_gl_stops_when_the_generalization_loss_exceeds_alpha(alpha, stopped):
    # Best 1.0 after epoch 1; GL is 0, 0, 5, 6, 0 percent.
    callback = EarlyStopping(criterion="gl", alpha=alpha)
    run(callback, [2.0, 1.0, 1.05, 1.06, 1.0])
    assert callback.stopped_epoch == stopped


def test_pq_judges_at_the_ends_of_strips_only():
    # Strip of 2. After epochs 2, 4, 6 (counted from 1): GL = 0, 10, 20 %.
    # P = 1000 (1.5 / 1 - 1) = 500; 1000 (0.9 / 0.8 - 1) = 125; 1000 (0.8 / 0.8 - 1) = 0.
    # GL / P = 0, 0.08, infinite. GL alone is 50 % after epoch 3 and would stop there.
    val_losses = [2.0, 1.0, 1.5, 1.1, 1.1, 1.2]
    losses = [2.0, 1.0, 1.0, 0.8, 0.8, 0.8]
    for alpha, stopped in [(0.07, 3), (0.09, 5)]:
        callback = EarlyStopping(criterion="pq", alpha=alpha, strip=2)
        run(callback, val_losses, losses)
        assert callback.stopped_epoch == stopped


@pytest.mark.parametrize("interrupted_after", range(6))
@pytest.mark.parametrize(
    "settings",
    [{"patience": 3}, {"criterion": "gl", "alpha": 15.0}, {"criterion": "pq", "alpha": 0.1}],
    ids=["patience", "gl", "pq"],
)
def test_a_resumed_run_stops_and_restores_like_an_unbroken_one(settings, interrupted_after):
    val_losses = [2.0, 1.0, 1.1, 1.05, 1.2, 1.2, 0.5, 0.4]
    losses = [2.0, 1.5, 1.0, 0.8, 0.7, 0.6, 0.5, 0.4]
    unbroken = EarlyStopping(strip=3, **settings)
    expected_weight = final_weight(unbroken, run(unbroken, val_losses, losses))
    assert unbroken.stopped_epoch is not None and expected_weight == 1.0

    first = EarlyStopping(strip=3, **settings)
    run(first, val_losses[: interrupted_after + 1], losses)
    resumed = EarlyStopping(strip=3, **settings)
    model = run(resumed, val_losses, losses, start=interrupted_after + 1, state=first.get_state())

    assert resumed.stopped_epoch == unbroken.stopped_epoch
    assert final_weight(resumed, model) == expected_weight


def test_state_is_json_but_for_the_arrays():
    callback = EarlyStopping()
    run(callback, [2.0, 1.0])
    state = callback.get_state()
    weights = state.pop("best_weights")
    assert [type(weight) for weight in weights] == [np.ndarray]
    assert json.loads(json.dumps(state)) == state


def test_an_instance_used_again_starts_afresh():
    callback = EarlyStopping(patience=1)
    run(callback, [1.0, 2.0])
    run(callback, [5.0, 4.0])
    assert (callback.stopped_epoch, callback.best) == (None, 4.0)


def test_a_missing_metric_warns_and_stops_nothing():
    callback = EarlyStopping("val_accuracy", patience=1)
    with pytest.warns(UserWarning, match="Available: loss, val_loss"):
        model = run(callback, [1.0, 2.0, 3.0])
    assert not model.stop_training


def test_stops_a_keras_fit_and_restores_its_best_weights():
    # Every step overshoots, so the first epoch is the best.
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(3.0), "mse")
    images = np.linspace(-1, 1, 16, dtype="float32")[:, None]
    callback = EarlyStopping(patience=2)
    history = model.fit(
        images, 2 * images, epochs=10, validation_data=(images, 2 * images), verbose=0,
        callbacks=[callback],
    )  # fmt: skip
    assert callback.stopped_epoch == callback.best_epoch + 2 == len(history.history["loss"]) - 1
    best = history.history["val_loss"][callback.best_epoch]
    assert model.evaluate(images, 2 * images, verbose=0) == pytest.approx(best)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"criterion": "up"}, "`criterion`"),
        ({"patience": 0}, "`patience`"),
        ({"alpha": 0.0}, "`alpha`"),
        ({"strip": 1}, "`strip`"),
        ({"criterion": "gl", "monitor": "val_accuracy"}, "falling"),
        ({"criterion": "pq", "min_delta": 0.1}, "min_delta=0"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**arguments)
