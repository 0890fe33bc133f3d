"""TensorFlow Serving's REST interface, its metrics page, and the playground."""

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import tensorflow as tf
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError
from google.protobuf import json_format
from grpc import StatusCode
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from serving.server import inference, json_tensors, playground
from serving.server.failure import Failure, invalid
from serving.server.servable import Servable
from serving.server.service import Service

log = logging.getLogger(__name__)

_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
PREDICTION = re.compile(
    rf"(?ia)/v1/models/(?P<model>[^/:]+){_WHICH}:(?P<method>classify|regress|predict)"
)
STATUS = re.compile(rf"(?ia)/v1/models(?:/(?P<model>[^/:]+))?{_WHICH}(?P<metadata>/metadata)?")

EXAMPLES = re.compile(
    rf"/playground/examples/(?P<model>[^/:]+){_WHICH}/signatures/(?P<signature>[^/]+)"
)
PAGE = re.compile(rf"/playground/(?P<page>report|card)/(?P<model>[^/:]+){_WHICH}")

NOT_FOUND_PAGE = (
    "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n"
    "</BODY></HTML>\n"
)
READ_BYTES = 2**20
FREE_INFLATED_BYTES = 2**26
INFLATION = 100
"""Maximum inflated bytes per byte sent, for bodies of more than `FREE_INFLATED_BYTES`."""
SMALL_BODY = 2**16
"""Bytes of a request that are read in the event loop itself: a millisecond or so."""
READY = "/readyz"
HEALTH = ("/healthz", READY)
SERVER = {"Server": "hornbook"}
"""Replaces aiohttp's header, which names the versions of aiohttp and of Python."""
PLAYGROUND = Path(__file__).with_name("playground.html")
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Authorization",
}


@dataclass(frozen=True)
class Answer:
    """The response to a client."""

    status: int
    body: bytes
    content_type: str = "application/json"
    charset: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class _Handler(web.RequestHandler):
    """Answers requests that are not HTTP with an error like all others."""

    def handle_error(self, request, status=500, exc=None, message=None):
        text = " ".join((message or str(exc or "")).split()) or "Internal error"
        if isinstance(exc, ContentEncodingError):
            text = "The body must be uncompressed, or compressed with gzip or deflate"
        response = super().handle_error(request, status, exc, message)
        response.content_type = Answer.content_type
        response.body = json_tensors.write_error(text)
        response.headers.update(SERVER)
        return response


class _Server(web.Server):
    """Hands each connection to a `_Handler` with some options."""

    def __init__(self, handler: Callable[..., Any], request_factory: Any, **options: Any):
        super().__init__(handler, request_factory=request_factory, handler_cancellation=True)
        self.options = options

    def __call__(self) -> web.RequestHandler:
        return _Handler(self, loop=asyncio.get_running_loop(), **self.options)


