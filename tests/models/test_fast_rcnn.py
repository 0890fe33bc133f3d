import keras
import numpy as np
import pytest
import tensorflow as tf

from layers.boxes import iou
from models.detectors import detector
from models.fast_rcnn import FastRCNN
from models.faster_rcnn import as_rows
from tests.models.test_detectors import batch, tiny_trunk

WINDOWS = [[x, y, x + 24, y + 24] for y in (0, 20, 40) for x in (0, 20, 40)]


def fast_rcnn() -> keras.Model:
    keras.utils.set_random_seed(0)
    made = detector(
        "fast_rcnn",
        tiny_trunk(),
        2,
        head_units=16,
        regions=16,
        max_detections=12,
        proposed=20,
        windows=WINDOWS,
        read_level=3,
    )
    kernel = made.head.get_layer("classes").kernel
    kernel.assign(kernel * 30)
    return made


def proposals() -> tf.Tensor:
    """Ten boxes in each of two images; the last two are padding."""
    corners = np.random.default_rng(0).uniform(0, 40, (2, 10, 2)).astype("float32")
    sides = np.random.default_rng(1).uniform(10, 24, (2, 10, 2)).astype("float32")
    sides[:, 8:] = 0
    return tf.constant(np.concatenate([corners, corners + sides], axis=-1))


def given() -> dict[str, tf.Tensor]:
    return {**batch()[0], "proposals": proposals()}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return fast_rcnn()


def same(found, others, **tolerance) -> None:
    for name, values in found.items():
        np.testing.assert_allclose(others[name], values, err_msg=name, **tolerance)


def test_padding_and_blocks_change_nothing(model, monkeypatch):
    inputs = given()
    found = model.detect(inputs)
    assert int(found["num_detections"][0]) > 3
    less = {**inputs, "proposals": inputs["proposals"][:, :8]}
    same(found, model.detect(less), atol=1e-6)
    broken = tf.concat([inputs["proposals"][:, :8], tf.fill((2, 3, 4), np.nan)], axis=1)
    same(found, model.detect({**inputs, "proposals": broken}), atol=1e-6)
    monkeypatch.setattr(FastRCNN, "BLOCK", 3)
    same(found, model.detect(inputs), atol=1e-5)


def test_only_so_many_proposals_are_read(model):
    inputs = given()
    many = tf.concat([tf.tile(inputs["proposals"][:, 8:], (1, 10, 1)), inputs["proposals"]], axis=1)
    assert model.detect({**inputs, "proposals": many})["num_detections"].numpy().tolist() == [0, 0]
    none = {**inputs, "proposals": tf.zeros((2, 0, 4))}
    assert model.detect(none)["num_detections"].numpy().tolist() == [0, 0]


def test_an_image_without_proposals_is_read_in_windows(model):
    inputs, _ = batch()
    windows = tf.tile(tf.constant(WINDOWS, tf.float32)[None], (2, 1, 1))
    same(model.detect(inputs), model.detect({**inputs, "proposals": windows}), atol=1e-6)


@pytest.mark.slow
def test_what_xla_compiles_answers_as_the_kernels_of_the_cpu(model):
    for inputs in (given(), batch()[0]):
        found = tf.function(model.detect)(inputs)
        compiled = tf.function(
            lambda given: model.detect(given, compilable=True), jit_compile=True
        )(inputs)
        same(found, compiled, rtol=1e-4, atol=1e-4)


def test_a_saved_network_gives_the_same_answers(model, tmp_path):
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    for inputs in (given(), batch()[0]):
        same(model.detect(inputs), restored.detect(inputs), atol=1e-5)


def test_background_overlaps_an_object_by_a_tenth(model):
    inputs, objects = batch()
    drawn = model._drawn(
        model.given({**inputs, "proposals": proposals()}), objects, inputs["seeds"]
    )
    overlaps = np.max(iou(drawn["boxes"], objects["boxes"]), axis=-1)
    is_drawn, is_positive = drawn["is_drawn"].numpy(), drawn["is_positive"].numpy()
    background = overlaps[is_drawn & ~is_positive]
    assert len(background) > 2
    assert background.min() >= 0.1 and background.max() < 0.5
    assert overlaps[is_positive].min() >= 0.5 and is_positive.sum(axis=1).max() <= 4


@pytest.mark.slow
def test_the_loss_of_a_batch_falls_and_what_is_logged_is_of_the_head():
    model = fast_rcnn()
    model.compile(keras.optimizers.Adam(3e-3))
    step = tf.function(model.train_step)
    losses = []
    for _ in range(30):
        logs = step((given(), batch()[1]))
        losses.append(float(logs["loss"]))
        for metric in model.logged.values():
            metric.reset_state()
    assert set(logs) == {"loss", "class_loss", "box_loss", "positive_regions"}
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_as_many_rows_as_detections(model):
    assert as_rows(model.detect(given())).shape == (2, 12, 6)
