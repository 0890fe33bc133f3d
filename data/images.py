"""Images with one class each: user files, TensorFlow Datasets or a built-in sample."""

import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from data.labeled_files import divided, labeled_files, refuse_groups, without_conflicts
from data.sources import (
    SPLITS,
    BadData,
    Evaluated,
    Fault,
    Finding,
    empty_splits,
    evaluated_split,
    existing,
    labeled_rows,
    number_of,
    reported,
    stable_order,
    tfds_builder,
    tfds_remarks,
    tfds_splits,
    unlabeled_rows,
    watched,
    withheld,
)
from data.splits import ClassSplits
from preprocessing import exif
from preprocessing.images import FORMATS, UNKNOWN, decoded, kind

BUILT_IN = ("digits",)

SAMPLE_SIZE = (28, 28)
"""Size of the built-in sample, the size that LeNet-5 was made for."""

LARGEST_OWN_SIZE = (224, 224)
"""If all images share a size up to this one, they keep it; otherwise they get this size."""

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")
OTHER_SUFFIXES = (".avif", ".heic", ".heif", ".tif", ".tiff")
"""Suffixes of images that TensorFlow cannot decode. They are bad examples, not ignored files."""


@dataclass(frozen=True, kw_only=True)
class Images(ClassSplits):
    """Encoded images with class numbers, in a stable order.

    The splits are datasets of `(encoded bytes: string (), label: int32 ())`.

    Args:
        input_shape: `(height, width, channels)` that a network should take, in pixels.
    """

    input_shape: tuple[int, int, int]


def load(
    data: str,
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    group: str | None = None,
    skip_bad: bool = False,
    evaluated: Evaluated | None = None,
) -> Images:
    """Loads, checks and splits the images that `data` names.

    User files are JPEG, PNG, BMP, GIF or WebP. Each is decoded once for the check, in parallel.
    One `BadData` reports all problems: unreadable files, the same image in two classes, empty
    classes and so on. `data.labeled_files` describes the layout of folders and CSV files, and how
    they are split. The examples are sorted by a hash of their names, which mixes the classes.

    Args:
        data: `digits` (`./digits` for a folder of that name), `tfds:NAME`, the path of a folder
            with one sub-folder per class, or the path of a CSV file with columns path and label.
        image_size: `(height, width)` for the network in pixels. None: the size of the images if
            they share one of at most 224 x 224, else 224 x 224; 28 x 28 for `digits`.
        channels: 1 (grayscale) or 3 (color). None: 1 if all images are grayscale, else 3.
        group: Column or folder level of groups that must share a split, as in `labeled_files`.
        skip_bad: Whether to skip and count bad files instead of raising.
        evaluated: As in `data.splits.dealt`.
    """
    if image_size is not None and min(image_size) < 1:
        raise ValueError(f"`image_size` must be positive. Received: image_size={image_size}")
    if channels not in (None, 1, 3):
        raise ValueError(f"`channels` must be 1, 3 or None. Received: channels={channels}")
    refuse_groups(data, BUILT_IN, group)
    if data == "digits":
        return _digits(image_size or SAMPLE_SIZE, channels or 1, skip_bad, evaluated)
    if data.startswith("tfds:"):
        name = data.removeprefix("tfds:")
        return _from_tfds(name, image_size, channels, skip_bad, evaluated)
    existing(data, "a folder, a .csv file", BUILT_IN)
    return _from_files(data, image_size, channels, group, skip_bad, evaluated)


