import keras
import numpy as np
import pytest
from keras import ops

from layers import PyramidROIAlign, ROIAlign, roi_align
from tests.layers import torchvision_values
from tests.layers.check import BACKEND, assert_close, check_layer, gradients, normal

FORMS = [True, False] if BACKEND == "tensorflow" else [True]
"""`compilable`, where it makes a difference."""
BOXES = np.array([[[1.0, 2, 20, 30], [0, 0, 60, 60], [5, 5, 5, 5], [-9, 3, 12, 70]]] * 2, "float32")


def pyramid(channels: int = 3) -> list[np.ndarray]:
    return [normal(2, side, side, channels, seed=side) for side in (16, 8, 4, 2)]


@pytest.mark.parametrize(
    "samples", [1, pytest.param(2, marks=pytest.mark.slow)], ids=["one sample", "two samples"]
)
def test_layer_does_what_every_layer_does(samples):
    config = {"size": 3, "stride": 4, "samples": samples}
    inputs = [normal(2, 16, 12, 3), BOXES]
    check_layer(ROIAlign, config, None, (2, 4, 3, 3, 3), inputs=inputs)


def test_layer_of_a_pyramid_does_what_every_layer_does():
    config = {"size": 2, "canonical_size": 32, "canonical_level": 3, "samples": 1}
    inputs = [pyramid(), BOXES]
    check_layer(PyramidROIAlign, config, None, (2, 4, 2, 2, 3), inputs=inputs)


@pytest.mark.parametrize("compilable", FORMS)
def test_samples_computed_on_paper(compilable):
    features = np.arange(25, dtype="float32").reshape(1, 5, 5, 1)
    boxes = np.array([[[1.0, 1, 3, 3]]])
    wanted = 4.5 + np.arange(4)[:, None] * 2.5 + np.arange(4) * 0.5
    pooled = ROIAlign(4, samples=1, compilable=compilable)([features, boxes])
    assert_close(ops.squeeze(pooled), wanted, rtol=1e-5)
    pooled = ROIAlign(4, samples=1, aligned=False, compilable=compilable)([features, boxes])
    assert_close(ops.squeeze(pooled), wanted + 3, rtol=1e-5)


