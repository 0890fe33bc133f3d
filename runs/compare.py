"""Compare finished runs on one page: scores, learning curves, and the settings that differ."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from runs.pictures import compared_curves
from runs.report import Picture, Section, Table, in_words, write_page

NOT_COMPARED = ("out", "resume", "checkpoint_every")
"""Settings that say nothing about what was trained."""


@dataclass(frozen=True)
class Comparison:
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN...")]
    """Folders of finished runs, or of their versions, such as saved_models/text_classification/1;
    or of evaluations."""
    output: Path = Path("compare.html")
    """The page that is written."""

    def __post_init__(self):
        if len(self.runs) < 2 or len(set(self.runs)) < len(self.runs):
            received = " ".join(map(str, self.runs)) or "none"
            raise ValueError(f"`runs` must be at least two different folders. Received: {received}")
        for run in self.runs:
            files_of(run)


def files_of(run: Path) -> Path:
    """Returns the folder with the files of a run, even if a later run has replaced them."""
    for folder in (run, run.parent / "reports" / f"version_{run.name}"):
        if all((folder / name).is_file() for name in ("config.json", "scores.json")):
            return folder
    raise ValueError(
        "`runs` must be folders with config.json and scores.json, or versions beside `reports`. "
        f"Received: {run}"
    )


def read(arguments: Sequence[str]) -> Comparison:
    """Reads the command line."""
    return tyro.cli(Comparison, description=__doc__, args=arguments, prog="hornbook compare")


def main(arguments: Sequence[str]) -> int:
    """Writes the page; returns the exit status."""
    comparison = read(arguments)
    try:
        path = write_comparison(
            {str(run): files_of(run) for run in comparison.runs}, comparison.output
        )
    except OSError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"Comparison {path}")
    return 0


def write_comparison(runs: Mapping[str, Path], path: Path) -> Path:
    """Writes the page.

    Args:
        runs: Folders with the files of the runs, by the names that the page shows.
        path: The page; an existing file is replaced.
    """
    configs, scores = (
        {name: json.loads((folder / file).read_text("utf-8")) for name, folder in runs.items()}
        for file in ("config.json", "scores.json")
    )
    files = {name: folder / "measures.json" for name, folder in runs.items()}
    measures = {
        name: json.loads(file.read_text("utf-8")) if file.is_file() else {}
        for name, file in files.items()
    }
    histories = {name: _history(folder / "history.csv") for name, folder in runs.items()}
    curves = compared_curves({name: history for name, history in histories.items() if history})
    several = len({config["data"] for config in configs.values()}) > 1
    title = "Scores, measured on different data" if several else "Scores"
    sections: list[Section] = [
        _table(title, {name: in_words(some) for name, some in scores.items()}),
        _table("How scores were computed", measures),
        Picture("Learning curves: validation solid, training dotted", curves),
        _table("Settings that differ", _different(configs)),
    ]
    write_page(path, f"{len(runs)} runs", sections)
    return path


def _history(path: Path) -> dict[str, list[float]]:
    """Returns the value of each metric after each epoch; the names of stages precede metrics."""
    if not path.is_file():
        return {}
    history: dict[str, list[float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            stage = row.pop("stage", "")
            del row["epoch"]
            for name, value in row.items():
                if value:
                    history.setdefault(f"{stage} {name}".strip(), []).append(float(value))
    return history


def _different(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Keeps the settings whose values differ between runs."""
    first, *others = configs.values()
    names = dict.fromkeys(name for config in configs.values() for name in config)
    kept = [
        name
        for name in names
        if name not in NOT_COMPARED
        and any(
            name not in config or config[name] != first.get(name) for config in (first, *others)
        )
    ]
    return {
        run: {name: config[name] for name in kept if name in config}
        for run, config in configs.items()
    }


def _table(title: str, columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """Makes a table with a column for each run and a row for each name in any of them."""
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [(name, *(column.get(name, "") for column in columns.values())) for name in names]
    return Table(title, ("", *columns), rows)
