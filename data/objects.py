"""Objects in images: user files in five formats, TensorFlow Datasets or a built-in sample."""

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf

from data import box_tables, coco, mask_images, object_masks, tfds_objects, voc, yolo
from data.annotations import CROWD, PADDING, AnnotatedImage, CheckedImage, Object, checked
from data.scenes import SIZE, scenes
from data.sources import (
    SPLITS,
    BadData,
    Evaluated,
    Fault,
    Finding,
    empty_splits,
    evaluated_split,
    existing,
    reported,
    stable_order,
)
from data.splits import Splits, by_class, chosen_by_hash, shared, stratified

BUILT_IN = ("digits",)
FORMATS = {"voc": voc, "coco": coco, "yolo": yolo, "csv": box_tables, "masks": mask_images}
"""The module that reads each format of files."""
LARGEST_SIDE = 640
"""Maximum height and width of the size that is chosen for a network, in pixels."""
SIDES_OF = 32
"""The height and width that are chosen are divisible by this."""
MOST_CLASSES = 100
"""Maximum number of classes whose objects a remark counts: those of COCO fit."""
LEAST_DETECTIONS = 100
"""Minimum number of detections that a network may return per image."""


@dataclass(frozen=True, kw_only=True)
class Objects(Splits):
    """Encoded images with objects, in a stable order.

    The splits are datasets of `(encoded bytes: string (), objects)`. `objects` is a dict whose
    tensors are padded to `max_objects`:

    - `boxes` float32 `(max_objects, 4)`: xmin, ymin, xmax, ymax in pixels of the upright image.
      Pixel (0, 0) is the square from 0 to 1.
    - `classes` int32 `(max_objects,)`: an index of `classes`.
    - `kind` int32 `(max_objects,)`: 0 padding, 1 object, 2 difficult object (trains, but VOC's
      evaluation ignores it), 3 crowd (a region to ignore).
    - `masks` uint8 `(max_objects, 112, 112)` in {0, 1}, cut to the boxes, if `has_masks`.

    Args:
        classes: Names of the classes.
        image_size: `(height, width)` that a network should take, in pixels.
        sides: Maximum lengths of the shortest and of the longest side of a resized image, in
            pixels. None: as large as fits `image_size`.
        max_objects: Number of objects to which an image is padded.
        has_masks: Whether objects have masks.
        max_detections: Number of detections that a network should return per image.
        num_proposals: Number of the boxes `proposals` `(num_proposals, 4)` that
            `data.proposals.with_proposals` adds to the objects of an image; 0 without them.
        train_boxes: float32 `(boxes, 4)`: those of the training objects without crowds, in pixels
            of the image after it was resized to fit `image_size`.
        train_classes: int32 `(boxes,)`, the class of each of these.
    """

    LABELS = "classes"
    classes: list[str]
    image_size: tuple[int, int]
    max_objects: int
    has_masks: bool
    max_detections: int
    sides: tuple[int, int] | None = None
    num_proposals: int = 0
    train_boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    train_classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))

    def renumbered(self, known: Sequence[str]) -> Self:
        renumbered = super().renumbered(known)
        numbers = np.array([renumbered.classes.index(name) for name in self.classes], np.int32)
        return replace(renumbered, train_classes=numbers[self.train_classes])

    def _renumbered(self, labels: Any, numbers: tf.Tensor) -> Any:
        classes = tf.gather(numbers, labels["classes"])
        return {**labels, "classes": tf.where(labels["kind"] == PADDING, 0, classes)}


