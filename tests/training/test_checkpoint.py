import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from training.checkpoint import Checkpoint, Pace, check_resume, save_model, sync_folder

STATE = {
    "step": 7,
    "stopped": False,
    "history": {"loss": [0.5, 0.25]},
    "variables": [np.arange(6, dtype="float32").reshape(2, 3), np.array(3)],
    "callbacks": [{"best": None, "weights": [np.ones(2)]}, {}],
    "config": {"model": "lenet5"},
}


def test_state_comes_back_with_its_types(tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    assert checkpoint.load() is None
    checkpoint.save(STATE)
    loaded = checkpoint.load()
    assert loaded is not None
    np.testing.assert_array_equal(loaded["variables"][0], STATE["variables"][0])
    assert loaded["variables"][0].dtype == np.float32
    assert loaded["variables"][1].shape == ()
    assert loaded["callbacks"][0]["best"] is None
    np.testing.assert_array_equal(loaded["callbacks"][0]["weights"][0], [1, 1])
    for name in ("step", "stopped", "history", "config"):
        assert loaded[name] == STATE[name]


def test_delete_leaves_nothing(tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    checkpoint.save(STATE)
    checkpoint.delete()
    checkpoint.delete()
    assert list(tmp_path.iterdir()) == []


def test_stages_are_deleted_by_themselves_and_the_last_takes_the_folder_along(tmp_path):
    config = {"epochs": 2}
    stages = [Checkpoint(tmp_path / "checkpoint", stage) for stage in ("", "reward", "policy")]
    for step, checkpoint in enumerate(stages):
        checkpoint.save({"step": step, "config": config})
    assert stages[1].path == tmp_path / "checkpoint" / "reward" / "state.npz"
    for step, checkpoint in reversed(list(enumerate(stages))):
        assert check_resume(checkpoint, config, required=True) == step
        with pytest.raises(ValueError, match="epochs: 2 in the checkpoint, 3 now"):
            check_resume(checkpoint, {"epochs": 3}, required=True)
        checkpoint.delete()
        assert check_resume(checkpoint, config, required=False) == 0
    assert list(tmp_path.iterdir()) == []


class Clock:
    """A clock that moves only when the test sets it, in seconds."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_checkpoint_is_due_ten_seconds_after_the_last():
    clock = Clock()
    pace = Pace(None, clock)
    due = []
    for step in range(1, 50):
        clock.now += 1.0
        if pace.is_due(step):
            due.append(step)
            with pace.writing():
                clock.now += 0.5
    assert due == [10, 20, 30, 40]
    assert pace.steps_left(7) == math.inf


def test_checkpoints_that_take_long_get_a_twentieth_of_the_time():
    clock = Clock()
    pace = Pace(None, clock)
    with pace.writing():
        clock.now += 2.0
    clock.now += 39.0
    assert not pace.is_due(1)
    clock.now += 1.0
    assert pace.is_due(1)


def test_a_checkpoint_is_due_at_every_so_many_steps_whatever_the_time():
    pace = Pace(4, Clock())
    assert [step for step in range(1, 13) if pace.is_due(step)] == [4, 8, 12]
    assert [pace.steps_left(step) for step in (0, 3, 4)] == [4, 1, 4]


KILLED_WHILE_SAVING = """
import os, signal, sys
import numpy as np
from training import checkpoint

real = os.{call}
def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
saved = checkpoint.Checkpoint(sys.argv[1])
saved.save({{"step": 1, "variables": [np.ones(1000)]}})
os.{call} = die
saved.save({{"step": 2, "variables": [np.zeros(1000)]}})
"""


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_kill_while_saving_keeps_the_old_state(tmp_path, call):
    code = KILLED_WHILE_SAVING.format(call=call)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    loaded = Checkpoint(tmp_path).load()
    assert loaded is not None
    assert loaded["step"] == 1
    assert loaded["variables"][0].sum() == 1000
    Checkpoint(tmp_path).save({"step": 3})
    assert Checkpoint(tmp_path).load() == {"step": 3}


def test_kill_while_a_model_is_saved_keeps_the_old_one(tmp_path, monkeypatch):
    def model(value):
        layer = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(value))
        return keras.Sequential([keras.Input((1,)), layer])

    path = tmp_path / "model.keras"
    save_model(model(1.0), path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_model(model(2.0), path)
    assert keras.models.load_model(path).get_weights()[0] == 1.0
    monkeypatch.undo()
    save_model(model(2.0), path)
    assert keras.models.load_model(path).get_weights()[0] == 2.0
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]


def test_same_config_resumes_and_another_is_refused_with_the_differences(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    config = {"epochs": 3, "model": "lenet5", "out": "a"}
    assert check_resume(checkpoint, config, required=False) == 0
    checkpoint.save({"step": 12, "config": config})
    moved = {**config, "out": "b"}
    assert check_resume(checkpoint, moved, required=True, may_differ=("out",)) == 12
    with pytest.raises(ValueError, match="epochs: 3 in the checkpoint, 4 now") as error:
        check_resume(checkpoint, {**config, "epochs": 4}, required=False)
    assert "model" not in str(error.value)


def test_required_checkpoint_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="No checkpoint to resume from"):
        check_resume(Checkpoint(tmp_path), {}, required=True)


def test_sync_folder_takes_only_folders_that_exist(tmp_path):
    sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "missing")
