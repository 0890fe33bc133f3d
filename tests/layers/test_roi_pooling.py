import numpy as np
import pytest
from keras import ops

from layers import ROIPooling
from tests.layers import torchvision_values
from tests.layers.check import BACKEND, assert_close, check_layer, gradients, normal

BOXES = np.array([[[1.0, 2, 20, 30], [0, 0, 60, 60], [5, 5, 5, 5], [-9, 3, 12, 70]]] * 2, "float32")


def rounded_pooling(features: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The definition for one image and one box in pixels of the map, in float32 as in C."""
    height, width, channels = features.shape
    xmin, ymin, xmax, ymax = (int(np.sign(x) * np.floor(abs(x) + 0.5)) for x in box)
    tall = np.float32(max(ymax - ymin + 1, 1)) / np.float32(size)
    wide = np.float32(max(xmax - xmin + 1, 1)) / np.float32(size)
    pooled = np.zeros((size, size, channels), "float32")
    for i in range(size):
        for j in range(size):
            top, left = ymin + np.floor(i * tall), xmin + np.floor(j * wide)
            bottom = ymin + np.ceil(np.float32(i + 1) * tall)
            right = xmin + np.ceil(np.float32(j + 1) * wide)
            rows, columns = (
                slice(int(np.clip(a, 0, length)), int(np.clip(b, 0, length)))
                for a, b, length in ((top, bottom, height), (left, right, width))
            )
            if features[rows, columns].size:
                pooled[i, j] = features[rows, columns].max(axis=(0, 1))
    return pooled


def test_layer_does_what_every_layer_does():
    inputs = [normal(2, 8, 6, 3), BOXES]
    check_layer(ROIPooling, {"size": 3, "stride": 8}, None, (2, 4, 3, 3, 3), inputs=inputs)


def test_bins_computed_on_paper():
    features = np.arange(25, dtype="float32").reshape(1, 5, 5, 1)
    # Pixels 1 to 3 are 3 pixels: the bins of 1.5 pixels are rounded to 1, 2 and 2, 3.
    pooled = ROIPooling(2, 2)([features, np.array([[[2.0, 2, 6, 6], [0, 0, 0, 0]]])])
    assert_close(ops.reshape(pooled, (2, 4)), [[12, 13, 17, 18], [0, 0, 0, 0]])


def test_halves_are_rounded_away_from_zero():
    features = np.arange(5, dtype="float32").reshape(1, 1, 5, 1)
    boxes = np.array([[[0.5, 0, 2.5, 0], [-1.5, 0, -0.5, 0], [-1.49, 0, -0.49, 0]]])
    # Pixels 1 to 3, -2 to -1, -1 to 0.
    assert_close(ops.ravel(ROIPooling(1, 1)([features, boxes])), [3, 0, 0])


def test_bins_outside_the_map_are_0():
    pooled = ROIPooling(2, 1)([np.full((1, 4, 4, 1), -1.0), np.array([[[2.0, 2, 5, 5]]])])
    assert_close(ops.ravel(pooled), [-1, 0, 0, 0])


def test_values_and_gradients_equal_those_of_torchvision():
    features, boxes = torchvision_values.regions()
    layer = ROIPooling(2, 8)
    assert_close(layer([features, boxes]), torchvision_values.stored("roi_pool"), rtol=0, atol=1e-6)
    gradient, to_boxes = gradients(layer, [features, boxes])[1]
    wanted = torchvision_values.stored("roi_pool_gradient")
    assert_close(gradient, wanted, rtol=0, atol=1e-5)
    assert not to_boxes.any()


def test_every_side_is_divided_as_in_the_reference():
    features = normal(1, 3, 70, 1)
    # With 7 bins, float32 rounds the end of the last one up for a side of 57 pixels.
    boxes = np.array([[3, 1, 3 + side, 2] for side in range(66)], "float32")
    wanted = np.stack([rounded_pooling(features[0], box, 7) for box in boxes])
    layer = ROIPooling(7, 1)
    assert_close(layer([features, boxes[None]])[0], wanted)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(lambda x: layer(x), jit_compile=True)
        assert_close(compiled([features, boxes[None]])[0], wanted)


def test_odd_boxes_have_finite_features():
    values = [np.nan, np.inf, -np.inf, 3e38, -3e38, 0, 5]
    boxes = np.stack(np.meshgrid(values, values, values, values), axis=-1).reshape(1, -1, 4)
    pooled = ROIPooling(2, 1)([normal(1, 6, 6, 2), boxes.astype("float32")])
    assert np.isfinite(ops.convert_to_numpy(pooled)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 8), "`size` must be a positive integer"), ((7, 0), "`stride` must be above 0")],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ROIPooling(*arguments)


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match="Feature maps must have the shape"):
        ROIPooling(2, 1)([np.zeros((2, 4, 4)), BOXES])
    with pytest.raises(ValueError, match="Boxes must have the shape"):
        ROIPooling(2, 1)([np.zeros((2, 4, 4, 1)), BOXES[0]])
