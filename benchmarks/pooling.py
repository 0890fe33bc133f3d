"""One network with each kind of pooling on a subset of CIFAR-10: does pooling regularise?

Zeiler & Fergus (2013) and Yu et al. (2014) found stochastic and mixed pooling to raise the
training error and lower the test error. Prints both, mean and deviation over the seeds.

Example:

    python -m benchmarks.pooling --data ../shared/data/cifar10_subset
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tyro

from benchmarks import cifar10_subset
from layers import LpPooling2D, MixedPooling2D, SpectralPooling2D, StochasticPooling2D


@dataclass(frozen=True)
class Config(cifar10_subset.Training):
    poolings: tuple[str, ...] = ()
    """Kinds of pooling to compare; none for all."""


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
    print(f"{'pooling':20}{'training error':>20}{'test error':>20}")
    for name in config.poolings or POOLINGS:
        errors = cifar10_subset.compared(partial(network, POOLINGS[name]), config)
        print(f"{name:20}{errors}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
