import io
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode
from PIL import Image
from tensorflow_serving.apis import input_pb2, predict_pb2

from serving.server.batching import Batching
from serving.server.failure import Failure, invalid
from serving.server.inference import Call, byte_values
from serving.server.metrics import Metrics
from serving.server.service import Service


def service(servable=None, **arguments) -> Service:
    @contextmanager
    def using(spec):
        yield servable

    manager = SimpleNamespace(using=using, has=lambda name: name == "m")
    return Service(manager, Metrics(), **arguments)  # type: ignore[arg-type]


def request(*values: float, signature="", output_filter=()) -> predict_pb2.PredictRequest:
    made = predict_pb2.PredictRequest(output_filter=output_filter)
    made.model_spec.name, made.model_spec.signature_name = "m", signature
    made.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array(values, np.float32).reshape(-1, 1)))
    return made


def test_answers_are_counted():
    served = service()
    assert served.answer(lambda deadline: deadline, "m", "Predict", "GRPC", None) is None
    with pytest.raises(Failure):
        served.answer(lambda deadline: (_ for _ in ()).throw(invalid("no")), "m", "P", "GRPC", 1)
    text = served.metrics.text()
    assert '{model_name="m",status="OK"} 1' in text
    assert '{model_name="m",status="INVALID_ARGUMENT"} 1' in text
    assert served.requests == 0


def test_names_that_no_model_has_are_counted_together():
    served = service()
    for name in ("a", "b"):
        served.answer(lambda deadline: 1, name, "Predict", "GRPC", None)
    assert '{model_name="",status="OK"} 2' in served.metrics.text()


def test_a_deadline_that_has_passed_is_reported():
    with pytest.raises(Failure) as caught:
        service().answer(lambda deadline: 1, "m", "Predict", "GRPC", 0.0)
    assert caught.value.code == StatusCode.DEADLINE_EXCEEDED


def test_requests_beyond_the_most_are_refused():
    served = service(max_requests=1)

    def within(deadline):
        served.answer(lambda deadline: 1, "m", "Predict", "GRPC", None)

    with pytest.raises(Failure) as caught:
        served.answer(within, "m", "Predict", "GRPC", None)
    assert caught.value.code == StatusCode.RESOURCE_EXHAUSTED
    assert served.answer(lambda deadline: 1, "m", "Predict", "GRPC", None) == 1


def test_any_fault_is_reported_and_counted(caplog):
    served = service()
    with pytest.raises(Failure, match="INTERNAL: ZeroDivisionError"):
        served.answer(lambda deadline: 1 / 0, "m", "Predict", "GRPC", None)
    assert 'status="INTERNAL"} 1' in served.metrics.text()
    assert "failed" in caplog.text


def test_a_string_that_was_sent_once_counts_once(half):
    image = io.BytesIO()
    Image.new("L", (1000, 1000)).save(image, "PNG")
    files = np.full(100, None)
    files[:] = [image.getvalue()] * 100
    call = Call("", {"x": files}, ())
    with pytest.raises(Failure, match="images of `x` have 100000000 pixels together"):
        service(half, max_image_pixels=10**6).run(half, call, None)
    made = input_pb2.Input()
    made.example_list_with_context.context.features.feature["x"].bytes_list.value[:] = [files[0]]
    for _ in range(100):
        made.example_list_with_context.examples.add()
    assert list(byte_values(made)) == [(files[0], 100)]


def test_batched_requests_are_answered_as_others_are(half):
    plain = service(half)
    batched = service(half, batching=Batching(max_batch_size=4, allowed_sizes=(2, 4)))
    for values in ((1,), (1, 2, 3)):
        assert batched.predict(request(*values)) == plain.predict(request(*values))
    half.batchers.clear()


def test_a_batch_is_of_one_signature_and_its_outputs(half):
    batched = service(half, batching=Batching(max_batch_size=4))
    batched.predict(request(1))
    batched.predict(request(1, output_filter=["y"]))
    with pytest.raises(Failure, match="Batched output tensor has 0 dimensions"):
        batched.predict(request(1, signature="vector"))
    assert batched.predict(request(1, 2, signature="vector", output_filter=["y"])).outputs
    assert list(half.batchers) == [
        ("", ("y",)),
        ("vector", ("s", "y")),
        ("vector", ("y",)),
    ]
    half.batchers.clear()
