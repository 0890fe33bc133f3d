"""What all loaders share: reports of bad data, stable splits, TensorFlow Datasets."""

import difflib
import hashlib
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "testa"), "validation"),
    **dict.fromkeys(("test", "testing", "testb", "eval", "evaluation", "holdout"), "test"),
}
"""Usual names of the three splits, those of the CoNLL shared tasks included."""
_SPLIT_WORD = re.compile(r"(?<![a-z])(" + "|".join(SPLIT_NAMES) + r")(?![a-z])")
MAX_LISTED = 10
"""Maximum number of problems or names that a message lists."""


@dataclass(frozen=True)
class Fault:
    """One problem with the data.

    Args:
        where: File and line, or image, relative to the data.
        received: What is there.
        expected: What should be there.
        fix: How to correct it. Empty: `expected` already says so.
        skippable: Whether the rest of the data can be used without it.
        examples: Number of examples that are lost when it is skipped.
    """

    where: str
    received: str
    expected: str
    fix: str = ""
    skippable: bool = True
    examples: int = 1

    def __str__(self):
        line = f"{self.where}: expected {self.expected}. Received: {self.received}."
        return f"{line} Fix: {self.fix}." if self.fix else line


Finding = Fault | str
"""A problem that a loader finds in the data, or a remark in whole sentences for the user."""


@dataclass(frozen=True)
class Evaluated:
    """Says that a finished network is evaluated on the data, so no example is held out for it.

    Loaders then return only a test split: the examples that `evaluated_split` chooses.

    Args:
        labels: The labels that the network knows, in its order; empty in data without labels.
    """

    labels: tuple[str, ...] = ()

    def unknown(self, found: Iterable[tuple[str, str]]) -> list[Finding]:
        """Reports labels that the network does not know, each with its first example.

        Args:
            found: The label of each example, and where the example is.
        """
        wheres: dict[str, list[str]] = {}
        for label, where in found:
            if label not in self.labels:
                wheres.setdefault(label, []).append(where)
        return [
            Fault(
                f"{where[0]} and {len(where) - 1:,} more" if len(where) > 1 else where[0],
                f"{label!r}",
                f"a label that the network knows ({listed(self.labels)})",
                "correct the label or train the network on it",
                examples=len(where),
            )
            for label, where in wheres.items()
        ]

    def numbers(self, names: Sequence[str]) -> tf.Tensor:
        """Returns the network's number of each label of a dataset, -2 - i for an unknown one."""
        known = {label: number for number, label in enumerate(self.labels)}
        return tf.constant([known.get(name, -2 - i) for i, name in enumerate(names)], tf.int32)

    def unknown_rows(
        self, names: Sequence[str], numbers: Mapping[str, np.ndarray]
    ) -> list[Finding]:
        """Reports labels of a dataset that the network does not know, as `unknown` does.

        Args:
            names: The labels of the dataset.
            numbers: From `labeled_rows`, with the numbers that `self.numbers` gives.
        """
        return self.unknown(
            (names[-2 - some[row]], f"{split} row {row}")
            for split, some in numbers.items()
            for row in np.flatnonzero(some < -1)
        )


class BadData(ValueError):
    """All problems with the user's data in one message, which lists the first ten.

    Args:
        data: The data that the user named.
        faults: Its problems; at least one.
    """

    def __init__(self, data: str, faults: Sequence[Fault]):
        self.faults = tuple(faults)
        count = "1 problem" if len(faults) == 1 else f"{len(faults)} problems"
        listed = f" (the first {MAX_LISTED} are listed)" if len(faults) > MAX_LISTED else ""
        lines = [f"{data} cannot be used: {count}{listed}:"]
        skippable = all(fault.skippable for fault in faults)
        if skippable and len(faults) == 1:
            fix = faults[0].fix or "correct or remove it"
            faults = [replace(faults[0], fix=f"{fix}, or pass --skip-bad")]
        lines += [f"  {fault}" for fault in faults[:MAX_LISTED]]
        if skippable and len(faults) > 1:
            lines.append("Fix: correct or remove them, or pass --skip-bad.")
        super().__init__(_printable("\n".join(lines)))


