"""Texts, or pairs of texts, with one class each: user files, TensorFlow Datasets or a sample."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from data import python_docs
from data.labeled_files import Labeled, divided, labeled_files, refuse_groups
from data.sources import (
    SPLIT_NAMES,
    SPLITS,
    BadData,
    Evaluated,
    Fault,
    Finding,
    empty_splits,
    existing,
    labeled_rows,
    listed,
    number_of,
    reported,
    split_named,
    splits_to_read,
    stable_order,
    tfds_builder,
    tfds_remarks,
    tfds_splits,
    unlabeled_rows,
    withheld,
)
from data.splits import ClassSplits, by_class
from data.tables import columns_read, json_values, rows_of_cells
from data.text_files import not_utf8, read_text, split_files

MEANINGS = {"text": "the text, in UTF-8", "pair": "the second text, in UTF-8"}
"""Meanings of the columns of an example."""
BUILT_IN = ("python_docs",)
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("text1", "text2"),
    ("#1 string", "#2 string"),
    ("question", "sentence"),
)
"""Usual names of the two columns of a pair of texts, as in GLUE, SNLI and MSRP."""
TEXT_NAMES = (
    *("text", "sentence", "review", "content", "comment", "message", "tweet", "utterance"),
    *("document", "question", "prompt", "input"),
)
LABEL_NAMES = (
    *("label", "labels", "class", "category", "target", "gold_label", "quality", "sentiment"),
    *("intent", "topic", "is_duplicate", "answer", "output"),
)

MOST_NUMBERS = 20
"""Maximum number of different numbers that may be names of classes, such as 3.5 stars."""


@dataclass(frozen=True, kw_only=True)
class Texts(ClassSplits):
    """Texts, or pairs of texts, with class numbers, in a stable order.

    The splits are datasets of `(texts, label)`: string `(1,)`, or `(2,)` for pairs, and int32 `()`.
    `other` holds further splits of TensorFlow Datasets by their names. There the label of a text
    that belongs to none of the classes is -1: the out-of-scope splits of clinc_oos measure how many
    such texts a classifier refuses.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the texts of an example: `text`, and `pair` if there are two."""
        return ("text", "pair")[: self.test.element_spec[0].shape[0]]

    @property
    def texts(self) -> tf.data.Dataset:
        """The training texts without their classes, strings one by one."""
        return self.texts_of("train").unbatch()

    def texts_of(self, split: str) -> tf.data.Dataset:
        """Returns the texts of a split without their classes, `(1,)`, or `(2,)` for pairs."""
        return self.split(split).map(lambda texts, label: texts)

    def table(self, split: str, count: int) -> dict[str, np.ndarray]:
        """Returns the first texts of a split, bytes `(count,)` by name of the column."""
        texts = np.array([texts for texts, _ in self.first(split, count)], object)
        return dict(zip(self.columns, texts.T, strict=True))

    def example(self) -> tuple[str, dict[str, str]]:
        """Returns a description of the first test example, and its texts by name of the column."""
        ((texts, label),) = self.first("test", 1)
        columns = dict(zip(self.columns, (one.decode() for one in texts), strict=True))
        return f"a test text, true class {self.classes[label]}", columns


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read; None for the usual names.

    Args:
        text: The text, or the first of a pair.
        pair: The second text of a pair.
        label: The class.
        group: Name shared by examples that must be in the same split.
    """

    text: str | None = None
    pair: str | None = None
    label: str | None = None
    group: str | None = None

    def given(self) -> dict[str, str]:
        """Returns the names that are not None, by their command line option."""
        options = {
            "--text-column": self.text,
            "--pair-column": self.pair,
            "--label-column": self.label,
            "--group": self.group,
        }
        return {option: name for option, name in options.items() if name is not None}


@dataclass(frozen=True)
class Example(Labeled):
    """A text, or a pair of texts, with a label."""

    texts: tuple[str, ...]


