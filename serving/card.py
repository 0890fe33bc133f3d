"""The model card of a version: what it is, what goes in and out, how good it is, what made it."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from serving import graph


@dataclass(frozen=True)
class Description:
    """What people and tools must know of a signature beyond its graph; see `Signature`."""

    meanings: Mapping[str, str]
    titles: Mapping[str, str] = field(default_factory=dict)
    """By served name of an input, the user's, which `meanings` has; the same where left out."""
    ties: Mapping[str, str] | None = None
    no_xla: str | None = None


def write_card(
    version: Path,
    card: Mapping[str, object],
    signatures: Mapping[str, Description],
    tolerance: float,
) -> None:
    """Writes `assets.extra/model_card.json`.

    Args:
        version: Folder that holds the SavedModel already.
        card: What the maker says: task, data, scores, config.
        signatures: Description by name of the signature.
        tolerance: Largest difference from the recorded answers, for `serving.verify`.
    """
    meta_graph = graph.read(version)
    content = {
        **plain(card),
        "signatures": {
            name: _described(meta_graph.signature_def[name], signatures[name])
            for name in signatures
        },
        "tolerance": tolerance,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
        "operations": graph.operations(meta_graph),
    }
    path = version / "assets.extra" / "model_card.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def plain(value: Any, names_files: bool = False) -> Any:
    """Returns what JSON can hold; of an absolute path only the last part, which says enough.

    Args:
        value: What the card says.
        names_files: Whether a string that looks like a path is one, as in `data` and `config`.
    """
    if isinstance(value, Mapping):
        return {
            str(key): plain(item, names_files or key in ("data", "config"))
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain(item, names_files) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Path) or (names_files and isinstance(value, str)):
        return Path(value).name if Path(value).is_absolute() else str(value)
    return value


def _described(signature_def, description: Description) -> dict[str, object]:
    meanings = description.meanings
    titles = {name: description.titles.get(name, name) for name in signature_def.inputs}
    unexplained = {*titles.values(), *signature_def.outputs} - meanings.keys()
    if unexplained:
        raise ValueError(
            "`meanings` must explain every input and output of a signature. "
            f"Received: meanings for {sorted(meanings)}, none for {sorted(unexplained)}"
        )
    described: dict[str, object] = {
        "inputs": [
            {
                "name": name,
                "title": titles[name],
                **_tensor(info),
                "meaning": meanings[titles[name]],
            }
            for name, info in sorted(signature_def.inputs.items())
        ],
        "outputs": [
            {"name": name, **_tensor(info), "meaning": meanings[name]}
            for name, info in sorted(signature_def.outputs.items())
        ],
    }
    if description.ties:
        described["ties"] = dict(description.ties)
    if description.no_xla:
        described["no_xla"] = description.no_xla
    return described


def _tensor(info) -> dict[str, object]:
    shape = [dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim]
    return {"dtype": tf.as_dtype(info.dtype).name, "shape": shape}
