"""Objects in images as a table: a .csv file with a box per row."""

from pathlib import Path

from data.annotations import Annotated, AnnotatedImage, Annotation, declared_size
from data.labeled_files import COLUMN_NAMES, file_of
from data.sources import BadData, Evaluated, Fault, split_named, splits_to_read
from data.tables import columns_read, rows_of_cells
from data.text_files import not_utf8

SIDES = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = ("path", *SIDES, "label")
"""The columns of a table without a header."""
NAMES = {**COLUMN_NAMES, **{name: name for name in (*SIDES, "width", "height")}}
"""The column that each name in a header stands for."""


def is_format(root: Path) -> bool:
    """Whether there is a .csv file whose rows may have boxes."""
    path = _table(root)
    if path is None:
        return False
    rows, _ = rows_of_cells(str(root), path)
    return bool(rows) and (_has_header(rows[0][1]) or len(rows[0][1]) == len(COLUMNS))


def read(root: Path, evaluated: Evaluated | None) -> Annotated:
    """Reads a .csv file with the columns path, xmin, ymin, xmax, ymax, label and optionally split.

    A header may give the columns another order; `filename` and `class` are other names of `path`
    and `label`, and `width` and `height` declare the size of the image. Without a header the rows
    are `path,x1,y1,x2,y2,class`. Paths are relative to the table. A row with only a path is an
    image without objects.

    Args:
        root: The .csv file, or a folder with one.
        evaluated: As in `data.splits.dealt`.
    """
    path = _table(root)
    if path is None:
        expected = "a .csv file, or a folder with one"
        raise BadData(str(root), [Fault(str(root), "no such file", expected, skippable=False)])
    cells_of_rows, findings = rows_of_cells(str(root), path)
    rows = [(where, [cell.strip() for cell in cells]) for where, cells in cells_of_rows]
    columns = [*COLUMNS, "split"]
    if rows and _has_header(rows[0][1]):
        names = rows[0][1]
        columns = [NAMES.get(name.lower(), name) for name in names]
        kinds = {kind: name for kind, name in zip(columns, names, strict=True) if kind in NAMES}
        others = [name for kind, name in zip(columns, names, strict=True) if kind not in NAMES]
        findings += columns_read(kinds, others)
        rows = rows[1:]
    named = [(where, dict(zip(columns, cells, strict=False))) for where, cells in rows]
    wanted = splits_to_read((split_named(row.get("split", "")) for _, row in named), evaluated)
    things: dict[str, list[Annotation]] = {}
    first: dict[str, tuple[str, str, dict[str, str]]] = {}
    for where, row in named:
        name, split = row.get("path", ""), split_named(row.get("split", ""))
        if split not in wanted:
            continue
        fault = not_utf8("".join(row.values()), where)
        if fault:
            findings.append(fault)
        elif row.get("split") and not split:
            received = f"the split {row['split']!r}"
            findings.append(Fault(where, received, "train, validation or test"))
        elif not name:
            findings.append(Fault(where, "no path", ",".join(COLUMNS)))
        elif first.setdefault(name, (where, split, row))[1] != split:
            other = first[name][0]
            received = f"the split {split or 'unknown'}, but another in {other}"
            findings.append(Fault(where, received, "one split per image"))
        else:
            some = things.setdefault(name, [])
            found = _thing(where, row)
            if isinstance(found, Fault):
                findings.append(found)
            elif found:
                some.append(found)
    images = []
    for name, (where, split, row) in first.items():
        picture = file_of(path, name) or path.parent / name
        size = declared_size(row.get("height"), row.get("width"))
        objects = tuple(things.get(name, ()))
        images.append(AnnotatedImage(str(picture), f"{where} ({name})", split, objects, size))
    return Annotated(images, findings)


def _table(root: Path) -> Path | None:
    """Finds the table: the path itself, or the only .csv file in the folder."""
    tables = [root] if root.is_file() else sorted(root.glob("*.csv"))
    return tables[0] if len(tables) == 1 and tables[0].suffix.lower() == ".csv" else None


def _has_header(cells: list[str]) -> bool:
    kinds = {NAMES.get(cell.strip().lower()) for cell in cells}
    return {"path", *SIDES} <= kinds


def _thing(where: str, row: dict[str, str]) -> Annotation | Fault | None:
    """Reads the object of a row; None if it has only a path."""
    if not any(row.get(name) for name in (*SIDES, "label")):
        return None
    try:
        xmin, ymin, xmax, ymax = (float(row.get(side) or "") for side in SIDES)
    except ValueError:
        received = f"the sides {[row.get(side) for side in SIDES]}"
        return Fault(where, received, "four numbers: xmin, ymin, xmax, ymax")
    if not row.get("label"):
        return Fault(where, "no label", "the name of a class")
    return Annotation(where, row["label"], (xmin, ymin, xmax, ymax))
