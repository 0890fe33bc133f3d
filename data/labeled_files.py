"""Files with a class each, as people have them: a folder a class, or a CSV of path and label."""

import csv
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
        name: What decides its split and its order: of a file its path relative to the data.
        label: Name of its class.
        split: train, validation or test; empty as long as the data does not say.
        place: Where a user finds it.
    """

    name: str
    label: str
    split: str
    place: str


@dataclass(frozen=True)
class LabeledFile(Labeled):
    """One file of a class.

    Args:
        path: Where to read it.
    """

    path: str


Example = TypeVar("Example", bound=Labeled)


def labeled_files(data: str, suffixes: Collection[str]) -> tuple[list[LabeledFile], list[Fault]]:
    """Lists the files of a folder or CSV and what is wrong with the listing itself.

    A folder has one sub-folder a class, at any depth below which lie its files; or train/ and, if
    it likes, test/ and validation/ (or val/) with such sub-folders. Hidden files and those of
    other suffixes are no examples. A CSV has the columns path (relative to the CSV's folder),
    label and, if it likes, split; a header (path, file, filename or image; label or class; split)
    may reorder them.

    Args:
        data: Path of the folder or CSV.
        suffixes: What the names of files end in, such as `.png`, in lower case.
    """
    root = Path(data)
    if root.is_dir():
        return _from_folder(root, suffixes)
    if root.is_file() and root.suffix.lower() == ".csv":
        return _from_csv(root)
    found = "a file of another kind" if root.exists() else "nothing there"
    wanted = "a folder with one sub-folder a class, or a .csv of path and label"
    raise BadData(data, [Fault(data, found, wanted, skippable=False)])


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_hidden(path.name))


def _from_folder(root: Path, suffixes: Collection[str]) -> tuple[list[LabeledFile], list[Fault]]:
    files, faults = [], []
    top = {path.name.lower(): path for path in _visible(root) if path.is_dir()}
    given = {SPLIT_NAMES[name]: path for name, path in top.items() if name in SPLIT_NAMES}
    if not _is_split(top, given, suffixes):
        given = {"": root}
    for split, folder in given.items():
        for entry in _visible(folder):
            where = entry.relative_to(root).as_posix()
            if entry.is_file() and entry.suffix.lower() in suffixes:
                faults.append(Fault(where, "a file outside the class folders", "it inside one"))
            if not entry.is_dir():
                continue
            found = [
                path
                for path in sorted(entry.rglob("*"))
                if path.suffix.lower() in suffixes
                and not any(part.startswith(".") for part in path.relative_to(entry).parts)
            ]
            for path in found:
                name = path.relative_to(root).as_posix()
                if name.encode(errors="replace").decode() == name:
                    files.append(LabeledFile(name, entry.name, split, name, str(path)))
                else:
                    faults.append(Fault(repr(name), "a name that is not UTF-8", "another name"))
            if not found:
                kinds = ", ".join(sorted(suffixes))
                wanted = f"at least one of {kinds}, or no such folder"
                faults.append(Fault(f"{where}/", "an empty class folder", wanted, examples=0))
    return files, faults


def _is_split(top: dict[str, Path], given: dict[str, Path], suffixes: Collection[str]) -> bool:
    """Whether train/ holds classes, instead of being the class of pictures of trains."""
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
        place = f"{path.name} line {line}"
        split = SPLIT_NAMES.get(row.get("split", "").lower(), "")
        if not row.get("path") or not row.get("label"):
            missing = "label" if row.get("path") else "path"
            faults.append(Fault(place, f"no {missing} in {','.join(cells)!r}", "path,label"))
        elif "split" in row and not split:
            found = f"the split {row['split']!r}"
            faults.append(Fault(place, found, "train, validation or test"))
        else:
            name = Path(row["path"]).as_posix()
            file_path = str(path.parent / name)
            files.append(LabeledFile(name, row["label"], split, f"{place} ({name})", file_path))
    return files, faults


def without_conflicts(
    files: Sequence[LabeledFile], contents: Sequence[int]
) -> tuple[list[LabeledFile], list[Fault]]:
    """Leaves out files whose content appears under two classes.

    Args:
        files: The files.
        contents: A hash of the content of each.
    """
    same = defaultdict(list)
    for file, content in zip(files, contents, strict=True):
        same[content].append(file)
    kept, faults = [], []
    for copies in same.values():
        if len({file.label for file in copies}) == 1:
            kept += copies
            continue
        others = ", ".join(f"{file.place} of class {file.label}" for file in copies[1:4])
        wanted = f"one class for it (here: {copies[0].label})"
        found = f"the same content as {others}"
        faults.append(Fault(copies[0].place, found, wanted, examples=len(copies)))
    return kept, faults


def divided(examples: Sequence[Example]) -> tuple[list[Example], list[Fault]]:
    """Gives every example a split and leaves out classes that training would never see.

    Where the data has no split of its own, 10 % of the examples go to validation and 10 % to test,
    by a hash of their names; where only one of these is missing, it is taken from train likewise.
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
        found = f"{count} examples, none in the training set"
        wanted = "more examples, or some in train by a split of your own"
        faults.append(Fault(f"class {label}", found, wanted, examples=count))
    examples = [example for example in examples if example.label in trained]
    if examples:
        faults += empty_splits(Counter(example.split for example in examples))
    if len(trained) < 2:
        found = f"only the class {trained.pop()}" if trained else "no usable example"
        wanted = "at least two classes"
        faults.insert(0, Fault("the training set", found, wanted, skippable=False))
    return examples, faults
