"""What hostile and unlucky clients must not do to the server."""

import concurrent.futures
import contextlib
import gzip
import json
import random
import shutil
import struct
import threading
import time
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import input_pb2

from benchmarks import serving_faults, serving_hostile
from serving import graph
from serving.server import inference, json_tensors
from serving.server.failure import Failure
from serving.server.image_size import ENDLESS, image_size
from serving.server.manager import Manager, ModelConfig
from serving.server.tensors import read_tensor
from tests.serving.conftest import encoded

LIMIT = 2**22
FLAGS = (
    f"--max_request_bytes={LIMIT}",
    "--max_requests=40",
    "--grpc_max_threads=2",
    "--rest_api_timeout_in_ms=3000",
)


@pytest.fixture(scope="module")
def process(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(exported, folder / "tiny")
    serving_faults.write_slow_model(folder / "slow" / "1")
    with serving_faults.serving(folder, "tiny", encoded(1)[0], *FLAGS) as process:
        yield process


@pytest.fixture
def server(process):
    """The server, which must answer a good request right after each test."""
    expected = process.server.good()
    yield process.server
    process.check()
    assert process.server.good() == expected


def slow_call(server, seconds: float, timeout: float = 10.0):
    request = serving_hostile.predict_pb2.PredictRequest()
    request.model_spec.name = "slow"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([seconds]))
    ask = server.channel.unary_unary(f"{serving_hostile.SERVICE}/Predict")
    return ask.future(request.SerializeToString(), timeout=timeout)


def slow_post(server, seconds: float) -> str:
    body = json.dumps({"inputs": [seconds]}).encode()
    return serving_hostile.post(server, body, path="/v1/models/slow:predict")


@pytest.mark.slow
def test_hundreds_of_hostile_requests_get_the_right_status(process, monkeypatch):
    monkeypatch.setattr(serving_hostile, "DRAWN", 100)
    outcomes = serving_faults.send_hostile(process, count=250, seed=0, every=25, workers=12)
    assert outcomes.faults == []
    assert set(outcomes.statuses) == set(serving_hostile.KINDS)


@pytest.mark.slow
def test_memory_stays_while_images_claim_gigabytes(process, server):
    before = process.peak
    for bomb in serving_hostile.bombs():
        assert serving_hostile.post(server, server.document(server.image, bomb)) == "400"
        assert serving_hostile.predict(server, server.request(bomb)) == "INVALID_ARGUMENT"
    assert process.peak < before + 100


@pytest.mark.slow
def test_many_images_must_not_unfold_to_more_than_one_may(server):
    image = serving_hostile.png(8000, 8000)
    assert serving_hostile.predict(server, server.request(image, image)) == "INVALID_ARGUMENT"


@pytest.mark.slow
def test_requests_over_the_limit_are_refused(server):
    big = b" " * (LIMIT + 1)
    assert serving_hostile.post(server, big) == "413"
    assert serving_hostile.post(server, gzip.compress(big), "Content-Encoding: gzip") == "413"
    assert serving_hostile.predict(server, server.request(big)) == "RESOURCE_EXHAUSTED"


@pytest.mark.slow
def test_endless_chunked_body_is_cut_off(server):
    assert serving_hostile.bodies_endless(random.Random(0), server) == "413"


@pytest.mark.slow
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"instances":['])
def test_json_of_depth_100000_is_a_bad_request(server, opening):
    assert serving_hostile.post(server, opening * 100_000) == "400"


@pytest.mark.slow
def test_wrong_rank_of_an_image_is_a_bad_request(server):
    document = {"signature_name": "from_pixels", "instances": [0.5, 0.5]}
    assert serving_hostile.post(server, json.dumps(document).encode()) == "400"


@pytest.mark.slow
def test_slow_client_gets_its_time_out_while_others_are_served(server):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = [
            pool.submit(serving_hostile.slow_body, random.Random(0), server),
            pool.submit(serving_hostile.slow_head, random.Random(0), server),
        ]
        for _ in range(5):
            assert serving_hostile.post(server, server.document(server.image)) == "200"
        assert not any(status.done() for status in slow)
        assert [status.result() for status in slow] == ["504", "closed"]


@pytest.mark.slow
def test_calls_without_a_message_do_not_hold_the_threads(server):
    """There are two threads here, and more calls than that."""
    done = threading.Event()

    def nothing():
        done.wait(60)
        yield from ()

    ask = server.channel.stream_unary(f"{serving_hostile.SERVICE}/Predict")
    calls = [ask.future(nothing()) for _ in range(4)]
    time.sleep(0.3)
    assert serving_hostile.predict(server, server.request(server.image)) == "OK"
    done.set()
    assert {call.code() for call in calls} == {grpc.StatusCode.UNIMPLEMENTED}


@pytest.mark.slow
def test_deadline_is_honoured(server):
    """Two are answered at a time, each in half a second."""
    calls = [slow_call(server, 0.5, timeout=1.2) for _ in range(8)]
    codes = [call.code().name for call in calls]
    assert codes.count("DEADLINE_EXCEEDED") >= 4
    assert set(codes) <= {"OK", "DEADLINE_EXCEEDED"}


@pytest.mark.slow
def test_requests_beyond_the_bound_are_refused_at_once(server):
    with concurrent.futures.ThreadPoolExecutor(80) as pool:
        statuses = list(pool.map(lambda _: slow_post(server, 0.05), range(80)))
    assert set(statuses) == {"200", "429"}
    calls = [slow_call(server, 0.05) for _ in range(80)]
    codes = [call.code().name for call in calls]
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}


