"""Shorter runs: of each app one is whole, the others need not train for long."""

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from runs.run import Trained
from serving.predict import main as predict
from training.checkpoint import Checkpoint
from training.optimizers import optimizer


def one_step(config, strategy, *, make_model, batches, validation, scale=None, loss, metrics, **_):
    """Stands in for `runs.settings.train`: a step and a validation, without a graph."""
    model = make_model()
    made = optimizer(config.optimizer, scale=scale and scale(model))
    model.compile(made, loss, metrics=metrics, run_eagerly=True)
    logs = model.train_on_batch(*next(iter(batches(0))), return_dict=True)
    model.test_on_batch(*next(iter(validation)))
    history = {name: [float(value)] for name, value in logs.items()}
    history["examples_per_second"] = [0.0]
    return Trained(model, history, Checkpoint(config.out / "checkpoint"))


@pytest.fixture
def shorten(monkeypatch):
    """A function that makes an app train for one step and not ask its export in the end."""

    def shortened(app: ModuleType) -> None:
        monkeypatch.setattr(app, "train", one_step)
        monkeypatch.setattr(app, "answer_one", lambda *arguments: None)

    return shortened


@pytest.fixture(scope="session")
def run_here():
    """A function that runs an app whole, but asks its export in this process.

    A new one takes seconds, and there is one in `verify` and in the test of another app.
    """

    def ask(command, check):
        assert command[1:4] == ["-m", "serving", "predict"]
        assert predict(command[4], (Path(command[5]),)) == 0

    def run(app: ModuleType, config) -> dict[str, float]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess, "run", ask)
            return app.main(config)

    return run
