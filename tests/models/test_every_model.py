"""What holds for every network, one row a network."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras
import numpy as np
import pytest

from apps.image_classification import MODELS
from models.alexnet import alexnet
from models.cifar_resnet import DEPTHS, cifar_resnet
from models.inception_resnet_v2 import inception_resnet_v2
from models.inception_v1 import WithAuxiliaryHeads, googlenet
from models.inception_v2 import inception_v2
from models.inception_v3 import inception_v3
from models.inception_v4 import inception_v4
from models.lenet import lenet5
from models.mlp import mlp
from models.mobilenet import mobilenet
from models.resnet import RESNET_SIZES, resnet
from models.vgg import CONVOLUTIONS, vgg
from models.vit import VIT_SIZES, vit
from models.zfnet import zfnet


class Row(NamedTuple):
    """A network, the smallest side of an image it takes, and which choices it has."""

    build: Callable[..., keras.Model]
    smallest: int
    norms: bool = False
    pools: bool = False


ROWS = {
    "mlp": Row(partial(mlp, units=(64,), dropout=0.0), 0),
    "lenet5": Row(lenet5, 12, pools=True),
    "alexnet": Row(alexnet, 67, pools=True),
    "zfnet": Row(zfnet, 33, pools=True),
    "vgg": Row(partial(vgg, depth=11), 32, norms=True, pools=True),
    "resnet": Row(partial(resnet, depth=18), 1, norms=True, pools=True),
    "cifar_resnet": Row(cifar_resnet, 4, norms=True),
    "mobilenet": Row(partial(mobilenet, width=0.25), 1, norms=True),
    "vit": Row(partial(vit, size="tiny"), 16),
}
"""The Inception family has its own tests of the same kind."""


def count(weights) -> int:
    return sum(math.prod(weight.shape) for weight in weights)


def sizes(build: Callable[[], keras.Model]) -> tuple[int, int]:
    """Counts trainable and all weights without allocating them."""
    with keras.StatelessScope():
        model = build()
    if isinstance(model, WithAuxiliaryHeads):
        model = model.without_heads()
    return count(model.trainable_weights), count(model.weights)


TRAINABLE = {
    "lenet5": 61_706,
    "alexnet": 60_965_224,
    "zfnet": 62_357_608,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "inception_v4": 42_679_816,
    "vit_tiny": 5_717_416,
    "vit_small": 22_050_664,
    "vit_base": 86_567_656,
    "vit_large": 304_326_632,
}
"""Trainable parameters with the published input and classes."""

WITH_MOVING_STATISTICS = {
    "inception_v3": 23_851_784,
    "inception_resnet_v2": 55_873_736,
    "mobilenet": 4_253_864,
}

IN_MILLIONS = {
    "cifar_resnet20": 0.27,
    "cifar_resnet32": 0.46,
    "cifar_resnet44": 0.66,
    "cifar_resnet56": 0.85,
    "cifar_resnet110": 1.7,
    "googlenet": 7.0,
    "inception_v2": 11.3,
}
"""Trainable parameters where the paper rounds: to the digits given here."""


@pytest.mark.parametrize("name", TRAINABLE)
def test_trainable_parameters_are_the_published_number(name):
    assert sizes(MODELS[name])[0] == TRAINABLE[name]


@pytest.mark.parametrize("name", WITH_MOVING_STATISTICS)
def test_parameters_with_moving_statistics_are_the_published_number(name):
    assert sizes(MODELS[name])[1] == WITH_MOVING_STATISTICS[name]


@pytest.mark.parametrize("name", IN_MILLIONS)
def test_parameters_round_to_the_published_number(name):
    published = IN_MILLIONS[name]
    digits = len(str(published).partition(".")[2])
    assert round(sizes(MODELS[name])[0] / 1e6, digits) == published


def test_every_published_size_can_be_chosen():
    names = [f"vgg{depth}" for depth in CONVOLUTIONS] + [f"resnet{n}" for n in RESNET_SIZES]
    names += [f"cifar_resnet{n}" for n in DEPTHS] + [f"vit_{size}" for size in VIT_SIZES]
    assert set(names) <= set(MODELS)
    known = {*TRAINABLE, *WITH_MOVING_STATISTICS, *IN_MILLIONS, "mlp"}
    assert set(MODELS) == known
    families = (googlenet, inception_v2, inception_v3, inception_v4, inception_resnet_v2)
    assert {build.__name__ for build in families} <= set(MODELS)


@pytest.mark.parametrize("name", ROWS)
def test_smallest_input_works_and_a_smaller_one_is_refused(name):
    build, smallest = ROWS[name][:2]
    side = max(smallest, 1)
    with keras.StatelessScope():
        model = build(input_shape=(side, side, 2), num_classes=3)
    assert model.output_shape == (None, 3)
    assert model.output.dtype == "float32"
    if smallest:
        with pytest.raises(ValueError, match=f"works is {smallest} x {smallest} pixels"):
            build(input_shape=(side, smallest - 1, 2), num_classes=3)


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.norms])
def test_every_norm_builds(name, norm):
    side = max(32, ROWS[name].smallest)
    with keras.StatelessScope():
        model = ROWS[name].build(input_shape=(side, side, 3), num_classes=3, norm=norm)
    kinds = {type(layer).__name__ for layer in model.layers}
    expected = {
        "batch": {"BatchNormalization"},
        "group": {"GroupNormalization"},
        "layer": {"GroupNormalization"},
    }.get(norm, set())
    assert {kind for kind in kinds if kind.endswith("Normalization")} == expected


@pytest.mark.parametrize("pool", ["max", "average", "lp", "mixed", "stochastic", "spectral"])
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.pools])
def test_every_pool_builds_to_the_same_shapes(name, pool):
    side = max(64, ROWS[name].smallest)
    shape = (side, side, 3)
    with keras.StatelessScope():
        model = ROWS[name].build(input_shape=shape, num_classes=3, pool=pool)
        published = ROWS[name].build(input_shape=shape, num_classes=3)
    shapes = [layer.output.shape for layer in model.layers]
    assert shapes == [layer.output.shape for layer in published.layers]


SMALL = {
    "mlp": (8, 8, 1),
    "lenet5": (12, 12, 1),
    "cifar_resnet": (8, 8, 3),
    "mobilenet": (32, 32, 3),
    "vit": (16, 16, 3),
}


@pytest.mark.parametrize("name", SMALL)
def test_loss_of_one_batch_falls_and_keras_file_gives_the_same_answer(name, tmp_path):
    model = ROWS[name].build(input_shape=SMALL[name], num_classes=3)
    random = np.random.default_rng(0)
    images = random.uniform(size=(8, *SMALL[name])).astype("float32")
    labels = np.arange(8) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-4), loss, jit_compile=False)
    losses = []
    for _ in range(8):
        model.reset_metrics()
        losses.append(model.train_on_batch(images, labels))
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(loaded(images), model(images, training=False), rtol=1e-5, atol=1e-5)


def test_width_scales_mobilenet():
    # Howard et al. (2017), table 7: 0.5 M parameters at width 0.25.
    assert sizes(partial(mobilenet, width=0.25))[0] == pytest.approx(0.47e6, rel=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vgg(depth=12), "`depth` must be one of"),
        (lambda: resnet(depth=20), "`depth` must be one of"),
        (lambda: resnet(stride_in="5x5"), "`stride_in` must be 1x1 or 3x3"),
        (lambda: cifar_resnet(depth=18), "`depth` must be one of"),
        (lambda: mobilenet(width=0), "`width` must be above 0"),
        (lambda: vit(size="huge"), "`size` must be one of tiny, small"),
        (lambda: vgg(norm="instance"), "`norm` must be one of"),
        (lambda: lenet5(pool="min"), "`pool` must be one of"),
    ],
)
def test_unknown_choices_are_refused(call, message):
    with keras.StatelessScope(), pytest.raises(ValueError, match=message):
        call()
