"""The handling of a request in both interfaces: find the version, check, run, count."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
from grpc import StatusCode
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server import inference
from serving.server.batching import Batcher, Batching
from serving.server.failure import Failure, invalid
from serving.server.image_size import image_size
from serving.server.inference import Call
from serving.server.manager import Manager
from serving.server.metrics import Metrics
from serving.server.servable import MOST_CALLABLES, Servable

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_LEADERS = 64
"""Batches that run for event loops at the same time, over all signatures."""

PIXELS_PER_BYTE = 64
"""Maximum number of pixels per byte over all images of a request, if that is more than one image
may have: photographs have some 8 pixels per byte, bombs thousands."""


class Service:
    """Answers requests, each in the thread of its caller.

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
        # Threads start when they are needed.
        self._leaders = ThreadPoolExecutor(MOST_LEADERS, thread_name_prefix="batch")

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
            api: `Predict`, `Classify`, `Regress` or `MultiInference`.
            entrypoint: `GRPC` or `REST`.
            seconds: Until the client gives up; None for never.
        """
        with self.admitted(model, api, entrypoint, seconds):
            return ask(None if seconds is None else time.monotonic() + seconds)

    @contextlib.contextmanager
    def admitted(
        self, model: str, api: str, entrypoint: str, seconds: float | None
    ) -> Iterator[None]:
        """As `answer`, around what answers."""
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
            yield
        except Failure as failure:
            status = failure.code.name
            raise
        except asyncio.CancelledError:
            status = StatusCode.CANCELLED.name
            raise
        # The client gets any exception as an error, and the server continues.
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

    @property
    def batches(self) -> bool:
        """Whether requests are put together, so that `run_later` can be used."""
        return self._batching is not None

    def run(self, servable: Servable, call: Call, deadline: float | None) -> list[np.ndarray]:
        """Runs a call, with others where requests are batched.

        One that feeds the inputs of several signatures is of no queue, as in TensorFlow Serving.
        """
        self._refuse_bombs_of(call)
        if self._batching is None or call.fed:
            return inference.run(servable, call)
        return self._batcher(servable, call, self._batching).answer(call.inputs, deadline)

    async def run_later(self, servable: Servable, call: Call) -> list[np.ndarray]:
        """Runs a call with others, for an event loop, without a thread for each."""
        self._refuse_bombs_of(call)
        if self._batching is None:
            raise RuntimeError("`run_later` is for batched requests")
        return await self._batcher(servable, call, self._batching).answer_later(call.inputs)

    def _refuse_bombs_of(self, call: Call) -> None:
        for name, array in call.inputs.items():
            if array.dtype == object:
                # What a short request was filled up with is the same object again and again.
                same = (list(group) for _, group in groupby(array.flat, key=id))
                self._refuse_image_bombs(name, ((group[0], len(group)) for group in same))

    def _batcher(self, servable: Servable, call: Call, batching: Batching) -> Batcher:
        key = call.signature, call.outputs
        with self._lock:
            if key not in servable.batchers:
                if len(servable.batchers) >= MOST_CALLABLES:
                    # Those who wait in it see to each other.
                    del servable.batchers[next(iter(servable.batchers))]
                signature, outputs = key
                servable.batchers[key] = Batcher(
                    lambda inputs: servable.run(signature, inputs, outputs),
                    tuple(call.inputs),
                    batching,
                    self._leaders,
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
                inference.read_inputs(servable, request),
                request.output_filter,
            )
            outputs = self.run(servable, call, deadline)
            return inference.predict_response(servable, call, outputs)

    def classify(
        self, request: classification_pb2.ClassificationRequest, deadline: float | None = None
    ) -> classification_pb2.ClassificationResponse:
        response = classification_pb2.ClassificationResponse()
        read, write = inference.classify_call, inference.classifications
        self._answer_examples(request, response, read, write, deadline)
        return response

    def regress(
        self, request: regression_pb2.RegressionRequest, deadline: float | None = None
    ) -> regression_pb2.RegressionResponse:
        response = regression_pb2.RegressionResponse()
        read, write = inference.regress_call, inference.regressions
        self._answer_examples(request, response, read, write, deadline)
        return response

    def _answer_examples(
        self,
        request: Any,
        response: Any,
        read: Callable[[Servable, str, input_pb2.Input], Call],
        write: Callable[[Call, list[np.ndarray]], Any],
        deadline: float | None,
    ) -> None:
        """Fills the response to a request that holds examples."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        with self.manager.using(spec) as servable:
            self._refuse_image_bombs("inputs", inference.byte_values(request.input))
            call = read(servable, spec.signature_name, request.input)
            response.result.CopyFrom(write(call, self.run(servable, call, deadline)))
            inference.fill_spec(response.model_spec, servable, spec.signature_name)

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, deadline: float | None = None
    ) -> inference_pb2.MultiInferenceResponse:
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        self._refuse_image_bombs("inputs", inference.byte_values(request.input))
        response = inference_pb2.MultiInferenceResponse()
        with self.manager.using(spec) as servable:
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

    def _refuse_image_bombs(self, name: str, contents: Iterable[tuple[bytes, int]]) -> None:
        """Small files may unfold to gigabytes of pixels, many of them to more.

        Args:
            name: The input's name, for errors.
            contents: What may be images, and how often each is to be read.
        """
        most = self._max_image_pixels
        together = size = index = 0
        for content, times in contents:
            height, width = image_size(content)
            if height * width > most:
                raise invalid(
                    f"`{name}` at {index} is an image of {width} x {height} pixels, more than the "
                    f"{most} allowed"
                )
            together += height * width * times
            size += len(content)
            index += times
        if together > max(most, PIXELS_PER_BYTE * size):
            raise invalid(
                f"The images of `{name}` have {together} pixels together, more than the "
                f"{max(most, PIXELS_PER_BYTE * size)} allowed for {size} bytes"
            )