def _printable(text: str) -> str:
    """Escapes the bytes of names that are not UTF-8, because they cannot be printed."""
    return text.encode(errors="backslashreplace").decode()


def existing(data: str, expected: str, built_in: Sequence[str], *, tfds: bool = True) -> Path:
    """Returns the path that the user named; raises `BadData` if nothing is there.

    Args:
        data: The data that the user named, neither built in nor from TensorFlow Datasets.
        expected: Which files are accepted.
        built_in: Names of the built-in samples.
        tfds: Whether datasets of TensorFlow Datasets are accepted, too.
    """
    if not Path(data).exists():
        others = "tfds:NAME, " if tfds else ""
        expected = f"{expected}, {others}or a built-in sample ({', '.join(built_in)})"
        raise BadData(data, [Fault(data, "no such file or folder", expected, skippable=False)])
    return Path(data)


def is_hidden(name: str) -> bool:
    """Whether the operating system, not the user, made a file or folder of this name."""
    return name.startswith((".", "__MACOSX"))


def reported(data: str, findings: Sequence[Finding], skip_bad: bool) -> dict[str, Any]:
    """Returns fields of `Splits`; raises `BadData` if a problem must not be skipped.

    Args:
        data: The data that the user named.
        findings: Its problems and the remarks on it; may be empty.
        skip_bad: Whether to skip problems that are skippable instead of raising.

    Returns:
        `skipped`, the number of examples that are left out, and `remarks`.
    """
    faults = [finding for finding in findings if isinstance(finding, Fault)]
    if any(not fault.skippable for fault in faults) or (faults and not skip_bad):
        raise BadData(data, sorted(faults, key=lambda fault: fault.skippable))
    remarks = tuple(
        dict.fromkeys(_printable(finding) for finding in findings if isinstance(finding, str))
    )
    return {"skipped": sum(fault.examples for fault in faults), "remarks": remarks}


def listed(names: Sequence[str]) -> str:
    """Joins names by commas, at most `MAX_LISTED` of them.

    Example:
        >>> listed([f"{number}" for number in range(12)])
        '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more:,} more" if more > 0 else "")


def not_read(paths: Iterable[Path], suffixes: Collection[str] | None = None) -> list[Finding]:
    """Says which files and folders are not read; hidden ones are not mentioned.

    Args:
        paths: The files and folders that are not read.
        suffixes: Suffixes of the files that the loader reads, in lower case; None for any. Files
            with other suffixes are counted instead of named.
    """
    names, others = [], Counter[str]()
    for path in paths:
        suffix = path.suffix.lower()
        if is_hidden(path.name):
            continue
        if path.is_dir() or suffixes is None or suffix in suffixes:
            names.append(f"{path.name}/" if path.is_dir() else path.name)
        else:
            others[suffix] += 1
    for suffix, count in sorted(others.items()):
        files = "1 file" if count == 1 else f"{count:,} files"
        names.append(f"{files} ({suffix})" if suffix else f"{files} without a suffix")
    return [f"Not read: {listed(names)}."] if names else []


def stable_order(name: str) -> int:
    """Hashes a name to a sort key in [0, 2**64), the same in every process and version."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def split_named(name: str, *, word: bool = False) -> str:
    """Returns the split that a name stands for: train, validation, test, or "" if none.

    Args:
        name: The name of a folder, the content of a column and so on; case is ignored.
        word: Whether the split may be one word of the name, as in the name of a file.

    Example:
        >>> split_named("Dev"), split_named("eng.testb", word=True), split_named("trains")
        ('validation', 'test', '')
    """
    name = name.strip().lower()
    found = _SPLIT_WORD.search(name) if word else None
    return SPLIT_NAMES.get(found[1] if found else name, "")


