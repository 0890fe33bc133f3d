"""Which versions of which models are loaded: watched folders, hot swaps, labels, states."""

import contextlib
import ctypes
import gc
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import tensorflow as tf
from grpc import StatusCode
from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import reason
from serving.server.failure import Failure, from_tensorflow, invalid
from serving.server.servable import Servable
from serving.versions import numbered

log = logging.getLogger(__name__)

Status: TypeAlias = get_model_status_pb2.ModelVersionStatus
ModelConfig: TypeAlias = model_server_config_pb2.ModelConfig
Models = Mapping[str, ModelConfig]

NUM_LOADERS = 2
"""Versions loaded at the same time."""
MOST_WAITING = 64
"""Versions that wait for another try, or for their turn, at the same time."""
MOST_ENDED = 1000
"""Unloaded versions of a model whose last state is kept."""
LARGEST_NUMBER = 2**63 - 1


@dataclass
class _Version:
    """A version that was seen; its `servable` is there from AVAILABLE until UNLOADING ends."""

    state: int = Status.START
    failure: Failure | None = None
    servable: Any = None
    users: int = 0
    wanted: bool = True
    """Whether it is to be there at all."""
    retried: bool = False
    """Whether loading it has failed and is tried again."""


@dataclass
class _Model:
    config: ModelConfig
    versions: dict[int, _Version] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)

    def available(self) -> list[int]:
        return [
            number for number, version in self.versions.items() if version.state == Status.AVAILABLE
        ]


