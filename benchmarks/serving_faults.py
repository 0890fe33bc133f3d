"""What hostile clients, hot swaps and a crowd do to the server: wrong answers, failures, memory.

`hostile` sends thousands of generated requests that no honest client sends (serving_hostile.py),
`soak` exchanges versions every few seconds under mixed load, `crowd` lets hundreds of clients ask a
slow model. Each prints what came back and the memory of the server; anything wrong ends it with 1.

Example:

    python -m benchmarks.serving_faults --model saved_models/image_classification
"""

import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import tensorflow as tf
import tyro

from benchmarks import serving_hostile as hostile
from benchmarks.serving import free_port
from serving import versions

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Config:
    parts: tuple[str, ...] = ("hostile", "soak", "crowd")
    """What to do."""
    model: Path = Path("saved_models/image_classification")
    """Folder of the versions of an image classifier; it is copied."""
    requests: int = 10_000
    """Hostile requests."""
    every: int = 100
    """Hostile requests after which a good one must be answered right."""
    seconds: float = 300.0
    """Length of the soak; the first fifth of it is warm-up."""
    swap_seconds: float = 3.0
    """Seconds between two new versions."""
    clients: int = 500
    """The crowd."""
    seed: int = 0
    """Seeds the hostile requests."""


class Process:
    """A server as a process of its own."""

    def __init__(self, process: subprocess.Popen, server: hostile.Server, log: Any):
        self.process, self.server, self._log = process, server, log

    def check(self) -> None:
        """Raises a RuntimeError with the end of the log if the server is dead."""
        if self.process.poll() is not None:
            self._log.seek(0)
            text = self._log.read()[-5000:].decode(errors="replace")
            raise RuntimeError(f"The server ended with {self.process.returncode}: {text}")

    @property
    def memory(self) -> float:
        """Resident memory in MiB."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def peak(self) -> float:
        """The most resident memory ever, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10

    def settled_memory(self) -> float:
        """Resident memory once all requests are answered and memory is given back."""
        lowest = self.memory
        for _ in range(20):
            time.sleep(0.25)
            lowest = min(lowest, self.memory)
        return lowest


@contextlib.contextmanager
def serving(folder: Path, model: str, image: bytes, *flags: str) -> Iterator[Process]:
    """Starts a server for a folder of models and ends it, which it must do by itself.

    Raises:
        RuntimeError: It did not start, or did not end with exit status 0.
    """
    ports = free_port(), free_port()
    command = [sys.executable, "-m", "serving", "serve", str(folder), *flags]
    command += ["--port", str(ports[0]), "--rest_api_port", str(ports[1])]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
        channel = grpc.insecure_channel(
            f"127.0.0.1:{ports[0]}", [("grpc.max_send_message_length", -1)]
        )
        try:
            server = hostile.Server(ports[1], ports[0], channel, model, image)
            kept = Process(process, server, log)
            if not any(line.startswith(b"Serving ") for line in process.stdout or ()):
                process.wait(90)
                kept.check()
            yield kept
            process.send_signal(signal.SIGTERM)
            if process.wait(90) != 0:
                kept.check()
        finally:
            channel.close()
            process.kill()
            process.communicate()


BATCHING = """
max_batch_size { value: 64 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
"""


def _modes(folder: Path) -> dict[str, tuple[str, ...]]:
    """How to serve, in one half of what is measured and in the other."""
    parameters = folder / "batching.config"
    parameters.write_text(BATCHING)
    batched = ("--enable_batching", f"--batching_parameters_file={parameters}")
    return {"one by one": (), "batched": batched}


# Hostile requests.


@dataclass
class Outcomes:
    """What came back for each kind, and what should not have."""

    statuses: dict[str, collections.Counter]
    faults: list[str]

    @property
    def count(self) -> int:
        return sum(statuses.total() for statuses in self.statuses.values())


def send_hostile(process: Process, count: int, seed: int, every: int, workers: int) -> Outcomes:
    """Sends hostile requests from several clients, and good ones in between."""
    hostile.prepare()
    expected = process.server.good()
    outcomes = Outcomes(collections.defaultdict(collections.Counter), [])
    lock = threading.Lock()

    def send(number: int, name: str, kind_seed: int) -> None:
        process.check()
        kind = hostile.KINDS[name]
        try:
            status = kind.send(random.Random(kind_seed), process.server)
        # Any exception is reported with the request that caused it.
        except Exception as error:
            status = f"{type(error).__name__}: {error}"
        fault = status not in kind.allowed
        wrong = None
        if number % every == 0 or fault:
            wrong = _good_request_fails(process.server, expected)
        with lock:
            outcomes.statuses[name][status] += 1
            if fault:
                outcomes.faults.append(f"{name} with seed {kind_seed}: {status}")
            if wrong:
                outcomes.faults.append(f"a good request after {name}, {kind_seed}: {wrong}")

    with ThreadPoolExecutor(workers) as pool:
        plan = enumerate(hostile.plan(count, seed), start=1)
        for sent in [pool.submit(send, number, *case) for number, case in plan]:
            try:
                sent.result()
            except RuntimeError as error:
                outcomes.faults.append(str(error))
                pool.shutdown(cancel_futures=True)
                break
    return outcomes


