"""Images with annotated objects, as files describe them, and the checks that all formats share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from data import object_masks
from data.images import OTHER_SUFFIXES, SUFFIXES, inspected, unreadable
from data.sources import (
    SPLITS,
    Evaluated,
    Fault,
    Finding,
    by_split,
    is_hidden,
    not_read,
    split_named,
    splits_to_read,
    watched,
)
from data.text_files import given_by, not_utf8, read_text

PADDING, OBJECT, DIFFICULT, CROWD = range(4)
"""Kinds of boxes. Difficult objects train, but VOC's evaluation ignores them; a crowd is a region
to ignore."""

IMAGE_SUFFIXES = (*SUFFIXES, *OTHER_SUFFIXES)
MOST_OUTSIDE = 2
"""Maximum number of pixels by which a mask may leave its box."""


@dataclass(frozen=True)
class Annotation:
    """One object, as a file describes it.

    Args:
        where: File and object, for messages.
        label: Name of its class.
        box: xmin, ymin, xmax, ymax in pixels; None if only the mask is known.
        kind: `OBJECT`, `DIFFICULT` or `CROWD`.
        mask: As `data.object_masks.decoded` reads it; None if there is none.
    """

    where: str
    label: str
    box: tuple[float, float, float, float] | None
    kind: int = OBJECT
    mask: Any = None


@dataclass(frozen=True)
class AnnotatedImage:
    """One image, as files describe it.

    Args:
        path: Path of the image; empty if it is not in a file.
        where: Its name, relative to the data, for messages.
        split: train, validation or test; empty if the data does not say.
        annotations: Its objects.
        size: `(height, width)` that the annotation declares, in pixels; None if it does not.
        relative: Whether boxes and polygons are in shares of the width and height, not in pixels.
        first: Number of the first pixel in xmin and ymin; 1 if xmax and ymax are the last pixels
            inside, counted from 1.
    """

    path: str
    where: str
    split: str
    annotations: tuple[Annotation, ...] = ()
    size: tuple[int, int] | None = None
    relative: bool = False
    first: int = 0


class Annotated(NamedTuple):
    """What a format's reader returns.

    Args:
        images: The images.
        findings: Problems and remarks.
        classes: The classes in their order, if the data declares them; else empty.
    """

    images: list[AnnotatedImage]
    findings: list[Finding]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Object:
    """One object that was checked.

    Args:
        where: File and object, for messages.
        label: Name of its class.
        box: float32 `(4,)`, inside the upright image.
        kind: As in `Annotation`.
        mask: Cut to the box, from `data.object_masks.packed`; empty if masks are not read.
    """

    where: str
    label: str
    box: np.ndarray
    kind: int = OBJECT
    mask: bytes = b""


@dataclass(frozen=True)
class CheckedImage:
    """One image that was checked.

    Args:
        path: As in `AnnotatedImage`.
        where: As in `AnnotatedImage`.
        split: As in `AnnotatedImage`.
        objects: Its objects without broken ones.
        size: `(height, width)` of the upright image in pixels.
        content: Decides its split: images with equal contents get the same one.
    """

    path: str
    where: str
    split: str
    objects: tuple[Object, ...]
    size: tuple[int, int]
    content: str


def checked(
    images: Sequence[AnnotatedImage], encoded: Any, masks: bool
) -> tuple[list[CheckedImage | None], list[Finding]]:
    """Checks the images and their objects, and turns boxes and masks upright.

    A broken object is left out, not its image. A box may exceed the image by 1 pixel or 1 % of the
    image's side, whichever is larger; it is clipped.

    If the EXIF orientation exchanges width and height, the declared size decides whether the boxes
    are those of the upright or of the stored image. Otherwise they are those of the upright one.

    Args:
        images: The images.
        encoded: Dataset of the encoded images; None to read their paths.
        masks: Whether to read masks. Objects without one are then faults.

    Returns:
        The images, None for those that cannot be used, and the findings.
    """
    if encoded is None:
        facts = inspected([image.path for image in images], len(images), tf.io.read_file)
    else:
        facts = inspected(encoded, len(images))
    bad = [image for image, row in zip(images, facts, strict=True) if row is None]
    findings = unreadable([(image.where, image.path) for image in bad])
    kept: list[CheckedImage | None] = []
    has_broken = False
    pairs = ([pair] for pair in zip(images, facts, strict=True))
    for [(image, row)] in watched(pairs, len(images), "Checking objects"):
        if row is None:
            kept.append(None)
            continue
        content, height, width, _, orientation = (int(fact) for fact in row)
        upright = (height, width)
        stored = upright[::-1] if orientation >= 5 else upright
        size = image.size or (stored if _are_as_stored(image, stored) else upright)
        if size not in (upright, stored):
            received = f"{size[1]} x {size[0]} pixels"
            expected = f"the size of the image, {width} x {height} pixels"
            findings.append(Fault(image.where, f"a declared size of {received}", expected))
            kept.append(None)
            continue
        turn = orientation if size != upright else 1
        objects: list[Object] = []
        for annotation in image.annotations:
            found = _object(annotation, image, size, masks, turn)
            if isinstance(found, Fault):
                findings.append(found)
                has_broken = True
            else:
                objects.append(found)
        kept.append(
            CheckedImage(
                image.path, image.where, image.split, tuple(objects), upright, f"{content}"
            )
        )
    if has_broken:
        findings.append("Images with broken objects are kept without these.")
    return kept, findings


def _are_as_stored(image: AnnotatedImage, stored: tuple[int, int]) -> bool:
    """Whether the masks of an image that declares no size have the size of the stored image."""
    masks = [one.mask for one in image.annotations if isinstance(one.mask, dict)]
    return bool(masks) and all(tuple(mask["size"]) == stored for mask in masks)


def _object(
    annotation: Annotation, image: AnnotatedImage, size: tuple[int, int], masks: bool, turn: int
) -> Object | Fault:
    """Checks one object of an image, and turns it upright.

    Args:
        annotation: The object.
        image: Its image.
        size: `(height, width)` of the image in which it is described.
        masks: As in `checked`.
        turn: EXIF orientation that turns the image upright; 1 if it is.
    """
    height, width = size
    unit = np.array([width, height] * 2 if image.relative else [1] * 4, np.float64)
    whole: np.ndarray | None = None
    if masks or annotation.box is None:
        found = _mask(annotation, size, unit[:2])
        if isinstance(found, Fault):
            return found
        whole = found
    if annotation.box is None and whole is not None:
        box = bounds_of(whole)
    else:
        written = np.array(annotation.box, np.float64)
        box = written * unit - [image.first, image.first, 0, 0]
        if problem := _area_problem(written) or _edge_problem(box, width, height):
            received = f"{problem} ({', '.join(f'{side:g}' for side in written)})"
            expected = f"xmin < xmax and ymin < ymax inside {width} x {height} pixels"
            return Fault(annotation.where, received, expected, "correct or remove the box")
        if whole is not None:
            beyond = np.max(np.abs(_beyond(bounds_of(whole), box)))
            if beyond > MOST_OUTSIDE:
                received = f"a mask that leaves its box by {beyond:g} pixels"
                expected = f"a mask inside its box, or at most {MOST_OUTSIDE} pixels outside"
                return Fault(annotation.where, received, expected)
    box = np.clip(box, 0, [width, height] * 2)
    packed = b""
    if masks and whole is not None:
        part = turned_mask(object_masks.cut(whole, box), turn)
        packed = object_masks.packed(part)
    upright = turned_box(box, size, turn).astype(np.float32)
    return Object(annotation.where, annotation.label, upright, annotation.kind, packed)


def bounds_of(mask: np.ndarray) -> np.ndarray:
    """Returns the bounds of one mask, float64 `(4,)`."""
    return object_masks.bounds(mask[None])[0].astype(np.float64)


def _mask(annotation: Annotation, size: tuple[int, int], unit: np.ndarray) -> np.ndarray | Fault:
    """Reads the mask of an object, bool `(height, width)`."""
    expected = f"a mask of {size[1]} x {size[0]} pixels"
    if annotation.mask is None:
        return Fault(annotation.where, "no mask", expected)
    mask = annotation.mask
    if isinstance(mask, list):
        if any(len(one) < 6 or len(one) % 2 for one in mask) or not mask:
            return Fault(annotation.where, "a polygon of other numbers", "at least 3 pairs x, y")
        mask = [(np.reshape(one, (-1, 2)) * unit).ravel().tolist() for one in mask]
    try:
        whole = object_masks.decoded(mask, *size)
    except (KeyError, TypeError, ValueError) as error:
        return Fault(annotation.where, f"a mask that cannot be decoded ({error})", expected)
    if whole.shape != size:
        received = f"a mask of {whole.shape[1]} x {whole.shape[0]} pixels"
        return Fault(annotation.where, received, expected)
    return whole if whole.any() else Fault(annotation.where, "an empty mask", expected)


def _area_problem(box: np.ndarray) -> str:
    """Names what is wrong with the area of a box; empty if nothing is."""
    xmin, ymin, xmax, ymax = box
    if not np.all(np.isfinite(box)):
        return "a box with a side that is not a number"
    if xmax <= xmin or ymax <= ymin:
        return f"a box of {'zero' if xmax == xmin or ymax == ymin else 'negative'} area"
    return ""


def _edge_problem(box: np.ndarray, width: int, height: int) -> str:
    """Names what is wrong with a box at the edge of its image; empty if nothing is."""
    xmin, ymin, xmax, ymax = box
    if xmax <= 0 or ymax <= 0 or xmin >= width or ymin >= height:
        return "a box outside the image"
    beyond = _beyond(box, np.array([0, 0, width, height]))
    if np.any(beyond > np.maximum(1, np.array([width, height] * 2) / 100)):
        return f"a box that leaves the image by {np.max(beyond):g} pixels"
    return ""


def _beyond(inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """Returns by how much each side of a box is outside another box; 0 where it is inside."""
    return np.maximum(np.concatenate([outer[:2] - inner[:2], inner[2:] - outer[2:]]), 0)


def turned_box(box: np.ndarray, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Turns a box with its image, as `preprocessing.exif.turned` turns the pixels.

    Args:
        box: xmin, ymin, xmax, ymax in the stored image.
        size: `(height, width)` of the stored image.
        orientation: The EXIF orientation, 1 to 8.
    """
    x, y = box[[0, 2]], box[[1, 3]]
    height, width = size
    if orientation >= 5:
        x, y, width, height = y, x, height, width
    corner = (orientation - 1) % 4
    if corner in (1, 2):
        x = width - x[::-1]
    if corner >= 2:
        y = height - y[::-1]
    return np.array([x[0], y[0], x[1], y[1]])


