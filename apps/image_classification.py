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
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from callbacks import EarlyStopping, Throughput
from data import images
from data.augmentation import augmentation
from data.pipeline import evaluation_batches, steps_per_epoch, training_batches
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
from serving.export import Signature, export
from training.checkpoint import Checkpoint, check_resume
from training.command import run
from training.loop import fit
from training.optimizers import (
    LEARNING_RATES,
    OptimizerName,
    Schedule,
    learning_rate_schedule,
    optimizer,
)
from training.report import Run, confusion_matrix, image_grid, write_run
from training.setup import Precision, Strategy, is_chief, prepare, undistributed

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

NOT_TRAINED = ("out", "resume", "checkpoint_every")
"""Settings that may change when a run is resumed."""


@dataclass(frozen=True)
class Config:
    data: str = "digits"
    """`digits` (built in), `tfds:NAME`, a folder with one sub-folder a class (optionally below
    train/ and test/), or a CSV file of path,label."""
    model: str = "lenet5"
    """The network; `--model help` lists them."""
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
    skip_bad: bool = False
    """Leave bad images out instead of stopping."""
    epochs: int = 80
    """Passes over the training set."""
    batch_size: int = 32
    """Images a step, over all devices."""
    optimizer: OptimizerName = "adamw"
    """How the gradient becomes a step; momentum and nesterov are SGD with momentum 0.9."""
    learning_rate: float | None = None
    """Highest step size; None for the optimizer's usual."""
    schedule: Schedule = "cosine"
    """How the step size goes on after the warm-up."""
    warmup_epochs: float = 0.0
    """Epochs over which the step size rises from 0."""
    weight_decay: float | None = None
    """Decoupled weight decay; None for 0.05 with adamw and 0 with the others."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes."""
    patience: int = 0
    """Stop after so many epochs without a better validation loss; 0 for never."""
    seed: int = 0
    """Seeds weights, shuffling, dropout and augmentation."""
    precision: Precision = "float32"
    """Type of the computations."""
    strategy: Strategy = "none"
    """Devices to train on: `mirrored`: all GPUs; `multi_worker`: the processes in TF_CONFIG."""
    jit_compile: bool = False
    """Compile the training step with XLA: often faster on GPUs, seldom on CPUs."""
    out: Path = Path("saved_models/image_classification")
    """Folder of the run: versions for TensorFlow Serving, model.keras, report.html."""
    resume: bool = False
    """Insist on continuing an interrupted run. Without it a run continues where it finds one."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; None for one epoch."""

    def __post_init__(self):
        if self.model not in MODELS:
            raise ValueError(
                f"`model` must be one of {', '.join(MODELS)}. Received: model={self.model!r}"
            )
        if self.preset != "none" and self.model not in PRESETS:
            raise ValueError(
                f"`preset` {self.preset} exists for {', '.join(PRESETS)}. "
                f"Received: model={self.model!r}"
            )
        for name in ("epochs", "batch_size", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        if self.freeze and self.preset == "none":
            raise ValueError("`freeze` needs a preset: the trunk of a new network is untrained.")


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test images."""
    begin = time.perf_counter()
    strategy = prepare(config.seed, config.precision, config.strategy)
    data = load(config)
    settings = {**asdict(config), "out": str(config.out)}
    checkpoint = Checkpoint(config.out / "checkpoint")
    step = check_resume(
        checkpoint,
        settings,
        required=config.resume,
        may_differ=("out", "resume", "checkpoint_every"),
    )
    steps = steps_per_epoch(len(data.train), config.batch_size)
    if step and is_chief(strategy):
        print(f"Continuing the run in {config.out} after step {step} of {steps * config.epochs}.")
    with strategy.scope():
        model = build(config, data)
        compile_model(config, model, steps)
    history = fit(
        model,
        lambda start: train_batches(config, data, start),
        epochs=config.epochs,
        steps_per_epoch=steps,
        validation=labelled_batches(config, data, data.validation),
        callbacks=make_callbacks(config),
        checkpoint=checkpoint,
        checkpoint_every=config.checkpoint_every,
        config=settings,
    )
    if not is_chief(strategy):
        return {}
    model = undistributed(model)
    if isinstance(model, WithAuxiliaryHeads):
        model = model.without_heads()
    test = evaluate(config, data, model)
    version = export_model(config, data, model, test, settings)
    report = report_run(config, data, model, test, history, settings, time.perf_counter() - begin)
    checkpoint.delete()
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
        return augment(images.as_floats(pixels), tf.one_hot(labels, len(data.classes)), seed)

    return training_batches(
        data.train,
        batch_size=config.batch_size,
        seed=config.seed,
        epochs=config.epochs,
        start_step=start_step,
        prepare=lambda image_bytes, label: (images.decode(image_bytes, data.input_shape), label),
        transform=transform,
    )


def labelled_batches(config: Config, data: images.Images, examples) -> tf.data.Dataset:
    return evaluation_batches(
        examples,
        batch_size=config.batch_size,
        prepare=lambda image_bytes, label: (images.decode(image_bytes, data.input_shape), label),
        transform=lambda pixels, labels: (
            images.as_floats(pixels),
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


def compile_model(config: Config, model: keras.Model, steps: int) -> None:
    peak = config.learning_rate or LEARNING_RATES[config.optimizer]
    warmup_steps = round(config.warmup_epochs * steps)
    rate = learning_rate_schedule(peak, config.schedule, warmup_steps, steps * config.epochs)
    model.compile(
        optimizer=optimizer(config.optimizer, rate, config.weight_decay),
        loss=keras.losses.CategoricalCrossentropy(True, label_smoothing=config.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=config.jit_compile,
    )


def make_callbacks(config: Config) -> list[keras.callbacks.Callback]:
    made: list[keras.callbacks.Callback] = [Throughput(config.batch_size)]
    if config.patience:
        made.append(EarlyStopping("val_loss", patience=config.patience))
    return made


@dataclass(frozen=True)
class Evaluation:
    """What the network says of the test images, in their order."""

    labels: np.ndarray
    probabilities: np.ndarray  # (images, classes)

    @property
    def predictions(self) -> np.ndarray:
        return self.probabilities.argmax(axis=-1)

    @property
    def losses(self) -> np.ndarray:
        true = self.probabilities[np.arange(len(self.labels)), self.labels]
        return -np.log(np.maximum(true, 1e-12))

    @property
    def scores(self) -> dict[str, float]:
        order = np.argsort(-self.probabilities, axis=-1)
        hits = order == self.labels[:, None]
        scores = {"accuracy": float(hits[:, 0].mean()), "loss": float(self.losses.mean())}
        if self.probabilities.shape[1] > 10:
            scores["top_5_accuracy"] = float(hits[:, :5].any(axis=1).mean())
        return scores


def evaluate(config: Config, data: images.Images, model: keras.Model) -> Evaluation:
    batches = labelled_batches(config, data, data.test)
    labels = np.concatenate([labels for _, labels in batches.as_numpy_iterator()]).argmax(-1)
    logits = model.predict(batches, verbose=0).astype("float32")
    return Evaluation(labels, keras.ops.convert_to_numpy(keras.ops.softmax(logits)))


def export_model(config, data: images.Images, model, test: Evaluation, settings) -> Path:
    answers = min(5, len(data.classes))
    names = tf.constant(data.classes)

    def best_classes(logits):
        scores, indices = tf.math.top_k(tf.nn.softmax(logits), answers)
        return {"classes": tf.gather(names, indices), "scores": scores}

    signatures = {
        "serving_default": Signature(
            inputs=(tf.TensorSpec((None,), tf.string, name="image_bytes"),),
            preprocess=lambda image_bytes: images.decode_batch(image_bytes, data.input_shape),
            postprocess=best_classes,
            words={
                "image_bytes": "JPEG, PNG, BMP or GIF files, of any size",
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
        "config": settings,
    }
    warmup = {"image_bytes": np.array(examples, dtype=object)}
    version = export(config.out, model, signatures, warmup, card)
    model.save(config.out / "model.keras")
    return version


def report_run(config, data, model, test: Evaluation, history, settings, seconds) -> Path:
    worst = np.argsort(-test.losses)[:12]
    wrong = [int(i) for i in worst if test.predictions[i] != test.labels[i]]
    pictures = [image for image, _ in data.test.as_numpy_iterator()]
    mistakes = image_grid(
        [images.decode(pictures[i], data.input_shape).numpy() for i in wrong],
        [
            f"{data.classes[test.labels[i]]} taken for\n{data.classes[test.predictions[i]]} "
            f"({test.probabilities[i].max():.0%})"
            for i in wrong
        ],
    )
    speeds = history.get("examples_per_second", [])
    return write_run(
        config.out,
        Run(
            title=f"Image classification: {config.model} on {config.data}",
            summary=f"{len(data.classes)} classes, {len(data.train)} training images.",
            config=settings,
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