def load(
    data: str,
    *,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    out_of_scope: str | None = None,
    group: str | None = None,
    skip_bad: bool = False,
    pairs: bool = False,
    windows: bool = False,
    evaluated: Evaluated | None = None,
) -> Texts:
    """Loads, checks and splits the texts that `data` names.

    User files are UTF-8, or UTF-16 with a byte order mark: .csv (with quotes; commas, semicolons,
    tabs or vertical bars separate the cells), .tsv (without quotes), .jsonl (one object per line)
    or .json (a list of objects). A file without a header must have two columns, text and label. A
    folder contains such files with train, dev and test in their names, or others of `SPLIT_NAMES`.
    Or it has one sub-folder of .txt files per class, optionally below train/, dev/ and test/. A
    single file may have a column `split`. If the data has no splits, a hash of the text decides:
    equal texts get the same split, and adding texts never moves old ones. The examples are sorted
    by that hash, which mixes the classes.

    One `BadData` reports all problems: ragged rows, empty texts, missing labels and so on.

    Args:
        data: `python_docs` (sentences of the Python reference by its parts; `./python_docs` for a
            folder of that name), `tfds:NAME`, or the path of a file or folder.
        text_column: Column of the text, or of the first text of a pair. None: one of `TEXT_NAMES`.
        pair_column: Column of the second text of a pair. None: the two columns of `PAIR_NAMES` are
            read as pairs if both exist and `text_column` is None; else the texts are single.
        label_column: Column of the class. None: one of `LABEL_NAMES`.
        out_of_scope: Name of a split in `Texts.other` that the data must have. None: of no split.
        group: Column or folder level of groups that must share a split, as in `labeled_files`.
        skip_bad: Whether to skip and count bad examples instead of raising.
        pairs: Whether texts must come in pairs.
        windows: Whether texts must not come in pairs.
        evaluated: As in `data.splits.dealt`.

    Example:
        >>> load("python_docs").classes
        ('data model', 'expressions', 'statements', 'types')
    """
    columns = Columns(text_column, pair_column, label_column, group)
    texts = _read(data, columns, skip_bad, evaluated)
    if out_of_scope not in (None, *texts.other):
        raise ValueError(
            "`out_of_scope` must be one of the further splits of the data: "
            f"{', '.join(texts.other) or 'none'}. Received: out_of_scope={out_of_scope!r}"
        )
    if pairs and texts.columns == ("text",):
        raise ValueError(
            "The network reads pairs of texts in both orders. Received: single texts. Fix: name "
            "the second text with --pair-column, or train a new network without --orders."
        )
    if windows and texts.columns != ("text",):
        raise ValueError(
            "`windows` is for single texts. Received: pairs of texts. Fix: leave it out, or "
            "name a single text with --text-column."
        )
    return texts


def _read(data: str, columns: Columns, skip_bad: bool, evaluated: Evaluated | None) -> Texts:
    refuse_groups(data, BUILT_IN, columns.group)
    if data.startswith("tfds:"):
        return _from_tfds(data.removeprefix("tfds:"), columns, skip_bad, evaluated)
    return _divided(data, *examples_of(data, columns, evaluated), skip_bad, evaluated)


def examples_of(
    data: str, columns: Columns, evaluated: Evaluated | None = None
) -> tuple[list[Example], list[Finding]]:
    """Reads the examples of the built-in sample or of user files, with what there is to say.

    Args:
        data: As in `load`, but not of TensorFlow Datasets.
        columns: The columns to read.
        evaluated: As in `load`. Examples of other splits may be among those that are returned.
    """
    if data == "python_docs":
        labeled = python_docs.labeled_sentences()
        return [Example(text, label, "", "", (text,)) for text, label in labeled], []
    path = existing(data, "a .csv, .tsv, .jsonl or .json file, a folder", BUILT_IN)
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        expected = "a .csv, .tsv, .jsonl or .json file, or a folder"
        fault = Fault(path.name, "another kind of file", expected, "export it", skippable=False)
        raise BadData(data, [fault])
    files, findings = split_files(path, SUFFIXES, evaluated)
    if not files:
        return _from_folders(data, columns.group, evaluated)
    examples = []
    for split, file in files.items():
        good, wrong = _from_table(data, file, split, columns, evaluated)
        examples += good
        findings += wrong
    return examples, findings


def shown(texts: Iterable[bytes]) -> str:
    """Returns the texts of an example on one line."""
    return " | ".join(text.decode(errors="replace") for text in texts)


def _divided(
    data: str,
    examples: list[Example],
    findings: list[Finding],
    skip_bad: bool,
    evaluated: Evaluated | None,
) -> Texts:
    kept, missing = divided(examples, evaluated)
    if len({len(example.texts) for example in kept}) > 1:
        expected = "pairs in all splits or in none"
        missing.append(Fault("the splits", "pairs in only some", expected, skippable=False))
    said = reported(data, findings + missing, skip_bad)
    classes = evaluated.labels if evaluated else sorted({example.label for example in kept})
    splits = [split for split in SPLITS if split == "test" or not evaluated]
    kept.sort(key=lambda example: stable_order(example.name))

    def chosen(split: str) -> tf.data.Dataset:
        texts = [example.texts for example in kept if example.split == split]
        labels = [classes.index(example.label) for example in kept if example.split == split]
        return tf.data.Dataset.from_tensor_slices((texts, np.array(labels, np.int32)))

    return Texts(
        **{split: chosen(split) for split in splits},
        origins={split: [one.where for one in kept if one.split == split] for split in splits},
        classes=tuple(classes),
        **said,
    )


