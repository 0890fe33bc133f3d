"""One network with each kind of augmentation on a subset of CIFAR-10.

Prints the errors on training and test images, mean and deviation over the seeds. With 5000 images
a network without augmentation fits its training images; augmentation raises the training error.

Example:

    python -m benchmarks.augmentations --data ../shared/data/cifar10_subset
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tyro

from benchmarks import cifar10_subset
from benchmarks.pooling import POOLINGS, network
from preprocessing.augmentation import AUGMENTATIONS
from training.setup import start


@dataclass(frozen=True)
class Config:
    data: Path
    """Folder of the CIFAR-10 subset."""
    augmentations: tuple[str, ...] = AUGMENTATIONS
    """Kinds of augmentation to compare."""
    seeds: int = 2
    """Runs of each augmentation."""
    epochs: int = 20
    """Passes over the 5000 training images."""
    batch_size: int = 64
    """Images per step."""
    learning_rate: float = 0.02
    """Peak learning rate."""


def main(config: Config) -> None:
    train, test = cifar10_subset.load(config.data)
    print(f"{'augmentation':20}{'training error':>20}{'test error':>20}{'seconds':>10}")
    for name in config.augmentations:
        errors, seconds = [], []
        for seed in range(config.seeds):
            start(seed)
            begin = time.perf_counter()
            errors.append(
                cifar10_subset.train_and_test(
                    network(POOLINGS["max"]),
                    train,
                    test,
                    epochs=config.epochs,
                    batch_size=config.batch_size,
                    learning_rate=config.learning_rate,
                    seed=seed,
                    augment=name,
                )
            )
            seconds.append(time.perf_counter() - begin)
        mean, deviation = np.mean(errors, axis=0), np.std(errors, axis=0, ddof=1)
        shown = [f"{m:.3f} ± {d:.3f}" for m, d in zip(mean, deviation, strict=True)]
        print(f"{name:20}{shown[0]:>20}{shown[1]:>20}{np.median(seconds):>10.0f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
