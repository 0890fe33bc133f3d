import keras
import numpy as np
import pytest

from callbacks import BestWeights, EarlyStopping
from training.checkpoint import Checkpoint


def play(callback, epochs, start=0, state=None):
    """Plays epochs of `(val_accuracy, val_loss)` whose weight after epoch e is e."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    callback.set_model(model)
    callback.on_train_begin()
    if state is not None:
        callback.set_state(state)
    for epoch, (accuracy, loss) in list(enumerate(epochs))[start:]:
        model.set_weights([np.full((1, 1), epoch, "float32")])
        callback.on_epoch_end(epoch, {"val_accuracy": accuracy, "val_loss": loss})
    return model


def final_weight(callback, model) -> float:
    callback.on_train_end()
    return float(model.get_weights()[0].item())


def test_model_ends_with_the_weights_of_the_best_epoch():
    callback = BestWeights("val_accuracy")
    model = play(callback, [(0.5, 1.0), (0.8, 0.5), (0.7, 0.4)])
    assert (callback.best, callback.best_epoch) == (0.8, 1)
    assert (callback.last, callback.last_epoch) == (0.7, 2)
    assert final_weight(callback, model) == 1.0


@pytest.mark.parametrize(
    ("tie", "losses", "expected"),
    [("val_loss", (0.5, 0.4, 0.4), 1), ("val_loss", (0.4, 0.5, 0.4), 0), (None, (3, 2, 1), 0)],
)
def test_the_lower_loss_decides_between_equal_values_and_then_the_earlier_epoch(
    tie, losses, expected
):
    callback = BestWeights("val_accuracy", tie)
    play(callback, [(0.9, loss) for loss in losses])
    assert callback.best_epoch == expected


def test_a_tie_without_the_loss_in_the_logs_keeps_the_earlier_epoch():
    callback = BestWeights("val_accuracy", "val_error")
    play(callback, [(0.9, 0.5), (0.9, 0.4)])
    assert callback.best_epoch == 0


def test_the_mean_of_several_metrics_decides():
    callback = BestWeights(("val_accuracy", "val_loss"), mode="max")
    play(callback, [(0.5, 0.5), (0.2, 0.9), (0.9, 0.0)])
    assert (callback.best, callback.best_epoch) == (pytest.approx(0.55), 1)


def test_an_epoch_that_was_not_measured_is_no_last_one():
    callback = BestWeights("val_accuracy")
    play(callback, [(float("nan"), 1.0), (0.5, 1.0), (0.4, 1.0), (float("nan"), 1.0)])
    assert (callback.best_epoch, callback.last_epoch, callback.last) == (1, 2, 0.4)


def test_the_last_weights_stay_where_no_epoch_has_a_value():
    callback = BestWeights("val_accuracy")
    model = play(callback, [(float("nan"), 1.0)] * 2)
    assert (callback.best_epoch, callback.last_epoch) == (None, None)
    assert final_weight(callback, model) == 1.0
    with pytest.warns(UserWarning, match="'accuracy' is not in the logs"):
        play(BestWeights("accuracy"), [(0.5, 0.5)])


@pytest.mark.parametrize("interrupted_after", range(1, 5))
def test_a_resumed_run_ends_with_the_same_weights(interrupted_after):
    epochs = [(0.5, 1.0), (0.8, 0.5), (0.8, 0.4), (0.7, 0.3), (0.8, 0.6)]
    first = BestWeights("val_accuracy")
    play(first, epochs[:interrupted_after])
    resumed = BestWeights("val_accuracy")
    model = play(resumed, epochs, interrupted_after, first.get_state())
    assert (resumed.best, resumed.best_epoch, resumed.last_epoch) == (0.8, 2, 4)
    assert final_weight(resumed, model) == 2.0


def test_a_weight_without_axes_comes_back_from_a_checkpoint(tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)])
    scale = model.add_weight(shape=(), initializer="ones", name="scale")
    for kind in (BestWeights, EarlyStopping):
        first, resumed = (kind("val_accuracy") for _ in range(2))
        checkpoint = Checkpoint(tmp_path / kind.__name__)
        for callback in (first, resumed):
            callback.set_model(model)
            callback.on_train_begin()
        scale.assign(2.0)
        first.on_epoch_end(0, {"val_accuracy": 0.5, "val_loss": 1.0})
        checkpoint.save({"callback": first.get_state()})
        scale.assign(3.0)
        resumed.set_state((checkpoint.load() or {})["callback"])
        resumed.on_train_end()
        assert float(scale) == 2.0


def test_weights_are_released_when_the_model_has_them():
    callback = BestWeights("val_accuracy")
    play(callback, [(0.5, 1.0)])
    assert callback.get_state()["kept_weights"] is not None
    callback.on_train_end()
    assert callback.get_state()["kept_weights"] is None


def test_an_instance_used_again_starts_afresh():
    callback = BestWeights("val_accuracy")
    play(callback, [(0.9, 0.1)])
    play(callback, [(0.5, 0.2)])
    assert (callback.best, callback.best_epoch) == (0.5, 0)


def test_early_stopping_stops_and_the_best_epoch_is_kept():
    # Every step overshoots, so the loss rises from the first epoch on.
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(3.0), "mse")
    x = np.linspace(-1, 1, 16, dtype="float32")[:, None]
    best = BestWeights("val_loss")
    stopping = EarlyStopping(patience=2, restore_best_weights=False)
    history = model.fit(
        x, 2 * x, epochs=9, validation_data=(x, 2 * x), verbose=0, callbacks=[best, stopping]
    ).history
    assert best.last_epoch == stopping.stopped_epoch == best.best_epoch + 2
    assert best.last == history["val_loss"][-1] > best.best
    assert model.evaluate(x, 2 * x, verbose=0) == pytest.approx(best.best)


def test_the_latest_epoch_within_one_standard_error_is_kept():
    # One standard error of 0.8 on 100 examples is 0.04.
    callback = BestWeights("val_accuracy", num_examples=100)
    callback.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    callback.on_train_begin()
    for epoch, value in enumerate([0.5, 0.8, 0.77, 0.75]):
        callback.model.set_weights([np.full((1, 1), epoch), np.zeros(1)])
        logs = {"val_accuracy": value, "val_loss": 1.0}
        callback.on_epoch_end(epoch, logs)
    assert (callback.best_epoch, callback.kept_epoch, callback.kept) == (1, 2, 0.77)
    assert logs["kept_epoch"] == 3
    callback.on_train_end()
    assert callback.model.get_weights()[0] == [[2]]
    assert BestWeights("val_loss", num_examples=100).num_examples is None
    with pytest.raises(ValueError, match="`num_examples` must be at least 1"):
        BestWeights("val_accuracy", num_examples=0)
