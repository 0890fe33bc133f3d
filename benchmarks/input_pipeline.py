"""Images per second of the input pipeline, against the training step that it feeds.

Generated photographs are JPEGs of 500 x 375 pixels; uncached ones are read and decoded in every
epoch. An epoch that fills a cache is not timed. The pipeline keeps up where its number is above the
network's; both share the processor, so twice as much is comfortable.

Example:

    TFDS_DATA_DIR=../shared/tfds python -m benchmarks.input_pipeline
"""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import tyro
from PIL import Image

from data import images
from data.pipeline import training_batches
from models.cifar_resnet import cifar_resnet
from models.lenet import lenet5
from models.mobilenet import mobilenet
from preprocessing.augmentation import AUGMENTATIONS, augmentation
from preprocessing.images import as_floats, decode


@dataclass(frozen=True)
class Config:
    data: tuple[str, ...] = ("digits", "tfds:fashion_mnist", "photographs")
    """What `data.images.load` takes, or `photographs` for a generated folder."""
    photographs: int = 400
    """Photographs to generate."""
    seconds: float = 2.0
    """How long each row is timed, after the first batch."""
    batch_size: int = 128
    """Images per batch; photographs take a quarter."""


def write_photographs(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"class{i % 4}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        levels = random.integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(levels).resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)


def images_per_second(batches: tf.data.Dataset, seconds: float) -> float:
    iterator = iter(batches)
    next(iterator)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        pixels, _ = next(iterator)
        count += len(pixels)
    return count / (time.perf_counter() - begin)


def pipeline_speed(data: images.Images, name: str, cache: bool, size: int, seconds: float) -> float:
    augment = augmentation(name, data.input_shape)
    batches = training_batches(
        data.train,
        batch_size=size,
        seed=0,
        epochs=10_000,
        prepare=lambda image_bytes, label: (decode(image_bytes, data.input_shape), label),
        transform=lambda pixels, labels, seed: augment(
            as_floats(pixels), tf.one_hot(labels, len(data.classes)), seed
        ),
        cache=cache,
    )
    return images_per_second(batches, seconds)


def training_speed(model: keras.Model, data: images.Images, size: int, seconds: float) -> float:
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)
    pixels = tf.random.stateless_uniform((size, *data.input_shape), (0, 0))
    batch = (pixels, tf.one_hot(tf.range(size) % len(data.classes), len(data.classes)))
    step = tf.function(model.train_step)
    step(batch)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        step(batch)
        count += size
    return count / (time.perf_counter() - begin)


def networks(data: images.Images) -> list[keras.Model]:
    shape, classes = data.input_shape, len(data.classes)
    if shape[0] > 64:
        return [mobilenet(shape, classes)]
    return [lenet5(shape, classes), cifar_resnet(shape, classes, depth=20)]


def measure(name: str, data: images.Images, size: int, config: Config) -> None:
    shape = " x ".join(map(str, data.input_shape))
    print(f"\n{name}: {len(data.train)} images, {shape}, {size} per batch\n")
    print("| images/s | uncached | cached |\n| --- | ---: | ---: |")
    for augment in AUGMENTATIONS:
        speeds = [
            pipeline_speed(data, augment, cache, size, config.seconds) for cache in (False, True)
        ]
        print(f"| augmentation {augment} | {speeds[0]:,.0f} | {speeds[1]:,.0f} |", flush=True)
    for model in networks(data):
        speed = training_speed(model, data, size, config.seconds)
        print(f"| training step of {model.name} | {speed:,.0f} | {speed:,.0f} |", flush=True)


def main(config: Config) -> None:
    for name in config.data:
        if name != "photographs":
            measure(name, images.load(name), config.batch_size, config)
            continue
        with tempfile.TemporaryDirectory() as folder:
            write_photographs(Path(folder), config.photographs)
            measure(name, images.load(folder), config.batch_size // 4, config)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