def turned_mask(mask: np.ndarray, orientation: int) -> np.ndarray:
    """Turns a mask, `(rows, columns)`, with its image."""
    mask = mask.T if orientation >= 5 else mask
    corner = (orientation - 1) % 4
    mask = mask[:, ::-1] if corner in (1, 2) else mask
    return mask[::-1] if corner >= 2 else mask


def images_in(folder: Path) -> dict[str, Path]:
    """Finds the images directly in a folder, by their names without suffix."""
    return {
        path.stem: path
        for path in sorted(folder.iterdir(), reverse=True)
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path.name)
    }


def split_folders(
    root: Path, is_usable: Callable[[Path], bool], evaluated: Evaluated | None
) -> tuple[dict[str, Path], list[Finding]]:
    """Finds the folder of each split.

    Args:
        root: The folder of the data.
        is_usable: Whether a folder has the annotations of a split.
        evaluated: As in `data.splits.dealt`.

    Returns:
        The folders by split, or the folder of the data by "" if it is usable itself; remarks.
    """
    if is_usable(root):
        return {"": root}, []
    entries = sorted(root.iterdir())
    folders = by_split(str(root), [one for one in entries if one.is_dir() and is_usable(one)])
    read = splits_to_read(folders, evaluated)
    folders = {split: folder for split, folder in folders.items() if split in read}
    beside = [entry for entry in entries if entry not in folders.values()]
    return folders, [given_by(folders), *not_read(beside)] if folders else []


