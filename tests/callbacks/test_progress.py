import io
import time

import keras
import numpy as np
import pytest

from callbacks import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when the test sets it, in seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def play(progress, clock, epochs, first_epoch=0, batches=(0, 2)):
    """Plays epochs of 4 steps, 10 s each, that log these values."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    progress.set_model(model)
    progress.set_params({"epochs": 3, "steps": 4})
    progress.on_train_begin()
    for epoch, logs in enumerate(epochs, first_epoch):
        progress.on_epoch_begin(epoch)
        for batch in batches:
            progress.on_train_batch_begin(batch)
            clock[0] += 20
            progress.on_train_batch_end(batch + 1, {"loss": 0.5})
        progress.on_epoch_end(epoch, logs)


EPOCHS = [
    {"loss": 0.5, "val_loss": 0.25, "val_accuracy": 0.75},
    {"loss": 0.25, "val_loss": 0.5, "val_accuracy": 0.5},
    {"loss": 0.125, "val_loss": 0.5, "val_accuracy": np.float32(1.0)},
]


def test_a_file_gets_a_line_an_epoch(clock, capsys):
    play(Progress("val_accuracy"), clock, EPOCHS)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/3  loss 0.5  val_loss 0.25  val_accuracy 0.75, best 0.75 in 1  rate 0.25"
        "  01:20 left",
        "epoch 2/3  loss 0.25  val_loss 0.5  val_accuracy 0.5, best 0.75 in 1  rate 0.25"
        "  00:40 left",
        "epoch 3/3  loss 0.125  val_loss 0.5  val_accuracy 1, best 1 in 3  rate 0.25",
    ]


def test_what_was_not_measured_is_left_out(clock, capsys):
    nothing = {"val_loss": np.nan, "val_accuracy": np.nan}
    play(Progress("val_accuracy"), clock, [{"loss": 0.5} | nothing, EPOCHS[1], EPOCHS[2] | nothing])
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/3  loss 0.5  rate 0.25  01:20 left",
        "epoch 2/3  loss 0.25  val_loss 0.5  val_accuracy 0.5, best 0.5 in 2  rate 0.25"
        "  00:40 left",
        "epoch 3/3  loss 0.125  rate 0.25",
    ]


def test_a_model_may_name_other_logs(clock, capsys, monkeypatch):
    monkeypatch.setattr(keras.Sequential, "shown_logs", ("reward", "kl"), raising=False)
    play(Progress(), clock, [{"reward": 0.5, "kl": 2.0, "loss": 1.0}])
    assert capsys.readouterr().out.startswith("epoch 1/3  reward 0.5  kl 2  rate 0.25")


def test_a_terminal_shows_the_steps_in_place(clock):
    screen = Terminal()
    play(Progress("val_loss", screen), clock, EPOCHS[:1])
    first, second, line = screen.getvalue().split("\r")
    assert first == "epoch 1/3  step 2/4  loss 0.5  01:40 left"
    assert second == "epoch 1/3  step 4/4  loss 0.5  01:20 left"
    assert line == "epoch 1/3  loss 0.5  val_loss 0.25, best 0.25 in 1  rate 0.25  01:20 left\n"


def test_a_resumed_run_knows_the_best_and_measures_its_own_steps(clock, capsys):
    stopped, resumed = Progress("val_accuracy"), Progress("val_accuracy")
    play(stopped, clock, EPOCHS[:1])
    saved = stopped.get_state()
    capsys.readouterr()
    real = resumed.on_train_begin

    def begin(logs=None):
        real(logs)
        resumed.set_state(saved)

    resumed.on_train_begin = begin
    play(resumed, clock, EPOCHS[1:2], first_epoch=1, batches=(2,))
    line = capsys.readouterr().out
    # 2 steps took 20 s, and 4 are left.
    assert "best 0.75 in 1" in line and line.endswith("  00:40 left\n")


def test_several_metrics_are_a_mean_and_none_is_left_out(clock, capsys):
    play(
        Progress(("val_f1", "val_accuracy")),
        clock,
        [{"loss": 1.0, "val_f1": 0.5, "val_accuracy": 1.0}],
    )
    play(Progress(), clock, [{"loss": 1.0}])
    several, none = capsys.readouterr().out.splitlines()
    assert "mean of val_f1, val_accuracy 0.75, best 0.75 in 1" in several
    assert none == "epoch 1/3  loss 1  rate 0.25  01:20 left"