class RestApi:
    """Answers HTTP requests.

    Args:
        service: The models.
        num_threads: Requests that are answered at the same time.
        timeout: Seconds that a request may take, the reading of it included, and that a
            connection may stay open without one.
        max_requests: Requests that are answered or wait for it; more are refused.
        max_request_bytes: Size of a request's body, inflated.
        metrics_path: Where metrics are; None for nowhere.
        cors: Whether pages from elsewhere may ask.
    """

    def __init__(
        self,
        service: Service,
        *,
        num_threads: int,
        timeout: float,
        max_requests: int,
        max_request_bytes: int,
        metrics_path: str | None = None,
        cors: bool = False,
    ):
        self._service, self._timeout = service, timeout
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="rest")
        self._max_requests, self._max_request_bytes = max_requests, max_request_bytes
        self._requests = 0
        self._metrics_path = metrics_path
        self._headers = CORS if cors else {}

    def make_server(self) -> web.Server:
        loop = asyncio.get_running_loop()

        def request(message, payload, protocol, writer, task):
            return web.BaseRequest(
                message,
                payload,
                protocol,
                writer,
                task,
                loop,
                client_max_size=self._max_request_bytes,
            )

        return _Server(
            self.handle,
            request_factory=request,
            access_log=None,
            keepalive_timeout=self._timeout,
        )

    async def handle(self, request: web.BaseRequest) -> web.Response:
        try:
            answer = await self._answer(request)
        except Failure as failure:
            answer = Answer(failure.http_status, json_tensors.write_error(failure.message))
        except web.HTTPRequestEntityTooLarge as error:
            message = f"The body has more than {error.text} bytes"
            answer = Answer(413, json_tensors.write_error(message))
        # The client gets any exception as an error, and the server continues.
        except Exception as error:
            log.exception("A request failed")
            message = f"{type(error).__name__}: {error}"
            answer = Answer(500, json_tensors.write_error(message))
        response = web.Response(
            status=answer.status,
            body=answer.body,
            content_type=answer.content_type,
            charset=answer.charset,
            headers={**SERVER, **self._headers, **answer.headers},
        )
        if answer.status == 413:
            # What else the client sends is not waited for.
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> Answer:
        path = request.raw_path
        if request.method == "OPTIONS":
            origin = request.headers.get("Origin", "")
            return Answer(200 if origin.startswith(("http://", "https://")) else 400, b"")
        if request.method == "GET" and path == "/":
            return Answer(200, PLAYGROUND.read_bytes(), "text/html")
        if request.method == "GET" and path == "/playground/models":
            return Answer(200, await asyncio.to_thread(self._described))
        if request.method == "GET" and (match := EXAMPLES.fullmatch(path)):
            return Answer(200, await asyncio.to_thread(self._examples, match))
        if request.method == "GET" and (match := PAGE.fullmatch(path)):
            return await asyncio.to_thread(self._page, match)
        if request.method == "GET" and path == self._metrics_path:
            return Answer(200, self._service.metrics.text().encode(), "text/plain")
        if request.method in ("GET", "HEAD") and path in HEALTH:
            return self._health(path)
        if not path.lower().startswith("/v1/"):
            return Answer(404, NOT_FOUND_PAGE.encode(), "text/html")
        if request.method == "POST" and (match := PREDICTION.fullmatch(path)):
            return await self._predict(request, match)
        if request.method == "GET" and (match := STATUS.fullmatch(path)):
            return self._status(match)
        raise invalid(f"Malformed request: {request.method} {path}")

    def _health(self, path: str) -> Answer:
        waiting = self._service.manager.waiting() if path == READY else []
        if waiting:
            message = f"No version is available of: {', '.join(waiting)}"
            return Answer(503, json_tensors.write_error(message))
        return Answer(200, b'{"status": "ok"}')

    async def _predict(self, request: web.BaseRequest, match: re.Match) -> Answer:
        deadline = time.monotonic() + self._timeout
        body = await self._body(request, deadline)
        if (spec := _spec(match)) is None:
            return Answer(400, b"")
        method = match["method"].lower()
        ask = {
            "predict": self._predicted,
            "classify": self._classified,
            "regress": self._regressed,
        }[method]
        if self._requests >= self._max_requests:
            raise Failure(
                StatusCode.RESOURCE_EXHAUSTED,
                f"The server is answering {self._requests} requests already",
            )

        def answer() -> bytes:
            seconds = deadline - time.monotonic()
            return self._service.answer(
                partial(ask, spec, body), spec.name, method.title(), "REST", seconds
            )

        self._requests += 1
        try:
            if method == "predict" and self._service.batches and len(body) <= SMALL_BODY:
                return Answer(200, await self._predicted_with_others(spec, body, deadline))
            running = asyncio.get_running_loop().run_in_executor(self._threads, answer)
            async with self._until(deadline, "answer"):
                return Answer(200, await running)
        finally:
            self._requests -= 1

    @contextlib.asynccontextmanager
    async def _until(self, deadline: float, awaited: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                yield
        except TimeoutError as error:
            raise Failure(
                StatusCode.DEADLINE_EXCEEDED, f"No {awaited} within {self._timeout:.3g} s"
            ) from error

    async def _body(self, request: web.BaseRequest, deadline: float) -> bytes:
        """Reads a body, inflated; a small one must not unfold to gigabytes."""
        content, most = request.content, self._max_request_bytes
        if (request.content_length or 0) > most:
            raise web.HTTPRequestEntityTooLarge(most, text=str(most))
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts, size = [], 0
        try:
            async with self._until(deadline, "whole request"):
                # All at once would hold up the other requests while a bomb is inflated.
                content.set_read_chunk_size(READ_BYTES)
                while part := await content.readany():
                    parts.append(part)
                    size += len(part)
                    if content.total_compressed_bytes is not None:
                        unfolded = INFLATION * content.total_compressed_bytes
                        most = min(most, max(FREE_INFLATED_BYTES, unfolded))
                    if size > most:
                        raise web.HTTPRequestEntityTooLarge(most, text=str(most))
        except web.RequestPayloadError as error:
            raise invalid(f"Malformed body: {error}") from error
        return b"".join(parts)

    def _predicted(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float | None) -> bytes:
        document = json_tensors.parse(body)
        with self._service.manager.using(spec) as servable:
            call, by_row = _predict_call(servable, document)
            outputs = self._service.run(servable, call, deadline)
        named = dict(zip(call.outputs, outputs, strict=True))
        return json_tensors.write_predictions(named, by_row)

    async def _predicted_with_others(
        self, spec: model_pb2.ModelSpec, body: bytes, deadline: float
    ) -> bytes:
        """As `_predicted`, in the event loop but for the batch: a thread would cost more."""
        seconds = deadline - time.monotonic()
        with self._service.admitted(spec.name, "Predict", "REST", seconds):
            document = json_tensors.parse(body)
            with self._service.manager.using(spec) as servable:
                call, by_row = _predict_call(servable, document)
                async with self._until(deadline, "answer"):
                    outputs = await self._service.run_later(servable, call)
            named = dict(zip(call.outputs, outputs, strict=True))
            if sum(output.size for output in outputs) <= SMALL_BODY // 16:
                return json_tensors.write_predictions(named, by_row)
            return await asyncio.to_thread(json_tensors.write_predictions, named, by_row)

    def _classified(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float | None) -> bytes:
        request = _with_examples(classification_pb2.ClassificationRequest(model_spec=spec), body)
        return json_tensors.write_classifications(self._service.classify(request, deadline).result)

    def _regressed(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float | None) -> bytes:
        request = _with_examples(regression_pb2.RegressionRequest(model_spec=spec), body)
        return json_tensors.write_regressions(self._service.regress(request, deadline).result)

    def _status(self, match: re.Match) -> Answer:
        if not match["model"]:
            raise invalid("Missing model name in request.")
        if (spec := _spec(match)) is None:
            return Answer(400, b"")
        if match["metadata"]:
            request = get_model_metadata_pb2.GetModelMetadataRequest(
                model_spec=spec, metadata_field=["signature_def"]
            )
            return Answer(200, _metadata_as_json(self._service.metadata(request)))
        response = get_model_status_pb2.GetModelStatusResponse(
            model_version_status=self._service.manager.status(spec)
        )
        return Answer(200, _as_json(response))

    def _described(self) -> bytes:
        """The models for the playground: versions, and of those loaded the signatures and card."""
        models = []
        for name in self._service.manager.names():
            try:
                states = self._service.manager.status(model_pb2.ModelSpec(name=name))
            except Failure:
                states = []
            versions = [
                {**json_format.MessageToDict(state, **_JSON), **self._details(name, state.version)}
                for state in states
            ]
            models.append({"name": name, "versions": versions})
        return json.dumps({"models": models}).encode()

    def _details(self, name: str, version: int) -> dict[str, Any]:
        spec = model_pb2.ModelSpec(name=name)
        spec.version.value = version
        try:
            with self._service.manager.using(spec) as servable:
                signatures = {
                    key: json_format.MessageToDict(definition, **_JSON)
                    for key, definition in servable.signatures.items()
                    if not key.startswith("__")
                }
                return {
                    "signatures": signatures,
                    "card": servable.card(),
                    "examples": servable.warmup_path.is_file(),
                    "pages": playground.pages(servable),
                }
        except Failure:
            return {"signatures": {}, "card": None, "examples": False, "pages": []}

    def _page(self, match: re.Match) -> Answer:
        with self._servable(match) as servable:
            path = playground.page(servable, match["page"])
        try:
            content = path.read_bytes()
        except OSError:
            raise Failure(StatusCode.NOT_FOUND, f"There is no {path.name}") from None
        return Answer(200, content, playground.PAGES[match["page"]], "utf-8", playground.SAFE)

    def _servable(self, match: re.Match) -> AbstractContextManager[Servable]:
        """Holds the version that a path names."""
        spec = _spec(match)
        if spec is None:
            raise Failure(StatusCode.NOT_FOUND, "No such version")
        return self._service.manager.using(spec)

    def _examples(self, match: re.Match) -> bytes:
        with self._servable(match) as servable:
            return playground.examples(servable, unquote(match["signature"]))


_JSON = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}


