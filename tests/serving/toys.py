"""Toy models of the kinds that are hard to export: each with its signatures and examples."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from preprocessing.images import decode_batch
from serving.export import export
from serving.signature import Signature


@dataclass(frozen=True)
class Toy:
    """A model and the other arguments of `export`."""

    model: keras.Model
    signature: Signature
    warmup: dict[str, np.ndarray]

    def export(self, base: Path) -> Path:
        signatures = {"serving_default": self.signature}
        return export(base, self.model, signatures, self.warmup, {"task": "toy"})


# A detector: the brightest cells of an image. A symmetric image has cells of equal scores.

IMAGE = (8, 8, 1)
NUM_BOXES = 6
CELL = 2


def detector() -> Toy:
    images = keras.Input(IMAGE, name="images")
    mean = keras.layers.AveragePooling2D(CELL, name="cells")(images)
    scores = keras.layers.Conv2D(2, 1, kernel_initializer="ones", name="scores")(mean)
    signature = Signature(
        inputs={"image_bytes": tf.TensorSpec((None,), tf.string)},
        preprocess=lambda image_bytes: decode_batch(image_bytes, IMAGE),
        core=brightest,
        postprocess=named_boxes,
        meanings={
            "image_bytes": "PNG files",
            "boxes": "left, top, right, bottom in pixels",
            "classes": "what they hold",
            "scores": "brightness, highest first",
        },
        ties={"boxes": "scores", "classes": "scores"},
    )
    return Toy(keras.Model(images, scores), signature, {"image_bytes": symmetric_images(8)})


def brightest(network, images):
    scores = network(images)
    best, indices = tf.math.top_k(tf.reshape(scores, (-1, 4 * 4 * 2)), NUM_BOXES)
    left, top = indices // 2 % 4, indices // 2 // 4
    edges = tf.stack([left, top, left + 1, top + 1], axis=-1)
    return {"boxes": CELL * tf.cast(edges, tf.float32), "classes": indices % 2, "scores": best}


def named_boxes(found):
    return {**found, "classes": tf.gather(tf.constant(["cat", "dog"]), found["classes"])}


def symmetric_images(count: int) -> np.ndarray:
    halves = np.random.default_rng(0).integers(0, 256, (count, 8, 4, 1), np.uint8)
    images = np.concatenate([halves, halves[:, :, ::-1]], axis=2)
    return np.array([tf.io.encode_png(image).numpy() for image in images], object)


# A generator: the likeliest next letter, again and again.

NUM_LETTERS = 128
NUM_STEPS = 6


def generator() -> Toy:
    letters = keras.Input((None,), dtype="int32", name="letters")
    x = keras.layers.Embedding(NUM_LETTERS, 8, name="embedding")(letters)
    logits = keras.layers.Dense(NUM_LETTERS, kernel_initializer="random_normal")(x)
    signature = Signature(
        inputs={"prompt": tf.TensorSpec((None,), tf.string)},
        preprocess=last_letters,
        core=continued,
        postprocess=as_texts,
        meanings={
            "prompt": "the beginning of a text",
            "text": "what follows",
            "log_probability": "of the text, in nats",
        },
        ties={"text": "log_probability"},
    )
    prompts = np.array(["once upon", "a", "Größe", "", "the end"], object)
    return Toy(keras.Model(letters, logits), signature, {"prompt": prompts})


def last_letters(prompt):
    letters = tf.strings.unicode_decode(tf.strings.join([" ", prompt]), "UTF-8")
    return letters[:, -1:].to_tensor() % NUM_LETTERS


def continued(network, last):
    """Appends `NUM_STEPS` letters to `(batch, 1)`."""

    def step(i, letters, total):
        log_probabilities = tf.nn.log_softmax(network(letters)[:, i])
        following = tf.argmax(log_probabilities, axis=-1, output_type=tf.int32)
        total += tf.gather(log_probabilities, following, batch_dims=1)
        is_next = tf.range(NUM_STEPS + 1) == i + 1
        return i + 1, tf.where(is_next, following[:, None], letters), total

    letters = tf.pad(last, [[0, 0], [0, NUM_STEPS]])
    zeros = tf.zeros(tf.shape(last)[:1])
    _, letters, total = tf.while_loop(lambda i, *_: i < NUM_STEPS, step, [0, letters, zeros])
    return letters[:, 1:], total


def as_texts(outputs):
    letters, total = outputs
    return {"text": tf.strings.unicode_encode(letters, "UTF-8"), "log_probability": total}


# A table with names of columns as people write them; two of them would collide in the graph.

COLUMNS = {
    "Größe (cm)": tf.float32,
    "mean radius": tf.float32,
    "mean_radius": tf.float32,
    "Farbe?": tf.string,
}


def table() -> Toy:
    rows = keras.Input((4,), name="rows")
    total = keras.layers.Dense(1, kernel_initializer="ones", name="total")(rows)
    signature = Signature(
        inputs={name: tf.TensorSpec((None,), dtype) for name, dtype in COLUMNS.items()},
        preprocess=as_rows,
        postprocess=lambda outputs: {"Summe (cm)": outputs[:, 0]},
        meanings={**{name: f"column {name}" for name in COLUMNS}, "Summe (cm)": "of a row"},
    )
    warmup = {
        "Größe (cm)": np.array([1, 2, 3], "float32"),
        "mean radius": np.array([10, 20, 30], "float32"),
        "mean_radius": np.array([100, 200, 300], "float32"),
        "Farbe?": np.array(["rot", "blau", "rot"], object),
    }
    return Toy(keras.Model(rows, total), signature, warmup)


def as_rows(**columns):
    is_red = tf.cast(columns["Farbe?"] == "rot", tf.float32)
    numbers = [columns[name] for name in ("Größe (cm)", "mean radius", "mean_radius")]
    return tf.stack([*numbers, 1000.0 * is_red], axis=1)


TOYS: dict[str, Callable[[], Toy]] = {
    "detector": detector,
    "generator": generator,
    "table": table,
}
