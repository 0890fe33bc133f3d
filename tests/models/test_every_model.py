"""What holds for every network; the Inception family's inputs and choices are in its own tests."""

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

import models
from apps.image_classification import MODELS
from models.alexnet import alexnet
from models.cifar_resnet import cifar_resnet
from models.efficientnet_lite import efficientnet_lite
from models.inception_v1 import googlenet
from models.lenet import lenet5
from models.mlp import mlp
from models.mobilenet import mobilenet
from models.parts import NORMS, POOLS
from models.resnet import resnet
from models.vgg import vgg
from models.vit import VIT_SIZES, ViTSize, vit
from models.zfnet import zfnet
from tests.models.blueprint import blueprint, count, with_slow

NOT_FOR_IMAGES = {
    *("image_classifiers", "imagenet", "inception_module", "parts", "receptive_field"),
    *("bert", "decoder_layers", "decoders", "elmo", "generation", "gpt", "recurrent", "seq2seq"),
    *(
        "actor_critic",
        "beam_search",
        "reward",
        "text_writers",
        "transformer",
        "transformers",
        "translators",
    ),
    *("detectors", "fast_rcnn", "faster_rcnn", "mask_rcnn", "rcnn", "region_heads", "trunks"),
    *("lora", "node_classifiers", "timm_weights", "torchvision_weights", "writing"),
}
MODULES = sorted({path.stem for path in Path(models.__file__).parent.glob("[a-z]*.py")})

TRAINABLE = {
    "mlp": 669_706,
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
    "efficientnet_lite0": 4_652_008,
    "vit_tiny": 5_717_416,
    "vit_small": 22_050_664,
    "vit_base": 86_567_656,
    "vit_large": 304_326_632,
}
"""Number of trainable parameters with the paper's input and classes."""

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
    "efficientnet_lite1": 5.4,
    "efficientnet_lite2": 6.1,
    "efficientnet_lite3": 8.2,
    "efficientnet_lite4": 13.0,
}
"""Trainable parameters where the publication rounds: to the digits given here."""


LARGE = {
    *("resnet101", "resnet152", "cifar_resnet110", "vit_large"),
    *("inception_v4", "inception_resnet_v2"),
}
"""Networks of so many layers that to build one takes a second or more."""


class Network(NamedTuple):
    """A small size of a network, the least side it takes in pixels, and which choices it has."""

    build: Callable[..., keras.Model]
    smallest: int
    norms: bool = False
    pools: bool = False


NETWORKS = {
    "mlp": Network(partial(mlp, units=(16,)), 1),
    "lenet5": Network(lenet5, 12, pools=True),
    "alexnet": Network(partial(alexnet, units=64), 64, pools=True),
    "zfnet": Network(partial(zfnet, units=64), 53, pools=True),
    "vgg": Network(partial(vgg, depth=11, units=64), 32, norms=True, pools=True),
    "resnet": Network(partial(resnet, depth=18), 1, norms=True, pools=True),
    "cifar_resnet": Network(cifar_resnet, 4, norms=True),
    "mobilenet": Network(partial(mobilenet, width=0.25), 32, norms=True),
    "efficientnet_lite": Network(efficientnet_lite, 32, norms=True),
    "vit": Network(partial(vit, size="quick"), 16),
}
SECONDS = ("vgg", "resnet", "cifar_resnet", "mobilenet", "efficientnet_lite")
"""Those that take seconds to learn a batch."""


@pytest.fixture(autouse=True)
def quick_vit(monkeypatch):
    monkeypatch.setitem(VIT_SIZES, "quick", ViTSize(32, 2, 2))


def random_images(side: int, channels: int) -> np.ndarray:
    shape = (6, side, side, channels)
    return np.random.default_rng(0).uniform(size=shape).astype("float32")


@pytest.mark.parametrize("name", with_slow(TRAINABLE, LARGE))
def test_trainable_parameters_are_the_published_number(name):
    assert count(blueprint(MODELS[name]).trainable_weights) == TRAINABLE[name]


@pytest.mark.parametrize("name", with_slow(WITH_MOVING_STATISTICS, LARGE))
def test_parameters_with_moving_statistics_are_the_published_number(name):
    assert count(blueprint(MODELS[name]).weights) == WITH_MOVING_STATISTICS[name]


@pytest.mark.parametrize("name", with_slow(IN_MILLIONS, LARGE))
def test_parameters_round_to_the_published_number(name):
    choices = {"auxiliary": False} if name == "googlenet" else {}
    trainable = count(blueprint(MODELS[name], **choices).trainable_weights)
    published = IN_MILLIONS[name]
    assert round(trainable / 1e6, len(str(published).partition(".")[2])) == published


