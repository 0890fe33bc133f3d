from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.apps.every_app import Small
from tests.apps.test_object_detection import SMALL as BOXES


def discs(folder: Path, count: int = 60) -> str:
    """Writes images with one or two light discs, and the number of each in an image."""
    rows, columns = np.mgrid[:64, :64] + 0.5
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(count):
        random = np.random.default_rng(number)
        pixels = random.integers(40, 90, (64, 64, 3)).astype(np.uint8)
        instances = np.zeros((64, 64), np.uint8)
        for column in range(1 + number % 2):
            radius = random.uniform(9, 14)
            y, x = random.uniform(radius, 64 - radius), 16 + 32 * column
            inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
            pixels[inside] = random.integers(180, 250, 3)
            instances[inside] = column + 1
        (folder / f"images/{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
        (folder / f"masks/{number}.png").write_bytes(tf.io.encode_png(instances[..., None]).numpy())
        split = "test" if number % 5 == 0 else "val" if number % 5 == 1 else "train"
        splits[split].append(str(number))
    for split, names in splits.items() if count > 1 else ():
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
    return str(folder)


SMALL = Small(
    write=discs,
    settings=BOXES.settings,
    beats=("mask_map50", 0.3),
    sections=BOXES.sections,
    few=lambda folder: discs(folder, 1),
    odd=BOXES.odd,
    bad=BOXES.bad,
    free=BOXES.free,
    ignored=[{"model": "mask_rcnn", "freeze_stages": 3}],
)
