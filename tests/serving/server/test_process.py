import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.server import grpc_api, process
from serving.server.batching import Batching
from serving.server.failure import Failure
from serving.server.flags import Flags
from serving.server.service import Service
from tests.serving.ports import free_port
from tests.serving.server.conftest import model_config
from tests.serving.server.test_manager import World
from tests.serving.server.test_rest_api import ask

ROOT = Path(__file__).parents[3]
ModelServerConfig: TypeAlias = model_server_config_pb2.ModelServerConfig


# What is served.


def add(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)


def test_every_sub_folder_with_versions_is_a_model(tmp_path):
    add(tmp_path, "a/1", "b/00000002", "none/latest", ".hidden/1")
    (tmp_path / "file").touch()
    source = process._source(Flags(folder=tmp_path))
    assert source() == {
        "a": model_config("a", tmp_path / "a"),
        "b": model_config("b", tmp_path / "b"),
    }
    assert source.seconds == 1


def test_models_that_appear_later_and_vanish_are_noticed(tmp_path):
    add(tmp_path, "a/1")
    source = process._source(Flags(folder=tmp_path))
    add(tmp_path, "b/1")
    assert source().keys() == {"a", "b"}
    (tmp_path / "a").rename(tmp_path / ".a")
    assert source().keys() == {"b"}


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_models_is_reported(tmp_path, folder):
    add(tmp_path, "empty")
    with pytest.raises(FileNotFoundError, match="`folder` must"):
        process._source(Flags(folder=tmp_path / folder))()


def test_one_model_need_not_be_there_yet(tmp_path):
    source = process._source(Flags(model_base_path=tmp_path / "missing", model_name="m"))
    assert source() == {"m": model_config("m", tmp_path / "missing")}
    assert source.seconds is None


def test_a_list_of_models_is_read_again_if_that_is_wanted(tmp_path):
    path = tmp_path / "models.config"
    text = 'model_config_list {{ config {{ name: "{}" base_path: "/m" }} }}'
    path.write_text(text.format("a"))
    flags = Flags(model_config_file=path, model_config_file_poll_wait_seconds=7)
    source = process._source(flags)
    assert source().keys() == {"a"}
    path.write_text(text.format("b"))
    assert source().keys() == {"b"}
    assert source.seconds == 7
    source.replace({})
    assert source() == {}
    assert source.seconds is None


def config(**fields) -> ModelServerConfig:
    values = {"name": "m", "base_path": "/m", "model_platform": "tensorflow", **fields}
    made = ModelServerConfig()
    made.model_config_list.config.add(**values)
    return made


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base_path": "m"}, "Expected model m to have an absolute path or URI; got base_path()=m"),
        ({"base_path": ""}, "Expected model m to have an absolute path or URI"),
        ({"model_platform": "torch"}, "torch"),
        ({"name": ""}, "Illegal to list model"),
    ],
    ids=str,
)
def test_bad_models_in_a_list_are_refused(fields, message):
    with pytest.raises(Failure) as caught:
        process.checked(config(**fields))
    assert message in caught.value.message


def test_a_model_is_listed_once():
    twice = config()
    twice.model_config_list.config.append(twice.model_config_list.config[0])
    with pytest.raises(Failure, match="Illegal to list model m multiple times in config list"):
        process.checked(twice)


def test_custom_configs_are_refused():
    custom = ModelServerConfig()
    custom.custom_model_config.SetInParent()
    with pytest.raises(Failure, match="custom model config"):
        process.checked(custom)


# Looking again and again.


class Looks:
    """In place of the event that ends the watching: it ends after so many looks."""

    def __init__(self, count: int):
        self.left = count

    def wait(self, seconds: float) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.manager.close()


def test_models_and_versions_that_appear_in_a_folder_are_served(world):
    world.add(1, "a")
    flags = Flags(folder=world.folder)
    source = process._source(flags)
    world.manager.configure(source())
    world.manager.wait()
    world.add(2, "a")
    world.add(1, "b")
    process._watch(flags, source, world.manager, Looks(1))
    world.until_states({1: "END", 2: "AVAILABLE"}, "a")
    world.until_states({1: "AVAILABLE"}, "b")
    (world.folder / "a").rename(world.folder / ".a")
    process._watch(flags, source, world.manager, Looks(1))
    world.until_states({1: "END", 2: "END"}, "a")
    assert world.manager.names() == ["b"]


