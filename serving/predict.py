"""Answers from files by an exported version, with TensorFlow and NumPy alone."""

import base64
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from serving.errors import reason
from serving.table import table
from serving.versions import newest

BATCH_SIZE = 32
Answers = dict[str, dict[str, np.ndarray]]


class FilePredictor:
    """A version whose `serving_default` takes the content of files.

    Args:
        folder: Folder of versions, of which the newest is taken, or one version.

    Raises:
        FileNotFoundError: There is no version.
        ValueError: It does not load, or takes something else than files.
    """

    def __init__(self, folder: Path):
        version = newest(folder)
        with quiet():
            from serving import graph

            try:
                self._loaded = graph.load(version)
            # A damaged version fails anywhere in TensorFlow, with any kind of error.
            except Exception as error:
                raise ValueError(f"cannot load {version}: {reason(error)}") from error
        self._answer = self._loaded.signatures["serving_default"]
        inputs = self._answer.structured_input_signature[1]
        if len(inputs) != 1 or not next(iter(inputs)).endswith("_bytes"):
            taken = ", ".join(f"{name} ({spec.dtype.name})" for name, spec in inputs.items())
            raise ValueError(
                f"`serving_default` must take one input named *_bytes, the content of files. "
                f"Received: {version}, which takes {taken}"
            )
        (self._input,) = inputs

    def answer(self, contents: Mapping[str, bytes]) -> tuple[Answers, dict[str, str]]:
        """Answers files, as many as possible at once.

        Args:
            contents: Bytes of each file by name.

        Returns:
            By file, the outputs; and of those that the model refuses the reason.
        """
        names = list(contents)
        answers: Answers = {}
        refused: dict[str, str] = {}
        for start in range(0, len(names), BATCH_SIZE):
            batch = names[start : start + BATCH_SIZE]
            if (together := self._ask(batch, contents)[0]) is not None:
                answers.update(together)
                continue
            for name in batch:
                alone, why = self._ask([name], contents)
                if alone is None:
                    refused[name] = why
                else:
                    answers.update(alone)
        return answers, refused

    def _ask(self, names: list[str], contents: Mapping[str, bytes]) -> tuple[Answers | None, str]:
        import tensorflow as tf

        try:
            with quiet():
                batch = tf.constant([contents[name] for name in names])
                outputs = self._answer(**{self._input: batch})
        except tf.errors.OpError as error:
            return None, reason(error)
        arrays = {key: outputs[key].numpy() for key in sorted(outputs)}
        return {name: {key: arrays[key][i] for key in arrays} for i, name in enumerate(names)}, ""


def main(
    folder: tyro.conf.Positional[Path],
    files: tyro.conf.Positional[tuple[Path, ...]],
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> int:
    """Answer files, such as images, by an exported model.

    Files that cannot be read or understood are named, and the others answered.

    Args:
        folder: Folder of versions (the newest is asked) or one version.
        files: Files to answer.
        as_json: Print a JSON object by file instead of a table.
    """
    if not files:
        print("`files` must name at least one file.", file=sys.stderr)
        return 1
    contents, failed = _read(files)
    try:
        answers, refused = FilePredictor(folder).answer(contents)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    failed |= refused
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


def as_plain(name: str, value: Any) -> Any:
    """Returns an output for JSON: text, or base64 where its name ends in `_bytes`, and numbers."""
    if isinstance(value, np.ndarray):
        return [as_plain(name, item) for item in value]
    if isinstance(value, bytes):
        if name.endswith("_bytes"):
            return {"b64": base64.b64encode(value).decode()}
        return value.decode(errors="replace")
    # The shortest text that reads back as the same float32.
    return float(str(value)) if isinstance(value, np.floating) else value.item()


def as_table(answers: Answers) -> str:
    """Lays out answers, one row a file, or one row a rank where all outputs are rankings."""
    rows = []
    for name, outputs in answers.items():
        lengths = {np.shape(value) for value in outputs.values()}
        ranked = len(lengths) == 1 and len(next(iter(lengths))) == 1
        lines = list(zip(*outputs.values(), strict=True)) if ranked else [tuple(outputs.values())]
        for i, line in enumerate(lines):
            cells = [_cell(value) for value in line]
            rows.append([name if i == 0 else "", *cells])
    return table(["file", *next(iter(answers.values()))], rows)


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.floating):
        return f"{value:.4g}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}" if value.size > 8 else str(value.tolist())
    return str(value)


def _read(files: tuple[Path, ...]) -> tuple[dict[str, bytes], dict[str, str]]:
    contents, failed = {}, {}
    for path in files:
        try:
            contents[str(path)] = path.read_bytes()
        except OSError as error:
            failed[str(path)] = error.strerror or str(error)
    return contents, failed


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps from the user what TensorFlow's C++ writes to standard error, such as devices."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
