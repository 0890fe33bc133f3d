"""Tell which class an image belongs to.

Reaches 0.99 test accuracy on handwritten digits in half a minute on 2 CPU cores.

Example:

    python -m apps.image_classification --data path/to/folder --model resnet18 --epochs 30
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from data import images
from data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from metrics.classification import Evaluation, best_classes, evaluate
from models.alexnet import alexnet
from models.cifar_resnet import cifar_resnet
from models.imagenet import PRESETS, pretrained
from models.inception_resnet_v2 import inception_resnet_v2
from models.inception_v1 import WithAuxiliaryHeads, googlenet
from models.inception_v2 import inception_v2
from models.inception_v3 import inception_v3
from models.inception_v4 import inception_v4
from models.lenet import lenet5
from models.mlp import mlp
from models.mobilenet import mobilenet
from models.resnet import resnet
from models.vgg import vgg
from models.vit import vit
from models.zfnet import zfnet
from preprocessing.augmentation import augmentation
from preprocessing.images import as_floats, decode, decode_batch
from runs.command import run
from runs.pictures import confusion_matrix, image_grid
from runs.report import Run, write_run
from runs.run import train
from runs.settings import Settings
from serving.export import Signature, export
from training.checkpoint import save_model
from training.setup import is_chief, prepare

MODELS: dict[str, Callable[..., keras.Model]] = {
    "mlp": mlp,
    "lenet5": lenet5,
    "alexnet": alexnet,
    "zfnet": zfnet,
    **{f"vgg{depth}": partial(vgg, depth=depth) for depth in (11, 13, 16, 19)},
    "googlenet": googlenet,
    "inception_v2": inception_v2,
    "inception_v3": inception_v3,
    "inception_v4": inception_v4,
    "inception_resnet_v2": inception_resnet_v2,
    **{f"resnet{depth}": partial(resnet, depth=depth) for depth in (18, 34, 50, 101, 152)},
    **{f"cifar_resnet{n}": partial(cifar_resnet, depth=n) for n in (20, 32, 44, 56, 110)},
    "mobilenet": mobilenet,
    **{f"vit_{size}": partial(vit, size=size) for size in ("tiny", "small", "base", "large")},
}


@dataclass(frozen=True)
class Config(Settings):
    data: str = "digits"
    """`digits` (built in), `tfds:NAME`, a folder with one sub-folder a class (optionally below
    train/, validation/ and test/), or a CSV file of path,label and, if it likes, split."""
    model: str = "lenet5"
    """The network; `--model help` lists them."""
    epochs: int = 80
    """Passes over the training set."""
    out: Path = Path("saved_models/image_classification")
    """Folder of the run: versions for TensorFlow Serving, model.keras, report.html."""
    preset: Literal["none", "imagenet"] = "none"
    """Weights to begin with: `imagenet` are those of keras.applications."""
    freeze: bool = False
    """Train only the head and keep the preset's trunk as it is."""
    norm: Literal["batch", "group", "layer", "none"] | None = None
    """Normalisation of networks that have one; None for the published."""
    pool: Literal["max", "average", "lp", "mixed", "stochastic", "spectral"] | None = None
    """Pooling of networks that have one; None for the published."""
    image_size: tuple[int, int] | None = None
    """Height and width, in pixels, that images are resized to; None for the data's own."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour; None for the data's own."""
    augment: Literal["none", "light", "randaugment", "mixup", "cutmix"] = "light"
    """How training images are varied."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes."""

    def __post_init__(self):
        super().__post_init__()
        if self.model not in MODELS:
            raise ValueError(
                f"`model` must be one of {', '.join(MODELS)}. Received: model={self.model!r}"
            )
        if self.preset != "none" and self.model not in PRESETS:
            raise ValueError(
                f"`preset` {self.preset} exists for {', '.join(PRESETS)}. "
                f"Received: model={self.model!r}"
            )
        if self.freeze and self.preset == "none":
            raise ValueError("`freeze` needs a preset: the trunk of a new network is untrained.")
        if self.preset != "none" and (self.norm or self.pool or self.channels == 1):
            raise ValueError(
                "`preset` fixes normalisation, pooling and colour. "
                f"Received: norm={self.norm}, pool={self.pool}, channels={self.channels}"
            )


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test images."""
    begin = time.perf_counter()
    strategy = prepare(config.seed, config.precision, config.strategy)
    data = load(config)
    trained = train(
        config,
        strategy,
        make_model=lambda: build(config, data),
        loss=keras.losses.CategoricalCrossentropy(True, label_smoothing=config.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        steps_per_epoch=steps_per_epoch(len(data.train), config.batch_size),
        batches=lambda start: train_batches(config, data, start),
        validation=labelled_batches(config, data, data.validation),
    )
    if not is_chief(strategy):
        return {}
    model = trained.model
    if isinstance(model, WithAuxiliaryHeads):
        model = model.without_heads()
    test = evaluate(model, labelled_batches(config, data, data.test))
    version = export_model(config, data, model, test)
    report = report_run(config, data, model, test, trained.history, time.perf_counter() - begin)
    trained.checkpoint.delete()
    answer_one(config, data, version)
    print(f"Test accuracy {test.scores['accuracy']:.4f} on {len(data.test)} images")
    print(f"Model  {version}\nReport {report}")
    return test.scores


def load(config: Config) -> images.Images:
    data = images.load(
        config.data,
        image_size=config.image_size,
        channels=3 if config.preset != "none" else config.channels,
        skip_bad=config.skip_bad,
    )
    print(
        f"{len(data.train)} training, {len(data.validation)} validation, {len(data.test)} test "
        f"images of {len(data.classes)} classes at {data.input_shape}"
        + (f"; {data.skipped} bad ones left out" if data.skipped else "")
    )
    return data


def train_batches(config: Config, data: images.Images, start_step: int) -> tf.data.Dataset:
    augment = augmentation(config.augment, data.input_shape)

    def transform(pixels, labels, seed):
        return augment(as_floats(pixels), tf.one_hot(labels, len(data.classes)), seed)

    return training_batches(
        data.train,
        batch_size=config.batch_size,
        seed=config.seed,
        epochs=config.epochs,
        start_step=start_step,
        prepare=lambda image_bytes, label: (decode(image_bytes, data.input_shape), label),
        transform=transform,
    )


def labelled_batches(config: Config, data: images.Images, examples) -> tf.data.Dataset:
    return evaluation_batches(
        examples,
        batch_size=config.batch_size,
        prepare=lambda image_bytes, label: (decode(image_bytes, data.input_shape), label),
        transform=lambda pixels, labels: (
            as_floats(pixels),
            tf.one_hot(labels, len(data.classes)),
        ),
    )


def build(config: Config, data: images.Images) -> keras.Model:
    choices = {"norm": config.norm, "pool": config.pool}
    choices = {name: choice for name, choice in choices.items() if choice is not None}
    shape, num_classes = data.input_shape, len(data.classes)
    if config.preset == "imagenet":
        return pretrained(config.model, shape, num_classes, trainable=not config.freeze)
    try:
        return MODELS[config.model](input_shape=shape, num_classes=num_classes, **choices)
    except TypeError as error:
        raise ValueError(f"{config.model} has no such choice: {error}") from error


def export_model(config, data: images.Images, model, test: Evaluation) -> Path:
    signatures = {
        "serving_default": Signature(
            inputs=(tf.TensorSpec((None,), tf.string, name="image_bytes"),),
            preprocess=lambda image_bytes: decode_batch(image_bytes, data.input_shape),
            postprocess=best_classes(data.classes),
            words={
                "image_bytes": "JPEG, PNG, BMP, GIF or WebP files, of any size",
                "classes": "names of the likeliest classes, best first",
                "scores": "their probabilities",
            },
        ),
        "from_pixels": Signature(
            inputs=(tf.TensorSpec((None, *data.input_shape), tf.float32, name="images"),),
            preprocess=lambda images: images,
            postprocess=lambda logits: {"logits": logits},
            words={
                "images": "pixels in [0, 1], resized",
                "logits": "log-probabilities of all classes up to a constant",
            },
        ),
    }
    examples = [image for image, _ in data.validation.take(8).as_numpy_iterator()]
    card = {
        "task": "image classification",
        "model": config.model,
        "data": config.data,
        "classes": data.classes,
        "scores": test.scores,
        "num_test": len(data.test),
        "config": config.saved,
    }
    warmup = {"image_bytes": np.array(examples, dtype=object)}
    version = export(config.out, model, signatures, warmup, card)
    save_model(model, config.out / "model.keras")
    return version


def report_run(config, data, model, test: Evaluation, history, seconds) -> Path:
    pictures = [image for image, _ in data.test.as_numpy_iterator()]
    mistakes = image_grid(
        [decode(pictures[i], data.input_shape).numpy() for i in test.worst],
        [
            f"{data.classes[test.labels[i]]} taken for\n{data.classes[test.predictions[i]]} "
            f"({test.probabilities[i].max():.0%})"
            for i in test.worst
        ],
    )
    speeds = history.get("examples_per_second", [])
    return write_run(
        config.out,
        Run(
            title=f"Image classification: {config.model} on {config.data}",
            summary=f"{len(data.classes)} classes, {len(data.train)} training images.",
            config=config.saved,
            scores=test.scores,
            num_test=len(data.test),
            history=history,
            facts={
                "parameters": f"{model.count_params():,}",
                "epochs": len(history["loss"]),
                "wall time": f"{seconds:.0f} s",
                "training images per second": f"{np.median(speeds):.0f}",
            },
            figures=[
                (
                    "Confusion matrix",
                    confusion_matrix(test.labels, test.predictions, data.classes),
                ),
                ("The worst mistakes", mistakes),
            ],
        ),
    )


def answer_one(config: Config, data: images.Images, version: Path) -> None:
    """Asks the exported model about one test image, in a process that knows only TensorFlow."""
    image, label = next(data.test.as_numpy_iterator())
    kind = next(name for name, magic in images.MAGIC.items() if image.startswith(magic))
    path = config.out / f"example.{kind.lower()}"
    path.write_bytes(image)
    print(f"A test image of class {data.classes[label]}, answered from {version}:", flush=True)
    subprocess.run(
        [sys.executable, "-m", "serving", "predict", str(version), str(path)], check=True
    )


if __name__ == "__main__":
    run(main, Config, __doc__)
