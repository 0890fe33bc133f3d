"""The exported models that are to be deployed, read from their folders."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.deploy.options import Options
from serving.versions import numbered


@dataclass(frozen=True)
class Model:
    """A folder of versions.

    Args:
        name: What clients call it: the folder's name.
        base: The folder.
        versions: Numbers of its versions, ascending.
    """

    name: str
    base: Path
    versions: tuple[int, ...]

    def served(self, options: Options) -> tuple[tuple[int, ...], dict[str, int]]:
        """Returns the versions to serve and the labels by which clients ask for them.

        A running server refuses to move a label to a version that it has not loaded yet, and then
        does not load it either. So `canary` is a label that comes and goes, and `stable` moves to
        a version that was the canary before.
        """
        newest = self.versions[-1]
        if options.rollout == "newest":
            return (newest,), {}
        if len(self.versions) == 1:
            return (newest,), {"stable": newest}
        stable = options.stable or self.versions[-2]
        if options.rollout == "previous":
            return (stable,), {"stable": stable}
        if options.rollout == "promoted":
            return (stable, newest), {"stable": newest}
        return (stable, newest), {"stable": stable, "canary": newest}

    def path(self, version: int) -> Path:
        return numbered(self.base)[version]

    def size(self, version: int) -> int:
        """Bytes of all files of a version."""
        return sum(path.stat().st_size for path in self.path(version).rglob("*") if path.is_file())

    def tensorflow(self, version: int) -> str | None:
        """The TensorFlow that exported a version, if its model card says."""
        card = self._card(version)
        return None if card is None else str(card["versions"]["tensorflow"])

    def flags(self, options: Options) -> list[str]:
        """Flags that the model cards of the served versions require of a server."""
        cards = (self._card(version) or {} for version in self.served(options)[0])
        return [flag for card in cards for flag in card.get("server_flags", ())]

    def _card(self, version: int) -> Any:
        """The model card of a version, which names its TensorFlow; None where there is none."""
        path = self.path(version) / "assets.extra" / "model_card.json"
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            str(card["versions"]["tensorflow"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} names no version of TensorFlow: {error!r}") from error
        return card


def find(options: Options) -> list[Model]:
    """Finds the models in folders of versions or folders of such folders.

    Raises:
        FileNotFoundError: A folder is not there or holds no model.
        ValueError: A model cannot be served by its name, or not by this rollout.
    """
    if not options.folders:
        raise ValueError("`folders` must name at least one folder of versions.")
    models = [model for folder in options.folders for model in _found_in(folder)]
    for model in models:
        _require_servable(model)
    names = [model.name for model in models]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        folders = [str(model.base) for model in models if model.name in repeated]
        raise ValueError(
            f"`folders` must contain models of different names. Received: {', '.join(folders)}"
        )
    _require_choice(models, options)
    return models


def _require_choice(models: Sequence[Model], options: Options) -> None:
    if options.rollout == "newest":
        return
    if options.rollout != "promoted" and all(len(model.versions) == 1 for model in models):
        raise ValueError(
            f"`--rollout {options.rollout}` must have two versions to choose between. Received: "
            f"{models[0].base}, which has only {models[0].versions[0]}; export another or use "
            "--rollout newest or promoted"
        )
    older = models[0].versions[:-1]
    if options.stable is not None and (len(models) > 1 or options.stable not in older):
        raise ValueError(
            "`--stable` must be an older version of the only model. Received: "
            f"{options.stable}, and {models[0].base} with {', '.join(map(str, older))}"
            + (f" and {len(models) - 1} more models" if len(models) > 1 else "")
        )


def _found_in(folder: Path) -> list[Model]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"`folders` must be folders of versions. Received: {folder}, which is not there"
        )
    # So that `.` and `..` have a name, and a link keeps its own.
    folder = Path(os.path.abspath(folder))
    if (folder / "saved_model.pb").is_file():
        raise ValueError(
            f"`folders` must be folders of versions, not one version. Received: {folder}; name "
            f"{folder.parent} and choose by --rollout"
        )
    bases = [folder] if numbered(folder) else sorted(filter(_has_versions, folder.iterdir()))
    if not bases:
        raise FileNotFoundError(
            "`folders` must hold numbered versions (1, 2, ...) or folders of them. "
            f"Received: {folder}, which holds neither"
        )
    return [Model(base.name, base, tuple(numbered(base))) for base in bases]


def _has_versions(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".") and bool(numbered(folder))


def _require_servable(model: Model) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", model.name):
        raise ValueError(
            "The folder's name is the model's, in addresses too, and must be letters, digits, "
            f"`.`, `_` and `-`. Received: {model.base}"
        )
    for version, path in numbered(model.base).items():
        if not (path / "saved_model.pb").is_file():
            raise ValueError(
                f"A version must hold saved_model.pb. Received: {path} without; a server would try "
                f"version {version} in vain"
            )
