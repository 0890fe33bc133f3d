"""Sentences with a tag for each word: CoNLL files, TensorFlow Datasets or a sample."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from data import python_docs
from data.sources import (
    BadData,
    Evaluated,
    Fault,
    Finding,
    empty_splits,
    existing,
    labeled_rows,
    reported,
    tfds_builder,
    tfds_remarks,
    tfds_splits,
)
from data.splits import Splits, by_class, dealt, shared
from data.tables import columns_read
from data.tag_schemes import REMARKS, converted, recognized
from data.text_files import not_utf8, read_text, required_split_files

BUILT_IN = ("python_docs",)
Line = tuple[int, list[str]]
"""Number and fields of a line."""
WORD_NAMES = ("tokens", "words")
"""Preferred features of TensorFlow Datasets if a dataset has several sequences of texts."""
TAG_NAMES = ("tags", "ner", "ner_tags")
"""Preferred features of TensorFlow Datasets if a dataset has several sequences of tags."""


@dataclass(frozen=True, kw_only=True)
class TaggedTexts(Splits):
    """Tagged sentences in a stable order.

    The splits are datasets of `(words, tags)`: string `(words,)` and int32 `(words,)`.

    Args:
        tags: Name of each tag; `O` is the first.
    """

    LABELS = "tags"
    tags: tuple[str, ...]

    @property
    def words(self) -> tf.data.Dataset:
        """The words of each training sentence, without their tags."""
        return self.train.map(lambda words, tags: words)

    def named(self, numbers: Iterable[int]) -> list[str]:
        """Returns the names of tags."""
        return [self.tags[number] for number in numbers]

    def with_entities(self, split: str) -> tf.data.Dataset:
        """Returns the sentences of a split that have a tag other than O."""
        return self.split(split).filter(lambda words, tags: tf.reduce_any(tags > 0))


@dataclass(frozen=True)
class _Sentence:
    words: tuple[str, ...]
    tags: tuple[str, ...]
    split: str = ""
    file: str = ""
    lines: tuple[int, ...] = ()

    @property
    def where(self) -> str:
        """File and line of its first word; empty in the sample."""
        return f"{self.file} line {self.lines[0]}" if self.lines else ""


def load(
    data: str,
    *,
    tag_column: int | str | None = None,
    skip_bad: bool = False,
    evaluated: Evaluated | None = None,
) -> TaggedTexts:
    """Loads, checks and splits the tagged sentences that `data` names.

    A CoNLL file has one word per line. Tabs or spaces separate the columns, and the word is the
    first column. Blank lines separate sentences; -DOCSTART- lines are ignored. A .conllu file has
    the word in the second column; its comments, multiword tokens and empty nodes are not read.

    Tags become BIO (IOB2): `B-person` on the first word of a person, `I-person` on the other words,
    `O` on words outside of entities. `data.tag_schemes` recognizes other schemes and converts them.

    A folder contains such files with train, dev and test in their names, or others of
    `SPLIT_NAMES`. If the data has no splits, a hash of the sentence decides, so that adding
    sentences never moves old ones. Sentences keep their order in the files.

    Reference: Tjong Kim Sang & De Meulder, Introduction to the CoNLL-2003 Shared Task, 2003.
        https://aclanthology.org/W03-0419

    Args:
        data: `python_docs` (which words of the Python reference are code; `./python_docs` for a
            folder of that name), `tfds:NAME`, or the path of a file or folder.
        tag_column: For files, the index of the column with tags, from 0, or from the end if
            negative; None: the last, in .conllu files UPOS (3). For TensorFlow Datasets, the name
            of the feature; None: one of `TAG_NAMES`, or else the only one.
        skip_bad: Whether to skip and count bad sentences instead of raising.
        evaluated: As in `data.splits.dealt`.

    Example:
        >>> load("python_docs").tags
        ('O', 'B-CODE', 'I-CODE')
    """
    if data == "python_docs":
        if tag_column is not None:
            raise ValueError(f"`tag_column` is for other data. Received: tag_column={tag_column!r}")
        tagged = python_docs.tagged_sentences()
        sentences = [_Sentence(tuple(words), tuple(tags)) for words, tags in tagged]
        return _divided(data, sentences, [], skip_bad, evaluated)
    if data.startswith("tfds:"):
        return _from_tfds(data.removeprefix("tfds:"), tag_column, skip_bad, evaluated)
    path = existing(data, "a CoNLL file, a folder with such files", BUILT_IN)
    if isinstance(tag_column, str):
        message = f"`tag_column` must be a number for files. Received: tag_column={tag_column!r}"
        raise ValueError(message)
    has_universal = path.is_dir() and any(path.glob("*.conllu"))
    kinds = {".conllu"} if has_universal else None
    files, findings = required_split_files(path, "CoNLL files", kinds, evaluated)
    sentences = []
    for split, file in files.items():
        good, wrong = _from_file(file, split, tag_column)
        sentences += good
        findings += wrong
    scheme = recognized([sentence.tags for sentence in sentences])
    if evaluated and scheme in ("spans", "words"):  # A few sentences may look like either.
        spans = any(tag.startswith("I-") for tag in evaluated.labels)
        scheme = "spans" if spans else "words"
    findings.append(REMARKS[scheme])
    kept = []
    for sentence in sentences:
        tags = converted(sentence.tags, scheme)
        fault = _wrong_tags(sentence, tags)
        if fault:
            findings.append(fault)
        else:
            kept.append(replace(sentence, tags=tags))
    letters = "B" if scheme == "words" else "BI"
    return _divided(data, kept, findings, skip_bad, evaluated, letters)


def _divided(
    data: str,
    sentences: Sequence[_Sentence],
    findings: list[Finding],
    skip_bad: bool,
    evaluated: Evaluated | None,
    letters: str = "BI",
) -> TaggedTexts:
    """Splits sentences and numbers their tags; `letters` are the prefixes of the tags."""
    splits, remarks = dealt(((one.split, " ".join(one.words), one) for one in sentences), evaluated)
    if evaluated:
        tags = evaluated.labels
    else:
        kinds = sorted({kind for sentence in splits["train"] for kind in _kinds(sentence)})
        tags = ("O", *(f"{letter}-{kind}" for kind in kinds for letter in letters))
    known = {tag[2:] for tag in tags[1:]}
    every = [sentence for some in splits.values() for sentence in some]
    strange = [(min(new), one.where) for one in every if (new := {*one.tags} - {*tags})]
    unseen = evaluated.unknown(strange) if evaluated else _unseen(strange)
    for split, some in splits.items():
        splits[split] = [sentence for sentence in some if {*sentence.tags} <= {*tags}]
    remarks += shared(
        {
            split: {" ".join(one.words): " ".join(one.words) for one in splits[split]}
            for split in splits
        },
        "sentences",
    )
    spans = {split: Counter(dict.fromkeys(known, 0)) for split in splits}
    for split, some in splits.items():
        spans[split].update(tag[2:] for one in some for tag in one.tags if tag.startswith("B-"))
    remarks += by_class(spans) if known else []
    findings = [*findings, *remarks, *unseen]
    findings += empty_splits({split: len(some) for split, some in splits.items()}, evaluated)
    only = "O" if not known else "".join(known) if letters == "B" and len(known) == 1 else ""
    if splits.get("train") and only:
        expected = "at least one other tag, such as B-person"
        received = f"only the tag {only}"
        fix = "pass --tag-column, if another column has the tags"
        findings.append(Fault("the training split", received, expected, fix, skippable=False))
    said = reported(data, findings, skip_bad)
    numbers = {tag: number for number, tag in enumerate(tags)}

    def chosen(split: str) -> tf.data.Dataset:
        kept = splits[split]
        words = tf.constant([word for sentence in kept for word in sentence.words])
        tags = tf.constant([numbers[tag] for sentence in kept for tag in sentence.tags], tf.int32)
        lengths = [len(sentence.words) for sentence in kept]
        ragged = [tf.RaggedTensor.from_row_lengths(flat, lengths) for flat in (words, tags)]
        # Each element is already a dense tensor; the map corrects the type of the dataset.
        return tf.data.Dataset.from_tensor_slices(tuple(ragged)).map(lambda *example: example)

    return TaggedTexts(
        **{split: chosen(split) for split in splits},
        origins={split: [one.where for one in some] for split, some in splits.items()},
        tags=tags,
        **said,
    )


def _unseen(strange: Sequence[tuple[str, str]]) -> list[Finding]:
    """Reports the tags without training sentences; `strange` has one for each other sentence."""
    faults: list[Finding] = []
    for kind, count in sorted(Counter(tag[2:] for tag, _ in strange).items()):
        received = f"{count} sentence{'s' * (count > 1)}, none in the training split"
        expected, fix = "at least one training sentence", "add sentences, or provide a split"
        faults.append(Fault(f"tag {kind}", received, expected, fix, examples=count))
    return faults


def _kinds(sentence: _Sentence) -> set[str]:
    """Returns the types of the entities of a sentence: its tags without O, B- and I-."""
    return {tag[2:] for tag in sentence.tags if tag != "O"}


def _from_file(
    path: Path, split: str, tag_column: int | None
) -> tuple[list[_Sentence], list[Finding]]:
    """Reads the sentences of a file with their tags in any scheme."""
    universal = path.suffix.lower() == ".conllu"
    word_column, column = (1, 3) if universal else (0, -1)
    column = column if tag_column is None else tag_column
    sentences: list[_Sentence] = []
    findings: list[Finding] = []
    width, others = 0, 0
    for lines in _line_groups(read_text(path)):
        words = [line for line in lines if not _is_other(line, lines, universal)]
        others += len(lines) - len(words)
        if not words:
            continue
        # All sentences of a file have as many columns as its first line.
        width = width or max(len(words[0][1]), 2)
        wrong = _wrong(path.name, words, width, word_column, column)
        if wrong is None:
            numbers, cells = zip(*words, strict=True)
            texts, tags = (tuple(fields[i] for fields in cells) for i in (word_column, column))
            sentences.append(_Sentence(texts, tags, split, path.name, numbers))
        else:
            findings.append(wrong)
    if not width:
        expected = "one word and its tag per line"
        findings.append(Fault(path.name, "no sentence", expected, skippable=False))
    findings.append(
        f"Columns, from 0: words from {word_column}, tags from {column % max(width, 1)}."
    )
    if others:
        kind = "comments, multiword tokens and empty nodes" if universal else "comments"
        findings.append(f"Not read: {others:,} lines of {path.name} ({kind}).")
    return sentences, findings


def _line_groups(text: str) -> Iterator[list[Line]]:
    """Yields the lines of each sentence, with their numbers and fields."""
    group: list[Line] = []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        # Only the ordinary space separates fields: some words contain other spaces.
        cells = line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))
        fields = [cell.strip() for cell in cells]
        if any(fields) and fields[0] != "-DOCSTART-":
            group.append((number, fields))
        elif group:
            yield group
            group = []


def _is_other(line: Line, lines: Sequence[Line], universal: bool) -> bool:
    """Whether a line is not a word but a comment, or a multiword token or empty node of CoNLL-U.

    In other files a comment also begins with #, but its number of fields differs from that of the
    last line of its sentence: # may also be a word.
    """
    name = line[1][0]
    if universal:
        return name.startswith("#") or bool(re.fullmatch(r"\d+[-.]\d+", name))
    return name.startswith("#") and len(line[1]) != len(lines[-1][1])


def _wrong(
    name: str, lines: Sequence[Line], width: int, word_column: int, column: int
) -> Fault | None:
    """Returns the first fault of the lines of a sentence, or None."""
    for number, fields in lines:
        where = f"{name} line {number}"
        if len(fields) != width:
            count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
            return Fault(where, f"{count} in {' '.join(fields)!r}", f"{width} fields")
        if not -width <= column < width or word_column >= width:
            expected = f"`tag_column` to be one of {width} columns"
            return Fault(where, f"tag_column={column}", expected, skippable=False)
        if not fields[word_column]:
            return Fault(where, "no word", "a word and its tag")
        if fault := not_utf8(fields[word_column] + fields[column], where):
            return fault
    return None


def _wrong_tags(sentence: _Sentence, tags: Sequence[str]) -> Fault | None:
    """Returns the first fault of the tags of a sentence, converted to BIO, or None."""
    before, received = "O", "O"
    for number, word, given, tag in zip(
        sentence.lines, sentence.words, sentence.tags, tags, strict=True
    ):
        where = f"{sentence.file} line {number}"
        if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) < 3):
            expected = "O, B-... or I-... (the BIO scheme)"
            return Fault(where, f"the tag {given!r} of {word!r}", expected)
        if tag.startswith("I-") and before[2:] != tag[2:]:
            expected = f"B-{tag[2:]} or I-{tag[2:]} before {given}"
            return Fault(where, received, expected)
        before, received = tag, given
    return None


def _from_tfds(
    name: str, tag_column: int | str | None, skip_bad: bool, evaluated: Evaluated | None
) -> TaggedTexts:
    builder = tfds_builder(name)
    words, tags = _features(builder, tag_column)
    features = builder.info.features
    names = features[tags].feature.names
    others = [key for key in sorted(features) if key not in (words, tags)]
    remarks = tfds_remarks(builder, evaluated=evaluated)
    remarks += columns_read({"words": words, "tags": tags}, others)
    known = evaluated or Evaluated(("O", *(tag for tag in names if tag != "O")))
    numbers = known.numbers(names)
    splits = tfds_splits(builder, evaluated=evaluated)
    if evaluated:
        splits, found = labeled_rows(
            # O is 0, and a sentence may have no words.
            splits,
            lambda row: tf.minimum(0, tf.reduce_min(tf.gather(numbers, row[tags]))),
        )
        remarks += known.unknown_rows(names, found)
    remarks += empty_splits({split: len(rows) for split, rows in splits.items()}, evaluated)
    return TaggedTexts(
        **{
            split: rows.map(
                lambda row: (_no_empty(row[words]), tf.gather(numbers, row[tags])),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            for split, rows in splits.items()
        },
        tags=known.labels,
        **reported(f"tfds:{name}", remarks, skip_bad),
    )


def _no_empty(words: tf.Tensor) -> tf.Tensor:
    """Replaces empty words, which are padding elsewhere, with a space."""
    return tf.where(words == "", " ", words)


def _features(builder: Any, tag_column: int | str | None) -> tuple[str, str]:
    """Chooses the sequence of words and the sequence of tags; the tags must include O."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    sequences = {
        name: feature.feature
        for name, feature in sorted(features.items())
        if isinstance(feature, tfds.features.Sequence)
    }
    words = [name for name, kind in sequences.items() if isinstance(kind, tfds.features.Text)]
    tags = [
        name
        for name, kind in sequences.items()
        if isinstance(kind, tfds.features.ClassLabel) and "O" in kind.names
    ]
    words = [name for name in words if name in WORD_NAMES] or words
    preferred = [name for name in tags if name in TAG_NAMES]
    given = tag_column is not None
    chosen = [tag_column] if tag_column in tags else [] if given else (preferred or tags)
    if len(words) == 1 and len(chosen) == 1:
        return words[0], str(chosen[0])
    chosen_column = f" and --tag-column {tag_column}" if given else ""
    expected = (
        f"one sequence of words (here: {', '.join(words) or 'none'}) and "
        f"one sequence of tags (here: {', '.join(tags) or 'none'})"
    )
    data = f"tfds:{builder.name}"
    received = f"the features {', '.join(sorted(features))}{chosen_column}"
    raise BadData(data, [Fault(data, received, expected, skippable=False)])
