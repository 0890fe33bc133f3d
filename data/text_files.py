"""Text files: the file of each split, and text that may not be UTF-8."""

import re
from collections.abc import Collection
from pathlib import Path

from data.sources import SPLIT_NAMES, BadData, Fault

# A whole word of the file's name, such as in wnut17train.conll and dev-v1.1.json.
_SPLIT = re.compile(r"(?<![a-z])(" + "|".join(SPLIT_NAMES) + r")(?![a-z])")


def split_files(path: Path, suffixes: Collection[str] | None = None) -> dict[str, Path]:
    """Finds the file of each split by a word in its name: train, dev, val, test and so on.

    Args:
        path: A file, which holds all the data, or a folder with one file per split.
        suffixes: Suffixes of the files in a folder, in lower case. None: any.

    Returns:
        The files by train, validation and test; a single file by the empty string. Empty if no
        name in the folder contains such a word.
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
            received = f"both {files[split].name} and {entry.name}"
            fault = Fault(f"the {split} split", received, "one file per split", skippable=False)
            raise BadData(str(path), [fault])
        files[split] = entry
    if files and "train" not in files:
        received = f"only {', '.join(file.name for file in files.values())}"
        fault = Fault(path.name, received, "a file with train in its name", skippable=False)
        raise BadData(str(path), [fault])
    return files


def required_split_files(path: Path, expected: str) -> dict[str, Path]:
    """Finds the file of each split like `split_files`; raises `BadData` if there is none.

    Args:
        path: A file, or a folder with one file per split.
        expected: Kind of the files, such as "CoNLL files".
    """
    files = split_files(path)
    if not files:
        expected = f"{expected} with train, dev and test in their names"
        raise BadData(str(path), [Fault(path.name, "no such file", expected, skippable=False)])
    return files


def read_text(path: Path) -> str:
    """Reads UTF-8, with or without a byte order mark; every line ending becomes a line feed.

    Bytes that are not UTF-8 become surrogates, so that `not_utf8` can report them.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        return file.read()


def not_utf8(text: str, where: str) -> Fault | None:
    """Returns a fault if a text contains bytes that are not UTF-8, which TensorFlow refuses.

    Args:
        text: Part of what `read_text` returned.
        where: File and line of the text.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        received = f"bytes that are not UTF-8 in {text[:40]!r}"
        return Fault(where, received, "UTF-8 text")
    return None