def _good_request_fails(server: hostile.Server, expected: Any) -> str | None:
    try:
        answer = server.good()
    except (OSError, grpc.RpcError) as error:
        return f"{type(error).__name__}: {error}"
    return None if _rounded(answer) == _rounded(expected) else f"{answer} instead of {expected}"


HOSTILE_FLAGS = (
    "--rest_api_timeout_in_ms=3000",
    f"--max_request_bytes={2**24}",
    "--file_system_poll_wait_seconds=1",
)


def be_hostile(config: Config, folder: Path, image: bytes) -> list[str]:
    faults = []
    for seed, (name, flags) in enumerate(_modes(folder).items(), start=config.seed):
        with serving(folder, config.model.name, image, *HOSTILE_FLAGS, *flags) as process:
            faults += _be_hostile(name, seed, config, process)
    return faults


def _be_hostile(name: str, seed: int, config: Config, process: Process) -> list[str]:
    count = config.requests // 2
    # For what is made at the first use of it: threads, and their memory.
    warm_up = send_hostile(process, count // 2, -1 - seed, config.every, 16)
    before, begin = process.settled_memory(), time.monotonic()
    outcomes = send_hostile(process, count, seed, config.every, 16)
    seconds, after = time.monotonic() - begin, process.settled_memory()
    for kind, statuses in sorted(outcomes.statuses.items()):
        found = "  ".join(f"{status} {n}" for status, n in statuses.most_common())
        print(f"{kind:24}{statuses.total():6}   {found}")
    print(
        f"hostile, {name}: {outcomes.count} requests in {seconds:.0f} s, "
        f"{len(outcomes.faults)} faults; memory {before:.0f} MiB before, {after:.0f} MiB after, "
        f"{process.peak:.0f} MiB at most",
        flush=True,
    )
    faults = warm_up.faults + outcomes.faults
    if after > 1.1 * before:
        faults.append(f"memory grew from {before:.0f} to {after:.0f} MiB")
    return faults


# Mixed load while versions come and go.


def soak(config: Config, folder: Path, image: bytes) -> list[str]:
    faults = []
    for name, flags in _modes(folder).items():
        with serving(folder, config.model.name, image, *flags) as process:
            faults += _soak(name, config, process, folder / config.model.name)
    return faults


def _soak(name: str, config: Config, process: Process, base: Path) -> list[str]:
    server, seconds = process.server, config.seconds / 2
    expected = {size: _answers(server, size) for size in (1, 3, 16)}
    stop, lock = threading.Event(), threading.Lock()
    counts: collections.Counter = collections.Counter()
    faults: list[str] = []

    def client(number: int) -> None:
        rng = random.Random(number)
        while not stop.is_set():
            size = rng.choice([1, 1, 3, 16])
            try:
                answers = _answers(server, size, over_rest=bool(number % 2))
                fault = "" if answers in expected[size] else f"wrong answer {answers}"
            except (OSError, grpc.RpcError) as error:
                fault = f"{type(error).__name__}: {error}"
            with lock:
                counts["requests"] += 1
                if fault:
                    faults.append(fault)

    def publisher() -> None:
        while not stop.wait(config.swap_seconds):
            with versions.workplace(base) as written:
                shutil.copytree(versions.newest(base), written)
                versions.publish(written, base)
            for number in list(versions.numbered(base))[:-3]:
                shutil.rmtree(base / str(number))
            counts["versions"] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=publisher))
    for thread in threads:
        thread.start()
    samples = []
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        samples.append((elapsed, process.memory))
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    before, after = (_highest(samples, seconds, tenth) for tenth in (2, 9))
    growth = after / before - 1
    print(
        f"soak, {name}: {counts['requests']} requests, {counts['versions']} versions, "
        f"{len(faults)} wrong or failed; memory {before:.0f} MiB after the warm-up, "
        f"{after:.0f} MiB at the end: {growth:+.1%}",
        flush=True,
    )
    if growth > 0.05:
        faults.append(f"memory grew by {growth:.1%}")
    return faults


def _highest(samples: list[tuple[float, float]], seconds: float, tenth: int) -> float:
    """The most memory in one tenth of the time: versions come and go in it."""
    edges = seconds * tenth / 10, seconds * (tenth + 1) / 10
    return max(memory for moment, memory in samples if edges[0] <= moment < edges[1])


