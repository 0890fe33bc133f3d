"""Tables in user files: rows of cells between separators, and JSON."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from data.sources import BadData, Fault, Finding, listed
from data.text_files import read_text

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""Possible separators of the cells of a .csv file, the most common first."""
NUM_TRIED = 100
"""Number of rows from which the separator is found."""


def columns_read(read: dict[str, str], others: Sequence[str]) -> list[Finding]:
    """Says which columns of a table are read.

    Args:
        read: Name of the column by its content, such as `text`.
        others: Names of the columns that are not read.

    Example:
        >>> columns_read({"text": "body", "label": "kind"}, ["id"])
        ["Columns: text from 'body', label from 'kind'. Not read: id."]
    """
    text = f"Columns: {', '.join(f'{kind} from {name!r}' for kind, name in read.items() if kind)}."
    return [f"{text} Not read: {listed(others)}." if others else text]


def rows_of_cells(data: str, path: Path) -> tuple[list[tuple[str, list[str]]], list[Finding]]:
    """Reads a .tsv file, or a .csv file whose separator is found.

    A .tsv file has no quotes; one without a tab in its first line is read like a .csv file.

    Args:
        data: The data that the user named.
        path: Path of the file.

    Returns:
        The location (file and first line) and the cells of each row, and a remark if characters
        other than commas separate the cells of a .csv file.
    """
    text = read_text(path)
    if path.suffix.lower() == ".tsv" and "\t" in text.split("\n", 1)[0]:
        lines = enumerate(text.split("\n"), 1)
        return [(f"{path.name} line {n}", line.split("\t")) for n, line in lines if line], []
    csv.field_size_limit(sys.maxsize)  # By default a field has at most 131,072 characters.
    separator = _separator(text)
    rows, line = [], 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for cells in reader:
            if cells:
                rows.append((f"{path.name} line {line + 1}", cells))
            line = reader.line_num
    except csv.Error as error:
        received = f"{error} in the row that starts here"
        expected = f"text separated by {SEPARATORS[separator]}"
        fix = "double the quotes inside a quoted field"
        fault = Fault(f"{path.name} line {line + 1}", received, expected, fix, skippable=False)
        raise BadData(data, [fault]) from error
    usual = separator == ","
    return rows, [] if usual else [f"{path.name} is separated by {SEPARATORS[separator]}."]


def _separator(text: str) -> str:
    """Finds the separator that gives the first rows the same number of cells, more than one.

    If none does, the separator is the one that gives the first row the most cells.
    """
    first: dict[str, int] = {}
    for separator in SEPARATORS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        try:
            widths = [len(cells) for cells in islice(reader, NUM_TRIED) if cells]
        except csv.Error:
            continue
        if len(set(widths)) == 1 and widths[0] > 1:
            return separator
        first[separator] = widths[0] if widths else 0
    return max(first, key=lambda separator: first[separator], default=",")


def json_values(path: Path, expected: str) -> tuple[list[tuple[str, Any]], list[Finding]]:
    """Reads the values of a JSON file: the items of its list, or one value per line.

    Args:
        path: Path of the file. A .jsonl file has a value per line, as other files may.
        expected: What each value should be.

    Returns:
        The location of each value and the value; the lines that are not JSON.
    """
    text = read_text(path)
    if path.suffix.lower() != ".jsonl":
        try:
            whole = json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":  # As for values that span several lines.
                where, received = f"{path.name} line {error.lineno}", f"invalid JSON ({error.msg})"
                return [], [Fault(where, received, expected, skippable=False)]
        else:
            items = enumerate(whole if isinstance(whole, list) else [whole], 1)
            return [(f"{path.name}, item {number}", item) for number, item in items], []
    values: list[tuple[str, Any]] = []
    faults: list[Finding] = []
    for line, content in enumerate(text.split("\n"), 1):
        where = f"{path.name} line {line}"
        try:
            if content.strip():
                values.append((where, json.loads(content)))
        except json.JSONDecodeError as error:
            faults.append(Fault(where, f"invalid JSON ({error.msg})", expected))
    return values, faults
