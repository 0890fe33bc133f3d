"""Pretrained networks: those that one app writes for others, and those of finished runs."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from serving import versions


def write_preset(folder: Path, save: Callable[[Path], None]) -> Path:
    """Writes a preset that replaces the last one at once, when it is complete.

    Args:
        folder: Folder of the preset.
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
    """Copies the weights of a trained model into a new backbone, layer by layer, by name."""
    for layer in backbone.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return backbone


def card(run: Path) -> dict[str, Any]:
    """Returns the model card of the network in the folder of a run."""
    # The newest version may be of another run: the user may have removed a later one.
    path = run / "model_card.json"
    if not path.is_file():  # Written by an older version of Hornbook.
        path = versions.newest(run) / "assets.extra" / "model_card.json"
    return json.loads(path.read_text(encoding="utf-8"))


def app_of(run: Path) -> str:
    """Returns the name of the app that a finished run is of."""
    if not (run / "model.keras").is_file():
        raise FileNotFoundError(f"{run}: expected a finished run. Received: no model.keras in it")
    return card(run)["task"].lower().replace(" ", "_")


def scores(run: Path) -> dict[str, float]:
    """Returns the scores of a finished run."""
    return json.loads((run / "scores.json").read_text(encoding="utf-8"))


def network(
    run: Path, num_classes: int | None = None, freeze: bool | None = None, lora_rank: int = 0
) -> keras.Model:
    """Loads the network of a finished run.

    Args:
        run: Folder of the run.
        num_classes: Number of classes; those of the run come first. The others get new weights in
            the head, the last dense layer. None: as in the run.
        freeze: Whether only the head is trained. None: as in the run.
        lora_rank: Rank of adapters, which then are all that learns. 0: none.
    """
    model = keras.saving.load_model(run / "model.keras", compile=False)
    if lora_rank:
        model.enable_lora(lora_rank)
    if num_classes is freeze is None:
        return model
    *_, head = (layer for layer in model.layers if isinstance(layer, keras.layers.Dense))
    if num_classes is not None and num_classes < head.units:
        raise ValueError(
            f"`preset` must have at most {num_classes} classes, as its model card says. "
            f"Received: {run} with {head.units}"
        )
    if num_classes not in (None, head.units):
        model = _widened(model, head.name, num_classes)
    if freeze is not None:
        model.trainable = True
        for layer in model.layers:
            layer.trainable = layer.name == head.name or not freeze
    return model


def _widened(model: keras.Model, name: str, units: int) -> keras.Model:
    """Returns a copy of a functional model in which a dense layer has more units."""
    config = model.get_config()
    for layer in config["layers"]:
        if layer["name"] == name:
            layer["config"]["units"] = units
    return with_first_of(type(model).from_config(config), model)


def with_first_of(wider: keras.Model, model: keras.Model) -> keras.Model:
    """Copies the weights of a model into one that differs in wider layers, whose rest remains."""
    for new, old in zip(wider.weights, model.weights, strict=True):
        values = keras.ops.convert_to_numpy(new).copy()
        values[tuple(map(slice, old.shape))] = keras.ops.convert_to_numpy(old)
        new.assign(values)
    return wider


@contextmanager
def _float32() -> Iterator[None]:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
