"""Selective search: boxes that may have an object in them, from segments of an image."""

import heapq
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from scipy.ndimage import find_objects, gaussian_filter
from skimage.color import rgb2hsv, rgb2lab
from skimage.segmentation import felzenszwalb

ALL = ("color", "texture", "size", "fill")
"""What the similarity of two regions may sum."""
MODES: dict[str, list[tuple[str, int, tuple[str, ...]]]] = {
    "single": [("hsv", 100, ALL)],
    "fast": [*product(("hsv", "lab"), (50, 100), (ALL, ALL[1:]))],
    "quality": [
        *product(
            ("hsv", "lab", "rgi", "hue", "intensity"),
            (50, 100, 150, 300),
            (ALL, ALL[1:], ("fill",), ("size",)),
        )
    ],
}
"""Color space, scale of the first segments, and similarities of each grouping of a mode."""
SMALLEST = 20
"""Minimum width and height of a box, in pixels."""
COLOR_BINS = 25
TEXTURE_BINS = 10
DIRECTIONS = 8
"""Bins of the histograms per channel, and per channel and direction."""


def selective_search(
    image: np.ndarray, mode: str = "fast", seed: int = 0, smallest: int = SMALLEST
) -> np.ndarray:
    """Proposes boxes: those of the segments of an image, and of all that are made by joining them.

    The most similar neighbors are joined again and again until one region is left. This is done for
    several color spaces, scales of the first segments and measures of similarity. The larger
    regions tend to come first: the rank of a region, counted from the last one of its grouping, is
    multiplied by a random number.

    Reference:
        Uijlings et al., Selective Search for Object Recognition, 2013, sections 3 and 5.3.
        https://doi.org/10.1007/s11263-013-0620-5

    Args:
        image: uint8 `(height, width, 3)`.
        mode: A key of `MODES`: 1, 8 or 80 groupings.
        seed: Decides the order.
        smallest: Minimum width and height of a box, in pixels.

    Returns:
        Different boxes `(boxes, 4)`, float32, xmin, ymin, xmax, ymax in pixels, the best first.
    """
    if mode not in MODES:
        raise ValueError(f"`mode` must be one of {', '.join(MODES)}. Received: mode={mode!r}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            "`image` must be uint8 with the shape (height, width, 3). "
            f"Received: {image.dtype} with the shape {image.shape}"
        )
    random = np.random.default_rng(seed)
    boxes, keys = [], []
    for found in _groupings(image, MODES[mode]):
        boxes.append(found)
        keys.append(np.arange(len(found), 0, -1) * random.random(len(found)))
    ordered = np.concatenate(boxes)[np.argsort(np.concatenate(keys), kind="stable")]
    ordered = ordered[np.all(ordered[:, 2:] - ordered[:, :2] >= smallest, axis=1)]
    _, first = np.unique(ordered, axis=0, return_index=True)
    return ordered[np.sort(first)].astype(np.float32)


def search_into(file: Path, pixels: np.ndarray, scale: float, mode: str, smallest: int) -> None:
    """Writes the boxes of an image as float32 numbers; a reader sees all of them or no file.

    Args:
        file: Where.
        pixels: The image after it was resized.
        scale: By which coordinates in the image were multiplied; the boxes are divided by it.
        mode: As in `selective_search`.
        smallest: In the same way.
    """
    boxes = selective_search(pixels, mode, smallest=smallest) / np.float32(scale)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_bytes(boxes.astype("<f4").tobytes())
    os.replace(temporary, file)


def end_with_parent() -> None:
    """Ends this process when the one that started it ends or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent ends it.
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
    os._exit(1)


def _groupings(
    image: np.ndarray, strategies: Sequence[tuple[str, int, tuple[str, ...]]]
) -> Iterator[np.ndarray]:
    """Yields the boxes of each grouping; strategies in a row share what they have in common."""
    last_space, last_scale = "", 0
    for space, scale, similarities in strategies:
        if space != last_space:
            channels = _in_space(image, space)
            bins = [*_color_bins(channels)], [*_texture_bins(channels)]
        if (space, scale) != (last_space, last_scale):
            # It divides `scale` by 255, which fits channels from 0 to 1.
            labels = felzenszwalb(channels, scale=scale, sigma=0.8, min_size=scale)
            colors = histograms(labels, bins[0], COLOR_BINS)
            textures = histograms(labels, bins[1], TEXTURE_BINS)
            last_space, last_scale = space, scale
        yield grouped(labels, colors, textures, similarities)


def _in_space(image: np.ndarray, space: str) -> np.ndarray:
    """Returns an image in a color space, float32 `(height, width, channels)` in [0, 1]."""
    rgb = image / np.float32(255)
    match space:
        case "hsv":
            return rgb2hsv(rgb)
        case "hue":
            return rgb2hsv(rgb)[..., :1]
        case "lab":
            return (rgb2lab(rgb) + np.array([0, 128, 128])) / np.array([100, 255, 255])
        case "intensity":
            return rgb.mean(axis=2, keepdims=True)
        case _:  # rgi
            total = np.maximum(rgb.sum(axis=2, keepdims=True), 1e-6)
            return np.concatenate([rgb[..., :2] / total, total / 3], axis=2)


def _color_bins(channels: np.ndarray) -> Iterator[np.ndarray]:
    for channel in np.moveaxis(channels, 2, 0):
        yield _binned(channel, COLOR_BINS)


def _texture_bins(channels: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the bins of the increase in each direction, relative to the largest of the channel."""
    for channel in np.moveaxis(channels, 2, 0):
        along_y, along_x = (gaussian_filter(channel, 1.0, order) for order in ((1, 0), (0, 1)))
        largest = max(float(np.hypot(along_y, along_x).max()), 1e-6)
        for angle in np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS):
            slope = along_x * np.float32(np.cos(angle)) + along_y * np.float32(np.sin(angle))
            yield _binned(slope / largest, TEXTURE_BINS)


