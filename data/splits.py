"""Examples split for training, validation and test: the base of what every loader returns."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from data.sources import (
    SPLITS,
    Evaluated,
    Finding,
    evaluated_split,
    listed,
    split_of,
    stable_order,
)

HELD_OUT = 0.1
"""Share of the examples in a validation or test split that the data lacks."""
MOST_BORROWED = 10
"""Maximum number of examples of a class to which a held-out split is filled up."""
MOST_CLASSES = 20
"""Maximum number of classes whose examples a remark usually counts."""


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Examples in a stable order, unshuffled.

    A split is a `tf.data.Dataset` of known cardinality or a sequence of examples.

    Args:
        train: Examples to train on; None if a finished network is evaluated.
        validation: Examples for the choice of the epoch; None if the task has none.
        test: Examples for the scores; None if the task has none.
        other: Further splits by name.
        skipped: Number of bad examples that were left out.
        remarks: Further sentences for the user, such as what was read and what was not.
        checksums: For each split, a number that changes with its examples, if the loader knows one.
            Splits may be missing.
        origins: For each split, the file of each example, and the line if there is one; "" for
            examples that come from no file of the user. Splits may be missing.
    """

    LABELS: ClassVar[str] = ""
    """Name of the field with the names of the labels, in data with labels."""
    train: Any = None
    validation: Any = None
    test: Any = None
    other: Mapping[str, Any] = field(default_factory=dict)
    skipped: int = 0
    remarks: tuple[str, ...] = ()
    checksums: Mapping[str, int] = field(default_factory=dict)
    origins: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def split(self, name: str) -> Any:
        """Returns the examples of a split; raises `ValueError` if there is none of that name."""
        known = {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
            **self.other,
        }
        if known.get(name) is None:
            there = ", ".join(split for split in known if known[split] is not None)
            raise ValueError(f"The splits are {there}. Received: {name!r}")
        return known[name]

    def picked(self, split: str, indices: Iterable[int]) -> list[Any]:
        """Returns the examples at some indices of a split, in the order of the indices.

        If the split is a dataset, only these are kept in memory, as NumPy arrays.
        """
        examples, wanted = self.split(split), list(indices)
        if isinstance(examples, Sequence):
            return [examples[index] for index in wanted]
        kept = {}
        for index, example in enumerate(examples.take(max(wanted, default=-1) + 1)):
            if index in wanted:
                kept[index] = tf.nest.map_structure(lambda tensor: tensor.numpy(), example)
        return [kept[index] for index in wanted]

    def first(self, split: str, count: int) -> list[Any]:
        """Returns the first examples of a split, or all if there are fewer."""
        return self.picked(split, range(min(count, len(self.split(split)))))

    def origin(self, split: str, index: int) -> str:
        """Returns the file of an example, and the line if there is one; "" if there is no file."""
        return self.origins[split][index] if split in self.origins else ""

    def renumbered(self, known: Sequence[str]) -> Self:
        """Renumbers the labels of datasets of `(inputs, labels)`: known ones come first.

        Args:
            known: Names of the first labels, in their order. The others follow.
        """
        names = getattr(self, self.LABELS)
        order = (*known, *(name for name in names if name not in known))
        numbers = tf.constant([order.index(name) for name in names])

        def renumber(inputs, labels):
            return inputs, self._renumbered(labels, numbers)

        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        changes: dict[str, Any] = {
            self.LABELS: order,
            **{name: split and split.map(renumber) for name, split in splits.items()},
            "other": {name: split.map(renumber) for name, split in self.other.items()},
        }
        return replace(self, **changes)

    def _renumbered(self, labels: Any, numbers: tf.Tensor) -> Any:
        """Returns the labels of an example with new numbers, `numbers[i]` for i."""
        # Texts that belong to no class have the label -1.
        return tf.where(labels < 0, labels, tf.gather(numbers, tf.maximum(labels, 0)))

    def counted(self, what: str) -> str:
        """Describes how many examples there are.

        Args:
            what: Name of an example in the plural.

        Example:
            >>> Splits(train=[1, 2, 3], test=[4], skipped=1).counted("images")
            '3 training, 1 test images; 1 bad example was left out'
        """
        named = {"training": self.train, "validation": self.validation, "test": self.test}
        counts = [f"{len(split):,} {name}" for name, split in named.items() if split is not None]
        text = f"{', '.join(counts)} {what}"
        if not self.skipped:
            return text
        many = "example was" if self.skipped == 1 else "examples were"
        return f"{text}; {self.skipped:,} bad {many} left out"