@pytest.mark.parametrize("compilable", FORMS)
@pytest.mark.parametrize("name", ["roi_align", "roi_align_without_shift"])
def test_values_and_gradients_equal_those_of_torchvision(name, compilable):
    features, boxes = torchvision_values.regions()
    layer = ROIAlign(2, 8, aligned=name == "roi_align", compilable=compilable)
    assert_close(layer([features, boxes]), torchvision_values.stored(name), rtol=0, atol=1e-5)
    gradient, _ = gradients(layer, [features, boxes])[1]
    wanted = torchvision_values.stored(name + "_gradient")
    assert_close(gradient, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("compilable", FORMS)
def test_boxes_get_no_gradient(compilable):
    layer = ROIAlign(2, 4, compilable=compilable)
    features, boxes = gradients(layer, [normal(2, 16, 12, 3), BOXES])[1]
    assert features.any() and not boxes.any()


@pytest.mark.parametrize("compilable", FORMS)
def test_odd_boxes_have_finite_features(compilable):
    values = [np.nan, np.inf, -np.inf, 3e38, -3e38, 0, 5]
    boxes = np.stack(np.meshgrid(values, values, values, values), axis=-1).reshape(1, -1, 4)
    features = normal(1, 6, 6, 2)
    for layer in (
        ROIAlign(2, aligned=False, compilable=compilable),
        PyramidROIAlign(2, (1,), compilable=compilable),
    ):
        maps = [features] if isinstance(layer, PyramidROIAlign) else features
        assert np.isfinite(ops.convert_to_numpy(layer([maps, boxes.astype("float32")]))).all()


def test_coordinates_keep_their_bits_under_mixed_precision():
    # In 16 bits 1001 and 1003 are not both distinct from their neighbours.
    features = np.tile(np.arange(1024, dtype="float32") / 1024, (1, 4, 1))[..., None]
    boxes = np.array([[[1001.0, 0, 1003, 4]]], "float32")
    pooled = ROIAlign(1, dtype="mixed_bfloat16")([features, boxes])
    assert keras.backend.standardize_dtype(pooled.dtype) == "bfloat16"
    assert_close(pooled, np.full((1, 1, 1, 1, 1), 1001.5 / 1024), rtol=4e-3)


@pytest.mark.parametrize("compilable", FORMS)
def test_boxes_are_pooled_from_the_level_of_their_size(compilable):
    maps = [np.full((1, side, side, 1), level) for level, side in enumerate((64, 32, 16, 8), 2)]
    # Level 4 is that of sides from 224 to just under 448.
    sides = [10, 111, 112, 223, 224, 447, 448, 5000]
    boxes = np.array([[[0.0, 0, side, side] for side in sides] + [[0, 0, 112, 448]]])
    pooled = PyramidROIAlign(1, samples=1, compilable=compilable)([maps, boxes / 50])
    assert_close(ops.ravel(pooled), [2] * 9)
    layer = PyramidROIAlign(1, samples=1, canonical_size=224 / 50, compilable=compilable)
    assert_close(ops.ravel(layer([maps, boxes / 50])), [2, 2, 3, 3, 4, 4, 5, 5, 4])


@pytest.mark.parametrize("compilable", FORMS)
@pytest.mark.parametrize("aligned", [True, False])
def test_a_pyramid_is_pooled_as_each_of_its_levels(aligned, compilable):
    maps = pyramid()
    random = np.random.default_rng(0)
    corners = random.uniform(-5, 60, size=(2, 50, 2))
    sides = np.exp(random.uniform(0, 5, size=(2, 50, 2)))
    boxes = np.concatenate([corners, corners + sides], axis=2).astype("float32")
    layer = PyramidROIAlign(3, canonical_size=16, aligned=aligned, compilable=compilable)
    level = 4 + np.log2(np.sqrt(sides.prod(axis=2)) / 16)
    level = np.clip(np.floor(level), 2, 5).astype(int)
    assert set(level.ravel()) == {2, 3, 4, 5}
    each = [ROIAlign(3, 4 * 2**i, aligned=aligned)([x, boxes]) for i, x in enumerate(maps)]
    each = np.stack([ops.convert_to_numpy(x) for x in each])
    wanted = np.take_along_axis(each, level[None, ..., None, None, None] - 2, axis=0)[0]
    assert_close(layer([maps, boxes]), wanted, rtol=0, atol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="one form")
@pytest.mark.parametrize("samples_of_a_part", [roi_align.SAMPLES_OF_A_PART, 50], ids=str)
def test_both_forms_agree_on_a_pyramid_and_its_gradients(samples_of_a_part, monkeypatch):
    monkeypatch.setattr(roi_align, "SAMPLES_OF_A_PART", samples_of_a_part)
    inputs = [pyramid(), BOXES]
    compilable = PyramidROIAlign(2, canonical_size=32)
    kernel = PyramidROIAlign(2, canonical_size=32, compilable=False)
    assert_close(kernel(inputs), compilable(inputs), rtol=0, atol=1e-5)
    wanted = gradients(compilable, inputs)[1]
    for found, gradient in zip(gradients(kernel, inputs)[1], wanted, strict=True):
        assert_close(found, gradient, rtol=0, atol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="one form")
def test_the_gradient_of_the_kernel_agrees_where_operations_are_deterministic():
    from tensorflow.python.framework import config

    layer = PyramidROIAlign(2, canonical_size=32, compilable=False)
    wanted = gradients(layer, [pyramid(), BOXES])[1]
    config.enable_op_determinism()
    try:
        found = gradients(layer, [pyramid(), BOXES])[1]
    finally:
        config.disable_op_determinism()
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="one form")
@pytest.mark.parametrize("layer_class", [ROIAlign, PyramidROIAlign])
def test_the_kernel_runs_in_graphs_of_any_batch(layer_class):
    maps = keras.Input((16, 16, 3))
    strides = 4 if layer_class is ROIAlign else (4,)
    layer = layer_class(2, strides, compilable=False)
    boxes = keras.Input((None, 4))
    pooled = layer([maps if layer_class is ROIAlign else [maps], boxes])
    assert pooled.shape == (None, None, 2, 2, 3)
    model = keras.Model([maps, boxes], pooled)
    features = normal(2, 16, 16, 3)
    answer = model.predict([features, BOXES], verbose=0)
    wanted = ROIAlign(2, 4)([features, BOXES])
    assert_close(answer, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("layer_class", "arguments", "message"),
    [
        (ROIAlign, {"size": 0}, "`size` must be a positive integer"),
        (ROIAlign, {"size": 7, "samples": 1.5}, "`samples` must be a positive integer"),
        (ROIAlign, {"size": 7, "stride": 0}, "`stride` must be above 0"),
        (PyramidROIAlign, {"size": 7, "strides": (4, 16)}, "`strides` must be successive powers"),
        (PyramidROIAlign, {"size": 7, "strides": ()}, "`strides` must be successive powers"),
        (PyramidROIAlign, {"size": 7, "canonical_size": 0}, "`canonical_size` must be above 0"),
    ],
)
def test_bad_arguments_are_refused(layer_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        layer_class(**arguments)


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match="Feature maps must have the shape"):
        ROIAlign(2)([np.zeros((2, 4, 4)), BOXES])
    with pytest.raises(ValueError, match="Boxes must have the shape"):
        ROIAlign(2)([np.zeros((2, 4, 4, 1)), BOXES[0]])
    with pytest.raises(ValueError, match="one feature map for each stride"):
        PyramidROIAlign(2)([[np.zeros((2, 4, 4, 1))], BOXES])
