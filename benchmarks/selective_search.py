"""Recall and speed of selective search beside OpenCV's.

For the first boxes of each image: the recall of the objects at an IoU of 0.5 and 0.7, and the mean
over the classes of the average best overlap (MABO). OpenCV's module goes into a folder of its own:

    pip install --no-deps --target FOLDER opencv-contrib-python-headless

Example:

    PYTHONPATH=FOLDER python -m benchmarks.selective_search --data ../shared/data/bccd
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

try:
    import cv2
except ImportError:
    cv2 = None

import numpy as np
import tyro

from data import objects
from data.selective_search import selective_search
from data.windows import best_ious
from preprocessing.images import decoded

COUNTS = (100, 500, 1000, 2000)


@dataclass(frozen=True)
class Config:
    data: str
    """A folder of annotated images, as for object_detection."""
    images: int = 8
    """Test images: the first by name."""
    mode: str = "fast"
    """Mode of selective search."""


def opencv(image: np.ndarray, mode: str) -> np.ndarray:
    cv2.setNumThreads(1)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))
    getattr(search, f"switchTo{SWITCHES[mode]}")()
    found = search.process()
    return np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1).astype(np.float32)


SWITCHES = {
    "single": "SingleStrategy",
    "fast": "SelectiveSearchFast",
    "quality": "SelectiveSearchQuality",
}


def main(config: Config) -> None:
    data = objects.load(config.data, skip_bad=True)
    order = np.argsort(data.origins["test"])[: config.images]
    searches: dict[str, Callable[[np.ndarray, str], np.ndarray]] = {"ours": selective_search}
    if cv2:
        searches[f"OpenCV {cv2.__version__}"] = opencv
    best: dict[tuple[str, int], list[np.ndarray]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    counts: dict[str, list[int]] = {name: [] for name in searches}
    classes = []
    for image, one in data.picked("test", order):
        there = one["kind"] == 1
        classes.append(one["classes"][there])
        pixels = decoded(image)[..., :3].numpy()
        for name, search in searches.items():
            begin = time.process_time()
            boxes = search(pixels, config.mode)
            seconds[name].append(time.process_time() - begin)
            counts[name].append(len(boxes))
            for count in COUNTS:
                overlaps = best_ious(one["boxes"][there], boxes[:count])
                best.setdefault((name, count), []).append(overlaps)
    labels = np.concatenate(classes)
    print(f"{config.images} images, {len(labels)} objects, mode {config.mode}")
    for name in searches:
        print(
            f"{name}: {np.mean(counts[name]):.0f} boxes per image, "
            f"{np.median(seconds[name]):.1f} s of one core per image (median)"
        )
        for count in COUNTS:
            overlaps = np.concatenate(best[name, count])
            recalls = [np.mean(overlaps >= least) for least in (0.5, 0.7)]
            mabo = np.mean([overlaps[labels == label].mean() for label in np.unique(labels)])
            print(
                f"  first {count:4}: recall {recalls[0]:.3f} at 0.5, {recalls[1]:.3f} at 0.7, "
                f"MABO {mabo:.3f}, mean best overlap {overlaps.mean():.3f}"
            )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