def load(
    data: str,
    *,
    format: str | None = None,
    masks: bool = False,
    image_size: tuple[int, int] | None = None,
    sides: tuple[int, int] | None = None,
    max_detections: int | None = None,
    skip_bad: bool = False,
    evaluated: Evaluated | None = None,
) -> Objects:
    """Loads, checks and splits the images that `data` names, with their objects.

    Each image is decoded once for the check, in parallel. One `BadData` reports all problems. A
    broken box costs the box, not its image. Splits that the data lacks are chosen by a hash of the
    images' contents.

    Args:
        data: `digits` (`./digits` for a folder of that name), `tfds:NAME`, or the path of a folder
            or file in one of `FORMATS`.
        format: One of `FORMATS`. None: found from the files.
        masks: Whether to read masks; data without masks is then refused.
        image_size: `(height, width)` for the network in pixels. None: the median height and width
            of the training images, reduced to at most 640, rounded to a multiple of 32; with
            `sides` what all training images fit.
        sides: As in `Objects`.
        max_detections: Number of detections that a network should return per image. None: twice
            the number of objects in most training images, at least 100.
        skip_bad: Whether to leave out bad images and objects instead of raising.
        evaluated: As in `data.splits.dealt`.
    """
    if format not in (None, *FORMATS):
        known = ", ".join(FORMATS)
        raise ValueError(f"`format` must be one of {known} or None. Received: format={format!r}")
    if image_size is not None and min(image_size) < 1:
        raise ValueError(f"`image_size` must be positive. Received: image_size={image_size}")
    images: Sequence[CheckedImage]
    encoded: Mapping[str, tf.data.Dataset] | None = None
    if data == "digits":
        images, encoded = _digits(masks, evaluated)
        findings: list[Finding] = []
        classes: Sequence[str] = [str(digit) for digit in range(10)]
    elif data.startswith("tfds:"):
        read, encoded = tfds_objects.read(data.removeprefix("tfds:"), masks, evaluated)
        images, encoded, found = _checked_rows(read.images, encoded)
        findings, classes = read.findings + found, read.classes
    else:
        existing(data, "a folder or file with annotated images", BUILT_IN)
        read = FORMATS[_format_of(data, format)].read(Path(data), evaluated)
        seen, found = checked(read.images, None, masks)
        images = [image for image in seen if image]
        images.sort(key=lambda image: stable_order(image.where))
        findings, classes = read.findings + found, read.classes
    splits, said = _divided(images, evaluated)
    findings += said
    names, splits, said = _known_classes(classes, splits, evaluated)
    findings += said
    findings += empty_splits({split: len(some) for split, some in splits.items()}, evaluated)
    fields = reported(data, findings, skip_bad)
    return _made(splits, encoded, names, masks, image_size, sides, max_detections, fields)


def _format_of(data: str, format: str | None) -> str:
    """Finds the format from the files; raises `BadData` unless it is exactly one."""
    known = {name: module for name, module in FORMATS.items() if format in (None, name)}
    fits = [name for name, module in known.items() if module.is_format(Path(data))]
    if len(fits) != 1:
        received = f"files of {' and '.join(fits)}" if fits else "no such files"
        expected = f"annotations in one format ({', '.join(known)})"
        fix = "choose one with --format" if fits else ""
        raise BadData(data, [Fault(data, received, expected, fix, skippable=False)])
    return fits[0]


def _checked_rows(
    images: Sequence[AnnotatedImage], encoded: Mapping[str, tf.data.Dataset]
) -> tuple[list[CheckedImage], dict[str, tf.data.Dataset], list[Finding]]:
    """Checks the images of each split, and leaves out the bad ones of its encoded images, too."""
    kept: list[CheckedImage] = []
    usable, findings = {}, list[Finding]()
    for split, rows in encoded.items():
        some = [image for image in images if image.split == split]
        seen, found = checked(some, rows, masks=False)
        good = [image for image in seen if image]
        is_good = tf.data.Dataset.from_tensor_slices([image is not None for image in seen])
        rows = tf.data.Dataset.zip(rows, is_good).filter(lambda _, good: good)
        usable[split] = rows.map(lambda image_bytes, _: image_bytes).apply(
            tf.data.experimental.assert_cardinality(len(good))
        )
        kept += good
        findings += found
    return kept, usable, findings


def _digits(
    masks: bool, evaluated: Evaluated | None
) -> tuple[list[CheckedImage], dict[str, tf.data.Dataset]]:
    """Composes the scenes of the splits that are needed."""
    images, encoded = [], {}
    for split in ("test",) if evaluated else SPLITS:
        pixels = []
        for number, scene in enumerate(scenes(split)):
            where = f"{split} scene {number}"
            objects = [
                Object(
                    f"{where} object {place}",
                    str(digit),
                    box,
                    mask=object_masks.packed(object_masks.cut(mask, box)) if masks else b"",
                )
                for place, (digit, box, mask) in enumerate(
                    zip(scene.digits, scene.boxes, scene.masks, strict=True)
                )
            ]
            images.append(CheckedImage("", where, split, tuple(objects), (SIZE, SIZE), where))
            pixels.append(scene.pixels)
        encoded[split] = tf.data.Dataset.from_tensor_slices(np.stack(pixels)).map(
            tf.io.encode_png, num_parallel_calls=tf.data.AUTOTUNE
        )
    return images, encoded


