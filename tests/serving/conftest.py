"""A tiny image classifier with all that an export must cope with, its export, and a server."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from preprocessing.images import decode_batch
from serving.export import export
from serving.signature import Signature, tensors
from tests.serving.toys import TOYS, Toy

ROOT = Path(__file__).parents[2]
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
            inputs={"image_bytes": tf.TensorSpec((None,), tf.string)},
            preprocess=lambda image_bytes: decode_batch(image_bytes, SHAPE),
            postprocess=best,
            meanings={
                "image_bytes": "PNG or JPEG files",
                "classes": "names of the two likeliest, best first",
                "scores": "their probabilities",
            },
            ties={"classes": "scores"},
        ),
        "from_pixels": tensors(
            {"images": tf.TensorSpec((None, *SHAPE), tf.float32)},
            {"images": "pixels in [0, 1]", "logits": "of each class"},
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


@pytest.fixture(scope="session")
def toys() -> dict[str, Toy]:
    keras.utils.set_random_seed(0)
    return {name: make() for name, make in TOYS.items()}


@pytest.fixture(scope="session")
def exported_toys(toys, tmp_path_factory) -> Path:
    """A folder with a folder of versions for each toy model; not to be written to."""
    folder = tmp_path_factory.mktemp("toys")
    for name, toy in toys.items():
        toy.export(folder / name)
    return folder


@dataclass(frozen=True)
class Server:
    """An embedded server that runs, and the folder of models that it serves."""

    folder: Path
    grpc: str
    rest: str


REST_TYPES = {
    "double": tf.float64,
    "flag": tf.bool,
    "int16": tf.int16,
    "int32": tf.int32,
    "int64": tf.int64,
    "int8": tf.int8,
    "real": tf.float32,
    "text": tf.string,
    "text_bytes": tf.string,
    "uint32": tf.uint32,
    "uint64": tf.uint64,
    "uint8": tf.uint8,
}
OTHER_TYPES = {
    "bfloat": tf.bfloat16,
    "complex": tf.complex64,
    "double_complex": tf.complex128,
    "half": tf.float16,
    "uint16": tf.uint16,
}


def save_echo(version: Path) -> None:
    """Saves a model that returns what it is given."""
    module = tf.Module()

    def repeat(types: dict[str, tf.DType]):
        specs = {name: tf.TensorSpec(None, dtype, name=name) for name, dtype in types.items()}
        echo = tf.function(lambda **inputs: {n: tf.identity(inputs[n]) for n in inputs})
        return echo.get_concrete_function(**specs)

    text = tf.TensorSpec((None,), tf.string, name="text")
    columns = (
        tf.TensorSpec((None, 1), tf.float32, name="size"),
        tf.TensorSpec((None,), tf.int64, name="count"),
        tf.TensorSpec((None,), tf.string, name="colour"),
    )
    signatures = {
        "serving_default": tf.function(
            lambda text: {"length": tf.strings.length(text), "upper": tf.strings.upper(text)},
            input_signature=[text],
        ),
        "all": repeat(REST_TYPES),
        "others": repeat(OTHER_TYPES),
        "rows": tf.function(
            lambda size, count, colour: {
                "total": size[:, 0] * tf.cast(count, tf.float32),
                "colour": tf.identity(colour),
            },
            input_signature=columns,
        ),
        "pairs": tf.function(
            lambda x: {"y": 2.0 * x},
            input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")],
        ),
        "whole": tf.function(lambda text: {"count": tf.size(text)}, input_signature=[text]),
    }
    tf.saved_model.save(module, str(version), signatures=signatures)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


@pytest.fixture(scope="session")
def server(exported, exported_toys, tmp_path_factory) -> Iterator[Server]:
    """The embedded server with `tiny`, `echo`, which returns what it is given, and the toys."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "tiny").symlink_to(exported)
    for toy in exported_toys.iterdir():
        (folder / toy.name).symlink_to(toy)
    save_echo(folder / "echo" / "1")
    port, rest_port = free_ports(2)
    command = [sys.executable, "-m", "serving", "serve", str(folder)]
    command += [f"--port={port}", f"--rest_api_port={rest_port}"]
    with (
        open(folder / "log", "w+") as log,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            if not any(line.startswith("Serving") for line in process.stdout or ()):
                log.seek(0)
                pytest.fail(f"the server ended with {process.wait()}: {log.read()}")
            address = "127.0.0.1"
            yield Server(folder, f"grpc://{address}:{port}", f"http://{address}:{rest_port}")
        finally:
            process.terminate()
            process.wait(timeout=60)
