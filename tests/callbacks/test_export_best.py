import json
from pathlib import Path

import keras
import numpy as np
import pytest

from callbacks import ExportBest


class Versions:
    """Stands for an export: remembers what it was called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, model, logs):
        self.calls.append((model, logs))
        return Path(f"runs/{len(self.calls)}")


def play(callback, values, start=0):
    for epoch, value in enumerate(values, start=start):
        callback.on_epoch_end(epoch, {"val_accuracy": value})


def test_every_improvement_is_exported_and_nothing_else():
    export = Versions()
    callback = ExportBest(export, "val_accuracy")
    model = keras.Sequential()
    callback.set_model(model)
    callback.on_train_begin()
    play(callback, [0.5, 0.4, 0.5, 0.7])
    assert export.calls == [(model, {"val_accuracy": 0.5}), (model, {"val_accuracy": 0.7})]
    assert (callback.best, callback.best_epoch, callback.version) == (0.7, 3, Path("runs/2"))


def test_a_resumed_run_exports_only_what_beats_the_versions_before():
    first = ExportBest(Versions(), "val_accuracy")
    first.on_train_begin()
    play(first, [0.5, 0.6])
    state = json.loads(json.dumps(first.get_state()))
    export = Versions()
    resumed = ExportBest(export, "val_accuracy")
    resumed.on_train_begin()
    resumed.set_state(state)
    assert resumed.version == Path("runs/2")
    play(resumed, [0.55, 0.65], start=2)
    assert [logs for _, logs in export.calls] == [{"val_accuracy": 0.65}]


def test_state_before_the_first_version_is_empty():
    callback = ExportBest(Versions())
    callback.set_state(callback.get_state())
    assert (callback.best, callback.best_epoch, callback.version) == (None, None, None)


def test_an_instance_used_again_starts_afresh():
    callback = ExportBest(Versions(), "val_accuracy")
    callback.on_train_begin()
    play(callback, [0.9])
    callback.on_train_begin()
    play(callback, [0.1])
    assert callback.best == 0.1


def test_a_missing_metric_warns_and_exports_nothing():
    export = Versions()
    callback = ExportBest(export, "val_loss")
    callback.on_train_begin()
    with pytest.warns(UserWarning, match="val_accuracy"):
        play(callback, [0.1, 0.2])
    assert export.calls == []


def test_fit_exports_a_model_that_others_can_load(tmp_path):
    def export(model, logs):
        path = tmp_path / f"{logs['loss']:.6f}.keras"
        model.save(path)
        return path

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.ones((8, 1), "float32")
    callback = ExportBest(export, "loss")
    model.fit(x, 3 * x, epochs=3, verbose=0, callbacks=[callback])
    assert len(list(tmp_path.iterdir())) == 3
    loaded = keras.models.load_model(callback.version)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
