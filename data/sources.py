"""Where data comes from, whatever its kind: bad data, stable splits, TensorFlow Datasets."""

import difflib
import hashlib
import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""What people call the three splits."""
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


def existing(data: str, wanted: str, built_in: Sequence[str]) -> Path:
    """Turns what the user asked for into a path, or says what could have been asked for.

    Args:
        data: What the user asked for, neither built in nor of TensorFlow Datasets.
        wanted: The files that would do.
        built_in: Names of the built-in samples.
    """
    if not Path(data).exists():
        wanted = f"{wanted}, tfds:NAME, or a built-in sample ({', '.join(built_in)})"
        raise BadData(data, [Fault(data, "nothing there", wanted, skippable=False)])
    return Path(data)


def is_hidden(name: str) -> bool:
    """Whether users do not mean a file or folder of this name, which systems put there."""
    return name.startswith((".", "__MACOSX"))


def left_out(data: str, faults: Sequence[Fault], skip_bad: bool) -> int:
    """Counts the examples that go with the faults, or raises where they may not or cannot go.

    Args:
        data: What the user asked for.
        faults: What is wrong with it; may be none.
        skip_bad: Whether what can be left out is left out.
    """
    if any(not fault.skippable for fault in faults) or (faults and not skip_bad):
        raise BadData(data, sorted(faults, key=lambda fault: fault.skippable))
    return sum(fault.examples for fault in faults)


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
        ['train', 'train', 'train', 'test', 'train', 'train']
    """
    position = stable_order(name) / 2**64
    if position < test:
        return "test"
    return "validation" if position < test + validation else "train"


def completed(split: str, name: str, given: Collection[str]) -> str:
    """Chooses the split of an example, where the data does not, by `split_of` its name.

    Args:
        split: train, validation or test, or empty where the data has no splits.
        name: Name of the example; those of one name come into one split.
        given: The splits that the data has. Where train is there and another is missing, that is
            10 % of train.
    """
    if split not in ("", "train"):
        return split
    shares = {other: 0.0 if other in given else 0.1 for other in ("validation", "test")}
    return split_of(name, **shares)


def empty_splits(counts: Mapping[str, int]) -> list[Fault]:
    """Names the splits that no example came into.

    Args:
        counts: Number of examples of each split that has some.
    """
    total = sum(counts.values())
    wanted = "more examples, or a split of your own (train, validation, test)"
    found = f"no example: chance gave it none of the {total}" if total else "no usable example"
    return [
        Fault(f"the {split} set", found, wanted, skippable=False)
        for split in (SPLITS if total else SPLITS[:1])
        if not counts.get(split)
    ]


def watched(items: Iterable[Any], total: int, doing: str) -> Iterator[Any]:
    """Passes batches on and, once that takes over a second, shows on stderr how far it is.

    Args:
        items: Batches; their lengths are what is counted.
        total: Sum of the lengths.
        doing: What is going on, such as "Checking images".
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
            line = f"\r{doing}: {done} of {total}, {rate:.0f}/s, {left:.0f} s left "
            print(line, end="", file=sys.stderr, flush=True)
    if shown != begin:
        print(f"\r{doing}: {done} of {total} in {time.monotonic() - begin:.0f} s", file=sys.stderr)


def tfds_builder(name: str) -> Any:
    """Finds a data set of TensorFlow Datasets, downloading it only if it is not on disk.

    Args:
        name: Such as `fashion_mnist` or `NAME/CONFIG:VERSION`. It lies in, or comes to, the folder
            that the environment variable TFDS_DATA_DIR names, or else ~/tensorflow_datasets.
    """
    import tensorflow_datasets as tfds

    def bad(found: str, wanted: str) -> BadData:
        return BadData(f"tfds:{name}", [Fault(f"tfds:{name}", found, wanted, skippable=False)])

    data_dir = os.environ.get("TFDS_DATA_DIR")
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        near = difflib.get_close_matches(name, tfds.list_builders()) or ["mnist", "fashion_mnist"]
        catalogue = "one of https://www.tensorflow.org/datasets/catalog, such as "
        raise bad("no data set of this name", catalogue + " or ".join(near)) from error
    except (ValueError, AssertionError) as error:
        raise bad(str(error).strip(), "a configuration and version that exist") from error
    if not builder.is_prepared():
        try:
            builder.download_and_prepare()
        except (OSError, ImportError, tfds.download.DownloadError) as error:
            raise bad(
                f"no copy in {builder.data_dir}, and the download failed ({error})",
                "a network, or TFDS_DATA_DIR set to a folder that holds it",
            ) from error
    return builder


def withheld(builder: Any, label: str, decoders: Any = None) -> set[str]:
    """Finds splits whose labels are kept back (-1), as those of GLUE's and ImageNet's tests are.

    Args:
        builder: What `tfds_builder` returned.
        label: The feature that holds the label's number.
        decoders: As in `tfds.load`.
    """

    def kept_back(split: str) -> bool:
        rows = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)
        labels = rows.take(100).map(lambda row: row[label]).as_numpy_iterator()
        return all(number < 0 for number in labels)

    return {split for split in builder.info.splits if kept_back(split)}


def named_splits(builder: Any, unusable: Collection[str] = ()) -> dict[str, str]:
    """Finds which of a data set's splits are train, validation and test, if need be by an alias.

    Args:
        builder: What `tfds_builder` returned.
        unusable: Splits to treat as missing, such as one without labels.
    """
    usable = [split for split in builder.info.splits if split not in unusable]
    known = [split for split in SPLIT_NAMES if split in usable]
    found = {SPLIT_NAMES[split]: split for split in (*known, *(s for s in SPLITS if s in known))}
    if "train" not in found:
        fault = Fault(builder.name, f"only {', '.join(usable)}", "a train split", skippable=False)
        raise BadData(f"tfds:{builder.name}", [fault])
    return found


def tfds_splits(
    builder: Any, decoders: Any = None, unusable: Collection[str] = ()
) -> dict[str, tf.data.Dataset]:
    """Reads the train, validation and test examples, dicts of features, in their stored order.

    A missing validation split (also called dev, val or valid) is the last 10 % of train, a missing
    test split the 10 % before it, so that both stay the same as long as the prepared data set does.

    Args:
        builder: What `tfds_builder` returned.
        decoders: As in `tfds.load`; for instance to skip decoding.
        unusable: Splits to treat as missing, such as one without labels.
    """
    slices = named_splits(builder, unusable)
    left = 100
    for split in ("validation", "test"):
        if split not in slices:
            slices[split] = f"{slices['train']}[{left - 10}%:{left}%]"
            left -= 10
    slices["train"] += f"[:{left}%]"
    return {
        split: builder.as_dataset(split=selected, decoders=decoders, shuffle_files=False)
        for split, selected in slices.items()
    }