def _as_json(message) -> bytes:
    return json_format.MessageToJson(message, indent=1, **_JSON).encode() + b"\n"


def _metadata_as_json(response: get_model_metadata_pb2.GetModelMetadataResponse) -> bytes:
    """Without the type of the signatures that protocol buffers would write among them."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return (
        b'{\n"model_spec":'
        + _as_json(response.model_spec)
        + b',\n"metadata": {"signature_def": '
        + _as_json(signatures)
        + b"}\n}\n"
    )


def _with_examples(request: Any, body: bytes) -> Any:
    """Adds to a request the signature and the examples of its body."""
    document = json_tensors.parse(body)
    request.model_spec.signature_name = json_tensors.signature_name(document)
    request.input.CopyFrom(json_tensors.read_examples(document))
    return request


def _predict_call(servable: Servable, document: dict[str, Any]) -> tuple[inference.Call, bool]:
    """Reads what is to be run, and whether the request is in row format."""
    name = json_tensors.signature_name(document)
    definition = servable.signatures.get(name or "serving_default")
    if definition is None:
        raise Failure(
            StatusCode.FAILED_PRECONDITION,
            f'Serving signature name: "{name or "serving_default"}" not found in signature def',
        )
    types = {key: tf.as_dtype(info.dtype) for key, info in definition.inputs.items()}
    if not types:
        raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    inputs, by_row = json_tensors.read_predict(document, types)
    return inference.predict_call(servable, name, inputs), by_row


def _spec(match: re.Match) -> model_pb2.ModelSpec | None:
    """The version that a path names; None if its number is beyond any version's."""
    spec = model_pb2.ModelSpec(name=json_tensors.checked_name(unquote(match["model"])))
    if match["label"]:
        spec.version_label = json_tensors.checked_name(unquote(match["label"]))
    if match["version"]:
        # Thousands of digits are no integer for Python.
        digits = match["version"].lstrip("0")
        if len(digits) > 19 or int(digits or "0") >= 2**63:
            return None
        spec.version.value = int(digits or "0")
    return spec
