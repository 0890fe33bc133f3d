"""Objects as images of their masks: one image for each object, or one with their numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from data.annotations import (
    Annotated,
    AnnotatedImage,
    Annotation,
    images_in,
    listed_splits,
    without_annotation,
)
from data.labeled_files import COLUMN_NAMES
from data.object_masks import encoded
from data.sources import BadData, Evaluated, Fault, Finding, split_named, splits_to_read, watched
from data.tables import rows_of_cells

LABEL = "object"
"""The class of all objects, if no table names classes."""


def is_format(root: Path) -> bool:
    """Whether there are folders named images and masks beside each other."""
    return root.is_dir() and bool(_pairs(root))


def read(root: Path, evaluated: Evaluated | None) -> Annotated:
    """Reads `ID/images/*.png` and `ID/masks/*.png`, or `images/*.png` and `masks/*.png`.

    In the first form a mask shows one object: the pixels that are not 0. In the second it shows all
    objects of the image of the same name: equal pixels are one object, 0 is the background. Folders
    of splits may contain either form. Otherwise files train.txt, val.txt and test.txt may list the
    ID or the names of the images. Masks are PNG, of 16 bits where there are many objects.

    All objects are of the class `object`, unless a .csv file names classes: by the `path` of the
    mask, its `label`, and the number `instance` in the second form.

    Args:
        root: The folder.
        evaluated: As in `data.splits.dealt`.
    """
    listed, findings = listed_splits(root, evaluated)
    pairs = _pairs(root)
    is_whole = root in pairs or all(split_named(pair.name, word=True) for pair in pairs)
    splits = {}
    for pair in pairs:
        folder = pair if is_whole else pair.parent
        splits[pair] = "" if folder == root else split_named(folder.name, word=True)
    wanted = splits_to_read(splits.values(), evaluated)
    images: list[AnnotatedImage] = []
    masks: list[list[Path]] = []
    left = 0
    for pair in pairs:
        pictures = images_in(pair / "images")
        beside = sorted((pair / "masks").glob("*.png"))
        for name, picture in pictures.items():
            key = name if is_whole else pair.name
            if (key not in listed) if listed else (splits[pair] not in wanted):
                left += 1
                continue
            where = picture.relative_to(root).as_posix()
            some = [path for path in beside if path.stem == name] if is_whole else beside
            if is_whole and not some:
                fix = f"add masks/{name}.png, black if the image shows no object"
                findings.append(without_annotation(where, "an image", fix))
                continue
            images.append(AnnotatedImage(str(picture), where, listed.get(key, splits[pair])))
            masks.append(some)
        if is_whole:
            findings += [
                Fault(path.relative_to(root).as_posix(), "a mask without image", "an image for it")
                for path in beside
                if path.stem not in pictures and not listed
            ]
    if left:
        findings.append(f"Not read: {left:,} {'image' if left == 1 else 'images'} of no split.")
    return _with_masks(root, images, masks, is_whole, findings)


def _pairs(root: Path) -> list[Path]:
    """Returns the folders in which there are folders named images and masks."""
    folders = [root, *sorted(root.glob("*")), *sorted(root.glob("*/*"))]
    return [one for one in folders if (one / "images").is_dir() and (one / "masks").is_dir()]


def _with_masks(
    root: Path,
    images: Sequence[AnnotatedImage],
    masks: Sequence[Sequence[Path]],
    is_whole: bool,
    findings: list[Finding],
) -> Annotated:
    """Reads the masks of images.

    Args:
        root: The folder of the data.
        images: Images without objects.
        masks: The files of the masks of each.
        is_whole: Whether a mask shows all objects of its image.
        findings: Those before; more are added.
    """
    labels, said = _labels(root)
    findings += said
    paths = [path for some in masks for path in some]
    owners = [number for number, some in enumerate(masks) for _ in some]
    things: list[list[Annotation]] = [[] for _ in images]
    for row, levels in _levels(paths):
        where = paths[row].relative_to(root).as_posix()
        if levels is None:
            findings.append(Fault(where, "a file that is not a PNG image", "the mask as PNG"))
            continue
        shown = {where: levels != 0}
        if is_whole:
            numbers = [number for number in np.unique(levels) if number]
            shown = {f"{where} instance {number}": levels == number for number in numbers}
        for name, mask in shown.items():
            if labels and name not in labels:
                findings.append(Fault(name, "no class", "a class in the .csv file"))
            else:
                label = labels.get(name, LABEL)
                things[owners[row]].append(Annotation(name, label, None, mask=encoded(mask)))
    made = [
        replace(image, annotations=tuple(some)) for image, some in zip(images, things, strict=True)
    ]
    return Annotated(made, findings)


def _levels(paths: Sequence[Path]) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yields the row and the numbers of the pixels, `(height, width)`, of each mask.

    Colors become numbers of three digits in base 2**16. Transparency does not count.
    """

    @tf.autograph.experimental.do_not_convert
    def levels(row, path):
        content = tf.io.read_file(path)
        # Images of 8 bits are multiplied by 257 to 16 bits. The header has the bits at byte 24.
        unit = tf.where(tf.strings.substr(content, 24, 1) == b"\x10", 1, 257)
        return row, tf.cast(tf.io.decode_png(content, dtype=tf.uint16), tf.int32) // unit

    if not paths:
        return
    rows = tf.data.Dataset.from_tensor_slices([str(path) for path in paths]).enumerate()
    decoded = rows.map(levels, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors().prefetch(64)
    left = {*range(len(paths))}
    seen = ([item] for item in decoded.as_numpy_iterator())
    for [(row, pixels)] in watched(seen, len(paths), "Reading masks"):
        left.remove(int(row))
        color = pixels[..., : 3 if pixels.shape[-1] > 2 else 1].astype(np.int64)
        yield int(row), color @ 2 ** (16 * np.arange(color.shape[-1]))
    for row in sorted(left):
        yield row, None


def _labels(root: Path) -> tuple[dict[str, str], list[Finding]]:
    """Reads the class of each mask, or instance in a mask, from the .csv file if there is one."""
    tables = sorted(root.glob("*.csv"))
    if not tables:
        return {}, []
    (_, header), *rows = rows_of_cells(str(root), tables[0])[0] or [("", [])]
    names = [COLUMN_NAMES.get(cell.strip().lower(), cell.strip().lower()) for cell in header]
    if len(tables) > 1 or not {"path", "label"} <= {*names}:
        received = " and ".join(table.name for table in tables)
        expected = "one .csv file with the columns path and label"
        raise BadData(str(root), [Fault(str(root), received, expected, skippable=False)])
    labels = {}
    for _, cells in rows:
        row = dict(zip(names, (cell.strip() for cell in cells), strict=False))
        where = row.get("path", "").replace("\\", "/")
        number = row.get("instance")
        labels[f"{where} instance {number}" if number else where] = row.get("label", LABEL)
    return labels, [f"Classes from {tables[0].name}."]
