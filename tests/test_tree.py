"""Rules that hold over the whole tree."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from apps.__main__ import descriptions
from runs.stand_ins import OURS

ROOT = Path(__file__).parents[1]
ROOMS: dict[str, set[str]] = {
    "apps": {
        *("callbacks", "data", "layers", "metrics", "models", "preprocessing", "runs"),
        *("serving", "training"),
    },
    "runs": {"callbacks", "data", "serving", "training"},
    "models": {"layers"},
    "data": {"preprocessing"},
    "preprocessing": set(),
    "metrics": set(),
    "training": set(),
    "layers": set(),
    "callbacks": set(),
    "serving": set(),
}
"""Every room, and the others that it may import."""
MOST_LINES_OF_AN_APP = 250
FEWER_LINES = {
    "bert_pretraining": 210,
    "dialogue": 235,
    "elmo_pretraining": 190,
    "image_classification": 180,
    "question_answering": 230,
    "text_classification": 215,
    "token_classification": 220,
    "translation": 235,
}
"""Maximum number of lines of the apps that need fewer."""


def test_the_command_line_knows_every_room():
    assert set(OURS) == ROOMS.keys()


def imported_packages(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    names += [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_follow_the_arrows(room):
    used = set()
    for path in (ROOT / room).rglob("*.py"):
        others = imported_packages(path) & ROOMS.keys() - {room}
        assert others <= ROOMS[room], path
        used |= others
    assert room == "apps" or used == ROOMS[room], "an arrow that no file uses"


@pytest.mark.parametrize("path", sorted((ROOT / "apps").rglob("*.py")), ids=lambda path: path.stem)
def test_an_app_is_short(path):
    most = FEWER_LINES.get(path.stem, MOST_LINES_OF_AN_APP)
    assert len(path.read_text().splitlines()) <= most


def test_no_drawer_for_odds_and_ends():
    names = {path.stem for room in ROOMS for path in (ROOT / room).rglob("*")}
    assert not names & {"utils", "util", "common", "helpers", "misc", "datasets"}


def test_every_app_has_a_description_a_test_and_a_row_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for name, description in descriptions().items():
        assert description.endswith("."), name
        assert (ROOT / "tests" / "apps" / f"test_{name}.py").exists()
        assert f"`hornbook {name}" in readme


def test_apps_are_listed_without_importing_tensorflow():
    code = "import sys; from apps.__main__ import main; main(['apps']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    listing, modules = done.stdout.rsplit("\n", 2)[:2]
    assert "image_classification" in listing
    assert not {"tensorflow", "keras", "numpy"} & set(modules.split())
