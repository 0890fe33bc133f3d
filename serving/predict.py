"""Predictions for files, from an exported version in a folder or from a server."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TextIO

import numpy as np
import tyro

from serving.answering import Outcome, Outputs, answered, as_plain, in_order
from serving.client import Client, ServingError, Signature
from serving.client.folders import models
from serving.client.wire import numpy_dtype
from serving.drawings import drawn
from serving.examples import Example, Reading
from serving.predictions import Predictions
from serving.progress import Progress
from serving.table import table

Answers = dict[str, Outputs]


def main(
    target: tyro.conf.Positional[str],
    files: tyro.conf.Positional[tuple[Path, ...]],
    model: str | None = None,
    signature: str = "serving_default",
    version: int | None = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
    timeout: float = 60.0,
    output: Path | None = None,
    top_k: int | None = None,
    columns: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    lines: bool = False,
    shard: str = "1/1",
    pictures: Path | None = None,
) -> int:
    """Query an exported model about files: images, sounds, texts, rows of tables.

    How a file is read depends on the signature. An input named *_bytes takes the content of each
    file. A text input takes the text of a .txt file or each line of other files. All inputs take
    the rows of .csv, .tsv, .jsonl and .parquet files. Folders are searched to any depth. If an
    input cannot be read or answered, it is named, the others are answered, and the exit status is
    1.

    Args:
        target: Folder of models, of versions (the newest answers) or one version; or a server:
            grpc://HOST:PORT or http://HOST:PORT, with TLS grpcs:// or https://.
        files: Files, folders and globs; - for standard input.
        model: Name of the model; not needed for a folder of one model.
        signature: Name of the signature.
        version: Number of the version. Default: the newest.
        as_json: Print a JSON object per example instead of a table.
        timeout: Seconds that a server may take for up to 32 examples.
        output: Write a row for each input to this .csv, .tsv, .jsonl or .parquet file, which
            appears when it is complete. Memory does not depend on the number of inputs.
        top_k: Number of classes of an example, best first. Default: all that the model returns;
            with --output 1.
        columns: INPUT=COLUMN: the column of tables that an input takes; once for each input.
            Default: the column of the training data, or that of the input's name.
        lines: Read each line of .txt files as a separate text.
        shard: I/N answers every N-th input from the I-th, to divide the work among N machines.
        pictures: Folder for the images with the objects found in them.
    """
    try:
        if not files:
            raise ValueError("`files` must name at least one file.")
        if output and as_json:
            raise ValueError("`--json` is for printed answers. Fix: leave out --json or --output.")
        part, named = _part(shard), _named(columns)
        with quiet() as terminal, Client(target, timeout=timeout) as client:
            name = model or _only_model(target)
            found = client.metadata(name, version=version)
            if signature not in found.signatures:
                known = ", ".join(found.signatures)
                raise ValueError(f"`signature` must be one of {known}. Received: {signature}")
            queried = found.signatures[signature]
            _require_classes(top_k, queried)
            reading = Reading(queried, named, lines, output)
            # All answers come from one version, even if a newer one appears.
            ask = partial(client.predict, name, signature=signature, version=found.version)
            outcomes = answered(ask, reading.examples(files, part))
            if pictures:
                outcomes = drawn(outcomes, pictures, counted_rows, found.card)
            if output:
                failures = _write(output, queried, top_k or 1, outcomes, Progress(terminal))
            else:
                answers, failed = _collected(outcomes, top_k)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except ServingError as error:
        print(f"{target}: {error}", file=sys.stderr)
        return 1
    if output:
        return 1 if failures else 0
    if as_json:
        plain = {
            name: {key: as_plain(key, value[key]) for key in value}
            for name, value in answers.items()
        }
        print(json.dumps(plain | {name: {"error": failed[name]} for name in failed}, indent=2))
    elif answers:
        print(as_table(answers))
    for name, why in failed.items():
        print(f"{name}: {why}", file=sys.stderr)
    return 1 if failed or not answers else 0


def _part(shard: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", shard, re.ASCII)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"`shard` must be I/N with I from 1 to N, such as 3/16. Received: {shard}")
    return int(match[1]), int(match[2])


def _named(columns: Sequence[str]) -> dict[str, str]:
    """Reads INPUT=COLUMN; the first equals sign divides them."""
    pairs = [column.partition("=") for column in columns]
    names = [name for name, _, _ in pairs]
    if len(set(names)) < len(names) or not all(name and column for name, _, column in pairs):
        raise ValueError(
            "`columns` must be INPUT=COLUMN, once for each input, such as text=review. "
            f"Received: {', '.join(columns)}"
        )
    return {name: column for name, _, column in pairs}


def _only_model(target: str) -> str:
    if "://" in target:
        raise ValueError("`--model` must name a model of the server.")
    names = list(models(Path(target)))
    if len(names) > 1:
        raise ValueError(f"`--model` must name one of the models {', '.join(names)}.")
    return names[0]


def _collected(
    outcomes: Iterable[tuple[Example, Outcome]], top_k: int | None
) -> tuple[Answers, dict[str, str]]:
    """Returns the answers, and the errors, by example."""
    answers: Answers = {}
    failed = {}
    for example, outcome in outcomes:
        if isinstance(outcome, str):
            failed[example.name] = outcome
        else:
            answers[example.name] = (
                {key: outcome[key][:top_k] for key in outcome} if top_k else outcome
            )
    return answers, failed


COUNT = "num_"
"""The name of an output that counts the rows of an answer begins with this."""
CLASSES = {"classes": "class", "scores": "confidence"}
"""The outputs of a classification by TensorFlow Serving's names, and columns for one of each."""


