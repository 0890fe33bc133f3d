"""Answers from files by an exported version: in a folder, or of a server here or elsewhere."""

import base64
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from serving.client import Client, ServingError
from serving.client.folders import models
from serving.errors import reason
from serving.examples import Example, read_examples
from serving.table import table

BATCH_SIZE = 32
Answers = dict[str, dict[str, Any]]
Ask = Callable[[Mapping[str, Any]], Mapping[str, np.ndarray]]


def main(
    target: tyro.conf.Positional[str],
    files: tyro.conf.Positional[tuple[Path, ...]],
    model: str | None = None,
    signature: str = "serving_default",
    version: int | None = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
    timeout: float = 60.0,
) -> int:
    """Answer files by an exported model: images, sounds, lines of text, rows of tables.

    What a file is depends on what the model takes: with an input named *_bytes the file as it
    is, with a text each of its lines, else each row of a .csv file with columns named after the
    inputs. Files that cannot be read or understood are named, and the others answered.

    Args:
        target: Folder of models, of versions (the newest answers) or one version; or a server:
            grpc://HOST:PORT or http://HOST:PORT, with TLS grpcs:// or https://.
        files: Files to answer; - for standard input.
        model: Name of the model; a folder of one model needs none.
        signature: Name of the signature.
        version: Number of the version in place of the newest.
        as_json: Print a JSON object by example instead of a table.
        timeout: Seconds that a server may take for up to 32 examples.
    """
    if not files:
        print("`files` must name at least one file.", file=sys.stderr)
        return 1
    try:
        with quiet(), Client(target, timeout=timeout) as client:
            name = model or _only_model(target)
            found = client.metadata(name, version=version)
            if signature not in found.signatures:
                known = ", ".join(found.signatures)
                raise ValueError(f"`signature` must be one of {known}. Received: {signature}")
            examples, failed = read_examples(files, found.signatures[signature])
            ask = partial(client.predict, name, signature=signature, version=version)
            answers, refused = answer(ask, examples)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except ServingError as error:
        print(f"{target}: {error}", file=sys.stderr)
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


def _only_model(target: str) -> str:
    if "://" in target:
        raise ValueError("`--model` must name a model of the server.")
    names = list(models(Path(target)))
    if len(names) > 1:
        raise ValueError(f"`--model` must name one of the models {', '.join(names)}.")
    return names[0]


def answer(ask: Ask, examples: Sequence[Example]) -> tuple[Answers, dict[str, str]]:
    """Answers examples, as many as possible at once.

    Args:
        ask: Returns outputs by name for a batch of inputs by name.
        examples: What to answer.

    Returns:
        By example, the outputs; and of those that the model refuses the reason.
    """
    answers: Answers = {}
    refused: dict[str, str] = {}
    # Tables may lack columns of inputs that have a default.
    alike = groupby(examples, lambda example: example.inputs.keys())
    for batch in (batch for _, some in alike for batch in batched(some, BATCH_SIZE)):
        try:
            answers |= _together(ask, batch)
        except (ServingError, TypeError, ValueError) as error:
            if isinstance(error, ServingError) and error.code == "UNAVAILABLE":
                refused |= {example.name: str(error) for example in batch}
                continue
            for example in batch:
                try:
                    answers |= _together(ask, [example])
                except (ServingError, TypeError, ValueError) as alone:
                    refused[example.name] = reason(alone)
    return answers, refused


def batched(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    rest = iter(examples)
    while batch := list(islice(rest, size)):
        yield batch


def _together(ask: Ask, batch: Sequence[Example]) -> Answers:
    columns = {key: [example.inputs[key] for example in batch] for key in batch[0].inputs}
    outputs = ask(columns)
    by_row = {key: outputs[key].ndim > 0 and len(outputs[key]) == len(batch) for key in outputs}
    if len(batch) > 1 and not all(by_row.values()):
        raise ValueError("the outputs are not one for each example")
    # Strings first, then scores, then offsets and other whole numbers.
    kinds = {"O": 0, "S": 0, "f": 1}
    order = sorted(outputs, key=lambda key: (kinds.get(outputs[key].dtype.kind, 2), key))
    return {
        example.name: _without_padding(
            {key: outputs[key][i if by_row[key] else ()] for key in order}
        )
        for i, example in enumerate(batch)
    }


def _without_padding(outputs: dict[str, Any]) -> dict[str, Any]:
    """Cuts off the end of lists that belong together where all hold "", 0 or -1.

    So are answers padded to the longest of a batch, such as the tags of words. Of numbers alone
    nobody can tell whether they are padding.
    """
    lengths = {np.shape(value)[0] for value in outputs.values() if np.ndim(value) > 0}
    lists = [value for value in outputs.values() if np.ndim(value) == 1]
    if len(lengths) != 1 or not any(value.dtype.kind in "OS" for value in lists):
        return outputs
    blank = np.all([[item in (b"", 0, -1) for item in value] for value in lists], axis=0)
    count = len(blank) - int(np.argmin(blank[::-1])) if not blank.all() else 0
    return {key: value[:count] if np.ndim(value) else value for key, value in outputs.items()}


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
        lines = lines or [("",) * len(outputs)]
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
        if value.dtype.kind in "OS":
            return json.dumps(as_plain("", value), ensure_ascii=False)
        flat = [_cell(one) for one in value.ravel()[:8]]
        more = f", ... {value.shape}" if value.size > 8 or value.ndim > 1 else ""
        return f"[{', '.join(flat)}{more}]"
    return str(value)


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