@pytest.mark.slow
def test_body_is_requested_where_the_client_waits_to_send_it(server):
    request = serving_hostile.http("POST", server.path, b"", 5, ("Expect: 100-continue",))
    assert serving_hostile.exchange(server.rest, request) == "100"


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (serving_hostile.png(30, 20), (20, 30)),
        (serving_hostile.png(30, 20, first=b"\0\0\0\1juNkxabcd"), (20, 30)),
        (serving_hostile.jpeg(30, 20), (20, 30)),
        (serving_hostile.jpeg(30, 20, junk=b"\xff\xff\0 no marker \xff"), (20, 30)),
        (serving_hostile.gif(30, 20, frames=3), (60, 30)),
        (serving_hostile.bmp(30, -20) + bytes(1800), (20, 30)),
        (serving_hostile.bmp(9000, 9000), (0, 0)),
        (b"BMW recalls 12,000 cars over faulty airbags", (0, 0)),
        (serving_hostile.webp(30, 20), (20, 30)),
        (b"RIFF    WEBPVP8 " + bytes(10) + struct.pack("<HH", 30, 20), (20, 30)),
        (b"RIFF    WEBPVP8X" + bytes(8) + b"\x1d\0\0\x13\0\0" + b"ANMF" * 2, (40, 30)),
        (serving_hostile.jpeg_xl(30, 20), (20, 30)),
        (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\0jxlc" + serving_hostile.jpeg_xl(30, 20), (20, 30)),
        (b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0juNkabcd" * 2**17, ENDLESS),
        (b"\xff\xd8" + b"\xff\xe0\0\x02" * 2**17, ENDLESS),
        (b"GIF89a" + bytes(7) + b"\x21\xf9\0" * 2**17, ENDLESS),
        (b"GIF89a", (0, 0)),
        (b"BM", (0, 0)),
        (b"a text", (0, 0)),
        (b"", (0, 0)),
    ],
)
def test_size_of_an_image_is_read_as_tensorflow_reads_it(content, size):
    assert image_size(content) == size


def test_size_of_an_image_agrees_with_tensorflow():
    for content in (serving_hostile.png(30, 20), serving_hostile.jpeg(30, 20, junk=b"junk")):
        decoded = tf.io.decode_image(content, expand_animations=False)
        assert image_size(content) == tuple(decoded.shape[:2])
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.io.decode_image(serving_hostile.bmp(9000, 9000))


@pytest.mark.parametrize("sizes", [[2**40, 0], [2**25], [1] * 65, [2**62, 2**62]])
def test_shape_that_claims_more_than_is_sent_is_refused(sizes):
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    for size in sizes:
        proto.tensor_shape.dim.add().size = size
    with pytest.raises(Failure, match="tensor parsing error"):
        read_tensor("x", proto, inference.LARGEST_TENSOR)


def test_half_precision_is_cut_to_its_bits():
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_HALF, half_val=[2**16 + 0x3C00, -1])
    proto.tensor_shape.dim.add().size = 2
    values = read_tensor("x", proto, 10)
    assert values[0] == 1 and np.isnan(values[1])


def test_context_for_many_examples_is_bounded():
    examples = input_pb2.Input()
    kept = examples.example_list_with_context
    kept.context.features.feature["x"].bytes_list.value.append(bytes(2**20))
    for _ in range(2**10):
        kept.examples.add()
    with pytest.raises(Failure, match="A context of"):
        inference.serialized(examples)


def test_error_quotes_the_beginning_of_a_large_document_quickly():
    document = {"instances": {"x": [1.5] * 10**6}}
    begin = time.monotonic()
    with pytest.raises(Failure) as caught:
        json_tensors.read_predict(document, {"x": tf.float32})
    assert time.monotonic() - begin < 0.1
    assert len(caught.value.message) < 700


def test_lists_are_nested_no_deeper_than_arrays():
    value: list = [1.0]
    for _ in range(64):
        value = [value]
    with pytest.raises(Failure, match="65 deep"):
        json_tensors.to_array(value, tf.float32)


def test_operations_with_a_layout_are_known(exported):
    operations = graph.operations(graph.read(exported / "1"))
    assert graph.have_layouts(operations)
    assert not graph.have_layouts(["Add", "MatMul", "NoSuchOperation"])


def manager_of(tmp_path, load):
    manager = Manager(load, retries=1000, retry_interval=0.01)
    config = ModelConfig(name="m", base_path=str(tmp_path))
    (tmp_path / "1").mkdir()
    return manager, config


def test_version_that_was_deleted_before_it_was_loaded_is_given_up(tmp_path):
    tries = []

    def load(name, number, path):
        tries.append(number)
        if number == 1:
            raise FileNotFoundError("gone")
        return SimpleNamespace(name=name, version=number, close=lambda: None)

    manager, config = manager_of(tmp_path, load)
    manager.configure({"m": config})
    with contextlib.closing(manager):
        (tmp_path / "1").rmdir()
        (tmp_path / "2").mkdir()
        manager.look()
        manager.wait()
        count = tries.count(1)
        time.sleep(0.1)
        assert tries.count(1) <= count + 1


def test_path_that_cannot_be_does_not_keep_others_from_loading(tmp_path):
    manager, config = manager_of(
        tmp_path, lambda *given: SimpleNamespace(name="m", version=1, close=lambda: None)
    )
    with contextlib.closing(manager):
        manager.configure({"bad": ModelConfig(name="bad", base_path="/a\0b"), "m": config})
        manager.wait(["m"])


def test_waiting_for_a_model_ends_when_nobody_wants_to_know(tmp_path):
    manager, _ = manager_of(tmp_path, lambda *given: None)
    with contextlib.closing(manager):
        manager.configure({"m": ModelConfig(name="m", base_path=str(tmp_path / "missing"))})
        with pytest.raises(Failure, match="CANCELLED"):
            manager.wait(["m"], lambda: False)
