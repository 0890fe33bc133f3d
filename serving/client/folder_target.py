"""Answers from exports on the disk, in this process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from serving.client.arrays import Arrays
from serving.client.failure import ServingError
from serving.client.folders import models
from serving.client.signatures import (
    Metadata,
    Signature,
    VersionStatus,
    Which,
    read_signatures,
)
from serving.client.wire import numpy_dtype
from serving.errors import reason
from serving.server.failure import Failure
from serving.server.servable import Servable


class FolderTarget:
    """Exports, loaded at their first request and kept; the newest version is found at each call.

    Calls have no time-out.

    Args:
        folder: Folder of models, of the versions of one model, or one version.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._loaded: dict[Path, tuple[Servable, dict[str, Signature]]] = {}
        self._lock = threading.Lock()

    def predict(
        self, which: Which, name: str, signature: Signature, inputs: Arrays, seconds: float
    ) -> Arrays:
        servable, signatures = self._servable(which)
        if signatures.get(name) != signature:
            raise ServingError("FAILED_PRECONDITION", f"`{name}` differs in a new version")
        defaults = servable.signatures[name].defaults
        missing = {key: tf.make_ndarray(defaults[key]) for key in defaults if key not in inputs}
        names = tuple(signature.outputs)
        with _telling():
            servable.require_shapes(name, inputs)
            outputs = servable.run(name, {**missing, **inputs}, names)
        # Scalars come as Python's or NumPy's, not as arrays.
        return {
            key: np.asarray(value, numpy_dtype(signature.outputs[key].dtype))
            for key, value in zip(names, outputs, strict=True)
        }

    def metadata(self, which: Which, seconds: float) -> Metadata:
        servable, signatures = self._servable(which)
        return Metadata(which.model, servable.version, signatures, servable.card())

    def status(self, which: Which, seconds: float) -> list[VersionStatus]:
        versions = self._versions(which)
        numbers = sorted(versions, reverse=True) if which.version is None else [which.version]
        return [VersionStatus(number, "AVAILABLE") for number in numbers if number in versions]

    def close(self) -> None:
        with self._lock:
            for servable, _ in self._loaded.values():
                servable.close()
            self._loaded.clear()

    def _servable(self, which: Which) -> tuple[Servable, dict[str, Signature]]:
        versions = self._versions(which)
        number = max(versions) if which.version is None else which.version
        with self._lock:
            path = versions[number]
            if path not in self._loaded:
                servable = _load(which.model, number, path)
                self._loaded[path] = (
                    servable,
                    read_signatures(servable.signatures, servable.card()),
                )
            return self._loaded[path]

    def _versions(self, which: Which) -> dict[int, Path]:
        if which.label is not None:
            raise ServingError(
                "INVALID_ARGUMENT", f"Unrecognized servable version label: {which.label}"
            )
        found = models(self._folder)
        versions = found.get(which.model, {})
        if not versions or (which.version is not None and which.version not in versions):
            named = which.model if which.version is None else f"{which.model} {which.version}"
            raise ServingError(
                "NOT_FOUND", f"{self._folder} contains no {named}, only {', '.join(sorted(found))}"
            )
        return versions


def _load(model: str, number: int, path: Path) -> Servable:
    try:
        return Servable(model, number, path, tf.compat.v1.ConfigProto())
    # A damaged version fails anywhere in TensorFlow, with any kind of error.
    except Exception as error:
        raise ServingError("UNKNOWN", f"cannot load {path}: {reason(error)}") from error


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except Failure as failure:
        raise ServingError(failure.code.name, failure.message) from failure
