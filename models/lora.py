"""Adapters of LoRA in the layers of a network: merged into their weights, or switched off."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras


def adapted(layer: keras.layers.Layer) -> list[Any]:
    """Returns the layers inside a layer or network that have adapters."""
    return [
        one for one in layer._flatten_layers(include_self=False) if getattr(one, "lora_rank", None)
    ]


def merged(layer: keras.layers.Layer) -> dict[str, Any]:
    """Returns the kernels with the updates of their adapters, tensors by the kernels' paths."""
    return {_kernel(one).path: one.kernel for one in adapted(layer)}


@contextmanager
def without_adapters(network: keras.Model) -> Iterator[None]:
    """Switches adapters off: what is called or traced inside reads the weights without updates.

    So a network before its training by LoRA needs no memory of its own.

    Args:
        network: Has adapters in some of its layers, or in none.
    """
    layers = adapted(network)
    for layer in layers:
        layer.lora_enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.lora_enabled = True


def _kernel(layer: keras.layers.Layer) -> keras.Variable:
    return next(variable for variable in layer.variables if variable.name == "kernel")
