"""What hostile and unlucky clients send to a server, and how each kind may be answered.

A kind is a function from a random generator and a server to a status: an HTTP status, the name of
a gRPC status, or `closed` for a connection that ends without an answer. All of it repeats by seed.
"""

import base64
import contextlib
import functools
import gzip
import json
import math
import random
import socket
import struct
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import hypothesis
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

SERVICE = "/tensorflow.serving.PredictionService"
MODELS = "/tensorflow.serving.ModelService"
PATIENCE = 30.0
"""Seconds that a client here waits for an answer."""
ENDLESS = 2**26
"""Bytes after which even an endless body ends."""


@dataclass(frozen=True)
class Server:
    """Where a server listens, and what it serves: a model of images as bytes and as pixels."""

    rest: int
    port: int
    channel: Any
    model: str
    image: bytes
    bytes_input: str = "image_bytes"
    pixels_signature: str = "from_pixels"
    pixels_input: str = "images"

    @property
    def path(self) -> str:
        return f"/v1/models/{self.model}:predict"

    def document(self, *images: bytes) -> bytes:
        """The REST request for some images."""
        rows = [{"b64": base64.b64encode(image).decode()} for image in images]
        return json.dumps({"instances": rows}).encode()

    def request(self, *images: bytes) -> predict_pb2.PredictRequest:
        """The gRPC request for some images."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        tensor = request.inputs[self.bytes_input]
        tensor.dtype = types_pb2.DT_STRING
        tensor.tensor_shape.dim.add().size = len(images)
        tensor.string_val.extend(images)
        return request

    def good(self) -> tuple[Any, Any]:
        """The answers for one good image, over REST and gRPC."""
        url = f"http://127.0.0.1:{self.rest}{self.path}"
        with urllib.request.urlopen(url, self.document(self.image), timeout=PATIENCE) as answer:
            over_rest = json.load(answer)
        ask = self.channel.unary_unary(
            f"{SERVICE}/Predict",
            predict_pb2.PredictRequest.SerializeToString,
            predict_pb2.PredictResponse.FromString,
        )
        over_grpc = ask(self.request(self.image), timeout=PATIENCE)
        outputs = {name: list(t.string_val or t.float_val) for name, t in over_grpc.outputs.items()}
        return over_rest, outputs


# How to ask.


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        yield connection


def answer(connection: socket.socket) -> str:
    """The status of the next answer."""
    head = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n" not in head and (part := connection.recv(4096)):
            head += part
    words = head.split(b" ")
    if head.startswith(b"HTTP/") and len(words) > 1:
        return words[1].decode()
    return "closed" if not head else "other"


def exchange(port: int, *pieces: bytes, pause: float = 0.0, half_close: bool = False) -> str:
    """Sends pieces, even if the server has heard enough, and returns the status of its answer."""
    with connected(port) as connection:
        with contextlib.suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        return answer(connection)


def http(
    method: str, path: str, body: bytes = b"", length: Any = None, headers: tuple[str, ...] = ()
) -> bytes:
    """An HTTP request as bytes; `length` is what it claims to be the length of the body."""
    size = len(body) if length is None else length
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {size}", *headers]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def post(server: Server, body: bytes, *headers: str, path: str = "") -> str:
    return exchange(server.rest, http("POST", path or server.path, body, headers=headers))


def call(server: Server, method: str, message: bytes, timeout: float = PATIENCE) -> str:
    """Sends bytes as a gRPC message and returns the name of the status."""
    try:
        server.channel.unary_unary(method)(message, timeout=timeout)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def predict(server: Server, request: predict_pb2.PredictRequest) -> str:
    return call(server, f"{SERVICE}/Predict", request.SerializeToString())


# Documents and tensors, drawn by Hypothesis.


def drawn(strategy: st.SearchStrategy, count: int, seed: int) -> list[Any]:
    found: list[Any] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def collect(value):
        found.append(value)

    collect()
    return found


NAMES = ("instances", "inputs", "signature_name", "examples", "context", "b64", "image_bytes")
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.text("AZaz09+/=-_ \n", max_size=30).map(lambda text: {"b64": text}),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from([*NAMES, "images", "x"]) | st.text(), inner, max_size=4)
    ),
    max_leaves=25,
)
DOCUMENTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4) | VALUES
SIZES = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 8, 28, 2**16, 2**31, 2**40, 2**62, 2**63 - 1])
TENSORS = st.fixed_dictionaries(
    {
        "dtype": st.integers(0, 32) | st.just(types_pb2.DT_STRING) | st.just(types_pb2.DT_FLOAT),
        "sizes": st.lists(SIZES, max_size=6) | st.lists(st.just(1), min_size=60, max_size=300),
        "unknown_rank": st.sampled_from([False] * 9 + [True]),
        "content": st.just(b"") | st.binary(max_size=64),
        "string_val": st.lists(st.binary(max_size=20), max_size=3),
        "float_val": st.lists(st.floats(width=32), max_size=3),
        "half_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        "int_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    }
)
DRAWN = 500


@functools.cache
def documents() -> list[bytes]:
    return [json.dumps(value).encode() for value in drawn(DOCUMENTS, DRAWN, seed=1)]


@functools.cache
def tensors() -> list[tensor_pb2.TensorProto]:
    found = []
    for value in drawn(TENSORS, DRAWN, seed=2):
        tensor = tensor_pb2.TensorProto(dtype=value["dtype"], tensor_content=value["content"])
        for size in value["sizes"]:
            tensor.tensor_shape.dim.add().size = size
        tensor.tensor_shape.unknown_rank = value["unknown_rank"]
        for name in ("string_val", "float_val", "half_val", "int_val"):
            getattr(tensor, name).extend(value[name])
        found.append(tensor)
    return found


def mutated(rng: random.Random, content: bytes) -> bytes:
    """Changes, cuts, doubles or swaps some bytes."""
    result = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(result) + 1)
        other = rng.randrange(len(result) + 1)
        match rng.randrange(4):
            case 0:
                result[at : at + 1] = rng.randbytes(1)
            case 1:
                del result[at:]
            case 2:
                result[at:at] = result[other : other + 20]
            case _:
                result[at : at + rng.randint(1, 9)] = rng.randbytes(rng.randint(0, 9))
    return bytes(result)


# Images that are small as files and large in memory.


def png(width: int, height: int, rows: int | None = None, first: bytes = b"") -> bytes:
    """A white PNG of one bit a pixel; of its rows `rows` are there, `first` are chunks before."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height if rows is None else rows))
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", data + packer.flush()) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + first + parts


