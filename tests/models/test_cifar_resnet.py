import keras
import numpy as np
import pytest

from models.cifar_resnet import DEPTHS, cifar_resnet


@pytest.mark.parametrize("depth", DEPTHS[:3])
def test_depth_counts_the_layers_with_weights(depth):
    with keras.StatelessScope(initialize_variables=False):
        model = cifar_resnet(depth=depth)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) + len(["logits"]) == depth
    # No weights in the shortcuts: 16, 32 and 64 filters, each of n blocks with two convolutions.
    n = (depth - 2) // 6
    kernels = 9 * (3 * 16 + 2 * n * 16**2 + 16 * 32 + (2 * n - 1) * 32**2)
    kernels += 9 * (32 * 64 + (2 * n - 1) * 64**2)
    normalizations = 2 * (16 + 2 * n * (16 + 32 + 64))
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trainable == kernels + normalizations + 650


@pytest.mark.parametrize("side", [8, 9])
def test_shortcut_and_convolution_see_the_same_pixel(side):
    model = cifar_resnet(input_shape=(side, side, 1), num_classes=3, norm="none")
    before, after = (model.get_layer(f"conv{name}") for name in ("2_block3", "3_block1"))
    block = keras.Model(before.output, after.output)
    for number in (1, 2):
        convolution = model.get_layer(f"conv3_block1_{number}")
        kernel = np.zeros(convolution.kernel.shape, "float32")
        kernel[1, 1, range(kernel.shape[2]), range(kernel.shape[2])] = 1
        convolution.kernel.assign(kernel)
    # With kernels that pass on the center pixel, the block adds two copies of one pixel.
    features = np.random.default_rng(0).uniform(size=(1, side, side, 16)).astype("float32")
    shortcut = np.sum(features[:, 1 - side % 2 :: 2, 1 - side % 2 :: 2], axis=-1)
    np.testing.assert_allclose(np.sum(block(features), axis=-1), 2 * shortcut, rtol=1e-5)


def test_features_shrink_to_a_quarter():
    model = cifar_resnet(input_shape=(28, 28, 1), num_classes=10)
    shapes = [model.get_layer(f"conv{stage}_block3").output.shape[1:] for stage in (2, 3, 4)]
    assert shapes == [(28, 28, 16), (14, 14, 32), (7, 7, 64)]
