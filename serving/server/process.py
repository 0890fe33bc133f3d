"""The server's process: from flags to open ports, and its orderly end."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import grpc
import tensorflow as tf
from aiohttp import web
from grpc import StatusCode
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.server import grpc_api, inference, protos
from serving.server.batching import Batching
from serving.server.failure import Failure, invalid
from serving.server.flags import Flags
from serving.server.manager import Manager, Models
from serving.server.metrics import Metrics
from serving.server.rest_api import RestApi
from serving.server.servable import Servable
from serving.server.service import Service
from serving.versions import numbered

log = logging.getLogger(__name__)

PLATFORM = "tensorflow"
MAX_WARMUP_RECORDS = 1000
DRAIN_SECONDS = 60.0

ModelConfig: TypeAlias = model_server_config_pb2.ModelConfig
ModelServerConfig: TypeAlias = model_server_config_pb2.ModelServerConfig


def main(flags: Flags) -> int:
    """Serves until SIGTERM or Ctrl-C; returns the process' exit status."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    # Both write a traceback if a client sends anything but HTTP or a message.
    for name in ("aiohttp", "grpc._common"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    tf.get_logger().setLevel("ERROR")
    # Each connection is a file, and many systems allow 1024 unless more are requested.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # The modules stay: going through them takes the collector half a second, in which nobody is
    # answered. Graphs come later and go again.
    gc.collect()
    gc.freeze()
    try:
        asyncio.run(_serve(flags))
    except (Failure, ValueError, OSError) as error:
        print(error.message if isinstance(error, Failure) else error, file=sys.stderr, flush=True)
        return 1
    return 0


async def _serve(flags: Flags) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    source = _source(flags)
    manager = Manager(
        partial(_load, flags, _session_config(flags)),
        retries=flags.max_num_load_retries,
        retry_interval=flags.load_retry_interval_micros / 1e6,
        allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
    )
    service = Service(
        manager,
        Metrics(),
        batching=_batching(flags),
        max_requests=flags.max_requests,
        max_image_pixels=flags.max_image_pixels,
    )
    ended = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(flags, source, manager, ended), name="watch", daemon=True
    )
    try:
        # An error in reading the source ends the start; later errors are only logged.
        manager.configure(source())
        watcher.start()
        if not await _or_stopped(asyncio.to_thread(manager.wait), stop):
            return
        await _answer_until(stop, flags, service, source)
    finally:
        ended.set()
        await asyncio.to_thread(manager.close)


async def _answer_until(
    stop: asyncio.Event, flags: Flags, service: Service, source: "Source"
) -> None:
    server, health = grpc_api.make_server(
        service,
        partial(_reload, source, service.manager),
        num_threads=flags.grpc_max_threads,
        max_requests=flags.max_requests,
        max_message_bytes=min(flags.max_request_bytes, grpc_api.LARGEST_MESSAGE),
    )
    _open_ports(server, flags)
    server.start()
    try:
        runner = await _start_rest(flags, service)
    except BaseException:
        server.stop(None)
        raise
    for name in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
        health.set(name, grpc_api.SERVING)
    print(f"Serving {', '.join(service.manager.names())}; Ctrl-C ends it", flush=True)
    await stop.wait()
    log.info("Ending: %d requests in flight are answered, new ones refused", service.requests)
    health.enter_graceful_shutdown()
    ended = server.stop(DRAIN_SECONDS)
    if runner:
        await runner.cleanup()
    # The end does not wait for health watches, or for a reload that waits for models.
    while service.requests and not ended.is_set():
        await asyncio.sleep(0.1)
    server.stop(1)
    await asyncio.to_thread(ended.wait)


