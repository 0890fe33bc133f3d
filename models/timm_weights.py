"""Weights from files with timm's names of tensors, in the networks of this folder."""

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

NETWORKS = tuple(f"efficientnet_lite{size}" for size in range(5))
"""Networks whose tensors are known by timm's names."""

_NORMALIZATION = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def load_timm(model: keras.Model, path: str | Path) -> list[keras.layers.Layer]:
    """Copies the weights of a safetensors file into an EfficientNet-Lite.

    The classifier is left as it is if it has another number of classes.

    Reference:
        Wightman, PyTorch Image Models. https://github.com/huggingface/pytorch-image-models

    Args:
        model: From `models.efficientnet_lite`, with batch normalization.
        path: Tensors such as `conv_stem.weight` and `blocks.1.0.conv_pw.weight`, laid out as in
            PyTorch.

    Returns:
        The layers that received weights, in the order of the network.

    Raises:
        ValueError: If a tensor is missing, is left over or has another shape.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"Expected a safetensors file. Received: {path}: {error}") from error
    loaded = []
    for layer, name in _names(model):
        given = {key: tensors.pop(f"{name}.{key}", None) for key in _keys(layer)}
        values = {weight: _value(layer, given[key]) for key, weight in _keys(layer).items()}
        if isinstance(layer, keras.layers.Dense) and _has_other_units(layer, values["bias"]):
            continue
        for weight in layer.weights:
            value = values[weight.name]
            if value is None or value.shape != tuple(weight.shape):
                received = "none" if value is None else value.shape
                raise ValueError(
                    f"{path} must have the tensors of {model.name}: {name} for a weight of shape "
                    f"{tuple(weight.shape)}. Received: {received}"
                )
            weight.assign(value)
        loaded.append(layer)
    rest = sorted(key for key in tensors if not key.endswith("num_batches_tracked"))
    if rest:
        raise ValueError(
            f"{path} must have the tensors of {model.name} and no other. Received also: "
            f"{', '.join(rest[:5])}{', ...' if len(rest) > 5 else ''}"
        )
    return loaded


def _names(model: keras.Model) -> Iterator[tuple[keras.layers.Layer, str]]:
    """Yields the layers with weights, and the first part of the names of their tensors."""
    fixed = {
        "stem": "conv_stem",
        "stem_norm": "bn1",
        "head": "conv_head",
        "head_norm": "bn2",
        "logits": "classifier",
    }
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name in fixed:
            yield layer, fixed[layer.name]
            continue
        stage, block, part, *norm = layer.name.split("_")
        parts = ["expand", "depthwise", "project"]
        names = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
        if stage == "stage0":  # Without expansion the projection has its name.
            parts, names = parts[1:], names | {"project": "conv_pw"}
        name = f"bn{parts.index(part) + 1}" if norm else names[part]
        yield layer, f"blocks.{stage.removeprefix('stage')}.{block.removeprefix('block')}.{name}"


def _keys(layer: keras.layers.Layer) -> dict[str, str]:
    """Returns the last part of the names of a layer's tensors, and its weights' names."""
    if any(weight.name == "moving_mean" for weight in layer.weights):
        return _NORMALIZATION
    names = {"weight": "kernel"}
    return names | {"bias": "bias"} if isinstance(layer, keras.layers.Dense) else names


def _has_other_units(layer: keras.layers.Dense, bias: np.ndarray | None) -> bool:
    return bias is not None and len(bias) != layer.units


def _value(layer: keras.layers.Layer, tensor: np.ndarray | None) -> np.ndarray | None:
    """Lays out a tensor as Keras does."""
    if tensor is None or tensor.ndim == 1:
        return tensor
    if tensor.ndim == 2:
        return tensor.T
    # (out, in, height, width); of a depthwise kernel (channels, 1, height, width).
    is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return tensor.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
