"""The server's own batcher against TensorFlow's operation for it, BatchFunction, without a network.

Threads ask LeNet-5 for one image each, as many times as they can. Prints medians over the rounds.

Example:

    OMP_WAIT_POLICY=passive python -m benchmarks.serving_batching
"""

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tyro

from benchmarks.serving import export_lenet5
from serving.server.batching import Batcher, Batching
from serving.server.servable import Servable

BATCHING = Batching(max_batch_size=256, max_enqueued_batches=100, num_threads=1)


@dataclass(frozen=True)
class Config:
    threads: tuple[int, ...] = (1, 16, 64)
    """Numbers of threads that ask."""
    rounds: int = 5
    """Runs of each."""
    seconds: float = 3.0
    """Length of a run."""


def own_batcher(version: Path, image: bytes) -> Callable[[], Any]:
    servable = Servable("lenet5", 1, version, tf.compat.v1.ConfigProto())
    definition = servable.signature("serving_default")
    outputs = sorted(definition.outputs)
    batcher = Batcher(
        lambda inputs: servable.run("serving_default", inputs, outputs), ("image_bytes",), BATCHING
    )
    one = {"image_bytes": np.array([image], dtype=object)}
    return lambda: batcher.answer(one)


def batch_function(version: Path, image: bytes) -> Callable[[], Any]:
    loaded = tf.saved_model.load(str(version))
    answer = loaded.signatures["serving_default"]
    names = sorted(answer.structured_outputs)

    @tf.nondifferentiable_batch_function(
        BATCHING.num_threads,
        BATCHING.max_batch_size,
        batch_timeout_micros=0,
        max_enqueued_batches=BATCHING.max_enqueued_batches,
    )
    def batched(image_bytes):
        outputs = answer(image_bytes=image_bytes)
        return [outputs[name] for name in names]

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def ask(image_bytes):
        return batched(image_bytes)

    one = tf.constant([image])
    kept = loaded  # The variables live as long as it does.
    return lambda: (kept, [output.numpy() for output in ask(one)])


def rate(ask: Callable[[], Any], threads: int, seconds: float) -> float:
    counts = [0] * threads
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        while time.perf_counter() < end:
            ask()
            counts[number] += 1

    clients = [threading.Thread(target=client, args=(number,)) for number in range(threads)]
    begin = time.perf_counter()
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return sum(counts) / (time.perf_counter() - begin)


def main(config: Config) -> None:
    with tempfile.TemporaryDirectory() as folder:
        image = export_lenet5(Path(folder))
        version = Path(folder) / "1"
        askers = {
            "own": own_batcher(version, image),
            "BatchFunction": batch_function(version, image),
        }
        for ask in askers.values():
            rate(ask, max(config.threads), 1.0)
        found: dict[tuple[str, int], list[float]] = {}
        for _ in range(config.rounds):
            for threads in config.threads:
                for name, ask in askers.items():
                    found.setdefault((name, threads), []).append(rate(ask, threads, config.seconds))
    print("| threads | own batcher, images/s | BatchFunction, images/s | ratio |")
    print("| --- | --- | --- | --- |")
    for threads in config.threads:
        own, theirs = (statistics.median(found[name, threads]) for name in askers)
        print(f"| {threads} | {own:.0f} | {theirs:.0f} | {own / theirs:.2f} |")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
