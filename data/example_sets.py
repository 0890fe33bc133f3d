"""Files with one set of examples, or folders with several, divided by the names of examples."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.sources import BadData, Evaluated, Fault, Finding, existing, is_hidden, not_read
from data.splits import dealt, shared
from data.text_files import required_split_files

BUILT_IN = ("python_docs",)
Sets = Mapping[str, Sequence[tuple[str, str, Any]]]
"""For each set, by its name, the examples with their split ("" if unknown) and where they are. The
name is "" if there is only one."""


def read(
    data: str,
    what: str,
    suffixes: Collection[str],
    evaluated: Evaluated | None,
    from_file: Callable[[Path, str], tuple[list[tuple[str, Any]], list[Finding]]],
) -> tuple[Sets, list[Finding]]:
    """Reads a file, a folder with files, or a folder with a sub-folder for each set.

    A folder has files with train, dev and test in their names, or a single one of any name.

    Args:
        data: The path of the file or folder.
        what: What the examples are, for messages.
        suffixes: Those of the files, in lower case.
        evaluated: As in `data.splits.dealt`.
        from_file: From a file, and the beginning of the locations in it, to the location of each
            good example and the example, and the findings.
    """
    *others, last = suffixes
    expected = (
        f"a {', '.join(others)} or {last} file, a folder with such files, or one for each set"
    )
    if data.startswith("tfds:"):
        received, fix = "a dataset of TensorFlow Datasets", f"write its {what} to a file"
        raise BadData(data, [Fault(data, received, expected, fix, skippable=False)])
    path = existing(data, expected, BUILT_IN, tfds=False)
    findings: list[Finding] = []
    sets: dict[str, list[tuple[str, str, Any]]] = {}
    for folder in _folders(path, suffixes, findings):
        name = "" if folder == path else folder.name
        files, remarks = _files(folder, what, suffixes, evaluated)
        findings += [_of_set(name, remark) for remark in remarks]
        sets[name] = []
        for split, file in files.items():
            good, wrong = from_file(file, f"{name}/" if name else "")
            sets[name] += [(split, where, one) for where, one in good]
            findings += wrong
    return sets, findings


def divided(
    sets: Sets, name_of: Callable[[Any], str], what: str, evaluated: Evaluated | None
) -> tuple[dict[str, list[tuple[str, str, Any]]], list[Finding]]:
    """Splits each set, as `data.splits.dealt` does it.

    Args:
        sets: From `read`.
        name_of: From an example to its name. Examples with one name get the same split.
        what: What the names are, for messages.
        evaluated: As in `data.splits.dealt`.

    Returns:
        For each split its examples, with their set and where they are; and the findings.
    """
    findings: list[Finding] = []
    kept: dict[str, list[tuple[str, str, Any]]] = {}
    for name, some in sets.items():
        named = ((split, name_of(one), (name, where, one)) for split, where, one in some)
        splits, remarks = dealt(named, evaluated)
        findings += [_of_set(name if len(sets) > 1 else "", remark) for remark in remarks]
        for split, members in splits.items():
            kept.setdefault(split, []).extend(members)
    names = {split: {name_of(one): name_of(one) for *_, one in kept[split]} for split in kept}
    return kept, [*findings, *shared(names, what)]


def _folders(path: Path, suffixes: Collection[str], findings: list[Finding]) -> list[Path]:
    """Returns the folders of the sets; the path itself if there is only one."""
    if path.is_file():
        return [path]
    entries = sorted(path.iterdir())
    folders = [
        entry
        for entry in entries
        if entry.is_dir() and not is_hidden(entry.name) and _usable(entry, suffixes)
    ]
    if not folders:
        return [path]
    if beside := _usable(path, suffixes):
        received = f"{beside[0].name} beside {folders[0].name}/, which would be a set"
        expected = "files of one set, or a folder for each set"
        fix = "move the file or the folder"
        raise BadData(str(path), [Fault(str(path), received, expected, fix, skippable=False)])
    findings += not_read([entry for entry in entries if entry not in folders], suffixes)
    return folders


def _usable(folder: Path, suffixes: Collection[str]) -> list[Path]:
    return [
        entry
        for entry in sorted(folder.iterdir())
        if entry.is_file() and not is_hidden(entry.name) and entry.suffix.lower() in suffixes
    ]


def _files(
    folder: Path, what: str, suffixes: Collection[str], evaluated: Evaluated | None
) -> tuple[dict[str, Path], list[Finding]]:
    """Finds the file of each split; a single file holds all, regardless of its name."""
    if folder.is_file():
        return {"": folder}, []
    usable = _usable(folder, suffixes)
    if len(usable) != 1:
        return required_split_files(folder, what, suffixes, evaluated)
    others = [entry for entry in sorted(folder.iterdir()) if entry not in usable]
    return {"": usable[0]}, not_read(others, suffixes)


def _of_set(name: str, remark: Finding) -> Finding:
    return f"{name}: {remark}" if name and isinstance(remark, str) else remark
