"""Files with one class each: a folder per class, or a CSV file with paths and labels."""

import csv
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from data.sources import SPLIT_NAMES, BadData, Fault, completed, empty_splits, is_hidden

COLUMN_NAMES = {
    "path": "path",
    "file": "path",
    "filename": "path",
    "image": "path",
    "label": "label",
    "class": "label",
    "split": "split",
}


@dataclass(frozen=True)
class Labeled:
    """One example of a class.

    Args:
        name: Decides its split and its order. For a file, the path relative to the data.
        label: Name of its class.
        split: train, validation or test; empty if the data does not say.
        where: File, and line if there is one, for messages.
    """

    name: str
    label: str
    split: str
    where: str


@dataclass(frozen=True)
class LabeledFile(Labeled):
    """One file of a class.

    Args:
        path: Path of the file.
    """

    path: str


Example = TypeVar("Example", bound=Labeled)


def labeled_files(
    data: str, suffixes: Collection[str], others: Collection[str] = ()
) -> tuple[list[LabeledFile], list[Fault]]:
    """Lists the files of a folder or CSV file, and the problems of the listing itself.

    A folder has one sub-folder per class with files at any depth. Or it has a sub-folder train/,
    and optionally test/ and validation/ (or val/), each with one sub-folder per class. Linked
    folders are followed. Hidden files are ignored, and files with other suffixes after a line on
    stderr that counts them. A CSV file has the columns `path` (relative to the
    folder of the CSV file), `label` and optionally `split`. A header (path, file, filename or
    image; label or class; split) may give them another order.

    Args:
        data: Path of the folder or CSV file.
        suffixes: Suffixes of the files to list, in lower case, such as `.png`.
        others: Further suffixes of files to list, which the loader reports as bad.
    """
    root = Path(data)
    if root.is_dir():
        return _from_folder(root, suffixes, others)
    if root.is_file() and root.suffix.lower() == ".csv":
        return _from_csv(root)
    received = "another kind of file" if root.exists() else "no such file or folder"
    expected = "a folder with one sub-folder per class, or a .csv file with columns path and label"
    raise BadData(data, [Fault(data, received, expected, skippable=False)])


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_hidden(path.name))


def _files_below(folder: Path) -> list[Path]:
    """Lists the visible files at any depth. A folder that links lead to again is listed once."""
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(n for n in folders if not is_hidden(n))
        if real not in seen:
            found += [Path(parent, name) for name in names if not is_hidden(name)]
        seen.add(real)
    return sorted(found)


def _from_folder(
    root: Path, usable: Collection[str], others: Collection[str]
) -> tuple[list[LabeledFile], list[Fault]]:
    files, faults = [], []
    suffixes = {*usable, *others}
    ignored: Counter[str] = Counter()
    top = {path.name.lower(): path for path in _visible(root) if path.is_dir()}
    given = {SPLIT_NAMES[name]: path for name, path in top.items() if name in SPLIT_NAMES}
    if not _is_split(top, given, suffixes):
        given = {"": root}
    for split, folder in given.items():
        for entry in _visible(folder):
            where = entry.relative_to(root).as_posix()
            if entry.is_file() and entry.suffix.lower() in suffixes:
                received = "a file outside the class folders"
                faults.append(Fault(where, received, "files in class folders only"))
            if not entry.is_dir():
                continue
            below = _files_below(entry)
            paths = [path for path in below if path.suffix.lower() in suffixes]
            ignored.update(path.suffix.lower() for path in below)
            for path in paths:
                name = path.relative_to(root).as_posix()
                if name.encode(errors="replace").decode() == name:
                    files.append(LabeledFile(name, entry.name, split, name, str(path)))
                else:
                    received = "a name that is not UTF-8"
                    faults.append(Fault(repr(name), received, "a UTF-8 name", "rename the file"))
            if not paths:
                expected = f"at least one file ({', '.join(sorted(usable))})"
                fix = "add files, or remove the folder"
                received = "an empty class folder"
                faults.append(Fault(f"{where}/", received, expected, fix, examples=0))
    counts = [
        f"{count} {suffix or 'without a suffix'}"
        for suffix, count in sorted(ignored.items())
        if suffix not in suffixes
    ]
    if counts:
        # The name of a suffix may hold anything, as that of a file.
        line = f"Other files in the class folders of {root} are ignored: {', '.join(counts)}"
        print(line.encode(errors="replace").decode(), file=sys.stderr)
    return files, faults


