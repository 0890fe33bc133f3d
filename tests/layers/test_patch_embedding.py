import numpy as np
import pytest
from keras import ops

from layers import PatchEmbedding
from tests.layers.check import assert_close, check_layer


def test_layer_does_what_every_layer_does():
    config = {"patch_size": 2, "dim": 5}
    check_layer(PatchEmbedding, config, (2, 4, 6, 3), (2, 6, 5), weights=2)


def test_one_value_by_hand():
    # Sums of the four 2 x 2 patches of 0 ... 15, row by row.
    layer = PatchEmbedding(2, 1)
    layer.build((1, 4, 4, 1))
    layer.projection.set_weights([np.ones((2, 2, 1, 1)), np.array([0.5])])
    tokens = layer(np.arange(16, dtype="float32").reshape(1, 4, 4, 1))
    assert_close(tokens, [[[10.5], [18.5], [42.5], [50.5]]])


def test_equals_cutting_and_one_matrix_product():
    images = np.float32(np.random.default_rng(0).normal(size=(2, 6, 9, 4)))
    layer = PatchEmbedding(3, 5)
    tokens = layer(images)
    kernel, bias = layer.projection.get_weights()
    patches = images.reshape(2, 2, 3, 3, 3, 4).transpose(0, 1, 3, 2, 4, 5).reshape(2, 6, 36)
    wanted = patches @ kernel.reshape(36, 5) + bias
    assert_close(tokens, wanted, atol=1e-5)


def test_an_image_of_one_patch_is_one_token():
    assert ops.shape(PatchEmbedding(4, 3)(np.ones((1, 4, 4, 2)))) == (1, 1, 3)


def test_unknown_sides_give_an_unknown_number_of_tokens():
    layer = PatchEmbedding(4, 3)
    assert layer.compute_output_shape((None, None, 8, 2)) == (None, None, 3)
    assert layer.compute_output_shape((None, 12, 8, 2)) == (None, 6, 3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"patch_size": 0, "dim": 3}, "`patch_size` must be a positive integer"),
        ({"patch_size": 2, "dim": 1.5}, "`dim` must be a positive integer"),
    ],
    ids=["patch_size", "dim"],
)
def test_wrong_argument(config, message):
    with pytest.raises(ValueError, match=message):
        PatchEmbedding(**config)


def test_wrong_shape():
    with pytest.raises(ValueError, match="must divide the height and the width"):
        PatchEmbedding(4, 3).build((None, 8, 10, 3))
    with pytest.raises(ValueError, match="batch of images with 4 axes"):
        PatchEmbedding(4, 3).build((None, 8, 8))
