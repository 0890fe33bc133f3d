"""Warmup requests are what TensorFlow Serving replays, with the answers beside them."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.warmup import Record, batches, read_records, write_records


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(1, [1]), (10, [1, 2, 4, 3]), (100, [1, 2, 4, 8, 16, 32, 32, 5])],
)
def test_batches_grow_and_hold_every_example(count, sizes):
    found = list(batches({"x": np.arange(count)}))
    assert [len(batch["x"]) for batch in found] == sizes
    assert np.concatenate([batch["x"] for batch in found]).tolist() == list(range(count))


def test_no_more_than_a_thousand_batches():
    assert len(list(batches({"x": np.zeros(40_000, "int8")}))) == 1000


def test_records_come_back_as_written(tmp_path):
    record = Record(
        "serving_default",
        {"text": np.array([b"\xff\x00", b"b"], object)},
        {"scores": np.array([[0.25], [0.5]], "float32")},
    )
    write_records(tmp_path, [record])
    (read,) = read_records(tmp_path)
    assert read.signature == "serving_default"
    np.testing.assert_array_equal(read.inputs["text"], record.inputs["text"])
    np.testing.assert_array_equal(read.outputs["scores"], record.outputs["scores"])


def test_the_file_is_where_and_what_tensorflow_serving_expects(tmp_path):
    write_records(tmp_path, [Record("s", {"x": np.array([1.0], "float32")}, {})])
    path = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    (serialized,) = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    log = prediction_log_pb2.PredictionLog.FromString(serialized)
    assert log.WhichOneof("log_type") == "predict_log"
    assert log.predict_log.request.model_spec.signature_name == "s"
    assert tf.make_ndarray(log.predict_log.request.inputs["x"]) == 1


def test_a_version_without_the_file_has_no_records(tmp_path):
    assert read_records(tmp_path) == []
