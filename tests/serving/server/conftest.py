"""Foreign SavedModels, and one server for all tests of the protocols."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from aiohttp import web
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from serving.server import grpc_api, process
from serving.server.flags import Flags
from serving.server.manager import Manager
from serving.server.metrics import Metrics
from serving.server.rest_api import RestApi
from serving.server.servable import Servable
from serving.server.service import Service
from tests.serving.server import foreign

ModelConfig: TypeAlias = model_server_config_pb2.ModelConfig


@pytest.fixture(scope="package", autouse=True)
def modules_stay():
    """As in a server, for the collector not to go through all of TensorFlow at each unload."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def half_path(tmp_path_factory) -> Path:
    return foreign.write_half_plus_two(tmp_path_factory.mktemp("half") / "base" / "00000123")


@pytest.fixture(scope="session")
def types_path(tmp_path_factory) -> Path:
    return foreign.write_types(tmp_path_factory.mktemp("types") / "base" / "1")


@pytest.fixture(scope="session")
def half(half_path) -> Servable:
    return foreign.load(half_path)


@pytest.fixture(scope="session")
def types(types_path) -> Servable:
    return foreign.load(types_path)


@dataclass
class Running:
    """A server on free ports."""

    service: Service
    source: process.Source
    grpc_port: int
    rest_port: int
    predict: Any
    models: Any
    channel: grpc.Channel


def model_config(name: str, base: Path) -> ModelConfig:
    return ModelConfig(name=name, base_path=str(base), model_platform="tensorflow")


@contextmanager
def rest_server(service: Service, **arguments) -> Iterator[int]:
    """Serves REST in a thread of its own and yields the port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start():
        defaults = {
            "num_threads": 8,
            "timeout": 20.0,
            "max_requests": 64,
            "max_request_bytes": 2**20,
        }
        api = RestApi(service, **{**defaults, **arguments})
        runner = web.ServerRunner(api.make_server(), shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield runner.addresses[0][1]
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="session")
def server(half_path, types_path, exported) -> Iterator[Running]:
    flags = Flags(model_base_path=half_path)
    manager = Manager(partial(process._load, flags, process._session_config(flags)), retries=0)
    models = {
        "half": model_config("half", half_path.parent),
        "types": model_config("types", types_path.parent),
        "tiny": model_config("tiny", exported),
    }
    models["half"].version_labels["stable"] = 123
    manager._allow_labels = True
    manager.configure(models)
    manager.wait()
    manager._allow_labels = False
    service = Service(manager, Metrics())
    source = process.Source(lambda: models, None)
    made, _ = grpc_api.make_server(
        service, partial(process._reload, source, manager), num_threads=8, max_requests=64
    )
    port = made.add_insecure_port("127.0.0.1:0")
    made.start()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with (
        rest_server(service, metrics_path="/monitoring/prometheus/metrics") as rest_port,
        grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel,
    ):
        yield Running(
            service,
            source,
            port,
            rest_port,
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
            channel,
        )
    made.stop(None).wait()
    manager.close()
