"""Functions of boxes for object detection: overlap, regression, matching, sampling, masks.

A box is `(xmin, ymin, xmax, ymax)` in continuous pixels: its width is `xmax - xmin`, and pixel
(0, 0) covers [0, 1) x [0, 1). All functions compute in float32. Random numbers are arguments.
"""

import math

from keras import ops

LARGEST_LOG_SCALE = math.log(1000 / 16)
"""Maximum of dw and dh: a box grows from 16 to at most 1000 pixels."""
SMALLEST_SIDE = 1e-6
"""Sides that divide or have a logarithm are at least this, in pixels."""
TIE = 1e-6
"""Overlaps that differ by less are equal but for rounding, which differs with XLA."""


def iou(boxes, others):
    """Returns the intersection over union of each box with each other.

    Args:
        boxes: `(..., n, 4)`.
        others: `(..., m, 4)`, with the same leading axes, or with those that broadcast to them.

    Returns: `(..., n, m)`, in [0, 1]; 0 for two boxes without area.
    """
    shared = _intersections(boxes, others)
    union = _areas(boxes)[..., :, None] + _areas(others)[..., None, :] - shared
    return shared / ops.maximum(union, SMALLEST_SIDE**2)


def covered(boxes, regions, valid, share: float = 0.5):
    """Returns which boxes have at least a share of their own area in one of the regions.

    Boxes in a crowd region are neither positive nor negative: they are `excluded` in `match`.

    Args:
        boxes: `(batch, n, 4)`, or `(n, 4)` for the same boxes in every image.
        regions: `(batch, m, 4)`.
        valid: `(batch, m)`, False for what is not such a region.
        share: Above 0.

    Returns: `(batch, n)`, bool. A box without area is in no region.
    """
    areas = _areas(boxes)[..., None]
    is_inside = ops.logical_and(_intersections(boxes, regions) >= share * areas, areas > 0)
    return ops.any(ops.logical_and(is_inside, ops.cast(valid, "bool")[:, None]), axis=-1)


def finite(boxes):
    """Replaces NaN by 0, and bounds coordinates by 10^7, where sums still are finite."""
    return ops.clip(ops.nan_to_num(ops.cast(boxes, "float32"), posinf=1e7, neginf=-1e7), -1e7, 1e7)


def encode(boxes, anchors, weights=(1.0, 1.0, 1.0, 1.0)):
    """Returns what a network has to predict to move anchors to boxes.

    Computes `dx = (x - xa) / wa` and `dw = log(w / wa)` of centres x and widths w, the same for y
    and h, times the weights.

    Reference:
        Girshick et al., Rich Feature Hierarchies for Accurate Object Detection and Semantic
        Segmentation, 2014, appendix C. https://arxiv.org/abs/1311.2524

    Args:
        boxes: `(..., 4)`.
        anchors: `(..., 4)`, with the same leading axes, or with those that broadcast to them.
        weights: Factors of dx, dy, dw, dh: 1 in a region proposal network, `(10, 10, 5, 5)` in
            the heads.

    Returns: `(..., 4)`: dx, dy, dw, dh. They are finite for boxes and anchors without area.
    """
    x, y, width, height = _centres_and_sides(boxes)
    anchor_x, anchor_y, anchor_width, anchor_height = _centres_and_sides(anchors)
    anchor_width = ops.maximum(anchor_width, SMALLEST_SIDE)
    anchor_height = ops.maximum(anchor_height, SMALLEST_SIDE)
    deltas = (
        (x - anchor_x) / anchor_width,
        (y - anchor_y) / anchor_height,
        ops.log(ops.maximum(width, SMALLEST_SIDE) / anchor_width),
        ops.log(ops.maximum(height, SMALLEST_SIDE) / anchor_height),
    )
    return ops.stack([delta * w for delta, w in zip(deltas, weights, strict=True)], axis=-1)


