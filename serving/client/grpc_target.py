"""Asks a server over gRPC."""

from typing import Any

import grpc

from serving.client import wire
from serving.client.arrays import Arrays
from serving.client.failure import ServingError
from serving.client.signatures import (
    Metadata,
    Signature,
    VersionStatus,
    Which,
    read_signatures,
    read_states,
)

OPTIONS = [
    # Any size, where gRPC would stop at 4 MiB.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # The client itself waits between attempts; a channel that waits longer would fail them early.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class GrpcTarget:
    """A server's gRPC interface.

    Args:
        address: Host and port.
        secure: Whether to use TLS, with the authorities that gRPC knows; see its environment
            variable GRPC_DEFAULT_SSL_ROOTS_FILE_PATH.
    """

    def __init__(self, address: str, secure: bool):
        if secure:
            credentials = grpc.ssl_channel_credentials()
            self._channel = grpc.secure_channel(address, credentials, options=OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address, options=OPTIONS)
        self._predict = self._method("PredictionService", "Predict", "PredictRe")
        self._metadata = self._method("PredictionService", "GetModelMetadata", "GetModelMetadataRe")
        self._status = self._method("ModelService", "GetModelStatus", "GetModelStatusRe")

    def predict(
        self, which: Which, name: str, signature: Signature, inputs: Arrays, seconds: float
    ) -> Arrays:
        request = wire.CLASSES["PredictRequest"](model_spec=_spec(which))
        request.model_spec.signature_name = name
        for key, array in inputs.items():
            wire.write_tensor(array, signature.inputs[key].dtype, request.inputs[key])
        outputs = _ask(self._predict, request, seconds).outputs
        return {key: wire.read_tensor(key, outputs[key]) for key in sorted(outputs)}

    def metadata(self, which: Which, seconds: float) -> Metadata:
        request = wire.CLASSES["GetModelMetadataRequest"](
            model_spec=_spec(which), metadata_field=["signature_def"]
        )
        response = _ask(self._metadata, request, seconds)
        signatures = wire.CLASSES["SignatureDefMap"].FromString(
            response.metadata["signature_def"].value
        )
        return Metadata(
            which.model,
            response.model_spec.version.value,
            read_signatures(signatures.signature_def),
        )

    def status(self, which: Which, seconds: float) -> list[VersionStatus]:
        request = wire.CLASSES["GetModelStatusRequest"](model_spec=_spec(which))
        return read_states(_ask(self._status, request, seconds))

    def close(self) -> None:
        self._channel.close()

    def _method(self, service: str, method: str, messages: str) -> Any:
        return self._channel.unary_unary(
            f"/tensorflow.serving.{service}/{method}",
            request_serializer=wire.CLASSES[f"{messages}quest"].SerializeToString,
            response_deserializer=wire.CLASSES[f"{messages}sponse"].FromString,
        )


def _ask(method: Any, request: Any, seconds: float) -> Any:
    try:
        return method(request, timeout=seconds)
    except grpc.RpcError as error:
        raise ServingError(error.code().name, error.details() or "") from error


def _spec(which: Which) -> Any:
    spec = wire.CLASSES["ModelSpec"](name=which.model)
    if which.version is not None:
        spec.version.value = which.version
    if which.label is not None:
        spec.version_label = which.label
    return spec