def _open_ports(server: grpc.Server, flags: Flags) -> None:
    address = f"{_in_url(flags.host)}:{flags.port}"
    try:
        if flags.port and flags.ssl_config_file:
            config = protos.read_text(flags.ssl_config_file, protos.SSLConfig())
            server.add_secure_port(address, grpc_api.credentials(config))
        elif flags.port:
            server.add_insecure_port(address)
        if flags.grpc_socket_path:
            server.add_insecure_port(f"unix:{flags.grpc_socket_path}")
    # That is how gRPC says that a port is taken.
    except RuntimeError as error:
        raise OSError(f"Cannot listen for gRPC: {error}") from error
    if flags.port:
        print(f"gRPC at {address}", flush=True)


async def _start_rest(flags: Flags, service: Service) -> web.ServerRunner | None:
    if not flags.rest_api_port:
        return None
    api = RestApi(
        service,
        num_threads=flags.grpc_max_threads,
        timeout=flags.rest_api_timeout_in_ms / 1000,
        max_requests=flags.max_requests,
        max_request_bytes=flags.max_request_bytes,
        metrics_path=_metrics_path(flags),
        cors=flags.rest_api_enable_cors_support,
    )
    runner = web.ServerRunner(api.make_server(), shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    site: web.BaseSite = web.TCPSite(runner, flags.host, flags.rest_api_port)
    if flags.host == "::" and socket.has_dualstack_ipv6():
        # As gRPC does, but not asyncio: for IPv4, too.
        address = (flags.host, flags.rest_api_port)
        both = socket.create_server(address, family=socket.AF_INET6, dualstack_ipv6=True)
        site = web.SockSite(runner, both)
    await site.start()
    print(f"REST and playground at http://{_in_url(flags.host)}:{flags.rest_api_port}/", flush=True)
    return runner


def _in_url(host: str) -> str:
    """Puts an IPv6 address in brackets, without which its colons would run into the port's."""
    return f"[{host}]" if ":" in host else host


async def _or_stopped(work, stop: asyncio.Event) -> bool:
    """Waits for work, or for the signal to stop, and says whether the work was done."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    done = tasks[0].done()
    for task in tasks:
        task.cancel()
    if done:
        tasks[0].result()
    return done


# The list of models.


class Source:
    """Where the list of models comes from; a reload by a client replaces it.

    Args:
        read: Returns the list as it is now.
        seconds: Between two looks at it; None for one look at the start.
    """

    def __init__(self, read: Callable[[], Models], seconds: float | None):
        self._read, self.seconds = read, seconds
        # Held from reading the list until it is taken over.
        self.lock = threading.Lock()

    def __call__(self) -> Models:
        return self._read()

    def replace(self, models: Models) -> None:
        self._read, self.seconds = lambda: models, None


def _source(flags: Flags) -> Source:
    if flags.model_config_file:
        seconds = flags.model_config_file_poll_wait_seconds
        return Source(partial(_from_file, flags.model_config_file), _waits(seconds))
    if flags.model_base_path:
        config = ModelConfig(
            name=flags.model_name,
            base_path=str(flags.model_base_path.resolve()),
            model_platform=PLATFORM,
        )
        return Source(lambda: {config.name: config}, None)
    seconds = flags.file_system_poll_wait_seconds
    return Source(partial(_from_folder, flags.folder), _waits(seconds))


def _waits(seconds: float) -> float | None:
    """Values of at most 0 mean never."""
    return seconds if seconds > 0 else None


def _from_file(path: Path) -> Models:
    return checked(protos.read_text(path, ModelServerConfig()))


def _from_folder(folder: Path | None) -> Models:
    """Every sub-folder with versions in it is a model."""
    if folder is None or not folder.is_dir():
        raise FileNotFoundError(f"`folder` must be a folder of models. Received: folder={folder}")
    models = {
        path.name: ModelConfig(
            name=path.name, base_path=str(path.resolve()), model_platform=PLATFORM
        )
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".") and numbered(path)
    }
    if not models:
        raise FileNotFoundError(
            "`folder` must hold models, folders with numbered versions (1, 2, ...) in them; for "
            f"the versions of one model use `--model_base_path`. Received: folder={folder}"
        )
    return models


def checked(config: ModelServerConfig) -> Models:
    """Returns the models of a ModelServerConfig by name.

    Raises:
        Failure: A name comes twice, a path is relative, a platform unknown.
    """
    models: dict[str, ModelConfig] = {}
    if config.WhichOneof("config") == "custom_model_config":
        raise invalid("ModelServer does not yet support custom model config.")
    for model in config.model_config_list.config:
        if not model.name or model.name in models:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        if "://" not in model.base_path and not model.base_path.startswith("/"):
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()="
                f"{model.base_path}"
            )
        if model.model_platform not in (PLATFORM, ""):
            raise invalid(f"Unknown model platform {model.model_platform} of model {model.name}")
        models[model.name] = model
    return models


def _watch(flags: Flags, source: Source, manager: Manager, ended: threading.Event) -> None:
    """Looks at folders, and at the list of models, again and again."""
    seconds = _waits(flags.file_system_poll_wait_seconds)
    since = 0.0
    while not ended.wait(seconds or 1):
        since += seconds or 1
        try:
            if source.seconds and since >= source.seconds:
                since = 0.0
                with source.lock:
                    models = source()
                    if models != manager.configs():
                        manager.configure(models)
        # Files may be half written; the server continues with its models.
        except Exception as error:
            log.error("Configuration not changed: %s", error)
        if seconds:
            try:
                manager.look()
            except Exception as error:
                log.error("Folders not checked: %s", error)


def _reload(
    source: Source, manager: Manager, config: ModelServerConfig, is_awaited: Callable[[], bool]
) -> None:
    """Replaces the list of models and returns when each has an available version."""
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported"
        )
    models = checked(config)
    with source.lock:
        known = manager.configs()
        for name, model in models.items():
            if name in known and known[name].model_platform != model.model_platform:
                raise invalid(f"Illegal to change a model's platform. For model {name}")
        manager.configure(models)
        source.replace(models)
    manager.wait(list(models), is_awaited)


def _load(
    flags: Flags, session: tf.compat.v1.ConfigProto, name: str, version: int, path: Path
) -> Servable:
    servable = Servable(name, version, path, session)
    try:
        if servable.is_compiled and not flags.xla_cpu_compilation_enabled:
            raise Failure(
                StatusCode.FAILED_PRECONDITION,
                f"{path} has functions that XLA compiles, as --compile-export makes them. "
                "Fix: serve it with --xla_cpu_compilation_enabled",
            )
        if flags.enable_model_warmup:
            _warm_up(servable)
    except BaseException:
        servable.close()
        raise
    return servable


def _warm_up(servable: Servable) -> None:
    path = servable.warmup_path
    if not path.is_file():
        return
    records = tf.compat.v1.io.tf_record_iterator(str(path))
    for number, record in enumerate(records, start=1):
        if number > MAX_WARMUP_RECORDS:
            raise invalid(
                f"Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS}) at {path}"
            )
        inference.replay(servable, prediction_log_pb2.PredictionLog.FromString(record))


# Settings from the flags.


def _session_config(flags: Flags) -> tf.compat.v1.ConfigProto:
    return tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=flags.tensorflow_intra_op_parallelism,
        inter_op_parallelism_threads=flags.tensorflow_inter_op_parallelism,
        allow_soft_placement=True,
    )


def _batching(flags: Flags) -> Batching | None:
    if not flags.enable_batching:
        return None
    message = protos.BatchingParameters()
    if flags.batching_parameters_file:
        protos.read_text(flags.batching_parameters_file, message)
    return Batching.from_proto(message, num_threads=os.cpu_count() or 1)


def _metrics_path(flags: Flags) -> str | None:
    if not flags.monitoring_config_file:
        return None
    config = protos.read_text(flags.monitoring_config_file, protos.MonitoringConfig())
    if not config.prometheus_config.enable:
        return None
    return config.prometheus_config.path or "/monitoring/prometheus/metrics"
