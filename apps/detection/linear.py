"""The last step of R-CNN: linear models of the features of the network that was trained."""

import warnings
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from layers.boxes import covered, encode, iou
from models.faster_rcnn import CROWD, is_trained
from models.rcnn import RCNN

NEAR, FAR = 0.6, 0.3
"""IoU from which a region teaches how boxes move, and below which it is no object."""
MOST_ROWS = 20_000
"""Maximum number of regions that the linear models learn from."""
ROWS = (16, 128)
"""Minimum and maximum number of regions of an image."""
NORM = 20.0
"""Mean norm to which the features are scaled, as in the authors' program."""
BACKGROUND_MARGIN = -1.0
"""Margin of a class that has no training object."""

Linear = tuple[np.ndarray, np.ndarray]


class Regions(NamedTuple):
    """Regions of training images.

    Args:
        features: float32 `(n, units)`.
        overlaps: IoU with the best object of each class, `(n, classes)`.
        is_object: Whether it is the box of an object, `(n,)`.
        deltas: `(n, 4)`: how the box moves to the object that it overlaps most.
    """

    features: np.ndarray
    overlaps: np.ndarray
    is_object: np.ndarray
    deltas: np.ndarray


def fit_linear(model: RCNN, batches: Any, num_images: int, *, svm: bool, seed: int = 0) -> None:
    """Replaces the last layers of a trained network by linear models.

    A linear support vector machine for each class learns from its objects, and from regions that
    have an IoU below 0.3 with them. A ridge regression for each class learns how regions with an
    IoU of at least 0.6 move to their objects. Features are scaled to a mean norm of 20.

    Reference:
        Girshick et al., Rich Feature Hierarchies for Accurate Object Detection and Semantic
        Segmentation, 2014, section 2.3, appendices B and C. https://arxiv.org/abs/1311.2524

    Args:
        model: The network.
        batches: A dataset of training images with proposals, and objects.
        num_images: Number of these images.
        svm: Whether to replace the classifier, too.
        seed: Decides which regions are drawn.
    """
    rows = int(np.clip(MOST_ROWS // num_images, *ROWS))
    batches = islice(batches, 0, None, max(1, num_images * rows // MOST_ROWS))
    random = np.random.default_rng(seed)
    found = [_regions(model, images, objects, rows, random) for images, objects in batches]
    regions = Regions(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    scale = NORM / max(float(np.linalg.norm(regions.features, axis=1).mean()), 1e-6)
    scaled = regions._replace(features=regions.features * scale)
    boxes, classes = ridges(scaled), machines(scaled, seed) if svm else None
    model.set_linear(_unscaled(boxes, scale), classes and _unscaled(classes, scale))


def ridges(regions: Regions, alpha: float = 1000.0) -> Linear:
    """Fits how the boxes of each class move.

    Returns:
        Kernel `(units, classes, 4)` and bias `(classes, 4)`; zeros for a class without regions.
    """
    units, classes = regions.features.shape[1], regions.overlaps.shape[1]
    kernel, bias = np.zeros((units, classes, 4)), np.zeros((classes, 4))
    best, overlap = regions.overlaps.argmax(axis=1), regions.overlaps.max(axis=1)
    for label in range(classes):
        near = (best == label) & (overlap >= NEAR)
        if near.any():
            fitted = Ridge(alpha).fit(regions.features[near], regions.deltas[near])
            kernel[:, label], bias[label] = fitted.coef_.T, fitted.intercept_
    return kernel, bias


def machines(regions: Regions, seed: int = 0) -> Linear:
    """Fits a linear support vector machine for each class.

    The cost of an error, its double for objects and the scale of the bias are those of the authors'
    program.

    Returns:
        Kernel `(units, classes)` and bias `(classes,)`.
    """
    classes = regions.overlaps.shape[1]
    kernel = np.zeros((regions.features.shape[1], classes))
    bias = np.full(classes, BACKGROUND_MARGIN)
    for label, overlaps in enumerate(regions.overlaps.T):
        is_positive = regions.is_object & (regions.overlaps.argmax(axis=1) == label)
        is_learned = is_positive | (overlaps < FAR)
        if not is_positive.any() or is_positive[is_learned].all():
            continue
        machine = LinearSVC(
            C=1e-3, class_weight={True: 2.0}, intercept_scaling=10.0, random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            machine.fit(regions.features[is_learned], is_positive[is_learned])
        kernel[:, label], bias[label] = machine.coef_[0], machine.intercept_[0]
    return kernel, bias


def _unscaled(linear: Linear, scale: float) -> Linear:
    kernel, bias = linear
    return kernel * scale, bias


def _regions(
    model: RCNN, inputs: Any, objects: Any, rows: int, random: np.random.Generator
) -> Regions:
    """Draws regions of a batch of images: their objects, regions near to one, regions far away."""
    given = model.given(inputs)
    boxes = tf.concat([objects["boxes"], given["boxes"]], axis=1)
    is_object = is_trained(objects).numpy()
    crowded = covered(boxes, objects["boxes"], objects["kind"] == CROWD).numpy()
    is_there = np.concatenate([is_object, given["valid"]], axis=1) & ~crowded
    overlaps = np.where(is_object[:, None], iou(boxes, objects["boxes"]), 0.0)  # (b, n, m)
    nearest, best = overlaps.argmax(axis=2), overlaps.max(axis=2)
    targets = tf.gather(objects["boxes"], nearest, batch_dims=1)
    deltas = encode(targets, boxes).numpy()
    of_classes = np.stack(
        [
            np.where(objects["classes"].numpy()[:, None] == label, overlaps, 0).max(axis=2)
            for label in range(model.num_classes)
        ],
        axis=2,
    )
    count = is_object.shape[1]
    drawn = np.zeros((len(is_there), rows), int)
    number = []
    for image, there in enumerate(is_there):
        near = count + np.flatnonzero(there[count:] & (best[image, count:] >= NEAR))
        far = count + np.flatnonzero(there[count:] & (best[image, count:] < FAR))
        chosen = [
            *np.flatnonzero(there[:count])[: rows // 2],
            *random.permutation(near)[: rows // 4],
            *random.permutation(far),
        ][:rows]
        drawn[image, : len(chosen)] = chosen
        number.append(len(chosen))
    features = model.features_of(inputs, tf.gather(boxes, drawn, batch_dims=1)).numpy()
    kept = np.arange(rows) < np.array(number)[:, None]

    def taken(values):
        return np.take_along_axis(values, drawn[..., None], axis=1)[kept]

    return Regions(features[kept], taken(of_classes), (drawn < count)[kept], taken(deltas))
