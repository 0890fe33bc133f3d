"""The orientation of the camera in image files, with TensorFlow operations only.

Reference: CIPA DC-008, Exif 2.32, sections 4.5 to 4.6 (JPEG, directory, orientation); Portable
Network Graphics, third edition, section 11.3.3.6 (eXIf); RFC 9649, section 2.7 (WebP).
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

UPRIGHT = 1
MOST_PARTS = 1024
"""Maximum number of parts of a file that are read."""
MOST_ENTRIES = 256
"""Maximum number of entries of a directory that are read."""

_PREFIX = b"Exif\0\0"
_HEAD = 4 + len(_PREFIX)


class _Layout(NamedTuple):
    """The layout of the parts of a file.

    Args:
        first: Offset of the first part in the file, in bytes.
        mark: The first bytes of the part with EXIF; a question mark matches any byte.
        size: What each byte of its head counts for in the size.
        counted: Offset in the part from which its size counts.
        content: Offset of the content in the part.
        after: Bytes between the content and the next part.
    """

    first: int
    mark: bytes
    size: list[int]
    counted: int
    content: int
    after: int


_FOUR = [256**3, 256**2, 256, 1]
_LAYOUTS = {
    "JPEG": _Layout(2, b"\xff\xe1??" + _PREFIX, [0, 0, 256, 1], 2, 4, 0),
    "PNG": _Layout(8, b"????eXIf", _FOUR, 8, 8, 4),
    "WebP": _Layout(12, b"EXIF", [0] * 4 + _FOUR[::-1], 8, 8, 0),
}
_MARKS = np.array([list(layout.mark.ljust(_HEAD, b"?")) for layout in _LAYOUTS.values()], np.int64)
_SIZES = np.array([(layout.size + [0] * _HEAD)[:_HEAD] for layout in _LAYOUTS.values()], np.int64)
_PLACES = np.array(
    [[layout.first, layout.counted, layout.content, layout.after] for layout in _LAYOUTS.values()],
    np.int64,
)


@tf.function(input_signature=[tf.TensorSpec((), tf.string)] * 2, autograph=False)
def orientation(image_bytes: tf.Tensor, kind: tf.Tensor) -> tf.Tensor:
    """Reads the EXIF orientation of an image; broken data counts as upright.

    Args:
        image_bytes: The encoded image, string `()`.
        kind: The name of its format, string `()`, from `preprocessing.images.kind`.

    Returns:
        int32 `()` from 1 to 8; 1 is upright.
    """
    return _in_directory(_block(image_bytes, kind))


def turned(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image upright.

    Args:
        pixels: `(height, width, channels)` as stored.
        orientation: int32 `()`. The first pixel belongs at the top left (1, 5), top right (2, 6),
            bottom right (3, 7) or bottom left (4, 8). From 5 on, the stored rows are columns.
    """

    def moved():
        standing = tf.cond(
            is_lying(orientation), lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels
        )
        corner = (orientation - 1) % 4  # Clockwise from the top left.
        return tf.raw_ops.Reverse(
            tensor=standing, dims=tf.stack([corner >= 2, (corner == 1) | (corner == 2), False])
        )

    return tf.cond(orientation == UPRIGHT, lambda: pixels, moved)


def is_lying(orientation: tf.Tensor) -> tf.Tensor:
    """Whether turning the image upright exchanges its height and width."""
    return orientation >= 5


def _block(image_bytes: tf.Tensor, kind: tf.Tensor) -> tf.Tensor:
    """Cuts out the content of the first part with EXIF; empty if there is none."""
    end = _length(image_bytes)
    is_kind = kind == list(_LAYOUTS)
    is_jpeg, _, is_webp = tf.unstack(is_kind)
    flags = _bytes(image_bytes, 12, 9)
    has_flag = tf.reduce_all(flags[:4] == list(b"VP8X")) & (flags[8] & 0x08 != 0)
    has_parts = tf.reduce_any(is_kind) & (has_flag | ~is_webp)
    row = tf.argmax(is_kind)
    mark, size_of = tf.gather(_MARKS, row), tf.gather(_SIZES, row)
    first, counted, content, after = tf.unstack(tf.gather(_PLACES, row))

    def step(at, begin, size):
        head = _bytes(image_bytes, at, _HEAD)
        behind = at + counted + tf.reduce_sum(head * size_of)
        is_exif = tf.reduce_all((head == mark) | (mark == ord("?")))
        # Chunks of WebP begin at even offsets. Segments of JPEG may begin with further FF, and
        # the pixels follow segment DA.
        following = behind + tf.where(is_webp, behind % 2, after)
        is_filled = is_jpeg & (head[0] == 0xFF) & (head[1] == 0xFF)
        following = tf.where(is_filled, at + 1, following)
        is_last = is_jpeg & ((head[0] != 0xFF) | (head[1] == 0xDA) | (following < at + 1))
        return (
            tf.where(is_exif | is_last, end, following),
            tf.where(is_exif, tf.minimum(at + content, end), begin),
            tf.where(is_exif, tf.maximum(behind - at - content, 0), size),
        )

    _, begin, size = tf.while_loop(
        lambda at, _begin, _size: at < end,
        step,
        (tf.where(has_parts, first, end), tf.zeros((), tf.int64), tf.zeros((), tf.int64)),
        maximum_iterations=MOST_PARTS,
    )
    return tf.strings.substr(image_bytes, begin, size)


def _in_directory(block: tf.Tensor) -> tf.Tensor:
    """Reads the orientation from the first directory of EXIF."""

    def read():
        # Some programs write the prefix of JPEG into PNG and WebP, too.
        start = tf.where(tf.strings.substr(block, 0, len(_PREFIX)) == _PREFIX, len(_PREFIX), 0)
        start = tf.cast(start, tf.int64)
        head = _bytes(block, start, 8)
        is_little = head[0] == ord("I")

        def numbers(values):  # (..., n) bytes to (...)
            powers = tf.constant(256 ** np.arange(values.shape[-1]))
            return tf.reduce_sum(values * tf.where(is_little, powers, powers[::-1]), axis=-1)

        marks = tf.where(is_little, list(b"II*\0"), list(b"MM\0*"))
        is_known = tf.reduce_all(head[:4] == tf.cast(marks, tf.int64))
        directory = start + numbers(head[4:])
        count = numbers(_bytes(block, directory, 2))
        # (entries, 12): tag, type, count, value
        entries = tf.reshape(_bytes(block, directory + 2, 12 * MOST_ENTRIES), (-1, 12))
        is_orientation = (
            (numbers(entries[:, :2]) == 0x0112)
            & (numbers(entries[:, 2:4]) == 3)  # A number of 16 bits,
            & (numbers(entries[:, 4:8]) == 1)  # one of them.
            & (tf.range(MOST_ENTRIES, dtype=tf.int64) < count)
        )
        value = tf.reduce_max(tf.where(is_orientation, numbers(entries[:, 8:10]), 0))
        is_valid = is_known & (value >= 1) & (value <= 8)
        return tf.where(is_valid, tf.cast(value, tf.int32), UPRIGHT)

    return tf.cond(tf.strings.length(block) == 0, lambda: tf.constant(UPRIGHT), read)


def _length(content: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(content), tf.int64)


def _bytes(content: tf.Tensor, at: tf.Tensor | int, count: int) -> tf.Tensor:
    """Reads int64 `(count,)` at an offset; bytes beyond the end count as 0."""
    at = tf.minimum(tf.cast(at, tf.int64), _length(content))
    part = tf.strings.substr(content, at, tf.constant(count, tf.int64))
    return tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=count), tf.int64)
