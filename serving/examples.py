"""From files to examples of a signature: whole files, lines of text, rows of a table."""

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.client import Signature, TensorSpec

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Example:
    """One example, named after its file, and its line where a file holds several."""

    name: str
    inputs: Mapping[str, Any]


def read_examples(
    files: Sequence[Path], signature: Signature
) -> tuple[list[Example], dict[str, str]]:
    """Reads files as the inputs of a signature ask for.

    A single string input named *_bytes takes each file as it is. Others take the rows of .csv
    files, whose columns have the user's names of the inputs or the served ones, and a single
    string input the lines of all other files. `-` is standard input.

    Returns:
        The examples, and by file or line the reason why it is none.
    """
    examples: list[Example] = []
    failed: dict[str, str] = {}
    for file in files:
        try:
            found = list(_examples(file, _content(file), signature))
            if not found:
                raise ValueError("empty")
            examples += [example for example in found if isinstance(example, Example)]
            failed.update(example for example in found if isinstance(example, tuple))
        except OSError as error:
            failed[str(file)] = error.strerror or str(error)
        except ValueError as error:
            failed[str(file)] = str(error)
    return examples, failed


def _content(file: Path) -> bytes:
    return sys.stdin.buffer.read() if str(file) == STANDARD_INPUT else file.read_bytes()


def _examples(
    file: Path, content: bytes, signature: Signature
) -> Iterator[Example | tuple[str, str]]:
    inputs = signature.inputs
    single = next(iter(inputs)) if len(inputs) == 1 else ""
    text = bool(single) and inputs[single].dtype == "string"
    if text and single.endswith("_bytes"):
        yield Example(str(file), {single: content})
    elif file.suffix.lower() == ".csv" or (str(file) == STANDARD_INPUT and not text):
        yield from _rows(file, _text(content), signature)
    elif text and file.suffix.lower() in (".tsv", ".jsonl"):
        raise ValueError(f"expected a .csv file with a column {single}, or one text per line")
    elif text:
        lines = io.StringIO(_text(content), newline=None)
        for number, line in enumerate(lines, start=1):
            yield Example(f"{file}:{number}", {single: line.rstrip("\n")})
    else:
        taken = ", ".join(f"{signature.title(name)} ({inputs[name].dtype})" for name in inputs)
        raise ValueError(f"expected a .csv file, since the signature takes {taken}")


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error


def _rows(file: Path, text: str, signature: Signature) -> Iterator[Example | tuple[str, str]]:
    """Yields an example a row, or why it is none; columns that are no inputs are left alone."""
    csv.field_size_limit(sys.maxsize)  # Of its own accord it takes no longer text than 131,072.
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = set(reader.fieldnames or ())
    names = signature.meant(columns)
    if missing := sorted(signature.inputs.keys() - signature.optional - names.keys()):
        titles = ", ".join(map(signature.title, missing))
        raise ValueError(f"no column {titles}, only {', '.join(sorted(columns))}")
    for row in reader:
        name = f"{file}:{reader.line_num}"
        try:
            yield Example(
                name,
                {
                    input_name: _cell(column, row[column], signature.inputs[input_name])
                    for input_name, column in names.items()
                },
            )
        except ValueError as error:
            yield name, str(error)


def _cell(column: str, cell: str | None, spec: TensorSpec) -> Any:
    """Reads a cell as the input's type, in as many dimensions as an example has."""
    value = _value(column, cell or "", spec.dtype)
    shape = (spec.shape or (None,))[1:]
    if any(size not in (1, None) for size in shape):
        raise ValueError(f"`{column}` has the shape {shape}, and a cell holds one value")
    for _ in shape:
        value = [value]
    return value


def _value(column: str, cell: str, dtype: str) -> Any:
    if dtype == "string":
        return cell
    words = {"true": True, "1": True, "false": False, "0": False}
    try:
        if dtype == "bool":
            return words[cell.strip().lower()]
        if "int" in dtype:
            return int(cell)
        # A gap is no number, which is what tables mean by it.
        return float(cell) if cell.strip() else float("nan")
    except (KeyError, ValueError) as error:
        raise ValueError(f"`{column}` must be {dtype}. Received: {cell!r}") from error