def _is_split(top: dict[str, Path], given: dict[str, Path], suffixes: Collection[str]) -> bool:
    """Whether train/ is a split with class folders, not the class of pictures of trains."""
    if "train" not in given:
        return False
    inside = _visible(given["train"])
    loose = any(path.is_file() and path.suffix.lower() in suffixes for path in inside)
    alone = set(top) <= set(SPLIT_NAMES)
    others = [
        path for split, folder in given.items() if split != "train" for path in _visible(folder)
    ]
    like_others = any(path.is_dir() for path in others)
    return any(path.is_dir() for path in inside) and (alone or like_others or not loose)


def _from_csv(path: Path) -> tuple[list[LabeledFile], list[Fault]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        fault = Fault(path.name, str(error), "comma-separated UTF-8 text", skippable=False)
        raise BadData(str(path), [fault]) from error
    columns = ["path", "label", "split"]
    header = [COLUMN_NAMES.get(cell.lower(), "") for cell in rows[0][1]] if rows else []
    if "path" in header and "label" in header:
        columns, rows = header, rows[1:]
    files, faults = [], []
    for line, cells in rows:
        row = dict(zip(columns, cells, strict=False))
        where = f"{path.name} line {line}"
        split = SPLIT_NAMES.get(row.get("split", "").lower(), "")
        if not row.get("path") or not row.get("label"):
            missing = "label" if row.get("path") else "path"
            received = f"no {missing} in {','.join(cells)!r}"
            faults.append(Fault(where, received, "path,label"))
        elif "split" in row and not split:
            received = f"the split {row['split']!r}"
            faults.append(Fault(where, received, "train, validation or test"))
        else:
            name = Path(row["path"]).as_posix()
            file_path = str(path.parent / name)
            files.append(LabeledFile(name, row["label"], split, f"{where} ({name})", file_path))
    return files, faults


def without_conflicts(
    files: Sequence[LabeledFile], contents: Sequence[int]
) -> tuple[list[LabeledFile], list[Fault]]:
    """Leaves out files with the same content as a file of another class.

    Args:
        files: The files.
        contents: A hash of the content of each file.
    """
    same = defaultdict(list)
    for file, content in zip(files, contents, strict=True):
        same[content].append(file)
    kept, faults = [], []
    for copies in same.values():
        if len({file.label for file in copies}) == 1:
            kept += copies
            continue
        others = ", ".join(f"{file.where} in class {file.label!r}" for file in copies[1:4])
        received = f"the same content in class {copies[0].label!r} as {others}"
        fix = "keep one of them"
        expected = "one class per content"
        faults.append(Fault(copies[0].where, received, expected, fix, examples=len(copies)))
    return kept, faults


def divided(examples: Sequence[Example]) -> tuple[list[Example], list[Fault]]:
    """Assigns a split to every example, and leaves out classes without training examples.

    If the data has no splits, a hash of the names puts 10 % of the examples in validation and 10 %
    in test. If only one of the two is missing, 10 % of train become that split.
    """
    given = {example.split for example in examples}
    examples = [
        replace(example, split=completed(example.split, example.name, given))
        for example in examples
    ]
    faults = []
    trained = {example.label for example in examples if example.split == "train"}
    unseen = Counter(example.label for example in examples if example.label not in trained)
    for label, count in unseen.items():
        received = f"{count} {'example' if count == 1 else 'examples'}, none in the training split"
        expected = "at least one training example"
        fix = "add examples, or provide a split"
        faults.append(Fault(f"class {label!r}", received, expected, fix, examples=count))
    examples = [example for example in examples if example.label in trained]
    if examples:
        faults += empty_splits(Counter(example.split for example in examples))
    if len(trained) < 2:
        received = f"only the class {trained.pop()!r}" if trained else "no usable example"
        expected = "at least two classes"
        faults.insert(0, Fault("the training split", received, expected, skippable=False))
    return examples, faults
