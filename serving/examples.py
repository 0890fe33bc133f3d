"""From files, folders and tables to examples of a signature, one after the other."""

import base64
import glob
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from serving.client import Signature, TensorSpec
from serving.rows import SUFFIXES, Row, comma_separated, not_utf8, numbered, open_text, read_rows

STANDARD_INPUT = "-"
PATH_COLUMNS = ("path", "file", "filename", "image")
"""Columns of a table of files that training reads too."""


@dataclass(frozen=True)
class Example:
    """One example, or the reason why it cannot be read.

    Args:
        name: File, and line where the file holds several.
        inputs: Values by served name of the input.
        file: Path of the file.
        line: Number of the line, or of a Parquet file's row; None for a whole file.
        further: Cells that are not inputs, by column.
        error: The problem; empty for an example that can be answered.
    """

    name: str
    inputs: Mapping[str, Any]
    file: str = ""
    line: int | None = None
    further: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Reading:
    """How files become inputs of a signature.

    A single string input named *_bytes takes each file as it is, and another single string input
    the text of a .txt file or each line of others. All inputs take the rows of tables, .csv, .tsv,
    .jsonl, .json or .parquet. `-` is standard input.

    Args:
        signature: The signature to query.
        columns: The columns of tables by name of the input. Other inputs take the column that
            training read, or that of their own name.
        lines: Whether each line of a .txt file is a text.
        apart: A file that folders and globs leave out: the output file.
    """

    signature: Signature
    columns: Mapping[str, str] = field(default_factory=dict)
    lines: bool = False
    apart: Path | None = None
    _known: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict, init=False)

    def __post_init__(self):
        known = [*self.signature.inputs, *map(self.signature.title, self.signature.inputs)]
        if unknown := [name for name in self.columns if name not in known]:
            raise ValueError(
                "`columns` must be INPUT=COLUMN with one of the inputs "
                f"{', '.join(map(self.signature.title, self.signature.inputs))}. "
                f"Received: {', '.join(unknown)}"
            )
        text = self._single_text
        if self.lines and (not text or text.endswith("_bytes")):
            raise ValueError(
                "`lines` is for signatures that take one text. Received: one that takes "
                f"{', '.join(map(self.signature.title, self.signature.inputs))}"
            )

    def examples(self, inputs: Sequence[Path], part: tuple[int, int] = (1, 1)) -> Iterator[Example]:
        """Yields the examples of files, folders and globs; files are read when it is their turn.

        Args:
            inputs: The files to read. Folders are searched to any depth, in sorted order and
                without hidden files.
            part: `(i, n)` yields each n-th of the examples only, from the i-th, counted from 1.
        """
        first, step = part
        located = (one for path in inputs for one in self._located(path))
        return map(self._read, islice(located, first - 1, None, step))

    @property
    def _single_text(self) -> str:
        """The signature's input if it is a single string, else an empty string."""
        inputs = self.signature.inputs
        name = next(iter(inputs)) if len(inputs) == 1 else ""
        return name if name and inputs[name].dtype == "string" else ""

    def _located(self, path: Path) -> Iterator[tuple[Path, Row | None]]:
        """Yields file and row of what is an example or a failure; None is the whole file."""
        file = None
        for file in _files(path, self.apart):
            row: Row | None = (0, "empty")
            try:
                for row in self._rows(file):
                    yield file, row
                if row == (0, "empty"):
                    yield file, row
            except OSError as error:
                yield file, (0, error.strerror or str(error))
            except ValueError as error:
                yield file, (0, str(error))
        if file is None:
            yield path, (0, "a folder without files")

    def _rows(self, file: Path) -> Iterable[Row | None]:
        suffix, piped = file.suffix.lower(), str(file) == STANDARD_INPUT
        text = self._single_text
        if suffix in SUFFIXES:
            rows = read_rows(file)
            # JSON lines may have other columns each.
            return rows if suffix in (".jsonl", ".json") else self._with_inputs(rows)
        if text.endswith("_bytes") or (text and suffix == ".txt" and not self.lines):
            return [None]
        if text:
            column = self._chosen(text) or text
            return _lines(column, _standard_input() if piped else open_text(file))
        if piped:
            return self._with_inputs(comma_separated(_standard_input(newline="")))
        inputs = self.signature.inputs
        taken = ", ".join(f"{self.signature.title(n)} ({inputs[n].dtype})" for n in inputs)
        raise ValueError(
            f"expected one of {', '.join(SUFFIXES)}, since the signature takes {taken}"
        )

    def _read(self, located: tuple[Path, Row | None]) -> Example:
        file, row = located
        number, cells = row or (0, {})
        name = f"{file}:{number}" if number else str(file)
        example = Example(name, {}, str(file), number or None)
        if isinstance(cells, str):
            return replace(example, error=cells)
        try:
            if row is None:
                return Example(name, self._whole(file), name)
            example = replace(example, further=cells)
            used = set(self._columns(tuple(cells)).values())
            further = {column: cells[column] for column in cells if column not in used}
            example = replace(example, further=further)
            return replace(example, inputs=self._inputs(file, cells))
        except OSError as error:
            return replace(example, error=error.strerror or str(error))
        except ValueError as error:
            return replace(example, error=str(error))

    def _whole(self, file: Path) -> dict[str, Any]:
        name = self._single_text
        if name.endswith("_bytes"):
            piped = str(file) == STANDARD_INPUT
            return {name: sys.stdin.buffer.read() if piped else file.read_bytes()}
        with open_text(file) as opened:
            text = opened.read().rstrip("\n")
        if wrong := not_utf8(text) or ("" if text else "empty"):
            raise ValueError(wrong)
        return {name: text}

    def _chosen(self, name: str) -> str | None:
        """The column that the user names for an input."""
        return self.columns.get(self.signature.title(name), self.columns.get(name))

    def _columns(self, names: tuple[str, ...]) -> dict[str, str]:
        """Returns the column of each input that has one, by the names of a table's columns."""
        if names not in self._known:
            signature = self.signature
            meant = signature.meant(names)
            found = {}
            for name in signature.inputs:
                chosen = self._chosen(name)
                usual = [signature.columns.get(name), meant.get(name)]
                if name.endswith("_bytes"):
                    usual += PATH_COLUMNS
                wanted = usual if chosen is None else [chosen]
                column = next((one for one in wanted if one in names), None)
                if column is not None:
                    found[name] = column
            self._known[names] = found
        return self._known[names]

    def _with_inputs(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Raises `ValueError` where a table lacks a column, once instead of for each row."""
        for number, cells in rows:
            if not isinstance(cells, str):
                self._require(tuple(cells))
            yield number, cells

    def _require(self, names: tuple[str, ...]) -> None:
        signature = self.signature
        known = self._columns(names).keys() | signature.optional
        if missing := sorted(signature.inputs.keys() - known):
            wanted = [self._chosen(name) or signature.title(name) for name in missing]
            fix = " ".join(f"--columns {signature.title(name)}=COLUMN" for name in missing)
            raise ValueError(
                f"expected a column {', '.join(wanted)}. Received: the columns {', '.join(names)}. "
                f"Fix: name the column with {fix}"
            )

    def _inputs(self, file: Path, cells: Mapping[str, Any]) -> dict[str, Any]:
        self._require(tuple(cells))
        columns = self._columns(tuple(cells))
        return {
            name: _cell(file, name, column, cells[column], self.signature.inputs[name])
            for name, column in columns.items()
        }


def _files(path: Path, apart: Path | None) -> Iterator[Path]:
    """Yields a file, the files of a folder, or those that a glob matches."""
    if path.is_dir():
        yield from _inside(path, apart, ())
    elif glob.has_magic(str(path)) and not path.exists():
        found = sorted(map(Path, glob.iglob(str(path), recursive=True)))
        for one in found:
            if one.is_dir() and "**" not in path.parts:  # The glob has found its content, too.
                yield from _inside(one, apart, ())
            elif not one.is_dir() and not _is_same(one, apart):
                yield one
        if not found:
            yield path
    else:
        yield path


def _inside(folder: Path, apart: Path | None, above: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:  # A link that leads back up.
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _inside(path, apart, (*above, real))
        elif not _is_same(path, apart):
            yield path


def _is_same(path: Path, other: Path | None) -> bool:
    if other is None or path.name != other.name:  # Which spares nearly all the next, slow step.
        return False
    return os.path.realpath(path) == os.path.realpath(other)


def _standard_input(newline: str | None = None) -> Iterator[str]:
    text = io.TextIOWrapper(sys.stdin.buffer, "utf-8-sig", "surrogateescape", newline)
    try:
        yield from text
    finally:
        text.detach()


def _lines(column: str, lines: Any) -> Iterator[Row]:
    with closing(lines):
        for number, line in numbered(lines):
            yield number, not_utf8(line) or {column: line}


def _cell(file: Path, name: str, column: str, cell: Any, spec: TensorSpec) -> Any:
    """Reads a cell as the input's type, in as many dimensions as an example has."""
    if name.endswith("_bytes") and spec.dtype == "string":
        value: Any = _content(file, column, cell)
    elif isinstance(cell, (list, tuple)):
        return cell
    else:
        value = _value(column, cell, spec.dtype)
    shape = (spec.shape or (None,))[1:]
    if any(size not in (1, None) for size in shape):
        raise ValueError(f"`{column}` has the shape {shape}, and a cell contains one value")
    for _ in shape:
        value = [value]
    return value


def _content(table: Path, column: str, cell: Any) -> bytes:
    """Returns the bytes that a cell holds or names, as data sets and requests write them."""
    match cell:
        case bytes() | {"bytes": bytes()}:
            return cell if isinstance(cell, bytes) else cell["bytes"]
        case {"b64": str(text)}:
            return base64.b64decode(text, validate=True)
        case str():
            # As in training: from the folder of the table.
            return (table.parent / cell).read_bytes()
    raise ValueError(f"`{column}` must be bytes or the path of a file. Received: {cell!r:.100}")


def _value(column: str, cell: Any, dtype: str) -> Any:
    words = {"true": True, "1": True, "false": False, "0": False}
    wrong = ValueError(f"`{column}` must be {dtype}. Received: {cell!r:.100}")
    if dtype == "string":
        if not isinstance(cell, (str, bytes)):
            raise wrong
        return cell
    # An empty cell means that there is no number.
    if "float" in dtype and (cell is None or not str(cell).strip()):
        return float("nan")
    try:
        if not isinstance(cell, str):
            if isinstance(cell, bool) != (dtype == "bool") or not isinstance(cell, (int, float)):
                raise wrong
            return cell
        if dtype == "bool":
            return words[cell.strip().lower()]
        return int(cell) if "int" in dtype else float(cell)
    except (KeyError, ValueError) as error:
        raise wrong from error
