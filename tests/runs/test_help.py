from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from runs.command import read
from runs.help import help_text
from runs.settings import AUTO, GROUPS, Auto, Data, Settings


@dataclass(frozen=True)
class Config(Settings):
    data: str = "points"
    model: str = "dense"
    epochs: Auto[int] = AUTO
    out: Path = Path("out")
    width: Literal["narrow", "wide"] | None = None
    """Width of the network, at most 100 % of that
    of the paper. Default: narrow."""
    column: Data[str | None] = None
    """Column of the points."""


def test_settings_are_in_the_groups_that_they_name():
    text = help_text(Config, "Does something.", "hornbook something")
    assert text.startswith("usage: hornbook something [OPTIONS]\n\nDoes something.\n\ndata:\n")
    data, network, training, run = (text.split(f"\n{title}:\n")[1] for title in GROUPS.values())
    assert data.split()[:2] == ["--data", "STR"] and "--column STR" in data
    assert network.index("--model") < network.index("--width {narrow,wide}")
    assert "at most 100 % of that of" in " ".join(network.split()) and "None" not in text
    assert training.split()[:2] == ["--epochs", "INT"] and "(default: best)" in training
    assert run.split()[:2] == ["--out", "PATH"]


def test_help_shows_the_values_that_options_begin_with(capsys):
    text = help_text(Config, "", None, Config(seed=7))
    assert "(default: 7)" in text
    with pytest.raises(SystemExit) as end:
        read(Config, "Does something.", ["--seed", "3", "--help"], "hornbook something")
    assert end.value.code == 0 and "--column STR" in capsys.readouterr().out
