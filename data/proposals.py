"""The boxes of selective search for each image of a data set: computed once, in parallel."""

import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from data.objects import Objects
from data.selective_search import end_with_parent, search_into
from data.sources import SPLITS, watched
from preprocessing.objects import fitted

EDITION = 1
"""Changes when the same image and settings give other boxes than before."""
BYTES_OF_BOX = 16
WORTH_PROCESSES = 64
"""With fewer images, one process takes less time than others take to start."""


def cache_folder() -> Path:
    """Returns the user's folder of boxes that were computed."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "hornbook" / "selective_search"


def with_proposals(data: Objects, *, mode: str, smallest: int, most: int) -> Objects:
    """Adds `proposals` to the objects of each image: the boxes that selective search finds.

    They are float32 boxes, best first, in pixels of the upright image, and padded with zeros. The
    search sees the image as it is resized for the network. A file in `cache_folder` keeps the
    boxes of each image, so that a search that was stopped continues.

    Args:
        data: The images.
        mode: As in `data.selective_search.selective_search`.
        smallest: Minimum width and height of a box, in pixels of the resized image.
        most: Maximum number of boxes of an image.
    """
    examples = {split: data.split(split) for split in SPLITS if getattr(data, split) is not None}
    settings = f"{EDITION} {mode} {smallest} {data.image_size} {data.sides}".encode()
    files = {
        split: [_file(settings + image) for image, _ in rows.as_numpy_iterator()]
        for split, rows in examples.items()
    }
    missing = {file for some in files.values() for file in some if not file.exists()}

    def tasks():
        for split, rows in examples.items():
            for (image, _), file in zip(rows, files[split], strict=True):
                if not missing:
                    return
                if file in missing:
                    missing.remove(file)  # Two equal images have the same file.
                    one = fitted(image, data.image_size, data.sides)
                    height, width = one["true_size"].numpy()
                    pixels = one["pixels"][:height, :width].numpy()
                    yield file, pixels, float(one["scale"]), mode, smallest

    for _ in watched(_done(search_into, tasks(), len(missing)), len(missing), "Selective search"):
        pass
    sizes = [file.stat().st_size // BYTES_OF_BOX for some in files.values() for file in some]
    most = max(1, min(most, max(sizes)))
    joined = {split: _joined(rows, files[split], most) for split, rows in examples.items()}
    return replace(data, **joined, num_proposals=most)


def _file(content: bytes) -> Path:
    name = hashlib.sha256(content).hexdigest()
    return cache_folder() / name[:2] / name


def _joined(examples: tf.data.Dataset, files: list[Path], most: int) -> tf.data.Dataset:
    paths = tf.data.Dataset.from_tensor_slices(tf.constant([str(file) for file in files]))

    @tf.autograph.experimental.do_not_convert
    def joined(example, path):
        image_bytes, objects = example
        boxes = tf.reshape(tf.io.decode_raw(tf.io.read_file(path), tf.float32), (-1, 4))[:most]
        boxes = tf.pad(boxes, [(0, most - tf.shape(boxes)[0]), (0, 0)])
        return image_bytes, {**objects, "proposals": tf.ensure_shape(boxes, (most, 4))}

    rows = tf.data.Dataset.zip(examples, paths)
    return rows.map(joined, num_parallel_calls=tf.data.AUTOTUNE)


def _done(
    function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]], count: int
) -> Iterator[tuple[Any]]:
    """Yields the result of a function for each of its arguments, from parallel processes.

    Args:
        function: Of a module that imports little, since each process imports it.
        tasks: Arguments, which are made only shortly before they are needed.
        count: Number of tasks.
    """
    workers = os.cpu_count() or 1
    if count < WORTH_PROCESSES or workers == 1:
        yield from ((function(*task),) for task in tasks)
        return
    # A fork would copy the locks of TensorFlow's threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=end_with_parent)
    waiting: deque[Future] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(function, *task))
            if len(waiting) > 2 * workers:
                yield (waiting.popleft().result(),)
        while waiting:
            yield (waiting.popleft().result(),)
    finally:
        pool.shutdown(cancel_futures=True)
