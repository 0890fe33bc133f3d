import numpy as np
import pytest
from keras import ops

from layers import Anchors
from tests.layers import torchvision_values
from tests.layers.check import assert_close, check_layer


def maps(*shapes: tuple[int, int]) -> list[np.ndarray]:
    return [np.zeros((2, *shape, 1), "float32") for shape in shapes]


def test_layer_does_what_every_layer_does():
    config = {"sizes": [(16,), (32, 48)], "ratios": (0.5, 1.0), "strides": (8, 16)}
    inputs = [maps((2, 3), (1, 2))]
    check_layer(Anchors, config, None, (20, 4), inputs=inputs, output_dtype="float32")


def test_anchors_equal_those_in_the_tests_of_detectron2():
    anchors = Anchors([(32, 64)], (0.25, 1, 4), (4,))(maps((1, 2)))
    wanted = [
        [-32, -8, 32, 8],
        [-16, -16, 16, 16],
        [-8, -32, 8, 32],
        [-64, -16, 64, 16],
        [-32, -32, 32, 32],
        [-16, -64, 16, 64],
    ]
    wanted += [[xmin + 4, ymin, xmax + 4, ymax] for xmin, ymin, xmax, ymax in wanted]
    assert_close(anchors, wanted)


def test_rounded_anchors_equal_those_of_torchvision():
    layer = Anchors([(20,), (32,)], (0.5, 1.0, 2.0), (8, 16), rounded=True)
    # torchvision takes the strides from the image: 24 x 32 pixels, 2 x 2 positions.
    wanted = torchvision_values.stored("rounded_anchors").copy()
    second = wanted[36:].reshape(2, 2, 3, 4)
    second[1, ..., 1::2] += 4
    assert_close(layer(maps((3, 4), (2, 2))), wanted)


def test_anchors_have_area_ratio_and_centre():
    anchors = ops.convert_to_numpy(Anchors([(20, 30)], (0.5, 2.0), (8,))(maps((2, 3))))
    anchors = anchors.reshape(2, 3, 2, 2, 4)
    width, height = anchors[..., 2] - anchors[..., 0], anchors[..., 3] - anchors[..., 1]
    np.testing.assert_allclose(width * height, np.full((2, 3, 2, 2), [[400] * 2, [900] * 2]), 1e-5)
    np.testing.assert_allclose(height / width, np.full((2, 3, 2, 2), [0.5, 2]), 1e-5)
    centres = (anchors[1, 2, ..., :2] + anchors[1, 2, ..., 2:]) / 2
    np.testing.assert_allclose(centres, np.full((2, 2, 2), [16, 8]), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([(16,), (0,)], (1.0,), (8, 16)), "`sizes` must be above 0"),
        (([(16,)], (1.0, -1.0), (8,)), "`ratios` must be above 0"),
        (([(16,)], (1.0,), (0,)), "`strides` must be above 0"),
        (([(16,)], (1.0,), (8, 16)), "one entry for each feature map"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Anchors(*arguments)


def test_another_number_of_maps_is_refused():
    with pytest.raises(ValueError, match="one feature map for each stride"):
        Anchors([(16,)], (1.0,), (8,))(maps((2, 2), (1, 1)))
