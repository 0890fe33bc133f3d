"""Classify images.

Reaches 0.99 test accuracy on handwritten digits in half a minute on 2 CPU cores.

Example:

    hornbook image_classification --data path/to/folder --model resnet18 --epochs 30
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

from data import images
from data.feed import Feed
from metrics import baselines, classification
from models.image_classifiers import MODELS, taking
from models.imagenet import PRESETS, pretrained
from models.timm_weights import NETWORKS
from preprocessing.augmentation import AugmentationName, augmentation
from preprocessing.images import as_floats, decode, decode_batch
from runs import pictures, presets
from runs.classified import ClassSettings, caption, classified, mixtures
from runs.command import command
from runs.image_settings import ImageSettings
from runs.report import Picture, Section
from runs.run import Example, counted, finish, start, train
from runs.settings import Training
from serving.signature import Signature, tensors


@dataclass(frozen=True)
class Config(ClassSettings, ImageSettings):
    EPOCHS = 80
    data: str = "digits"
    """`digits` (built in), `tfds:NAME`, a folder with one sub-folder per class (optionally below
    train/, validation/ and test/), or a CSV file with columns `path`, `label` and optionally
    `split`."""
    model: str = "lenet5"
    out: Path = Path("saved_models/image_classification")
    augment: Training[AugmentationName] = "light"
    """Augmentation of the training images."""

    def __post_init__(self):
        super().__post_init__()
        self.require_network(MODELS, PRESETS, NETWORKS, norm=taking("norm"), pool=taking("pool"))


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test images."""
    run = start(config)
    data = counted(run, load(config), "images")
    fed = feed(config, data)
    trained = train(
        run,
        partial(build, config, data),
        fed,
        loss=classification.cross_entropy(
            config.label_smoothing, data.class_weights(config.class_weight)
        ),
        metrics=lambda: [keras.metrics.CategoricalAccuracy(name="accuracy")],
        monitor="val_accuracy",
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    test = classification.evaluate(trained.model, fed.evaluation("test", config.batch_size))
    return finish(
        run,
        trained,
        task="image classification",
        signatures=signatures(data),
        warmup={"image_bytes": [image for image, _ in data.first("validation", 8)]},
        example=example(data),
        scores=test.scores,
        num_test=len(data.test),
        examples="images",
        facts={"classes": data.classes, "input": " x ".join(map(str, data.input_shape))},
        report=report(config, data, fed, test),
        baselines=partial(baselines.of_images, data, decode),
        warnings=test.warnings(data.classes),
    )


def load(config: Config) -> images.Images:
    size = config.image_size
    channels: int | None = 3 if config.is_pretrained else config.channels
    if config.continued:
        height, width, channels = map(int, presets.card(config.continued)["input"].split(" x "))
        size = height, width
    return images.load(**config.loading, image_size=size, channels=channels)


def feed(config: Config, data: images.Images) -> Feed:
    return Feed(
        data,
        prepare=lambda image_bytes, label: (decode(image_bytes, data.input_shape), label),
        batch=lambda pixels, labels: (as_floats(pixels), tf.one_hot(labels, len(data.classes))),
        vary=augmentation(config.augment, data.input_shape),
    )


def build(config: Config, data: images.Images) -> keras.Model:
    shape, num_classes = data.input_shape, len(data.classes)
    if config.continued:
        return presets.network(config.continued, num_classes, config.freeze)
    if config.is_pretrained:
        file = config.weights_file
        return pretrained(config.model, shape, num_classes, not config.freeze, file)
    return MODELS[config.model](input_shape=shape, num_classes=num_classes, **config.replaced)


def signatures(data: images.Images) -> dict[str, Signature]:
    return {
        "serving_default": Signature(
            inputs={"image_bytes": tf.TensorSpec((None,), tf.string)},
            preprocess=lambda image_bytes: decode_batch(image_bytes, data.input_shape),
            postprocess=classification.best_classes(data.classes),
            meanings={
                "image_bytes": "JPEG, PNG, BMP, GIF or WebP files of any size, turned as EXIF says",
                **classification.MEANINGS,
            },
            ties=classification.TIES,
        ),
        "from_pixels": tensors(
            {"images": tf.TensorSpec((None, *data.input_shape), tf.float32)},
            meanings={"images": "pixels in [0, 1], resized", "logits": classification.LOGITS},
        ),
    }


def report(config, data: images.Images, fed: Feed, test) -> list[Section]:
    def grid(title, examples, notes) -> Section:
        shown = [decode(image, data.input_shape).numpy() for image, _ in examples]
        return Picture(title, pictures.image_grid(shown, [caption(one) for one in notes]))

    varied, labels = fed.varied(data.of_each_class("train", 24), config.seed)
    seen = pictures.image_grid(varied.numpy(), mixtures(labels.numpy(), data.classes))
    return [
        *classified(test, data, grid),
        Picture("Training images, as the network sees them", seen),
    ]


def example(data: images.Images) -> Example:
    ((image, label),) = data.first("test", 1)
    what = f"a test image, true class {data.classes[label]}"
    return Example(what, {"image_bytes": image}, images.suffix(image))


if __name__ == "__main__":
    command(main, Config, __doc__)
