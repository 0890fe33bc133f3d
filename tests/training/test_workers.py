"""Two processes train one model, as TF_CONFIG says."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import cast

import keras
import numpy as np
import pytest
import tensorflow as tf

from callbacks import BestWeights
from metrics.language_models import cross_entropy
from tests.models import test_detectors
from tests.training import toy_gan
from tests.training.test_loop import examples
from training.checkpoint import Checkpoint
from training.loop import Interrupted, fit
from training.optimizers import learning_rate_schedule, optimizer
from training.setup import Strategy, start

ROOT = Path(__file__).parents[2]
INTERRUPTED = 130


class StopsOneWorker(keras.callbacks.Callback):
    """Sends SIGTERM to the second worker alone after some calls of the training step."""

    def __init__(self, after: int):
        super().__init__()
        self.after = after

    def on_train_batch_end(self, batch, logs=None):
        self.after -= 1
        if self.after == 0 and json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def classifier() -> keras.Model:
    """Has no dropout, whose random numbers would be others with other workers."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(8, activation="tanh")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    rate = learning_rate_schedule(0.1, "cosine", warmup_steps=2, total_steps=15)
    model.compile(
        optimizer("adamw", rate, clip_norm=0.5, accumulate=2, average=0.7),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model


def train_classifier(strategy, folder: Path, stop_after: int):
    with strategy.scope():
        model = classifier()
    history = fit(
        model,
        lambda step: examples(100).batch(10).repeat().skip(step),
        epochs=3,
        steps_per_epoch=10,
        validation=examples(37).batch(10),
        callbacks=[BestWeights("val_accuracy"), StopsOneWorker(stop_after)],
        checkpoint=Checkpoint(folder / "checkpoint"),
        checkpoint_every=3,
    )
    return model, history


def train_smoothed(strategy, folder: Path, stop_after: int):
    with strategy.scope():
        tokens = keras.Input((3,), dtype="int32")
        logits = keras.layers.Embedding(5, 5, embeddings_initializer="zeros")(tokens)
        model = keras.Model(tokens, logits)
        model.compile(keras.optimizers.SGD(1.0), cross_entropy(0.1))
    rows = np.arange(12).reshape(4, 3) % 5
    weights = np.ones((4, 3), "float32")
    return model, model.fit(rows, (rows + 1) % 5, 4, sample_weight=weights, verbose=0).history


def train_gan(strategy, folder: Path, stop_after: int):
    with strategy.scope():
        model = toy_gan.ToyGan(accumulate=2)
    history = fit(
        model,
        toy_gan.batches,
        epochs=3,
        steps_per_epoch=toy_gan.STEPS_PER_EPOCH,
        checkpoint=Checkpoint(folder / "checkpoint"),
    )
    return model, history


def train_detector(strategy, folder: Path, stop_after: int):
    with strategy.scope():
        model = test_detectors.decided(test_detectors.tiny())
        model.compile(keras.optimizers.SGD(0.01))
    inputs, objects = test_detectors.batch()
    images = tf.data.Dataset.from_tensor_slices((inputs, objects)).repeat()
    seeds = tf.random.stateless_uniform((20, 2), (0, 1), maxval=2**30, dtype="int32")
    steps = tf.data.Dataset.zip(images, tf.data.Dataset.from_tensor_slices(seeds)).map(
        lambda example, seeds: ({**example[0], "seeds": seeds}, example[1])
    )
    steps = steps.batch(2, drop_remainder=True)
    return model, fit(model, steps.skip, epochs=2, steps_per_epoch=5)


def two_devices() -> tf.distribute.Strategy:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    start(0)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def main(train: str, strategy: str, folder: str, name: str, stop_after: str) -> None:
    """What a process does: trains, and writes the result to `folder/name.npz`."""
    if strategy == "two_devices":
        chosen = two_devices()
    else:
        chosen = start(0, strategy=cast(Strategy, strategy))
    try:
        model, history = globals()[train](chosen, Path(folder), int(stop_after))
    except Interrupted:
        sys.exit(INTERRUPTED)
    weights = {f"weight_{index}": weight for index, weight in enumerate(model.get_weights())}
    np.savez(Path(folder) / f"{name}.npz", **weights, **history)


def process(
    train: str, folder: Path, name: str, strategy: str = "none", stop_after=0, tf_config=None
) -> subprocess.Popen:
    code = "import sys; from tests.training.test_workers import main; main(*sys.argv[1:])"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if tf_config:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    arguments = [train, strategy, str(folder), name, str(stop_after)]
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, cwd=ROOT)


