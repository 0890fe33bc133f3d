"""How good the answers of networks that find objects are, and what a report shows of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from apps.detection.answers import signatures
from data import object_masks, objects
from data.anchor_sizes import best_ious, positives_of_levels
from metrics.detection_errors import by_error
from metrics.detections import Evaluation
from models.fast_rcnn import FastRCNN
from models.faster_rcnn import FasterRCNN
from preprocessing import objects as pixels
from preprocessing.images import decoded, with_channels
from runs import pictures, presets
from runs.report import Picture, Section, Table
from runs.run import Run
from serving.drawings import THRESHOLDS, thresholds_of
from serving.signature import Signature, ask

READ_TOGETHER = 8
"""Number of images of a query."""


def evaluated(run: Run, model: keras.Model, data: objects.Objects) -> Evaluation:
    """Queries the network about the test images, as it will be served.

    An object is shown in pictures if its score reaches that of the best F1 of its class on the
    validation images, or on those of the run whose network is evaluated on other data.
    """
    if run.is_foreign:
        known = thresholds_of(presets.card(run.config.continued) if run.config.continued else {})
        thresholds = [known(name) for name in data.classes]
    else:
        thresholds = queried(model, replace(data, has_masks=False), "validation").best_thresholds()
    return replace(queried(model, data), thresholds=thresholds)


def queried(model: keras.Model, data: objects.Objects, split: str = "test") -> Evaluation:
    """Queries the network about the images of a split.

    A few images and their masks are in memory at a time; what is kept of masks are run lengths.
    """
    is_given = data.num_proposals > 0
    name = "with_proposals" if is_given else "serving_default"
    signature = _with_details(signatures(data)[name])
    truths, found = [], []
    for images, many in data.split(split).batch(READ_TOGETHER).as_numpy_iterator():
        columns = {"image_bytes": images}
        if is_given:
            columns["proposals"] = many["proposals"]
        answers = ask(signature, model, columns, READ_TOGETHER)
        for row, image in enumerate(images):
            one = {name: values[row] for name, values in many.items()}
            truths.append({**_true(image, one, data.has_masks), "scale": answers["scale"][row]})
            found.append(_found(answers, row))
    return Evaluation(truths, found, data.classes, answers["scores"].shape[1])


def _with_details(signature: Signature) -> Signature:
    """Returns a signature that also gives the proposals, and the scale of each image."""

    def answer(found, context):
        proposals = pixels.in_upright_image(found["proposals"], context["scale"])
        details = {"proposals": proposals, "scale": context["scale"]}
        return {**signature.postprocess(found, context), **details}

    return replace(
        signature,
        core=lambda network, inputs: network.model.detect(inputs, proposals=True),
        postprocess=answer,
    )


def _true(image: bytes, one: Mapping[str, np.ndarray], has_masks: bool) -> dict[str, Any]:
    there = one["kind"] > 0
    true: dict[str, Any] = {name: one[name][there] for name in ("boxes", "classes", "kind")}
    height, width, _ = decoded(image).shape
    true["size"] = height, width
    if has_masks:
        true["masks"] = [
            object_masks.encoded(object_masks.pasted(mask, box, height, width))
            for mask, box in zip(one["masks"][there], true["boxes"], strict=True)
        ]
    return true


def _found(answers: Mapping[str, np.ndarray], row: int) -> dict[str, Any]:
    count = answers["num_detections"][row]
    names = {"boxes": "boxes", "classes": "class_ids", "scores": "scores"}
    found: dict[str, Any] = {name: answers[column][row, :count] for name, column in names.items()}
    proposals = answers["proposals"][row]
    found["proposals"] = proposals[np.any(proposals > 0, axis=1)]
    if "mask_bytes" in answers:
        found["masks"] = [
            object_masks.encoded(tf.io.decode_png(file)[..., 0].numpy() > 0)
            for file in answers["mask_bytes"][row, :count]
        ]
    return found


def report(model: FasterRCNN, data: objects.Objects, test: Evaluation) -> list[Section]:
    quality = test.f1_of_images()
    worst = [int(i) for i in np.argsort(quality, kind="stable")[:6]]
    others = np.random.default_rng(0).permutation(len(quality))[:6].tolist()

    def shown(title: str, indices: list[int]) -> Section:
        examples = data.picked("test", indices)
        images = [with_channels(decoded(image), 3).numpy() for image, _ in examples]
        truths = [test.truths[i] for i in indices]
        found = [with_masks(test.found[i]) for i in indices]
        names = [data.origin("test", i) for i in indices]
        drawn = pictures.boxes_on_images(
            images, truths, found, data.classes, names, test.thresholds
        )
        return Picture(title, drawn)

    matrix = pictures.confusion_matrix(test.confusion(), [*data.classes, "background"])
    return [
        Table("Scores by class", *test.by_class()),
        Table(THRESHOLDS, *test.at_thresholds(), in_card=True),
        Picture("Confusion matrix", matrix),
        Table("Errors by type, and what fixing each would give", *by_error(test)),
        Table("Scores by size of the objects", *test.by_size()),
        Picture("Precision and recall", pictures.precision_recall(test.curves())),
        Table("Recall of the proposals", *_recalls(test)),
        shown("Test images with the objects found, the true ones dashed", others),
        shown("The worst test images", worst),
        *([] if isinstance(model, FastRCNN) else [_fit(model, data)]),
    ]


def _recalls(test: Evaluation) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [number, *(f"{recall:.3f}" for recall in recalls)]
        for number, recalls in test.proposal_recalls.items()
    ]
    return ["proposals", "at an IoU of 0.5", "of 0.7", "average of 0.5 to 0.95"], rows


def _fit(model: FasterRCNN, data: objects.Objects) -> Section:
    anchors = model.anchors
    where = anchors.sizes, anchors.ratios, anchors.strides, data.image_size
    positives = positives_of_levels(data.train_boxes, *where)
    ious = best_ious(data.train_boxes, *where)
    figure = pictures.fit_of_anchors(ious, positives.tolist(), anchors.strides)
    return Picture("Training boxes and anchors", figure)


def with_masks(found: Mapping[str, Any]) -> dict[str, Any]:
    """Returns found objects with their masks as arrays, if there are some."""
    masks = found.get("masks")
    return dict(found) if not masks else {**found, "masks": object_masks.all_decoded(masks)}
