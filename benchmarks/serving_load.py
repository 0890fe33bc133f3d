"""Clients that send one and the same request again and again, as fast as it is answered.

Knows nothing of TensorFlow: it sends bytes and looks only at the status, so that on a small machine
the clients leave the server as much of it as they can. Prints rate and latencies as JSON.

Example:

    python -m benchmarks.serving_load grpc 127.0.0.1:8500 request.bin --clients 16
"""

import asyncio
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import grpc
import tyro

PREDICT = "/tensorflow.serving.PredictionService/Predict"
WARM_UP = 1.0


@dataclass(frozen=True)
class Config:
    protocol: tyro.conf.Positional[Literal["grpc", "http"]]
    """How to ask."""
    address: tyro.conf.Positional[str]
    """Host and port."""
    request: tyro.conf.Positional[Path]
    """File with the bytes of a PredictRequest, or of a whole HTTP/1.1 request."""
    clients: int = 1
    """Connections, each with one request at a time."""
    seconds: float = 5.0
    """Length of the measurement, after a second to warm up."""


def ask_grpc(config: Config, seconds: float) -> list[float]:
    request, latencies = config.request.read_bytes(), []
    end = time.perf_counter() + seconds

    def client() -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        with grpc.insecure_channel(config.address, options) as channel:
            call = channel.unary_unary(PREDICT)
            while (begin := time.perf_counter()) < end:
                call(request)
                latencies.append(time.perf_counter() - begin)

    threads = [threading.Thread(target=client) for _ in range(config.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


async def ask_http(config: Config, seconds: float) -> list[float]:
    request, latencies = config.request.read_bytes(), []
    end = time.perf_counter() + seconds
    host, _, port = config.address.rpartition(":")

    async def client() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        while (begin := time.perf_counter()) < end:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            # A refusal, such as 503 of a server that is too busy, is no answer.
            if head.startswith((b"http/1.1 200", b"http/1.0 200")):
                latencies.append(time.perf_counter() - begin)
        writer.close()

    await asyncio.gather(*(client() for _ in range(config.clients)))
    return latencies


def main(config: Config) -> None:
    def ask(seconds: float) -> list[float]:
        if config.protocol == "grpc":
            return ask_grpc(config, seconds)
        return asyncio.run(ask_http(config, seconds))

    ask(WARM_UP)
    begin = time.perf_counter()
    latencies = sorted(ask(config.seconds))
    seconds = time.perf_counter() - begin
    print(
        json.dumps(
            {
                "rate": len(latencies) / seconds,
                "p50": 1000 * latencies[len(latencies) // 2],
                "p99": 1000 * latencies[int(0.99 * len(latencies))],
            }
        )
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