def test_a_list_that_cannot_be_read_changes_nothing(world, caplog):
    world.add(1)
    path = world.folder / "models.config"
    text = f'model_config_list {{ config {{ name: "m" base_path: "{world.folder / "m"}" }} }}'
    path.write_text(text)
    flags = Flags(model_config_file=path, model_config_file_poll_wait_seconds=2)
    source = process._source(flags)
    world.manager.configure(source())
    world.manager.wait()
    path.write_text("model_config_list { config {")
    process._watch(flags, source, world.manager, Looks(2))
    assert "Configuration not changed" in caplog.text
    assert world.served() == 1
    # New versions are looked for all the same.
    world.add(2)
    process._watch(flags, source, world.manager, Looks(2))
    world.until_states({1: "END", 2: "AVAILABLE"})
    path.write_text(text + " # the same")
    process._watch(flags, source, world.manager, Looks(4))
    assert world.loads == [("m", 1), ("m", 2)]
    path.write_text("model_config_list {}")
    # The list is looked at every second second only.
    process._watch(flags, source, world.manager, Looks(1))
    assert world.served() == 2
    process._watch(flags, source, world.manager, Looks(2))
    assert world.manager.names() == []


def test_a_negative_wait_looks_at_no_folders(world):
    world.add(1, "a")
    flags = Flags(folder=world.folder, file_system_poll_wait_seconds=-1)
    waits = []

    class Waits(Looks):
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            return super().wait(seconds)

    process._watch(flags, process._source(flags), world.manager, Waits(2))
    assert waits == [1, 1, 1] and not world.loads


# Warmup.


def write_warmup(version: Path, *values: float, count: int = 1) -> None:
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    log = prediction_log_pb2.PredictionLog()
    array = np.array(values, np.float32).reshape(-1, 1)
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(array))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(count):
            writer.write(log.SerializeToString())


@pytest.fixture
def version(tmp_path, half_path) -> Path:
    """A copy of a version, for warmup requests to be added."""
    path = tmp_path / "base" / "1"
    path.mkdir(parents=True)
    for name in ("saved_model.pb", "variables"):
        (path / name).symlink_to(half_path / name)
    return path


def load(version: Path, **flags):
    made = Flags(model_base_path=version.parent, **flags)
    return process._load(made, process._session_config(made), "m", 1, version)


def test_warmup_requests_are_answered_before_a_version_is_served(version, monkeypatch):
    write_warmup(version, 1.0, 2.0, count=3)
    replayed = []
    replay = process.inference.replay
    monkeypatch.setattr(
        process.inference, "replay", lambda *args: (replayed.append(args), replay(*args))
    )
    load(version).close()
    assert len(replayed) == 3
    load(version, enable_model_warmup=False).close()
    assert len(replayed) == 3


def test_a_warmup_request_that_fails_fails_the_load(version):
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "unknown"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(log.SerializeToString())
    with pytest.raises(Failure, match='Serving signature key "unknown" not found'):
        load(version)
    path.write_bytes(b"no records, but as long as their head")
    with pytest.raises(tf.errors.DataLossError):
        load(version)


def test_more_warmup_requests_than_allowed_fail_the_load(version, monkeypatch):
    write_warmup(version, 1.0, count=3)
    monkeypatch.setattr(process, "MAX_WARMUP_RECORDS", 2)
    with pytest.raises(Failure, match="Number of warmup records exceeds the maximum"):
        load(version)


def test_what_xla_compiles_is_served_only_with_the_flag(tmp_path):
    module = tf.Module()
    spec = tf.TensorSpec((None,), name="x")
    module.core = tf.function(lambda x: 2 * x, [spec], jit_compile=True)
    module.whole = tf.function(lambda x: {"y": module.core(x)}, [spec])
    version = tmp_path / "base" / "1"
    tf.saved_model.save(module, str(version), {"serving_default": module.whole})
    with pytest.raises(Failure, match=f"{version} has .* --xla_cpu_compilation_enabled$"):
        load(version)
    servable = load(version, xla_cpu_compilation_enabled=True)
    (found,) = servable.run("serving_default", {"x": np.array([1.5], "float32")}, ["y"])
    servable.close()
    assert found.tolist() == [3.0]


# What the flags say.