def decode(deltas, anchors, weights=(1.0, 1.0, 1.0, 1.0)):
    """Returns the boxes that are at `deltas` from anchors: the inverse of `encode`.

    dw and dh are at most log(1000 / 16), so that no box is infinite.

    Args:
        deltas: `(..., 4)`: dx, dy, dw, dh.
        anchors: `(..., 4)`, with the same leading axes, or with those that broadcast to them.
        weights: Those of `encode`.

    Returns: boxes `(..., 4)`.
    """
    dx, dy, dw, dh = (
        delta / weight for delta, weight in zip(_coordinates(deltas), weights, strict=True)
    )
    x, y, width, height = _centres_and_sides(anchors)
    x, y = x + dx * width, y + dy * height
    width = width * ops.exp(ops.minimum(dw, LARGEST_LOG_SCALE))
    height = height * ops.exp(ops.minimum(dh, LARGEST_LOG_SCALE))
    return ops.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=-1)


def clip(boxes, height, width):
    """Returns the parts of boxes that are within the image.

    Args:
        boxes: `(..., 4)`, with a batch dimension if heights and widths have one.
        height: One number, or `(batch,)`: that of each image, in pixels.
        width: In the same way.

    Returns: `(..., 4)`; boxes outside the image become boxes without area on its edge.
    """
    boxes = ops.cast(boxes, "float32")
    height, width = ops.cast(height, "float32"), ops.cast(width, "float32")
    limits = ops.stack([width, height, width, height], axis=-1)  # (4,) or (batch, 4)
    if len(limits.shape) == 2:
        limits = ops.reshape(limits, (-1, *[1] * (len(boxes.shape) - 2), 4))
    return ops.minimum(ops.maximum(boxes, 0.0), limits)


def match(
    overlaps,
    valid,
    positive: float = 0.5,
    negative: tuple[float, float] = (0.0, 0.5),
    best: bool = False,
    excluded=None,
):
    """Decides which candidates (anchors or proposals) are objects and which are background.

    A region proposal network has `positive=0.7, negative=(0.0, 0.3), best=True`, the heads have
    the defaults, and Fast R-CNN has `negative=(0.1, 0.5)`.

    Reference:
        Ren et al., Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
        Networks, 2015, section 3.1.2. https://arxiv.org/abs/1506.01497

    Args:
        overlaps: IoU of candidates with objects, `(batch, n, m)`.
        valid: `(batch, m)`, False for padding, that is for what is not an object.
        positive: A candidate with an object of at least this IoU is positive.
        negative: A candidate whose highest IoU is in `[low, high)` is negative.
        best: Whether the candidates with the highest IoU of each object, if it is above 0, are
            positive, too; all of them if several have it.
        excluded: `(batch, n)`, True for candidates that are neither positive nor negative, such
            as those in crowd regions (`covered`) or over the padding of an image. None: none.

    Returns: labels `(batch, n)` int32: 1 for positive, 0 for negative, -1 for neither; and
    `(batch, n)` int32, the object of each candidate: the one it overlaps most.
    """
    overlaps = ops.where(ops.cast(valid, "bool")[:, None], ops.cast(overlaps, "float32"), 0.0)
    if excluded is not None:
        overlaps = ops.where(ops.cast(excluded, "bool")[..., None], -1.0, overlaps)
    highest = ops.max(overlaps, axis=-1)  # (batch, n)
    is_positive = highest >= positive
    if best:
        highest_of_object = ops.max(overlaps, axis=1, keepdims=True)  # (batch, 1, m)
        is_best = ops.logical_and(overlaps > 0, overlaps >= highest_of_object - TIE)
        is_positive = ops.logical_or(is_positive, ops.any(is_best, axis=-1))
    is_negative = ops.logical_and(highest >= negative[0], highest < negative[1])
    labels = ops.where(is_positive, 1, ops.where(is_negative, 0, -1))
    objects = ops.argmax(overlaps, axis=-1)
    return ops.cast(labels, "int32"), ops.cast(objects, "int32")


