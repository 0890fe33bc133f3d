"""The same SavedModel behind LitServe and BentoML, each as its documentation does it.

Both take `{"image": BASE64}` at `/predict`, batch requests as our server does, and answer classes
and scores.

Example:

    python -m benchmarks.serving_peers litserve saved_models/lenet5/1 9000
"""

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import bentoml
import litserve

MAX_BATCH_SIZE = 32
BATCH_TIMEOUT = 0.001
"""Seconds; BentoML's is its `max_latency_ms`, by which it sizes batches itself."""


def load(version: str) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(version)


def answer(loaded: Any, images: list[bytes]) -> list[dict]:
    import tensorflow as tf

    outputs = loaded.signatures["serving_default"](image_bytes=tf.constant(images))
    classes, scores = outputs["classes"].numpy().tolist(), outputs["scores"].numpy().tolist()
    return [
        {"classes": [name.decode() for name in names], "scores": values}
        for names, values in zip(classes, scores, strict=True)
    ]


class LitApi(litserve.LitAPI):
    """A SavedModel behind LitServe."""

    def setup(self, device):
        self.loaded = load(os.environ["PEER_VERSION"])

    def decode_request(self, request, **kwargs):
        return base64.b64decode(request["image"])

    def batch(self, inputs):
        return inputs

    def predict(self, x, **kwargs):
        return answer(self.loaded, x)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output, **kwargs):
        return output


@bentoml.service(traffic={"timeout": 60}, workers=1)
class BentoService:
    """A SavedModel behind BentoML."""

    def __init__(self) -> None:
        self.loaded = load(os.environ["PEER_VERSION"])

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=10_000)
    def predict(self, image: list[str]) -> list[dict]:
        return answer(self.loaded, [base64.b64decode(text) for text in image])


def main(peer: str, version: str, port: str) -> None:
    os.environ["PEER_VERSION"] = version
    if peer == "litserve":
        api = LitApi(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT)
        server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
        server.run(host="127.0.0.1", port=int(port), log_level="error", generate_client_file=False)
    else:
        folder = Path(__file__).resolve().parents[1]
        service = "benchmarks.serving_peers:BentoService"
        command = [sys.executable, "-m", "bentoml", "serve", service]
        command += ["--host", "127.0.0.1", "--port", port, "--working-dir", str(folder)]
        sys.exit(subprocess.run(command).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
