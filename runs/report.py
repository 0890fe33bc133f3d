"""The files of a run that people read: config, scores, history and a report to look at."""

import base64
import csv
import html
import io
import json
import os
import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from runs.pictures import learning_curves
from training.checkpoint import sync_folder

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
       color: #222; background: #fff; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1.2rem .15rem 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } figure { margin: 1rem 0; } figcaption { color: #555; }
.scores td { font-size: 1.15rem; }
mark { border-radius: .25rem; padding: .05rem .2rem; } mark small { color: #555; }
"""


@dataclass(frozen=True)
class Run:
    """What there is to say about a finished run.

    Args:
        title: Heading of the report, such as the task and the network.
        summary: One sentence under the heading.
        config: The settings, as a nest of JSON values.
        scores: Scores on the test examples.
        num_test: Test examples that the scores are measured on.
        history: For each metric its value after each epoch.
        facts: Further rows of the table about the run, such as the wall time in seconds.
        figures: Pairs of a caption and a picture.
        tables: Pairs of a caption and rows of cells; the first row is the heading.
        texts: Pairs of a caption and texts, each of which is a row of pieces with a label; pieces
            with a label other than "" are highlighted.
    """

    title: str
    summary: str
    config: Mapping[str, Any]
    scores: Mapping[str, float]
    num_test: int
    history: Mapping[str, Sequence[float]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    figures: Sequence[tuple[str, Figure]] = ()
    tables: Sequence[tuple[str, Sequence[Sequence[Any]]]] = ()
    texts: Sequence[tuple[str, Sequence[Sequence[tuple[str, str]]]]] = ()


def write_run(folder: Path, run: Run) -> Path:
    """Writes `config.json`, `scores.json`, `history.csv` and `report.html`; returns the report.

    Each file appears whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.json", json.dumps(run.config, indent=2) + "\n")
    write_text(folder / "scores.json", json.dumps(dict(run.scores), indent=2) + "\n")
    write_text(folder / "history.csv", _history_csv(run.history))
    write_text(folder / "report.html", _report_html(run))
    return folder / "report.html"


def write_text(path: Path, text: str) -> None:
    """Replaces a file at once: a reader sees the old text or the new one, never a part."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def run_facts(
    model: keras.Model,
    history: Mapping[str, Sequence[float]],
    seconds: float,
    examples: str,
    **more: Any,
) -> dict[str, Any]:
    """Says how large a network is and how long it trained, for the facts of a `Run`.

    Args:
        model: The network.
        history: For each metric its value after each epoch.
        seconds: Wall time of the run.
        examples: What a training example is called, in the plural.
        more: Further rows, put behind the size of the network.
    """
    speeds = history.get("examples_per_second", [])
    return {
        "parameters": f"{model.count_params():,}",
        **more,
        "epochs": len(history["loss"]),
        "wall time": f"{seconds:.0f} s",
        f"training {examples} per second": f"{np.median(speeds):.1f}",
    }


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


def _history_csv(history: Mapping[str, Sequence[float]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *history])
    for epoch, row in enumerate(zip(*history.values(), strict=True), start=1):
        writer.writerow([epoch, *row])
    return text.getvalue()


def _report_html(run: Run) -> str:
    scores = [(name, f"{value:.4f}") for name, value in run.scores.items()]
    facts = {**run.facts, "machine": machine()}
    parts = [
        f"<h1>{html.escape(run.title)}</h1>",
        f"<p>{html.escape(run.summary)}</p>",
        f"<h2>Scores on {run.num_test} test examples</h2>",
        _table(scores, heading=None, style="scores"),
    ]
    if any(run.history.values()):
        parts += ["<h2>Learning curves</h2>", _figure("", learning_curves(run.history))]
    for caption, figure in run.figures:
        parts += [f"<h2>{html.escape(caption)}</h2>", _figure(caption, figure)]
    for caption, rows in run.tables:
        parts += [f"<h2>{html.escape(caption)}</h2>", _table(rows[1:], heading=rows[0])]
    for caption, texts in run.texts:
        parts += [f"<h2>{html.escape(caption)}</h2>", *_highlighted(texts)]
    parts += ["<h2>The run</h2>", _table(facts.items(), heading=None)]
    parts += ["<h2>Config</h2>", _table(_flat(run.config), heading=None)]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{html.escape(run.title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


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


def _figure(caption: str, figure: Figure) -> str:
    picture = io.BytesIO()
    with warnings.catch_warnings():
        # Of a word in a script that the font lacks boxes are drawn.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(picture, format="png", dpi=110)
    data = base64.b64encode(picture.getvalue()).decode()
    return f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}"></figure>'