def _divided(
    images: Sequence[CheckedImage], evaluated: Evaluated | None
) -> tuple[dict[str, list[CheckedImage]], list[Finding]]:
    """Divides images into splits. A hash decides where the data does not, stratified by the rarest
    class in each image."""
    if evaluated:
        chosen, remark = evaluated_split(Counter(image.split for image in images))
        return {"test": [one for one in images if chosen in ("", one.split)]}, [remark]
    given = {image.split for image in images}
    counts = Counter(label for image in images for label in _labels(image))
    rarest = {
        image.content: min(_labels(image), key=lambda label: (counts[label], label), default="")
        for image in images
        if image.split in ("", "train")
    }
    chosen_splits = stratified(rarest, given)
    splits: dict[str, list[CheckedImage]] = {split: [] for split in SPLITS}
    for image in images:
        loose = image.split in ("", "train")
        splits[chosen_splits[image.content] if loose else image.split].append(image)
    contents = {
        split: {image.content: image.where for image in some} for split, some in splits.items()
    }
    return splits, chosen_by_hash(given) + shared(contents, "images")


def _labels(image: CheckedImage) -> set[str]:
    return {one.label for one in image.objects}


def _known_classes(
    declared: Sequence[str], splits: dict[str, list[CheckedImage]], evaluated: Evaluated | None
) -> tuple[list[str], dict[str, list[CheckedImage]], list[Finding]]:
    """Chooses the classes, and leaves out objects of others.

    Args:
        declared: The classes in their order, if the data declares them.
        splits: The images of each split.
        evaluated: As in `data.splits.dealt`: then the classes are those that the network knows.

    Returns:
        The classes, the images and the findings.
    """
    findings: list[Finding] = []
    if evaluated:
        classes = [*evaluated.labels]
        findings += evaluated.unknown((one.label, one.where) for one in _objects(splits["test"]))
    else:
        trained = {one.label for one in _objects(splits["train"]) if one.kind != CROWD}
        found = sorted({one.label for some in splits.values() for one in _objects(some)})
        classes = [name for name in dict.fromkeys([*declared, *found]) if name in trained]
        if unused := [name for name in dict.fromkeys(declared) if name not in found]:
            findings.append(f"Classes without objects: {', '.join(unused)}.")
        for name in found:
            if name not in trained:
                expected = "at least one training object"
                fix = "add images, or provide a split"
                received = "no object in the training split"
                findings.append(Fault(f"class {name!r}", received, expected, fix))
        if not classes:
            expected = "at least one training object"
            fault = Fault("the training split", "no object", expected, skippable=False)
            findings.append(fault)
    kept = {
        split: [
            replace(one, objects=tuple(thing for thing in one.objects if thing.label in classes))
            for one in some
        ]
        for split, some in splits.items()
    }
    counts = {split: Counter(one.label for one in _objects(some)) for split, some in kept.items()}
    by_name = {split: {name: count[name] for name in classes} for split, count in counts.items()}
    return classes, kept, findings + by_class(by_name, MOST_CLASSES)


def _objects(images: Iterable[CheckedImage]) -> list[Object]:
    return [one for image in images for one in image.objects]


