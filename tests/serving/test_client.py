"""The client gives the same answers over gRPC, over REST and from a folder."""

import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import error_codes_pb2, meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
)

from serving.client import Client, ServingError, TensorSpec, VersionStatus, wire
from serving.client.arrays import as_array
from serving.client.folders import models
from serving.client.rest_target import from_json
from tests.serving.conftest import ROOT, encoded, free_ports, save_echo

TARGETS = ("grpc", "rest", "folder")


@pytest.fixture(params=TARGETS)
def client(request, server):
    with Client(getattr(server, request.param)) as made:
        yield made


def assert_same(outputs, expected):
    assert outputs.keys() == expected.keys()
    for name, array in expected.items():
        assert outputs[name].dtype == array.dtype, name
        assert outputs[name].shape == array.shape, name
        np.testing.assert_array_equal(outputs[name], array, err_msg=name)


def texts(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


RANDOM = np.random.default_rng(0)
EVERY_TYPE: dict[str, np.ndarray] = {
    "real": np.array(
        [0.1, 1e-45, 3.4028235e38, 16777217, np.nan, np.inf, -np.inf, -0.0], np.float32
    ),
    "double": np.array([0.1, 5e-324, 1.7976931348623157e308, 2**53 + 1, np.nan]),
    "flag": np.array([[True], [False]]),
    "int8": np.array([-128, 127], np.int8),
    "int16": np.array([-(2**15), 2**15 - 1], np.int16),
    "int32": np.array([-(2**31), 2**31 - 1], np.int32),
    "int64": np.array([-(2**63), 2**63 - 1], np.int64),
    "uint8": np.array([0, 255], np.uint8),
    "uint32": np.array([0, 2**32 - 1], np.uint32),
    "uint64": np.array([0, 2**64 - 1], np.uint64),
    "text": texts("Grüße 你好 🙂".encode(), b"", b'a "quoted"\n\x00 line', b"\xff\x00\x00"),
    "text_bytes": texts(b"\x89PNG\x00\x00", b""),
}
SCALARS = {name: np.array(values.ravel()[0], values.dtype) for name, values in EVERY_TYPE.items()}
MATRICES = {name: np.resize(values, (2, 3, 2)) for name, values in EVERY_TYPE.items()}
EMPTY = {name: values[:0].reshape(0) for name, values in EVERY_TYPE.items()}


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param(EVERY_TYPE, id="vectors"),
        pytest.param(SCALARS, id="scalars"),
        pytest.param(MATRICES, id="matrices"),
        pytest.param(EMPTY, id="empty"),
    ],
)
def test_every_type_comes_back_as_it_was(client, inputs):
    assert_same(client.predict("echo", inputs, signature="all"), inputs)


def test_random_floats_come_back_bit_for_bit(client):
    bits = RANDOM.integers(0, 2**32, 2000, np.uint32)
    floats = bits.view(np.float32)
    inputs = {**EVERY_TYPE, "real": floats[np.isfinite(floats)]}
    answer = client.predict("echo", inputs, signature="all")["real"]
    np.testing.assert_array_equal(answer.view(np.uint32), inputs["real"].view(np.uint32))


def test_an_image_is_classified_alike_by_all_three(server):
    images = encoded(3)
    answers = []
    for name in TARGETS:
        with Client(getattr(server, name)) as client:
            answers.append(client.predict("tiny", image_bytes=images))
    assert answers[0]["classes"].shape == (3, 2)
    assert answers[0]["scores"].dtype == np.float32
    for answer in answers[1:]:
        assert_same(answer, answers[0])


def test_values_take_the_type_of_the_signature(client):
    answer = client.predict("echo", signature="pairs", x=[[1, 2.5], [3, True]])
    assert_same(answer, {"y": np.array([[2, 5], [6, 2]], np.float32)})
    answer = client.predict("echo", text=["ä", b"bc"])
    assert_same(answer, {"length": np.array([2, 2], np.int32), "upper": texts("ä".encode(), b"BC")})


