"""Documents of plain text: user files, TensorFlow Datasets or a built-in sample."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data import python_docs
from data.sources import (
    SPLIT_NAMES,
    SPLITS,
    BadData,
    Fault,
    completed,
    empty_splits,
    existing,
    is_hidden,
    left_out,
    tfds_builder,
    tfds_splits,
    watched,
)
from data.text_files import not_utf8, read_text, split_files

BUILT_IN = ("python_docs",)
Document = tuple[str, ...]
"""The lines of a document, each a sentence or paragraph, whichever the data has."""

_TITLE = re.compile(r"= [^=].* =")


@dataclass(frozen=True)
class PlainTexts:
    """Documents split for training, in the order of the data.

    Args:
        train: To train on.
        validation: To choose by.
        test: To measure by.
        skipped: Bad lines that were left out.
    """

    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    test: tuple[Document, ...]
    skipped: int = 0


def load(data: str, *, skip_bad: bool = False) -> PlainTexts:
    """Finds the documents that `data` names, checks and splits them.

    Blank lines part documents; but where a file has titles such as ` = Title = `, as WikiText has,
    they do, and blank lines mean nothing. A folder holds .txt files with train, dev (or val) and
    test in their names, or sub-folders of these names, or any .txt files, also deeper. Where the
    data has no splits, a hash of the document decides, so that more documents never move old ones.

    Reference: Merity et al., Pointer Sentinel Mixture Models, 2017, for WikiText.
        https://arxiv.org/abs/1609.07843

    Args:
        data: `python_docs` (sections of the Python reference, a sentence a line; `./python_docs`
            for a folder of that name), `tfds:NAME` for a data set with texts, or the path of a
            file or folder.
        skip_bad: Leaves bad lines out and counts them instead of raising.

    Example:
        >>> load("python_docs").train[0][0]
        'Called to create a new instance of class cls.'
    """
    if data == "python_docs":
        sections = python_docs.documents()
        return _divided(data, [("", name, lines) for name, lines in sections.items()], [], skip_bad)
    faults: list[Fault] = []
    if data.startswith("tfds:"):
        texts = _from_tfds(data.removeprefix("tfds:"))
    else:
        path = existing(data, "a text file, a folder of .txt files", BUILT_IN)
        texts, faults = _from_files(path)
    found = [
        (split, "\n".join(document), document)
        for split, lines in texts
        for document in documents(lines)
    ]
    return _divided(data, found, faults, skip_bad)


def documents(lines: Iterable[str]) -> Iterator[Document]:
    """Cuts lines into documents, at titles as WikiText has them or else at blank lines.

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


def chunks(documents: Sequence[Document], size: int = 1024) -> Iterator[list[str]]:
    """Gives all lines in groups of `size`, to be split at once, and shows how far it has come."""
    lines = [line for document in documents for line in document]
    groups = [lines[place : place + size] for place in range(0, len(lines), size)]
    yield from watched(groups, len(lines), "Splitting lines")


def _divided(
    data: str, found: Iterable[tuple[str, str, Document]], faults: list[Fault], skip_bad: bool
) -> PlainTexts:
    """Splits documents, each given with its split, if it has one, and its name."""
    found = list(found)
    given = {split for split, _, _ in found}
    splits: dict[str, list[Document]] = {split: [] for split in SPLITS}
    for split, name, document in found:
        splits[completed(split, name, given)].append(document)
    faults = faults + empty_splits({split: len(some) for split, some in splits.items()})
    skipped = left_out(data, faults, skip_bad)
    return PlainTexts(**{split: tuple(some) for split, some in splits.items()}, skipped=skipped)


def _from_files(path: Path) -> tuple[list[tuple[str, list[str]]], list[Fault]]:
    """Reads split and lines of each file."""
    files = {file: split for split, file in split_files(path, {".txt"}).items()}
    every = [
        file
        for file in sorted(path.rglob("*.txt"))
        if file.is_file() and not any(map(is_hidden, file.relative_to(path).parts))
    ]
    if not files:
        tops = {file: file.relative_to(path).parts[0].lower() for file in every}
        files = {file: SPLIT_NAMES[top] for file, top in tops.items() if top in SPLIT_NAMES}
        if "train" not in files.values():
            files = dict.fromkeys(every, "")
    texts, faults = [], []
    for file in every:
        if file not in files:
            wanted = "train, dev or test in its name, or no such file"
            name = file.relative_to(path).as_posix()
            faults.append(Fault(name, "a file of no split", wanted, examples=0))
    for file, split in files.items():
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        kept = []
        for number, line in enumerate(read_text(file).split("\n"), 1):
            fault = not_utf8(line, f"{name} line {number}")
            if fault:
                faults.append(fault)
            else:
                kept.append(line)
        if not any(line.strip() for line in kept):
            wanted = "some text, or no such file"
            faults.append(Fault(name, "an empty file", wanted, examples=0))
        texts.append((split, kept))
    return texts, faults


def _from_tfds(name: str) -> list[tuple[str, list[str]]]:
    """Reads split and lines of each text."""
    import tensorflow_datasets as tfds

    builder = tfds_builder(name)
    features = builder.info.features
    texts = [key for key in features if isinstance(features[key], tfds.features.Text)]
    if "text" not in texts and len(texts) != 1:
        found, wanted = (
            f"the features {', '.join(sorted(features))}",
            "a feature text, or only one of text",
        )
        fault = Fault(f"tfds:{name}", found, wanted, skippable=False)
        raise BadData(f"tfds:{name}", [fault])
    key = "text" if "text" in texts else texts[0]
    return [
        (split, text.decode().split("\n"))
        for split, rows in tfds_splits(builder).items()
        for text in rows.map(lambda row: row[key]).as_numpy_iterator()
    ]