def _from_tfds(
    name: str,
    image_size: tuple[int, int] | None,
    channels: int | None,
    skip_bad: bool,
    evaluated: Evaluated | None,
) -> Images:
    """Reads the encoded images of TensorFlow Datasets without decoding them."""
    import tensorflow_datasets as tfds

    builder = tfds_builder(name)
    features = builder.info.features
    image = _feature(builder, tfds.features.Image)
    label = _feature(builder, tfds.features.ClassLabel)
    decoders = {image: tfds.decode.SkipDecoding()}
    unlabeled = withheld(builder, label, decoders)
    splits = tfds_splits(builder, decoders, unlabeled, evaluated)
    names = features[label].names
    known = evaluated or Evaluated(tuple(names))
    numbers, findings = known.numbers(names), tfds_remarks(builder, unlabeled, (), evaluated)
    splits, found = labeled_rows(splits, lambda row: number_of(row[label], numbers))
    findings += unlabeled_rows(names, found) + known.unknown_rows(names, found)
    findings += empty_splits({split: len(rows) for split, rows in splits.items()}, evaluated)
    height, width, stored_channels = features[image].shape
    if image_size is None:
        same = height and width and max(height, width) <= max(LARGEST_OWN_SIZE)
        image_size = (height, width) if same else LARGEST_OWN_SIZE
    return Images(
        **{
            split: rows.map(
                lambda row: (row[image], number_of(row[label], numbers)),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            for split, rows in splits.items()
        },
        classes=known.labels,
        input_shape=(*image_size, channels or (1 if stored_channels == 1 else 3)),
        **reported(f"tfds:{name}", findings, skip_bad),
    )


def _feature(builder: Any, kind: type) -> str:
    """Chooses the only feature of a kind, or the one among the dataset's supervised keys."""
    features = builder.info.features
    names = [name for name in sorted(features) if isinstance(features[name], kind)]
    supervised = [name for name in names if name in (builder.info.supervised_keys or ())]
    if len(supervised or names) != 1:
        data = f"tfds:{builder.name}"
        received = f"the features {', '.join(f'{name}: {features[name]}' for name in features)}"
        expected = "one feature with images and one with classes"
        raise BadData(data, [Fault(data, received, expected, skippable=False)])
    return (supervised or names)[0]


def _from_files(
    data: str,
    image_size: tuple[int, int] | None,
    channels: int | None,
    group: str | None,
    skip_bad: bool,
    evaluated: Evaluated | None,
) -> Images:
    listed, faults = labeled_files(data, SUFFIXES, OTHER_SUFFIXES, group, evaluated)
    seen = inspected([file.path for file in listed], len(listed), tf.io.read_file)
    rows: dict[str, np.ndarray] = {}
    for file, row in zip(listed, seen, strict=True):
        if row is not None:
            rows[file.where] = row[:4]
    bad = [file for file in listed if file.where not in rows]
    faults += unreadable([(file.where, file.path) for file in bad])
    good = [file for file in listed if file.where in rows]
    kept, conflicts = without_conflicts(good, [rows[file.where][0] for file in good])
    kept, missing = divided(kept, evaluated)
    faults = faults + conflicts + missing
    said = reported(data, faults, skip_bad)

    _, heights, widths, has_color = np.array([rows[file.where] for file in kept]).T
    classes = evaluated.labels if evaluated else sorted({file.label for file in kept})
    splits = [split for split in SPLITS if split == "test" or not evaluated]
    if image_size is None:
        same = np.ptp(heights) == 0 and np.ptp(widths) == 0
        own = (int(heights[0]), int(widths[0]))
        image_size = own if same and max(own) <= max(LARGEST_OWN_SIZE) else LARGEST_OWN_SIZE
    kept.sort(key=lambda file: stable_order(file.name))

    def chosen(split: str) -> tf.data.Dataset:
        paths = [file.path for file in kept if file.split == split]
        labels = [classes.index(file.label) for file in kept if file.split == split]
        return tf.data.Dataset.from_tensor_slices((paths, np.array(labels, np.int32))).map(
            lambda path, label: (tf.io.read_file(path), label), num_parallel_calls=tf.data.AUTOTUNE
        )

    def checksum(split: str) -> int:
        facts = [(one.where, one.label, *rows[one.where]) for one in kept if one.split == split]
        return zlib.crc32(repr([tuple(map(str, one)) for one in facts]).encode())

    return Images(
        **{split: chosen(split) for split in splits},
        origins={split: [one.where for one in kept if one.split == split] for split in splits},
        checksums={split: checksum(split) for split in splits},
        classes=tuple(classes),
        input_shape=(*image_size, channels or (3 if np.any(has_color) else 1)),
        **said,
    )


def inspected(
    images: Iterable[Any], count: int, read: Callable[[Any], tf.Tensor] = tf.identity
) -> list[np.ndarray | None]:
    """Reads and decodes every image.

    Args:
        images: Paths or encoded images.
        count: Their number.
        read: From one of them to the encoded image.

    Returns:
        For each image, a hash of its content, its upright height and width, 1 if it has color, and
        its EXIF orientation; None if bad.
    """

    def inspect(image):
        try:
            with tf.device("CPU"):
                return _facts(read(image)).numpy()
        except tf.errors.ResourceExhaustedError:
            raise
        except tf.errors.OpError:
            return None

    def batches(pool):
        left = iter(images)
        while batch := list(islice(left, 64)):
            yield list(pool.map(inspect, batch))

    # Threads start at once. A dataset would take a third of a second, and is no faster.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seen = watched(batches(pool), count, "Checking images")
        return [row for batch in seen for row in batch]


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def _facts(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one image; returns what `inspected` describes, int64 `(5,)`."""
    content = tf.raw_ops.Fingerprint(data=[encoded], method="farmhash64")[0]
    orientation = exif.orientation(encoded, kind(encoded))
    is_jpeg = tf.io.is_jpeg(encoded)
    # Decoding at an eighth of the size takes half the time and still reads every byte.
    pixels = tf.cond(is_jpeg, lambda: tf.io.decode_jpeg(encoded, ratio=8), lambda: decoded(encoded))

    def jpeg_size():
        stored = tf.image.extract_jpeg_shape(encoded)[:2]
        return tf.where(exif.is_lying(orientation), stored[::-1], stored)

    size = tf.cond(is_jpeg, jpeg_size, lambda: tf.shape(pixels)[:2])
    has_color = tf.reduce_any(pixels[..., :3] != pixels[..., :1]) & (tf.shape(pixels)[2] > 2)
    facts = tf.concat([size, [tf.cast(has_color, tf.int32), orientation]], axis=0)
    return tf.concat([tf.bitcast(content, tf.int64)[None], tf.cast(facts, tf.int64)], axis=0)


def unreadable(bad: Sequence[tuple[str, str]]) -> list[Finding]:
    """Describes images that could not be decoded; those to convert are grouped by suffix.

    Args:
        bad: Where each image is, for messages, and its path.
    """
    similar: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for where, path in bad:
        received, fix = _received(Path(path))
        ending = Path(path).suffix.lower()
        together = ending in OTHER_SUFFIXES and fix
        similar[(received, fix, ending if together else where)].append(where)
    faults: list[Finding] = []
    for (received, fix, ending), wheres in similar.items():
        where = wheres[0]
        if ending in OTHER_SUFFIXES:
            if len(wheres) > 1:
                where, fix = f"{where} and {len(wheres) - 1} more with {ending}", "convert each"
            fix += f" (`magick mogrify -format jpg *{ending}`) and remove the original"
        expected = "a complete JPEG, PNG, BMP, GIF or WebP image"
        faults.append(Fault(where, received, expected, fix, examples=len(wheres)))
    return faults


def _received(path: Path) -> tuple[str, str]:
    """Describes a file that could not be decoded, and says how to correct that."""
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except FileNotFoundError:
        return "no such file", ""
    except OSError as error:
        return f"a file that cannot be read ({error.strerror})", ""
    if not head:
        return "an empty file", ""
    name = kind(head).numpy().decode()
    if name in FORMATS:
        return f"a truncated, damaged or unusual {name} image", ""
    if name != UNKNOWN:
        return name, "convert it"
    try:
        head[:64].decode()
    except UnicodeDecodeError:
        return name, ""
    return "text", ""


def suffix(image_bytes: bytes) -> str:
    """Returns the usual suffix of an image's format, such as `.png`."""
    name = kind(image_bytes).numpy().decode()
    return f".{name.lower()}" if name in FORMATS else ""


def sample_digits() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Splits scikit-learn's 1797 handwritten digits (8 x 8 pixels, levels 0 to 16).

    The test and validation splits get 27 images of each digit, 270 in total. The training split
    gets the other 1257. A hash of each image's index in scikit-learn decides.

    Returns:
        Images uint8 `(1797, 8, 8, 1)`, the digits, and the indices of each split in a stable order.
    """
    from sklearn.datasets import load_digits

    levels, labels = load_digits(return_X_y=True)
    pixels = np.round(levels.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    order = np.array(sorted(range(len(labels)), key=lambda index: stable_order(f"digits/{index}")))
    # Rank of each digit among those of its class, in the order above.
    ranks = np.zeros(len(labels), int)
    for label in range(10):
        ranks[order[labels[order] == label]] = np.arange(np.sum(labels == label))
    ends = {"train": (54, len(labels)), "validation": (27, 54), "test": (0, 27)}
    rows = {
        split: order[(ranks[order] >= first) & (ranks[order] < last)]
        for split, (first, last) in ends.items()
    }
    return pixels, labels, rows


def _digits(
    image_size: tuple[int, int], channels: int, skip_bad: bool, evaluated: Evaluated | None
) -> Images:
    pixels, labels, rows = sample_digits()
    names = tuple(str(digit) for digit in range(10))
    known = evaluated or Evaluated(names)
    numbers = known.numbers(names).numpy()[labels]
    findings: list[Finding] = []
    if evaluated:
        split, remark = evaluated_split({split: len(some) for split, some in rows.items()})
        rows, findings = {split: rows[split]}, [remark]

    def chosen(split: str) -> tf.data.Dataset:
        indices = rows[split][numbers[rows[split]] >= 0]
        return tf.data.Dataset.from_tensor_slices((pixels[indices], numbers[indices])).map(
            lambda image, label: (tf.io.encode_png(image), label)
        )

    found = {split: numbers[some] for split, some in rows.items()}
    findings += known.unknown_rows(names, found)
    usable = {split: int(np.sum(some >= 0)) for split, some in found.items()}
    findings += empty_splits(usable, evaluated)
    return Images(
        **{split: chosen(split) for split in rows},
        classes=known.labels,
        input_shape=(*image_size, channels),
        **reported("digits", findings, skip_bad),
    )
