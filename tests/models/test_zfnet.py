import keras
import pytest

from models.zfnet import zfnet
from tests.models.blueprint import blueprint


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return blueprint(zfnet)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1", (110, 110, 96)),
        ("norm1", (55, 55, 96)),
        ("conv2", (26, 26, 256)),
        ("norm2", (13, 13, 256)),
        ("conv4", (13, 13, 384)),
        ("conv5", (13, 13, 256)),
        ("pool5", (6, 6, 256)),
        ("fc6", (4096,)),
    ],
)
def test_features_have_the_sizes_of_figure_3(network, name, shape):
    assert network.get_layer(name).output.shape[1:] == shape
