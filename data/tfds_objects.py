"""Objects in images of TensorFlow Datasets: a sequence of boxes with labels."""

from typing import Any

import tensorflow as tf

from data.annotations import CROWD, DIFFICULT, OBJECT, Annotated, AnnotatedImage, Annotation
from data.sources import (
    BadData,
    Evaluated,
    Fault,
    Finding,
    tfds_builder,
    tfds_remarks,
    tfds_splits,
)

LABEL = "object"
"""The class of all objects, if the dataset has no classes."""
USUAL = ("label", "type", "bbox", "image")
"""Names that are preferred if there are several features of a kind, such as class and pose."""
FROM_BOTTOM = ("kitti",)
"""Datasets whose y axis starts at the bottom."""
COUNTED_FROM_1 = ("voc",)
"""Datasets with VOC's pixels, which count from 1."""


def read(
    name: str, masks: bool, evaluated: Evaluated | None
) -> tuple[Annotated, dict[str, tf.data.Dataset]]:
    """Reads the boxes, and the encoded images without decoding them.

    The dataset has a feature with the image, and a sequence with a `BBoxFeature` and perhaps a
    `ClassLabel`. Objects with `is_crowd` or `is_difficult` are marked. A split without boxes among
    its first 100 images, such as COCO's test split, is not read.

    Args:
        name: For example `voc/2007`.
        masks: Whether masks are needed: then the data is refused, because there are none.
        evaluated: As in `data.splits.dealt`.

    Returns:
        The images, with their splits, and the encoded images of each split in the same order.
    """
    import tensorflow_datasets as tfds

    builder = tfds_builder(name)
    data = f"tfds:{name}"
    if masks:
        received = "a dataset of TensorFlow Datasets, which are read without masks"
        raise BadData(data, [Fault(data, received, "data with masks", skippable=False)])
    features = builder.info.features
    image = _named(features, tfds.features.Image)
    found = [
        (key, box)
        for key, feature in features.items()
        if isinstance(feature, tfds.features.Sequence)
        and isinstance(feature.feature, tfds.features.FeaturesDict)
        and (box := _named(feature.feature, tfds.features.BBoxFeature))
    ]
    if not image or len(found) != 1:
        received = f"the features {', '.join(f'{key}: {features[key]}' for key in features)}"
        expected = "an image and a sequence with boxes"
        raise BadData(data, [Fault(data, received, expected, skippable=False)])
    things, box = found[0]
    label = _named(features[things].feature, tfds.features.ClassLabel)
    names = features[things].feature[label].names if label else [LABEL]
    decoders = {image: tfds.decode.SkipDecoding()}

    def is_empty(split):
        rows = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False).take(100)
        boxes = rows.map(lambda row: tf.shape(row[things][box])[0])
        return not any(boxes.as_numpy_iterator())

    unusable = {split for split in builder.info.splits if is_empty(split)}
    splits = tfds_splits(builder, decoders, unusable, evaluated)
    findings = tfds_remarks(builder, unusable, (), evaluated)
    images: list[AnnotatedImage] = []
    for split, rows in splits.items():
        for number, row in enumerate(rows.map(lambda row: row[things]).as_numpy_iterator()):
            where = f"{split} row {number}"
            some = _objects(where, row, box, label, names, builder.name in FROM_BOTTOM, findings)
            first = int(builder.name in COUNTED_FROM_1)
            images.append(AnnotatedImage("", where, split, some, relative=True, first=first))
    encoded = {split: rows.map(lambda row: row[image]) for split, rows in splits.items()}
    return Annotated(images, findings, tuple(names)), encoded


def _named(features: Any, kind: type) -> str:
    """Finds the feature of a kind in a dict of features.

    Returns:
        Its name, one of `USUAL` if there are several; empty if there is none.
    """
    names = [name for name in features if isinstance(features[name], kind)]
    usual = [name for name in USUAL if name in names]
    return (usual or names)[0] if usual or len(names) == 1 else ""


def _objects(
    where: str,
    row: dict[str, Any],
    box: str,
    label: str,
    names: list[str],
    is_from_bottom: bool,
    findings: list[Finding],
) -> tuple[Annotation, ...]:
    """Reads the objects of one image; adds the faults to the findings."""
    objects = []
    for number, (ymin, xmin, ymax, xmax) in enumerate(row[box].tolist()):
        at = f"{where} object {number}"
        if is_from_bottom:
            ymin, ymax = 1 - ymax, 1 - ymin
        class_ = int(row[label][number]) if label else 0
        if class_ < 0:
            findings.append(Fault(at, f"no label ({class_})", f"a label ({', '.join(names)})"))
            continue
        flags = {flag for flag in ("is_crowd", "is_difficult") if flag in row and row[flag][number]}
        kind = CROWD if "is_crowd" in flags else DIFFICULT if flags else OBJECT
        objects.append(Annotation(at, names[class_], (xmin, ymin, xmax, ymax), kind))
    return tuple(objects)
