"""Examples split for training, validation and test: the base of what every loader returns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Examples in a stable order, unshuffled.

    A split is a `tf.data.Dataset` of known cardinality or a sequence of examples.

    Args:
        train: Examples to train on.
        validation: Examples to choose by; None if the task has none.
        test: Examples to measure by; None if the task has none.
        other: Further splits by name.
        skipped: Number of bad examples that were left out.
        remarks: What else the user should know about the data: what was read and what was not.
    """

    train: Any
    validation: Any = None
    test: Any = None
    other: Mapping[str, Any] = field(default_factory=dict)
    skipped: int = 0
    remarks: tuple[str, ...] = ()

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

        Of a dataset only these are kept in memory, as NumPy arrays.
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