def _made(
    splits: Mapping[str, Sequence[CheckedImage]],
    encoded: Mapping[str, tf.data.Dataset] | None,
    classes: Sequence[str],
    masks: bool,
    image_size: tuple[int, int] | None,
    sides: tuple[int, int] | None,
    max_detections: int | None,
    fields: Mapping[str, Any],
) -> Objects:
    """Makes the datasets and measures the training images (those to evaluate, if there are none).

    Args:
        splits: The images of each split.
        encoded: Their encoded bytes; None to read their files.
        classes: Names of the classes.
        masks: Whether there are masks.
        image_size: As in `load`.
        sides: As in `load`.
        max_detections: As in `load`.
        fields: From `reported`.
    """
    measured = splits.get("train") or splits["test"]
    sizes = np.array([image.size for image in measured])
    # By how much each image may grow; without `sides` only `image_size` limits it.
    limits = np.min(np.array(sides or np.inf) / np.sort(sizes, axis=1), axis=1)
    if sides and not image_size:
        largest = np.max(np.round(sizes * limits[:, None]), axis=0).astype(int)
        height, width = (-(-side // SIDES_OF) * SIDES_OF for side in largest.tolist())
        image_size = height, width
    image_size = image_size or _size(np.median(sizes, axis=0))
    scales = np.minimum(np.min(np.array(image_size) / sizes, axis=1), limits)
    counts = np.array([len(image.objects) for image in measured])
    most = max(len(image.objects) for some in splits.values() for image in some)
    max_objects = max(1, -(-most // 8)) * 8
    if max_detections is None:
        max_detections = max(LEAST_DETECTIONS, int(np.ceil(2 * np.percentile(counts, 99))))
    boxes = [
        (one.box * scale, one.label)
        for image, scale in zip(measured, scales, strict=True)
        for one in image.objects
        if one.kind != CROWD
    ]
    train_boxes = np.array([box for box, _ in boxes], np.float32).reshape(-1, 4)
    height, width = image_size
    remarks = [
        f"Size for the network: {height} x {width} pixels (height x width); the images have "
        f"{_range(sizes[:, 0])} x {_range(sizes[:, 1])}.",
        f"Objects per image: {_range(counts)}, padded to {max_objects}; {np.sum(counts == 0):,} of "
        f"{len(counts):,} images have none. At most {max_detections} detections are returned.",
    ]
    if len(boxes):
        roots = np.sqrt(np.prod(train_boxes[:, 2:] - train_boxes[:, :2], axis=1))
        low, middle, high = np.percentile(roots, [5, 50, 95])
        remarks.append(
            f"Square root of the area of a box, in pixels of the network: median {middle:.0f}, "
            f"5 % are below {low:.0f}, 5 % above {high:.0f}."
        )
    return Objects(
        **{
            split: _dataset(some, encoded and encoded[split], classes, max_objects, masks)
            for split, some in splits.items()
        },
        classes=[*classes],
        image_size=image_size,
        sides=sides,
        max_objects=max_objects,
        has_masks=masks,
        max_detections=max_detections,
        train_boxes=train_boxes,
        train_classes=np.array([classes.index(label) for _, label in boxes], np.int32),
        origins={
            split: [image.where if image.path else "" for image in some]
            for split, some in splits.items()
        },
        checksums={split: _checksum(some) for split, some in splits.items()},
        skipped=fields["skipped"],
        remarks=(*fields["remarks"], *remarks),
    )


def _size(median: np.ndarray) -> tuple[int, int]:
    """Returns the height and width for a network, from the median ones of the images."""
    sides = median * min(1, LARGEST_SIDE / median.max())
    height, width = (max(SIDES_OF, round(side / SIDES_OF) * SIDES_OF) for side in sides)
    return height, width


def _range(values: np.ndarray) -> str:
    """Describes whole numbers: one number, or the minimum and the maximum."""
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _checksum(images: Sequence[CheckedImage]) -> int:
    found = 0
    for image in images:
        found = zlib.crc32(f"{image.where} {image.content} {image.size}".encode(), found)
        for one in image.objects:
            found = zlib.crc32(f"{one.label} {one.kind}".encode(), found)
            found = zlib.crc32(one.box.tobytes() + one.mask, found)
    return found


def _dataset(
    images: Sequence[CheckedImage],
    encoded: tf.data.Dataset | None,
    classes: Sequence[str],
    max_objects: int,
    masks: bool,
) -> tf.data.Dataset:
    """Makes the dataset that `Objects` describes."""
    numbers = {name: number for number, name in enumerate(classes)}
    things = _objects(images)
    counts = [len(image.objects) for image in images]
    columns = {
        "boxes": np.array([one.box for one in things], np.float32).reshape(-1, 4),
        "classes": np.array([numbers[one.label] for one in things], np.int32),
        "kind": np.array([one.kind for one in things], np.int32),
    }
    if masks:
        columns["masks"] = tf.constant([one.mask for one in things], tf.string)
    ragged = {
        name: tf.RaggedTensor.from_row_lengths(all_, counts) for name, all_ in columns.items()
    }
    if encoded is None:
        encoded = tf.data.Dataset.from_tensor_slices(
            tf.constant([image.path for image in images], tf.string)
        ).map(tf.io.read_file, num_parallel_calls=tf.data.AUTOTUNE)

    @tf.autograph.experimental.do_not_convert
    def padded(image_bytes, objects):
        if masks:
            objects = {**objects, "masks": object_masks.unpacked(objects["masks"])}
        return image_bytes, {
            name: tf.ensure_shape(
                tf.pad(rows, [(0, max_objects - tf.shape(rows)[0]), *[(0, 0)] * (rows.ndim - 1)]),
                (max_objects, *rows.shape[1:]),
            )
            for name, rows in objects.items()
        }

    return tf.data.Dataset.zip(encoded, tf.data.Dataset.from_tensor_slices(ragged)).map(
        padded, num_parallel_calls=tf.data.AUTOTUNE
    )