def _example(where: str, split: str, label: Any, texts: Sequence[Any]) -> Example | Fault:
    """Returns an example, or the fault if its label or a text cannot be used."""
    if isinstance(label, float) and math.isnan(label):
        label = None
    if isinstance(label, bool | int | float):
        label = str(label)
    if not isinstance(label, str) or not label.strip():
        received = "no label" if label in (None, "") else f"the label {label!r}"
        return Fault(where, received, "the name of a class")
    stripped = [text.strip() if isinstance(text, str) else "" for text in texts]
    others = [text for text in texts if not isinstance(text, str | None)]
    if others:
        return Fault(where, f"{others[0]!r:.80}", "a text in quotes")
    if not all(stripped):
        return Fault(where, "an empty text", "some text")
    fault = not_utf8("".join([*stripped, label]), where)
    return fault or Example("\n".join(stripped), label.strip(), split, where, tuple(stripped))


def _from_folders(
    data: str, group: str | None, evaluated: Evaluated | None
) -> tuple[list[Example], list[Finding]]:
    """Reads a folder with one sub-folder of .txt files per class."""
    files, faults = labeled_files(data, {".txt"}, group=group, evaluated=evaluated)
    tables = [path.name for path in sorted(Path(data).iterdir()) if path.suffix.lower() in SUFFIXES]
    if tables and not files:
        expected = "files with train, dev and test in their names"
        fix = "pass one of them as --data, or rename them"
        fault = Fault(Path(data).name, f"only {listed(tables)}", expected, fix, skippable=False)
        raise BadData(data, [fault])
    examples = []
    for file in files:
        try:
            content = read_text(Path(file.path))
        except BadData as error:
            faults += [replace(one, where=file.where, skippable=True) for one in error.faults]
            continue
        example = _example(file.where, file.split, file.label, [content])
        if isinstance(example, Fault):
            faults.append(example)
        else:
            examples.append(replace(example, group=file.group))
    return examples, faults


def _from_table(
    data: str, path: Path, split: str, columns: Columns, evaluated: Evaluated | None
) -> tuple[list[Example], list[Finding]]:
    """Reads a .csv, .tsv, .jsonl or .json file.

    Args:
        data: The data that the user named.
        path: Path of the file.
        split: Its split; empty if a column `split`, or else a hash, decides.
        columns: The columns to read.
        evaluated: As in `load`.
    """
    if path.suffix.lower() in (".jsonl", ".json"):
        rows, faults = _from_json(path)
    else:
        rows, faults = _from_cells(data, path, columns, evaluated)
    if not rows:
        expected = "one line per example"
        return [], [*faults, Fault(path.name, "no examples", expected, skippable=False)]
    names = dict.fromkeys(name for _, row in rows for name in row)
    *text_names, label_name = _chosen(data, path.name, list(names), columns)
    split_column = next((name for name in names if name.strip().lower() == "split"), None)
    if not evaluated:
        _require_classes(data, path.name, label_name, [row.get(label_name) for _, row in rows])
    examples = []
    read = dict(zip(MEANINGS, text_names, strict=False)) | {"label": label_name}
    if split_column and not split:
        read["split"] = split_column
    if columns.group:
        read["group"] = columns.group
    others = [name for name in names if name not in read.values()]
    findings: list[Finding] = [*columns_read(read, others), *faults]
    splits = [
        split_named(str(row.get(split_column))) if split_column and not split else split
        for _, row in rows
    ]
    to_read = splits_to_read(splits, evaluated)
    for (where, row), given in zip(rows, splits, strict=True):
        example: Example | Fault
        if not given and split_column:
            received = f"the split {row.get(split_column)!r}"
            example = Fault(where, received, "train, validation or test")
        else:
            texts = [row.get(name) for name in text_names]
            example = _example(where, given, row.get(label_name), texts)
        if isinstance(example, Fault):
            findings += [example] if given in to_read else []
        else:
            in_group = row.get(columns.group) if columns.group else None
            group = "" if in_group is None else str(in_group)
            examples.append(replace(example, group=group))
    return examples, findings