def _answers(server: hostile.Server, size: int, over_rest: bool | None = None) -> Any:
    """What comes back for several good images; over both, one after the other, if None."""
    if over_rest is None:
        return [_answers(server, size, over_rest=True), _answers(server, size, over_rest=False)]
    images = [server.image] * size
    if over_rest:
        url = f"http://127.0.0.1:{server.rest}{server.path}"
        with urllib.request.urlopen(url, server.document(*images), timeout=30) as answer:
            return _rounded(json.load(answer)["predictions"])
    ask = server.channel.unary_unary(
        f"{hostile.SERVICE}/Predict",
        response_deserializer=hostile.predict_pb2.PredictResponse.FromString,
    )
    found = ask(server.request(*images).SerializeToString(), timeout=30)
    return _rounded(
        {name: list(t.string_val or t.float_val) for name, t in sorted(found.outputs.items())}
    )


def _rounded(value: Any) -> Any:
    """Scores differ in their last digits by the size of the batch that they are in."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


# A crowd before a slow model.


def write_slow_model(version: Path) -> None:
    """Writes a model that sleeps for the seconds that it is given first, and gives them back."""

    class Slow(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
        def __call__(self, x):
            one = tf.data.Dataset.from_tensors(x)._variant_tensor
            slow = tf.raw_ops.SleepDataset(
                input_dataset=one,
                sleep_microseconds=tf.cast(1e6 * x[0], tf.int64),
                output_types=[tf.float32],
                output_shapes=[(None,)],
            )
            (y,) = tf.raw_ops.DatasetToSingleElement(
                dataset=slow, output_types=[tf.float32], output_shapes=[(None,)]
            )
            return {"y": y}

    slow = Slow()
    tf.saved_model.save(slow, str(version), signatures={"serving_default": slow.__call__})


CROWD_FLAGS = ("--max_requests=64", "--grpc_max_threads=16", "--rest_api_timeout_in_ms=5000")


def crowd(config: Config, folder: Path, image: bytes) -> list[str]:
    """Hundreds of clients ask for a while; what is beyond the bound is refused at once."""
    write_slow_model(folder / "slow" / "1")
    with serving(folder, config.model.name, image, *CROWD_FLAGS) as process:
        ask_all(process, config.clients, seconds=3.0)
        before = process.settled_memory()
        statuses = ask_all(process, config.clients, seconds=15.0)
        after = process.settled_memory()
        expected = process.server.good()
        faults = [_good_request_fails(process.server, expected) or ""]
        found = "  ".join(f"{status} {n}" for status, n in statuses.most_common())
        print(
            f"crowd of {config.clients}: {found}; memory {before:.0f} MiB before, "
            f"{after:.0f} MiB after, {process.peak:.0f} MiB at most"
        )
    allowed = {"200", "429", "OK", "RESOURCE_EXHAUSTED"}
    faults += [f"crowd: {status}" for status in statuses if status not in allowed]
    faults += [f"crowd: no {status}" for status in allowed if not statuses[status]]
    if after > 1.1 * before:
        faults.append(f"crowd: memory grew from {before:.0f} to {after:.0f} MiB")
    return [fault for fault in faults if fault]


def ask_all(process: Process, clients: int, seconds: float) -> collections.Counter:
    """Lets clients ask the slow model, half over REST, half over gRPC, and counts the statuses."""
    server, end = process.server, time.monotonic() + seconds
    body = json.dumps({"inputs": [0.5] * 1000}).encode()
    request = hostile.predict_pb2.PredictRequest()
    request.model_spec.name = "slow"
    request.inputs["x"].dtype = tf.float32.as_datatype_enum
    request.inputs["x"].tensor_shape.dim.add().size = 1000
    request.inputs["x"].float_val.extend([0.5] * 1000)
    message = request.SerializeToString()
    ways: list[Callable[[], str]] = [
        lambda: hostile.post(server, body, path="/v1/models/slow:predict"),
        lambda: hostile.call(server, f"{hostile.SERVICE}/Predict", message),
    ]
    statuses: collections.Counter = collections.Counter()
    lock = threading.Lock()

    def client(number: int) -> None:
        while time.monotonic() < end:
            status = ways[number % 2]()
            with lock:
                statuses[status] += 1
            # Who is refused comes again, but not at once.
            time.sleep(0.2)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return statuses


PARTS = {"hostile": be_hostile, "soak": soak, "crowd": crowd}


def main(config: Config) -> int:
    newest = versions.newest(config.model)
    image = (config.model / "example.png").read_bytes()
    faults = []
    for part in config.parts:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            shutil.copytree(newest, folder / config.model.name / "1")
            faults += PARTS[part](config, folder, image)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
