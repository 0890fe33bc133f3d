"""Asks a server over REST."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson
import urllib3
from google.protobuf import json_format

from serving.client import wire
from serving.client.arrays import Arrays
from serving.client.failure import ServingError
from serving.client.signatures import (
    Metadata,
    Signature,
    TensorSpec,
    VersionStatus,
    Which,
    read_signatures,
    read_states,
)

CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""Codes by HTTP status; several statuses belong to more than one code."""

DTYPES = {
    "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool",
    "string",
}  # fmt: skip
"""The types that the REST interface can write and read."""

LONGEST_ERROR = 1000
CONNECTIONS = 16


class RestTarget:
    """A server's REST interface.

    Args:
        url: The address without `/v1` and what follows.
    """

    def __init__(self, url: str):
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(maxsize=CONNECTIONS)

    def predict(
        self, which: Which, name: str, signature: Signature, inputs: Arrays, seconds: float
    ) -> Arrays:
        columns = {key: as_json(key, inputs[key], signature.inputs[key].dtype) for key in inputs}
        body = _encode({"signature_name": name, "inputs": columns}, inputs)
        answer = self._ask("POST", f"{_path(which)}:predict", seconds, body)
        with _understanding():
            outputs = answer["outputs"]
            # The name of a single output is left out.
            if len(signature.outputs) == 1:
                outputs = {key: outputs for key in signature.outputs}
            return {
                key: from_json(key, outputs[key], spec) for key, spec in signature.outputs.items()
            }

    def metadata(self, which: Which, seconds: float) -> Metadata:
        found = self._ask("GET", f"{_path(which)}/metadata", seconds)
        message = wire.CLASSES["SignatureDefMap"]()
        with _understanding():
            _fill(message, found["metadata"]["signature_def"])
            version = int(found["model_spec"]["version"])
        return Metadata(which.model, version, read_signatures(message.signature_def))

    def status(self, which: Which, seconds: float) -> list[VersionStatus]:
        found = self._ask("GET", _path(which), seconds)
        message = wire.CLASSES["GetModelStatusResponse"]()
        with _understanding():
            _fill(message, found)
        return read_states(message)

    def close(self) -> None:
        self._pool.clear()

    def _ask(self, method: str, path: str, seconds: float, body: bytes | None = None) -> Any:
        try:
            response = self._pool.request(
                method,
                f"{self._url}/v1/models/{path}",
                body=body,
                headers={"Content-Type": "application/json"},
                # For the connection, and for each wait for more of the answer.
                timeout=urllib3.Timeout(total=seconds),
                retries=False,
            )
        except urllib3.exceptions.NewConnectionError as error:
            raise ServingError("UNAVAILABLE", str(error)) from error
        except urllib3.exceptions.TimeoutError as error:
            raise ServingError("DEADLINE_EXCEEDED", str(error)) from error
        except urllib3.exceptions.HTTPError as error:
            raise ServingError("UNAVAILABLE", str(error)) from error
        if response.status != 200:
            raise ServingError(CODES.get(response.status, "UNKNOWN"), _message(response))
        return _decode(response.data)


def _path(which: Which) -> str:
    if which.version is not None:
        return f"{which.model}/versions/{which.version}"
    return which.model if which.label is None else f"{which.model}/labels/{which.label}"


def _message(response: urllib3.BaseHTTPResponse) -> str:
    try:
        return _decode(response.data)["error"]
    # Not from the model server, but from a proxy before it.
    except (ServingError, KeyError, TypeError):
        text = response.data.decode(errors="replace").strip()
        return f"HTTP status {response.status}: {text[:LONGEST_ERROR] or response.reason}"


@contextmanager
def _understanding() -> Iterator[None]:
    """Raises the error for an answer that lacks a part.

    Its code is that of a signature that has changed, which may be the reason.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, json_format.Error) as error:
        message = f"the answer does not fit the interface and the metadata: {error!r}"
        raise ServingError("FAILED_PRECONDITION", message) from error


def _fill(message: Any, document: Any) -> None:
    json_format.ParseDict(document, message, ignore_unknown_fields=True)


def _encode(document: Any, inputs: Arrays) -> bytes:
    floats = [array for array in inputs.values() if array.dtype.kind == "f"]
    if all(np.isfinite(array).all() for array in floats):
        return orjson.dumps(document)
    # NaN and Infinity are not JSON, but model servers accept them.
    return json.dumps(document).encode()


def _decode(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    # Servers write NaN and Infinity, and strings that are not UTF-8, although they are not JSON.
    try:
        return json.loads(body.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        raise ServingError("INTERNAL", f"the answer is not JSON: {error}") from error


def as_json(name: str, array: np.ndarray, dtype: str) -> Any:
    """Nested lists of numbers, or of base64, by which all strings may be sent."""
    _check(name, dtype)
    if dtype != "string":
        return array.tolist()
    encoded = np.empty(array.size, object)
    encoded[:] = [{"b64": base64.b64encode(text).decode()} for text in array.ravel()]
    return encoded.reshape(array.shape).tolist()


def from_json(name: str, value: Any, spec: TensorSpec) -> np.ndarray:
    _check(name, spec.dtype)
    wanted = wire.numpy_dtype(spec.dtype)
    # NumPy would cut fractions off, which a new version may send under an old name. Of integers
    # beyond 63 bits it makes floats by itself.
    if wanted.kind in "iub" and wanted != np.uint64 and np.array(value or 0).dtype.kind == "f":
        raise ValueError(f"`{name}` must be {spec.dtype}, and contains fractions")
    array = np.array(value, wanted)
    if spec.dtype == "string":
        flat = np.empty(array.size, object)
        flat[:] = [_as_bytes(text) for text in array.ravel()]
        array = flat.reshape(array.shape)
    # JSON's empty list does not say what shape it has none of.
    if array.shape == (0,) and spec.shape is not None and len(spec.shape) > 1:
        array = array.reshape([0, *(size or 0 for size in spec.shape[1:])])
    return array


def _as_bytes(text: Any) -> bytes:
    if isinstance(text, dict):
        return base64.b64decode(text["b64"])
    return text.encode("utf-8", "surrogateescape")


def _check(name: str, dtype: str) -> None:
    if dtype not in DTYPES:
        raise ServingError("UNIMPLEMENTED", f"`{name}` is {dtype}, which only gRPC can carry")
