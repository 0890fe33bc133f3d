"""What both interfaces, gRPC and REST, do with a request: find the version, check, run, count."""

import logging
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from grpc import StatusCode
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server import inference
from serving.server.batching import Batcher, Batching
from serving.server.failure import Failure, invalid
from serving.server.inference import Call
from serving.server.manager import Manager
from serving.server.metrics import Metrics
from serving.server.servable import Servable

log = logging.getLogger(__name__)
T = TypeVar("T")

SMALL_FILE = 4096
"""Bytes of an encoded image from which its size is looked at: less cannot unfold to much."""


class Service:
    """Answers requests, each in the thread that asks.

    Args:
        manager: The models.
        metrics: Where requests are counted.
        batching: How requests are put together; None runs each by itself.
        max_requests: Requests in the server at the same time; more are refused.
        max_image_pixels: Pixels that an encoded image may unfold to.
    """

    def __init__(
        self,
        manager: Manager,
        metrics: Metrics,
        *,
        batching: Batching | None = None,
        max_requests: int = 1024,
        max_image_pixels: int = 2**26,
    ):
        self.manager, self.metrics = manager, metrics
        self._batching = batching
        self._max_requests, self._max_image_pixels = max_requests, max_image_pixels
        self._requests = 0
        self._lock = threading.Lock()

    @property
    def requests(self) -> int:
        """Requests that are being answered."""
        return self._requests

    def answer(
        self,
        ask: Callable[[float | None], T],
        model: str,
        api: str,
        entrypoint: str,
        seconds: float | None,
    ) -> T:
        """Lets a request in, if there is room, and counts how it ended.

        Args:
            ask: Answers, given the deadline by `time.monotonic`, or None.
            model: Name of the model.
            api: `predict`, `classify`, `regress` or `multi_inference`.
            entrypoint: `GRPC` or `REST`.
            seconds: Until the client gives up; None for never.
        """
        begin, status = time.monotonic(), "OK"
        with self._lock:
            self._requests += 1
            full = self._requests > self._max_requests
        try:
            if full:
                raise Failure(
                    StatusCode.RESOURCE_EXHAUSTED,
                    f"The server is answering {self._max_requests} requests already",
                )
            if seconds is not None and seconds <= 0:
                raise Failure(StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded before it began")
            return ask(None if seconds is None else begin + seconds)
        except Failure as failure:
            status = failure.code.name
            raise
        # Whatever it is, the client is told and the server lives on.
        except Exception as error:
            status = StatusCode.INTERNAL.name
            log.exception("A request to %s failed", model)
            raise Failure(StatusCode.INTERNAL, f"{type(error).__name__}: {error}") from error
        finally:
            with self._lock:
                self._requests -= 1
            # A name that no model has may be anything, and there is no end of them.
            known = model if self.manager.has(model) else ""
            self.metrics.record(known, api, entrypoint, status, time.monotonic() - begin)

    def run(self, servable: Servable, call: Call, deadline: float | None) -> list[np.ndarray]:
        """Runs a call, with others where requests are batched."""
        self._refuse_image_bombs(call.inputs)
        if self._batching is None:
            return inference.run(servable, call)
        return self._batcher(servable, call, self._batching).answer(call.inputs, deadline)

    def _batcher(self, servable: Servable, call: Call, batching: Batching) -> Batcher:
        key = call.signature, call.outputs
        with self._lock:
            if key not in servable.batchers:
                signature, outputs = key
                servable.batchers[key] = Batcher(
                    lambda inputs: servable.run(signature, inputs, outputs),
                    tuple(call.inputs),
                    batching,
                )
            return servable.batchers[key]

    def predict(
        self, request: predict_pb2.PredictRequest, deadline: float | None = None
    ) -> predict_pb2.PredictResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        with self.manager.using(spec) as servable:
            call = inference.predict_call(
                servable,
                spec.signature_name,
                inference.read_inputs(request),
                request.output_filter,
            )
            outputs = self.run(servable, call, deadline)
            return inference.predict_response(servable, call, outputs)

    def classify(
        self, request: classification_pb2.ClassificationRequest, deadline: float | None = None
    ) -> classification_pb2.ClassificationResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        with self.manager.using(spec) as servable:
            call = inference.classify_call(servable, spec.signature_name, request.input)
            result = inference.classifications(call, self.run(servable, call, deadline))
            response = classification_pb2.ClassificationResponse(result=result)
            inference.fill_spec(response.model_spec, servable, spec.signature_name)
            return response

    def regress(
        self, request: regression_pb2.RegressionRequest, deadline: float | None = None
    ) -> regression_pb2.RegressionResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        with self.manager.using(spec) as servable:
            call = inference.regress_call(servable, spec.signature_name, request.input)
            result = inference.regressions(call, self.run(servable, call, deadline))
            response = regression_pb2.RegressionResponse(result=result)
            inference.fill_spec(response.model_spec, servable, spec.signature_name)
            return response

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, deadline: float | None = None
    ) -> inference_pb2.MultiInferenceResponse:
        if not request.tasks:
            raise invalid("Inference request must have at least one task.")
        response = inference_pb2.MultiInferenceResponse()
        with self.manager.using(request.tasks[0].model_spec) as servable:
            for method, call in inference.inference_calls(servable, request):
                outputs = self.run(servable, call, deadline)
                result = response.results.add()
                inference.fill_spec(result.model_spec, servable, call.signature)
                if method == inference.CLASSIFY:
                    result.classification_result.CopyFrom(inference.classifications(call, outputs))
                else:
                    result.regression_result.CopyFrom(inference.regressions(call, outputs))
        return response

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        with self.manager.using(request.model_spec) as servable:
            return inference.metadata(servable, request.metadata_field)

    def _refuse_image_bombs(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Small files may unfold to gigabytes of pixels."""
        for name, array in inputs.items():
            if array.dtype != object:
                continue
            for index, content in enumerate(array.ravel()):
                if len(content) <= SMALL_FILE:
                    continue
                height, width = image_size(content)
                if height * width > self._max_image_pixels:
                    raise invalid(
                        f"`{name}` at {index} is an image of {width} x {height} pixels, more than "
                        f"the {self._max_image_pixels} allowed"
                    )


def image_size(content: bytes) -> tuple[int, int]:
    """Returns height and width of a PNG, GIF, BMP or JPEG file from its head; (0, 0) of others."""
    if content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return height, width
    if content[:6] in (b"GIF87a", b"GIF89a") and len(content) >= 10:
        width, height = struct.unpack("<HH", content[6:10])
        return height, width
    if content.startswith(b"BM") and len(content) >= 26:
        width, height = struct.unpack("<ii", content[18:26])
        return abs(height), abs(width)
    if content.startswith(b"\xff\xd8"):
        return _jpeg_size(content)
    return 0, 0


def _jpeg_size(content: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 < len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        # Start of frame, but for the tables among its numbers.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return height, width
        at += 2 + struct.unpack(">H", content[at + 2 : at + 4])[0]
    return 0, 0
