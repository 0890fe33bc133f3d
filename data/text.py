"""Texts, or pairs of texts, with a class each: user files, TensorFlow Datasets or a sample."""

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from data import python_docs
from data.labeled_files import Labeled, divided, labeled_files
from data.sources import (
    SPLIT_NAMES,
    SPLITS,
    BadData,
    Fault,
    existing,
    left_out,
    stable_order,
    tfds_builder,
    tfds_splits,
    withheld,
)
from data.text_files import not_utf8, read_text, split_files

BUILT_IN = ("python_docs",)
SUFFIXES = (".csv", ".tsv", ".jsonl")
PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("text1", "text2"),
    ("#1 string", "#2 string"),
    ("question", "sentence"),
)
"""Columns that hold pairs of texts, as GLUE, SNLI and MSRP name them."""
TEXT_NAMES = (
    *("text", "sentence", "review", "content", "comment", "message", "tweet", "utterance"),
    *("document", "question"),
)
LABEL_NAMES = (
    *("label", "labels", "class", "category", "target", "gold_label", "quality", "sentiment"),
    *("intent", "topic", "is_duplicate"),
)


@dataclass(frozen=True)
class Texts:
    """Texts split for training, in a stable order and unshuffled.

    Args:
        train: `(texts, label)`: string `(1,)`, or `(2,)` for pairs, and int32 `()`.
        validation: Likewise.
        test: Likewise.
        classes: Name of each label.
        skipped: Bad examples that were left out.
        other: Likewise, further splits of TensorFlow Datasets by their names. The label of a text
            that is of none of the classes is -1: on the out-of-scope splits of clinc_oos a
            classifier can show how many such texts it refuses.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    classes: tuple[str, ...]
    skipped: int = 0
    other: dict[str, tf.data.Dataset] = field(default_factory=dict)


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read; None where the usual names decide.

    Args:
        text: The text, or the first of a pair.
        pair: The second text of a pair.
        label: The class.
    """

    text: str | None = None
    pair: str | None = None
    label: str | None = None

    def given(self) -> dict[str, str]:
        """Returns the names that are not None, by the option that gives them."""
        options = {
            "--text-column": self.text,
            "--pair-column": self.pair,
            "--label-column": self.label,
        }
        return {option: name for option, name in options.items() if name is not None}


@dataclass(frozen=True)
class _Example(Labeled):
    texts: tuple[str, ...]


def load(
    data: str,
    *,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    skip_bad: bool = False,
) -> Texts:
    """Finds the texts that `data` names, checks them all and splits them.

    User files are UTF-8: .csv (with quotes), .tsv (without), or .jsonl (an object a line), with a
    header or, where only text and label stand there, without. A folder holds such files with
    train, dev (or val) and test in their names, or one sub-folder of .txt files a class, if it
    likes below train/, dev/ and test/. A single file may have a column split. Where the data has
    no splits, a hash of the text decides, so that equal texts come into one split and more texts
    never move old ones. Examples come in the order of that hash, classes mixed.

    What is wrong is raised as one `BadData`: ragged rows, empty texts, missing labels and so on.

    Args:
        data: `python_docs` (sentences of the Python reference by its parts; `./python_docs` for a
            folder of that name), `tfds:NAME`, or the path of a file or folder.
        text_column: Column of the text, or of the first of a pair. None: a usual name, one of
            `TEXT_NAMES`.
        pair_column: Column of the second of a pair. None: if two columns of `PAIR_NAMES` stand
            there and no column of the text is given, those; else single texts.
        label_column: Column of the class. None: a usual name, one of `LABEL_NAMES`.
        skip_bad: Leaves bad examples out and counts them instead of raising.

    Example:
        >>> load("python_docs").classes
        ('data model', 'expressions', 'statements', 'types')
    """
    columns = Columns(text_column, pair_column, label_column)
    if data == "python_docs":
        labeled = python_docs.labeled_sentences()
        examples = [_Example(text, label, "", "", (text,)) for text, label in labeled]
        return _divided(data, examples, [], skip_bad)
    if data.startswith("tfds:"):
        return _from_tfds(data.removeprefix("tfds:"), columns, skip_bad)
    path = existing(data, "a .csv, .tsv or .jsonl file, a folder", BUILT_IN)
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        wanted = "a .csv, .tsv or .jsonl file, or a folder"
        raise BadData(data, [Fault(path.name, "another kind of file", wanted, skippable=False)])
    files = split_files(path, SUFFIXES)
    if not files:
        return _divided(data, *_from_folders(data), skip_bad)
    examples, faults = [], []
    for split, file in files.items():
        found, wrong = _from_table(data, file, split, columns)
        examples += found
        faults += wrong
    return _divided(data, examples, faults, skip_bad)