def _is_classification(signature: Signature) -> bool:
    shapes = {spec.shape for spec in signature.outputs.values()}
    return signature.outputs.keys() == CLASSES.keys() and all(s and len(s) == 2 for s in shapes)


def _require_classes(top_k: int | None, signature: Signature) -> None:
    if top_k is None:
        return
    if not _is_classification(signature):
        raise ValueError(
            "`top_k` is for signatures that return `classes` and `scores`, best first. "
            f"Received: a signature that returns {', '.join(signature.outputs)}"
        )
    most = (signature.outputs["classes"].shape or (None, None))[1]
    if top_k < 1 or (most is not None and top_k > most):
        limit = "at least 1" if most is None else f"from 1 to {most}, the classes of an answer"
        raise ValueError(f"`top_k` must be {limit}. Received: top_k={top_k}")


def _write(
    path: Path,
    signature: Signature,
    top_k: int,
    outcomes: Iterable[tuple[Example, Outcome]],
    progress: Progress,
) -> int:
    """Writes a row for each example and returns how many have an error instead of an answer.

    A row has `file` and `line`, the cells of the table that are not inputs, the outputs and
    `error`. A cell whose column has one of the other names moves to `input_NAME`. An answer that
    counts its rows gets so many, or one without outputs.
    """
    if _is_classification(signature):
        ranks = ["", *(f"_{rank}" for rank in range(2, top_k + 1))]
        names = [column + rank for rank in ranks for column in CLASSES.values()]
    else:
        dtypes = {name: numpy_dtype(spec.dtype) for name, spec in signature.outputs.items()}
        # Rows that an answer counts need no column for their number.
        names = [name for name in in_order(dtypes) if not name.startswith(COUNT)]
    first, last = ["file", "line"], [*names, "error"]
    with Predictions(path, first, last) as predictions:
        for example, outcome in outcomes:
            row: dict[str, Any] = {"file": example.file, "line": example.line}
            for column, cell in example.further.items():
                while column in (*first, *last, *row):
                    column = f"input_{column}"
                row[column] = cell
            answers: list[dict[str, Any]]
            if isinstance(outcome, str):
                answers = [{"error": outcome}]
            elif _is_classification(signature):
                best = [as_plain(name, outcome[name][:top_k]) for name in CLASSES]
                ranked = chain.from_iterable(zip(*best, strict=True))
                answers = [dict(zip(names, ranked, strict=False))]
            else:
                counted = counted_rows(outcome)
                answers = [
                    {name: as_plain(name, value) for name, value in one.items()}
                    for one in ([outcome] if counted is None else counted or [{}])
                ]
            for answer in answers:
                predictions.add(row | answer)
            progress.count(example, outcome)
    progress.end(path)
    return progress.failures


def counted_rows(outputs: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Returns the rows of an answer that counts them, such as the objects found in an image.

    Its output `num_NAME` is a whole number, and all other outputs are lists of at least so many
    rows. None: there is no such output.

    Example:
        >>> counted_rows({"classes": ["cat", ""], "num_detections": np.int32(1)})
        [{'classes': 'cat'}]
    """
    counts = [name for name in outputs if name.startswith(COUNT)]
    if len(counts) != 1 or np.ndim(outputs[counts[0]]) > 0:
        return None
    count = int(outputs[counts[0]])
    rest = {name: value for name, value in outputs.items() if name not in counts}
    if not rest or any(np.ndim(value) < 1 or len(value) < count for value in rest.values()):
        return None
    return [{name: value[i] for name, value in rest.items()} for i in range(count)]


def as_table(answers: Answers) -> str:
    """Lays out answers, one row per file, per rank if all outputs are rankings, or per object.

    Encoded files in an answer, such as masks, are left out.
    """
    rows = []
    shown: list[str] = []
    for name, outputs in answers.items():
        found = counted_rows(outputs)
        if found is not None:
            shown = [key for key in outputs if not key.startswith(COUNT)]
            shown = [key for key in shown if not key.endswith("_bytes")]
            for i, one in enumerate(found or [dict.fromkeys(shown, "")]):
                rows.append([name if i == 0 else "", *(_cell(one[key]) for key in shown)])
            continue
        shown = list(outputs)
        lengths = {np.shape(value) for value in outputs.values()}
        ranked = len(lengths) == 1 and len(next(iter(lengths))) == 1
        lines = list(zip(*outputs.values(), strict=True)) if ranked else [tuple(outputs.values())]
        lines = lines or [("",) * len(outputs)]
        for i, line in enumerate(lines):
            cells = [_cell(value) for value in line]
            rows.append([name if i == 0 else "", *cells])
    return table(["file", *shown], rows)


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.floating):
        return f"{value:.4g}"
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OS":
            return json.dumps(as_plain("", value), ensure_ascii=False)
        flat = [_cell(one) for one in value.ravel()[:8]]
        more = f", ... {value.shape}" if value.size > 8 or value.ndim > 1 else ""
        return f"[{', '.join(flat)}{more}]"
    return str(value)


@contextlib.contextmanager
def quiet() -> Iterator[TextIO]:
    """Keeps from the user what TensorFlow's C++ writes to standard error, such as devices.

    Yields:
        What writes there nevertheless.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with os.fdopen(os.dup(2), "w", errors="backslashreplace") as terminal:
        try:
            os.dup2(nowhere, 2)
            yield terminal
        finally:
            os.dup2(terminal.fileno(), 2)
            os.close(nowhere)
