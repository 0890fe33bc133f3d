"""Text files: the file of each split, and text that may not be UTF-8."""

import gzip
import io
import re
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Collection
from pathlib import Path

from data.sources import (
    BadData,
    Evaluated,
    Fault,
    Finding,
    by_split,
    is_hidden,
    not_read,
    splits_to_read,
)

NO_TEXT = {
    b"\x1f\x8b": ("a gzip file", "decompress it"),
    b"PK\x03\x04": ("a ZIP or Excel file", "unpack it, or export it as text"),
    b"PAR1": ("a Parquet file", "export it as JSON lines"),
}
"""First bytes of files that often have names of text files, their format and the fix."""
MOST_FOREIGN = 2
"""Maximum number of bytes that are not UTF-8 and count as faults of single lines."""


def split_files(
    path: Path, suffixes: Collection[str] | None = None, evaluated: Evaluated | None = None
) -> tuple[dict[str, Path], list[Finding]]:
    """Finds the file of each split by a word in its name, one of `SPLIT_NAMES`.

    If no name stands for train, the only file with one of `suffixes` that names no split does.

    Args:
        path: A file, which holds all the data, or a folder with one file per split.
        suffixes: Suffixes of the files in a folder, in lower case. None: any.
        evaluated: As in `data.splits.dealt`: then no split is required.

    Returns:
        The files by train, validation and test; a single file by the empty string. Empty if no
        name in the folder contains such a word. Then remarks on the files that were read and those
        that were not.
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
    unnamed = [entry for entry in usable if entry not in files.values()]
    if "train" not in files and suffixes and len(unnamed) == 1:
        files = {"train": unnamed[0], **files}
    if "train" not in files and not evaluated:
        received = f"only {', '.join(file.name for file in files.values())}"
        fault = Fault(path.name, received, "a file with train in its name", skippable=False)
        raise BadData(str(path), [fault])
    read = splits_to_read(files, evaluated)
    files = {split: file for split, file in files.items() if split in read}
    beside = [entry for entry in entries if entry not in files.values()]
    return files, [given_by(files), *not_read(beside, suffixes)]


def given_by(paths: dict[str, Path]) -> str:
    """Says which file or folder each split was read from."""
    return f"Splits: {', '.join(f'{split} from {path.name}' for split, path in paths.items())}."


def required_split_files(
    path: Path,
    expected: str,
    suffixes: Collection[str] | None = None,
    evaluated: Evaluated | None = None,
) -> tuple[dict[str, Path], list[Finding]]:
    """Finds the file of each split like `split_files`; raises `BadData` if there is none.

    Args:
        path: A file, or a folder with one file per split.
        expected: Kind of the files, such as "CoNLL files".
        suffixes: As in `split_files`.
        evaluated: As in `split_files`.
    """
    files, findings = split_files(path, suffixes, evaluated)
    if not files:
        expected = f"{expected} with train, dev and test in their names"
        raise BadData(str(path), [Fault(path.name, "no such file", expected, skippable=False)])
    return files, findings


def read_text(path: Path, newline: str | None = None) -> str:
    """Reads UTF-8, with or without a byte order mark, or UTF-16 with one; .gz is decompressed.

    Single bytes that are not UTF-8 become surrogates, so that `not_utf8` can report them. A file in
    another encoding raises `BadData`.

    Args:
        path: The file.
        newline: As in `open`. None: every line ending becomes a line feed. "": all remain.
    """
    raw = path.read_bytes()

    def bad(received: str, fix: str) -> BadData:
        return BadData(str(path), [Fault(path.name, received, "UTF-8 text", fix, skippable=False)])

    if path.suffix.lower() == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise bad("a gzip file that is cut off or damaged", "compress it again") from error
    for magic, (received, fix) in NO_TEXT.items():
        if raw.startswith(magic):
            raise bad(received, fix)
    encoding = "utf-16" if raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    errors = "strict" if encoding == "utf-16" else "surrogateescape"
    if encoding != "utf-16" and 4 * raw[:1000].count(0) > len(raw[:1000]):
        fix = f"convert it, for example with iconv -f UTF-16LE -t UTF-8 {path.name}"
        raise bad("UTF-16 text without a byte order mark, or no text", fix)
    try:
        text = io.TextIOWrapper(io.BytesIO(raw), encoding, errors, newline).read()
    except UnicodeDecodeError as error:
        raise bad("UTF-16 text that is cut off or damaged", "save it as UTF-8") from error
    foreign = [] if text.isascii() else re.findall(r"[^\x00-\x7f]", text)
    if len(foreign) > MOST_FOREIGN and all("\udc80" <= mark <= "\udcff" for mark in foreign):
        number, line = next(
            (number, line) for number, line in enumerate(text.split("\n"), 1) if not_utf8(line, "")
        )
        received = f"text in another encoding, such as {line[:40]!r} in line {number}"
        fix = f"convert it, for example with iconv -f WINDOWS-1252 -t UTF-8 {path.name}"
        raise bad(received, fix)
    return text


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
        return Fault(where, received, "UTF-8 text", "save the file as UTF-8")
    return None
