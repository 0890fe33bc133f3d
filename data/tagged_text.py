"""Sentences with a tag for each word: CoNLL files, TensorFlow Datasets or a sample."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from data import python_docs
from data.sources import (
    SPLITS,
    BadData,
    Fault,
    completed,
    empty_splits,
    existing,
    left_out,
    tfds_builder,
    tfds_splits,
)
from data.text_files import not_utf8, read_text, required_split_files

BUILT_IN = ("python_docs",)
WORD_NAMES = ("tokens", "words")
"""Features of TensorFlow Datasets that are preferred where a data set has several of texts."""
TAG_NAMES = ("tags", "ner", "ner_tags")
"""Features of TensorFlow Datasets that are preferred where a data set has several kinds of tags."""


@dataclass(frozen=True)
class TaggedTexts:
    """Tagged sentences split for training, in a stable order and unshuffled.

    Args:
        train: `(words, tags)`: string `(words,)` and int32 `(words,)`.
        validation: Likewise.
        test: Likewise.
        tags: Name of each tag; `O` is the first.
        skipped: Bad sentences that were left out.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    tags: tuple[str, ...]
    skipped: int = 0


@dataclass(frozen=True)
class _Sentence:
    words: tuple[str, ...]
    tags: tuple[str, ...]
    split: str


def load(data: str, *, tag_column: int | str | None = None, skip_bad: bool = False) -> TaggedTexts:
    """Finds the tagged sentences that `data` names, checks them all and splits them.

    A CoNLL file has a word a line, its columns parted by tabs or spaces, the word first; blank
    lines part sentences, and -DOCSTART- lines are left out. Tags are in the scheme BIO (IOB2):
    `B-person` on the first word of a person, `I-person` on its others, `O` on words of nothing. A
    folder holds such files with train, dev (or val) and test in their names. Where the data has no
    splits, a hash of the sentence decides, so that more sentences never move old ones. Sentences
    come in their order in the files.

    Reference: Tjong Kim Sang & De Meulder, Introduction to the CoNLL-2003 Shared Task, 2003.
        https://aclanthology.org/W03-0419

    Args:
        data: `python_docs` (which words of the Python reference are code; `./python_docs` for a
            folder of that name), `tfds:NAME`, or the path of a file or folder.
        tag_column: Number of the column of tags, from 0, or from the end if negative; None: the
            last. Of TensorFlow Datasets the name of the feature; None: one of `TAG_NAMES`, or
            else the only one.
        skip_bad: Leaves bad sentences out and counts them instead of raising.

    Example:
        >>> load("python_docs").tags
        ('O', 'B-CODE', 'I-CODE')
    """
    if data == "python_docs":
        tagged = python_docs.tagged_sentences()
        sentences = [_Sentence(tuple(words), tuple(tags), "") for words, tags in tagged]
        return _divided(data, sentences, [], skip_bad)
    if data.startswith("tfds:"):
        return _from_tfds(data.removeprefix("tfds:"), tag_column)
    path = existing(data, "a CoNLL file, a folder with such files", BUILT_IN)
    column = -1 if tag_column is None else tag_column
    if not isinstance(column, int):
        message = f"`tag_column` must be a number for files. Received: tag_column={tag_column!r}"
        raise ValueError(message)
    sentences, faults = [], []
    for split, file in required_split_files(path, "CoNLL files").items():
        found, wrong = _from_file(file, split, column)
        sentences += found
        faults += wrong
    return _divided(data, sentences, faults, skip_bad)


def _divided(
    data: str, sentences: Sequence[_Sentence], faults: list[Fault], skip_bad: bool
) -> TaggedTexts:
    given = {sentence.split for sentence in sentences}
    splits: dict[str, list[_Sentence]] = {split: [] for split in SPLITS}
    for sentence in sentences:
        splits[completed(sentence.split, " ".join(sentence.words), given)].append(sentence)
    known = {kind for sentence in splits["train"] for kind in _kinds(sentence)}
    unseen: Counter[str] = Counter()
    for split, found in splits.items():
        splits[split] = [sentence for sentence in found if _kinds(sentence) <= known]
        unseen.update(min(strange) for one in found if (strange := _kinds(one) - known))
    faults = faults + [
        Fault(f"tag {kind}", f"{count} sentences, none in train", "some in train", examples=count)
        for kind, count in sorted(unseen.items())
    ]
    faults += empty_splits({split: len(found) for split, found in splits.items()})
    if splits["train"] and not known:
        wanted = "some other tag, such as B-person"
        faults.append(Fault("the training set", "only the tag O", wanted, skippable=False))
    tags = ("O", *(f"{begin}-{kind}" for kind in sorted(known) for begin in "BI"))
    skipped = left_out(data, faults, skip_bad)
    numbers = {tag: number for number, tag in enumerate(tags)}

    def chosen(split: str) -> tf.data.Dataset:
        kept = splits[split]
        words = tf.constant([word for sentence in kept for word in sentence.words])
        tags = tf.constant([numbers[tag] for sentence in kept for tag in sentence.tags], tf.int32)
        lengths = [len(sentence.words) for sentence in kept]
        ragged = [tf.RaggedTensor.from_row_lengths(flat, lengths) for flat in (words, tags)]
        # Each element is a plain tensor already; the map makes its type say so.
        return tf.data.Dataset.from_tensor_slices(tuple(ragged)).map(lambda *example: example)

    return TaggedTexts(**{split: chosen(split) for split in SPLITS}, tags=tags, skipped=skipped)