def by_split(data: str, paths: Iterable[Path], *, word: bool = False) -> dict[str, Path]:
    """Finds the path of each split by its name; raises `BadData` if there are two for one split.

    Args:
        data: The data that the user named.
        paths: Files or folders.
        word: As in `split_named`.
    """
    chosen: dict[str, Path] = {}
    for path in paths:
        split = split_named(path.name, word=word)
        if split in chosen:
            received = f"both {chosen[split].name} and {path.name}"
            fix = "move one of them elsewhere"
            expected = f"one {'file' if word else 'folder'} per split"
            fault = Fault(f"the {split} split", received, expected, fix, skippable=False)
            raise BadData(data, [fault])
        if split:
            chosen[split] = path
    return {split: chosen[split] for split in SPLITS if split in chosen}


def split_of(name: str, validation: float = 0.1, test: float = 0.1) -> str:
    """Chooses train, validation or test for an example by a hash of its name.

    Adding examples never moves an old one to another split.

    Args:
        name: Name of the example, such as its path relative to the data's folder.
        validation: Share of the examples in the validation split, in [0, 1).
        test: Share of the examples in the test split, in [0, 1).

    Example:
        >>> [split_of(f"cat/{i}.jpg") for i in range(6)]
        ['train', 'train', 'train', 'test', 'train', 'train']
    """
    position = stable_order(name) / 2**64
    if position < test:
        return "test"
    return "validation" if position < test + validation else "train"


def evaluated_split(counts: Mapping[str, int]) -> tuple[str, str]:
    """Chooses the examples that a finished network is evaluated on, and says which these are.

    Args:
        counts: Number of examples by split; "" if the data does not say it.

    Returns:
        The test split, or else the validation split; "" for all examples. And the remark.

    Example:
        >>> evaluated_split({"train": 80, "validation": 20})
        ('validation', 'Evaluated: the validation split, 20 of 100 examples.')
        >>> evaluated_split({"": 3})
        ('', 'Evaluated: all examples, because none is in a test or validation split.')
    """
    for split in ("test", "validation"):
        if counts.get(split):
            of = f"{counts[split]:,} of {sum(counts.values()):,} examples"
            return split, f"Evaluated: the {split} split, {of}."
    return "", "Evaluated: all examples, because none is in a test or validation split."


def splits_to_read(given: Iterable[str], evaluated: Evaluated | None) -> set[str]:
    """Returns the splits to read: all, or the one that a finished network is evaluated on.

    Args:
        given: The splits that the data has; "" where it does not say it.
        evaluated: As in `data.splits.dealt`.

    Example:
        >>> sorted(splits_to_read(["train", "validation"], Evaluated()))
        ['', 'validation']
    """
    known = {"", *given}
    chosen, _ = evaluated_split(dict.fromkeys(known, 1))
    return {"", chosen} if evaluated and chosen else known


def empty_splits(counts: Mapping[str, int], evaluated: Evaluated | None = None) -> list[Fault]:
    """Reports the splits without examples.

    Args:
        counts: Number of examples in each split that has some.
        evaluated: As in `data.splits.dealt`.
    """
    total = sum(counts.values())
    if evaluated:
        expected = "at least one example"
        nothing = Fault("the data", "no usable example", expected, skippable=False)
        return [] if total else [nothing]
    counted = f"0 of {total} {'example' if total == 1 else 'examples'}"
    received = counted if total else "no usable example"
    fix = "add examples, or provide a split (train, validation, test)"
    return [
        Fault(f"the {split} split", received, "at least one example", fix, skippable=False)
        for split in (SPLITS if total else SPLITS[:1])
        if not counts.get(split)
    ]


