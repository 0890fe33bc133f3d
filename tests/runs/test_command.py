import errno
import fcntl
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import tensorflow as tf

from callbacks.policy_guard import PolicyLost
from runs.command import command, read, run
from runs.settings import AUTO, Auto, Checked, Settings
from training.loop import Interrupted, NotFinite


@dataclass(frozen=True)
class Config:
    epochs: int = 5
    """Passes over the training set."""
    out: Path = Path("run")
    strategy: str = "none"

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError(f"`epochs` must be at least 1. Received: epochs={self.epochs}")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def raising(error):
    def main(config):
        raise error

    return main


def test_fields_are_set_from_the_command_line(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "argv", ["app", "--epochs", "3"])
    command(lambda config: seen.append(config) or {}, Config, "Does something.")
    assert seen == [Config(epochs=3)]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("two cats"),
        ConnectionError("two cats"),
        NotFinite("two cats"),
        PolicyLost("two cats"),
    ],
)
def test_error_is_one_message_without_a_traceback(monkeypatch, capsys, error):
    monkeypatch.setattr(sys, "argv", ["app"])
    monkeypatch.delenv("HORNBOOK_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as end:
        command(raising(error), Config, "Does something.")
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "Error: two cats" in said and "Traceback" not in said


def test_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["app"])
    monkeypatch.setenv("HORNBOOK_TRACEBACK", "1")
    with pytest.raises(ValueError, match="two cats"):
        command(raising(ValueError("two cats")), Config, "Does something.")


def test_interrupted_run_says_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["app"])
    with pytest.raises(SystemExit) as end:
        command(raising(Interrupted("the same command continues")), Config, "Does something.")
    assert end.value.code == 130
    assert "the same command continues" in capsys.readouterr().err


def test_bad_setting_is_refused_by_the_config(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["app", "--epochs", "0"])
    with pytest.raises(SystemExit) as end:
        command(raising(AssertionError), Config, "Does something.")
    assert end.value.code != 0
    said = capsys.readouterr()
    assert "must be at least 1" in said.err + said.out


def test_a_folder_has_one_run_at_a_time(folder, capsys):
    folder.mkdir()
    with (folder / ".run").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SystemExit):
            run(raising(AssertionError), Config())
        assert "Another run is writing to run." in capsys.readouterr().err
        run(lambda config: {}, Config(strategy="multi_worker"))
    run(lambda config: {"accuracy": 1.0}, Config())


def test_a_check_ends_well_and_leaves_no_folder(folder, capsys):
    run(raising(Checked("The data is checked.")), Config())
    assert capsys.readouterr().out == "The data is checked.\n" and not folder.exists()


def test_a_run_that_wrote_nothing_leaves_no_folder(folder):
    with pytest.raises(SystemExit):
        run(raising(ValueError("bad data")), Config())
    assert not folder.exists()
    run(lambda config: (config.out / "report.html").write_text(""), Config())
    assert (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), r"The disk of run is full\. Free some"),
        (
            tf.errors.ResourceExhaustedError(None, None, "run/1; No space left on device"),
            r"The disk of run is full\. Free some",
        ),
        (
            tf.errors.ResourceExhaustedError(None, None, "{{node x}} OOM when allocating\n[[x]]"),
            r"Not enough memory for a step \(OOM when allocating\)\. Try a smaller --batch-size",
        ),
        (
            tf.errors.NotFoundError(
                None, None, "{{node a}} cat/1.png; No such file [[{{node b}}]]"
            ),
            r"A file that the run needs is gone: cat/1\.png; No such file$",
        ),
        (tf.errors.InvalidArgumentError(None, None, "odd"), r"TensorFlow stopped the run: odd$"),
    ],
)
def test_errors_of_libraries_are_put_in_words(error, said, capsys):
    with pytest.raises(SystemExit) as end:
        run(raising(error), Config())
    assert end.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert re.match(f"Error: {said}", lines[0].strip()) and len(lines) == 2


@dataclass(frozen=True)
class Trained(Settings):
    data: str = "points"
    model: str = "small"
    epochs: Auto[int] = AUTO
    out: Path = Path("run")
    share: float = 0.5

    @property
    def usual(self):
        return super().usual | {"epochs": 9 if self.model == "large" else 3}


@pytest.mark.parametrize("joined", [False, True])
def test_a_run_is_repeated_with_changes_from_its_config(joined, tmp_path):
    config = Trained(share=0.25, average=0.5)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.saved))
    option = [f"--config={path}"] if joined else ["--config", str(path)]
    assert read(Trained, "Trains.", option) == config
    changed = read(Trained, "Trains.", ["--model", "large", *option, "--seed", "3"])
    assert changed == Trained(model="large", share=0.25, average=0.5, seed=3)
    assert changed.epochs == 9


@pytest.mark.parametrize("arguments", [["--config"], ["--config", "nowhere"]])
def test_a_config_that_cannot_be_read_is_one_message(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        read(Trained, "Trains.", arguments)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and said.count("\n") == 1


@pytest.mark.parametrize("joined", [False, True])
def test_the_network_of_a_run_gives_the_settings(joined, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(Trained(model="large", share=0.25).saved))
    (tmp_path / "model.keras").touch()
    option = [f"--preset={tmp_path}"] if joined else ["--preset", str(tmp_path)]
    config = read(Trained, "Trains.", [*option, "--data", "new"])
    assert config == Trained.continuing(tmp_path, data="new") and config.model == "large"
    with pytest.raises(SystemExit):
        read(Trained, "Trains.", [*option, "--model", "small"])
    assert "`model` must be 'large', as in the run" in capsys.readouterr().err


def test_an_evaluation_is_read_with_the_settings_of_its_run(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(Trained(model="large", share=0.25).saved))
    (tmp_path / "model.keras").touch()
    config = read(Trained, "Trains.", ["--data", "new"], run=tmp_path)
    assert (config.data, config.share, config.EVALUATES) == ("new", 0.25, True)
    with pytest.raises(SystemExit):
        read(Trained, "Trains.", ["--help"], run=tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert "those of the run: --data, --out, --skip-bad, --batch-size." in said