@dataclass(frozen=True, kw_only=True)
class ClassSplits(Splits):
    """Examples with one class each: the splits are datasets of `(features, label: int32 ())`.

    Args:
        classes: Name of each label.
    """

    LABELS = "classes"
    classes: tuple[str, ...]

    def class_weights(self, kind: str, rows: np.ndarray | None = None) -> list[float] | None:
        """Returns the weight of each class in a loss.

        Args:
            kind: `none` for None; or `balanced`, which gives each class the same total weight:
                `n / (k * n_c)`, where n_c of the n training examples are of one of the k classes.
            rows: Number of rows of each training example, if that is not 1: rows are counted.
        """
        if kind == "none":
            return None
        labels = self.train.map(lambda example, label: label).batch(4096).as_numpy_iterator()
        numbers = np.concatenate(list(labels))
        counts = np.bincount(numbers, rows, minlength=len(self.classes))
        return (counts.sum() / (len(counts) * np.maximum(counts, 1))).tolist()

    def of_each_class(self, split: str, count: int) -> list[Any]:
        """Returns the first examples of each class, or of the first classes, class by class.

        Args:
            split: Name of a split; only its first 2,000 examples are considered.
            count: Maximum number of examples.
        """
        each = max(1, count // len(self.classes))
        found: dict[int, list[Any]] = defaultdict(list)
        for features, label in self.split(split).take(2000).as_numpy_iterator():
            if len(found[int(label)]) < each:
                found[int(label)].append((features, label))
        return [example for label in sorted(found) for example in found[label]][:count]


def shares(given: Collection[str]) -> dict[str, float]:
    """Returns the fraction of the examples that each held-out split takes from train.

    Args:
        given: The splits that the data has.
    """
    return {split: 0.0 if split in given else HELD_OUT for split in ("validation", "test")}


def chosen_by_hash(given: Collection[str]) -> list[Finding]:
    """Says which splits Hornbook makes.

    Args:
        given: The splits that the data has.
    """
    made = [split for split, share in shares(given).items() if share]
    each = " each" if len(made) > 1 else ""
    share = f"about {100 * HELD_OUT:.0f} %{each}"
    return [f"Chosen by a hash: {' and '.join(made)}, {share}."] if made else []


def dealt(
    examples: Iterable[tuple[str, str, Any]], evaluated: Evaluated | None = None
) -> tuple[dict[str, list[Any]], list[Finding]]:
    """Divides examples into splits; a hash of the names decides where the data does not.

    Adding examples never moves an old one. Examples with the same name get the same split.

    Args:
        examples: Triples of the split (empty if the data does not say), the name and the example.
        evaluated: If a finished network is evaluated: there is only a test split, which
            `evaluated_split` chooses. None: to train.
    """
    examples = list(examples)
    if evaluated:
        chosen, remark = evaluated_split(Counter(split for split, _, _ in examples))
        return {"test": [one for split, _, one in examples if chosen in ("", split)]}, [remark]
    given = {split for split, _, _ in examples}
    splits: dict[str, list[Any]] = {split: [] for split in SPLITS}
    for split, name, example in examples:
        if split in ("", "train"):
            split = split_of(name, **shares(given))
        splits[split].append(example)
    return splits, chosen_by_hash(given)


def stratified(classes: Mapping[str, str], given: Collection[str]) -> dict[str, str]:
    """Chooses the split of contents by a hash, and ensures that each split has all classes.

    A hash of the content decides, as in `split_of`. That alone may leave a small class without
    test examples. So each split that is made gets at least a tenth of a class, rounded down, but
    no fewer than 1 and no more than `MOST_BORROWED`; train keeps half of the class. Missing
    examples are borrowed from the split that can spare most, again chosen by a hash. A class with
    too few contents for that stays in train.

    Equal contents are one key, so they share a split. If the hash gives each split enough of a
    class, adding examples never moves an old one. That is so for nearly all classes of more than
    200 contents (the chance that a split gets fewer than 10 of 200 is 0.4 %). In smaller classes
    an added example may move a borrowed one: a rule that forbids that could not guarantee that
    each class is in each split.

    Args:
        classes: Class of each content.
        given: The splits that the data has.
    """
    taken = shares(given)
    members = defaultdict(list)
    for content, label in classes.items():
        members[label].append(content)
    splits = {content: split_of(content, **taken) for content in classes}
    for contents in members.values():
        made = [split for split in taken if taken[split]]
        enough = min(MOST_BORROWED, max(1, int(HELD_OUT * len(contents))))
        least = {split: enough if len(contents) > len(made) else 0 for split in made}
        least["train"] = max(1, len(contents) // 2)
        counts = Counter(splits[content] for content in contents)
        for split in least:
            while counts[split] < least[split]:
                spare = max(least, key=lambda other: counts[other] - least[other])
                able = [content for content in contents if splits[content] == spare]
                borrowed = min(able, key=lambda content: stable_order(f"{split} {content}"))
                splits[borrowed] = split
                counts.update({split: 1, spare: -1})
    return splits


def shared(contents: Mapping[str, Mapping[str, str]], what: str) -> list[Finding]:
    """Names contents that are in two splits.

    Args:
        contents: For each split, the contents, each with the text that shows it.
        what: Name of the contents in the plural.

    Example:
        >>> shared({"train": {"a": "a", "b": "b"}, "test": {"b": "b"}}, "texts")
        ["In test, 1 of 1 different texts is also in train, such as 'b'."]
    """
    remarks: list[Finding] = []
    for one, other in combinations([split for split in SPLITS if split in contents], 2):
        both = [text for content, text in contents[other].items() if content in contents[one]]
        if both:
            are = "is" if len(both) == 1 else "are"
            example = both[0] if len(both[0]) <= 60 else f"{both[0][:60]}..."
            remarks.append(
                f"In {other}, {len(both):,} of {len(contents[other]):,} different {what} {are} "
                f"also in {one}, such as {example!r}."
            )
    return remarks


def by_class(labels: Mapping[str, Mapping[str, int]], most: int = MOST_CLASSES) -> list[Finding]:
    """Counts the examples of each class, and names the classes without test examples.

    Args:
        labels: For each split, the number of examples of each class.
        most: Maximum number of classes whose examples are counted.

    Example:
        >>> by_class({"train": {"a": 1200, "b": 9}, "test": {"b": 2}})
        ['Classes (train, test): a (1,200, 0), b (9, 2).', 'Classes without test examples: a.']
    """
    classes = sorted({label for counts in labels.values() for label in counts})
    rows = [
        f"{label} ({', '.join(f'{counts.get(label, 0):,}' for counts in labels.values())})"
        for label in classes
    ]
    few = f"Classes ({', '.join(labels)}): {', '.join(rows)}."
    remarks: list[Finding] = [few if len(rows) <= most else f"{len(rows):,} classes."]
    untested = [label for label in classes if "test" in labels and not labels["test"].get(label)]
    if untested:
        remarks.append(f"Classes without test examples: {listed(untested)}.")
    return remarks
