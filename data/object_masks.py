"""Masks of objects: COCO's encodings, and masks cut to their boxes at one size."""

import zlib
from typing import Any

import numpy as np
import tensorflow as tf
from pycocotools import mask as coco

SIDE = 112
"""Height and width of a mask that is cut to its box."""


def bounds(masks: np.ndarray) -> np.ndarray:
    """Returns the smallest boxes that contain masks.

    Args:
        masks: bool `(masks, height, width)`, none of them empty.

    Returns:
        float32 `(masks, 4)`: xmin, ymin, xmax, ymax in pixels.

    Example:
        >>> bounds(np.pad(np.ones((1, 2, 3), bool), [(0, 0), (1, 4), (2, 4)])).tolist()
        [[2.0, 1.0, 5.0, 3.0]]
    """
    ends = []
    for axis in (1, 2):
        line = np.asarray(masks.any(axis=axis))  # Which columns, and then which rows, are covered.
        ends.append((line.argmax(axis=1), line.shape[1] - line[:, ::-1].argmax(axis=1)))
    return np.stack(list(zip(*ends, strict=True)), 0).reshape(4, -1).T.astype(np.float32)


def encoded(mask: np.ndarray) -> dict[str, Any]:
    """Encodes a mask, bool `(height, width)`, as COCO's compressed run lengths."""
    return coco.encode(np.asfortranarray(mask, np.uint8))


def decoded(mask: Any, height: int, width: int) -> np.ndarray:
    """Decodes a mask as pycocotools does.

    Args:
        mask: Run lengths, compressed or not, as a dict of `size` and `counts`; or polygons, lists
            of x and y in turns, in pixels.
        height: Height of the image in pixels, for polygons.
        width: Its width.

    Returns:
        bool `(height, width)`.
    """
    if isinstance(mask, dict) and not isinstance(mask["counts"], list):
        return coco.decode(mask).astype(bool)
    runs = coco.frPyObjects(mask, height, width)
    return coco.decode(coco.merge(runs) if isinstance(runs, list) else runs).astype(bool)


def all_decoded(masks: list[Any]) -> np.ndarray:
    """Decodes compressed run lengths of one image, at least one, to bool `(n, height, width)`."""
    return coco.decode(masks).transpose(2, 0, 1).astype(bool)


def cut(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cuts a mask to its box: each of 112 x 112 cells gets the pixel at its center.

    Args:
        mask: bool `(height, width)`.
        box: xmin, ymin, xmax, ymax in pixels, inside the image.

    Returns:
        bool `(112, 112)`.
    """
    centers = (np.arange(SIDE) + 0.5) / SIDE
    xmin, ymin, xmax, ymax = box
    rows = np.minimum((ymin + centers * (ymax - ymin)).astype(int), mask.shape[0] - 1)
    columns = np.minimum((xmin + centers * (xmax - xmin)).astype(int), mask.shape[1] - 1)
    return mask[rows[:, None], columns]


def pasted(mask: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns a mask that `cut` made to its image: each pixel gets the cell at its center.

    Args:
        mask: `(112, 112)`.
        box: xmin, ymin, xmax, ymax in pixels.
        height: Height of the image in pixels.
        width: Its width.

    Returns:
        bool `(height, width)`.
    """
    xmin, ymin, xmax, ymax = box
    rows = np.floor((np.arange(height) + 0.5 - ymin) / (ymax - ymin) * SIDE).astype(int)
    columns = np.floor((np.arange(width) + 0.5 - xmin) / (xmax - xmin) * SIDE).astype(int)
    inside = [(cells >= 0) & (cells < SIDE) for cells in (rows, columns)]
    whole = np.zeros((height, width), bool)
    whole[np.ix_(*inside)] = mask[np.ix_(rows[inside[0]], columns[inside[1]])]
    return whole


def packed(mask: np.ndarray) -> bytes:
    """Compresses a mask of `(112, 112)`."""
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def unpacked(masks: tf.Tensor) -> tf.Tensor:
    """Reads what `packed` wrote, with TensorFlow operations.

    Args:
        masks: string `(masks,)`.

    Returns:
        uint8 `(masks, 112, 112)` in {0, 1}.
    """
    content = tf.io.decode_compressed(masks, "ZLIB")
    bytes_ = tf.io.decode_raw(content, tf.uint8, fixed_length=SIDE * SIDE // 8)
    bits = tf.bitwise.right_shift(bytes_[..., None], np.arange(7, -1, -1, dtype=np.uint8))
    return tf.reshape(tf.bitwise.bitwise_and(bits, tf.constant(1, tf.uint8)), (-1, SIDE, SIDE))