def watched(items: Iterable[Any], total: int, doing: str) -> Iterator[Any]:
    """Yields batches and, after the first second, shows progress on stderr.

    Args:
        items: Batches. Progress counts the examples in them.
        total: Number of examples in all batches.
        doing: Name of the work, such as "Checking images".
    """
    begin = shown = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += len(item)
        now = time.monotonic()
        if now - shown > 1:
            shown, rate = now, done / (now - begin)
            left = (total - done) / rate
            speed = f"{rate:.0f}" if rate > 10 else f"{rate:.1f}"
            line = f"\r{doing}: {done} of {total}, {speed}/s, {left:.0f} s left "
            print(line, end="", file=sys.stderr, flush=True)
    if shown != begin:
        print(f"\r{doing}: {done} of {total} in {time.monotonic() - begin:.0f} s", file=sys.stderr)


def tfds_builder(name: str) -> Any:
    """Opens a dataset of TensorFlow Datasets; downloads it only if it is not on disk.

    Args:
        name: For example `fashion_mnist` or `NAME/CONFIG:VERSION`. Datasets are stored in the
            folder that the environment variable TFDS_DATA_DIR names, by default
            ~/tensorflow_datasets.
    """
    import tensorflow_datasets as tfds

    def bad(received: str, expected: str, fix: str = "") -> BadData:
        fault = Fault(f"tfds:{name}", received, expected, fix, skippable=False)
        return BadData(f"tfds:{name}", [fault])

    data_dir = os.environ.get("TFDS_DATA_DIR")
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        near = difflib.get_close_matches(name, tfds.list_builders()) or ["mnist", "fashion_mnist"]
        fix = f"try {' or '.join(near)}, or see https://www.tensorflow.org/datasets/catalog"
        raise bad(repr(name), "the name of a dataset", fix) from error
    except (ValueError, AssertionError) as error:
        reason = str(error).strip().rstrip(".")
        raise bad(reason, "a configuration and version that exist") from error
    if not builder.is_prepared():
        try:
            builder.download_and_prepare()
        except (OSError, ImportError, tfds.download.DownloadError) as error:
            raise bad(
                f"no copy in {builder.data_dir}, and the download failed ({error})",
                "a prepared copy or a download",
                "connect to the network, or set TFDS_DATA_DIR to the folder with a copy",
            ) from error
    return builder


def withheld(builder: Any, label: str, decoders: Any = None) -> set[str]:
    """Finds splits whose labels are not public (-1), such as the test splits of GLUE.

    Args:
        builder: From `tfds_builder`.
        label: Name of the feature with the class number.
        decoders: As in `tfds.load`.
    """

    def is_withheld(split: str) -> bool:
        rows = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)
        labels = rows.take(100).map(lambda row: row[label]).as_numpy_iterator()
        return all(number < 0 for number in labels)

    return {split for split in builder.info.splits if is_withheld(split)}


def named_splits(
    builder: Any, unusable: Collection[str] = (), evaluated: Evaluated | None = None
) -> dict[str, str]:
    """Maps train, validation and test to the dataset's names of them, such as dev or val.

    If there are several names for one split, the first in `SPLIT_NAMES` is chosen.

    Args:
        builder: From `tfds_builder`.
        unusable: Splits to treat as missing, such as one without labels.
        evaluated: As in `data.splits.dealt`: test is then the split that is evaluated.
    """
    usable = [split for split in builder.info.splits if split not in unusable]
    known = [split for split in SPLIT_NAMES if split in usable]
    names = {SPLIT_NAMES[split]: split for split in reversed(known)}
    if evaluated and names:
        chosen, _ = evaluated_split(dict.fromkeys(names, 1))
        return {"test": names[chosen or "train"]}
    if "train" not in names:
        received = f"only {', '.join(usable)}" if usable else "no usable split"
        fault = Fault(builder.name, received, "a train split", skippable=False)
        raise BadData(f"tfds:{builder.name}", [fault])
    return names


