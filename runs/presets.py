"""Pretrained networks that one app writes and other apps take as `--preset`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from serving import versions


def write_preset(folder: Path, save: Callable[[Path], None]) -> Path:
    """Writes a preset, which appears whole, in place of the last one.

    Args:
        folder: Of the preset.
        save: Writes the network into a folder; layers that it makes are in float32, so that
            whoever loads them chooses the precision.
    """
    with versions.workplace(folder.parent) as written, _float32():
        save(written)
        for path in (written, *written.rglob("*")):
            versions.flush(path)
        if folder.exists():
            folder.rename(written.with_name("last"))
        written.rename(folder)
        versions.flush(folder.parent)
    return folder


def with_weights_of(model: keras.Model, backbone: keras.Model) -> keras.Model:
    """Gives a new backbone the weights of the layers of the same names in a model on one."""
    for layer in backbone.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return backbone


@contextmanager
def _float32() -> Iterator[None]:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
