"""The inception module and what holds for every network made of it."""

from functools import partial

import keras
import numpy as np
import pytest

from models.inception_module import Conv, Pool, Split, convolution, inception_module
from models.inception_resnet_v2 import inception_resnet_v2
from models.inception_v1 import googlenet
from models.inception_v2 import inception_v2
from models.inception_v3 import inception_v3
from models.inception_v4 import inception_v4
from tests.models.blueprint import blueprint, with_slow

googlenet_without_heads = partial(googlenet, auxiliary=False)

SMALLEST = {
    googlenet_without_heads: 1,
    googlenet: 65,
    inception_v2: 1,
    inception_v3: 75,
    inception_v4: 75,
    inception_resnet_v2: 75,
}
"""Least height and width, in pixels."""


def name_of(build) -> str:
    return getattr(build, "__name__", "googlenet without heads")


def test_module_concatenates_its_branches_in_order():
    images = keras.Input((6, 6, 2), name="images")
    branches = (
        [Conv(3, 1)],
        [Pool("average")],
        [Conv(2, (1, 3)), Split(Conv(4, 1), Conv(5, 1))],
        [Pool("max"), Conv(1, 1)],
    )
    outputs = inception_module(images, branches, "none", "module")
    model = keras.Model(images, outputs)
    assert model.output_shape == (None, 6, 6, 3 + 2 + 4 + 5 + 1)
    features = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype("float32")
    answer = np.array(model(features))
    averages = keras.layers.AveragePooling2D(3, 1, "same")(features)
    np.testing.assert_allclose(answer[..., 3:5], averages, rtol=1e-6)
    kernel = np.array(model.get_layer("module_branch1_1").kernel)[0, 0]
    np.testing.assert_allclose(answer[..., :3], np.maximum(features @ kernel, 0), atol=1e-6)


def test_convolution_has_a_bias_only_without_normalization():
    images = keras.Input((4, 4, 2))
    plain = keras.Model(images, convolution(images, Conv(3, 3), "none", "conv"))
    batch = keras.Model(images, convolution(images, Conv(3, 3), "batch", "conv", scale=False))
    assert [weight.path for weight in plain.weights] == ["conv/kernel", "conv/bias"]
    assert [weight.path for weight in batch.trainable_weights] == ["conv/kernel", "conv_norm/beta"]


@pytest.mark.parametrize("build", SMALLEST, ids=name_of)
def test_smallest_input_works_and_a_smaller_one_is_refused(build):
    side = SMALLEST[build]
    model = blueprint(build, (side, side, 3), 5)
    assert model.outputs[0].shape == (None, 5)
    with pytest.raises(ValueError, match=f"{side} x {side} pixels. Received: input_shape="):
        build(input_shape=(side, side - 1, 3))


GRIDS = {
    googlenet: {"inception_3a": (28, 256), "inception_4e": (14, 832), "inception_5b": (7, 1024)},
    inception_v2: {"inception_3c": (14, 576), "inception_5a": (7, 1024)},
    inception_v3: {"mixed2": (35, 288), "mixed7": (17, 768), "mixed10": (8, 2048)},
    inception_v4: {"stem_mixed3": (35, 384), "inception_b7": (17, 1024), "reduction_b": (8, 1536)},
    inception_resnet_v2: {"mixed_5b": (35, 320), "mixed_6a": (17, 1088), "mixed_7a": (8, 2080)},
}
"""Side, in pixels, and channels of some layers."""


@pytest.mark.parametrize(
    "build", with_slow(GRIDS, (inception_v4, inception_resnet_v2)), ids=name_of
)
def test_grids_are_the_published_ones(build):
    with keras.StatelessScope(initialize_variables=False):
        model = build()
    for name, (side, channels) in GRIDS[build].items():
        assert model.get_layer(name).output.shape == (None, side, side, channels)


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
@pytest.mark.parametrize("build", [googlenet_without_heads, inception_v2], ids=name_of)
def test_norm_normalizes_every_convolution(build, norm):
    check_kinds(blueprint(build, (32, 32, 3), 5, norm=norm), norm, "max")


@pytest.mark.parametrize("pool", ["average", "lp", "mixed", "stochastic", "spectral"])
@pytest.mark.parametrize(
    "build", with_slow([googlenet_without_heads, inception_v2], [inception_v2]), ids=name_of
)
def test_pool_shrinks_as_the_published_one(build, pool):
    check_kinds(blueprint(build, (63, 63, 3), 5, norm="batch", pool=pool), "batch", pool)


@pytest.mark.parametrize("build", [inception_v3, inception_v4, inception_resnet_v2], ids=name_of)
def test_large_networks_take_other_norms_and_pools(build):
    check_kinds(
        blueprint(build, (75, 75, 3), 5, norm="group", pool="spectral"), "group", "spectral"
    )


def check_kinds(model: keras.Model, norm: str, pool: str) -> None:
    kinds = [type(layer).__name__ for layer in model.layers]
    normalizations = {"batch": "BatchNormalization", "none": ""}.get(norm, "GroupNormalization")
    convolutions = sum(kind in ("Conv2D", "SeparableConv2D") for kind in kinds)
    # The last convolution of a residual block is linear.
    linear = kinds.count("Rescaling")
    assert kinds.count(normalizations) == (0 if norm == "none" else convolutions - linear)
    assert any(kind.lower().startswith(pool) for kind in kinds)
    assert model.output_shape == (None, 5)


@pytest.mark.slow
def test_loss_falls_on_one_batch_and_the_model_survives_saving(tmp_path):
    model = inception_v2(input_shape=(32, 32, 3), num_classes=2)
    images = np.random.default_rng(0).uniform(0, 1, (8, 32, 32, 3)).astype("float32")
    labels = np.arange(8) % 2
    images[labels == 1] /= 2
    # Eagerly: a handful of steps is done before a graph would be made.
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True), run_eagerly=True)
    losses = [float(model.train_on_batch(images, labels)) for _ in range(2)]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(restored(images), model(images), rtol=1e-5, atol=1e-5)
