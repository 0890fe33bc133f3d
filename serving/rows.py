"""Rows of tables: .csv, .tsv, JSON lines and Parquet files, one after the other."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
Row = tuple[int, Mapping[str, Any] | str]
"""Number of a line, of a Parquet file's row from 1; and the cells by column, or what is wrong."""


def read_rows(path: Path) -> Iterator[Row]:
    """Reads a table like the apps: .csv with quotes, .tsv without, a JSON object per line.

    Raises:
        ValueError: The file is not such a table, or its columns have no clear names.
        OSError: It cannot be read.
    """
    match path.suffix.lower():
        case ".parquet":
            yield from _parquet(path)
        case ".jsonl" | ".json":
            with open_text(path) as lines:
                yield from _json_lines(lines)
        case ".tsv":
            with open_text(path) as lines:
                cells = ((number, line.split("\t")) for number, line in numbered(lines))
                yield from _with_header((number, row) for number, row in cells if row != [""])
        case _:
            with open_text(path, newline="") as file:
                yield from comma_separated(file)


def open_text(path: Path, newline: str | None = None):
    """Opens UTF-8, with or without a byte order mark; `not_utf8` finds what is not."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yields the lines without their ends, from 1."""
    return ((number, line.rstrip("\n")) for number, line in enumerate(lines, start=1))


def not_utf8(text: str) -> str:
    """Returns what is wrong with a text of `open_text`; empty if nothing is.

    Example:
        >>> not_utf8(b"a\\xff".decode(errors="surrogateescape"))
        'not UTF-8 at byte 1'
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"not UTF-8 at byte {len(text[: error.start].encode())}"
    return ""


def comma_separated(file: Iterable[str]) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # By default a cell has at most 131,072 characters.
    # Without `strict` a quote that is not closed swallows all that follows.
    reader = csv.reader(file, strict=True)

    def numbered_rows() -> Iterator[tuple[int, list[str]]]:
        line = 0
        for cells in reader:
            if cells:
                yield line + 1, cells
            line = reader.line_num  # Cells may have several lines.

    try:
        yield from _with_header(numbered_rows())
    except csv.Error as error:
        raise ValueError(
            f"line {reader.line_num}: expected comma-separated text. Received: {error}"
        ) from error


def _with_header(lines: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    _, names = next(lines, (0, []))
    if wrong := not_utf8("".join(names)):
        raise ValueError(f"the header is {wrong}")
    if len(set(names)) < len(names):
        raise ValueError(f"expected columns of different names. Received: {', '.join(names)}")
    for number, cells in lines:
        if len(cells) != len(names):
            yield (
                number,
                f"expected {len(names)} cells ({', '.join(names)}). Received: {len(cells)}",
            )
        elif wrong := not_utf8("".join(cells)):
            yield number, wrong
        else:
            yield number, dict(zip(names, cells, strict=True))


def _json_lines(lines: Iterable[str]) -> Iterator[Row]:
    begun = False
    for number, line in numbered(lines):
        if not line.strip():
            continue
        if not begun and line.lstrip().startswith("["):
            raise ValueError(
                "expected a JSON object per line. Received: an array. Fix: jq -c '.[]' FILE"
            )
        begun = True
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            yield number, f"expected a JSON object in one line. Received: invalid JSON ({error})"
            continue
        if wrong := not_utf8(line):
            yield number, wrong
        elif isinstance(row, dict):
            yield number, row
        else:
            yield number, f"expected a JSON object in one line. Received: {line:.80}"


def _parquet(path: Path) -> Iterator[Row]:
    # PyArrow takes a while to import, and is needed only here.
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise ValueError(f"expected a Parquet file. Received: {error}") from error
