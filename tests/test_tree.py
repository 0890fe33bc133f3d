"""Rules that hold over the whole tree."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from apps.__main__ import descriptions

ROOT = Path(__file__).parents[1]
PACKAGES = ("apps", "callbacks", "data", "layers", "models", "serving", "training")
MAY_IMPORT = {
    "apps": set(PACKAGES),
    "models": {"layers"},
    "training": {"callbacks", "layers"},
    "callbacks": {"layers", "serving"},
    "layers": set(),
    "data": set(),
    "serving": set(),
}


def imported_packages(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    names += [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_arrows(package):
    allowed = MAY_IMPORT[package] | {package}
    for path in (ROOT / package).rglob("*.py"):
        assert imported_packages(path) & set(PACKAGES) <= allowed, path


def test_no_drawer_for_odds_and_ends():
    names = {path.stem for package in PACKAGES for path in (ROOT / package).rglob("*")}
    assert not names & {"utils", "util", "common", "helpers", "misc", "datasets"}


def test_every_app_has_a_description_a_test_and_a_row_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for name, description in descriptions().items():
        assert description.endswith("."), name
        assert (ROOT / "tests" / "apps" / f"test_{name}.py").exists()
        assert f"`python -m apps.{name}" in readme


def test_apps_are_listed_without_importing_tensorflow():
    code = "import runpy, sys; runpy.run_module('apps', run_name='__main__'); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    listing, modules = done.stdout.rsplit("\n", 2)[:2]
    assert "image_classification" in listing
    assert not {"tensorflow", "keras", "numpy"} & set(modules.split())