def test_an_empty_batch_keeps_the_shape_of_its_examples(server):
    for name in ("grpc", "folder"):
        with Client(getattr(server, name)) as client:
            assert client.predict("echo", signature="pairs", x=np.ones((0, 2)))["y"].shape == (0, 2)
    # JSON has no empty list of pairs, and the model takes the empty list all the same.
    with Client(server.rest) as client:
        assert client.predict("echo", signature="pairs", x=np.ones((0, 2)))["y"].shape == (0, 2)


OTHERS: dict[str, np.ndarray] = {
    "bfloat": np.array([1.5, -np.inf], ml_dtypes.bfloat16),
    "complex": np.array([1 + 2j], np.complex64),
    "double_complex": np.array([1 + 2j]),
    "half": np.array([0.1], np.float16),
    "uint16": np.array([0, 2**16 - 1], np.uint16),
}


@pytest.mark.parametrize("name", ["grpc", "folder"])
def test_types_that_json_lacks_go_over_grpc(server, name):
    with Client(getattr(server, name)) as client:
        answer = client.predict("echo", OTHERS, signature="others")
    assert answer["bfloat"].dtype == ml_dtypes.bfloat16
    assert_same(answer, OTHERS)


def test_types_that_json_lacks_are_refused_over_rest(server):
    with Client(server.rest) as client, pytest.raises(ServingError, match="only gRPC") as caught:
        client.predict("echo", OTHERS, signature="others")
    assert caught.value.code == "UNIMPLEMENTED"


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [([1.5], "int32", (None,)), ([1, [2]], "float32", (None, 1)), (["a"], "float32", (None,))],
    ids=["fraction", "ragged", "text"],
)
def test_json_that_is_not_as_the_metadata_say_is_refused(value, dtype, shape):
    with pytest.raises(ValueError, match=r"fractions|inhomogeneous|could not convert"):
        from_json("y", value, TensorSpec(dtype, shape))


@pytest.mark.slow
def test_messages_may_be_larger_than_4_mebibytes(client):
    large = np.arange(2**21, dtype=np.float32).reshape(-1, 2)
    assert_same(client.predict("echo", signature="pairs", x=large), {"y": 2 * large})


def test_metadata_and_status(client):
    found = client.metadata("tiny")
    assert (found.model, found.version) == ("tiny", 1)
    assert list(found.signatures) == ["from_pixels", "serving_default"]
    signature = found.signatures["from_pixels"]
    assert signature.inputs == {"images": TensorSpec("float32", (None, 8, 8, 1))}
    assert signature.outputs == {"logits": TensorSpec("float32", (None, 3))}
    assert client.metadata("echo", version=1).signatures["all"].inputs["text"].shape is None
    assert client.status("tiny") == [VersionStatus(1, "AVAILABLE")]
    assert client.status("tiny", version=1) == [VersionStatus(1, "AVAILABLE")]


@pytest.mark.parametrize(
    ("ask", "code", "message"),
    [
        (lambda c: c.predict("none", x=1), "NOT_FOUND", "none"),
        (lambda c: c.predict("tiny", version=7, image_bytes=[]), "NOT_FOUND", "tiny.*7"),
        (
            lambda c: c.predict("tiny", label="new", image_bytes=[]),
            "INVALID_ARGUMENT",
            "label: new",
        ),
        (lambda c: c.status("none"), "NOT_FOUND", "none"),
        (lambda c: c.metadata("tiny", version=7), "NOT_FOUND", "tiny.*7"),
        (lambda c: c.predict("tiny", signature="s"), "FAILED_PRECONDITION", "only from_pixels"),
        (lambda c: c.predict("tiny", image_bytes=[b"no"]), "INVALID_ARGUMENT", "must hold JPEG"),
        (
            lambda c: c.predict("tiny", signature="from_pixels", images=np.zeros((8, 8, 1), "f")),
            "INVALID_ARGUMENT",
            "to have shape",
        ),
    ],
    ids=["model", "version", "label", "status", "metadata", "signature", "image", "shape"],
)
def test_errors_carry_the_code_and_the_text_of_the_server(client, ask, code, message):
    with pytest.raises(ServingError, match=message) as caught:
        ask(client)
    assert caught.value.code == code
    assert str(caught.value) == f"{code}: {caught.value.message}"


