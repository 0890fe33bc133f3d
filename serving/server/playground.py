"""Examples for the playground, from the warmup requests of a version."""

import json
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.answering import as_plain
from serving.server.servable import Servable

PAGES = {"report": "text/html", "card": "text/plain"}
"""Pages about a version, with their content types, in UTF-8."""
SAFE = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src "
    "'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
"""Headers that keep these files from acting as pages of the server."""
MOST_REQUESTS = 4
LONGEST_REQUEST = 2**20
"""Characters of JSON."""


def examples(servable: Servable, signature: str) -> bytes:
    """Returns the first warmup requests to a signature as JSON, `{"requests": [{input: value}]}`.

    Longer ones than `LONGEST_REQUEST` are left out. Numbers may be NaN, as in all JSON here.
    """
    found: list[str] = []
    for request in _requests(servable):
        if len(found) == MOST_REQUESTS:
            break
        if (request.model_spec.signature_name or "serving_default") == signature:
            arrays = {name: tf.make_ndarray(request.inputs[name]) for name in request.inputs}
            # Without axes an array is no list, but what it holds.
            plain = {
                name: as_plain(name, array if array.ndim else array[()])
                for name, array in arrays.items()
            }
            text = json.dumps(plain)
            if len(text) <= LONGEST_REQUEST:
                found.append(text)
    return f'{{"requests": [{", ".join(found)}]}}'.encode()


def pages(servable: Servable) -> list[str]:
    """Returns those of `PAGES` that exist."""
    return [name for name in PAGES if page(servable, name).is_file()]


def page(servable: Servable, name: str) -> Path:
    """Returns the path of one of `PAGES`; the file may not exist.

    The report is that of the newest run, in the folder of the versions.
    """
    if name == "report":
        return servable.path.parent / "report.html"
    return servable.path / "assets.extra" / "model_card.md"


def _requests(servable: Servable) -> Iterator:
    path = servable.warmup_path
    if path.is_file():
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.WhichOneof("log_type") == "predict_log":
                yield log.predict_log.request
