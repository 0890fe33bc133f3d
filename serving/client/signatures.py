"""The signatures of a model, and the states of its versions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.client import wire
from serving.names import meant


@dataclass(frozen=True)
class Which:
    """A model and one of its versions: the newest, one by number or one by label."""

    model: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self):
        if not self.model:
            raise ValueError("`model` must be the name of a model. Received an empty one")
        if self.version is not None and self.label is not None:
            raise ValueError(
                "Only one of `version` and `label` may be given. "
                f"Received: version={self.version}, label={self.label!r}"
            )


@dataclass(frozen=True)
class TensorSpec:
    """Type and shape of an input or output; an unknown dimension, or shape, is None."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a signature.

    Args:
        inputs: Specs by served name.
        outputs: Specs by name.
        optional: The inputs that have a default.
        titles: The user's names of inputs, by served name. They are in the model card of a version,
            which servers do not send.
        columns: The columns of tables that training read, by served name of the input. They are
            in the model card, too.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    optional: frozenset[str] = frozenset()
    titles: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)

    def title(self, name: str) -> str:
        """The user's name for an input, or the served one if only that is known."""
        return self.titles.get(name, name)

    def meant(self, names: Collection[str]) -> dict[str, str]:
        """For each input the one of some names that means it; see `serving.names.meant`."""
        return meant(names, {name: self.titles.get(name) for name in self.inputs})


@dataclass(frozen=True)
class Metadata:
    """The signatures of one version by name.

    Args:
        model: Name of the model.
        version: Number of the version.
        signatures: The signatures.
        card: The model card, which servers do not send.
    """

    model: str
    version: int
    signatures: Mapping[str, Signature]
    card: Any = None


@dataclass(frozen=True)
class VersionStatus:
    """State of a version, such as `AVAILABLE`; where it failed, `code` and `message` say why."""

    version: int
    state: str
    code: str = "OK"
    message: str = ""


def read_signatures(definitions: Mapping[str, Any], card: Any = None) -> dict[str, Signature]:
    """Reads SignatureDef messages, without the initialisers that TensorFlow adds to models.

    Args:
        definitions: Messages by name of the signature.
        card: The model card of the version; may have any content.
    """
    found = {}
    for name in sorted(definitions):
        if not name.startswith("__"):
            inputs, titles = _specs(definitions[name].inputs), _titles(card, name)
            found[name] = Signature(
                inputs,
                _specs(definitions[name].outputs),
                frozenset(definitions[name].defaults),
                titles,
                _columns(card, {key: titles.get(key, key) for key in inputs}),
            )
    return found


def read_states(response: Any) -> list[VersionStatus]:
    """Reads a GetModelStatusResponse, the newest version first."""
    states = [
        VersionStatus(
            status.version,
            wire.STATES.get(status.state, "UNKNOWN"),
            wire.CODES.get(status.status.error_code, "UNKNOWN"),
            status.status.error_message,
        )
        for status in response.model_version_status
    ]
    return sorted(states, key=lambda status: -status.version)


def _titles(card: Any, signature: str) -> dict[str, str]:
    try:
        inputs = card["signatures"][signature]["inputs"]
        return {str(entry["name"]): str(entry["title"]) for entry in inputs}
    except (KeyError, TypeError):
        return {}


def _columns(card: Any, titles: Mapping[str, str]) -> dict[str, str]:
    """Reads the setting `NAME_column` of each input from the run's configuration."""
    try:
        named = {name: card["config"].get(f"{title}_column") for name, title in titles.items()}
    except (AttributeError, KeyError, TypeError):
        return {}
    return {name: column for name, column in named.items() if isinstance(column, str)}


def _specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        # References, which some graphs of TensorFlow 1 have, are numbered 100 above their types.
        name: TensorSpec(
            wire.NAMES.get(infos[name].dtype % 100, f"DataType {infos[name].dtype}"),
            _shape(infos[name].tensor_shape),
        )
        for name in sorted(infos)
    }


def _shape(proto: Any) -> tuple[int | None, ...] | None:
    if proto.unknown_rank:
        return None
    return tuple(dim.size if dim.size >= 0 else None for dim in proto.dim)