def tfds_splits(
    builder: Any,
    decoders: Any = None,
    unusable: Collection[str] = (),
    evaluated: Evaluated | None = None,
) -> dict[str, tf.data.Dataset]:
    """Reads the train, validation and test examples, dicts of features, in their stored order.

    The splits may have any of `SPLIT_NAMES`. A missing validation split becomes the last 10 % of
    train. A missing test split becomes the 10 % before that. Both stay the same as long as
    the prepared dataset does.

    Args:
        builder: From `tfds_builder`.
        decoders: As in `tfds.load`; for instance to skip decoding.
        unusable: Splits to treat as missing, such as one without labels.
        evaluated: As in `named_splits`.
    """
    slices = named_splits(builder, unusable, evaluated)
    if not evaluated:
        slices |= _cut_from_train(slices)
    return {
        split: builder.as_dataset(split=selected, decoders=decoders, shuffle_files=False)
        for split, selected in slices.items()
    }


def labeled_rows(
    splits: Mapping[str, tf.data.Dataset], number: Callable[[dict[str, tf.Tensor]], tf.Tensor]
) -> tuple[dict[str, tf.data.Dataset], dict[str, np.ndarray]]:
    """Leaves out the rows without a usable label.

    Args:
        splits: From `tfds_splits`.
        number: From a row to the number of its label; below 0 if that is not usable.

    Returns:
        The other rows of each split, and the numbers of all of its rows.
    """
    labeled, numbers = {}, {}
    for split, rows in splits.items():
        batches = rows.map(number).batch(4096).as_numpy_iterator()
        numbers[split] = np.concatenate([np.zeros(0, np.int32), *batches])
        count = int((numbers[split] >= 0).sum())
        if count < len(rows):
            left = tf.data.experimental.assert_cardinality(count)
            rows = rows.filter(lambda row: number(row) >= 0).apply(left)
        labeled[split] = rows
    return labeled, numbers


def number_of(label: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """Looks up the network's number of a label; -1 if there is no label (-1).

    Args:
        label: Its number in the dataset.
        numbers: From `Evaluated.numbers`.
    """
    return tf.where(label < 0, -1, tf.gather(numbers, tf.maximum(label, 0)))


def unlabeled_rows(
    names: Sequence[str], numbers: Mapping[str, np.ndarray], received: str = "no label (-1)"
) -> list[Finding]:
    """Reports the rows whose number is -1.

    Args:
        names: The labels of the dataset.
        numbers: From `labeled_rows`.
        received: What such a row has in place of one of them.
    """
    expected = f"one of {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
    return [
        Fault(f"{split} row {row}", received, expected)
        for split, some in numbers.items()
        for row in np.flatnonzero(some == -1)
    ]


def _cut_from_train(names: Mapping[str, str]) -> dict[str, str]:
    """Returns the parts of the dataset's train split that train and the missing splits become."""
    slices, left = {}, 100
    for split in ("validation", "test"):
        if split not in names:
            slices[split] = f"{names['train']}[{left - 10}%:{left}%]"
            left -= 10
    return {**slices, "train": f"{names['train']}[:{left}%]"}


def tfds_remarks(
    builder: Any,
    unusable: Collection[str] = (),
    further: Collection[str] = (),
    evaluated: Evaluated | None = None,
) -> list[Finding]:
    """Says which splits of a dataset `tfds_splits` reads, which it makes and which are not read.

    Args:
        builder: From `tfds_builder`.
        unusable: As in `tfds_splits`.
        further: Other splits that the loader reads.
        evaluated: As in `named_splits`.
    """
    names = named_splits(builder, unusable, evaluated)
    given = ", ".join(f"{split} from {names[split]}" for split in SPLITS if split in names)
    remarks: list[Finding] = [f"Splits: {given}."]
    cut = [split for split in ("validation", "test") if split not in names and not evaluated]
    if cut:
        each = " each" if len(cut) > 1 else ""
        remarks.append(f"Cut from the end of train: {' and '.join(cut)}, 10 %{each}.")
    rest = sorted(set(builder.info.splits) - {*names.values(), *further})
    return [*remarks, f"Splits that are not read: {listed(rest)}."] if rest else remarks