def _binned(values: np.ndarray, bins: int) -> np.ndarray:
    return np.clip(values * bins, 0, bins - 1).astype(np.intp)


def histograms(labels: np.ndarray, maps: Sequence[np.ndarray], bins: int) -> np.ndarray:
    """Counts the values of the pixels of each region.

    Args:
        labels: The region of each pixel, from 0, `(height, width)`.
        maps: The bin of each pixel, for several features.
        bins: Number of bins of each.

    Returns:
        float32 `(regions, len(maps) * bins)`; the sum of a row is 1.
    """
    regions = labels.max() + 1
    counts = [
        np.bincount((labels * bins + one).ravel(), minlength=regions * bins).reshape(-1, bins)
        for one in maps
    ]
    joined = np.concatenate(counts, axis=1, dtype=np.float32)
    return joined / joined.sum(axis=1, keepdims=True)


def grouped(
    labels: np.ndarray, colors: np.ndarray, textures: np.ndarray, similarities: Sequence[str]
) -> np.ndarray:
    """Joins the most similar neighbors until one region is left.

    Args:
        labels: The region of each pixel, from 0, `(height, width)`.
        colors: Histogram of each region, `(regions, bins)`, each row with a sum of 1.
        textures: In the same way.
        similarities: Some of `ALL`.

    Returns:
        The boxes of the regions and of those made of them, in the order in which they were made,
        `(2 * regions - 1, 4)`.
    """
    count = labels.max() + 1
    sizes, boxes = np.zeros(2 * count - 1), np.zeros((2 * count - 1, 4), int)
    sizes[:count] = np.bincount(labels.ravel())
    boxes[:count] = _boxes(labels)
    parts = {"color": colors, "texture": textures}
    used = [parts[name] for name in similarities if name in parts] or [np.zeros((count, 0))]
    features = np.zeros((2 * count - 1, sum(part.shape[1] for part in used)), np.float32)
    features[:count] = np.concatenate(used, axis=1)

    def similarity(one, others):
        """Returns how similar each pair of regions is."""
        total = np.minimum(features[one], features[others]).sum(axis=-1, dtype=np.float64)
        together = sizes[one] + sizes[others]
        if "size" in similarities:
            total += 1 - together / labels.size
        if "fill" in similarities:
            ends = np.maximum(boxes[one, ..., 2:], boxes[others, ..., 2:])
            starts = np.minimum(boxes[one, ..., :2], boxes[others, ..., :2])
            total += 1 - ((ends - starts).prod(axis=-1) - together) / labels.size
        return total

    pairs = _neighbors(labels)
    neighbors: list[set[int]] = [set() for _ in range(2 * count - 1)]
    for one, other in pairs.tolist():
        neighbors[one].add(other)
        neighbors[other].add(one)
    values = (-similarity(*pairs.T)).tolist()
    queue = [(value, *pair) for value, pair in zip(values, pairs.tolist(), strict=True)]
    heapq.heapify(queue)
    is_joined = [False] * (2 * count - 1)
    new = count
    while queue:
        _, one, other = heapq.heappop(queue)
        if is_joined[one] or is_joined[other]:
            continue
        is_joined[one] = is_joined[other] = True
        sizes[new] = sizes[one] + sizes[other]
        boxes[new, :2] = np.minimum(boxes[one, :2], boxes[other, :2])
        boxes[new, 2:] = np.maximum(boxes[one, 2:], boxes[other, 2:])
        weighted = sizes[one] * features[one] + sizes[other] * features[other]
        features[new] = weighted / sizes[new]
        around = (neighbors[one] | neighbors[other]) - {one, other}
        for near in around:
            neighbors[near] -= {one, other}
            neighbors[near].add(new)
        neighbors[new] = around
        if around:
            near = sorted(around)
            for value, region in zip((-similarity(new, near)).tolist(), near, strict=True):
                heapq.heappush(queue, (value, region, new))
        new += 1
    return boxes


def _boxes(labels: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Returns the box of each region."""
    return [
        (columns.start, rows.start, columns.stop, rows.stop)
        for rows, columns in find_objects(labels + 1)
    ]


def _neighbors(labels: np.ndarray) -> np.ndarray:
    """Returns the pairs of regions with a common edge, `(pairs, 2)`, the lower number first."""
    across = labels[:, :-1].ravel(), labels[:, 1:].ravel()
    down = labels[:-1].ravel(), labels[1:].ravel()
    pairs = np.concatenate([np.stack(across, axis=1), np.stack(down, axis=1)])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.stack(np.divmod(np.unique(pairs @ [labels.max() + 1, 1]), labels.max() + 1), axis=1)
