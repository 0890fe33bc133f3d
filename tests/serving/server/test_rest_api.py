import base64
import gzip
import http.client
import json
import socket

import pytest

from serving.server.batching import Batching
from serving.server.metrics import Metrics
from serving.server.service import Service
from tests.serving.conftest import encoded
from tests.serving.server.conftest import rest_server

POST = "POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\n"


def ask(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "surrogateescape"), response.headers
    finally:
        connection.close()


def post(server, path, document, **headers):
    body = document if isinstance(document, (str, bytes)) else json.dumps(document)
    return ask(server.rest_port, "POST", path, body, headers)[:2]


def get(server, path):
    return ask(server.rest_port, "GET", path)[:2]


def raw(server, *parts: bytes) -> bytes:
    """Sends bytes and returns all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while more := connection.recv(65536):
            answer += more
        return answer


def error(text: str) -> str:
    return json.loads(text)["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/half:predict",
        "/v1/models/half/versions/123:predict",
        "/v1/models/half/versions/000000000000000000000000123:predict",
        "/v1/models/half/labels/stable:predict",
        "/V1/Models/half:PREDICT",
        "/v1/models/h%61lf:predict",
        "/v1/models/half/labels/st%61ble:predict",
    ],
)
def test_predicts_by_latest_version_and_label(server, path):
    expected = '{\n    "predictions": [[2.5], [3.0]\n    ]\n}'
    assert post(server, path, {"instances": [[1], [2]]}) == (200, expected)


def test_predicts_columns(server):
    expected = '{\n    "outputs": [\n        [\n            2.5\n        ]\n    ]\n}'
    assert post(server, "/v1/models/half:predict", {"inputs": {"x": [[1]]}}) == (200, expected)


def test_predicts_several_inputs_and_outputs(server):
    document = {
        "signature_name": "several",
        "instances": [{"x": 1.5, "n": 1, "s": {"b64": base64.b64encode(b"\xff").decode()}}],
    }
    status, text = post(server, "/v1/models/types:predict", document)
    assert status == 200
    assert '"n_out": 2,\n            "s_out": "\udcff",\n            "x_out": 3.0\n' in text


def test_bytes_go_in_and_out_as_base64(server):
    content = base64.b64encode(b"\x00\xff").decode()
    document = {"signature_name": "strings", "inputs": [{"b64": content}, "text"]}
    _, text = post(server, "/v1/models/types:predict", document)
    outputs = json.loads(text)["outputs"]
    assert outputs["s_bytes"] == [
        {"b64": content},
        {"b64": base64.b64encode(b"text").decode()},
    ]
    assert outputs["s"][1] == "text"


def test_numbers_that_are_none_go_in_and_out(server):
    body = '{"inputs": [[NaN, Infinity], [-Infinity, 0.1]]} and what follows is ignored'
    status, text = post(server, "/v1/models/types:predict", body)
    assert status == 200
    assert "".join(text.split()) == '{"outputs":[[NaN,Infinity],[-Infinity,0.2]]}'


def test_scalars_are_columns_alone(server):
    document = {"signature_name": "number", "inputs": [1, 2]}
    assert post(server, "/v1/models/types:predict", document) == (200, '{\n    "outputs": 3.0\n}')
    document = {"signature_name": "number", "instances": [1, 2]}
    status, text = post(server, "/v1/models/types:predict", document)
    assert (status, error(text)) == (400, "Tensor name: total has no shape information ")


def test_classifies_and_regresses(server):
    document = {"signature_name": "classify", "examples": [{"x": 1.0}, {"x": 0.0}]}
    assert post(server, "/v1/models/half:classify", document) == (
        200,
        '{\n    "results": [[["one", 2.5], ["many", 3.5]], [["zero", 2.0], ["one", 3.0]]\n    ]\n}',
    )
    document = {"signature_name": "regress", "context": {"x": 1.0}, "examples": [{}, {"x": 2.0}]}
    assert post(server, "/v1/models/half:regress", document) == (
        200,
        '{\n    "results": [2.5, 3.0]\n}',
    )


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("x:predict", "{}", 404, "Servable not found for request: Latest(x)"),
        ("half/versions/9:predict", "{}", 404, "Servable not found for request: Specific(half, 9)"),
        ("half/versions/0:predict", "{}", 404, "Servable not found for request: Specific(half, 0)"),
        ("half/labels/l:predict", "{}", 400, "Unrecognized servable version label: l"),
        ("half:predict", "", 400, "JSON Parse error: The document is empty"),
        ("half:predict", "x", 400, "JSON Parse error: Invalid value. at offset: 0"),
        ("half:predict", "{}", 400, "Missing 'inputs' or 'instances' key"),
        (
            "half:predict",
            '{"signature_name": "s", "instances": [1]}',
            400,
            'Serving signature name: "s" not found in signature def',
        ),
        (
            "half:predict",
            '{"instances": [[1], [2, 3]]}',
            400,
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting "
            "tensor size: 1 but got: 2",
        ),
        (
            "types:predict",
            '{"signature_name": "integers", "inputs": [1.0]}',
            400,
            "JSON Value: 1.0 Type: Number is not of expected type: int32",
        ),
        (
            "types:predict",
            '{"signature_name": "half", "inputs": [1.0]}',
            501,
            "Conversion of JSON Value: 1.0 to type: half",
        ),
        (
            "half:predict",
            '{"signature_name": "two_inputs", "inputs": {"x": [[1]]}}',
            400,
            "Missing named input: e in 'inputs' object.",
        ),
        (
            "half:classify",
            '{"signature_name": "s", "examples": [{}]}',
            400,
            "No signature was found with the name: s",
        ),
        ("half:classify", "{}", 400, "JSON Value: {} When method is classify, key 'examples' is"),
        (
            "half:regress",
            '{"signature_name": "serving_default", "examples": [{"x": 1.0}]}',
            400,
            "No regression inputs found in SignatureDef: ",
        ),
        (
            "half:regress",
            '{"signature_name": "regress", "examples": [{"x": "text"}]}',
            400,
            "Name: <unknown>, Key: x, Index: 0.  Data types don't match.",
        ),
    ],
)
def test_bad_requests_get_the_server_s_status_and_text(server, path, body, status, message):
    found, text = post(server, f"/v1/models/{path}", body)
    assert found == status
    assert error(text).startswith(message)
    assert text.startswith('{\n    "error": "')


def test_bytes_in_place_of_two_inputs_are_refused(server):
    document = {"signature_name": "two_inputs", "instances": [{"b64": "YQ=="}]}
    status, text = post(server, "/v1/models/half:predict", document)
    assert status == 400
    assert "input size does not match signature: 1!=2" in error(text) or "JSON Value" in error(text)


def test_names_that_are_no_text_are_refused(server):
    body = b'{"signature_name": "\xff", "examples": [{"x": 1.0}]}'
    assert post(server, "/v1/models/half:regress", body)[0] == 400
    body = b'{"signature_name": "regress", "examples": [{"\xff": 1.0}]}'
    assert post(server, "/v1/models/half:regress", body)[0] == 400


# Paths and methods.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/half:predict"),
        ("POST", "/v1/models/half"),
        ("POST", "/v1/models/half:explain"),
        ("POST", "/v1/models/half/versions/x:predict"),
        ("POST", "/v1/models/half:predict?verbose=1"),
        ("PUT", "/v1/models/half:predict"),
        ("DELETE", "/v1/models/half"),
        ("GET", "/v1/"),
        ("GET", "/v1/models/half/metadata/more"),
        ("PURGE", "/v1/models/half"),
    ],
)
def test_paths_and_methods_not_understood_are_malformed(server, method, path):
    status, text, headers = ask(server.rest_port, method, path, "{}")
    assert (status, error(text)) == (400, f"Malformed request: {method} {path}")
    assert headers["Content-Type"] == "application/json"


def test_a_query_is_part_of_the_path(server):
    status, text = get(server, "/v1/models/half?x=1")
    assert (status, error(text)) == (404, "Could not find any versions of model half?x=1")


@pytest.mark.parametrize("path", ["/v2/models/half", "/v1", "/models", "/v1x/", "/%2F"])
def test_anything_elsewhere_is_an_html_page(server, path):
    for method in ("GET", "POST"):
        status, text, headers = ask(server.rest_port, method, path)
        assert status == 404
        assert "<TITLE>404 Not Found</TITLE>" in text
        assert headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("number", ["9223372036854775808", "9" * 5000, "0" * 50 + "9" * 40])
def test_versions_beyond_any_number_get_an_empty_answer(server, number):
    assert post(server, f"/v1/models/half/versions/{number}:predict", "{}") == (400, "")
    assert get(server, f"/v1/models/half/versions/{number}") == (400, "")


def test_the_largest_version_is_looked_for(server):
    path = f"/v1/models/half/versions/{2**63 - 1}"
    assert post(server, f"{path}:predict", "{}")[0] == 404


# States and metadata.


def test_tells_states(server):
    assert get(server, "/v1/models/half") == (
        200,
        '{\n "model_version_status": [\n  {\n   "version": "123",\n   "state": "AVAILABLE",\n'
        '   "status": {\n    "error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}\n',
    )
    for path in ("/versions/123", "/labels/stable"):
        assert get(server, f"/v1/models/half{path}")[0] == 200
    status, text = get(server, "/v1/models/x")
    assert (status, error(text)) == (404, "Could not find any versions of model x")
    status, text = get(server, "/v1/models/half/versions/9")
    assert (status, error(text)) == (404, "Could not find version 9 of model half")
    status, text = get(server, "/v1/models")
    assert (status, error(text)) == (400, "Missing model name in request.")


def test_tells_metadata(server):
    for path in ("", "/versions/123", "/labels/stable"):
        status, text = get(server, f"/v1/models/half{path}/metadata")
        assert status == 200
        document = json.loads(text)
        spec = {"name": "half", "version": "123", "signature_name": ""}
        assert document["model_spec"] == spec
        assert document["metadata"]["signature_def"].keys() == {"signature_def"}
        signatures = document["metadata"]["signature_def"]["signature_def"]
        assert signatures["serving_default"]["inputs"]["x"] == {
            "dtype": "DT_FLOAT",
            "tensor_shape": {
                "dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}],
                "unknown_rank": False,
            },
            "name": "x:0",
        }
    status, text = get(server, "/v1/models/x/metadata")
    assert (status, error(text)) == (404, "Servable not found for request: Latest(x)")


def test_tells_metrics(server):
    post(server, "/v1/models/half:predict", {"instances": [[1]]})
    status, text, headers = ask(server.rest_port, "GET", "/monitoring/prometheus/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert ':tensorflow:serving:request_count{model_name="half",status="OK"}' in text
    assert 'model_name="half",API="Predict",entrypoint="REST"' in text


def test_tells_health(server, monkeypatch):
    for path in ("/healthz", "/readyz"):
        assert get(server, path) == (200, '{"status": "ok"}')
        assert ask(server.rest_port, "HEAD", path)[:2] == (200, "")
        assert ask(server.rest_port, "POST", path)[0] == 404
    monkeypatch.setattr(server.service.manager, "waiting", lambda: ["m", "n"])
    assert get(server, "/healthz")[0] == 200
    status, text = get(server, "/readyz")
    assert (status, error(text)) == (503, "No version is available of: m, n")


# What the playground asks for.


def test_warmup_requests_are_examples(server):
    for which in ("tiny", "tiny/versions/1"):
        status, text = get(server, f"/playground/examples/{which}/signatures/serving_default")
        requests = json.loads(text)["requests"]
        assert status == 200
        assert [len(request["image_bytes"]) for request in requests] == [1, 2, 4, 3]
        found = [base64.b64decode(one["b64"]) for r in requests for one in r["image_bytes"]]
        assert found == list(encoded(10))
    for which in ("tiny/signatures/unknown", "half/signatures/serving_default"):
        assert get(server, f"/playground/examples/{which}") == (200, '{"requests": []}')
    assert get(server, "/playground/examples/x/signatures/s")[0] == 404
    assert get(server, f"/playground/examples/half/versions/{2**63}/signatures/s")[0] == 404
    models = json.loads(get(server, "/playground/models")[1])["models"]
    shown = {model["name"]: model["versions"][0]["examples"] for model in models}
    assert (shown["tiny"], shown["half"]) == (True, False)


def test_report_and_card_are_shown_without_acting_as_pages_of_the_server(server):
    models = json.loads(get(server, "/playground/models")[1])["models"]
    pages = {model["name"]: model["versions"][0]["pages"] for model in models}
    assert pages["tiny"] == ["card"] and pages["half"] == []
    status, text, headers = ask(server.rest_port, "GET", "/playground/card/tiny/versions/1")
    assert status == 200 and text.startswith("# ") and "image" in text
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none';")
    for path in ("report/tiny", "card/half", "card/x", f"card/tiny/versions/{2**63}"):
        assert get(server, f"/playground/{path}")[0] == 404
    for path in ("scores/tiny", "card/..%2Ftiny", "card/tiny/../../saved_model.pb", "card"):
        assert get(server, f"/playground/{path}")[0] == 404
    assert ask(server.rest_port, "POST", "/playground/card/tiny", "")[0] == 404


# HTTP itself.


def test_a_connection_is_kept_for_many_requests(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    connection.connect()
    used = connection.sock
    for body in ('{"instances": [[1]]}', "x", '{"instances": [[1]]}'):
        connection.request("POST", "/v1/models/half:predict", body)
        response = connection.getresponse()
        response.read()
        assert connection.sock is used
    assert response.status == 200
    connection.close()


def test_chunked_bodies_are_read(server):
    parts = (b'{"insta', b'nces": [', b"[1]]}")
    status, text, _ = ask(server.rest_port, "POST", "/v1/models/half:predict", iter(parts))
    assert (status, json.loads(text)) == (200, {"predictions": [[2.5]]})


def test_compressed_bodies_are_inflated_and_answers_never_compressed(server):
    body = gzip.compress(b'{"instances": [[1]]}')
    headers = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    status, text, answered = ask(server.rest_port, "POST", "/v1/models/half:predict", body, headers)
    assert (status, json.loads(text)) == (200, {"predictions": [[2.5]]})
    assert "Content-Encoding" not in answered
    assert ask(server.rest_port, "POST", "/v1/models/half:predict", b"x", headers)[0] == 400


def test_clients_that_wait_for_permission_get_it(server):
    body = b'{"instances": [[1]]}'
    head = f"{POST}Expect: 100-continue\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(body)
        assert b"HTTP/1.1 200 OK" in connection.recv(1000)


@pytest.mark.parametrize(
    "request_",
    [
        "nonsense\r\n\r\n",
        f"{POST}Content-Encoding: br\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
        f"{POST}Content-Length: x\r\n\r\n",
        f"{POST}Long: {'x' * 10_000}\r\n\r\n",
        f"{POST}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
    ],
    ids=["nonsense", "brotli", "length", "long header", "chunks"],
)
def test_what_is_no_http_is_refused_as_json(server, request_):
    head, _, body = raw(server, request_.encode()).decode().partition("\r\n\r\n")
    assert " 400 " in head.partition("\r\n")[0]
    assert "Content-Type: application/json" in head
    assert "Server: hornbook\r\n" in f"{head}\r\n"
    assert error(body)
    assert "Brotli" not in body


def test_no_answer_tells_versions_of_software(server):
    for path in ("/", "/v1/models/half", "/v1/models/x", "/x", "/healthz"):
        assert ask(server.rest_port, "GET", path)[2]["Server"] == "hornbook"


def test_pages_from_elsewhere_may_ask_only_where_that_is_allowed(server):
    origin = {"Origin": "https://example.org"}
    path = "/v1/models/half:predict"
    for allowed in (False, True):
        with rest_server(server.service, cors=allowed) as port:
            for method, headers, status in [
                ("OPTIONS", origin, 200),
                ("OPTIONS", {}, 400),
                ("OPTIONS", {"Origin": "file://"}, 400),
                ("GET", origin, 400),
                ("POST", origin, 400),
            ]:
                found, _, answered = ask(port, method, path, headers=headers)
                assert found == status
                assert answered.get("Access-Control-Allow-Origin") == ("*" if allowed else None)


def test_bodies_beyond_the_largest_are_refused(server):
    with rest_server(server.service, max_request_bytes=100) as port:
        status, text, _ = ask(port, "POST", "/v1/models/half:predict", b" " * 101)
        assert status == 413
        assert "100 bytes" in error(text)
        assert ask(port, "POST", "/v1/models/half:predict", b" " * 100)[0] == 400


def test_metrics_are_nowhere_unless_wanted(server):
    with rest_server(server.service) as port:
        assert ask(port, "GET", "/monitoring/prometheus/metrics")[0] == 404


def test_a_batched_request_out_of_time_is_answered_and_counted_as_such(server):
    patient = Batching(max_batch_size=4, timeout=1000.0)
    service = Service(server.service.manager, Metrics(), batching=patient)
    with rest_server(service, timeout=0.2) as port:
        body = json.dumps({"instances": [1.0]})
        status, text, _ = ask(port, "POST", "/v1/models/half:predict", body)
    assert (status, error(text)) == (504, "No answer within 0.2 s")
    assert 'model_name="half",status="DEADLINE_EXCEEDED"} 1' in service.metrics.text()
