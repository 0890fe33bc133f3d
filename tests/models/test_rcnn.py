import keras
import numpy as np
import pytest
import tensorflow as tf

from layers.boxes import decode
from models.alexnet import alexnet
from models.detectors import detector
from models.trunks import trunk
from tests.models.blueprint import blueprint
from tests.models.test_detectors import batch, tiny_trunk
from tests.models.test_fast_rcnn import WINDOWS, given, same


def rcnn(side: int = 28) -> keras.Model:
    keras.utils.set_random_seed(0)
    return detector(
        "rcnn",
        tiny_trunk(side),
        2,
        windows=WINDOWS,
        regions=16,
        max_detections=12,
        proposed=20,
    )


@pytest.fixture
def model() -> keras.Model:
    return rcnn()


def test_a_crop_shows_the_box_with_16_of_224_pixels_of_context_on_each_side(model):
    # Each level is the position, so that a crop says where it is from.
    y, x = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5, indexing="ij")
    image = np.stack([x, y, x], axis=-1)[None].astype("float32")
    box = np.float32([[[16, 20, 40, 32]]])
    crop = model._pooled(28, [image], box, compilable=False)[0, 0].numpy()
    # 24 x 12 pixels become 24 of 28 pixels; 2 around them are 2 and 1 of the image.
    np.testing.assert_allclose(crop[0, :, 0], np.arange(14, 42) + 0.5, atol=1e-3)
    np.testing.assert_allclose(crop[:, 0, 1], np.arange(19, 33, 0.5) + 0.25, atol=1e-3)


def test_linear_models_decide_scores_and_boxes(model):
    units = model.head.get_layer("classes").input.shape[-1]
    inputs = {**given(), "proposals": tf.constant([[[10.0, 10, 30, 30]], [[5.0, 5, 25, 45]]])}
    moves = np.float32([[0.1, 0, 0, 0], [0, -0.1, 0.2, 0]])
    zeros = np.zeros((units, 2))
    model.set_linear((np.zeros((units, 2, 4)), moves), (zeros, np.array([1.0, -1.0])))
    found = model.detect(inputs)
    scores = 1 / (1 + np.exp([-1, 1]))
    np.testing.assert_allclose(found["scores"][:, :2], [scores, scores], rtol=1e-5)
    assert found["class_ids"][:, :2].numpy().tolist() == [[0, 1], [0, 1]]
    for image, box in enumerate(inputs["proposals"]):
        np.testing.assert_allclose(found["boxes"][image, :2], decode(moves, box), atol=1e-4)
    model.set_linear((np.zeros((units, 2, 4)), moves), None)
    logits = np.r_[0, 1, -1]
    softmax = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(model.detect(inputs)["scores"][0, :2], softmax[1:], rtol=1e-5)


def test_a_saved_network_keeps_its_margins(model, tmp_path):
    units = model.head.get_layer("classes").input.shape[-1]
    random = np.random.default_rng(0)
    model.set_linear(
        (random.normal(size=(units, 2, 4)) / 10, np.zeros((2, 4))),
        (random.normal(size=(units, 2)), np.array([0.1, -0.1])),
    )
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    found = model.detect(given())
    assert restored.margins and int(found["num_detections"][0]) > 1
    same(found, restored.detect(given()), atol=1e-5)


def test_the_classes_alone_are_trained(model):
    model.compile(keras.optimizers.Adam(3e-3))
    moves = [value.copy() for value in model.head.get_layer("moves").get_weights()]
    logs = model.train_step((given(), batch()[1]))
    assert set(logs) == {"loss", "class_loss", "positive_regions"}
    assert float(logs["class_loss"]) > 0.1
    for value, before in zip(model.head.get_layer("moves").get_weights(), moves, strict=True):
        np.testing.assert_array_equal(value, before)


@pytest.mark.slow
def test_what_xla_compiles_answers_as_the_kernels_of_the_cpu(model):
    kernel = model.head.get_layer("classes").kernel
    kernel.assign(kernel * 30)
    found = tf.function(model.detect)(given())
    compiled = tf.function(lambda one: model.detect(one, compilable=True), jit_compile=True)
    same(found, compiled(given()), rtol=1e-4, atol=1e-4)


def test_alexnet_is_read_after_fc7():
    features = blueprint(lambda: trunk("alexnet", (64, 64, 3)))
    assert [tuple(output.shape) for output in features.outputs] == [(None, 4096)]
    names = {layer.name for layer in blueprint(lambda: alexnet((64, 64, 3), 2)).layers}
    assert {layer.name for layer in features.layers} == names - {"fc8"}
