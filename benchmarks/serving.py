"""Our server against the same SavedModel called in process, and behind LitServe and BentoML.

For each model, in each round: latency and rate in process, then each server by itself with 1, 16
and 32 clients. Requests hold one image, but where the server's name says otherwise. Prints
medians over the rounds.

Example:

    OMP_WAIT_POLICY=passive python -m benchmarks.serving --rounds 3
"""

import base64
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tyro
from sklearn.datasets import load_sample_images
from tensorflow_serving.apis import predict_pb2

from apps import image_classification as app
from models.resnet import resnet
from preprocessing.images import decode_batch
from serving.export import export
from serving.signature import Signature

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCHING = """
max_batch_size { value: 256 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 1 }
"""


@dataclass(frozen=True)
class Config:
    models: tuple[str, ...] = ("lenet5", "resnet18")
    """Models to serve."""
    servers: tuple[str, ...] = (
        "gRPC",
        "gRPC batched",
        "gRPC batched, 32 images",
        "REST",
        "REST batched",
        "LitServe",
        "BentoML",
        "empty gRPC",
        "empty REST",
    )
    """Servers to measure; the empty ones do nothing but what Python needs for the protocol."""
    clients: tuple[int, ...] = (1, 16, 32)
    """Numbers of clients."""
    rounds: int = 3
    """Runs of each."""
    seconds: float = 4.0
    """Length of a run."""


def export_lenet5(base: Path) -> bytes:
    """Exports LeNet-5 for digits and returns one as PNG."""
    app.main(app.Config(epochs=5, out=base))
    return (base / "example.png").read_bytes()


def export_resnet18(base: Path) -> bytes:
    """Exports an untrained ResNet-18 for photographs and returns one as JPEG."""
    shape, names = (224, 224, 3), tf.constant([f"class {i}" for i in range(1000)])

    def best(logits):
        scores, indices = tf.math.top_k(tf.nn.softmax(logits), 5)
        return {"classes": tf.gather(names, indices), "scores": scores}

    signatures = {
        "serving_default": Signature(
            inputs={"image_bytes": tf.TensorSpec((None,), tf.string)},
            preprocess=lambda image_bytes: decode_batch(image_bytes, shape),
            postprocess=best,
            meanings={"image_bytes": "images", "classes": "best first", "scores": "of the classes"},
        )
    }
    photographs = [tf.io.encode_jpeg(picture).numpy() for picture in load_sample_images().images]
    examples = {"image_bytes": np.array(photographs, dtype=object)}
    model = resnet(input_shape=shape, num_classes=1000, depth=18)
    export(base, model, signatures, examples, {"task": "benchmark"})
    return photographs[0]


EXPORTS: dict[str, Callable[[Path], bytes]] = {
    "lenet5": export_lenet5,
    "resnet18": export_resnet18,
}


def in_process(version: Path, image: bytes, seconds: float) -> tuple[float, dict[int, float]]:
    """Returns the median latency of one image in ms, and images/s at each batch size."""
    answer = tf.saved_model.load(str(version)).signatures["serving_default"]
    rates, latency = {}, 0.0
    for size in BATCH_SIZES:
        batch = tf.constant([image] * size)
        times: list[float] = []
        answer(image_bytes=batch)
        end = time.perf_counter() + seconds / 4
        while time.perf_counter() < end or len(times) < 3:
            begin = time.perf_counter()
            answer(image_bytes=batch)["scores"].numpy()
            times.append(time.perf_counter() - begin)
        rates[size] = size / statistics.median(times)
        if size == 1:
            latency = 1000 * statistics.median(times)
    return latency, rates


def write_request(server: str, name: str, image: bytes, folder: Path) -> Path:
    """Writes the bytes of a request to a server, as they go over the wire."""
    encoded = base64.b64encode(image).decode()
    if "gRPC" in server:
        message = predict_pb2.PredictRequest()
        message.model_spec.name = name
        message.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([image] * num_images(server)))
        content = message.SerializeToString()
    elif "REST" in server:
        row = {"instances": [{"image_bytes": {"b64": encoded}}] * num_images(server)}
        content = http_request(f"/v1/models/{name}:predict", json.dumps(row).encode())
    else:
        # BentoML's batches are lists already on their way in.
        body = {"image": [encoded] if server == "BentoML" else encoded}
        content = http_request("/predict", json.dumps(body).encode())
    path = folder / "request"
    path.write_bytes(content)
    return path


