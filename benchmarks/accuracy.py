"""Accuracy of the image classification app over seeds.

Runs the app as a user would, with the options below, once a seed, and prints mean and deviation.
`--no-test` shows the validation images' alone: settings are to be chosen by it, without a look at
the test images.

Example:

    TFDS_DATA_DIR=../shared/tfds python -m benchmarks.accuracy --experiments digits_lenet5
"""

import contextlib
import csv
import io
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tyro

from apps import image_classification as app

LENET5 = app.Config(data="tfds:fashion_mnist", epochs=15, batch_size=64, augment="none")

EXPERIMENTS = {
    "digits_lenet5": app.Config(),
    "fashion_mnist_lenet5": replace(LENET5, pool="max"),
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
"""What the documentation claims."""

CANDIDATES = {
    "fashion_mnist_lenet5_average": LENET5,
    "fashion_mnist_lenet5_light": replace(LENET5, pool="max", augment="light"),
}
"""What `fashion_mnist_lenet5` was chosen from."""


@dataclass(frozen=True)
class Config:
    experiments: tuple[str, ...] = tuple(EXPERIMENTS)
    """What to run, of `EXPERIMENTS` and `CANDIDATES`."""
    seeds: int = 5
    """Runs of each, with seeds 0, 1, ..."""
    test: bool = True
    """Tell the accuracy on the test images too."""


def accuracies(config: app.Config, test: bool) -> dict[str, float]:
    """Runs the app and returns the accuracies that may be looked at."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(sys.stdout if test else io.StringIO()):
            scores = app.main(replace(config, out=Path(folder)))
        with (Path(folder) / "history.csv").open() as file:
            last = list(csv.DictReader(file))[-1]
    found = {"validation": float(last["val_accuracy"])}
    return {**found, "test": scores["accuracy"]} if test else found


def main(config: Config) -> None:
    experiments = EXPERIMENTS | CANDIDATES
    for name in config.experiments:
        runs, minutes = [], []
        for seed in range(config.seeds):
            begin = time.perf_counter()
            runs.append(accuracies(replace(experiments[name], seed=seed), config.test))
            minutes.append((time.perf_counter() - begin) / 60)
            print(f"{name} seed {seed}: {runs[-1]}, {minutes[-1]:.1f} min", flush=True)
        for images in runs[0]:
            values = [run[images] for run in runs]
            deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
            print(
                f"{name}, {images} images: {np.mean(values):.4f} ± {deviation:.4f}, lowest "
                f"{min(values):.4f}, median {np.median(minutes):.1f} min a run",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