def listed_splits(
    folder: Path, evaluated: Evaluated | None
) -> tuple[dict[str, str], list[Finding]]:
    """Reads files such as train.txt, which list the names of the images of a split.

    Args:
        folder: The folder with the files. One named trainval is read if there is no train.
        evaluated: As in `data.splits.dealt`.

    Returns:
        The split of each name; empty if there are no such files. Then the findings.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.txt"))}
    if "train" not in files and "trainval" in files:
        files["train"] = files["trainval"]
    named = {split_named(name): path for name, path in files.items() if split_named(name)}
    read = splits_to_read(named, evaluated)
    named = {split: named[split] for split in SPLITS if split in named and split in read}
    splits: dict[str, str] = {}
    findings: list[Finding] = [given_by(named)] if named else []
    for split, path in named.items():
        for number, line in enumerate(read_text(path).split("\n"), 1):
            words = line.split()
            if not words:
                continue
            where = f"{path.name} line {number}"
            if words[0] in splits:
                received = f"{words[0]}, which is also in {splits[words[0]]}"
                findings.append(Fault(where, received, "each image once", "remove the line"))
            elif fault := not_utf8(line, where):
                findings.append(fault)
            else:
                splits[words[0]] = split
    return splits, findings


def declared_size(height: str | None, width: str | None) -> tuple[int, int] | None:
    """Reads the height and width of an image; None if one of them is not a positive number."""
    sides = [int(side) if side and side.strip().isdecimal() else 0 for side in (height, width)]
    return (sides[0], sides[1]) if all(sides) else None


def without_annotation(where: str, received: str, fix: str) -> Fault:
    """Reports an image that no annotation describes."""
    return Fault(where, f"{received} without annotation", "an annotation for each image", fix)
