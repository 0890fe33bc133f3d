"""The model card of a version: task, inputs and outputs, scores, and settings."""

import json
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from serving import graph

XLA_FLAG = "--xla_cpu_compilation_enabled=true"
"""Flag of a server for a graph that XLA compiles."""


@dataclass(frozen=True)
class Description:
    """Facts about a signature that its graph does not contain; see `Signature`."""

    meanings: Mapping[str, str]
    titles: Mapping[str, str] = field(default_factory=dict)
    """The user's name of an input, as in `meanings`, by its served name; only if they differ."""
    ties: Mapping[str, str] | None = None
    no_xla: str | None = None


def write_card(
    version: Path,
    card: Mapping[str, object],
    signatures: Mapping[str, Description],
    tolerance: float,
) -> None:
    """Writes `assets.extra/model_card.json`, and the same as Markdown, `model_card.md`.

    Args:
        version: Folder with the SavedModel.
        card: Task, data, scores, config and so on.
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
    if graph.is_compiled(meta_graph):
        content["server_flags"] = [XLA_FLAG]
    folder = version / "assets.extra"
    folder.mkdir(exist_ok=True)
    text = json.dumps(content, indent=2, default=str)
    (folder / "model_card.json").write_text(f"{text}\n", encoding="utf-8")
    (folder / "model_card.md").write_text(in_markdown(json.loads(text)), encoding="utf-8")


def in_markdown(card: Mapping[str, Any]) -> str:
    """Returns a model card as Markdown: a list, then a table for each object or list of objects.

    Args:
        card: JSON values by name. If it has `task`, `model` and `data`, they are its title.
    """
    known = [str(card[name]) for name in ("task", "model", "data") if name in card]
    title = "{}: {} on {}".format(*known) if len(known) == 3 else "Model card"
    lines = [f"# {_in_line(title[:1].upper() + title[1:])}", ""]
    for name, value in card.items():
        if not isinstance(value, Mapping) and not _is_table(value):
            lines.append(f"- **{_in_line(name)}**: {_in_line(value)}")
    for name, value in card.items():
        if name == "signatures":
            for signature, described in value.items():
                lines += ["", f"## Signature {_in_line(signature)}", ""]
                lines += _of_signature(described)
        elif isinstance(value, Mapping) and value:
            table = _markdown_table(("name", "value"), value.items())
            lines += ["", f"## {_in_line(name)}", "", *table]
        elif _is_table(value):
            table = _markdown_table(value[0], (row.values() for row in value))
            lines += ["", f"## {_in_line(name)}", "", *table]
    return "\n".join(lines) + "\n"


def _is_table(value: Any) -> bool:
    """Whether a value is a list of objects, which are rows with the same columns."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _of_signature(described: Mapping[str, Any]) -> list[str]:
    rows = [
        (side[:-1], *(tensor[key] for key in ("name", "dtype", "shape", "meaning")))
        for side in ("inputs", "outputs")
        for tensor in described[side]
    ]
    table = _markdown_table(("", "name", "type", "shape", "meaning"), rows)
    rest = [name for name in described if name not in ("inputs", "outputs")]
    further = [f"- **{_in_line(name)}**: {_in_line(described[name])}" for name in rest]
    return [*table, "", *further] if further else table


def _markdown_table(heading: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    names = list(heading)
    lines = [names, ["---"] * len(names), *([_in_line(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _in_line(value: Any) -> str:
    """Writes a JSON value on one line, with Markdown's special characters escaped."""
    if isinstance(value, Mapping):
        value = ", ".join(f"{name}: {one}" for name, one in value.items())
    elif isinstance(value, list):
        value = ", ".join("n" if one is None else str(one) for one in value)
    text = " ".join(str(value).split())
    # An underscore inside a word needs no escape.
    return re.sub(r"([\\`*<>|\[\]~]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def plain(value: Any, names_files: bool = False) -> Any:
    """Returns a value for JSON; of an absolute path only the last part.

    Args:
        value: A value of the card.
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
