"""Every network that classifies images, by name."""

import inspect
from collections.abc import Callable
from functools import partial

import keras

from models.alexnet import alexnet
from models.cifar_resnet import cifar_resnet
from models.efficientnet_lite import LITE_SIZES, efficientnet_lite
from models.inception_resnet_v2 import inception_resnet_v2
from models.inception_v1 import googlenet
from models.inception_v2 import inception_v2
from models.inception_v3 import inception_v3
from models.inception_v4 import inception_v4
from models.lenet import lenet5
from models.mlp import mlp
from models.mobilenet import mobilenet
from models.resnet import resnet
from models.vgg import vgg
from models.vit import vit
from models.zfnet import zfnet

MODELS: dict[str, Callable[..., keras.Model]] = {
    "mlp": mlp,
    "lenet5": lenet5,
    "alexnet": alexnet,
    "zfnet": zfnet,
    **{f"vgg{depth}": partial(vgg, depth=depth) for depth in (11, 13, 16, 19)},
    "googlenet": googlenet,
    "inception_v2": inception_v2,
    "inception_v3": inception_v3,
    "inception_v4": inception_v4,
    "inception_resnet_v2": inception_resnet_v2,
    **{f"resnet{depth}": partial(resnet, depth=depth) for depth in (18, 34, 50, 101, 152)},
    **{f"cifar_resnet{n}": partial(cifar_resnet, depth=n) for n in (20, 32, 44, 56, 110)},
    "mobilenet": mobilenet,
    **{f"efficientnet_lite{size}": partial(efficientnet_lite, size=size) for size in LITE_SIZES},
    **{f"vit_{size}": partial(vit, size=size) for size in ("tiny", "small", "base", "large")},
}
"""From `input_shape`, `num_classes` and further choices to a model that returns logits."""


def taking(argument: str) -> tuple[str, ...]:
    """Returns the names of the networks that have an argument.

    Example:
        >>> "mlp" in taking("pool"), "lenet5" in taking("pool")
        (False, True)
    """
    return tuple(
        name for name, build in MODELS.items() if argument in inspect.signature(build).parameters
    )