def test_batching_is_read_from_its_file(tmp_path):
    path = tmp_path / "batching.config"
    path.write_text("max_batch_size { value: 4 } num_batch_threads { value: 1 }")
    flags = {"model_base_path": tmp_path, "enable_batching": True}
    assert process._batching(Flags(model_base_path=tmp_path)) is None
    assert process._batching(Flags(**flags)) == Batching(num_threads=os.cpu_count() or 1)
    found = process._batching(Flags(**flags, batching_parameters_file=path))
    assert found == Batching(max_batch_size=4, num_threads=1)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true path: "/m" }', "/m"),
        ('prometheus_config { path: "/m" }', None),
    ],
)
def test_metrics_are_where_the_file_says(tmp_path, text, path):
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    flags = Flags(model_base_path=tmp_path, monitoring_config_file=file)
    assert process._metrics_path(flags) == path
    assert process._metrics_path(Flags(model_base_path=tmp_path)) is None


# Ports.

# Made by `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500
# -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1`; it guards nothing.
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgXrqHyD2alBPaJ1/y
Boe1GdjWxs34jMK7RHYvrawrXrihRANCAAQ2KurO9+VoM5RFGeiKurs03RNRqcKB
SWZkOCg/WKKSZA9jyB//Ia/+HDzYDJ4HPgFGndjctWmYf6kjBLMHRcO7
-----END PRIVATE KEY-----
"""
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUU+ajllV3wK0pFCeIjLeCg1vstvEwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTE1NTMyNFoYDzIxMjYxMTAx
MTU1MzI0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQ2KurO9+VoM5RFGeiKurs03RNRqcKBSWZkOCg/WKKSZA9jyB//Ia/+
HDzYDJ4HPgFGndjctWmYf6kjBLMHRcO7o28wbTAdBgNVHQ4EFgQUvyYydMUBBlLi
bmbL57Nxkr5SZ3YwHwYDVR0jBBgwFoAUvyYydMUBBlLibmbL57Nxkr5SZ3YwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAItyMZ3xIq6/vjA12fEEn0cC2n2HQZvZMR89D2fAKHkSAiA2
JggZW1FqXDK1FwlK0+QqwkdBvwrCHxstZY+EiqwiCw==
-----END CERTIFICATE-----
"""


@contextlib.contextmanager
def listening(service: Service, flags: Flags) -> Iterator[None]:
    server, _ = grpc_api.make_server(
        service, print, num_threads=1, max_requests=4, max_message_bytes=2**20
    )
    process._open_ports(server, flags)
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()


def half_of_one(channel: grpc.Channel) -> float:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([[1]], np.float32)))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return stub.Predict(request, timeout=20).outputs["y"].float_val[0]


def with_tls(folder: Path, **more: str) -> Flags:
    file = folder / "ssl.config"
    fields = {"server_key": json.dumps(KEY), "server_cert": json.dumps(CERTIFICATE), **more}
    file.write_text("\n".join(f"{name}: {value}" for name, value in fields.items()))
    return Flags(model_base_path=folder, port=free_port(), ssl_config_file=file)