def num_images(server: str) -> int:
    """Images of a request, from a name such as `gRPC batched, 32 images`."""
    return int(server.partition(", ")[2].split()[0]) if ", " in server else 1


def http_request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[subprocess.Popen]:
    """Starts a server and ends it, with all its processes."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
            time.sleep(0.1)
        time.sleep(3)  # until workers behind the port are there, too
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def memory(group: int) -> float:
    """Resident memory of all processes of a group, in MB."""
    total = 0
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ProcessLookupError):
            if os.getpgid(int(path.name)) == group:
                pages = int((path / "statm").read_text().split()[1])
                total += pages * os.sysconf("SC_PAGE_SIZE")
    return total / 1e6


def command_of(
    server: str, base: Path, name: str, ports: tuple[int, int], folder: Path
) -> list[str]:
    python = [sys.executable, "-m"]
    if server in ("LitServe", "BentoML"):
        return [*python, "benchmarks.serving_peers", server.lower(), str(base / "1"), str(ports[1])]
    if server.startswith("empty"):
        return [*python, "benchmarks.serving_empty", *map(str, ports)]
    command = [*python, "serving", "serve", f"--model_name={name}", f"--model_base_path={base}"]
    command += [f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    if "batched" in server:
        (folder / "batching.config").write_text(BATCHING)
        command += ["--enable_batching", f"--batching_parameters_file={folder}/batching.config"]
    return command


def load_on(server: str, address: str, request: Path, clients: int, seconds: float) -> dict:
    protocol = "grpc" if "gRPC" in server else "http"
    command = [sys.executable, "-m", "benchmarks.serving_load", protocol, address, str(request)]
    command += ["--clients", str(clients), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{server}: {done.stderr[-1000:]}")
    return json.loads(done.stdout)


def measure(name: str, config: Config, folder: Path) -> None:
    base = folder / name
    image = EXPORTS[name](base)
    latencies, rates = [], []
    found: dict[tuple[str, int], list[dict]] = {}
    for _ in range(config.rounds):
        latency, by_size = in_process(base / "1", image, config.seconds)
        latencies.append(latency)
        rates.append(by_size)
        for server in config.servers:
            ports = free_port(), free_port()
            address = f"127.0.0.1:{ports[0] if 'gRPC' in server else ports[1]}"
            request = write_request(server, name, image, folder)
            command = command_of(server, base, name, ports, folder)
            with running(command, ports[1]) as process:
                for clients in config.clients:
                    result = load_on(server, address, request, clients, config.seconds)
                    result["images"] = result["rate"] * num_images(server)
                    result["memory"] = memory(process.pid)
                    found.setdefault((server, clients), []).append(result)
    print_table(name, statistics.median(latencies), rates, found)


def print_table(name: str, latency: float, rates: list[dict[int, float]], found: dict) -> None:
    by_size = {size: statistics.median(rate[size] for rate in rates) for size in BATCH_SIZES}
    best = max(by_size, key=lambda size: by_size[size])
    print(f"\n{name}: in process {latency:.2f} ms for one image (p50), at best {by_size[best]:.0f}")
    print(
        f"images/s, in batches of {best}; " + ", ".join(f"{s}: {by_size[s]:.0f}" for s in by_size)
    )
    print("\n| server | clients | images/s | of in process | p50, ms | p99, ms | memory, MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (server, clients), results in found.items():
        median = {key: statistics.median(r[key] for r in results) for key in results[0]}
        print(
            f"| {server} | {clients} | {median['images']:.0f} "
            f"| {median['images'] / by_size[best]:.2f} "
            f"| {median['p50']:.2f} | {median['p99']:.2f} | {median['memory']:.0f} |",
            flush=True,
        )


def main(config: Config) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in config.models:
            measure(name, config, Path(folder))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
