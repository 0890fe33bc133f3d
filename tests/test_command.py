"""The command `hornbook`: from arguments to an app, in a moment."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from apps import __main__ as command
from apps.__main__ import descriptions, main

ROOT = Path(__file__).parents[1]


def hornbook(*arguments, folder):
    return subprocess.run(
        [Path(sys.executable).with_name("hornbook"), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_apps_and_commands_are_listed(capsys):
    assert main(["apps"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*descriptions()]
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    commands = ("predict", "verify", "serve", "deploy", "evaluate", "compare")
    assert all(name in shown for name in (*descriptions(), *commands))


def test_a_mistyped_name_is_answered_with_the_nearest(capsys):
    assert main(["image_clasification"]) == 2
    assert "Did you mean image_classification?" in capsys.readouterr().err


def test_options_of_every_app_are_read_without_a_library():
    code = """
import sys
from apps.__main__ import _read, descriptions
from runs.stand_ins import stand_ins
with stand_ins():
    for name in descriptions():
        assert _read(name, ["--seed", "7"]).seed == 7
print(*sys.modules)
import numpy
from metrics import intervals
assert intervals.np is numpy and numpy.ones(2).sum() == 2
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = {module.partition(".")[0] for module in done.stdout.split()}
    assert "tyro" in found and not {"tensorflow", "keras", "numpy", "models"} & found


@pytest.mark.parametrize("name", descriptions())
def test_model_help_lists_the_networks(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--model", "help"])
    assert end.value.code == 0
    listed = capsys.readouterr().out.splitlines()
    app = importlib.import_module(f"apps.{name}")
    assert app.Config().model in listed and len(set(listed)) == len(listed)


@pytest.fixture
def folder(tmp_path):
    """A folder with modules of the same names as ours, and with a run of bad settings."""
    (tmp_path / "models.py").write_text("raise RuntimeError")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").write_text("raise RuntimeError")
    run = tmp_path / "run"
    (run / "1" / "assets.extra").mkdir(parents=True)
    card = '{"task": "text classification"}'
    (run / "1" / "assets.extra" / "model_card.json").write_text(card)
    (run / "config.json").write_text('{"seed": "one"}')
    (run / "model.keras").touch()
    return tmp_path


def test_help_comes_at_once_in_a_folder_with_modules_of_the_same_names(folder):
    done = hornbook("text_classification", "--help", folder=folder)
    assert done.returncode == 0 and "--learning-rate" in done.stdout, done
    assert "absl" not in done.stderr


def test_mistakes_are_answered_at_once(folder):
    code = """
import contextlib, io, json, sys
from apps.__main__ import main
for arguments in json.load(sys.stdin):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
    print(json.dumps([status, shown.getvalue()]))
assert not {"tensorflow", "keras", "numpy"} & sys.modules.keys()
"""
    app = "text_classification"
    expected = (
        ([app, "--lerning-rate", "1"], 2, "--learning-rate"),
        ([app, "--epochs", "-1"], 2, "`epochs` must be at least 0"),
        ([app, "--config", "run"], 2, "run/config.json: `seed` must be of type int"),
        ([app, "--preset", "run"], 2, "run/config.json: `seed` must be of type int"),
        (["evaluate", "run"], 2, "run/config.json: `seed` must be of type int"),
        (["evaluate", "data"], 2, "data: expected a finished run. Received: no model.keras"),
        (["evaluate", "--help"], 0, "usage: hornbook evaluate RUN"),
        (["evaluate"], 2, "usage: hornbook evaluate RUN"),
        (["compare", "run"], 2, "must be at least two different folders"),
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],  # Without the current folder on the path.
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=json.dumps([arguments for arguments, _, _ in expected]),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = map(json.loads, done.stdout.splitlines())
    for (arguments, status, text), (ended, shown) in zip(expected, answers, strict=True):
        assert ended == status and text in shown, (arguments, shown)


def test_ctrl_c_before_the_run_ends_without_a_traceback(monkeypatch, capsys):
    def interrupted(name, arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_run_app", interrupted)
    assert main(["image_classification"]) == 130
    assert capsys.readouterr().err.strip() == "Stopped before anything was written."


def test_verbose_shows_the_log_of_tensorflow(monkeypatch):
    seen = []
    monkeypatch.delenv("HORNBOOK_VERBOSE", raising=False)
    monkeypatch.setattr(command, "_run_app", lambda name, rest: seen.append((name, rest)))
    assert main(["image_classification", "--seed", "1"]) == 0
    assert "HORNBOOK_VERBOSE" not in os.environ
    monkeypatch.setenv("HORNBOOK_VERBOSE", "")  # To be restored after the test.
    assert main(["image_classification", "--verbose", "--seed", "1"]) == 0
    assert os.environ["HORNBOOK_VERBOSE"] == "1"
    assert seen == 2 * [("image_classification", ["--seed", "1"])]
