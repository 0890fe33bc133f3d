import keras
import numpy as np
import pytest

from models.vit import VIT_SIZES, ViTSize, vit


@pytest.fixture
def quick(monkeypatch) -> str:
    monkeypatch.setitem(VIT_SIZES, "quick", ViTSize(64, 2, 2))
    return "quick"


def build(**choices) -> keras.Model:
    with keras.StatelessScope(initialize_variables=False):
        return vit(**choices)


@pytest.mark.parametrize("size", ["tiny", "base"])
def test_sizes_are_those_of_the_tables(size):
    dim, blocks, num_heads = VIT_SIZES[size]
    model = build(size=size)
    assert model.get_layer("patches").output.shape == (None, 196, dim)
    assert model.get_layer("class_token").output.shape == (None, 197, dim)
    attentions = [
        layer for layer in model.layers if isinstance(layer, keras.layers.MultiHeadAttention)
    ]
    assert [attention.num_heads for attention in attentions] == [num_heads] * blocks
    assert model.get_layer("block1_mlp1").units == 4 * dim


def test_patches_may_be_smaller_and_images_oblong():
    model = build(input_shape=(32, 16, 1), num_classes=3, size="tiny", patch_size=4)
    assert model.get_layer("patches").output.shape == (None, 32, 192)
    assert model.output_shape == (None, 3)


def test_an_image_that_patches_do_not_tile_is_refused():
    with pytest.raises(ValueError, match="`patch_size` must divide the height and the width"):
        build(input_shape=(28, 28, 1), size="tiny", patch_size=16)


def test_weights_begin_small_and_differ_between_layers(quick):
    model = vit(input_shape=(16, 16, 1), num_classes=3, size=quick, patch_size=8)
    first, second = (np.asarray(model.get_layer(f"block{n}_mlp1").kernel) for n in (1, 2))
    assert first.std() == pytest.approx(0.02 * 0.88, rel=0.02)  # cut off at two deviations
    assert not np.allclose(first, second)


def test_patches_in_another_order_give_another_answer(quick):
    model = vit(input_shape=(16, 16, 1), num_classes=3, size=quick, patch_size=8)
    images = np.random.default_rng(0).uniform(size=(1, 16, 16, 1)).astype("float32")
    turned = np.roll(images, 8, axis=1)
    assert not np.allclose(model(images), model(turned), atol=1e-6)
