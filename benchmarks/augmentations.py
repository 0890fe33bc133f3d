"""One network with each kind of augmentation on a subset of CIFAR-10.

Prints the errors on training and test images, mean and deviation over the seeds. With 5000 images
a network without augmentation fits its training images; augmentation raises the training error.

Example:

    python -m benchmarks.augmentations --data ../shared/data/cifar10_subset
"""

import os
from dataclasses import dataclass
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tyro

from benchmarks import cifar10_subset
from benchmarks.pooling import POOLINGS, network
from preprocessing.augmentation import AUGMENTATIONS


@dataclass(frozen=True)
class Config(cifar10_subset.Training):
    epochs: int = 20
    augmentations: tuple[str, ...] = AUGMENTATIONS
    """Kinds of augmentation to compare."""


def main(config: Config) -> None:
    print(f"{'augmentation':20}{'training error':>20}{'test error':>20}")
    for name in config.augmentations:
        errors = cifar10_subset.compared(partial(network, POOLINGS["max"]), config, name)
        print(f"{name:20}{errors}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
