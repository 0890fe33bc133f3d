"""`hornbook deploy`: from exported models to files for a server."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import tyro

from serving.deploy import compose, folders, kserve, kubernetes, texts
from serving.deploy.folders import Model
from serving.deploy.options import Options, require_possible

TARGETS: dict[str, Callable[[Sequence[Model], Options], dict[str, str]]] = {
    "compose": compose.files,
    "kubernetes": kubernetes.files,
    "kserve": kserve.files,
}
NEXT = {
    "compose": "docker compose -f {out}/compose.yaml up -d",
    "kubernetes": "kubectl apply -f {out}",
    "kserve": "kubectl apply -f {out}",
}


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> int:
    """Write config files and manifests that run exported models in TensorFlow Serving."""
    try:
        require_possible(options)
        models = folders.find(options)
        files = TARGETS[options.target](models, options)
        notes = warnings(models, options)
        texts.write(options.out, files, options.overwrite)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for note in notes:
        print(f"Warning: {note}", file=sys.stderr)
    for name in files:
        print(options.out / name)
    print(f"Next: {NEXT[options.target].format(out=options.out)}")
    return 0


def warnings(models: Sequence[Model], options: Options) -> list[str]:
    """Returns warnings: servers older than an export, and the preparation for a TPU."""
    notes = _trailing(models, options)
    if options.accelerator == "tpu":
        notes.append(
            "a TPU serves a version only after Google's inference converter has converted it; "
            "see docs/serving.md"
        )
    if len(models) > 1 and options.target == "kserve" and options.name:
        notes.append("`--name` was not used: each of several models is a service by its own name")
    return notes


def _trailing(models: Sequence[Model], options: Options) -> list[str]:
    exported: dict[str | None, list[str]] = {}
    for model in models:
        for version in model.served(options)[0]:
            path = str(model.path(version))
            exported.setdefault(model.tensorflow(version), []).append(path)
    notes = []
    for tensorflow, versions in exported.items():
        if tensorflow is None:
            notes.append(
                f"the server is {options.server_version}, and no model card says which TensorFlow "
                f"exported {', '.join(versions)}"
            )
        elif _release(options.server_version) < _release(tensorflow):
            notes.append(
                f"the server, {options.image}, is older than the TensorFlow {tensorflow} that "
                f"exported {', '.join(versions)}, and lacks newer operations: let one server load "
                "them before all do"
            )
    return notes


def _release(version: str) -> tuple[int, ...]:
    """Major and minor version, which decide on the operations."""
    try:
        return tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        raise ValueError(
            f"A version of TensorFlow must be like 2.21.0. Received: {version}, in a model card"
        ) from None