def jpeg(width: int, height: int, *, progressive: bool = False, junk: bytes = b"") -> bytes:
    """A grey JPEG whose data ends early, which decoders forgive; `junk` is skipped by them."""
    tables = b"\xff\xdb" + struct.pack(">HB", 67, 0) + b"\x01" * 64
    for kind in (0x00, 0x10):
        tables += b"\xff\xc4" + struct.pack(">HB", 20, kind) + b"\x01" + b"\0" * 15 + b"\0"
    frame = b"\xff" + (b"\xc2" if progressive else b"\xc0")
    frame += struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\x01\x11\0\x02\x11\0\x03\x11\0"
    scan = b"\xff\xda" + struct.pack(">HB", 12, 3) + b"\x01\0\x02\0\x03\0\0"
    scan += (b"\0" if progressive else b"\x3f") + b"\0"
    return b"\xff\xd8" + tables + junk + frame + scan + b"\0" * 99 + b"\xff\xd9"


def gif(width: int, height: int, frames: int = 1) -> bytes:
    """A GIF on a screen of one pixel whose frames are larger."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0"
    return b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff" + frame * frames + b";"


def bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, *[0] * 6)
    return b"BM" + head + bytes(99)


def webp(width: int, height: int) -> bytes:
    """The head of a lossless WebP."""
    bits = (width - 1) | (height - 1) << 14
    body = b"WEBPVP8L" + struct.pack("<IBI", 99, 0x2F, bits) + bytes(94)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_xl(width: int, height: int) -> bytes:
    """The head of a JPEG XL codestream."""
    bits = 3 << 1 | (height - 1) << 3 | 3 << 36 | (width - 1) << 38
    return b"\xff\x0a" + bits.to_bytes(12, "little") + bytes(20)


@functools.cache
def bombs() -> tuple[bytes, ...]:
    return (
        png(30000, 30000),
        png(30000, 30000, rows=5),
        png(
            30000, 30000, rows=5, first=b"\0\0\0\x01juNkx" + struct.pack(">I", zlib.crc32(b"juNkx"))
        ),
        png(2**31 - 1, 2**31 - 1, rows=0),
        jpeg(13000, 13000),
        jpeg(13000, 13000, progressive=True),
        jpeg(13000, 13000, progressive=True, junk=b"no marker"),
        jpeg(65000, 65000, progressive=True),
        gif(65535, 65535),
        gif(8000, 8000, frames=50),
        bmp(30000, 30000),
        bmp(2**31 - 1, -(2**31)),
        webp(16383, 16383),
        jpeg_xl(2**20, 2**20),
    )


# Over REST.

ANSWERED = frozenset({"200", "400", "404", "413", "429", "501", "503", "504"})
CLOSED = ANSWERED | {"closed"}


def json_documents(rng: random.Random, server: Server) -> str:
    method = rng.choice(["predict"] * 6 + ["classify", "regress"])
    path = f"/v1/models/{server.model}:{method}"
    return post(server, rng.choice(documents()), path=path)


def json_mutated(rng: random.Random, server: Server) -> str:
    return post(
        server, mutated(rng, rng.choice([server.document(server.image), *documents()[:99]]))
    )


def json_deep(rng: random.Random, server: Server) -> str:
    depth = rng.choice([60, 65, 300, 1000, 5000, 100_000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'{"b64":[', b"]}")])
    nested = opening * depth + b"1" + closing * rng.choice([0, depth])
    return post(server, rng.choice([b"%s", b'{"instances":%s}', b'{"inputs":%s}']) % nested)


def json_numbers(rng: random.Random, server: Server) -> str:
    number = rng.choice(
        [
            "NaN",
            "Infinity",
            "-Infinity",
            "1e999",
            "-1e-999",
            "9" * 5000,
            "1" + "0" * 400,
            "-0",
            "0x10",
            "1e",
            "01",
            "1.",
            "18446744073709551616",
            "true",
            "null",
            '"\\ud800"',
            "3.5e38",
        ]
    )
    rows = rng.choice([number, f"[{number}]", f"[{number}, NaN]", f"[[[[{number}]]]]"])
    name = rng.choice(['"from_pixels"', '"serving_default"', number])
    return post(server, f'{{"signature_name": {name}, "instances": {rows}}}'.encode())


def json_shapes(rng: random.Random, server: Server) -> str:
    def nested(sizes: list[int]) -> Any:
        value: Any = rng.random()
        for size in reversed(sizes):
            value = [value] * size
        return value

    value = nested([rng.choice([0, 1, 1, 2, 3, 8, 28]) for _ in range(rng.randint(0, 6))])
    if isinstance(value, list) and rng.random() < 0.3:
        value.append(nested([2]))
    key = rng.choice(["instances", "inputs"])
    document = {"signature_name": server.pixels_signature, key: value}
    return post(server, json.dumps(document).encode())


def json_base64(rng: random.Random, server: Server) -> str:
    signs = "ABCabc019+/=-_ \n\0\u00e9\ud800"
    text = "".join(rng.choices(signs, k=rng.randint(0, 50)))
    return post(server, json.dumps({"instances": [{"b64": text}]}).encode())


def rest_images(rng: random.Random, server: Server) -> str:
    return post(server, server.document(*_images(rng, server)))


def rest_names(rng: random.Random, server: Server) -> str:
    parts = [
        "..",
        "%2e%2e",
        "%00",
        "\\",
        "\udcff",
        "\u00e9",
        "%",
        "etc/passwd",
        server.model,
        "x" * 99,
    ]
    parts += [
        "//",
        "/",
        "?a=b",
        "#",
        ":predict",
        "/versions/",
        "/labels/",
        "9" * 30,
        "0" * 5000,
        "-1",
    ]
    name = "".join(rng.choices(parts, k=rng.randint(1, 5)))
    tail = rng.choice([":predict", "", "/metadata", "/versions/1", "/labels/a:predict"])
    path = rng.choice([f"/v1/models/{name}{tail}", f"/v1/models/{server.model}{name}", f"/{name}"])
    return exchange(server.rest, http(rng.choice(["GET", "POST"]), path, b"{}"))


def bodies_compressed(rng: random.Random, server: Server) -> str:
    good = server.document(server.image)
    packed = gzip.compress(good)
    raw = zlib.compressobj(9, wbits=-15)
    body = rng.choice(
        [
            packed,
            mutated(rng, packed),
            packed[: rng.randrange(len(packed))],
            good,
            b"",
            packed * 2,
            zlib.compress(good),
            raw.compress(good) + raw.flush(),
            _gzip_bomb(),
        ]
    )
    kind = rng.choice(["gzip"] * 4 + ["deflate", "br", "zstd", "gzip, gzip", "identity", "x"])
    return post(server, body, f"Content-Encoding: {kind}")


@functools.cache
def _gzip_bomb() -> bytes:
    return gzip.compress(b'{"instances": [' + b"0," * 2**25)


def bodies_chunked(rng: random.Random, server: Server) -> str:
    good = server.document(server.image)
    chunk = f"{len(good):x}\r\n".encode() + good + b"\r\n"
    body = rng.choice(
        [
            chunk + b"0\r\n\r\n",
            b"zz\r\n" + chunk,
            b"-1\r\n",
            b"f" * 40 + b"\r\n",
            b"5;" + b"x" * 9999,
            chunk + b"0\r\n" + b"a: b\r\n" * 500 + b"\r\n",
            chunk[:-2] + b"junk0\r\n\r\n",
            b"0\r\n\r\n",
            b"1\r\n{\r\n" * 500 + b"0\r\n\r\n",
            mutated(rng, chunk),
        ]
    )
    head = f"POST {server.path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return exchange(server.rest, head.encode() + body)


def bodies_endless(rng: random.Random, server: Server) -> str:
    head = f"POST {server.path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"10000\r\n" + b" " * 2**16 + b"\r\n"
    return exchange(server.rest, head.encode(), *[piece] * (ENDLESS // 2**16))


def bodies_of_other_length(rng: random.Random, server: Server) -> str:
    good = server.document(server.image)
    length = rng.choice(
        [0, 1, len(good) - 1, len(good) + 1, -1, 2**31, 2**64, 2**70, "x", "+5", ""]
    )
    extra = rng.choice([(), (f"Content-Length: {len(good)}",), ("Transfer-Encoding: chunked",)])
    return exchange(server.rest, http("POST", server.path, good, length=length, headers=extra))


def heads(rng: random.Random, server: Server) -> str:
    good = server.document(server.image)
    request = rng.choice(
        [
            http(
                "POST", server.path, good, headers=("X: " + "x" * rng.choice([8000, 9000, 10**6]),)
            ),
            http("POST", server.path, good, headers=tuple(f"X{i}: y" for i in range(3000))),
            http("POST", server.path, good, headers=("X\0: y",)),
            http("POST", server.path, good, headers=("X: \0\x7f",)),
            http("POST", server.path, good, headers=(" folded: y", ": y", "no colon")),
            http("POST", server.path, good, headers=("Expect: 100-continue",)),
            http("POST", server.path, good, headers=("Connection: close, keep-alive, \xff",)),
            http("POST", "/" + "x" * 10**5, good),
            b"POST " + server.path.encode() + b"\r\n\r\n",
            b"POST " + server.path.encode() + b" HTTP/3.0\r\n\r\n",
            b"GET http://localhost/v1/models/x HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\nHost: x\n\n",
            b"\r\n" * 5000 + http("GET", "/v1/models"),
            mutated(rng, http("POST", server.path, good)[: rng.randint(20, 200)]) + b"\r\n\r\n",
        ]
    )
    return exchange(server.rest, request)


def verbs(rng: random.Random, server: Server) -> str:
    names = ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "predict"]
    verb = rng.choice([*names, "A" * 5000, "G\xc9T", "", "PRI"])
    return exchange(server.rest, http(verb, rng.choice([server.path, "/", "*"]), b"{}"))


def other_protocols(rng: random.Random, server: Server) -> str:
    port = rng.choice([server.rest, server.port])
    frame = struct.pack(
        ">IBI", rng.randrange(2**16) << 8 | rng.randrange(10), rng.randrange(256), 1
    )
    content = rng.choice(
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame[1:] + rng.randbytes(rng.randrange(200)),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + mutated(rng, bytes(99)),
            http("POST", server.path, server.document(server.image)),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(500),
            rng.randbytes(rng.randint(1, 5000)),
            http("GET", "/", headers=("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"))
            + b"x" * 9999,
            http("GET", "/v1/models", headers=("Connection: Upgrade", "Upgrade: websocket"))
            + b"x" * 9999,
        ]
    )
    return exchange(port, content, half_close=True)


def half_closed(rng: random.Random, server: Server) -> str:
    request = http("POST", server.path, server.document(server.image))
    at = rng.choice([len(request), rng.randrange(len(request))])
    return exchange(server.rest, request[:at], half_close=True)


def abandoned(rng: random.Random, server: Server) -> str:
    request = http("POST", server.path, server.document(*[server.image] * rng.randint(1, 50)))
    with connected(server.rest) as connection:
        connection.sendall(request[: rng.randint(1, len(request))])
        # No farewell: the connection is reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return "closed"


def pipelined(rng: random.Random, server: Server) -> str:
    good = http("POST", server.path, server.document(server.image))
    requests = [good, http("GET", "/v1/models/x"), http("PUT", "/"), http("GET", "/v1/models")]
    return exchange(server.rest, b"".join(rng.choices(requests, k=rng.randint(2, 200))))


def slow_head(rng: random.Random, server: Server) -> str:
    lines = http("POST", server.path, headers=tuple(f"X{i}: y" for i in range(100)))
    return exchange(server.rest, *lines.splitlines(keepends=True), pause=0.2)


def slow_body(rng: random.Random, server: Server) -> str:
    head, body = http("POST", server.path, server.document(server.image)).split(b"\r\n\r\n", 1)
    pieces = [body[i : i + 1] for i in range(60)]
    return exchange(server.rest, head + b"\r\n\r\n", *pieces, pause=0.1)


def _images(rng: random.Random, server: Server) -> list[bytes]:
    image = server.image
    odd = rng.choice(
        [
            rng.choice(bombs()),
            mutated(rng, image),
            image[: rng.randrange(len(image))],
            b"",
            rng.randbytes(rng.randint(1, 100)),
            image[:4] + rng.randbytes(50),
            image * 2,
        ]
    )
    images = [image] * rng.choice([0, 0, 3, 30])
    images.insert(rng.randint(0, len(images)), odd)
    return images


# Over gRPC.

CALLED = frozenset(
    {"OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "UNIMPLEMENTED", "OUT_OF_RANGE"}
    | {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE"}
)


def messages(rng: random.Random, server: Server) -> str:
    """Bytes that are not a message; the answer is INTERNAL, in gRPC of any language."""
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = server.model
    valid = [server.request(server.image).SerializeToString(), status.SerializeToString()]
    methods = ["Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata", "Nothing"]
    method = rng.choice([f"{SERVICE}/{name}" for name in methods] + [f"{MODELS}/GetModelStatus"])
    content = rng.choice([mutated(rng, rng.choice(valid)), rng.randbytes(rng.randrange(300)), b""])
    return call(server, method, content)


def grpc_tensors(rng: random.Random, server: Server) -> str:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = server.model
    request.model_spec.signature_name = rng.choice(["", server.pixels_signature, "x\0"])
    names = [server.bytes_input, server.pixels_input, "", "x\0", "../x"]
    for name in rng.sample(names[:2], 1) + rng.choices(names, k=rng.choice([0, 0, 0, 1])):
        request.inputs[name].CopyFrom(rng.choice(tensors()))
    return predict(server, request)


def grpc_shapes(rng: random.Random, server: Server) -> str:
    """Shapes that are larger than what is sent, of the right type."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = server.model
    if is_float := rng.random() < 0.5:
        request.model_spec.signature_name = server.pixels_signature
    tensor = request.inputs[server.pixels_input if is_float else server.bytes_input]
    tensor.dtype = types_pb2.DT_FLOAT if is_float else types_pb2.DT_STRING
    rank = rng.choice([0, 1, 1, 2, 3, 4, 4, 4, 5, 70, 300])
    sizes = [0, 1, 1, 2, 8, 28, 100, 4096, 2**20, 2**24, 2**28, 2**31, 2**40, 2**62, 2**63 - 1]
    sizes = rng.choice([sizes, sizes[:6]]) if rank < 9 else [1]
    for _ in range(rank):
        tensor.tensor_shape.dim.add().size = rng.choice(sizes)
    if is_float:
        tensor.float_val.extend([rng.random(), math.nan, math.inf][: rng.randrange(4)])
    else:
        tensor.string_val.extend([server.image, b"x", b""][: rng.randrange(4)])
    return predict(server, request)


