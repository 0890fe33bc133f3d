"""Sizes and ratios of anchors that fit the boxes of a data set."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

SCORED = (0.5, 0.7)
"""IoU that the best anchor of a box should reach."""
MOST_UNFIT = 0.05
"""Maximum share of boxes whose best anchor may have an IoU under `SCORED[0]`."""
SINGLE, THIRDS = (1.0,), (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
"""Sizes of a level, in units of the smallest: one, or three within an octave."""
SCALES = tuple(2 ** (step / 2) for step in range(-6, 3))
"""Factors by which the given sizes are tried."""
MOST_COUNTED = 200
"""Maximum number of boxes whose positive anchors are counted, so that it takes seconds."""
ROUNDS = 100
"""Maximum number of rounds of k-means."""

Sizes = tuple[tuple[float, ...], ...]


def best_ious(
    boxes: np.ndarray,
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float],
    strides: Sequence[int],
    image_size: tuple[int, int],
) -> np.ndarray:
    """Returns the IoU of each box with its best anchor.

    An anchor of size s and ratio r is s sqrt(1 / r) wide and s sqrt(r) high. On a level of stride t
    there is one of each size and ratio at every (j t, i t) inside the image. For a shape, the
    nearest center has the highest IoU, so only that one is computed.

    Args:
        boxes: `(boxes, 4)`: xmin, ymin, xmax, ymax in pixels.
        sizes: Sizes of the anchors of each level in pixels.
        ratios: Height by width.
        strides: Distance of the centers of each level in pixels.
        image_size: `(height, width)` of the images in pixels.

    Returns:
        `(boxes,)`, in [0, 1].
    """
    boxes = np.asarray(boxes, np.float64)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    sides = boxes[:, 2:] - boxes[:, :2]
    best = np.zeros(len(boxes))
    for level, stride in zip(sizes, strides, strict=True):
        last = np.ceil(np.array(image_size[::-1]) / stride) - 1
        nearest = np.clip(np.round(centers / stride), 0, last) * stride
        distance = np.abs(centers - nearest)
        for shape in _shapes(level, ratios):
            common = np.minimum((sides + shape) / 2 - distance, np.minimum(sides, shape))
            overlap = np.maximum(common, 0).prod(axis=1)
            best = np.maximum(best, overlap / (sides.prod(axis=1) + shape.prod() - overlap))
    return best


def positives_of_levels(
    boxes: np.ndarray,
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float],
    strides: Sequence[int],
    image_size: tuple[int, int],
) -> np.ndarray:
    """Returns how many anchors of each level are positive for a box, on average.

    These are the anchors with an IoU of at least 0.7, or those of the highest IoU if none has it.

    Args:
        boxes: As in `best_ious`; those beyond `MOST_COUNTED` are left out.
        sizes: As in `best_ious`.
        ratios: As in `best_ious`.
        strides: As in `best_ious`.
        image_size: As in `best_ious`.

    Returns:
        `(levels,)`.
    """
    boxes = np.asarray(boxes, np.float64)[:MOST_COUNTED]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None, None]
    best = best_ious(boxes, sizes, ratios, strides, image_size)[:, None, None]
    least = np.where(best >= SCORED[1], SCORED[1], best - 1e-9)
    counts = []
    for level, stride in zip(sizes, strides, strict=True):
        # A common side depends on the column alone, or on the row.
        centers = [np.arange(0, side, stride) for side in image_size[::-1]]
        positives = 0
        for shape in _shapes(level, ratios):
            common = [
                np.minimum(boxes[:, None, 2 + axis], centers[axis] + shape[axis] / 2)
                - np.maximum(boxes[:, None, axis], centers[axis] - shape[axis] / 2)
                for axis in (0, 1)
            ]
            columns, rows = (np.maximum(one, 0) for one in common)
            overlap = rows[:, :, None] * columns[:, None]
            iou = overlap / (area + shape.prod() - overlap)
            positives += np.sum((iou >= least) & (iou > 0))
        counts.append(positives / max(len(boxes), 1))
    return np.array(counts)


def _shapes(sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Returns the width and height of each size and ratio, `(sizes * ratios, 2)`."""
    roots = np.sqrt(np.asarray(ratios, np.float64))
    shapes = [[size / root, size * root] for size in sizes for root in roots]
    return np.array(shapes)