def _divided(data: str, examples: list[_Example], faults: list[Fault], skip_bad: bool) -> Texts:
    kept, missing = divided(examples)
    if len({len(example.texts) for example in kept}) > 1:
        fault = Fault("the splits", "pairs in some only", "pairs in all or none", skippable=False)
        missing.append(fault)
    skipped = left_out(data, faults + missing, skip_bad)
    classes = sorted({example.label for example in kept})
    kept.sort(key=lambda example: stable_order(example.name))

    def chosen(split: str) -> tf.data.Dataset:
        texts = [example.texts for example in kept if example.split == split]
        labels = [classes.index(example.label) for example in kept if example.split == split]
        return tf.data.Dataset.from_tensor_slices((texts, np.array(labels, np.int32)))

    return Texts(
        **{split: chosen(split) for split in SPLITS}, classes=tuple(classes), skipped=skipped
    )


def _example(place: str, split: str, label: Any, texts: Sequence[Any]) -> _Example | Fault:
    """Makes an example of what was found at a place, or says what is wrong with it."""
    if isinstance(label, (bool, int, float)):
        label = str(label)
    if not isinstance(label, str) or not label.strip():
        found = "no label" if label in (None, "") else f"the label {label!r}"
        return Fault(place, found, "the name of a class")
    stripped = [text.strip() if isinstance(text, str) else "" for text in texts]
    if not all(stripped):
        return Fault(place, "an empty text", "some text")
    fault = not_utf8("".join([*stripped, label]), place)
    return fault or _Example("\n".join(stripped), label.strip(), split, place, tuple(stripped))


def _from_folders(data: str) -> tuple[list[_Example], list[Fault]]:
    """Reads a folder with one sub-folder of .txt files a class."""
    files, faults = labeled_files(data, {".txt"})
    examples = []
    for file in files:
        found = _example(file.place, file.split, file.label, [read_text(Path(file.path))])
        if isinstance(found, Fault):
            faults.append(found)
        else:
            examples.append(found)
    return examples, faults


def _from_table(
    data: str, path: Path, split: str, columns: Columns
) -> tuple[list[_Example], list[Fault]]:
    """Reads a .csv, .tsv or .jsonl file.

    Args:
        data: What the user asked for.
        path: The file.
        split: Its split; empty where a column split, or else chance, is to decide.
        columns: What to read.
    """
    if path.suffix.lower() == ".jsonl":
        rows, faults = _from_json_lines(path)
    else:
        rows, faults = _from_cells(data, path, columns)
    if not rows:
        wanted = "a line for each example"
        return [], [*faults, Fault(path.name, "no examples", wanted, skippable=False)]
    names = dict.fromkeys(name for _, row in rows for name in row)
    *text_names, label_name = _chosen(data, path.name, list(names), columns)
    examples = []
    for line, row in rows:
        place = f"{path.name} line {line}"
        found: _Example | Fault
        given = split
        if not split and "split" in names:
            given = SPLIT_NAMES.get(str(row.get("split")).strip().lower(), "")
        if not given and "split" in names:
            found = Fault(place, f"the split {row.get('split')!r}", "train, validation or test")
        else:
            texts = [row.get(name) for name in text_names]
            found = _example(place, given, row.get(label_name), texts)
        if isinstance(found, Fault):
            faults.append(found)
        else:
            examples.append(found)
    return examples, faults


