"""Parts of several networks: normalization and pooling by name, the check of the input size."""

import math

import keras

from layers import (
    BatchNormalization,
    GroupNormalization,
    LpPooling2D,
    MixedPooling2D,
    SpectralPooling2D,
    StochasticPooling2D,
)

NORMS = ("batch", "group", "layer", "none")
POOLS = ("max", "average", "lp", "mixed", "stochastic", "spectral")


def normalization(
    norm: str,
    channels: int,
    *,
    scale: bool = True,
    epsilon: float = 1e-3,
    name: str | None = None,
) -> keras.layers.Layer | None:
    """Creates a layer that normalizes features `(batch, height, width, channels)`.

    Reference:
        batch: Ioffe & Szegedy, Batch Normalization, 2015. https://arxiv.org/abs/1502.03167
        group: Wu & He, Group Normalization, 2018. https://arxiv.org/abs/1803.08494
        layer: Ba et al., Layer Normalization, 2016. https://arxiv.org/abs/1607.06450

    Args:
        norm: `batch`; `group`, with at most 32 equal groups of at least two channels; `layer`, over
            all positions and channels of an example; or `none`.
        channels: Number of channels; at least 1.
        scale: Whether to learn one factor per channel.
        epsilon: Added to the variance; above 0.
        name: Name of the layer. None: Keras chooses one.

    Returns:
        A new layer, or None for `none`.
    """
    if norm not in NORMS:
        raise ValueError(f"`norm` must be one of {', '.join(NORMS)}. Received: norm={norm!r}")
    if norm == "none":
        return None
    if norm == "batch":
        # Half of the moving statistics come from the last 7 batches, so that even after short runs
        # they fit the trained network.
        return BatchNormalization(momentum=0.9, epsilon=epsilon, scale=scale, name=name)
    groups = math.gcd(32, channels) if norm == "group" else 1
    if groups == channels > 1:
        groups //= 2
    return GroupNormalization(groups, epsilon=epsilon, scale=scale, name=name)


def pooling(
    pool: str,
    pool_size: int = 2,
    strides: int | None = None,
    padding: str = "valid",
    name: str | None = None,
) -> keras.layers.Layer:
    """Creates a layer that pools windows of features `(batch, height, width, channels)`.

    Args:
        pool: `max`; `average`; `lp`, the root mean square; `mixed`, the mean of `max` and
            `average`; `stochastic`, a random pixel during training; or `spectral`, a crop of the
            spectrum. The layers cite the papers.
        pool_size: Height and width of a window, in pixels; at least 1.
        strides: Step from one window to the next, in pixels. None: `pool_size`.
        padding: `valid` or `same`.
        name: Name of the layer. None: Keras chooses one.

    Returns:
        A new layer.
    """
    kinds = {
        "max": keras.layers.MaxPooling2D,
        "average": keras.layers.AveragePooling2D,
        "lp": LpPooling2D,
        "mixed": MixedPooling2D,
        "stochastic": StochasticPooling2D,
        "spectral": SpectralPooling2D,
    }
    if pool not in kinds:
        raise ValueError(f"`pool` must be one of {', '.join(POOLS)}. Received: pool={pool!r}")
    return kinds[pool](pool_size=pool_size, strides=strides, padding=padding, name=name)


def require_input(input_shape: tuple[int, int, int], minimum: int) -> None:
    """Raises `ValueError` if images are too small for a network.

    Args:
        input_shape: Height, width and channels of an image.
        minimum: Minimum height and width of the network's input, in pixels; at least 1.
    """
    if len(input_shape) != 3 or not all(isinstance(size, int) for size in input_shape):
        raise ValueError(
            "`input_shape` must be three integers, height, width and channels. "
            f"Received: input_shape={input_shape}"
        )
    height, width, channels = input_shape
    if min(height, width) < minimum or channels < 1:
        raise ValueError(
            f"`input_shape` must have at least 1 channel and {minimum} x {minimum} pixels. "
            f"Received: input_shape={input_shape}. Fix: choose a larger image size."
        )
