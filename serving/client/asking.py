"""The client: the same calls for a server over gRPC or REST and for a folder of exports."""

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from serving.client.arrays import Arrays, as_inputs
from serving.client.failure import ServingError
from serving.client.folders import models
from serving.client.signatures import Metadata, Signature, VersionStatus, Which
from serving.quiet import quiet

T = TypeVar("T")

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
"""Seconds between attempts: doubled each time from the first to the longest."""

REFUSED = ("INVALID_ARGUMENT", "FAILED_PRECONDITION")
"""Codes of requests that do not fit the signature."""


class Target(Protocol):
    """A request of a client; `seconds` is the time left for the answer."""

    def predict(
        self, which: Which, name: str, signature: Signature, inputs: Arrays, seconds: float
    ) -> Arrays: ...

    def metadata(self, which: Which, seconds: float) -> Metadata: ...

    def status(self, which: Which, seconds: float) -> list[VersionStatus]: ...

    def close(self) -> None: ...


class Client:
    """Asks models for answers. It may be used by several threads at once.

    A target that is unavailable (gRPC's UNAVAILABLE, REST's 503, a connection refused or broken)
    is tried again after 0.1 s, 0.2 s, 0.4 s, ..., less a random part of up to a half, until the
    time of the call is over.

    Args:
        target: `grpc://HOST:PORT` (`grpcs://` for TLS), `http://HOST:PORT` or `https://`, or a
            folder: of models, of the versions of one model, or one version.
        timeout: Seconds that a call may take; calls of a folder have no time-out.
        retries: How often a call is tried again.
        clock: Seconds, for the time-out.
        sleep: Waits for seconds.

    Raises:
        FileNotFoundError: The folder does not exist, or contains no model.

    Example:
        with Client("grpc://localhost:8500") as client:
            client.predict("image_classification", image_bytes=[Path("a.png").read_bytes()])
    """

    def __init__(
        self,
        target: str | Path,
        *,
        timeout: float = 60.0,
        retries: int = 5,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        if timeout <= 0:
            raise ValueError(f"`timeout` must be positive, in seconds. Received: timeout={timeout}")
        if retries < 0:
            raise ValueError(f"`retries` must not be negative. Received: retries={retries}")
        self.timeout, self.retries = timeout, retries
        self._clock, self._sleep = clock, sleep
        self._target = _connect(target)
        self._metadata: dict[Which, Metadata] = {}

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        **named: Any,
    ) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature by name, strings as arrays of bytes.

        Args:
            model: Name of the model.
            inputs: Inputs by name, for names that are also names of arguments.
            signature: Name of the signature.
            version: Number of the version; None for the newest.
            label: Label of the version, instead of its number.
            timeout: Seconds, instead of the client's.
            named: Inputs by name. Anything that NumPy makes an array of; it is converted to the
                type that the signature asks for, text to UTF-8.

        Raises:
            ServingError: There is no answer; code and message are the server's.
            ValueError: Inputs are missing, unknown or too large for their type.
            TypeError: An input is of another kind than the signature's.
        """
        which, values = Which(model, version, label), {**(inputs or {}), **named}
        ends = self._ends(timeout)
        known = self._metadata.get(which)
        if known is not None:
            try:
                return self._predict(which, known, signature, values, ends)
            except (ServingError, TypeError, ValueError) as error:
                # Another version, with another signature, may have replaced it.
                refused = getattr(error, "code", REFUSED[0]) in REFUSED
                if version is not None or not refused:
                    raise
                if self._fetch(which, ends).signatures == known.signatures:
                    raise
        return self._predict(which, self._fetch(which, ends), signature, values, ends)

    def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Metadata:
        """Returns a version's signatures, and which version it is."""
        return self._fetch(Which(model, version, label), self._ends(timeout))

    def status(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> list[VersionStatus]:
        """Returns the states of a model's versions, or of the one named, newest first."""
        which = Which(model, version, label)
        return self._ask(lambda left: self._target.status(which, left), self._ends(timeout))

    def close(self) -> None:
        self._target.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fetch(self, which: Which, ends: float) -> Metadata:
        found = self._ask(lambda left: self._target.metadata(which, left), ends)
        self._metadata[which] = found
        return found

    def _predict(
        self, which: Which, metadata: Metadata, name: str, values: Mapping[str, Any], ends: float
    ) -> Arrays:
        if name not in metadata.signatures:
            raise ServingError(
                "FAILED_PRECONDITION",
                f'Serving signature key "{name}" not found, only {", ".join(metadata.signatures)}.',
            )
        signature = metadata.signatures[name]
        inputs = as_inputs(values, signature)
        return self._ask(
            lambda left: self._target.predict(which, name, signature, inputs, left), ends
        )

    def _ends(self, timeout: float | None) -> float:
        return self._clock() + (self.timeout if timeout is None else timeout)

    def _ask(self, ask: Callable[[float], T], ends: float) -> T:
        """Retries until there is an answer, or an error other than an unavailable target."""
        attempt = 0
        while True:
            left = ends - self._clock()
            if left <= 0:
                raise ServingError("DEADLINE_EXCEEDED", "the time-out of the call is over")
            try:
                return ask(left)
            except ServingError as error:
                wait = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0)
                over = attempt >= self.retries or wait >= ends - self._clock()
                if error.code != "UNAVAILABLE" or over:
                    raise
            self._sleep(wait)
            attempt += 1


def _connect(target: str | Path) -> Target:
    """Makes the client of a kind of target, and imports only its libraries."""
    scheme, separator, rest = str(target).partition("://")
    if not separator:
        models(Path(target))
        with quiet():
            from serving.client.folder_target import FolderTarget

        return FolderTarget(Path(target))
    if scheme in ("grpc", "grpcs") and rest:
        with quiet():
            from serving.client.grpc_target import GrpcTarget

        return GrpcTarget(rest.rstrip("/"), secure=scheme == "grpcs")
    if scheme in ("http", "https") and rest:
        from serving.client.rest_target import RestTarget

        return RestTarget(str(target))
    raise ValueError(
        "`target` must be grpc://HOST:PORT, grpcs://HOST:PORT, http://HOST:PORT, https://HOST:PORT "
        f"or a folder. Received: target={target}"
    )