def test_the_status_of_a_version_that_is_not_there_is_an_error(client):
    with pytest.raises(ServingError, match="7"):
        client.status("tiny", version=7)


def test_inputs_that_do_not_fit_are_refused_before_they_are_sent(client):
    with pytest.raises(ValueError, match=r"takes the inputs image_bytes. Received: x"):
        client.predict("tiny", x=1)
    with pytest.raises(ValueError, match="Received: none"):
        client.predict("tiny")
    with pytest.raises(TypeError, match="`image_bytes` takes str or bytes"):
        client.predict("tiny", image_bytes=[1])
    with pytest.raises(ValueError, match="Only one of `version` and `label`"):
        client.predict("tiny", version=1, label="stable", image_bytes=[])


@pytest.mark.parametrize(
    ("value", "dtype", "error"),
    [
        (1.5, "int32", TypeError),
        ("1", "float32", TypeError),
        (None, "float32", TypeError),
        (1, "bool", TypeError),
        (1j, "float64", TypeError),
        (256, "uint8", ValueError),
        (-1, "uint64", ValueError),
        (2**31, "int32", ValueError),
        (1e39, "float32", ValueError),
        (1e39, "bfloat16", ValueError),
        ([[1], [2, 3]], "float32", ValueError),
        ([["a"], ["b", "c"]], "string", TypeError),
        (1, "resource", TypeError),
    ],
)
def test_conversions_that_would_change_a_value_are_refused(value, dtype, error):
    with pytest.raises(error, match="Input `x`"):
        as_array("x", value, dtype)


def test_conversions():
    assert as_array("x", [], "int64").dtype == np.int64
    assert as_array("x", True, "int8") == 1
    assert as_array("x", 2**63, "uint64") == 2**63
    assert as_array("x", np.inf, "float16") == np.inf
    assert as_array("x", np.arange(4).reshape(2, 2).T, "float32").flags.c_contiguous
    assert as_array("x", np.array([1], ">i4"), "int32").tobytes() == np.int32(1).tobytes()
    assert as_array("x", "ä", "string").item() == "ä".encode()
    assert as_array("x", np.array(["ä"]), "string").tolist() == ["ä".encode()]


def test_optional_inputs_take_their_default(tmp_path):
    save_echo(tmp_path / "echo" / "1")
    path = tmp_path / "echo" / "1" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    definition = saved.meta_graphs[0].signature_def["rows"]
    definition.defaults["count"].CopyFrom(tf.make_tensor_proto(np.array([3, 3], np.int64)))
    path.write_bytes(saved.SerializeToString())
    with Client(tmp_path / "echo") as client:
        assert client.metadata("echo").signatures["rows"].optional == {"count"}
        inputs = {"size": [[1.0], [2.0]], "colour": ["red", "blue"]}
        answer = client.predict("echo", inputs, signature="rows")
        assert answer["total"].tolist() == [3, 6]
        inputs["count"] = [1, 2]
        assert client.predict("echo", inputs, signature="rows")["total"].tolist() == [1, 4]


def test_one_client_serves_several_threads(client):
    def ask(number):
        return client.predict("echo", signature="pairs", x=[[number, 0]])["y"][0, 0]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(40))) == [2.0 * number for number in range(40)]


def save_scale(version: Path, name: str, factor: float) -> None:
    module = tf.Module()
    module.serve = tf.function(
        lambda x: {name: factor * x}, input_signature=[tf.TensorSpec((None,), name="x")]
    )
    tf.saved_model.save(module, str(version), signatures=module.serve)