def test_with_a_certificate_the_port_speaks_tls_alone(server, tmp_path):
    flags = with_tls(tmp_path)
    trusting = grpc.ssl_channel_credentials(CERTIFICATE.encode())
    address = f"localhost:{flags.port}"
    with listening(server.service, flags):
        with grpc.secure_channel(address, trusting) as channel:
            assert half_of_one(channel) == 2.5
        for channel in (
            grpc.insecure_channel(address),
            # Knows none of the authorities that signed it.
            grpc.secure_channel(address, grpc.ssl_channel_credentials()),
        ):
            with channel, pytest.raises(grpc.RpcError) as caught:
                half_of_one(channel)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_clients_show_a_certificate_if_the_server_wants_one(server, tmp_path):
    flags = with_tls(tmp_path, client_verify="true", custom_ca=json.dumps(CERTIFICATE))
    certificate = CERTIFICATE.encode()
    known = grpc.ssl_channel_credentials(certificate, KEY.encode(), certificate)
    unknown = grpc.ssl_channel_credentials(certificate)
    address = f"localhost:{flags.port}"
    with listening(server.service, flags):
        with grpc.secure_channel(address, known) as channel:
            assert half_of_one(channel) == 2.5
        with grpc.secure_channel(address, unknown) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                half_of_one(channel)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_the_socket_of_a_path_answers_beside_the_port(server, tmp_path):
    path = tmp_path / "socket"
    flags = Flags(model_base_path=tmp_path, port=free_port(), grpc_socket_path=str(path))
    with listening(server.service, flags):
        for address in (f"unix:{path}", f"127.0.0.1:{flags.port}"):
            with grpc.insecure_channel(address) as channel:
                assert half_of_one(channel) == 2.5


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize(("host", "clients"), [("::1", ["[::1]"]), ("::", ["[::1]", "127.0.0.1"])])
def test_both_protocols_listen_at_an_address_of_ipv6(server, tmp_path, host, clients, capfd):
    ports = {"port": free_port(), "rest_api_port": free_port()}
    flags = Flags(model_base_path=tmp_path, host=host, **ports)

    async def statuses() -> list[int]:
        runner = await process._start_rest(flags, server.service)
        try:
            return [await asyncio.to_thread(status, client) for client in clients]
        finally:
            if runner:
                await runner.cleanup()

    def status(client: str) -> int:
        connection = http.client.HTTPConnection(f"{client}:{flags.rest_api_port}", timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", "/v1/models/half")
            return connection.getresponse().status

    assert asyncio.run(statuses()) == [200] * len(clients)
    with listening(server.service, flags):
        for client in clients:
            with grpc.insecure_channel(f"{client}:{flags.port}") as channel:
                assert half_of_one(channel) == 2.5
    printed = capfd.readouterr().out
    assert f"gRPC at [{host}]:{flags.port}\n" in printed
    assert f"at http://[{host}]:{flags.rest_api_port}/\n" in printed


# From the command to the exit status.


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "serving", "serve", *arguments],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until_serving(server: subprocess.Popen) -> str:
    lines = []
    for line in server.stdout or ():
        lines.append(line)
        if line.startswith("Serving "):
            return "".join(lines)
    raise AssertionError("".join(lines))


@pytest.mark.slow
def test_sigterm_lets_requests_in_flight_be_answered_and_refuses_new_ones(half_path, tmp_path):
    ports = free_port(), free_port()
    file = tmp_path / "batching.config"
    # The second that a request waits for others is the time in which the signal comes.
    file.write_text("batch_timeout_micros { value: 2000000 }")
    server = start(
        f"--port={ports[0]}",
        "--rest_api_port",
        str(ports[1]),
        f"--model_base_path={half_path.parent}",
        "--model_name=half",
        "--enable_batching",
        f"--batching_parameters_file={file}",
        "--enable_model_warmup=false",
    )
    try:
        printed = until_serving(server)
        assert f"gRPC at 127.0.0.1:{ports[0]}" in printed
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([[1]], np.float32)))
        answers = []
        watching = grpc.insecure_channel(f"127.0.0.1:{ports[0]}")
        watch = health_pb2_grpc.HealthStub(watching).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

        def rest():
            body = '{"instances": [{"x": [3]}], "signature_name": "serving_default"}'
            answers.append(ask(ports[1], "POST", "/v1/models/half:predict", body)[:2])

        with grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            flying = stub.Predict.future(request, timeout=30)
            thread = threading.Thread(target=rest)
            thread.start()
            time.sleep(0.7)
            assert not flying.done()
            server.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(request, timeout=10)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            with pytest.raises(ConnectionError):
                ask(ports[1], "GET", "/v1/models/half")
            assert flying.result().outputs["y"].float_val == [2.5]
            thread.join(30)
        assert answers == [(200, '{\n    "predictions": [[3.5]\n    ]\n}')]
        # A balancer that watches the health holds up nothing.
        assert server.wait(30) == 0
        watching.close()
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize("which", ["port", "rest_api_port"])
def test_a_port_that_is_taken_ends_the_server(half_path, which):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"port": free_port(), "rest_api_port": 0, which: port}
        flags = Flags(model_base_path=half_path.parent, **ports)
        with pytest.raises(OSError, match=str(port)):
            asyncio.run(process._serve(flags))


def test_a_model_that_does_not_load_ends_the_server(tmp_path):
    add(tmp_path, "m/1")
    flags = Flags(
        model_base_path=tmp_path / "m",
        model_name="m",
        port=free_port(),
        rest_api_port=0,
        max_num_load_retries=0,
    )
    with pytest.raises(Failure, match=r"1 servable\(s\) did not become available: {m version 1: "):
        asyncio.run(process._serve(flags))
