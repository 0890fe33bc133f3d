"""Images with a class each: from the user's files, TensorFlow Datasets or a built-in sample."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from data.sources import BadData, Fault, stable_order

BUILT_IN = ("digits",)
SAMPLE_SIZE = (28, 28)
"""Size of the built-in sample, the size that LeNet-5 was made for."""


@dataclass(frozen=True)
class Images:
    """Encoded images with the number of their class, in a stable order.

    Args:
        train: Dataset of `(encoded bytes: string (), label: int32 ())`; its length is known.
        validation: Likewise.
        test: Likewise.
        classes: Name of each label.
        input_shape: `(height, width, channels)` that a network should take, in pixels.
        skipped: Bad images that were left out.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    skipped: int = 0


def load(
    data: str,
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    skip_bad: bool = False,
) -> Images:
    """Finds the images that `data` names."""
    if data == "digits":
        return _digits(image_size or SAMPLE_SIZE, channels or 1)
    fault = Fault(data, "nothing of this name", f"one of {', '.join(BUILT_IN)}", skippable=False)
    raise BadData(data, [fault])


def decode(image_bytes: tf.Tensor, input_shape: tuple[int, int, int]) -> tf.Tensor:
    """Decodes one JPEG, PNG, BMP or GIF (its first frame) to what a network takes.

    Sizes change by bilinear interpolation, averaging over all pixels when shrinking, and so may
    the aspect ratio.

    Args:
        image_bytes: The encoded image, string `()`.
        input_shape: `(height, width, channels)`, channels 1 or 3.

    Returns:
        uint8 `(height, width, channels)`.
    """
    height, width, channels = input_shape
    pixels = tf.io.decode_image(image_bytes, channels=channels, expand_animations=False)
    pixels.set_shape((None, None, channels))
    pixels = tf.image.resize(pixels, (height, width), antialias=True)
    return tf.saturate_cast(tf.round(pixels), tf.uint8)


def decode_batch(image_bytes: tf.Tensor, input_shape: tuple[int, int, int]) -> tf.Tensor:
    """Decodes many images at once, in parallel, for a server.

    Fails with an InvalidArgumentError that names the indices of all undecodable images.

    Args:
        image_bytes: The encoded images, string `(n,)`.
        input_shape: `(height, width, channels)`, channels 1 or 3.

    Returns:
        float32 `(n, height, width, channels)` in [0, 1].
    """
    # One blank image more than asked for keeps the batch from being empty when all are bad.
    blank = (tf.constant(-1, tf.int64), tf.zeros(input_shape, tf.uint8))
    decoded = (
        tf.data.Dataset.from_tensor_slices(image_bytes)
        .enumerate()
        .map(
            lambda index, encoded: (index, decode(encoded, input_shape)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .ignore_errors()
        .concatenate(tf.data.Dataset.from_tensors(blank))
    )
    count = tf.size(image_bytes, out_type=tf.int64)
    indices, images = decoded.batch(count + 1).get_single_element()
    bad = tf.sets.difference(tf.range(count)[None], indices[None, :-1]).values
    message = "`image_bytes` must hold JPEG, PNG, BMP or GIF images. Undecodable indices:"
    with tf.control_dependencies([tf.debugging.Assert(tf.size(bad) == 0, [message, bad], 1000)]):
        return as_floats(images[:-1])


def as_floats(images: tf.Tensor) -> tf.Tensor:
    """Scales uint8 levels 0 to 255 to float32 in [0, 1], which networks take."""
    return tf.cast(images, tf.float32) / 255.0


def _digits(image_size: tuple[int, int], channels: int) -> Images:
    """Splits scikit-learn's 1797 handwritten digits (8 x 8 pixels, levels 0 to 16).

    Test and validation get 27 images of each digit, 270 each, the training set the other 1257. Which
    ones is fixed by a hash of their number in scikit-learn's order.
    """
    from sklearn.datasets import load_digits

    levels, labels = load_digits(return_X_y=True)
    pixels = np.round(levels.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    order = np.array(sorted(range(len(labels)), key=lambda index: stable_order(f"digits/{index}")))
    # Rank of each digit among those of its class, in the order above.
    ranks = np.zeros(len(labels), int)
    for label in range(10):
        ranks[order[labels[order] == label]] = np.arange(np.sum(labels == label))

    def chosen(first: int, last: int) -> tf.data.Dataset:
        indices = order[(ranks[order] >= first) & (ranks[order] < last)]
        examples = (pixels[indices], labels[indices].astype(np.int32))
        return tf.data.Dataset.from_tensor_slices(examples).map(
            lambda image, label: (tf.io.encode_png(image), label)
        )

    return Images(
        train=chosen(54, len(labels)),
        validation=chosen(27, 54),
        test=chosen(0, 27),
        classes=tuple(str(digit) for digit in range(10)),
        input_shape=(*image_size, channels),
    )
