import keras
import numpy as np
import pytest

from models.alexnet import alexnet


@pytest.fixture(scope="module")
def network() -> keras.Model:
    with keras.StatelessScope(initialize_variables=False):
        return alexnet()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1", (55, 55, 96)),
        ("pool1", (27, 27, 96)),
        ("conv2", (27, 27, 256)),
        ("pool2", (13, 13, 256)),
        ("conv5", (13, 13, 256)),
        ("pool5", (6, 6, 256)),
        ("fc7", (4096,)),
    ],
)
def test_features_have_the_sizes_of_figure_2(network, name, shape):
    assert network.get_layer(name).output.shape[1:] == shape


def test_windows_of_pooling_overlap(network):
    for name in ("pool1", "pool2", "pool5"):
        assert network.get_layer(name).pool_size == (3, 3)
        assert network.get_layer(name).strides == (2, 2)


def test_two_branches_are_a_convolution_of_two_groups():
    model = alexnet(input_shape=(64, 64, 3), num_classes=3, units=4)
    inside = keras.Model(
        model.input, [model.get_layer("pool1").output, model.get_layer("conv2").output]
    )
    images = np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype("float32")
    before, after = inside(images)
    grouped = keras.layers.Conv2D(256, 5, padding="same", groups=2, activation="relu")
    grouped.build(before.shape)
    halves = [model.get_layer(f"conv2_{number}") for number in (1, 2)]
    grouped.kernel.assign(np.concatenate([half.kernel for half in halves], axis=-1))
    grouped.bias.assign(np.concatenate([half.bias for half in halves]))
    np.testing.assert_allclose(after, grouped(before), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "bias"), [("conv1", 0), ("conv2_1", 1), ("conv3", 0), ("fc6", 1)])
def test_biases_begin_as_section_5_says(name, bias):
    model = alexnet(input_shape=(64, 64, 3), num_classes=3, units=4)
    assert set(np.asarray(model.get_layer(name).bias)) == {bias}
