"""Text files: the file of each split, and text that may not be UTF-8."""

from collections.abc import Collection, Sequence
from pathlib import Path

from data.sources import (
    SPLITS,
    BadData,
    Fault,
    Finding,
    by_split,
    is_hidden,
    listed,
    not_read,
)


def split_files(
    path: Path, suffixes: Collection[str] | None = None
) -> tuple[dict[str, Path], list[Finding]]:
    """Finds the file of each split by a word in its name, one of `SPLIT_NAMES`.

    Args:
        path: A file, which holds all the data, or a folder with one file per split.
        suffixes: Suffixes of the files in a folder, in lower case. None: any.

    Returns:
        The files by train, validation and test; a single file by the empty string. Empty if no
        name in the folder contains such a word. Then a remark on what was read, and on what
        stands beside it.
    """
    if path.is_file():
        return {"": path}, []
    entries = sorted(entry for entry in path.iterdir() if not is_hidden(entry.name))
    usable = [
        entry
        for entry in entries
        if entry.is_file() and (suffixes is None or entry.suffix.lower() in suffixes)
    ]
    files = by_split(str(path), usable, word=True)
    if not files:
        return {}, []
    if "train" not in files:
        received = f"only {', '.join(file.name for file in files.values())}"
        fault = Fault(path.name, received, "a file with train in its name", skippable=False)
        raise BadData(str(path), [fault])
    beside = [entry for entry in entries if entry not in files.values()]
    return files, [given_by(files), *not_read(beside, suffixes)]


def columns_read(read: dict[str, str], others: Sequence[str]) -> list[Finding]:
    """Says which columns of a table are read.

    Args:
        read: Name of the column by what it holds.
        others: Names of the columns that are not read.

    Example:
        >>> columns_read({"text": "body", "label": "kind"}, ["id"])
        ["Columns: text from 'body', label from 'kind'. Not read: id."]
    """
    text = f"Columns: {', '.join(f'{kind} from {name!r}' for kind, name in read.items() if kind)}."
    return [f"{text} Not read: {listed(others)}." if others else text]


def given_by(paths: dict[str, Path]) -> str:
    """Says which file or folder each split was read from."""
    given = [f"{split} from {paths[split].name}" for split in SPLITS if split in paths]
    return f"Splits: {', '.join(given)}."


def required_split_files(
    path: Path, expected: str, suffixes: Collection[str] | None = None
) -> tuple[dict[str, Path], list[Finding]]:
    """Finds the file of each split like `split_files`; raises `BadData` if there is none.

    Args:
        path: A file, or a folder with one file per split.
        expected: Kind of the files, such as "CoNLL files".
        suffixes: As in `split_files`.
    """
    files, findings = split_files(path, suffixes)
    if not files:
        expected = f"{expected} with train, dev and test in their names"
        raise BadData(str(path), [Fault(path.name, "no such file", expected, skippable=False)])
    return files, findings


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