class Manager:
    """Loads and unloads versions as their folders and the configuration ask for.

    A new version is loaded and warmed up before the old one is let go; one that fails to load
    leaves the old one serving. A version is unloaded when the last request that uses it is done.

    Args:
        load: Makes a servable from model name, version number and folder, warmed up.
        retries: How often a failed load is tried again.
        retry_interval: Seconds between two tries.
        allow_labels_for_unavailable: Whether a new label may name a version not yet loaded.
    """

    def __init__(
        self,
        load: Callable[[str, int, Path], Servable],
        *,
        retries: int = 5,
        retry_interval: float = 60.0,
        allow_labels_for_unavailable: bool = False,
    ):
        self._load = load
        self._retries, self._retry_interval = retries, retry_interval
        self._allow_labels = allow_labels_for_unavailable
        self._models: dict[str, _Model] = {}
        self._ended: dict[str, dict[int, _Version]] = {}
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._loaders = ThreadPoolExecutor(MOST_WAITING, thread_name_prefix="load")
        self._loading = threading.Semaphore(NUM_LOADERS)
        self._looking = threading.Lock()
        self._stopping = threading.Event()

    # The configuration.

    def configure(self, models: Models) -> None:
        """Replaces the list of models; their versions appear and vanish in the background.

        Raises:
            Failure: A label names a version that is not available; nothing is changed then.
        """
        with self._lock:
            labels = {name: self._checked_labels(name, config) for name, config in models.items()}
            for name in self._models.keys() - models.keys():
                model = self._models.pop(name)
                self._ended.setdefault(name, {}).update(model.versions)
                for version in model.versions.values():
                    version.wanted = False
                    self._release_unwanted(version)
            for name, config in models.items():
                model = self._models.setdefault(name, _Model(config))
                model.config, model.labels = config, labels[name]
            self._changed.notify_all()
        self.look()

    def look(self) -> None:
        """Looks at the folders and begins to load and unload what has changed."""
        with self._lock:
            models = [(model, model.config) for model in self._models.values()]
        for model, config in models:
            # One at a time, so that no thread acts on an outdated state.
            with self._looking:
                found = _on_disk(config)
                with self._lock:
                    is_current = model.config is config and not self._stopping.is_set()
                    if found is not None and is_current:
                        self._reconcile(model, found)

    def wait(
        self, names: list[str] | None = None, is_awaited: Callable[[], bool] = lambda: True
    ) -> None:
        """Waits until each model has an available version.

        Args:
            names: Models to wait for; all if None.
            is_awaited: Whether anybody still wants to know.

        Raises:
            Failure: All that there is of a model failed to load, or nobody wants to know.
        """
        with self._changed:
            while not self._stopping.is_set():
                states = [
                    model
                    for name, model in self._models.items()
                    if (names is None or name in names) and not model.available()
                ]
                failed = [model for model in states if _has_failed(model)]
                if failed:
                    raise Failure(
                        StatusCode.UNKNOWN,
                        f"{len(failed)} servable(s) did not become available: "
                        + ", ".join(_failure_text(model) for model in failed),
                    )
                if not states:
                    return
                if not is_awaited():
                    raise Failure(StatusCode.CANCELLED, "The client has gone")
                self._changed.wait(1.0)

    def close(self) -> None:
        """Stops loading and lets every version go."""
        self._stopping.set()
        with self._lock:
            for model in self._models.values():
                for version in model.versions.values():
                    version.wanted = False
                    self._release_unwanted(version)
            self._changed.notify_all()
        self._loaders.shutdown(wait=True)

    # Requests of clients.

    @contextlib.contextmanager
    def using(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """Yields the version that a request names; it stays loaded until the end.

        Raises:
            Failure: There is no such model, version or label.
        """
        with self._lock:
            version = self._version(spec)
            version.users += 1
        try:
            yield version.servable
        finally:
            with self._lock:
                version.users -= 1
                if not version.wanted:
                    self._release_unwanted(version)

    def status(self, spec: model_pb2.ModelSpec) -> list[Status]:
        """Returns the states of a model's versions, or of the one numbered, newest first.

        A label makes no difference, as in TensorFlow Serving.
        """
        with self._lock:
            versions = dict(self._ended.get(spec.name, {}))
            if model := self._models.get(spec.name):
                versions.update(model.versions)
            if spec.HasField("version"):
                number = spec.version.value
                if number not in versions:
                    raise Failure(
                        StatusCode.NOT_FOUND,
                        f"Could not find version {number} of model {spec.name}",
                    )
                versions = {number: versions[number]}
            if not versions:
                raise Failure(
                    StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}"
                )
            return [_as_status(number, versions[number]) for number in sorted(versions)[::-1]]

    def has(self, name: str) -> bool:
        return name in self._models

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._models)

    def waiting(self) -> list[str]:
        """Returns the models without an available version."""
        with self._lock:
            return sorted(name for name in self._models if not self._models[name].available())

    def configs(self) -> dict[str, ModelConfig]:
        with self._lock:
            return {name: model.config for name, model in self._models.items()}

    # How it is done; all of it under the lock, but for loading itself.

    def _version(self, spec: model_pb2.ModelSpec) -> _Version:
        if not spec.name:
            raise invalid(_NO_NAME)
        model = self._models.get(spec.name)
        available = model.available() if model else []
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            number = spec.version.value
            named = f"Specific({spec.name}, {number})"
        elif choice == "version_label":
            number = self._labelled(spec)
            named = f"Specific({spec.name}, {number})"
        else:
            number = max(available, default=-1)
            named = f"Latest({spec.name})"
        if model is None or number not in available:
            raise Failure(StatusCode.NOT_FOUND, f"Servable not found for request: {named}")
        return model.versions[number]

    def _labelled(self, spec: model_pb2.ModelSpec) -> int:
        model = self._models.get(spec.name)
        if model is None or spec.version_label not in model.labels:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        return model.labels[spec.version_label]

    def _checked_labels(self, name: str, config: ModelConfig) -> dict[str, int]:
        model = self._models.get(name)
        known = model.labels if model else {}
        available = model.available() if model else []
        for label, number in config.version_labels.items():
            stays = known.get(label, number) == number
            if number not in available and not (self._allow_labels and stays):
                raise Failure(
                    StatusCode.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {name}, which is not "
                    "currently available for inference",
                )
        return dict(config.version_labels)

    def _reconcile(self, model: _Model, found: dict[int, Path]) -> None:
        if self._models.get(model.config.name) is not model:
            return
        wanted = _chosen(model.config, found)
        for number, version in list(model.versions.items()):
            if number in wanted or not version.wanted:
                continue
            if version.state == Status.END:
                self._forget(model, number)
            elif version.state == Status.AVAILABLE and (
                not wanted or any(n in wanted for n in model.available())
            ):
                version.wanted = False
                self._release_unwanted(version)
                self._forget(model, number)
            elif version.state in (Status.START, Status.LOADING) and (
                number not in found or version.retried
            ):
                # It was deleted before it was loaded, or has failed, and would again and again.
                version.wanted = False
                self._forget(model, number)
        for number in wanted:
            if number not in model.versions:
                version = model.versions[number] = _Version()
                self._loaders.submit(self._bring_up, model, number, found[number], version)
        self._changed.notify_all()

    def _forget(self, model: _Model, number: int) -> None:
        """Keeps a version's last state for status requests; if its folder returns, it is new."""
        ended = self._ended.setdefault(model.config.name, {})
        ended[number] = model.versions.pop(number)
        if len(ended) > MOST_ENDED:
            del ended[next(iter(ended))]

    def _bring_up(self, model: _Model, number: int, path: Path, version: _Version) -> None:
        name = model.config.name
        with self._changed:
            version.state = Status.LOADING
            self._changed.notify_all()
        failure: Failure | None = None
        for attempt in range(1 + self._retries):
            if attempt:
                with self._changed:
                    version.retried = True
                    self._changed.wait_for(lambda: self._is_over(version), self._retry_interval)
            if self._is_over(version):
                break
            try:
                with self._loading:
                    # While it waited for others.
                    if self._is_over(version):
                        break
                    servable = self._load(name, number, path)
            # A damaged version fails anywhere in TensorFlow, with any kind of error.
            except Exception as error:
                failure = _as_failure(error)
                log.error("Loading version %d of %s failed: %s", number, name, failure)
                if failure.code == StatusCode.FAILED_PRECONDITION:
                    break  # Trying again would change nothing.
                continue
            with self._changed:
                version.servable, version.state = servable, Status.AVAILABLE
                log.info("Serving version %d of %s from %s", number, name, path)
                if not version.wanted:
                    self._release_unwanted(version)
                self._changed.notify_all()
            self.look()
            return
        with self._changed:
            version.state, version.failure = Status.END, failure
            self._changed.notify_all()

    def _is_over(self, version: _Version) -> bool:
        return self._stopping.is_set() or not version.wanted

    def _release_unwanted(self, version: _Version) -> None:
        if version.state == Status.AVAILABLE:
            version.state = Status.UNLOADING
        if version.state == Status.UNLOADING and version.users == 0 and version.servable:
            # In a list, for `_let_go` to hold the last reference.
            last, version.servable = [version.servable], None
            if self._stopping.is_set():
                self._let_go(version, last)
            else:
                self._loaders.submit(self._let_go, version, last)

    def _let_go(self, version: _Version, last: list[Servable]) -> None:
        servable = last.pop()
        servable.close()
        log.info("Unloaded version %d of %s", servable.version, servable.name)
        del servable
        with self._changed:
            version.state = Status.END
            self._changed.notify_all()
        # Graphs are full of cycles, and what they hold is large.
        gc.collect()
        # What TensorFlow frees in small pieces stays with the process until it is requested back.
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)


