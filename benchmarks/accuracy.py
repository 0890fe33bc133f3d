"""Test accuracy of the image classification app over seeds.

Runs the app as a user would, with the options below, once a seed, and prints mean and deviation.

Example:

    TFDS_DATA_DIR=../shared/tfds python -m benchmarks.accuracy --experiments digits_lenet5
"""

import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tyro

from apps import image_classification as app

EXPERIMENTS = {
    "digits_lenet5": app.Config(),
    "fashion_mnist_lenet5": app.Config(
        data="tfds:fashion_mnist", pool="max", epochs=15, batch_size=64, augment="none"
    ),
    "fashion_mnist_cifar_resnet20": app.Config(
        data="tfds:fashion_mnist",
        model="cifar_resnet20",
        epochs=12,
        batch_size=128,
        optimizer="nesterov",
        learning_rate=0.1,
        weight_decay=5e-3,
        warmup_epochs=0.5,
        augment="light",
    ),
}


@dataclass(frozen=True)
class Config:
    experiments: tuple[str, ...] = tuple(EXPERIMENTS)
    """What to run."""
    seeds: int = 5
    """Runs of each, with seeds 0, 1, ..."""


def main(config: Config) -> None:
    for name in config.experiments:
        accuracies, minutes = [], []
        for seed in range(config.seeds):
            begin = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                scores = app.main(replace(EXPERIMENTS[name], seed=seed, out=Path(folder)))
            minutes.append((time.perf_counter() - begin) / 60)
            accuracies.append(scores["accuracy"])
            print(
                f"{name} seed {seed}: {scores['accuracy']:.4f}, {minutes[-1]:.1f} min", flush=True
            )
        deviation = np.std(accuracies, ddof=1) if len(accuracies) > 1 else float("nan")
        print(
            f"{name}: {np.mean(accuracies):.4f} ± {deviation:.4f}, lowest {min(accuracies):.4f}, "
            f"median {np.median(minutes):.1f} min a run",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
