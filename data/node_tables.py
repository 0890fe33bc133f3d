"""A graph in two tables of a folder: `nodes` with their features, and `edges` between them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.sources import BadData, Fault, Finding, is_hidden, not_read, split_named
from data.tables import columns_read, rows_of_cells

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
MOST_VALUES = 100
"""Maximum number of values of a column of text that get a feature of their own."""
OTHER = "other"
"""Feature of the values of a column of text that are not among the most frequent."""
MOSTLY = 0.9
"""A column of which at least this share are numbers is one of numbers."""

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Nodes:
    """Nodes and links as they were read.

    Args:
        ids: Name of each node.
        classes: Class of each node, "" if it is not known.
        splits: Split of each node, "" if the data does not say it.
        features: float32 `(nodes, channels)`.
        feature_names: Name of each column of the features.
        links: Senders, receivers and weights, `(links,)` each.
        wheres: File and line of each node.
    """

    ids: Sequence[str]
    classes: Sequence[str]
    splits: Sequence[str]
    features: np.ndarray
    feature_names: Sequence[str]
    links: Triple
    wheres: Sequence[str]


def read(
    folder: Path,
    weights: bool = False,
    *,
    id_column: str | None = None,
    label_column: str | None = None,
    source_column: str | None = None,
    target_column: str | None = None,
) -> tuple[Nodes, list[Finding]]:
    """Reads the tables of a folder.

    `nodes` has the columns `id`, `label` (cells may be empty) and perhaps `split`; all others are
    features. A column of text becomes a feature for each of its 100 most frequent values and one
    for all others; an empty cell of a column of numbers gets the mean of the column. `edges` has
    the columns `source` and `target`, and perhaps `weight`. Names of nodes are text: 007 is not 7.

    Args:
        folder: Has the files `nodes` and `edges` with one of `SUFFIXES`.
        weights: Whether to read weights of links; else all are 1.
        id_column, label_column, source_column, target_column: Other names of these columns.

    Returns:
        The graph, and the problems with the files.
    """
    data = str(folder)
    if not folder.is_dir():
        fault = Fault(data, "a file", "a folder with tables `nodes` and `edges`", skippable=False)
        raise BadData(data, [fault])
    nodes, edges = (_table(folder, name) for name in ("nodes", "edges"))
    findings = not_read(
        path for path in folder.iterdir() if path not in (nodes, edges) and path.name
    )
    names = {"id": id_column or "id", "label": label_column or "label", "split": "split"}
    header, rows, said = _rows(data, nodes, [names["id"], names["label"]])
    findings += said
    place = {kind: header.index(name) for kind, name in names.items() if name in header}
    seen: dict[str, str] = {}
    kept = []
    for where, cells in rows:
        name = cells[place["id"]]
        if name in seen or not name:
            received = f"the id {name!r}" if name else "no id"
            expected = f"an id that no node before has (it is in {seen[name]})" if name else "an id"
            findings.append(Fault(where, received, expected))
            continue
        seen[name] = where
        kept.append((where, cells))
    splits, said = _splits(kept, place.get("split"))
    findings += said
    others = [column for column in range(len(header)) if column not in place.values()]
    columns = [(header[column], [cells[column] for _, cells in kept]) for column in others]
    wheres = [where for where, _ in kept]
    features, feature_names, said = features_of(columns, wheres)
    findings += said
    findings += columns_read({kind: header[place[kind]] for kind in place}, [])
    number = {name: i for i, name in enumerate(seen)}
    ends = source_column or "source", target_column or "target"
    links, said = _links(data, edges, number, ends, weights)
    findings += said
    read = Nodes(
        ids=[*seen],
        classes=[cells[place["label"]].strip() for _, cells in kept],
        splits=splits,
        features=features,
        feature_names=feature_names,
        links=links,
        wheres=wheres,
    )
    return read, findings


def features_of(
    columns: Sequence[tuple[str, Sequence[str]]], wheres: Sequence[str]
) -> tuple[np.ndarray, list[str], list[Finding]]:
    """Turns columns of cells into numbers, as `read` says.

    Args:
        columns: Name and cells of each column.
        wheres: File and line of each row.

    Returns:
        Features float32 `(rows, channels)`, the name of each channel, and problems.

    Example:
        >>> features, names, _ = features_of([("age", ["1", "", "3"]), ("eyes", ["a", "b", "a"])],
        ...     ["", "", ""])
        >>> names, features.tolist()
        (['age', 'eyes=a', 'eyes=b'], [[1.0, 1.0, 0.0], [2.0, 0.0, 1.0], [3.0, 1.0, 0.0]])
    """
    parts: list[np.ndarray] = []
    names: list[str] = []
    findings: list[Finding] = []
    for name, cells in columns:
        numbers = [_number(cell) for cell in cells]
        filled = [number for number, cell in zip(numbers, cells, strict=True) if cell.strip()]
        good = [number for number in filled if math.isfinite(number)]
        if filled and len(good) >= MOSTLY * len(filled):
            for number, cell, where in zip(numbers, cells, wheres, strict=True):
                if cell.strip() and not math.isfinite(number):
                    expected = f"a finite number in column {name!r}, like most of its cells"
                    findings.append(Fault(where, repr(cell), expected, examples=0))
            mean = sum(good) / len(good)
            column = [number if math.isfinite(number) else mean for number in numbers]
            parts.append(np.array(column, np.float32)[:, None])
            names.append(name)
            continue
        values = [value for value, _ in Counter(cells).most_common(MOST_VALUES)]
        others = [OTHER] if len(set(cells)) > MOST_VALUES else []
        chosen = {value: i for i, value in enumerate(sorted(values))}
        one_hot = np.zeros((len(cells), len(values) + len(others)), np.float32)
        rows = [chosen.get(cell, len(values)) for cell in cells]
        one_hot[np.arange(len(cells)), rows] = 1
        parts.append(one_hot)
        names += [f"{name}={value}" for value in [*chosen, *others]]
    empty = np.zeros((len(wheres), 0), np.float32)
    return np.concatenate([empty, *parts], axis=1), names, findings


def _number(cell: str) -> float:
    """Returns the number in a cell, NaN if there is none."""
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _table(folder: Path, name: str) -> Path:
    """Finds the file of a table."""
    known = {f"{name}{suffix}" for suffix in SUFFIXES}
    found = sorted(path for path in folder.iterdir() if path.name.lower() in known)
    if len(found) != 1:
        names = [path.name for path in sorted(folder.iterdir()) if not is_hidden(path.name)]
        received = ", ".join(path.name for path in found) or ", ".join(names[:10]) or "no file"
        expected = f"one file {name} with a suffix of {', '.join(SUFFIXES)}"
        raise BadData(str(folder), [Fault(str(folder), received, expected, skippable=False)])
    return found[0]


def _rows(
    data: str, path: Path, needed: Sequence[str]
) -> tuple[list[str], list[tuple[str, list[str]]], list[Finding]]:
    """Returns the header of a table, and the rows that have as many cells as it."""
    (place, header), *rows = rows_of_cells(data, path)[0] or [(path.name, [])]
    header = [cell.strip() for cell in header]
    missing = [name for name in needed if name not in header]
    if missing:
        expected = f"a header with the columns {', '.join(needed)}"
        received = ", ".join(header) or "an empty file"
        raise BadData(data, [Fault(place, received, expected, skippable=False)])
    findings: list[Finding] = [
        Fault(where, f"{len(cells)} cells", f"{len(header)} cells, as in the header")
        for where, cells in rows
        if len(cells) != len(header)
    ]
    return header, [row for row in rows if len(row[1]) == len(header)], findings


def _splits(
    rows: Sequence[tuple[str, list[str]]], column: int | None
) -> tuple[list[str], list[Finding]]:
    """Returns the split of each row; "" for an empty cell."""
    if column is None:
        return [""] * len(rows), []
    splits: list[str] = []
    findings: list[Finding] = []
    for where, cells in rows:
        name = cells[column].strip()
        splits.append(split_named(name) if name else "")
        if name and not splits[-1]:
            expected = "the name of a split: train, validation, test, or an empty cell"
            findings.append(Fault(where, repr(name), expected))
    return splits, findings


def _links(
    data: str, path: Path, number: dict[str, int], ends: tuple[str, str], weights: bool
) -> tuple[Triple, list[Finding]]:
    """Reads the links between known nodes."""
    header, rows, findings = _rows(data, path, [*ends, *(["weight"] if weights else [])])
    positions = [header.index(name) for name in ends]
    links = []
    for where, cells in rows:
        unknown = [cells[place] for place in positions if cells[place] not in number]
        if unknown:
            findings.append(
                Fault(where, repr(unknown[0]), "the id of a node in the table of nodes")
            )
            continue
        weight = _number(cells[header.index("weight")]) if weights else 1.0
        if not 0 < weight < math.inf:
            received = repr(cells[header.index("weight")])
            findings.append(Fault(where, received, "a weight above 0"))
            continue
        source, target = (number[cells[place]] for place in positions)
        links.append((source, target, weight))
    if not links:
        expected = "at least one link between two nodes"
        findings.append(Fault(path.name, "none", expected, skippable=False))
    sources, targets, values = zip(*links, strict=True) if links else ((), (), ())
    triple = (np.array(sources, np.int32), np.array(targets, np.int32))
    if "weight" in header and not weights:
        findings.append("The column 'weight' of the links is not read without --weights.")
    return (*triple, np.array(values, np.float32)), findings
