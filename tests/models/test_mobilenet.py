import math

import keras
import numpy as np
import pytest

from models.mobilenet import mobilenet


@pytest.mark.parametrize(("width", "millions"), [(1.0, 4.2), (0.75, 2.6), (0.5, 1.3), (0.25, 0.5)])
def test_width_gives_the_parameters_of_table_6(width, millions):
    with keras.StatelessScope(initialize_variables=False):
        weights = mobilenet(width=width).trainable_weights
    assert sum(math.prod(weight.shape) for weight in weights) / 1e6 == pytest.approx(
        millions, abs=0.05
    )


def test_features_shrink_to_a_32nd():
    with keras.StatelessScope(initialize_variables=False):
        model = mobilenet()
    assert model.get_layer("conv1").output.shape == (None, 112, 112, 32)
    assert model.get_layer("conv14_pointwise").output.shape == (None, 7, 7, 1024)


def test_depthwise_kernels_begin_with_the_deviation_for_9_inputs():
    model = mobilenet(input_shape=(32, 32, 3), num_classes=3)
    kernel = model.get_layer("conv8_depthwise").kernel
    assert np.std(kernel) == pytest.approx(math.sqrt(2 / 9), rel=0.05)