def _kinds(sentence: _Sentence) -> set[str]:
    """Returns what the sentence speaks of: its tags without O, B- and I-."""
    return {tag[2:] for tag in sentence.tags if tag != "O"}


def _from_file(path: Path, split: str, column: int) -> tuple[list[_Sentence], list[Fault]]:
    sentences, faults = [], []
    width = 0
    for lines in _line_groups(read_text(path)):
        # Sentences of one file have as many columns as its first line.
        width = width or max(len(lines[0][1]), 2)
        wrong = _wrong(path.name, lines, width, column)
        if wrong is None:
            words, tags = zip(*((fields[0], fields[column]) for _, fields in lines), strict=True)
            sentences.append(_Sentence(words, tags, split))
        else:
            faults.append(wrong)
    if not width:
        wanted = "a word and its tag a line"
        faults.append(Fault(path.name, "no sentence", wanted, skippable=False))
    return sentences, faults


def _line_groups(text: str) -> Iterator[list[tuple[int, list[str]]]]:
    """Yields number and fields of the lines of each sentence."""
    group: list[tuple[int, list[str]]] = []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        # Of spaces only the common one parts fields: there are words with others in them.
        parted = line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))
        fields = [field.strip() for field in parted]
        if any(fields) and fields[0] != "-DOCSTART-":
            group.append((number, fields))
        elif group:
            yield group
            group = []


def _wrong(
    name: str, lines: Sequence[tuple[int, list[str]]], width: int, column: int
) -> Fault | None:
    """Says what is wrong with a sentence: the first of its faults."""
    before = "O"
    for number, fields in lines:
        place = f"{name} line {number}"
        if len(fields) != width:
            return Fault(place, f"{len(fields)} fields in {' '.join(fields)!r}", f"{width} fields")
        if not -width <= column < width:
            wanted = f"one of the {width} columns"
            return Fault(place, f"no column {column}", wanted, skippable=False)
        word, tag = fields[0], fields[column]
        if not word:
            return Fault(place, "no word", "a word and its tag")
        if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) < 3):
            wanted = "O, B-... or I-... (the scheme BIO)"
            return Fault(place, f"the tag {tag!r} of {word!r}", wanted)
        if tag.startswith("I-") and before[2:] != tag[2:]:
            return Fault(place, f"{tag} after {before}", f"B-{tag[2:]} or I-{tag[2:]} before it")
        if fault := not_utf8(word + tag, place):
            return fault
        before = tag
    return None


def _from_tfds(name: str, tag_column: int | str | None) -> TaggedTexts:
    builder = tfds_builder(name)
    words, tags = _features(builder, tag_column)
    names = builder.info.features[tags].feature.names
    ordered = ["O", *(tag for tag in names if tag != "O")]
    numbers = tf.constant([ordered.index(tag) for tag in names], tf.int32)
    splits = tfds_splits(builder)
    return TaggedTexts(
        **{
            split: rows.map(
                lambda row: (row[words], tf.gather(numbers, row[tags])),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            for split, rows in splits.items()
        },
        tags=tuple(ordered),
    )


def _features(builder: Any, tag_column: int | str | None) -> tuple[str, str]:
    """Chooses the sequences of words and of tags, among which must be O."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    sequences = {
        name: feature.feature
        for name, feature in sorted(features.items())
        if isinstance(feature, tfds.features.Sequence)
    }
    words = [name for name, of in sequences.items() if isinstance(of, tfds.features.Text)]
    tags = [
        name
        for name, of in sequences.items()
        if isinstance(of, tfds.features.ClassLabel) and "O" in of.names
    ]
    words = [name for name in words if name in WORD_NAMES] or words
    preferred = [name for name in tags if name in TAG_NAMES]
    chosen = [tag_column] if tag_column in tags else [] if tag_column else (preferred or tags)
    if len(words) == 1 and len(chosen) == 1:
        return words[0], str(chosen[0])
    asked = f" and the tag column {tag_column}" if tag_column else ""
    wanted = (
        f"one sequence of words (here: {', '.join(words) or 'none'}), "
        f"one of tags (here: {', '.join(tags) or 'none'})"
    )
    place = f"tfds:{builder.name}"
    found = f"the features {', '.join(sorted(features))}{asked}"
    raise BadData(place, [Fault(place, found, wanted, skippable=False)])
