"""A file of answers: CSV, TSV, JSON lines or Parquet, written row by row."""

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
ROWS_AT_ONCE = 4096
Row = Mapping[str, Any]


class Predictions:
    """Writes rows to a file that appears when all of them are there, and not after an error.

    They are first written as JSON lines, because the columns are known only after the last row.
    Values that do not fit in a cell, such as lists, and columns of several types become JSON.

    Args:
        path: The file, which is replaced; its suffix determines the format.
        first: Columns that come first.
        last: Columns that come last.
    """

    def __init__(self, path: Path, first: Sequence[str], last: Sequence[str]):
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"`output` must end in one of {', '.join(SUFFIXES)}. Received: output={path}"
            )
        if not path.parent.is_dir() or path.is_dir():
            raise ValueError(
                f"`output` must be a file in a folder that exists. Received: output={path}"
            )
        self.path = path
        self._first, self._last = first, last
        self._types: dict[str, set[type]] = {name: set() for name in (*first, *last)}
        self._rows = path.with_name(f".{path.name}.{os.getpid()}.rows")
        self._whole = path.with_name(f".{path.name}.{os.getpid()}")

    def __enter__(self) -> "Predictions":
        self._file = _open(self._rows)
        return self

    def add(self, row: Row) -> None:
        for name, value in row.items():
            # Parquet's integers have 64 bits.
            large = isinstance(value, int) and value.bit_length() > 63
            self._types.setdefault(name, set()).add(str if large else type(value))
        self._file.write(json.dumps(row, ensure_ascii=False, default=_as_text) + "\n")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._file.close()
            if kind is None:
                write = {".csv": self._cells, ".tsv": self._cells, ".parquet": self._parquet}
                write.get(self.path.suffix.lower(), self._lines)()
                with self._whole.open("rb") as written:
                    os.fsync(written.fileno())
                os.replace(self._whole, self.path)
        finally:
            for temporary in (self._rows, self._whole):
                temporary.unlink(missing_ok=True)

    @property
    def _columns(self) -> list[str]:
        between = [name for name in self._types if name not in (*self._first, *self._last)]
        return [*self._first, *between, *self._last]

    def _read(self) -> Iterator[Row]:
        with self._rows.open(encoding="utf-8", newline="\n") as rows:
            yield from map(json.loads, rows)

    def _lines(self) -> None:
        os.replace(self._rows, self._whole)

    def _cells(self) -> None:
        columns = self._columns
        delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
        with _open(self._whole) as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(columns)
            writer.writerows([_cell(row.get(name)) for name in columns] for row in self._read())

    def _parquet(self) -> None:
        # PyArrow takes a while to import, and is needed only here.
        import pyarrow
        from pyarrow import parquet

        kinds: dict[type, tuple[Any, Callable[[Any], Any]]] = {
            bool: (pyarrow.bool_(), bool),
            int: (pyarrow.int64(), int),
            float: (pyarrow.float64(), float),
        }
        made = {
            name: kinds.get(self._type(name), (pyarrow.string(), _cell)) for name in self._columns
        }
        schema = pyarrow.schema([(name, dtype) for name, (dtype, _) in made.items()])
        rows = self._read()
        with parquet.ParquetWriter(self._whole, schema) as writer:
            while some := list(islice(rows, ROWS_AT_ONCE)):
                columns = [
                    pyarrow.array(
                        [None if row.get(name) is None else make(row[name]) for row in some], dtype
                    )
                    for name, (dtype, make) in made.items()
                ]
                writer.write_table(pyarrow.table(columns, schema))

    def _type(self, name: str) -> type:
        """The one type of a column's cells; of any others, that of text."""
        types = self._types[name] - {type(None)}
        if types == {int, float}:
            return float
        return types.pop() if len(types) == 1 else str


def _open(path: Path) -> TextIO:
    # Names of files may not be UTF-8.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


def _as_text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return (value or "").encode(errors="backslashreplace").decode()
    return json.dumps(value, ensure_ascii=False)