def _chosen(data: str, place: str, names: Sequence[str], columns: Columns) -> list[str]:
    """Chooses the columns of text, of its pair if it has one, and of the label, in this order."""

    def bad(found: str, wanted: str) -> BadData:
        there = f"{found}; the columns are {', '.join(names)}"
        return BadData(data, [Fault(place, there, wanted, skippable=False)])

    def first(usual: Sequence[str]) -> str | None:
        return next((known[name] for name in usual if name in known), None)

    for option, name in columns.given().items():
        if name not in names:
            raise bad(f"no column {name!r}", f"one of them for {option}")
    known = {name.strip().lower(): name for name in reversed(names)}
    text, pair, label = columns.text, columns.pair, columns.label or first(LABEL_NAMES)
    pairs = [(known[a], known[b]) for a, b in PAIR_NAMES if a in known and b in known]
    if text is None and pair is None and pairs:
        text, pair = pairs[0]
    known = {name: column for name, column in known.items() if column not in (pair, label)}
    text = text or first([*TEXT_NAMES, *(name for name, _ in PAIR_NAMES)])
    if text is None:
        raise bad("no known column of texts", f"{TEXT_NAMES[0]}, or one for --text-column")
    if label is None:
        raise bad("no known column of labels", f"{LABEL_NAMES[0]}, or one for --label-column")
    return [text, pair, label] if pair else [text, label]


Rows = list[tuple[int, dict[str, Any]]]
"""Number of the line, and what stands in each column there."""


def _from_json_lines(path: Path) -> tuple[Rows, list[Fault]]:
    rows: Rows = []
    faults = []
    for line, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            row = str(error)
        if isinstance(row, dict):
            rows.append((line, row))
        else:
            wanted = "a JSON object with text and label"
            faults.append(Fault(f"{path.name} line {line}", f"no object ({row!r:.80})", wanted))
    return rows, faults


def _from_cells(data: str, path: Path, columns: Columns) -> tuple[Rows, list[Fault]]:
    text = read_text(path)
    if path.suffix.lower() == ".tsv":
        lines = [(n, line.split("\t")) for n, line in enumerate(text.split("\n"), 1) if line]
    else:
        lines = _comma_separated(data, path.name, text)
    if not lines:
        return [], []
    names, headed = _header(data, path.name, lines, columns)
    rows, faults = [], []
    for line, cells in lines[headed:]:
        if len(cells) == len(names):
            rows.append((line, dict(zip(names, cells, strict=True))))
        else:
            wanted = f"{len(names)}: {', '.join(names)}"
            faults.append(Fault(f"{path.name} line {line}", f"{len(cells)} fields", wanted))
    return rows, faults


def _comma_separated(data: str, name: str, text: str) -> list[tuple[int, list[str]]]:
    """Reads a CSV; returns the first line and the cells of each row."""
    lines, line = [], 0
    csv.field_size_limit(sys.maxsize)  # Of its own accord it takes no longer text than 131,072.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                lines.append((line + 1, cells))
            line = reader.line_num
    except csv.Error as error:
        found = f"{error} in the row that starts here"
        wanted = "comma-separated text, quotes closed and, inside quotes, doubled"
        fault = Fault(f"{name} line {line + 1}", found, wanted, skippable=False)
        raise BadData(data, [fault]) from error
    return lines


def _header(
    data: str, place: str, lines: Sequence[tuple[int, list[str]]], columns: Columns
) -> tuple[list[str], int]:
    """Finds the names of the columns, and the number of lines (0 or 1) that tell them.

    Without a header there must be two columns, and that of the label must have at most half as
    many different values as that of the text.
    """
    first = [cell.strip() for cell in lines[0][1]]
    usual = any(cell.lower() in LABEL_NAMES for cell in first)
    if usual or len(first) != 2 or columns.given():
        if fault := not_utf8("".join(first), f"{place} line {lines[0][0]}"):
            raise BadData(data, [replace(fault, skippable=False)])
        return first, 1
    counts = [Counter(cells[i] for _, cells in lines if len(cells) == 2) for i in (0, 1)]
    label = 0 if len(counts[0]) < len(counts[1]) else 1
    if 2 * len(counts[label]) > len(counts[1 - label]):
        found, wanted = "no header, and no telling text and label apart", "a header: text, label"
    elif counts[label][lines[0][1][label]] == 1 and len(lines) > 2:
        found = f"a first line with a label of its own, or a header of unknown names: {first}"
        wanted = "text, label, or names for --text-column and --label-column"
    else:
        return (["label", "text"] if label == 0 else ["text", "label"]), 0
    raise BadData(data, [Fault(place, found, wanted, skippable=False)])


