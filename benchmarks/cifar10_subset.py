"""The 5000 + 1000 image subset of CIFAR-10 that the comparisons of networks train on."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from preprocessing.augmentation import augmentation
from training.loop import fit
from training.optimizers import learning_rate_schedule, optimizer
from training.setup import start

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Training:
    """How a comparison trains."""

    data: Path
    """Folder of the CIFAR-10 subset."""
    seeds: int = 3
    """Runs of each network; at least 2."""
    epochs: int = 10
    """Passes over the 5000 training images."""
    batch_size: int = 64
    """Images per step."""
    learning_rate: float = 0.02
    """Peak learning rate."""


def load(folder: Path) -> tuple[Arrays, Arrays]:
    """Reads uint8 images `(n, 32, 32, 3)` and labels `(n,)` for training and testing.

    Args:
        folder: Has `cifar10_batch_N.png`, one image of 32 x 32 per row, and their labels; batch 50
            is the test set.
    """
    paths = sorted(folder.glob("cifar10_batch_*.png"))
    if not paths:
        raise FileNotFoundError(f"{folder} has no cifar10_batch_N.png; name the folder by --data")

    def read(chosen) -> Arrays:
        pictures = [tf.io.decode_png(path.read_bytes()).numpy() for path in chosen]
        labels = [np.loadtxt(path.with_suffix(".labels.txt"), dtype=int) for path in chosen]
        return np.concatenate(pictures).reshape(-1, 32, 32, 3), np.concatenate(labels)

    is_test = [path.stem.endswith("_50") for path in paths]
    train = [path for path, test in zip(paths, is_test, strict=True) if not test]
    return read(train), read([path for path in paths if path not in train])


def write(data: Path, folder: Path, splits: dict[int, str]) -> Path:
    """Writes the images as files, and a table of them as image_classification reads it.

    Args:
        data: As in `load`.
        folder: Where to write.
        splits: The split of each batch that is wanted, by the batch's number.

    Returns:
        The path of the table.
    """
    rows = [["path", "label", "split"]]
    for batch, split in splits.items():
        stack = tf.io.decode_png((data / f"cifar10_batch_{batch}.png").read_bytes()).numpy()
        labels = (data / f"cifar10_batch_{batch}.labels.txt").read_text().split()
        for i, pixels in enumerate(stack.reshape(-1, 32, 32, 3)):
            path = folder / f"{batch}_{i}.png"
            path.write_bytes(tf.io.encode_png(pixels).numpy())
            rows.append([path.name, labels[i], split])
    with (folder / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "images.csv"


def train_and_test(
    model: keras.Model,
    train: Arrays,
    test: Arrays,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    augment: str = "none",
) -> tuple[float, float]:
    """Trains with momentum and a cosine, returns the errors on training and test images in [0, 1].

    Both are measured at the end, in inference mode and without augmentation.
    """
    steps = steps_per_epoch(len(train[0]), batch_size)
    model.compile(
        optimizer=optimizer(
            "momentum", learning_rate_schedule(learning_rate, "cosine", 0, steps * epochs), 5e-3
        ),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    vary = augmentation(augment, (32, 32, 3))

    def transform(pixels, labels, seed):
        return vary(tf.cast(pixels, tf.float32) / 255, tf.one_hot(labels, 10), seed)

    fit(
        model,
        lambda start: training_batches(
            tf.data.Dataset.from_tensor_slices(train),
            batch_size=batch_size,
            seed=seed,
            epochs=epochs,
            start_step=start,
            transform=transform,
        ),
        epochs=epochs,
        steps_per_epoch=steps,
    )

    def error(arrays: Arrays) -> float:
        batches = evaluation_batches(
            tf.data.Dataset.from_tensor_slices(arrays),
            batch_size=250,
            transform=lambda pixels, labels: (
                tf.cast(pixels, tf.float32) / 255,
                tf.one_hot(labels, 10),
            ),
        )
        return 1 - model.evaluate(batches, verbose=0, return_dict=True)["accuracy"]

    return error(train), error(test)


def compared(make: Callable[[], keras.Model], config: Training, augment: str = "none") -> str:
    """Trains with each seed; returns the errors on training and test images, mean and deviation."""
    train, test = load(config.data)
    errors = []
    for seed in range(config.seeds):
        start(seed)
        errors.append(
            train_and_test(
                make(),
                train,
                test,
                epochs=config.epochs,
                batch_size=config.batch_size,
                learning_rate=config.learning_rate,
                seed=seed,
                augment=augment,
            )
        )
    mean, deviation = np.mean(errors, axis=0), np.std(errors, axis=0, ddof=1)
    cells = (f"{m:.4f} ± {d:.4f}" for m, d in zip(mean, deviation, strict=True))
    return "".join(f"{cell:>20}" for cell in cells)
