"""Warmup requests, which TensorFlow Serving replays before it serves a version.

Each record has a request with real inputs and the response of the exported model. Servers ignore
the response; it shows later whether the version still gives the same answers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

Tensors = Mapping[str, np.ndarray]
MAXIMUM_RECORDS = 1000
LARGEST_BATCH = 32


@dataclass(frozen=True)
class Record:
    """A request to one signature with the answer that the exported model gave.

    Args:
        signature: Name of the signature.
        inputs: Arrays by input name, examples along the first axis.
        outputs: Arrays by output name, in the same layout.
    """

    signature: str
    inputs: Tensors
    outputs: Tensors


def batches(examples: Tensors) -> Iterator[Tensors]:
    """Cuts examples into batches of 1, 2, 4, ... 32, 32, ..., at most 1000 of them."""
    count = len(next(iter(examples.values())))
    start, size = 0, 1
    for _ in range(MAXIMUM_RECORDS):
        if start >= count:
            return
        yield {name: values[start : start + size] for name, values in examples.items()}
        start, size = start + size, min(2 * size, LARGEST_BATCH)


def write_records(version: Path, records: list[Record]) -> None:
    """Writes the file that TensorFlow Serving looks for in a version."""
    path = _path(version)
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            log = prediction_log_pb2.PredictionLog()
            request, response = log.predict_log.request, log.predict_log.response
            request.model_spec.signature_name = record.signature
            response.model_spec.signature_name = record.signature
            for name, values in record.inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
            for name, values in record.outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
            writer.write(log.SerializeToString())


def read_records(version: Path) -> list[Record]:
    """Reads the records of a version; none if it has no warmup file."""
    path = _path(version)
    if not path.is_file():
        return []
    records = []
    for serialized in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        predict = prediction_log_pb2.PredictionLog.FromString(serialized).predict_log
        records.append(
            Record(
                predict.request.model_spec.signature_name,
                {name: tf.make_ndarray(proto) for name, proto in predict.request.inputs.items()},
                {name: tf.make_ndarray(proto) for name, proto in predict.response.outputs.items()},
            )
        )
    return records


def _path(version: Path) -> Path:
    return version / "assets.extra" / "tf_serving_warmup_requests"
