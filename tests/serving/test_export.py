"""A trained model leaves as a version that needs only TensorFlow."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from serving.export import Signature, export


def encoded(images: np.ndarray) -> np.ndarray:
    return np.array([tf.io.encode_png(image).numpy() for image in images], dtype=object)


def decode(image_bytes):
    pixels = tf.map_fn(
        lambda image: tf.ensure_shape(tf.io.decode_png(image, channels=1), (8, 8, 1)),
        image_bytes,
        fn_output_signature=tf.uint8,
    )
    return tf.cast(pixels, tf.float32) / 255


def best(logits):
    scores, indices = tf.math.top_k(tf.nn.softmax(logits), 2)
    return {"classes": tf.gather(tf.constant(["zero", "one", "two"]), indices), "scores": scores}


SIGNATURES = {
    "serving_default": Signature(
        inputs=(tf.TensorSpec((None,), tf.string, name="image_bytes"),),
        preprocess=decode,
        postprocess=best,
        words={"image_bytes": "PNG", "classes": "best first", "scores": "probabilities"},
    ),
    "from_pixels": Signature(
        inputs=(tf.TensorSpec((None, 8, 8, 1), tf.float32, name="images"),),
        preprocess=lambda images: images,
        postprocess=lambda logits: {"logits": logits},
        words={"images": "in [0, 1]", "logits": "of each class"},
    ),
}


@pytest.fixture
def model() -> keras.Model:
    images = keras.Input((8, 8, 1), name="images")
    x = keras.layers.Conv2D(4, 3, activity_regularizer="l2")(images)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    return keras.Model(images, keras.layers.Dense(3, dtype="float32")(x))


@pytest.fixture
def warmup() -> dict[str, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1), np.uint8)
    return {"image_bytes": encoded(images)}


def test_export_writes_numbered_versions_with_card_and_warmup(tmp_path, model, warmup):
    first = export(tmp_path, model, SIGNATURES, warmup, {"task": "test"})
    second = export(tmp_path, model, SIGNATURES, warmup, {"task": "test"})
    assert (first, second) == (tmp_path / "1", tmp_path / "2")
    card = json.loads((second / "assets.extra" / "model_card.json").read_text())
    print(card)
