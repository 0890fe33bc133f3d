"""Scenes of handwritten digits on noise and photographs: a sample with boxes and masks."""

from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data.images import sample_digits
from data.object_masks import bounds
from data.sources import SPLITS

SIZE = 128
"""Height and width of a scene in pixels."""
COUNTS = {"train": 1000, "validation": 100, "test": 200}
"""Number of scenes in each split."""
DIGITS = (2, 8)
"""Minimum and maximum number of digits in a scene."""
ENLARGED = (1.5, 4.0)
"""Minimum and maximum factor by which a digit of 8 x 8 pixels is enlarged."""
MOST_OVERLAP = 0.35
"""Maximum share of the smaller square that two digits have in common, where there is room."""
TRIES = 20
"""Number of positions that are tried for a digit."""


class Scene(NamedTuple):
    """One picture of digits.

    Args:
        pixels: uint8 `(128, 128, 3)`.
        boxes: float32 `(digits, 4)`: xmin, ymin, xmax, ymax in pixels of the visible parts.
        digits: int32 `(digits,)`, 0 to 9.
        masks: bool `(digits, 128, 128)`: the pixels that a digit covers at least half, without
            those that a later digit covers.
        sources: The index of each digit in scikit-learn's set.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    digits: np.ndarray
    masks: np.ndarray
    sources: np.ndarray


def scenes(split: str) -> Iterator[Scene]:
    """Composes the scenes of a split, the same in every process; no digit is in two splits.

    A scene has 2 to 8 of scikit-learn's digits, enlarged by bilinear interpolation. Each has a
    light color of its own. Half of the backgrounds are noise, half are crops of scikit-learn's two
    photographs at half their brightness.

    Args:
        split: train, validation or test.
    """
    levels, labels, rows = sample_digits()
    folder = files("sklearn.datasets.images")
    photographs = [
        tf.io.decode_jpeg((folder / name).read_bytes()).numpy()
        for name in ("china.jpg", "flower.jpg")
    ]
    for number in range(COUNTS[split]):
        random = np.random.default_rng([SPLITS.index(split), number])
        sources = random.choice(rows[split], random.integers(DIGITS[0], DIGITS[1] + 1), False)
        background = _background(random, photographs[number // 2 % 2] if number % 2 else None)
        yield _composed(random, background, levels[sources, :, :, 0], labels[sources], sources)


def _background(random: np.random.Generator, photograph: np.ndarray | None) -> np.ndarray:
    """Returns float32 `(128, 128, 3)` in [0, 127.5]."""
    if photograph is None:
        highest = random.uniform(10, 127.5)
        return random.random((SIZE, SIZE, 3), np.float32) * np.float32(highest)
    height, width, _ = photograph.shape
    y, x = random.integers(height - SIZE), random.integers(width - SIZE)
    return photograph[y : y + SIZE, x : x + SIZE] * np.float32(0.5)


def _composed(
    random: np.random.Generator,
    pixels: np.ndarray,
    levels: np.ndarray,
    digits: np.ndarray,
    sources: np.ndarray,
) -> Scene:
    squares = np.zeros((0, 3), int)  # (digits, 3): left, top, side
    masks = np.zeros((len(digits), SIZE, SIZE), bool)
    for number, digit in enumerate(levels):
        side = round(8 * random.uniform(*ENLARGED))
        squares = np.vstack([squares, _position(random, squares, side)])
        left, top, _ = squares[-1]
        inside = slice(top, top + side), slice(left, left + side)
        weights = _interpolation(side)
        cover = weights @ (digit / np.float32(255)) @ weights.T
        color = random.uniform(160, 255, 3).astype(np.float32)
        pixels[inside] += cover[..., None] * (color - pixels[inside])
        masks[(slice(number), *inside)] &= cover < 0.5
        masks[(number, *inside)] = cover >= 0.5
    seen = masks.any(axis=(1, 2))
    masks = masks[seen]
    return Scene(
        np.round(pixels).astype(np.uint8),
        bounds(masks),
        digits[seen].astype(np.int32),
        masks,
        sources[seen],
    )


def _position(random: np.random.Generator, squares: np.ndarray, side: int) -> tuple[int, int, int]:
    """Draws the position of a square; the last of several if all overlap too much."""
    for _ in range(TRIES):
        left, top = random.integers(SIZE - side, size=2)
        common = np.minimum(squares[:, :2] + squares[:, 2:], [left + side, top + side])
        common = np.maximum(common - np.maximum(squares[:, :2], [left, top]), 0)
        smaller = np.minimum(squares[:, 2], side) ** 2
        if np.all(common.prod(axis=1) <= MOST_OVERLAP * smaller):
            break
    return left, top, side


def _interpolation(side: int) -> np.ndarray:
    """Returns the weights `(side, 8)` of a bilinear enlargement of 8 pixels."""
    centers = (np.arange(side, dtype=np.float32) + 0.5) * 8 / side - 0.5
    return np.maximum(0, 1 - np.abs(np.clip(centers, 0, 7)[:, None] - np.arange(8)))