def _from_tfds(name: str, columns: Columns, skip_bad: bool) -> Texts:
    import tensorflow_datasets as tfds

    builder = tfds_builder(name)
    features = builder.info.features
    *text_names, label_name = _features(builder, columns)
    label_feature = features[label_name]
    named = isinstance(label_feature, tfds.features.ClassLabel)
    unusable = withheld(builder, label_name) if named else set()
    splits = tfds_splits(builder, unusable=unusable)
    classes = label_feature.names if named else _classes_of(splits["train"], label_name)

    def number(row: dict[str, tf.Tensor]) -> tf.Tensor:
        label = row[label_name]
        if not named:
            same = tf.equal(tf.constant(classes), _in_words(label))
            label = tf.where(tf.reduce_any(same), tf.argmax(same), -1)
        return tf.cast(label, tf.int32)

    splits, missing = _labeled_rows(splits, number)
    # SNLI has -1 where its annotators did not agree.
    found = "no label (-1)" if named else "a class that train lacks"
    wanted = f"one of {', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}"
    faults = [Fault(place, found, wanted) for place in missing]

    def example(row: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.stack([row[text] for text in text_names]), number(row)

    def examples(rows: tf.data.Dataset) -> tf.data.Dataset:
        return rows.map(example, num_parallel_calls=tf.data.AUTOTUNE)

    return Texts(
        **{split: examples(rows) for split, rows in splits.items()},
        classes=tuple(classes),
        skipped=left_out(f"tfds:{name}", faults, skip_bad),
        other={
            split: examples(builder.as_dataset(split=split, shuffle_files=False))
            for split in sorted(set(builder.info.splits) - set(SPLIT_NAMES))
        },
    )


def _features(builder: Any, columns: Columns) -> list[str]:
    """Chooses the features of text, of its pair if it has one, and of the label.

    What the caller leaves open is what the data set is supervised with, or else has a usual name,
    or else is the first class label by name. An integer label gives way to its name in words,
    where there is one (intent_name for intent).
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    keys = builder.info.supervised_keys
    if keys and not columns.text and not columns.pair and isinstance(keys[0], str):
        columns = Columns(keys[0], None, columns.label or keys[1])
    # Sorted, because features come in another order in each process.
    names = sorted(features)
    labels = [key for key in names if isinstance(features[key], tfds.features.ClassLabel)]
    if labels and not columns.label and not set(labels) & set(LABEL_NAMES):
        columns = Columns(columns.text, columns.pair, labels[0])
    place = f"tfds:{builder.name}"
    *texts, label = _chosen(place, place, names, columns)
    if label not in labels and f"{label}_name" in features:
        label = f"{label}_name"
    usable = features[label].shape == () and not np.issubdtype(
        features[label].np_dtype, np.floating
    )
    if not usable or not all(isinstance(features[key], tfds.features.Text) for key in texts):
        found = f"the features {', '.join(f'{key}: {features[key]}' for key in (*texts, label))}"
        raise BadData(place, [Fault(place, found, "texts with one class each", skippable=False)])
    return [*texts, label]


def _in_words(label: tf.Tensor) -> tf.Tensor:
    return label if label.dtype == tf.string else tf.strings.as_string(label)


def _classes_of(rows: tf.data.Dataset, label: str) -> list[str]:
    """Collects the classes of rows where the data set does not list them."""
    batches = rows.map(lambda row: _in_words(row[label])).batch(4096).as_numpy_iterator()
    return sorted({value.decode() for batch in batches for value in np.unique(batch)})


def _labeled_rows(
    splits: dict[str, tf.data.Dataset], number: Callable[[dict[str, tf.Tensor]], tf.Tensor]
) -> tuple[dict[str, tf.data.Dataset], list[str]]:
    """Leaves out the rows whose class has the number -1, and says which these are."""
    labeled, places = {}, []
    for split, rows in splits.items():
        batches = rows.map(number).batch(4096).as_numpy_iterator()
        numbers = np.concatenate([np.zeros(0, np.int32), *batches])
        missing = np.flatnonzero(numbers < 0)
        places += [f"{split} row {row}" for row in missing]
        if len(missing):
            left = tf.data.experimental.assert_cardinality(len(rows) - len(missing))
            rows = rows.filter(lambda row: number(row) >= 0).apply(left)
        labeled[split] = rows
    return labeled, places
