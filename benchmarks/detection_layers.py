"""Speed of the layers of object detection against torchvision.

ROIAlign and non-maximum suppression have two forms: TensorFlow's kernels, and one that XLA
compiles. Each is a `tf.function`, and operations are deterministic, as in runs on a CPU. Runs
alternate between all; what is printed is the median of each in milliseconds, and how many times as
long torchvision takes. torchvision's wheel needs the PyTorch that it was built with, so both go
into a folder of their own:

    pip install --target FOLDER torch torchvision

Example:

    PYTHONPATH=FOLDER OMP_WAIT_POLICY=passive python -m benchmarks.detection_layers
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

try:  # Before TensorFlow, after which torchvision crashes the process.
    import torch
    import torchvision

    MISSING = ""
except (ImportError, RuntimeError) as error:
    torch = torchvision = None
    MISSING = f"{type(error).__name__}: {str(error).splitlines()[0]}"

import keras
import numpy as np
import tensorflow as tf
import tyro

from benchmarks.layers import medians
from layers import NonMaxSuppression, PyramidROIAlign, ROIAlign

SIDE, CHANNELS, STRIDE = 64, 256, 16
"""Of the feature map; the image has 1024 x 1024 pixels. The pyramid has strides from 4 to 32."""


@dataclass(frozen=True)
class Config:
    only: str = ""
    """Measure only the work whose name contains this."""
    rounds: int = 7
    """Interleaved runs of each."""
    boxes: int = 1000
    """Boxes that are pooled."""


Runs = dict[str, Callable]
"""By "ours", "ours XLA" and "torchvision"."""


def regions(number: int) -> np.ndarray:
    """Boxes with sides from 20 to 400 pixels within the image, `(1, number, 4)`."""
    random = np.random.default_rng(0)
    corners = random.uniform(0, SIDE * STRIDE - 20, size=(1, number, 2))
    ends = corners + random.uniform(20, 400, size=(1, number, 2))
    boxes = np.concatenate([corners, np.minimum(ends, SIDE * STRIDE)], axis=2)
    return boxes.astype("float32")


def proposals(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes around 40 objects, as a region proposal network gives them, and their scores."""
    random = np.random.default_rng(1)
    objects = regions(40)[0][random.integers(40, size=number)]
    sides = np.tile(objects[:, 2:] - objects[:, :2], 2)
    boxes = objects + sides * random.normal(0, 0.15, size=(number, 4))
    scores = random.random(number)
    return boxes[None].astype("float32"), scores[None].astype("float32")


def passes(layer: keras.layers.Layer, maps: list, boxes: np.ndarray, jit_compile: bool):
    """The forward pass, and that of the loss sum(y^2) with its gradient to the maps."""
    maps, boxes = [tf.constant(x) for x in maps], tf.constant(boxes)

    def pooled():
        return layer([maps if isinstance(layer, PyramidROIAlign) else maps[0], boxes])

    @tf.function(jit_compile=jit_compile)
    def forward():
        return pooled()

    @tf.function(jit_compile=jit_compile)
    def forward_and_backward():
        with tf.GradientTape() as tape:
            tape.watch(maps)
            loss = tf.reduce_sum(tf.square(pooled()))
        return tape.gradient(loss, maps)

    return forward, forward_and_backward


def torch_passes(pooling: Callable, maps: list, boxes: np.ndarray):
    """The same two passes of torchvision's `pooling(maps, [boxes])`."""
    maps = [torch.tensor(x).permute(0, 3, 1, 2).contiguous().requires_grad_() for x in maps]
    lists = [torch.tensor(boxes[0])]

    def forward():
        with torch.no_grad():
            return pooling(maps, lists)

    def forward_and_backward():
        return torch.autograd.grad(pooling(maps, lists).square().sum(), maps)

    return forward, forward_and_backward


def pooling_runs(index: int, layer_class, arguments: tuple, maps: list, boxes, pooling) -> Runs:
    """The runs of a layer and its counterpart: forward (0), or forward and backward (1)."""
    both = {
        "ours": passes(layer_class(*arguments, compilable=False), maps, boxes, False),
        "ours XLA": passes(layer_class(*arguments), maps, boxes, True),
    }
    if torchvision is not None:
        both["torchvision"] = torch_passes(pooling, maps, boxes)
    return {name: runs[index] for name, runs in both.items()}


def roi_align_runs(number: int, index: int) -> Runs:
    features = np.random.default_rng(2).normal(size=(1, SIDE, SIDE, CHANNELS)).astype("float32")

    def pooling(maps, boxes):
        return torchvision.ops.roi_align(maps[0], boxes, 7, 1 / STRIDE, 2, aligned=True)

    return pooling_runs(index, ROIAlign, (7, STRIDE), [features], regions(number), pooling)


def pyramid_runs(number: int, index: int) -> Runs:
    random, sides = np.random.default_rng(2), [SIDE * STRIDE // stride for stride in (4, 8, 16, 32)]
    maps = [random.normal(size=(1, x, x, CHANNELS)).astype("float32") for x in sides]
    theirs = None
    if torchvision is not None:
        theirs = torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)

    def pooling(maps, boxes):
        named = {str(level): features for level, features in enumerate(maps)}
        return theirs(named, boxes, [(SIDE * STRIDE, SIDE * STRIDE)])

    return pooling_runs(index, PyramidROIAlign, (7,), maps, regions(number), pooling)


def suppression_runs(number: int) -> Runs:
    boxes, scores = proposals(number)
    inputs = [tf.constant(boxes), tf.constant(scores)]

    def ours(compilable: bool) -> Callable:
        layer = NonMaxSuppression(0.7, 1000, compilable=compilable)
        return tf.function(lambda: layer(inputs), jit_compile=compilable)

    runs = {"ours": ours(False), "ours XLA": ours(True)}
    if torchvision is not None:
        tensors = torch.tensor(boxes[0]), torch.tensor(scores[0])
        runs["torchvision"] = lambda: tensors[0][torchvision.ops.nms(*tensors, 0.7)[:1000]]
    return runs


def main(config: Config) -> None:
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    print(
        f"Without torchvision: {MISSING}" if MISSING else f"torchvision {torchvision.__version__}"
    )
    pools = {"ROIAlign": roi_align_runs, "PyramidROIAlign": pyramid_runs}
    works: dict[str, Callable[[], Runs]] = {}
    for name, pool in pools.items():
        for index, title in enumerate(("forward", "forward + backward")):
            works[f"{name}, {config.boxes} boxes, {title}"] = partial(pool, config.boxes, index)
    for number in (1000, 4000):
        works[f"NMS, {number} boxes"] = partial(suppression_runs, number)
    print("| work | ours, ms | XLA, ms | torchvision, ms | ratio | ratio XLA |\n|" + " --- |" * 6)
    for name, make in works.items():
        if config.only in name:
            found = medians(make(), config.rounds)
            theirs = found.get("torchvision", float("nan"))
            cells = [found["ours"], found["ours XLA"], theirs]
            ratios = [theirs / x for x in cells[:2]]
            numbers = [f"{x:.1f}" for x in cells] + [f"{x:.2f}" for x in ratios]
            print(f"| {name} | {' | '.join(numbers)} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