def sample(labels, uniform, size: int, positive_share: float):
    """Draws candidates to train with: some positive, the others negative.

    Of the positive candidates those with the highest random numbers are drawn, at most
    `positive_share` of `size`, and negative ones in the same way until there are `size`.

    Args:
        labels: `(batch, n)`: 1 for positive, 0 for negative, -1 for neither, from `match`.
        uniform: Random numbers in [0, 1), `(batch, n)`.
        size: Number of candidates to draw in each image.
        positive_share: Above 0, at most 1.

    Returns: indices of the candidates, `(batch, size)` int32, the positive ones first; and
    `(batch, size)` bool, False at the end if there were fewer. The index there is 0.
    """
    uniform = ops.cast(uniform, "float32")
    missing = max(size - labels.shape[1], 0)
    labels = ops.pad(labels, ((0, 0), (0, missing)), constant_values=-1)
    uniform = ops.pad(uniform, ((0, 0), (0, missing)))
    # Positive candidates rank in [2, 3), negative ones in [0, 1), and what is neither has -1.
    highest, positives = ops.top_k(
        ops.where(labels == 1, uniform, -1.0), math.floor(size * positive_share)
    )
    ranks, negatives = ops.top_k(ops.where(labels == 0, uniform, -1.0), size)
    ranks = ops.concatenate([ops.where(highest >= 0, highest + 2, -1.0), ranks], axis=1)
    indices = ops.concatenate([positives, negatives], axis=1)
    ranks, order = ops.top_k(ranks, size)
    is_drawn = ranks >= 0
    indices = ops.take_along_axis(indices, order, axis=1)
    return ops.cast(ops.where(is_drawn, indices, 0), "int32"), is_drawn


def paste_masks(masks, boxes, height, width, threshold: float = 0.5):
    """Returns the masks of objects in the frame of the image.

    Each pixel of the image has the bilinear value of the mask at its centre; a mask is 0 outside.

    Reference:
        He et al., Mask R-CNN, 2017, section 3.1, "Inference". https://arxiv.org/abs/1703.06870

    Args:
        masks: Probabilities `(..., side, side)`, which cover the boxes.
        boxes: `(..., 4)`.
        height: Of the image, in pixels; it may be a tensor.
        width: In the same way.
        threshold: Pixels with at least this value belong to the object.

    Returns: `(..., height, width)`, bool.
    """
    xmin, ymin, xmax, ymax = _coordinates(boxes)
    rows = _bilinear_weights(masks.shape[-2], ymin, ymax, height)
    columns = _bilinear_weights(masks.shape[-1], xmin, xmax, width)
    pasted = ops.matmul(rows, ops.cast(masks, "float32"))  # (..., height, side)
    return ops.matmul(pasted, ops.swapaxes(columns, -2, -1)) >= threshold


def _bilinear_weights(side: int, start, end, length):
    """Returns the weight of each of `side` cells from `start` to `end` at each of the pixels.

    Returns: `(..., length, side)`.
    """
    centres = ops.arange(length, dtype="float32") + 0.5
    cells = ops.arange(side, dtype="float32") + 0.5
    scale = side / ops.maximum(end - start, SMALLEST_SIDE)
    positions = (centres - start[..., None]) * scale[..., None]  # (..., length)
    return ops.maximum(1.0 - ops.abs(positions[..., None] - cells), 0.0)


def _coordinates(boxes) -> list:
    return ops.unstack(ops.cast(boxes, "float32"), 4, axis=-1)


def _centres_and_sides(boxes) -> tuple:
    xmin, ymin, xmax, ymax = _coordinates(boxes)
    return (xmin + xmax) / 2, (ymin + ymax) / 2, xmax - xmin, ymax - ymin


def _areas(boxes):
    xmin, ymin, xmax, ymax = _coordinates(boxes)
    return ops.maximum(xmax - xmin, 0.0) * ops.maximum(ymax - ymin, 0.0)


def _intersections(boxes, others):
    """Returns the area that each of `(..., n, 4)` shares with each of `(..., m, 4)`."""
    xmin, ymin, xmax, ymax = (x[..., :, None] for x in _coordinates(boxes))
    other_xmin, other_ymin, other_xmax, other_ymax = (x[..., None, :] for x in _coordinates(others))
    width = ops.minimum(xmax, other_xmax) - ops.maximum(xmin, other_xmin)
    height = ops.minimum(ymax, other_ymax) - ops.maximum(ymin, other_ymin)
    return ops.maximum(width, 0.0) * ops.maximum(height, 0.0)