def grpc_images(rng: random.Random, server: Server) -> str:
    return predict(server, server.request(*_images(rng, server)))


def grpc_names(rng: random.Random, server: Server) -> str:
    request = server.request(server.image)
    names = ["", "..", "../../etc", "/", "a\0b", "\u00e9" * 99, "x" * 10**5, server.model]
    request.model_spec.name = rng.choice(names)
    match rng.randrange(3):
        case 0:
            request.model_spec.version_label = rng.choice(names)
        case 1:
            request.model_spec.version.value = rng.choice([0, -1, 2**63 - 1, -(2**63)])
    request.model_spec.signature_name = rng.choice(["", *names])
    request.output_filter.extend(rng.choices(["scores", "classes", *names], k=rng.randrange(4)))
    match rng.randrange(3):
        case 0:
            status = get_model_status_pb2.GetModelStatusRequest(model_spec=request.model_spec)
            return call(server, f"{MODELS}/GetModelStatus", status.SerializeToString())
        case 1:
            metadata = get_model_metadata_pb2.GetModelMetadataRequest(
                model_spec=request.model_spec,
                metadata_field=rng.choices(["signature_def", ""], k=2),
            )
            return call(server, f"{SERVICE}/GetModelMetadata", metadata.SerializeToString())
    return predict(server, request)


