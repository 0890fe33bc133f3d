"""TensorFlow Serving's REST interface, its metrics page, and the playground."""

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf
from aiohttp import web
from google.protobuf import json_format
from grpc import StatusCode
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from serving.server import inference, json_tensors
from serving.server.failure import Failure, invalid
from serving.server.servable import Servable
from serving.server.service import Service

_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
PREDICTION = re.compile(
    rf"(?i)/v1/models/(?P<model>[^/:]+){_WHICH}:(?P<method>classify|regress|predict)"
)
STATUS = re.compile(rf"(?i)/v1/models(?:/(?P<model>[^/:]+))?{_WHICH}(?P<metadata>/metadata)?")

NOT_FOUND_PAGE = (
    "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n"
    "</BODY></HTML>\n"
)
PLAYGROUND = Path(__file__).with_name("playground.html")
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Authorization",
}


@dataclass(frozen=True)
class Answer:
    """What goes back to a client."""

    status: int
    body: bytes
    content_type: str = "application/json"


class RestApi:
    """Answers HTTP requests.

    Args:
        service: The models.
        num_threads: Requests that are answered at the same time.
        timeout: Seconds that a request may take, the reading of it included.
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
        max_request_bytes: int,
        metrics_path: str | None = None,
        cors: bool = False,
    ):
        self._service, self._timeout = service, timeout
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="rest")
        self._max_request_bytes = max_request_bytes
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

        return web.Server(
            self.handle, request_factory=request, access_log=None, handler_cancellation=True
        )

    async def handle(self, request: web.BaseRequest) -> web.Response:
        try:
            answer = await self._answer(request)
        except Failure as failure:
            answer = Answer(failure.http_status, json_tensors.write_error(failure.message))
        except web.HTTPRequestEntityTooLarge:
            message = f"The body has more than {self._max_request_bytes} bytes"
            answer = Answer(413, json_tensors.write_error(message))
        response = web.Response(
            status=answer.status,
            body=answer.body,
            content_type=answer.content_type,
            headers=self._headers,
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
        if request.method == "GET" and path == self._metrics_path:
            return Answer(200, self._service.metrics.text().encode(), "text/plain")
        if not path.lower().startswith("/v1/"):
            return Answer(404, NOT_FOUND_PAGE.encode(), "text/html")
        if request.method == "POST" and (match := PREDICTION.fullmatch(path)):
            return await self._predict(request, match)
        if request.method == "GET" and (match := STATUS.fullmatch(path)):
            return self._status(match)
        raise invalid(f"Malformed request: {request.method} {path}")

    async def _predict(self, request: web.BaseRequest, match: re.Match) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                body = await request.read()
        except TimeoutError as error:
            raise Failure(
                StatusCode.DEADLINE_EXCEEDED, f"No whole request within {self._timeout:.3g} s"
            ) from error
        if (spec := _spec(match)) is None:
            return Answer(400, b"")
        method = match["method"].lower()
        ask = {
            "predict": self._predicted,
            "classify": self._classified,
            "regress": self._regressed,
        }[method]
        asked = asyncio.get_running_loop().run_in_executor(
            self._threads,
            partial(
                self._service.answer,
                partial(ask, spec, body),
                spec.name,
                method,
                "REST",
                self._timeout,
            ),
        )
        try:
            async with asyncio.timeout(self._timeout):
                return Answer(200, await asked)
        except TimeoutError as error:
            raise Failure(
                StatusCode.DEADLINE_EXCEEDED, f"No answer within {self._timeout:.3g} s"
            ) from error

    def _predicted(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float | None) -> bytes:
        document = json_tensors.parse(body)
        name = json_tensors.signature_name(document)
        with self._service.manager.using(spec) as servable:
            definition = servable.signatures.get(name or "serving_default")
            if definition is None:
                raise Failure(
                    StatusCode.FAILED_PRECONDITION,
                    f'Serving signature name: "{name or "serving_default"}" not found in '
                    "signature def",
                )
            types = {key: tf.as_dtype(info.dtype) for key, info in definition.inputs.items()}
            if not types:
                raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
            inputs, by_row = json_tensors.read_predict(document, types)
            call = inference.predict_call(servable, name, inputs)
            outputs = self._service.run(servable, call, deadline)
        named = dict(zip(call.outputs, outputs, strict=True))
        return json_tensors.write_predictions(named, by_row)

    def _classified(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float | None) -> bytes:
        document = json_tensors.parse(body)
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        request.model_spec.signature_name = json_tensors.signature_name(document)
        request.input.CopyFrom(json_tensors.read_examples(document))
        return json_tensors.write_classifications(self._service.classify(request, deadline).result)

    def _regressed(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float | None) -> bytes:
        document = json_tensors.parse(body)
        request = regression_pb2.RegressionRequest(model_spec=spec)
        request.model_spec.signature_name = json_tensors.signature_name(document)
        request.input.CopyFrom(json_tensors.read_examples(document))
        return json_tensors.write_regressions(self._service.regress(request, deadline).result)

    def _status(self, match: re.Match) -> Answer:
        if not match["model"]:
            raise invalid("Missing model name in request.")
        if (spec := _spec(match)) is None:
            return Answer(400, b"")
        if match["metadata"]:
            asked = get_model_metadata_pb2.GetModelMetadataRequest(
                model_spec=spec, metadata_field=["signature_def"]
            )
            return Answer(200, _as_json(self._service.metadata(asked)))
        response = get_model_status_pb2.GetModelStatusResponse(
            model_version_status=self._service.manager.status(spec)
        )
        return Answer(200, _as_json(response))

    def _described(self) -> bytes:
        """The models for the playground: states, signatures and card of each."""
        models = []
        for name in self._service.manager.names():
            spec = model_pb2.ModelSpec(name=name)
            try:
                states = self._service.manager.status(spec)
            except Failure:
                states = []
            model: dict[str, Any] = {
                "name": name,
                "versions": [json_format.MessageToDict(s, **_JSON) for s in states],
                "signatures": {},
                "card": None,
            }
            try:
                with self._service.manager.using(spec) as servable:
                    model |= {"version": str(servable.version), **_card(servable)}
                    model["signatures"] = {
                        key: json_format.MessageToDict(definition, **_JSON)
                        for key, definition in servable.signatures.items()
                        if not key.startswith("__")
                    }
            except Failure:
                pass
            models.append(model)
        return json.dumps({"models": models}).encode()


_JSON = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}


def _as_json(message) -> bytes:
    return json_format.MessageToJson(message, indent=1, **_JSON).encode()


def _card(servable: Servable) -> dict:
    path = servable.path / "assets.extra" / "model_card.json"
    try:
        return {"card": json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError):
        return {"card": None}


def _spec(match: re.Match) -> model_pb2.ModelSpec | None:
    """The version that a path names; None if its number is beyond any version's."""
    spec = model_pb2.ModelSpec(name=match["model"])
    if match["label"]:
        spec.version_label = match["label"]
    if match["version"]:
        if int(match["version"][:20]) >= 2**63:
            return None
        spec.version.value = int(match["version"])
    return spec
