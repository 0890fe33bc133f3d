"""Group against batch normalisation at small batch sizes, after figure 1 of Wu & He (2018).

Batch normalisation's error rises as the batch shrinks, group normalisation's stays flat. Trains a
small residual network on a subset of CIFAR-10, the learning rate in proportion to the batch size.
Prints mean and deviation of the test error over the seeds and draws them.

Example:

    python -m benchmarks.normalization --data ../shared/data/cifar10_subset --plot norm.png
"""

import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tyro
from matplotlib.figure import Figure

from benchmarks import cifar10_subset
from layers import BatchNormalization, GroupNormalization
from training.setup import start


@dataclass(frozen=True)
class Config:
    data: Path
    """Folder of the CIFAR-10 subset."""
    seeds: int = 3
    """Runs of each pair of normalisation and batch size."""
    epochs: int = 10
    """Passes over the 5000 training images."""
    batch_sizes: tuple[int, ...] = (2, 4, 8, 16, 32)
    """Images per step."""
    learning_rate: float = 0.05
    """Peak learning rate at batch size 32."""
    plot: Path | None = None
    """PNG file to draw."""


def network(norm: str) -> keras.Model:
    """A residual network of six convolutions, 16 to 64 filters wide."""

    def normalized(x):
        layer = GroupNormalization(8) if norm == "group" else BatchNormalization()
        return layer(x)

    def convolved(x, filters, strides=1):
        return keras.layers.Conv2D(
            filters,
            3,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
        )(x)

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.ReLU()(normalized(convolved(inputs, 16, 2)))
    for filters in (32, 64):
        shortcut = keras.layers.Conv2D(filters, 1, 2, kernel_initializer="he_normal")(x)
        x = keras.layers.ReLU()(normalized(convolved(x, filters, 2)))
        x = keras.layers.ReLU()(normalized(convolved(x, filters)) + shortcut)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def main(config: Config) -> None:
    train, test = cifar10_subset.load(config.data)
    print(f"{'batch size':12}{'batch norm':>20}{'group norm':>20}   (test error)")
    errors = np.zeros((2, len(config.batch_sizes), config.seeds))
    for column, batch_size in enumerate(config.batch_sizes):
        for row, norm in enumerate(("batch", "group")):
            for seed in range(config.seeds):
                start(seed)
                _, errors[row, column, seed] = cifar10_subset.train_and_test(
                    network(norm),
                    train,
                    test,
                    epochs=config.epochs,
                    batch_size=batch_size,
                    learning_rate=config.learning_rate * batch_size / 32,
                    seed=seed,
                )
        mean = errors[:, column].mean(axis=1)
        deviation = errors[:, column].std(axis=1, ddof=1)
        cells = [f"{m:.4f} ± {d:.4f}" for m, d in zip(mean, deviation, strict=True)]
        print(f"{batch_size:<12}{cells[0]:>20}{cells[1]:>20}", flush=True)
    if config.plot:
        draw(errors, config.batch_sizes).savefig(config.plot, dpi=110)


def draw(errors: np.ndarray, batch_sizes: tuple[int, ...]) -> Figure:
    """Draws test errors `(norm, batch size, seed)` as two lines with their deviations."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, values in zip(("batch", "group"), errors, strict=True):
        mean, deviation = values.mean(axis=1), values.std(axis=1, ddof=1)
        axes.errorbar(batch_sizes, mean, deviation, marker="o", capsize=3, label=f"{name} norm")
    axes.set_xscale("log", base=2)
    axes.set_xticks(batch_sizes, [str(size) for size in batch_sizes])
    axes.invert_xaxis()
    axes.set(xlabel="batch size (images per step)", ylabel="test error")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
