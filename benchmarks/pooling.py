"""One network with each kind of pooling on a subset of CIFAR-10: does pooling regularise?

Zeiler & Fergus (2013) and Yu et al. (2014) found stochastic and mixed pooling to raise the
training error and lower the test error. Prints both, mean and deviation over the seeds.

Example:

    python -m benchmarks.pooling --data ../shared/data/cifar10_subset
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tyro

from benchmarks import cifar10_subset
from layers import LpPooling2D, MixedPooling2D, SpectralPooling2D, StochasticPooling2D
from training.setup import start


@dataclass(frozen=True)
class Config:
    data: Path
    """Folder of the CIFAR-10 subset."""
    poolings: tuple[str, ...] = ()
    """Kinds of pooling to compare; none for all."""
    seeds: int = 3
    """Runs of each pooling."""
    epochs: int = 10
    """Passes over the 5000 training images."""
    batch_size: int = 64
    """Images per step."""
    learning_rate: float = 0.02
    """Peak learning rate."""


WINDOW: dict[str, Any] = {"pool_size": 3, "strides": 2, "padding": "same"}

POOLINGS: dict[str, Callable[[], keras.layers.Layer]] = {
    "max": lambda: keras.layers.MaxPooling2D(**WINDOW),
    "average": lambda: keras.layers.AveragePooling2D(**WINDOW),
    "lp, p=3": lambda: LpPooling2D(p=3.0, **WINDOW),
    "mixed, alpha=0.5": lambda: MixedPooling2D(mode="fixed", alpha=0.5, **WINDOW),
    "mixed, random": lambda: MixedPooling2D(mode="random", **WINDOW),
    "mixed, learned": lambda: MixedPooling2D(mode="learned", **WINDOW),
    "stochastic": lambda: StochasticPooling2D(**WINDOW),
    "spectral": lambda: SpectralPooling2D(**WINDOW),
}


def network(pooling: Callable[[], keras.layers.Layer]) -> keras.Model:
    """Three convolutions with overlapping pooling, after Zeiler & Fergus (2013), half as wide."""
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for filters in (32, 32, 64):
        x = keras.layers.Conv2D(
            filters, 5, padding="same", activation="relu", kernel_initializer="he_normal"
        )(x)
        x = pooling()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(x)))


def main(config: Config) -> None:
    train, test = cifar10_subset.load(config.data)
    print(f"{'pooling':20}{'training error':>20}{'test error':>20}")
    for name in config.poolings or POOLINGS:
        pooling, errors = POOLINGS[name], []
        for seed in range(config.seeds):
            start(seed)
            errors.append(
                cifar10_subset.train_and_test(
                    network(pooling),
                    train,
                    test,
                    epochs=config.epochs,
                    batch_size=config.batch_size,
                    learning_rate=config.learning_rate,
                    seed=seed,
                )
            )
        print(f"{name}: {errors}", file=sys.stderr)
        mean, deviation = np.mean(errors, axis=0), np.std(errors, axis=0, ddof=1)
        cells = [f"{m:.4f} ± {d:.4f}" for m, d in zip(mean, deviation, strict=True)]
        print(f"{name:20}{cells[0]:>20}{cells[1]:>20}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