def test_the_parameters_of_every_network_of_the_app_are_known():
    assert set(MODELS) == {*TRAINABLE, *WITH_MOVING_STATISTICS, *IN_MILLIONS}


@pytest.mark.parametrize("module", [name for name in MODULES if name not in NOT_FOR_IMAGES])
def test_every_file_holds_a_network_of_the_app_with_the_usual_arguments(module):
    built = {getattr(build, "func", build) for build in MODELS.values()}
    (network,) = (build for build in built if build.__module__ == f"models.{module}")
    arguments = inspect.signature(network).parameters
    assert list(arguments)[:2] == ["input_shape", "num_classes"]
    assert all(argument.default is not argument.empty for argument in arguments.values())
    assert inspect.getdoc(importlib.import_module(f"models.{module}"))
    for part in ("Reference:", "Returns:", *(f"{argument}: " for argument in arguments)):
        assert part in network.__doc__, f"the docstring of {network.__name__} has no {part}"


@pytest.mark.parametrize("name", with_slow(NETWORKS, SECONDS))
def test_the_smallest_input_learns_one_batch_and_survives_saving(name, tmp_path):
    build, side = NETWORKS[name][:2]
    model = build(input_shape=(side, side, 2), num_classes=3)
    labels = np.arange(6) % 3
    images = random_images(side, 2) * np.float32((1 + labels) / 3)[:, None, None, None]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Without dropout, which makes the loss jump.
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    model.compile(keras.optimizers.Adam(3e-4), loss, run_eagerly=True)
    losses = []
    for _ in range(5):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(images, labels)))
    assert losses[-1] < losses[0]
    answer = model(images)
    assert answer.shape == (6, 3) and answer.dtype == "float32" and np.isfinite(answer).all()
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(restored(images), answer, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_smaller_input_is_refused_with_the_smallest_that_works(name):
    build, side = NETWORKS[name][:2]
    for input_shape in ((side, side - 1, 3), (side - 1, side, 3)):
        with pytest.raises(ValueError, match=f"channel and {side} x {side} pixels"):
            build(input_shape=input_shape)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if network.norms])
def test_every_norm_is_in_the_network_and_runs(name, norm):
    model = NETWORKS[name].build(input_shape=(32, 32, 1), num_classes=3, norm=norm)
    kind = {"batch": "BatchNormalization", "none": None}.get(norm, "GroupNormalization")
    kinds = {type(layer).__name__ for layer in model.layers}
    assert {found for found in kinds if found.endswith("Normalization")} == {kind} - {None}
    assert np.isfinite(model(random_images(32, 1), training=True)).all()


@pytest.mark.slow
@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool != "max"])
@pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if network.pools])
def test_every_pooling_keeps_the_shapes_and_runs(name, pool):
    side = max(32, NETWORKS[name].smallest)
    choices = {"input_shape": (side, side, 1), "num_classes": 3}
    model = NETWORKS[name].build(**choices, pool=pool)
    published = blueprint(NETWORKS[name].build, **choices, pool="max")
    shapes = [layer.output.shape for layer in model.layers]
    assert shapes == [layer.output.shape for layer in published.layers]
    kinds = {type(layer).__name__.lower() for layer in model.layers}
    assert any(kind.startswith(pool) for kind in kinds)
    assert np.isfinite(model(random_images(side, 1), training=True)).all()


@pytest.mark.parametrize("name", ["lenet5", "cifar_resnet", "vit"])
def test_mixed_precision_gives_logits_in_float32(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = NETWORKS[name].build(input_shape=(16, 16, 1), num_classes=3)
    logits = model(random_images(16, 1))
    assert logits.dtype == "float32" and np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(vgg, depth=12), "`depth` must be one of"),
        (partial(resnet, depth=20), "`depth` must be one of"),
        (partial(MODELS["resnet50"], stride_in="5x5"), "`stride_in` must be 1x1 or 3x3"),
        (partial(cifar_resnet, depth=18), "`depth` must be one of"),
        (partial(mobilenet, width=0), "`width` must be above 0"),
        (partial(vit, size="huge"), "`size` must be one of tiny, small"),
        (partial(vgg, norm="instance"), "`norm` must be one of"),
        (partial(lenet5, pool="min"), "`pool` must be one of"),
    ],
)
def test_unknown_choices_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        blueprint(build)


def test_googlenet_has_its_heads_by_default():
    heads = count(blueprint(googlenet).weights) - count(
        blueprint(googlenet, auxiliary=False).weights
    )
    # Each: 1 x 1 to 128 channels, 4 x 4 positions to 1024 units, 1000 classes.
    assert heads == 2 * (128 + 2049 * 1024 + 1025 * 1000) + 128 * (512 + 528)
