"""The files of a run that people read: config, scores, history and a report."""

import base64
import csv
import html
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from matplotlib.figure import Figure

from runs.pictures import as_picture, learning_curves
from training.checkpoint import sync_folder

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
       color: #222; background: #fff; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1.2rem .15rem 0; }
td { white-space: pre-line; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } figure { margin: 1rem 0; } figcaption { color: #555; }
h3 { font-size: 1rem; margin: 1rem 0 .2rem; } summary { cursor: pointer; margin: .5rem 0; }
pre { background: #f5f5f5; padding: .6rem 1rem; border-radius: .25rem; white-space: pre-wrap;
      overflow-wrap: anywhere; margin: 0; }
.scores td { font-size: 1.15rem; }
.warnings { background: #fff3cd; padding: .6rem 1rem .6rem 2rem; border-radius: .25rem; }
mark { border-radius: .25rem; padding: .05rem .2rem; } mark small { color: #555; }
"""


FILES = ("config.json", "scores.json", "measures.json", "history.csv", "report.html")
"""What `write_report` writes."""
SIGNATURE = "signature of "
"""Precedes the name of a score in that of the fact which says how the score was computed."""


@dataclass(frozen=True)
class Picture:
    """A section with one picture; the report leaves it out if there is None."""

    title: str
    figure: Figure | None


@dataclass(frozen=True)
class Table:
    """A section with a table; numbers are aligned to the right.

    The report leaves it out if there is no row, and columns in which all cells are "".

    Args:
        title: Heading of the section.
        heading: Names of the columns, each another one.
        rows: The cells.
        in_card: Whether the model card has it, too, and so the playground.
    """

    title: str
    heading: Sequence[str]
    rows: Sequence[Sequence[Any]]
    in_card: bool = False


@dataclass(frozen=True)
class Marked:
    """A section with texts, each a sequence of pieces with a label.

    Pieces with a label other than "" are highlighted in a color of that label.
    """

    title: str
    texts: Sequence[Sequence[tuple[str, str]]]


@dataclass(frozen=True)
class Shaded:
    """A section with texts, each a sequence of pieces with a weight of at least 0.

    Pieces with larger weights are darker. The largest weight of a text is darkest if it is at least
    three times the mean, so no word is conspicuous if all weights are similar.
    """

    title: str
    texts: Sequence[Sequence[tuple[str, float]]]


@dataclass(frozen=True)
class Code:
    """A section with commands or scripts, each below its title."""

    title: str
    texts: Sequence[tuple[str, str]]


Section = Picture | Table | Marked | Shaded | Code
History = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Report:
    """The content of the files of a run.

    Args:
        title: Heading of the report, such as the task and the network.
        config: The settings as nested JSON values.
        changed: The settings that differ from their defaults. The report shows these, and all
            settings folded away.
        scores: Scores on the test examples, and those on the validation examples under names with
            the prefix `validation_`. `NAME_low` and `NAME_high` bound the score `NAME`.
        measured: What the scores are measured on, such as "270 test images".
        histories: For each stage, the values of each metric after each epoch. A single stage is
            called "".
        rates: For each stage, learning rates by the number of the step.
        facts: Further rows of the table about the run, such as the wall time in seconds.
        sections: What the app shows, in its order.
        baselines: Simpler predictors by name: a description, and the value of the first score,
            which `scores.json` has as `NAME_SCORE`.
        warnings: Reasons to doubt the scores; the report begins with them.
    """

    title: str
    config: Mapping[str, Any]
    scores: Mapping[str, float]
    measured: str
    histories: Mapping[str, History]
    rates: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    sections: Sequence[Section] = ()
    baselines: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    changed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """Name of the first score."""
        return next(iter(self.scores))

    @property
    def all_scores(self) -> dict[str, float]:
        """The scores, and those of the baselines."""
        baselines = {
            f"{name}_{self.headline}": score for name, (_, score) in self.baselines.items()
        }
        return {**self.scores, **baselines}


def write_report(folder: Path, report: Report) -> Path:
    """Writes `config.json`, `scores.json`, `history.csv` and `report.html`; returns the last.

    Facts whose names begin with `SIGNATURE` are also written to `measures.json`, by the name of the
    score. Without them there is no such file, and without a history no `history.csv`. Each file is
    complete as soon as it is visible.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.json", json.dumps(report.config, indent=2) + "\n")
    write_text(folder / "scores.json", json.dumps(report.all_scores, indent=2) + "\n")
    signatures = {
        name.removeprefix(SIGNATURE): fact
        for name, fact in report.facts.items()
        if name.startswith(SIGNATURE)
    }
    if signatures:
        write_text(folder / "measures.json", json.dumps(signatures, indent=2) + "\n")
    if any(report.histories.values()):
        write_text(folder / "history.csv", _history_csv(report.histories))
    write_text(folder / "report.html", _report_html(report))
    return folder / "report.html"


def keep_report(folder: Path, copies: Path) -> None:
    """Copies the files that `write_report` wrote to another folder."""
    copies.mkdir(parents=True, exist_ok=True)  # The user may have removed the version alone.
    for name in FILES:
        if (folder / name).exists():
            write_text(copies / name, (folder / name).read_text(encoding="utf-8"))


def write_text(path: Path, text: str) -> None:
    """Replaces a file atomically: a reader sees the old text or the new one, never a part."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def machine() -> str:
    """Describes this machine: processor, cores or accelerators, memory, library versions."""
    accelerators = tf.config.list_physical_devices("GPU") + tf.config.list_physical_devices("TPU")
    devices = ", ".join(device.name for device in accelerators) or f"{os.cpu_count()} CPU cores"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {devices}, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}"
    )


def _history_csv(histories: Mapping[str, History]) -> str:
    """Writes a row for each epoch; a run of several stages names the stage in the first column."""
    several = list(histories) != [""]
    names = dict.fromkeys(name for history in histories.values() for name in history)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(["stage"] if several else []), "epoch", *names])
    for stage, history in histories.items():
        for epoch, row in enumerate(zip(*history.values(), strict=True), start=1):
            values = dict(zip(history, row, strict=True))
            cells = [values.get(name, "") for name in names]
            writer.writerow([*([stage] if several else []), epoch, *cells])
    return text.getvalue()


def in_words(scores: Mapping[str, float]) -> dict[str, str]:
    """Returns scores as text, each with the interval that bounds it, if there is one.

    Example:
        >>> in_words({"accuracy": 0.98889, "accuracy_low": 0.97407, "accuracy_high": 1.0})
        {'accuracy': '0.9889 (95 % interval 0.974 to 1)'}
    """
    shown = {name: f"{value:.4g}" for name, value in scores.items()}
    for name in scores:
        if f"{name}_low" in scores:
            low, high = (scores[f"{name}_{end}"] for end in ("low", "high"))
            shown[name] += f" (95 % interval {low:.3g} to {high:.3g})"
            del shown[f"{name}_low"], shown[f"{name}_high"]
    return shown


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Writes sections to one page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, _page(title, [f"<h1>{html.escape(title)}</h1>", *_sections(sections)]))


def _report_html(report: Report) -> str:
    scores = [
        (name, text)
        for name, text in in_words(report.scores).items()
        if not name.startswith("validation_")
    ]
    facts = {**report.facts, "machine": machine()}
    parts = [f"<h1>{html.escape(report.title)}</h1>"]
    if report.warnings:
        items = "".join(f"<li>{html.escape(warning)}</li>" for warning in report.warnings)
        parts.append(f'<h2>Warnings</h2><ul class="warnings">{items}</ul>')
    parts += [
        f"<h2>Scores on {html.escape(report.measured)}</h2>",
        _table(scores, heading=None, style="scores"),
    ]
    if report.baselines:
        rows = [("this network", report.scores[report.headline]), *report.baselines.values()]
        shown = [(what, f"{score:.4g}") for what, score in rows]
        parts += ["<h2>Baselines</h2>", _table(shown, heading=("predicted by", report.headline))]
    for stage, history in report.histories.items():
        if any(history.values()):
            title = f"Learning curves: {stage}" if stage else "Learning curves"
            # Always giving the most frequent answer would be far below the curves.
            lines = dict(one for name, one in report.baselines.items() if name != "majority")
            rates = report.rates.get(stage, {})
            curves = learning_curves(history, rates, {report.headline: lines})
            parts += [f"<h2>{html.escape(title)}</h2>", _figure(title, curves)]
    parts += _sections(report.sections)
    parts += ["<h2>The run</h2>", _table(facts.items(), heading=None)]
    parts += ["<h2>Settings</h2>", _settings(report)]
    return _page(report.title, parts)


def _page(title: str, parts: Sequence[str]) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _sections(sections: Sequence[Section]) -> list[str]:
    parts = []
    for section in sections:
        if inside := _section(section):
            parts += [f"<h2>{html.escape(section.title)}</h2>", *inside]
    return parts


def _section(section: Section) -> list[str]:
    """Returns the parts of a section, none if there is nothing to show."""
    match section:
        case Picture(title, figure):
            return [_figure(title, figure)] if figure else []
        case Table():
            filled = [
                i for i in range(len(section.heading)) if any(r[i] != "" for r in section.rows)
            ]
            rows = [[row[i] for i in filled] for row in section.rows]
            return [_table(rows, [section.heading[i] for i in filled])] if rows else []
        case Marked():
            return _highlighted(section.texts)
        case Shaded():
            return [_shaded(text) for text in section.texts]
        case Code():
            return [
                f"<h3>{html.escape(title)}</h3><pre>{html.escape(text)}</pre>"
                for title, text in section.texts
            ]


def _settings(report: Report) -> str:
    changed = _table(_flat(report.changed), heading=None)
    shown = f"<p>Settings that differ from their defaults:</p>{changed}" if report.changed else ""
    every = _table(_flat(report.config), heading=None)
    return f"{shown}<details><summary>All settings</summary>{every}</details>"


def _flat(config: Mapping[str, Any], prefix: str = ""):
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _table(rows, heading, style: str = "") -> str:
    def cell(value):
        kind = ' class="number"' if heading and isinstance(value, int | float) else ""
        return f"<td{kind}>{html.escape(str(value))}</td>"

    lines = ["<tr>" + "".join(cell(value) for value in row) + "</tr>" for row in rows]
    if heading:
        names = "".join(f"<th>{html.escape(str(name))}</th>" for name in heading)
        lines.insert(0, f"<tr>{names}</tr>")
    return f'<table class="{style}">' + "\n".join(lines) + "</table>"


def _highlighted(texts: Sequence[Sequence[tuple[str, str]]]) -> list[str]:
    labels = sorted({label for text in texts for _, label in text if label})
    hues = {label: 360 * index // len(labels) for index, label in enumerate(labels)}

    def marked(piece: str, label: str) -> str:
        if not label:
            return html.escape(piece)
        style = f"background: hsl({hues[label]} 80% 86%)"
        return (
            f'<mark style="{style}">{html.escape(piece)} <small>{html.escape(label)}</small></mark>'
        )

    return [f'<p dir="auto">{"".join(marked(*piece) for piece in text)}</p>' for text in texts]


def _shaded(text: Sequence[tuple[str, float]]) -> str:
    weights = [weight for _, weight in text if weight] or [1.0]
    darkest = max(*weights, 3 * sum(weights) / len(weights))

    def shaded(piece: str, weight: float) -> str:
        if not weight:
            return html.escape(piece)
        style = f"background: hsl(210 90% 50% / {0.75 * weight / darkest:.3f})"
        return f'<span style="{style}" title="{weight:.1%}">{html.escape(piece)}</span>'

    return f'<p dir="auto">{"".join(shaded(*piece) for piece in text)}</p>'


def _figure(caption: str, figure: Figure) -> str:
    kind, content = as_picture(figure)
    data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return f'<figure><img alt="{html.escape(caption)}" src="{data}"></figure>'
