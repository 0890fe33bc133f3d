import keras
import pytest

from models.lenet import lenet5


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("c1", (28, 28, 6), 156),
        ("s2", (14, 14, 6), 0),
        ("c3", (10, 10, 16), 2416),
        ("s4", (5, 5, 16), 0),
        ("c5", (120,), 48_120),
        ("f6", (84,), 10_164),
        ("output", (10,), 850),
    ],
)
def test_layers_have_the_maps_of_figure_2(name, shape, parameters):
    layer = lenet5().get_layer(name)
    assert layer.output.shape[1:] == shape
    assert layer.count_params() == parameters


def test_published_choices_are_the_defaults():
    model = lenet5()
    assert isinstance(model.get_layer("s2"), keras.layers.AveragePooling2D)
    for name in ("c1", "c3", "c5", "f6"):
        assert model.get_layer(name).activation is keras.activations.tanh


def test_other_activations_can_be_chosen():
    assert lenet5(activation="relu").get_layer("f6").activation is keras.activations.relu