def _chosen(data: str, where: str, names: Sequence[str], columns: Columns) -> list[str]:
    """Chooses the columns of the text, its pair (if it has one) and the label, in this order."""

    def bad(expected: str, fix: str) -> BadData:
        received = f"the columns {', '.join(names)}"
        return BadData(data, [Fault(where, received, expected, fix, skippable=False)])

    def first(usual: Sequence[str]) -> str | None:
        return next((known[name] for name in usual if name in known), None)

    for option, name in columns.given().items():
        if name not in names:
            raise bad(f"a column {name!r}", f"pass one of them as {option}")
    known = {name.strip().lower(): name for name in reversed(names)}
    text, pair, label = columns.text, columns.pair, columns.label or first(LABEL_NAMES)
    pairs = [(known[a], known[b]) for a, b in PAIR_NAMES if a in known and b in known]
    if text is None and pair is None and pairs:
        text, pair = pairs[0]
    taken = (pair, label, columns.group)
    known = {name: column for name, column in known.items() if column not in taken}
    text = text or first([*TEXT_NAMES, *(name for name, _ in PAIR_NAMES)])
    if text is None or label is None:
        kind = "text" if text is None else "label"
        raise bad(f"a column {kind!r} or a similar name", f"pass --{kind}-column")
    return [text, pair, label] if pair else [text, label]


def _require_classes(data: str, where: str, column: str, labels: Sequence[Any]) -> None:
    """Raises `BadData` if a column contains measurements: numbers that rarely repeat."""
    try:
        numbers = [float(label) for label in labels if label not in (None, "")]
    except (TypeError, ValueError):
        return
    fractions = [number for number in numbers if math.isfinite(number) and number % 1]
    different = len(set(numbers))
    rare = 2 * different > len(numbers)
    if (different > MOST_NUMBERS and (fractions or rare)) or (fractions and rare):
        kind = "floating-point numbers" if fractions else f"{different} different numbers"
        example = fractions[0] if fractions else f"{numbers[0]:g}"
        received = f"{kind} in the column {column!r}, such as {example}"
        fix = "this app classifies: turn the numbers into classes, or name another --label-column"
        raise BadData(data, [Fault(where, received, "names of classes", fix, skippable=False)])


Rows = list[tuple[str, dict[str, Any]]]
"""File and line, and the content of each column there."""


def _from_json(path: Path) -> tuple[Rows, list[Finding]]:
    expected = "a JSON object with text and label"
    values, faults = json_values(path, expected)
    rows = [(where, value) for where, value in values if isinstance(value, dict)]
    for where, value in values:
        if not isinstance(value, dict):
            faults.append(Fault(where, f"{value!r:.80}", expected))
    return rows, faults


def _from_cells(
    data: str, path: Path, columns: Columns, evaluated: Evaluated | None
) -> tuple[Rows, list[Finding]]:
    lines, findings = rows_of_cells(data, path)
    if not lines:
        return [], []
    names, headed = _header(data, path.name, lines, columns, evaluated)
    rows = []
    for where, cells in lines[headed:]:
        if len(cells) == len(names):
            rows.append((where, dict(zip(names, cells, strict=True))))
        else:
            expected = f"{len(names)} fields ({', '.join(names)})"
            received = "1 field" if len(cells) == 1 else f"{len(cells)} fields"
            findings.append(Fault(where, received, expected))
    return rows, findings


def _header(
    data: str,
    where: str,
    lines: Sequence[tuple[str, list[str]]],
    columns: Columns,
    evaluated: Evaluated | None,
) -> tuple[list[str], int]:
    """Returns the names of the columns, and the number of header lines (0 or 1).

    Without a header there must be two columns. The label column must have at most half as many
    different values as the text column, or begin with a label that the evaluated network knows.
    """
    first = [cell.strip() for cell in lines[0][1]]
    usual = any(cell.lower() in LABEL_NAMES for cell in first)
    if usual or len(first) != 2 or columns.given():
        if fault := not_utf8("".join(first), lines[0][0]):
            raise BadData(data, [replace(fault, skippable=False)])
        return first, 1
    known = [i for i, cell in enumerate(first) if evaluated and cell in evaluated.labels]
    if len(known) == 1:
        return (["label", "text"] if known == [0] else ["text", "label"]), 0
    counts = [Counter(cells[i] for _, cells in lines if len(cells) == 2) for i in (0, 1)]
    label = 0 if len(counts[0]) < len(counts[1]) else 1
    if 2 * len(counts[label]) > len(counts[1 - label]):
        received = "no header, and it is not clear which column is the label"
        fix = "add a header line: text, label"
    elif counts[label][lines[0][1][label]] == 1 and len(lines) > 2:
        received = f"a label that occurs only once, or unknown column names: {first}"
        fix = "name the columns text and label, or pass --text-column and --label-column"
    else:
        return (["label", "text"] if label == 0 else ["text", "label"]), 0
    raise BadData(
        data, [Fault(where, received, "a header that names text and label", fix, skippable=False)]
    )