_NO_NAME = "ModelSpec has no name specified."


def _on_disk(config: ModelConfig) -> dict[int, Path] | None:
    """Returns the version folders of a model; None if its base path cannot be read."""
    try:
        found = numbered(Path(config.base_path))
        # If it went meanwhile, what was in it looks as if it had been deleted.
        Path(config.base_path).stat()
    # A path with NUL in it is a ValueError.
    except (OSError, ValueError) as error:
        log.warning("Cannot look for versions of %s: %s", config.name, error)
        return None
    if not found:
        log.warning("No versions of %s found under %s", config.name, config.base_path)
    return {number: path for number, path in found.items() if number <= LARGEST_NUMBER}


def _chosen(config: ModelConfig, found: dict[int, Path]) -> list[int]:
    """The numbers that the version policy asks for, newest first; by default the newest one."""
    policy = config.model_version_policy
    numbers = sorted(found, reverse=True)
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return numbers
    if kind == "specific":
        return [number for number in numbers if number in policy.specific.versions]
    return numbers[: policy.latest.num_versions or 1]


def _has_failed(model: _Model) -> bool:
    versions = model.versions.values()
    return bool(versions) and all(v.state == Status.END and v.failure for v in versions)


def _failure_text(model: _Model) -> str:
    number, version = max(model.versions.items())
    return f"{{{model.config.name} version {number}: {version.failure}}}"


def _as_status(number: int, version: _Version) -> Status:
    status = Status(version=number, state=version.state)
    status.status.SetInParent()
    if version.failure:
        status.status.error_code = version.failure.number
        status.status.error_message = version.failure.message
    return status


def _as_failure(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, tf.errors.OpError):
        return from_tensorflow(error)
    return Failure(StatusCode.UNKNOWN, reason(error))
