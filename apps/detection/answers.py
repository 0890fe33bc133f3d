"""How networks that find objects answer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from data import objects
from data.images import suffix
from layers import boxes
from preprocessing import objects as pixels
from runs.run import Example
from serving.signature import Prepared, Signature, within


def signatures(
    data: objects.Objects, images: Sequence[bytes] = (), margins: bool = False
) -> dict[str, Signature]:
    """Returns how a network answers.

    Args:
        data: What it was trained on.
        images: Examples for the export.
        margins: Whether support vector machines rate the objects.
    """
    meanings = {**MEANINGS, **({"scores": MARGINS} if margins else {})}
    names = tf.constant([*data.classes, ""])

    def prepare(image_bytes):
        images = pixels.fitted_batch(image_bytes, data.image_size, data.sides)
        context = {name: images[name] for name in ("scale", "upright_size")}
        return Prepared({name: images[name] for name in INPUTS}, context)

    def answer(found, context):
        count = found["num_detections"]
        is_found = tf.range(tf.shape(found["scores"])[1])[None] < count[:, None]
        classes = tf.where(is_found, found["class_ids"], len(data.classes))
        found_boxes = pixels.in_upright_image(found["boxes"], context["scale"])
        # The size for the network was rounded.
        height, width = tf.unstack(context["upright_size"], axis=1)
        found_boxes = boxes.clip(found_boxes, height, width)
        answered = {
            "boxes": found_boxes,
            "classes": tf.gather(names, classes),
            "class_ids": found["class_ids"],
            "scores": found["scores"],
            "num_detections": count,
        }
        if data.has_masks:
            sizes = context["upright_size"]
            files = pixels.as_files(found["masks"], found_boxes, sizes, count, boxes.paste_masks)
            answered["mask_bytes"] = files
        return answered

    def whole(images):
        sizes = tf.tile([data.image_size], (tf.shape(images)[0], 1))
        return {"pixels": images, "true_size": sizes}

    def with_proposals(image_bytes, proposals):
        prepared = prepare(image_bytes)
        boxes = proposals * prepared.context["scale"][:, None, None]
        return Prepared({**prepared.features, "proposals": boxes}, prepared.context)

    def with_thresholds(image_bytes, **thresholds):
        thresholds = within(thresholds, {name: SHARE for name in thresholds})
        prepared = prepare(image_bytes)
        return Prepared({**prepared.features, **thresholds}, prepared.context)

    default = Signature(
        inputs={"image_bytes": tf.TensorSpec((None,), tf.string)},
        preprocess=prepare,
        postprocess=answer,
        meanings={
            "image_bytes": "JPEG, PNG, BMP, GIF or WebP files of any size, turned as EXIF says",
            **meanings,
            **(MASK_FILES if data.has_masks else {}),
        },
        ties={name: "scores" for name in (*RANKED, *(MASK_FILES if data.has_masks else ()))},
        no_xla="It uses CropAndResize and CombinedNonMaxSuppression; from_pixels compiles.",
    )
    chosen = np.linspace(0.1, 0.5, len(images), dtype=np.float32)
    given = {}
    if data.num_proposals:
        examples = [one["proposals"][:100] for _, one in data.first("validation", len(images))]
        given["with_proposals"] = replace(
            default,
            inputs={**default.inputs, "proposals": tf.TensorSpec((None, None, 4), tf.float32)},
            preprocess=with_proposals,
            meanings={**PROPOSALS, **default.meanings},
            examples={"image_bytes": np.array(images, object), "proposals": np.array(examples)},
        )
    return {
        "serving_default": default,
        **given,
        "with_thresholds": replace(
            default,
            inputs={
                **default.inputs,
                **{name: tf.TensorSpec((None,), tf.float32) for name in THRESHOLDS},
            },
            preprocess=with_thresholds,
            meanings={**THRESHOLDS, **default.meanings},
            examples={
                "image_bytes": np.array(images, object),
                **{name: chosen for name in THRESHOLDS},
            },
            no_xla="It uses CropAndResize; from_pixels compiles.",
        ),
        "from_pixels": Signature(
            inputs={"images": tf.TensorSpec((None, *data.image_size, 3), tf.float32)},
            preprocess=whole,
            core=lambda network, images: network.model.detect(images, compilable=True),
            postprocess=lambda found: found,
            meanings={
                "images": "pixels in [0, 1], resized",
                **{name: meaning for name, meaning in meanings.items() if name != "classes"},
                "boxes": "xmin, ymin, xmax, ymax in these pixels; 0 beyond num_detections",
                **(MASKS if data.has_masks else {}),
            },
            ties={
                name: "scores"
                for name in ("boxes", "class_ids", *(MASKS if data.has_masks else ()))
            },
        ),
    }


SHARE = ("in 0 to 1", lambda values: (values >= 0) & (values <= 1))
PROPOSALS = {
    "proposals": "boxes that may have an object in them, such as those of selective search: xmin, "
    "ymin, xmax, ymax in pixels of the upright image; boxes without area are padding",
}
THRESHOLDS = {
    "score_threshold": "objects with a score above this are found, in [0, 1]",
    "iou_threshold": "of two objects of a class whose intersection over union is above this, in "
    "[0, 1], the one with the higher score is found",
}
MASK_FILES = {
    "mask_bytes": "mask of each object: a PNG file of the size of the upright image, 255 inside"
}
MASKS = {"masks": "probability of each of 28 x 28 cells of a box to be in the object"}
RANKED = ("boxes", "classes", "class_ids")
"""What is sorted by scores."""
INPUTS = ("pixels", "true_size")
"""What a network reads."""
MEANINGS = {
    "boxes": "xmin, ymin, xmax, ymax in pixels of the upright image; 0 beyond num_detections",
    "classes": 'name of the class of each object, the best first; "" beyond num_detections',
    "class_ids": "number of the class",
    "scores": "probability of the class, in [0, 1]",
    "num_detections": "number of objects found",
}
MARGINS = "sigmoid of the margin of a support vector machine, 0.5 on its boundary; no probability"


def facts(data: objects.Objects) -> dict[str, Any]:
    return {
        "classes": data.classes,
        "input": " x ".join(map(str, (*data.image_size, 3))),
        "max detections": data.max_detections,
        **({"sides": data.sides} if data.sides else {}),
    }


def example(data: objects.Objects) -> Example:
    ((image, one),) = data.first("test", 1)
    count = int(np.sum(one["kind"] > 0))
    what = f"a test image with {count} object{'' if count == 1 else 's'}"
    return Example(what, {"image_bytes": image}, suffix(image))