def grpc_examples(rng: random.Random, server: Server) -> str:
    examples = input_pb2.Input()
    kept = examples.example_list
    if rng.random() < 0.5:
        kept = examples.example_list_with_context
        content = bytes(rng.choice([1, 10**6]))
        kept.context.features.feature["c"].bytes_list.value.append(content)
    for _ in range(rng.choice([0, 1, 2, 1000])):
        kept.examples.add().features.feature["x"].float_list.value.append(math.nan)
    request: Any = rng.choice(
        [
            classification_pb2.ClassificationRequest(),
            regression_pb2.RegressionRequest(),
            inference_pb2.MultiInferenceRequest(),
        ]
    )
    request.input.CopyFrom(examples)
    if isinstance(request, inference_pb2.MultiInferenceRequest):
        for _ in range(rng.choice([0, 1, 300])):
            method = rng.choice(["classify", "regress", "predict", ""])
            task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
            task.model_spec.name = server.model
    else:
        request.model_spec.name = server.model
    name = type(request).__name__.removesuffix("Request")
    method = {"Classification": "Classify", "Regression": "Regress"}.get(name, name)
    return call(server, f"{SERVICE}/{method}", request.SerializeToString())


def grpc_configs(rng: random.Random, server: Server) -> str:
    """Lists of models that cannot be, so that the one that is stays."""
    request = model_management_pb2.ReloadConfigRequest()
    good = {"name": server.model, "base_path": "/x", "model_platform": "tensorflow"}
    bad = rng.choice([{"base_path": "../x"}, {"model_platform": "x"}, {"name": ""}, {}])
    models = request.config.model_config_list.config
    models.add(**good)
    models.add(**{**good, "name": rng.choice([server.model, "y"]), "model_platform": "x", **bad})
    return call(server, f"{MODELS}/HandleReloadConfigRequest", request.SerializeToString())


