import keras
import pytest

from models.resnet import RESNET_SIZES, resnet


def build(**choices) -> keras.Model:
    with keras.StatelessScope(initialize_variables=False):
        return resnet(**choices)


def convolutions(model: keras.Model) -> list[keras.layers.Conv2D]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_depth_counts_the_layers_with_weights_but_for_the_shortcuts(depth):
    model = build(input_shape=(32, 32, 3), num_classes=3, depth=depth)
    counted = [layer for layer in convolutions(model) if not layer.name.endswith("_0")]
    assert len(counted) + len(["logits"]) == depth


def test_blocks_of_the_deepest_are_those_of_table_1():
    assert sum(RESNET_SIZES[101].blocks) * 3 + 2 == 101
    assert sum(RESNET_SIZES[152].blocks) * 3 + 2 == 152


@pytest.mark.parametrize(("depth", "channels"), [(18, 512), (50, 2048)])
def test_features_have_the_sizes_of_table_1(depth, channels):
    model = build(depth=depth)
    sides = {"conv1": 112, "pool1": 56, "conv2_block1": 56, "conv3_block1": 28, "conv4_block1": 14}
    for name, side in sides.items():
        assert model.get_layer(name).output.shape[1:3] == (side, side)
    last = f"conv5_block{RESNET_SIZES[depth].blocks[-1]}"
    assert model.get_layer(last).output.shape == (None, 7, 7, channels)


@pytest.mark.parametrize(("stride_in", "strides"), [("1x1", [2, 1, 1]), ("3x3", [1, 2, 1])])
def test_stride_of_a_bottleneck_is_in_the_chosen_convolution(stride_in, strides):
    model = build(input_shape=(32, 32, 3), num_classes=3, depth=50, stride_in=stride_in)
    found = [model.get_layer(f"conv3_block1_{number}").strides for number in (1, 2, 3)]
    assert found == [(stride, stride) for stride in strides]
    assert model.get_layer("conv3_block1_0").strides == (2, 2)


def test_biases_are_there_only_without_normalization():
    for norm, bias in (("batch", False), ("none", True)):
        model = build(input_shape=(32, 32, 3), num_classes=3, depth=18, norm=norm)
        assert {layer.use_bias for layer in convolutions(model)} == {bias}