def run_workers(train: str, folder: Path, stop_after: int = 0) -> list[int]:
    """Returns the exit statuses of two workers with one folder, results `0.npz` and `1.npz`."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    cluster = {"worker": [f"127.0.0.1:{opened.getsockname()[1]}" for opened in sockets]}
    for opened in sockets:
        opened.close()
    workers = [
        process(
            *(train, folder, str(index), "multi_worker", stop_after),
            {"cluster": cluster, "task": {"type": "worker", "index": index}},
        )
        for index in (0, 1)
    ]
    try:
        return [worker.wait(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()


def assert_equal(left: Path, right: Path) -> None:
    mine, other = np.load(left), np.load(right)
    assert mine.files == other.files
    for name in mine.files:
        np.testing.assert_array_equal(mine[name], other[name], name)


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    assert run_workers("train_classifier", folder) == [0, 0]
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    assert process("train_classifier", folder, "alone").wait(timeout=300) == 0
    return folder / "alone.npz"


def assert_close(left: Path, right: Path) -> None:
    mine, other = np.load(left), np.load(right)
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} < set(mine.files)
    for name in mine.files:
        np.testing.assert_allclose(mine[name], other[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_metrics_of_every_epoch_and_weights_are_those_of_one_process(together, alone):
    assert_equal(together / "0.npz", together / "1.npz")
    assert_close(together / "0.npz", alone)


@pytest.mark.slow
def test_two_devices_of_one_process_train_as_one_does(alone, tmp_path):
    assert process("train_classifier", tmp_path, "0", "two_devices").wait(timeout=300) == 0
    assert_close(tmp_path / "0.npz", alone)


@pytest.mark.slow
def test_two_devices_train_a_detector_on_the_regions_of_one(tmp_path):
    for strategy in ("none", "two_devices"):
        made = process("train_detector", tmp_path, strategy, strategy)
        assert made.wait(timeout=300) == 0
    one, two = (np.load(tmp_path / f"{name}.npz") for name in ("none", "two_devices"))
    assert {"mask_loss", "positive_anchors", "positive_regions"} < set(one.files)
    for name in one.files:
        np.testing.assert_allclose(two[name], one[name], atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_two_devices_have_the_loss_with_smoothed_labels_of_one(tmp_path):
    for strategy in ("none", "two_devices"):
        made = process("train_smoothed", tmp_path, strategy, strategy)
        assert made.wait(timeout=300) == 0
    one, two = (np.load(tmp_path / f"{name}.npz") for name in ("none", "two_devices"))
    for name in one.files:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_a_stop_of_one_worker_stops_both_and_the_run_continues_to_the_same_bits(together, tmp_path):
    # After 9 steps in calls of at most 3, in the middle of an update.
    assert run_workers("train_classifier", tmp_path, stop_after=3) == [INTERRUPTED] * 2
    state = Checkpoint(tmp_path / "checkpoint").load()
    assert state is not None and state["step"] == 9
    assert run_workers("train_classifier", tmp_path) == [0, 0]
    for name in ("0.npz", "1.npz"):
        assert_equal(tmp_path / name, together / name)


@pytest.mark.slow
def test_two_workers_train_a_gan_to_equal_weights(tmp_path):
    assert run_workers("train_gan", tmp_path) == [0, 0]
    assert_equal(tmp_path / "0.npz", tmp_path / "1.npz")
    assert np.load(tmp_path / "0.npz")["generator_loss"].shape == (3,)