def grpc_hurried(rng: random.Random, server: Server) -> str:
    """Deadlines that have passed or soon will, and calls that are given up."""
    message = server.request(*[server.image] * rng.choice([1, 100])).SerializeToString()
    timeout = rng.choice([1e-9, 1e-4, 1e-3, 1e-2])
    if rng.random() < 0.5:
        return call(server, f"{SERVICE}/Predict", message, timeout=timeout)
    future = server.channel.unary_unary(f"{SERVICE}/Predict").future(message, timeout=PATIENCE)
    time.sleep(timeout)
    future.cancel()
    return "closed"


def grpc_large(rng: random.Random, server: Server) -> str:
    """Messages beyond the limit, and many tensors."""
    request = server.request(server.image)
    if rng.random() < 0.5:
        request.inputs["x"].tensor_content = bytes(ENDLESS // 2)
    else:
        for number in range(10_000):
            request.inputs[str(number)].dtype = types_pb2.DT_FLOAT
    return predict(server, request)


def grpc_unfinished(rng: random.Random, server: Server) -> str:
    """Calls that never send a message."""

    def nothing() -> Iterator[bytes]:
        time.sleep(2.0)
        yield from ()

    calls = [
        server.channel.stream_unary(f"{SERVICE}/Predict").future(nothing(), timeout=1.0)
        for _ in range(10)
    ]
    return calls[-1].code().name


@dataclass(frozen=True)
class Kind:
    """One kind of request: how it is sent, how often among the others, and what may come back."""

    send: Callable[[random.Random, Server], str]
    weight: float
    allowed: frozenset[str]


KINDS = {
    kind.send.__name__: kind
    for kind in (
        Kind(json_documents, 12, ANSWERED),
        Kind(json_mutated, 12, ANSWERED),
        Kind(json_deep, 3, ANSWERED),
        Kind(json_numbers, 5, ANSWERED),
        Kind(json_shapes, 5, ANSWERED),
        Kind(json_base64, 4, ANSWERED),
        Kind(rest_images, 6, ANSWERED),
        Kind(rest_names, 8, ANSWERED),
        Kind(bodies_compressed, 4, ANSWERED),
        Kind(bodies_chunked, 4, CLOSED),
        Kind(bodies_endless, 0.2, frozenset({"413", "504"})),
        Kind(bodies_of_other_length, 4, CLOSED),
        Kind(heads, 4, CLOSED | {"100"}),
        Kind(verbs, 4, ANSWERED),
        Kind(other_protocols, 4, CLOSED | {"other"}),
        Kind(half_closed, 2, CLOSED),
        Kind(abandoned, 2, CLOSED),
        Kind(pipelined, 0.5, ANSWERED),
        Kind(slow_head, 0.2, frozenset({"closed"})),
        Kind(slow_body, 0.2, frozenset({"504"})),
        Kind(messages, 8, CALLED | {"INTERNAL"}),
        Kind(grpc_tensors, 10, CALLED),
        Kind(grpc_shapes, 10, CALLED),
        Kind(grpc_images, 6, CALLED),
        Kind(grpc_names, 8, CALLED),
        Kind(grpc_examples, 4, CALLED),
        Kind(grpc_configs, 1, CALLED),
        Kind(grpc_hurried, 2, CALLED | {"closed"}),
        Kind(grpc_large, 0.3, CALLED),
        Kind(grpc_unfinished, 0.2, CALLED),
    )
}


def prepare() -> None:
    """Makes what takes long to make, before threads make it several times."""
    for made in (documents, tensors, bombs, _gzip_bomb):
        made()


def plan(count: int, seed: int) -> list[tuple[str, int]]:
    """Draws kinds by weight, each with a seed of its own; every kind comes at least once."""
    rng = random.Random(seed)
    weights = [kind.weight for kind in KINDS.values()]
    names = list(KINDS) + rng.choices(list(KINDS), weights, k=max(0, count - len(KINDS)))
    rng.shuffle(names)
    return [(name, rng.randrange(2**32)) for name in names[:count]]
