"""Files with one class each: a folder per class, or a CSV file with paths and labels."""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy import sparse

from data.sources import (
    SPLITS,
    BadData,
    Evaluated,
    Fault,
    Finding,
    by_split,
    empty_splits,
    evaluated_split,
    is_hidden,
    not_read,
    split_named,
    splits_to_read,
)
from data.splits import by_class, chosen_by_hash, shared, stratified
from data.tables import columns_read, rows_of_cells
from data.text_files import given_by, not_utf8

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
        name: Decides its order: the path relative to the data, if it is a file.
        label: Name of its class.
        split: train, validation or test; empty if the data does not say.
        where: File, and line if there is one, for messages.
        group: Name shared by examples that must be in the same split, such as a patient; empty
            if there are none.
    """

    name: str
    label: str
    split: str
    where: str
    group: str = field(default="", kw_only=True)

    @property
    def content(self) -> str:
        """Decides its split: examples with equal contents get the same one."""
        return self.name


@dataclass(frozen=True)
class LabeledFile(Labeled):
    """One file of a class.

    Args:
        path: Path of the file.
        fingerprint: A hash of its content; empty if it is not known.
    """

    path: str
    fingerprint: str = ""

    @property
    def content(self) -> str:
        return self.fingerprint or self.name


Example = TypeVar("Example", bound=Labeled)


def labeled_files(
    data: str,
    suffixes: Collection[str],
    others: Collection[str] = (),
    group: str | None = None,
    evaluated: Evaluated | None = None,
) -> tuple[list[LabeledFile], list[Finding]]:
    """Lists the files of a folder or CSV file, with the problems and remarks of the listing.

    A folder has one sub-folder per class with files at any depth. Or it has a sub-folder train/,
    and optionally validation/ and test/, each with one sub-folder per class; `SPLIT_NAMES` has
    their other usual names. Linked folders are followed. Hidden files are ignored. Files with other
    suffixes, and folders beside the splits, are named.

    A CSV file has the columns `path` (relative to the folder of the CSV file), `label` and
    optionally `split`. A header (path, file, filename or image; label or class; split) may give
    them another order.

    Args:
        data: Path of the folder or CSV file.
        suffixes: Suffixes of the files to list, in lower case, such as `.png`.
        others: Further suffixes of files to list, which the loader reports as bad.
        group: Name of the column with the groups; for a folder, the number of a level of folders,
            where 1 is the level below the class folders. None: there are no groups.
        evaluated: As in `data.splits.dealt`: then a folder test/ may be the only one, unless that
            is a class of the network.
    """
    root = Path(data)
    if fault := not_utf8(data, "the path of the data"):
        fix = "rename the folder"
        raise BadData(data, [replace(fault, expected="UTF-8", fix=fix, skippable=False)])
    if root.is_dir():
        return _from_folder(root, suffixes, others, _level(data, group), evaluated)
    if root.is_file() and root.suffix.lower() == ".csv":
        return _from_csv(root, group, evaluated)
    received = "another kind of file" if root.exists() else "no such file or folder"
    expected = "a folder with one sub-folder per class, or a .csv file with columns path and label"
    raise BadData(data, [Fault(data, received, expected, skippable=False)])


def refuse_groups(data: str, built_in: Collection[str], group: str | None) -> None:
    """Raises `ValueError` if `group` is given for data whose splits it cannot change."""
    if group is not None and (data in built_in or data.startswith("tfds:")):
        raise ValueError(
            f"`group` is for files of your own. Received: group={group!r} with data={data!r}"
        )


def _level(data: str, group: str | None) -> int:
    """Returns the level of folders that `group` names, 0 for none."""
    if group is None or (group.isascii() and group.isdigit() and int(group)):
        return int(group or 0)
    expected = "the number of a level of folders below the class folders, 1 or more"
    raise BadData(data, [Fault("--group", repr(group), expected, skippable=False)])


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_hidden(path.name))


def files_below(folder: Path) -> list[Path]:
    """Lists the visible files at any depth. A folder with several links to it is listed once."""
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(n for n in folders if not is_hidden(n))
        if real not in seen:
            found += [Path(parent, name) for name in names if not is_hidden(name)]
        seen.add(real)
    return sorted(found)


def _from_folder(
    root: Path,
    usable: Collection[str],
    others: Collection[str],
    level: int,
    evaluated: Evaluated | None,
) -> tuple[list[LabeledFile], list[Finding]]:
    files: list[LabeledFile] = []
    faults: list[Finding] = []
    suffixes = {*usable, *others}
    given, beside = {"": root}, []
    if _has_splits(root, suffixes, evaluated):
        given = by_split(str(root), [path for path in _visible(root) if path.is_dir()])
        read = splits_to_read(given, evaluated)
        given = {split: folder for split, folder in given.items() if split in read}
        beside = [path for path in _visible(root) if path not in given.values()]
        faults.append(given_by(given))
    for split, folder in given.items():
        for entry in _visible(folder):
            where = entry.relative_to(root).as_posix()
            if not entry.is_dir():
                if entry.suffix.lower() in suffixes:
                    received = "a file outside the class folders"
                    faults.append(Fault(where, received, "files in class folders only"))
                else:
                    beside.append(entry)
                continue
            below = files_below(entry)
            paths = [path for path in below if path.suffix.lower() in suffixes]
            beside += [path for path in below if path.suffix.lower() not in suffixes]
            for path in paths:
                name = path.relative_to(root).as_posix()
                folders = ["", *path.relative_to(entry).parts[:-1]]
                if name.encode(errors="replace").decode() != name:
                    received = "a name that is not UTF-8"
                    faults.append(Fault(repr(name), received, "a UTF-8 name", "rename the file"))
                elif level >= len(folders):
                    expected = f"a folder {level} levels below the class folders, for --group"
                    faults.append(Fault(name, f"only {len(folders) - 1}", expected))
                else:
                    group = "/".join(folders[1 : level + 1])
                    file = LabeledFile(name, entry.name, split, name, str(path), group=group)
                    files.append(file)
            if not paths:
                expected = f"at least one file ({', '.join(sorted(usable))})"
                fix = "add files, or remove the folder"
                received = "an empty class folder"
                faults.append(Fault(f"{where}/", received, expected, fix, examples=0))
    return files, [*faults, *not_read(beside, suffixes)]


def _has_splits(root: Path, suffixes: Collection[str], evaluated: Evaluated | None) -> bool:
    """Whether train/ is a split with class folders, not a class with pictures of trains."""
    top = [path for path in _visible(root) if path.is_dir()]
    if evaluated and {path.name for path in top} & {*evaluated.labels}:
        return False
    needed = SPLITS if evaluated else ("train",)
    inside = [p for folder in top if split_named(folder.name) in needed for p in _visible(folder)]
    loose = any(path.is_file() and path.suffix.lower() in suffixes for path in inside)
    alone = all(split_named(path.name) for path in top)
    others = [
        path
        for folder in top
        if split_named(folder.name) in ("validation", "test")
        for path in _visible(folder)
    ]
    like_others = any(path.is_dir() for path in others)
    return any(path.is_dir() for path in inside) and (alone or like_others or not loose)


def _from_csv(
    path: Path, group: str | None, evaluated: Evaluated | None
) -> tuple[list[LabeledFile], list[Finding]]:
    cells_of_rows, faults = rows_of_cells(str(path), path)
    rows = [(where, [cell.strip() for cell in cells]) for where, cells in cells_of_rows]
    names = ["path", "label", "split"]
    header = [COLUMN_NAMES.get(cell.lower(), "") for cell in rows[0][1]] if rows else []
    if "path" in header and "label" in header:
        names, rows = rows[0][1], rows[1:]
    elif (
        rows
        and not file_of(path, rows[0][1][0])
        and any(file_of(path, cells[0]) for _, cells in rows[1:])
    ):
        received = f"the columns {', '.join(rows[0][1])}"
        expected = "a header such as path, label"
        raise BadData(str(path), [Fault(rows[0][0], received, expected, skippable=False)])
    columns = [COLUMN_NAMES.get(name.lower(), "") for name in names]
    # If two columns are of the same kind, the first is read.
    columns = ["" if kind in columns[:i] else kind for i, kind in enumerate(columns)]
    if group is not None:
        if group not in names:
            received = f"the columns {', '.join(names)}"
            expected = f"a column {group!r}, as --group says"
            raise BadData(str(path), [Fault(path.name, received, expected, skippable=False)])
        columns[names.index(group)] = "group"
    files: list[LabeledFile] = []
    width = max((len(cells) for _, cells in rows), default=0)
    faults += columns_read(
        dict(zip(columns, names[:width], strict=False)),
        [*(name for kind, name in zip(columns, names, strict=True) if not kind)]
        + [f"column {number + 1}" for number in range(len(names), width)],
    )
    named = [dict(zip(columns, cells, strict=False)) for _, cells in rows]
    splits = [split_named(row.get("split", "")) for row in named]
    read = splits_to_read(splits, evaluated)
    if left := sum(split not in read for split in splits):
        faults.append(f"Not read: {left:,} {'row' if left == 1 else 'rows'} of other splits.")
    for (where, cells), row, split in zip(rows, named, splits, strict=True):
        if split not in read:
            continue
        if fault := not_utf8("".join(cells), where):
            faults.append(fault)
        elif not row.get("path") or not row.get("label"):
            missing = "label" if row.get("path") else "path"
            received = f"no {missing} in {','.join(cells)!r}"
            faults.append(Fault(where, received, "path,label"))
        elif "split" in row and not split:
            received = f"the split {row['split']!r}"
            faults.append(Fault(where, received, "train, validation or test"))
        else:
            name = Path(row["path"]).as_posix()
            found = file_of(path, name) or path.parent / name
            file_path, where = str(found), f"{where} ({name})"
            group = row.get("group", "")
            files.append(LabeledFile(name, row["label"], split, where, file_path, group=group))
    return files, faults


def file_of(table: Path, name: str) -> Path | None:
    """Returns the file that a cell names, relative to the table; it may be a Windows path."""
    paths = (table.parent / one for one in (name, name.replace("\\", "/")))
    return next((path for path in paths if path.is_file()), None)


def without_conflicts(
    files: Sequence[LabeledFile], contents: Sequence[int]
) -> tuple[list[LabeledFile], list[Finding]]:
    """Leaves out files with the same content as a file of another class.

    The other files get the hash as their fingerprint.

    Args:
        files: The files.
        contents: A hash of the content of each file.
    """
    same = defaultdict(list)
    for file, content in zip(files, contents, strict=True):
        same[content].append(replace(file, fingerprint=f"{content}"))
    kept: list[LabeledFile] = []
    faults: list[Finding] = []
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


def divided(
    examples: Sequence[Example], evaluated: Evaluated | None = None
) -> tuple[list[Example], list[Finding]]:
    """Assigns a split to every example, and leaves out classes without training examples.

    If validation or test is missing, 10 % of the examples in train become that split, chosen by a
    hash of their contents; `data.splits.stratified` explains small classes. Examples of one group,
    and equal contents, get the same split. Contents and groups that are in two of the user's
    splits are named, and the examples of each class are counted.

    Args:
        examples: The examples.
        evaluated: As in `data.splits.dealt`: then classes that the network does not know are left
            out.
    """
    if evaluated:
        return _to_evaluate(examples, evaluated)
    given = {example.split for example in examples}
    loose = [example for example in examples if example.split in ("", "train")]
    keys = dict(zip(map(id, loose), _together(loose), strict=True))
    members: dict[str, Counter[str]] = defaultdict(Counter)
    for example in sorted(loose, key=lambda example: example.label):
        members[keys[id(example)]][example.label] += 1
    classes = {key: labels.most_common(1)[0][0] for key, labels in members.items()}
    chosen = stratified(classes, given)
    examples = [
        replace(one, split=chosen[keys[id(one)]]) if id(one) in keys else one for one in examples
    ]
    faults: list[Finding] = []
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
    contents: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    labels: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for example in examples:
        contents[example.split][example.content] = example.name
        labels[example.split][example.label] += 1
    remarks = chosen_by_hash(given) + by_class(labels) + shared(contents, "examples")
    return examples, faults + remarks + _groups(examples)


def _to_evaluate(
    examples: Sequence[Example], evaluated: Evaluated
) -> tuple[list[Example], list[Finding]]:
    chosen, remark = evaluated_split(Counter(one.split for one in examples))
    test = [replace(one, split="test") for one in examples if chosen in ("", one.split)]
    faults = evaluated.unknown((one.label, one.where) for one in test)
    counts = Counter(one.label for one in test)
    test = [one for one in test if one.label in evaluated.labels]
    faults += empty_splits({"test": len(test)}, evaluated)
    return test, [
        *faults,
        remark,
        *by_class({"test": {label: counts[label] for label in evaluated.labels}}),
    ]


def _together(examples: Sequence[Labeled]) -> list[str]:
    """Returns a key for each example. Those that must share a split have the same key.

    Without a group, the key is the content. Groups that have a content in common count as one,
    with the name of the first.
    """
    names = [example.group or example.content for example in examples]
    contents = [f"content {example.content}" for example in examples]
    # A number for each name and each content, and a link where an example has both.
    numbers = {node: number for number, node in enumerate(dict.fromkeys([*names, *contents]))}
    ends = [[numbers[node] for node in nodes] for nodes in (names, contents)]
    links = sparse.coo_matrix((np.ones(len(names)), ends), [len(numbers)] * 2)
    _, parts = sparse.csgraph.connected_components(links, directed=False)
    first: dict[int, str] = {}
    for name in sorted(set(names)):
        first.setdefault(parts[numbers[name]], name)
    return [first[parts[numbers[name]]] for name in names]


def _groups(examples: Sequence[Labeled]) -> list[Finding]:
    """Counts the groups, and names those that are in two of the user's splits."""
    groups: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    for example in examples:
        if example.group:
            groups[example.split][example.group] = example.group
    counts = [f"{len(names):,} {split}" for split, names in groups.items()]
    if not any(groups.values()):
        return []
    return [f"Groups: {', '.join(counts)}.", *shared(groups, "groups")]