def _from_tfds(name: str, columns: Columns, skip_bad: bool, evaluated: Evaluated | None) -> Texts:
    import tensorflow_datasets as tfds

    builder = tfds_builder(name)
    features = builder.info.features
    *text_names, label_name = _features(builder, columns)
    label_feature = features[label_name]
    named = isinstance(label_feature, tfds.features.ClassLabel)
    unusable = withheld(builder, label_name) if named else set()
    splits = tfds_splits(builder, unusable=unusable, evaluated=evaluated)
    names = label_feature.names if named else _classes_of(splits, label_name)
    known = evaluated or Evaluated(tuple(names))
    numbers = known.numbers(names)

    def number(row: dict[str, tf.Tensor]) -> tf.Tensor:
        label = row[label_name]
        if not named:
            same = tf.equal(tf.constant(names), _in_words(label))
            label = tf.where(tf.reduce_any(same), tf.argmax(same), -1)
        return number_of(tf.cast(label, tf.int32), numbers)

    splits, found = labeled_rows(splits, number)
    # SNLI uses -1 for pairs on which its annotators disagreed.
    received = "no label (-1)" if named else "a class without training examples"
    counts = {
        split: {label: int((found[split] == i).sum()) for i, label in enumerate(known.labels)}
        for split in SPLITS
        if split in found
    }
    read = dict(zip(MEANINGS, text_names, strict=False)) | {"label": label_name}
    others = [name for name in sorted(features) if name not in read.values()]
    further = sorted(set(builder.info.splits) - unusable - SPLIT_NAMES.keys())
    findings = [
        *tfds_remarks(builder, unusable, further, evaluated),
        *columns_read(read, others),
        *by_class(counts),
        *unlabeled_rows(names, found, received),
        *known.unknown_rows(names, found),
        *empty_splits({split: len(rows) for split, rows in splits.items()}, evaluated),
    ]

    def example(row: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.stack([row[text] for text in text_names]), number(row)

    def examples(rows: tf.data.Dataset) -> tf.data.Dataset:
        return rows.map(example, num_parallel_calls=tf.data.AUTOTUNE)

    return Texts(
        **{split: examples(rows) for split, rows in splits.items()},
        classes=known.labels,
        **reported(f"tfds:{name}", findings, skip_bad),
        other={
            split: examples(builder.as_dataset(split=split, shuffle_files=False))
            for split in further
        },
    )


def _features(builder: Any, columns: Columns) -> list[str]:
    """Chooses the features with the text, its pair (if it has one) and the label.

    Features that `columns` does not name come from the dataset's supervised keys, from the usual
    names, or from the first class label in alphabetical order. If an integer label has a feature
    with its name in words (intent_name for intent), that one is used.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    keys = builder.info.supervised_keys
    if keys and not columns.text and not columns.pair and isinstance(keys[0], str):
        columns = Columns(keys[0], None, columns.label or keys[1])
    # Sorted, because the order of features differs between processes.
    names = sorted(features)
    labels = [key for key in names if isinstance(features[key], tfds.features.ClassLabel)]
    if labels and not columns.label and not set(labels) & set(LABEL_NAMES):
        columns = Columns(columns.text, columns.pair, labels[0])
    data = f"tfds:{builder.name}"
    *texts, label = _chosen(data, data, names, columns)
    if label not in labels and f"{label}_name" in features:
        label = f"{label}_name"
    usable = features[label].shape == () and not np.issubdtype(
        features[label].np_dtype, np.floating
    )
    if not usable or not all(isinstance(features[key], tfds.features.Text) for key in texts):
        chosen = ", ".join(f"{key}: {features[key]}" for key in (*texts, label))
        expected = "features with texts and one class each"
        raise BadData(data, [Fault(data, f"the features {chosen}", expected, skippable=False)])
    return [*texts, label]


def _in_words(label: tf.Tensor) -> tf.Tensor:
    return label if label.dtype == tf.string else tf.strings.as_string(label)


def _classes_of(splits: Mapping[str, tf.data.Dataset], label: str) -> list[str]:
    """Collects the classes of the first split, for datasets that do not list them."""
    rows = splits["train"] if "train" in splits else splits["test"]
    batches = rows.map(lambda row: _in_words(row[label])).batch(4096).as_numpy_iterator()
    return sorted({value.decode() for batch in batches for value in np.unique(batch)})