def test_a_new_version_is_taken_up_with_its_new_outputs(tmp_path):
    save_scale(tmp_path / "1", "twice", 2.0)
    with Client(tmp_path) as client:
        name = tmp_path.name
        assert client.predict(name, x=[1])["twice"] == 2
        save_scale(tmp_path / "2", "thrice", 3.0)
        assert client.predict(name, x=[1])["thrice"] == 3
        assert client.predict(name, version=1, x=[1])["twice"] == 2
        assert [state.version for state in client.status(name)] == [2, 1]


def test_a_folder_is_of_models_of_versions_or_one_version(server, tmp_path):
    tiny = (server.folder / "tiny").resolve()
    assert {"echo", "tiny"} < models(server.folder).keys()
    assert models(tiny) == {"tiny": {1: tiny / "1"}}
    assert models(tiny / "1") == {"tiny": {1: tiny / "1"}}
    (tmp_path / "alone").symlink_to(tiny / "1")
    with pytest.raises(FileNotFoundError, match="which is not there"):
        Client(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds neither"):
        Client(tmp_path / "empty")


@pytest.mark.parametrize("target", ["ftp://host", "grpc://", "http://"])
def test_other_targets_are_refused(target):
    with pytest.raises(ValueError, match="`target` must be grpc://HOST:PORT"):
        Client(target)


def test_settings_are_checked(tmp_path):
    with pytest.raises(ValueError, match="`timeout` must be positive"):
        Client("grpc://host:1", timeout=0)
    with pytest.raises(ValueError, match="`retries` must not be negative"):
        Client("grpc://host:1", retries=-1)


def test_a_client_of_servers_imports_no_tensorflow(server):
    script = f"""
import sys
from serving.client import Client
for target in {server.grpc!r}, {server.rest!r}:
    with Client(target) as client:
        print(client.predict("echo", text=["a"])["upper"][0], client.status("echo")[0].state)
print([name for name in ("tensorflow", "tensorflow_serving", "keras") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [*["b'A' AVAILABLE"] * 2, "[]"]


# Retries.


class Flaky(model_service_pb2_grpc.ModelServiceServicer):
    """Is unavailable a number of times."""

    def __init__(self, failures: int):
        self.failures = failures

    def GetModelStatus(self, request, context):
        self.failures -= 1
        if self.failures >= 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "loading")
        response = get_model_status_pb2.GetModelStatusResponse()
        response.model_version_status.add(version=3, state="AVAILABLE")
        return response


@contextmanager
def flaky_grpc(failures: int):
    server = grpc.server(ThreadPoolExecutor(2))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Flaky(failures), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None).wait()


@contextmanager
def flaky_rest(failures: int):
    left = [failures]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            left[0] -= 1
            states = [{"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK"}}]
            fails = left[0] >= 0
            body = json.dumps(
                {"error": "loading"} if fails else {"model_version_status": states}
            ).encode()
            self.send_response(503 if fails else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("flaky", [flaky_grpc, flaky_rest])
def test_the_unavailable_is_tried_again(flaky):
    waits = []
    with flaky(2) as target, Client(target, sleep=waits.append) as client:
        assert client.status("m") == [VersionStatus(3, "AVAILABLE")]
    assert len(waits) == 2
    assert 0.05 <= waits[0] <= 0.1 <= waits[1] <= 0.2


@pytest.mark.parametrize("flaky", [flaky_grpc, flaky_rest])
def test_retries_end(flaky):
    waits = []
    with (
        flaky(9) as target,
        Client(target, retries=3, sleep=waits.append) as client,
        pytest.raises(ServingError, match=r"^UNAVAILABLE: loading$"),
    ):
        client.status("m")
    assert len(waits) == 3


def test_retries_stay_within_the_time_out():
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    with (
        flaky_rest(99) as target,
        Client(target, timeout=1.0, retries=99, clock=lambda: now[0], sleep=sleep) as client,
    ):
        with pytest.raises(ServingError, match="loading"):
            client.status("m")
        assert 0.2 < now[0] <= 1.0
        started = now[0]
        with pytest.raises(ServingError, match="loading"):
            client.status("m", timeout=10.0)
        assert now[0] > started + 1.0


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_nobody_there_is_unavailable(scheme):
    waits = []
    (port,) = free_ports(1)
    with (
        Client(f"{scheme}://127.0.0.1:{port}", retries=2, sleep=waits.append) as client,
        pytest.raises(ServingError, match="refused") as caught,
    ):
        client.status("m")
    assert caught.value.code == "UNAVAILABLE"
    assert len(waits) == 2


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_no_answer_in_time_is_an_error(scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        with Client(target, timeout=0.2) as client, pytest.raises(ServingError) as caught:
            client.status("m")
    assert caught.value.code == "DEADLINE_EXCEEDED"


# The messages.


def kind_of(message, field: str):
    return message.DESCRIPTOR.fields_by_name[field].message_type


REAL = {
    "Any": kind_of(get_model_metadata_pb2.GetModelMetadataResponse.MetadataEntry, "value"),
    "Dim": tensor_shape_pb2.TensorShapeProto.Dim.DESCRIPTOR,
    "TensorShapeProto": tensor_shape_pb2.TensorShapeProto.DESCRIPTOR,
    "TensorProto": tensor_pb2.TensorProto.DESCRIPTOR,
    "TensorInfo": meta_graph_pb2.TensorInfo.DESCRIPTOR,
    "SignatureDef": meta_graph_pb2.SignatureDef.DESCRIPTOR,
    "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap.DESCRIPTOR,
    "ModelSpec": model_pb2.ModelSpec.DESCRIPTOR,
    "PredictRequest": predict_pb2.PredictRequest.DESCRIPTOR,
    "PredictResponse": predict_pb2.PredictResponse.DESCRIPTOR,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest.DESCRIPTOR,
    "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse.DESCRIPTOR,
    "StatusProto": kind_of(get_model_status_pb2.ModelVersionStatus, "status"),
    "ModelVersionStatus": get_model_status_pb2.ModelVersionStatus.DESCRIPTOR,
    "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest.DESCRIPTOR,
    "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse.DESCRIPTOR,
}


def test_strings_in_tensor_content_are_read():
    proto = wire.CLASSES["TensorProto"](dtype=wire.DTYPES["string"][1])
    proto.tensor_shape.dim.add(size=2)
    proto.tensor_content = bytes([2, 1]) + b"abc"
    assert wire.read_tensor("classes", proto).tolist() == [b"ab", b"c"]


@pytest.mark.parametrize("name", wire.MESSAGES)
def test_declared_messages_are_those_of_tensorflow_serving(name):
    declared, real = wire.CLASSES[name].DESCRIPTOR.fields_by_name, REAL[name].fields_by_name
    for field in wire.MESSAGES[name]:
        assert declared[field].number == real[field].number
        assert declared[field].type == real[field].type
        assert declared[field].is_repeated == real[field].is_repeated


def test_declared_numbers_are_those_of_tensorflow_serving():
    real = dict(types_pb2.DataType.items())
    assert all(real[name] == number for name, number, _ in wire.DTYPES.values())
    for name, (_, number, _) in wire.DTYPES.items():
        assert tf.as_dtype(number).name == name
        assert wire.numpy_dtype(name) == tf.as_dtype(number).as_numpy_dtype
    codes = {number: name for name, number in error_codes_pb2.Code.items()}
    assert all(codes[number] == name for number, name in wire.CODES.items())
    states = dict(get_model_status_pb2.ModelVersionStatus.State.items())
    assert {name: number for number, name in wire.STATES.items()} == states
