"""Documents of plain text: user files, TensorFlow Datasets or a built-in sample."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data import python_docs
from data.sources import (
    BadData,
    Evaluated,
    Fault,
    Finding,
    empty_splits,
    existing,
    is_hidden,
    not_read,
    reported,
    split_named,
    splits_to_read,
    tfds_builder,
    tfds_remarks,
    tfds_splits,
    watched,
)
from data.splits import HELD_OUT, Splits, dealt, shared, shares
from data.tables import json_values
from data.text_files import not_utf8, read_text, split_files

BUILT_IN = ("python_docs",)
SUFFIXES = {".txt", ".jsonl"}
Document = tuple[str, ...]
"""The lines of a document: sentences or paragraphs, depending on the data."""

FEW_TEXTS = 30
"""Fewer texts than this are cut if they have no splits, and are whole documents."""

_TITLE = re.compile(r"= [^=].* =")


@dataclass(frozen=True, kw_only=True)
class PlainTexts(Splits):
    """Documents in the order of the data; each split is a tuple of `Document`."""


def load(
    data: str,
    *,
    skip_bad: bool = False,
    whole: bool = False,
    evaluated: Evaluated | None = None,
) -> PlainTexts:
    """Loads, checks and splits the documents that `data` names.

    Documents are separated by blank lines. If a file has titles such as ` = Title = `, as WikiText
    has, a title begins each document instead, and blank lines are ignored. A .jsonl file has a text
    per line, in the field `text`. A folder contains .txt or .jsonl files with train, dev and test
    (or others of `SPLIT_NAMES`) in their names, or sub-folders with these names, or any such files
    at any depth. If the data has no splits, a hash of the document decides, so that adding
    documents never moves old ones to another split.

    Reference: Merity et al., Pointer Sentinel Mixture Models, 2017, for WikiText.
        https://arxiv.org/abs/1609.07843

    Args:
        data: `python_docs` (sections of the Python reference, one sentence per line;
            `./python_docs` for a folder of that name), `tfds:NAME` for a dataset with texts, or
            the path of a file or folder.
        skip_bad: Whether to skip and count bad lines instead of raising.
        whole: Whether each text (a .txt file, a line of a .jsonl file, an example of a dataset) is
            one document with all its characters, blank lines included. Without splits, each of
            fewer than 30 texts is cut: its end is for validation and test.
        evaluated: As in `data.splits.dealt`.

    Example:
        >>> load("python_docs").train[0][0]
        'Called to create a new instance of class cls.'
    """
    if data == "python_docs":
        sections = python_docs.documents()
        named = [("", name, lines) for name, lines in sections.items()]
        return _divided(data, named, [], skip_bad, evaluated)
    findings: list[Finding] = []
    if data.startswith("tfds:"):
        texts, findings = _from_tfds(data.removeprefix("tfds:"), evaluated)
    else:
        path = existing(data, "a .txt or .jsonl file, a folder of such files", BUILT_IN)
        texts, findings = _from_files(path, evaluated)
    if whole and not evaluated:
        texts, cut = _cut(texts)
        findings = [*findings, *cut]
    named = [
        (split, "\n".join(document), document)
        for split, lines in texts
        for document in ([tuple(lines)] if whole else documents(lines))
        if any(map(str.strip, document))
    ]
    return _divided(data, named, findings, skip_bad, evaluated)


def documents(lines: Iterable[str]) -> Iterator[Document]:
    """Cuts lines into documents, at titles in WikiText's form or else at blank lines.

    Example:
        >>> list(documents(["To be", "or not", "", "To sleep"]))
        [('To be', 'or not'), ('To sleep',)]
        >>> list(documents([" = Ant = ", "", "Small .", "", " = = Legs = = ", " = Bee = "]))
        [('= Ant =', 'Small .', '= = Legs = ='), ('= Bee =',)]
    """
    stripped = [line.strip() for line in lines]
    titled = any(_TITLE.fullmatch(line) for line in stripped)
    document: list[str] = []
    for line in stripped:
        ends = _TITLE.fullmatch(line) if titled else not line
        if ends and document:
            yield tuple(document)
            document = []
        if line:
            document.append(line)
    if document:
        yield tuple(document)


def _cut(
    texts: Sequence[tuple[str, list[str]]],
) -> tuple[list[tuple[str, list[str]]], list[Finding]]:
    """Cuts the ends of texts, where a line or a word ends, for the splits that are missing.

    Only few texts are cut: of many, whole ones become the missing splits.
    """
    missing = [name for name, part in shares({split for split, _ in texts}).items() if part]
    to_cut = [lines for split, lines in texts if split in ("", "train")]
    if not missing or len(to_cut) >= FEW_TEXTS:
        return list(texts), []
    cut = [(split, lines) for split, lines in texts if split not in ("", "train")]
    for lines in to_cut:
        text, begin = "\n".join(lines), 0
        for number, split in enumerate(("train", *missing), 1):
            left = HELD_OUT * (len(missing) + 1 - number)
            end = len(text) if not left else _end_of_line(text, round(len(text) * (1 - left)))
            cut.append((split, text[begin:end].split("\n")))
            begin = end
    which = " and ".join(missing)
    remark = f"Cut from the end of each text: {which}, about {100 * HELD_OUT:.0f} % each."
    return cut, [remark]


def _end_of_line(text: str, position: int) -> int:
    """Returns the end of the line at a position of a text, or of the word if the line is long."""
    for mark in "\n ":
        end = text.find(mark, position, position + max(len(text) // 50, 1))
        if end >= 0:
            return end + 1
    return position


def sample_lines(documents: Sequence[Document], count: int = 12) -> list[str]:
    """Picks at most `count` lines, evenly over all documents.

    Lines of at most 8 words, such as titles, are picked only if there are no others.
    """
    every = [line for document in documents for line in document]
    lines = [line for line in every if len(line.split()) > 8] or every
    return lines[:: max(1, len(lines) // count)][:count]


def shortened(text: str, count: int = 40) -> str:
    """Returns the first words of a text, with "…" if there are more.

    Example:
        >>> shortened("to be or not", 2)
        'to be …'
    """
    words = text.split(" ")
    return " ".join(words[:count]) + (" …" if len(words) > count else "")


def chunks(documents: Sequence[Document], size: int = 1024) -> Iterator[list[str]]:
    """Yields all lines in chunks of `size`, and shows the progress of splitting them."""
    lines = [line for document in documents for line in document]
    groups = [lines[start : start + size] for start in range(0, len(lines), size)]
    yield from watched(groups, len(lines), "Splitting lines")


def _divided(
    data: str,
    named: Iterable[tuple[str, str, Document]],
    findings: Sequence[Finding],
    skip_bad: bool,
    evaluated: Evaluated | None,
) -> PlainTexts:
    """Splits documents, which come with their split (empty if they have none) and their name."""
    splits, remarks = dealt(named, evaluated)
    contents = {split: {"\n".join(one): one[0] for one in some} for split, some in splits.items()}
    remarks.append(f"Lines: {sum(len(one) for some in splits.values() for one in some):,}.")
    remarks += shared(contents, "documents")
    empty = empty_splits({split: len(some) for split, some in splits.items()}, evaluated)
    said = reported(data, [*findings, *remarks, *empty], skip_bad)
    return PlainTexts(**said | {split: tuple(some) for split, some in splits.items()})


def _from_files(
    path: Path, evaluated: Evaluated | None
) -> tuple[list[tuple[str, list[str]]], list[Finding]]:
    """Reads the split and the lines of each file."""
    by_name, findings = split_files(path, SUFFIXES, evaluated)
    files = {file: split for split, file in by_name.items()}
    every = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(map(is_hidden, file.relative_to(path).parts))
    ]
    readable = [file for file in every if file.suffix.lower() in SUFFIXES]
    if not files:
        tops = {file: split_named(file.relative_to(path).parts[0]) for file in readable}
        chosen = splits_to_read(tops.values(), evaluated)
        files = {file: split for file, split in tops.items() if split and split in chosen}
        if "train" not in files.values() and not (evaluated and files):
            files = dict.fromkeys(readable, "")
        findings = not_read([file for file in every if file not in files], SUFFIXES)
    if set(files.values()) == {"train"}:  # Such as a book with the word in its name.
        for file in readable:
            if file not in files:
                name = file.relative_to(path).as_posix()
                expected = "train, dev or test in the name"
                findings.append(Fault(name, "a name without a split", expected, examples=0))
    texts = []
    for file, split in files.items():
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        read = _objects(file, name) if file.suffix.lower() == ".jsonl" else _lines(file, name)
        found, faults = read
        findings += faults
        if not any(line.strip() for text in found for line in text):
            findings.append(Fault(name, "an empty file", "some text", examples=0))
        texts += [(split, text) for text in found]
    return texts, findings


def _lines(file: Path, name: str) -> tuple[list[list[str]], list[Finding]]:
    """Reads the lines of a text file."""
    kept, faults = list[str](), list[Finding]()
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if fault := not_utf8(line, f"{name} line {number}"):
            faults.append(fault)
        else:
            kept.append(line)
    return [kept], faults


def _objects(file: Path, name: str) -> tuple[list[list[str]], list[Finding]]:
    """Reads the lines of each text of a .jsonl file."""
    expected = 'an object with a text, such as {"text": "To be"}'
    values, faults = json_values(file, expected)
    texts = []
    for where, value in values:
        text = value.get("text") if isinstance(value, dict) else None
        if isinstance(text, str) and text.strip():
            texts.append(text.split("\n"))
        else:
            received = f"the fields {', '.join(value)}" if isinstance(value, dict) else repr(value)
            if isinstance(value, dict) and "text" in value:
                received = f"the text {text!r}"
            faults.append(Fault(where, received[:80], expected))
    return texts, faults


def _from_tfds(
    name: str, evaluated: Evaluated | None
) -> tuple[list[tuple[str, list[str]]], list[Finding]]:
    """Reads the split and the lines of each text."""
    import tensorflow_datasets as tfds

    builder = tfds_builder(name)
    features = builder.info.features
    texts = [key for key in features if isinstance(features[key], tfds.features.Text)]
    if "text" not in texts and len(texts) != 1:
        received = f"the features {', '.join(sorted(features))}"
        expected = "a feature with the name text, or only one feature with texts"
        raise BadData(f"tfds:{name}", [Fault(f"tfds:{name}", received, expected, skippable=False)])
    key = "text" if "text" in texts else texts[0]
    texts_of_splits = [
        (split, text.decode().split("\n"))
        for split, rows in tfds_splits(builder, evaluated=evaluated).items()
        for text in rows.map(lambda row: row[key]).as_numpy_iterator()
    ]
    return texts_of_splits, tfds_remarks(builder, evaluated=evaluated)
