"""Windows of fixed sizes and ratios all over an image: proposals that need no search."""

from collections.abc import Sequence
from itertools import product

import numpy as np


def sliding_windows(
    sizes: Sequence[float], ratios: Sequence[float], image_size: tuple[int, int], most: int
) -> np.ndarray:
    """Returns windows at even distances, which are the same share of each window's side.

    A window of size s and ratio r is s sqrt(1 / r) wide and s sqrt(r) high, unless the image is
    smaller. The share is the smallest that gives at most so many windows.

    Args:
        sizes: Square roots of the areas in pixels.
        ratios: Height over width.
        image_size: `(height, width)` in pixels.
        most: Maximum number of windows. Each size and ratio has at least one window.

    Returns:
        float32 `(windows, 4)`: xmin, ymin, xmax, ymax in pixels.

    Example:
        >>> sliding_windows([50], [1], (50, 100), 3).tolist()
        [[0.0, 0.0, 50.0, 50.0], [25.0, 0.0, 75.0, 50.0], [50.0, 0.0, 100.0, 50.0]]
    """
    limits = np.array(image_size[::-1], float)
    sides = np.array([[size / ratio**0.5, size * ratio**0.5] for size in sizes for ratio in ratios])
    sides = np.minimum(sides, limits)
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = np.sqrt(low * high)
        enough = np.sum(np.prod(_counts(sides, limits, middle), axis=1)) <= most
        low, high = (low, middle) if enough else (middle, high)
    windows = [
        (x, y, x + width, y + height)
        for (width, height), (columns, rows) in zip(
            sides, _counts(sides, limits, high), strict=True
        )
        for y, x in product(
            np.linspace(0, limits[1] - height, rows), np.linspace(0, limits[0] - width, columns)
        )
    ]
    return np.array(windows, np.float32)


def best_ious(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Returns the IoU of each box `(boxes, 4)` with its best window, `(boxes,)`."""
    best = []
    areas = np.prod(windows[:, 2:] - windows[:, :2], axis=1)
    for box in boxes:
        ends, starts = np.minimum(windows[:, 2:], box[2:]), np.maximum(windows[:, :2], box[:2])
        common = np.prod(np.maximum(ends - starts, 0), axis=1)
        best.append(np.max(common / (areas + np.prod(box[2:] - box[:2]) - common)))
    return np.array(best)


def _counts(sides: np.ndarray, limits: np.ndarray, share: float) -> np.ndarray:
    """Returns the number of windows along x and y, for each width and height."""
    return 1 + np.floor((limits - sides) / (share * sides) + 1e-9).astype(int)
