"""Text files: which file is which split, and lines that may not be UTF-8."""

import re
from collections.abc import Collection
from pathlib import Path

from data.sources import SPLIT_NAMES, BadData, Fault

# A whole word of the file's name, such as in wnut17train.conll and dev-v1.1.json.
_SPLIT = re.compile(r"(?<![a-z])(" + "|".join(SPLIT_NAMES) + r")(?![a-z])")


def split_files(path: Path, suffixes: Collection[str] | None = None) -> dict[str, Path]:
    """Finds the file of each split by a word in its name: train, dev, val, test and so on.

    Args:
        path: A file, which is all there is (its split is empty), or a folder with one file a split.
        suffixes: What the names in a folder end in, in lower case. None: anything.

    Returns: the files by train, validation and test; nothing where no name in a folder tells.
    """
    if path.is_file():
        return {"": path}
    files: dict[str, Path] = {}
    for entry in sorted(path.iterdir()):
        word = _SPLIT.search(entry.name.lower())
        usable = entry.is_file() and not entry.name.startswith(".")
        if not word or not usable or (suffixes and entry.suffix.lower() not in suffixes):
            continue
        split = SPLIT_NAMES[word[1]]
        if split in files:
            found = f"both {files[split].name} and {entry.name}"
            fault = Fault(f"the {split} set", found, "one file of a split", skippable=False)
            raise BadData(str(path), [fault])
        files[split] = entry
    if files and "train" not in files:
        found = f"only {', '.join(file.name for file in files.values())}"
        fault = Fault(path.name, found, "a file with train in its name", skippable=False)
        raise BadData(str(path), [fault])
    return files


def required_split_files(path: Path, wanted: str) -> dict[str, Path]:
    """Finds the file of each split like `split_files`, and raises where there is none.

    Args:
        path: A file, or a folder with one file a split.
        wanted: What the files are, such as "CoNLL files".
    """
    files = split_files(path)
    if not files:
        wanted = f"{wanted} with train, dev and test in their names"
        raise BadData(str(path), [Fault(path.name, "no such file", wanted, skippable=False)])
    return files


def read_text(path: Path) -> str:
    """Reads UTF-8, with or without a mark at its start, each line ended by a line feed.

    Bytes that are not UTF-8 come as surrogates, so that `not_utf8` can tell where they are.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        return file.read()


def not_utf8(text: str, place: str) -> Fault | None:
    """Finds out whether a text holds what TensorFlow cannot take.

    Args:
        text: Part of what `read_text` returned.
        place: File and line of the text.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return Fault(place, f"bytes that are not UTF-8 in {text[:40]!r}", "UTF-8 text")
    return None
