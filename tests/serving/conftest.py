"""A tiny image classifier with all that an export must cope with, and its export."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from data import images
from serving.export import Signature, export

SHAPE = (8, 8, 1)
CLASSES = ("zero", "one", "two")


@keras.saving.register_keras_serializable(package="hornbook_tests")
class Noise(keras.layers.Layer):
    """Random, stateful and with a loss, all of it in training only."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(0)

    def build(self, input_shape):
        self.calls = self.add_weight(name="calls", initializer="zeros", trainable=False)

    def call(self, inputs, training=False):
        self.calls.assign_add(1.0)
        if not training:
            return inputs
        noise = keras.random.normal(keras.ops.shape(inputs), seed=self.seed_generator)
        self.add_loss(keras.ops.mean(noise))
        return inputs + noise


def classifier() -> keras.Model:
    inputs = keras.Input(SHAPE, name="images")
    x = keras.layers.Conv2D(4, 3, name="c1")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = Noise()(keras.layers.Flatten()(x))
    x = keras.layers.Dropout(0.5)(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x), name="tiny")


def best(logits):
    scores, indices = tf.math.top_k(tf.nn.softmax(logits), 2)
    return {"classes": tf.gather(tf.constant(CLASSES), indices), "scores": scores}


def image_signatures() -> dict[str, Signature]:
    return {
        "serving_default": Signature(
            inputs=(tf.TensorSpec((None,), tf.string, name="image_bytes"),),
            preprocess=lambda image_bytes: images.decode_batch(image_bytes, SHAPE),
            postprocess=best,
            words={
                "image_bytes": "PNG or JPEG files",
                "classes": "names of the two likeliest, best first",
                "scores": "their probabilities",
            },
        ),
        "from_pixels": Signature(
            inputs=(tf.TensorSpec((None, *SHAPE), tf.float32, name="images"),),
            preprocess=lambda images: images,
            postprocess=lambda logits: {"logits": logits},
            words={"images": "pixels in [0, 1]", "logits": "of each class"},
        ),
    }


def encoded(count: int) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)
    return np.array([tf.io.encode_png(image).numpy() for image in pixels], dtype=object)


@pytest.fixture
def signatures() -> dict[str, Signature]:
    return image_signatures()


@pytest.fixture
def model() -> keras.Model:
    return classifier()


@pytest.fixture
def warmup() -> dict[str, np.ndarray]:
    return {"image_bytes": encoded(10)}


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """A base folder with one version; not to be written to."""
    base = tmp_path_factory.mktemp("exported") / "tiny"
    keras.utils.set_random_seed(0)
    export(base, classifier(), image_signatures(), {"image_bytes": encoded(10)}, {"task": "test"})
    return base
