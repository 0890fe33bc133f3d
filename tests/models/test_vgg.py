import keras
import pytest

from models.vgg import CONVOLUTIONS, vgg


def convolutions(model: keras.Model) -> list[keras.layers.Conv2D]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


@pytest.mark.parametrize("depth", CONVOLUTIONS)
def test_depth_counts_the_layers_with_weights(depth):
    with keras.StatelessScope(initialize_variables=False):
        model = vgg(input_shape=(32, 32, 3), num_classes=3, depth=depth)
    assert len(convolutions(model)) + len(["fc6", "fc7", "fc8"]) == depth
    assert all(layer.kernel_size == (3, 3) for layer in convolutions(model))
    assert model.get_layer("pool5").output.shape == (None, 1, 1, 512)


@pytest.mark.parametrize(("norm", "bias"), [("none", True), ("batch", False), ("group", False)])
def test_a_bias_is_left_out_where_the_normalization_has_one(norm, bias):
    with keras.StatelessScope(initialize_variables=False):
        model = vgg(input_shape=(32, 32, 3), num_classes=3, depth=11, norm=norm)
    assert {layer.use_bias for layer in convolutions(model)} == {bias}