def fitted_anchors(
    boxes: np.ndarray, num_sizes: Sequence[int], num_ratios: int
) -> tuple[Sizes, tuple[float, ...]]:
    """Chooses sizes and ratios by k-means with the distance 1 - IoU of centered boxes.

    The clusters are all pairs of a size and a ratio. A box belongs to the pair of highest IoU; then
    each size becomes the geometric mean of the sizes of its boxes, and each ratio that of their
    ratios. The first sizes and ratios are quantiles. Levels get the sizes in ascending order.

    Reference:
        Redmon & Farhadi, YOLO9000: Better, Faster, Stronger, 2017, section 2 (dimension clusters).
        https://arxiv.org/abs/1612.08242

    Args:
        boxes: `(boxes, 4)` in pixels; at least one.
        num_sizes: Number of sizes of each level.
        num_ratios: Number of ratios; all levels have the same.

    Returns:
        The sizes of each level and the ratios (height by width), ascending, rounded to three
        digits.
    """
    sides = np.asarray(boxes, np.float64)[:, 2:] - np.asarray(boxes, np.float64)[:, :2]
    features = np.log(np.stack([np.sqrt(sides.prod(axis=1)), sides[:, 1] / sides[:, 0]]))
    counts = sum(num_sizes), num_ratios
    logs = [
        np.quantile(feature, (np.arange(count) + 0.5) / count)
        for feature, count in zip(features, counts, strict=True)
    ]
    pairs = np.zeros(len(sides), int) - 1
    for _ in range(ROUNDS):
        shapes = _shapes(np.exp(logs[0]).tolist(), np.exp(logs[1]).tolist())
        overlap = np.minimum(sides[:, None], shapes).prod(axis=2)
        union = sides.prod(axis=1)[:, None] + shapes.prod(axis=1) - overlap
        chosen = np.argmax(overlap / union, axis=1)
        if np.array_equal(chosen, pairs):
            break
        pairs = chosen
        for axis, members in enumerate(np.divmod(pairs, num_ratios)):
            for number in np.unique(members):
                logs[axis][number] = features[axis][members == number].mean()
    sizes, ratios = (np.sort([float(f"{value:.3g}") for value in np.exp(one)]) for one in logs)
    ends = np.cumsum([0, *num_sizes])
    levels = tuple(
        tuple(float(size) for size in sizes[first:last]) for first, last in pairwise(ends)
    )
    return levels, tuple(float(ratio) for ratio in ratios)


def chosen_anchors(
    boxes: np.ndarray,
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float],
    strides: Sequence[int],
    image_size: tuple[int, int],
) -> tuple[Sizes, tuple[float, ...], list[str]]:
    """Keeps anchors, unless more than 5 % of the boxes have an IoU under 0.5 with their best one.

    Otherwise the given sizes times a factor are tried, with the given ratios and with those of the
    clusters, then the clusters, then three sizes of each level.

    Args:
        boxes: The training boxes, as in `best_ious`.
        sizes: Sizes of the paper's anchors, as in `best_ious`.
        ratios: Their ratios.
        strides: As in `best_ious`.
        image_size: As in `best_ious`.

    Returns:
        The sizes of each level, the ratios, and remarks on them.
    """
    given = tuple(tuple(float(size) for size in level) for level in sizes), tuple(ratios)
    if not len(boxes):
        return *given, []
    ious = best_ious(boxes, *given, strides, image_size)
    remarks = [described("Anchors of the paper", *given, ious)]
    if np.mean(ious < SCORED[0]) <= MOST_UNFIT:
        return *given, remarks
    clusters = fitted_anchors(boxes, [len(level) for level in sizes], len(ratios))

    def scaled(octaves: Sequence[float]) -> list[tuple[Sizes, tuple[float, ...]]]:
        """Returns the given sizes times each factor, with the given ratios and the clusters'."""
        return [
            (
                tuple(
                    tuple(float(f"{size * factor * one:.3g}") for size in level for one in octaves)
                    for level in sizes
                ),
                chosen,
            )
            for factor in SCALES
            for chosen in (given[1], clusters[1])
        ]

    def unfit(anchors: tuple[Sizes, tuple[float, ...]]) -> float:
        return float(np.mean(best_ious(boxes, *anchors, strides, image_size) < SCORED[0]))

    # Sizes that double from level to level are learned better than clusters with the same share
    # of fitting boxes, of which several may be as large as an object. Fewer anchors come first.
    kinds = (scaled(SINGLE), [clusters], scaled(THIRDS))
    best = [min(kind, key=unfit) for kind in kinds]
    fitted = next((one for one in best if unfit(one) <= MOST_UNFIT), min(best, key=unfit))
    better = best_ious(boxes, *fitted, strides, image_size)
    if np.mean(better < SCORED[0]) >= np.mean(ious < SCORED[0]):
        return *given, remarks
    chosen = described("They do not fit. Anchors chosen from the training boxes", *fitted, better)
    return *fitted, [*remarks, chosen]


def described(
    title: str, sizes: Sequence[Sequence[float]], ratios: Sequence[float], ious: np.ndarray
) -> str:
    """Describes anchors, and how well they fit boxes.

    Args:
        title: What precedes their sizes.
        sizes: As in `best_ious`.
        ratios: As in `best_ious`.
        ious: What `best_ious` returned, for at least one box.
    """
    levels = "; ".join(", ".join(f"{size:g}" for size in level) for level in sizes)
    shown = ", ".join(f"{ratio:g}" for ratio in ratios)
    low, high = (100 * np.mean(ious >= score) for score in SCORED)
    return (
        f"{title}: sizes {levels} pixels by level, ratios {shown} (height by width). Of the "
        f"training boxes, {low:.1f} % have an IoU of at least {SCORED[0]} with the best one, "
        f"{high:.1f} % of at least {SCORED[1]}."
    )
