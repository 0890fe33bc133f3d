"""TensorFlow Serving's gRPC interface: prediction, models, health."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving.server.batching import LONGEST_WAIT
from serving.server.failure import Failure, invalid
from serving.server.service import Service

LARGEST_MESSAGE = 2**31 - 1
LONGEST_ERROR = 1024
Reload: TypeAlias = Callable[[Any, Callable[[], bool]], None]
SERVING = health_pb2.HealthCheckResponse.SERVING


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers in the threads of the gRPC server.

    Args:
        service: The models.
        num_threads: Number of requests that are answered at the same time.
    """

    def __init__(self, service: Service, num_threads: int):
        self._service = service
        self._free = threading.Semaphore(num_threads)

    def Predict(self, request, context):
        name = request.model_spec.name
        return self._answer(self._service.predict, request, context, name, "Predict")

    def Classify(self, request, context):
        name = request.model_spec.name
        return self._answer(self._service.classify, request, context, name, "Classify")

    def Regress(self, request, context):
        name = request.model_spec.name
        return self._answer(self._service.regress, request, context, name, "Regress")

    def MultiInference(self, request, context):
        name = request.tasks[0].model_spec.name if request.tasks else ""
        ask = self._service.multi_inference
        return self._answer(ask, request, context, name, "MultiInference")

    def GetModelMetadata(self, request, context):
        try:
            return self._service.metadata(request)
        except Failure as failure:
            abort(context, failure)

    def _answer(
        self,
        ask: Callable[[Any, float | None], Any],
        request: Any,
        context: grpc.ServicerContext,
        model: str,
        api: str,
    ) -> Any:
        seconds = context.time_remaining()
        if not self._free.acquire(timeout=None if seconds is None else min(seconds, LONGEST_WAIT)):
            abort(context, Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded waiting"))
        try:
            return self._service.answer(
                lambda deadline: ask(request, deadline),
                model,
                api,
                "GRPC",
                context.time_remaining(),
            )
        except Failure as failure:
            abort(context, failure)
        finally:
            self._free.release()


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """States of models, and a new list of models.

    Args:
        service: The models.
        reload: Replaces the list by a ModelServerConfig and returns when all of it is available,
            or when what it is given says that the client has gone.
    """

    def __init__(self, service: Service, reload: Reload):
        self._service, self._reload = service, reload

    def GetModelStatus(self, request, context):
        response = get_model_status_pb2.GetModelStatusResponse()
        try:
            if not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            response.model_version_status.extend(self._service.manager.status(request.model_spec))
        except Failure as failure:
            abort(context, failure)
        return response

    def HandleReloadConfigRequest(self, request, context):
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        try:
            self._reload(request.config, context.is_active)
        except Failure as failure:
            abort(context, failure)
        return response


def abort(context: grpc.ServicerContext, failure: Failure) -> None:
    message = failure.message
    if len(message) > LONGEST_ERROR:
        message = message[:LONGEST_ERROR] + "...TRUNCATED"
    context.abort(failure.code, message)


def make_server(
    service: Service,
    reload: Reload,
    *,
    num_threads: int,
    max_requests: int,
    max_message_bytes: int = LARGEST_MESSAGE,
) -> tuple[grpc.Server, health.HealthServicer]:
    """Makes a server without ports, and its health service.

    The server that is written with threads answered 1.5 to 2 times as many small requests as the
    asynchronous one.
    """
    server = grpc.server(
        # A request has a thread from its first byte on: clients that send nothing more must not
        # hold all that answer.
        ThreadPoolExecutor(max_requests, thread_name_prefix="grpc"),
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", LARGEST_MESSAGE),
            # A second server on the same port is an error, not a silent sharing of requests.
            ("grpc.so_reuseport", 0),
            # Clients that vanished are noticed.
            ("grpc.keepalive_time_ms", 60_000),
        ],
        # Those beyond are answered RESOURCE_EXHAUSTED, by gRPC itself.
        maximum_concurrent_rpcs=max_requests,
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(service, num_threads), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(service, reload), server)
    health_servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    return server, health_servicer


def credentials(config: Any) -> grpc.ServerCredentials:
    """Makes the server's credentials of an SSLConfig message."""
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
