"""The inception module: parallel branches of convolutions and pooling, concatenated."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import keras

from models.parts import normalization, pooling


class Conv(NamedTuple):
    """A convolution with normalization and ReLU.

    Args:
        filters: Number of output channels.
        size: Height and width of the kernel in pixels, or one number for both.
        strides: Step from one window to the next, in pixels.
        padding: `same` or `valid`.
    """

    filters: int
    size: int | tuple[int, int]
    strides: int = 1
    padding: Literal["same", "valid"] = "same"


class Pool(NamedTuple):
    """Pooling over windows of 3 x 3; `kind` is one of `models.parts.pooling`."""

    kind: str
    strides: int = 1
    padding: Literal["same", "valid"] = "same"


class Split(NamedTuple):
    """Two parallel convolutions of the same features, which end a branch."""

    left: Conv
    right: Conv


Branch = Iterable[Conv | Pool | Split]


def convolution(x, conv: Conv, norm: str, name: str, scale: bool = True):
    """Applies a convolution, normalization and ReLU.

    Args:
        x: Features `(batch, height, width, channels)`.
        conv: The convolution.
        norm: Normalization, one of `models.parts.NORMS`. With `none` the convolution has a bias.
        name: Name of the convolution, and prefix of the names of the other two layers.
        scale: Whether the normalization learns one factor per channel.
    """
    x = keras.layers.Conv2D(
        conv.filters,
        conv.size,
        strides=conv.strides,
        padding=conv.padding,
        use_bias=norm == "none",
        name=name,
    )(x)
    normalize = normalization(norm, conv.filters, scale=scale, name=f"{name}_norm")
    if normalize is not None:
        x = normalize(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def inception_module(x, branches: Iterable[Branch], norm: str, name: str, scale: bool = True):
    """Applies each branch to the same features and concatenates the outputs.

    Reference:
        Szegedy et al., Going Deeper with Convolutions, 2015, figure 2.
        https://arxiv.org/abs/1409.4842

    Args:
        x: Features `(batch, height, width, channels)`.
        branches: The sequence of convolutions and pooling in each branch.
        norm: Normalization after each convolution, one of `models.parts.NORMS`.
        name: Name of the concatenation, and prefix of the names of all other layers.
        scale: Whether the normalization learns one factor per channel.
    """
    ends = []
    for number, branch in enumerate(branches, start=1):
        end = x
        for step, part in enumerate(branch, start=1):
            part_name = f"{name}_branch{number}_{step}"
            if isinstance(part, Conv):
                end = convolution(end, part, norm, part_name, scale)
            elif isinstance(part, Pool):
                pool_name = f"{part_name}_pool"
                end = pooling(part.kind, 3, part.strides, part.padding, name=pool_name)(end)
            else:
                ends.append(convolution(end, part.left, norm, f"{part_name}_left", scale))
                end = convolution(end, part.right, norm, f"{part_name}_right", scale)
        ends.append(end)
    return keras.layers.Concatenate(name=name)(ends)
