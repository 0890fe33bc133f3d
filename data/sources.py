"""Where data comes from, whatever its kind: bad data, stable splits, TensorFlow Datasets."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")
MOST_LISTED = 10


@dataclass(frozen=True)
class Fault:
    """One thing wrong with the data.

    Args:
        place: File and line, or image, relative to the data.
        found: What is there.
        wanted: What should be there.
        skippable: Whether leaving it out mends it.
        examples: How many examples go when it is left out.
    """

    place: str
    found: str
    wanted: str
    skippable: bool = True
    examples: int = 1


class BadData(ValueError):
    """Says at once all that is wrong with the user's data, up to ten places by name.

    Args:
        data: What the user asked for.
        faults: What is wrong with it; at least one.
    """

    def __init__(self, data: str, faults: Sequence[Fault]):
        self.faults = tuple(faults)
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        listed = f", the first {MOST_LISTED}" if len(faults) > MOST_LISTED else ""
        lines = [f"{data} cannot be used: {count}{listed}:"]
        lines += [f"  {f.place}: found {f.found}; wanted {f.wanted}" for f in faults[:MOST_LISTED]]
        if all(fault.skippable for fault in faults):
            lines.append("Mend or remove them, or leave them out with --skip-bad.")
        super().__init__("\n".join(lines))


def stable_order(name: str) -> int:
    """Places a name among all names, by a hash: evenly spread, the same for ever."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def split_of(name: str, validation: float = 0.1, test: float = 0.1) -> str:
    """Chooses train, validation or test for an example by a hash of its name alone.

    More examples never move an old one to another split.

    Args:
        name: Name of the example, such as its path relative to the data's folder.
        validation: Share of the examples to validate on, in [0, 1).
        test: Share of the examples to test on, in [0, 1).

    Example:
        >>> [split_of(f"cat/{i}.jpg") for i in range(6)]
        ['train', 'train', 'train', 'train', 'train', 'train']
    """
    position = stable_order(name) / 2**64
    if position < test:
        return "test"
    return "validation" if position < test + validation else "train"
