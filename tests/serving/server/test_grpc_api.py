import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server.batching import Batching
from serving.server.metrics import Metrics
from serving.server.service import Service
from tests.serving.server.conftest import model_config
from tests.serving.server.foreign import example


def predict_request(name="half", signature="", version=None, label="", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def refused(call, request) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    return caught.value.code().name, caught.value.details()


X = np.array([[1]], np.float32)


def test_predicts_by_latest_version_and_label(server):
    for which in ({}, {"version": 123}, {"label": "stable"}):
        response = server.predict.Predict(predict_request(x=X, **which), timeout=20)
        assert tf.make_ndarray(response.outputs["y"]).tolist() == [[2.5]]
        spec = response.model_spec
        assert (spec.name, spec.version.value, spec.signature_name) == (
            "half",
            123,
            "serving_default",
        )
        assert response.outputs["y"].float_val == [2.5]
        assert not response.outputs["y"].tensor_content


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (predict_request("x"), "NOT_FOUND", "Servable not found for request: Latest(x)"),
        (predict_request(version=9), "NOT_FOUND", "Servable not found for request: Specific(half"),
        (predict_request(version=0), "NOT_FOUND", "Servable not found for request: Specific(half"),
        (predict_request(label="l"), "INVALID_ARGUMENT", "Unrecognized servable version label: l"),
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (predict_request(""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (
            predict_request(signature="s"),
            "FAILED_PRECONDITION",
            'Serving signature key "s" not found.',
        ),
        (predict_request(), "INVALID_ARGUMENT", "input size does not match signature: 0!=1"),
        (
            predict_request(x=np.array([[1]], np.int32)),
            "INVALID_ARGUMENT",
            "Expects arg[0] to be float but int32 is provided",
        ),
    ],
)
def test_bad_requests_to_predict_get_the_server_s_status(server, request_, code, message):
    found, details = refused(server.predict.Predict, request_)
    assert found == code
    assert details.startswith(message)


def test_malformed_tensors_are_refused(server):
    request = predict_request(x=X)
    request.inputs["x"].ClearField("dtype")
    assert refused(server.predict.Predict, request) == (
        "INVALID_ARGUMENT",
        "tensor parsing error: x",
    )


def test_outputs_are_filtered(server):
    request = predict_request("types", "constants", x=np.array([1, 2], np.float32))
    request.output_filter.extend(["text", "x_out"])
    response = server.predict.Predict(request, timeout=20)
    assert response.outputs.keys() == {"text", "x_out"}


def test_messages_may_be_larger_than_four_megabytes(server):
    x = np.zeros((1_500_000, 1), np.float32)
    response = server.predict.Predict(predict_request(x=x), timeout=20)
    assert len(response.outputs["y"].float_val) == len(x)


def test_long_errors_are_cut(server):
    _, details = refused(server.predict.Predict, predict_request(**{"z" * 3000: 1, "y": 1}))
    assert len(details) == 1024 + len("...TRUNCATED")
    assert details.endswith("...TRUNCATED")


def test_classifies_and_regresses(server):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "half", "classify"
    request.input.example_list.examples.append(example(1))
    response = server.predict.Classify(request, timeout=20)
    (row,) = response.result.classifications
    assert [(c.label, c.score) for c in row.classes] == [("one", 2.5), ("many", 3.5)]
    assert response.model_spec.signature_name == "classify"

    regression = regression_pb2.RegressionRequest(input=request.input)
    regression.model_spec.name, regression.model_spec.signature_name = "half", "regress"
    response = server.predict.Regress(regression, timeout=20)
    assert [r.value for r in response.result.regressions] == [2.5]
    regression.ClearField("model_spec")
    expected = ("INVALID_ARGUMENT", "Missing ModelSpec")
    assert refused(server.predict.Regress, regression) == expected
    assert refused(server.predict.Classify, classification_pb2.ClassificationRequest()) == expected


def test_asks_several_signatures_at_once(server):
    request = inference_pb2.MultiInferenceRequest()
    request.input.example_list.examples.append(example(1))
    for method, signature in (("regress", "regress"), ("classify", "scores")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "half", signature
    first, second = server.predict.MultiInference(request, timeout=20).results
    assert first.regression_result.regressions[0].value == 2.5
    assert second.classification_result.classifications[0].classes[1].score == 3.5
    assert second.model_spec.version.value == 123
    request.tasks[0].method_name = "tensorflow/serving/predict"
    assert refused(server.predict.MultiInference, request) == (
        "UNIMPLEMENTED",
        "Unsupported signature method_name: tensorflow/serving/predict",
    )
    assert refused(server.predict.MultiInference, inference_pb2.MultiInferenceRequest()) == (
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified.",
    )


def test_asks_signatures_of_several_inputs_with_and_without_batches(server):
    request = inference_pb2.MultiInferenceRequest()
    request.input.example_list.examples.append(example(1))
    for signature in ("regress", "regress_elsewhere", "regress_three"):
        task = request.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.name, task.model_spec.signature_name = "half", signature
    batched = Service(server.service.manager, Metrics(), batching=Batching(timeout=0.0))
    for ask in (server.predict.MultiInference, batched.multi_inference):
        results = ask(request).results
        assert [r.regression_result.regressions[0].value for r in results] == [2.5, 2.5, 3.5]


def test_tells_metadata(server):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    assert refused(server.predict.GetModelMetadata, request)[1] == "Missing ModelSpec"
    request.model_spec.name = "half"
    response = server.predict.GetModelMetadata(request, timeout=20)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["regress"].method_name == "tensorflow/serving/regress"
    assert response.model_spec.version.value == 123


def status_request(name="half", version=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    return request


def test_tells_states(server):
    (status,) = server.models.GetModelStatus(status_request(), timeout=20).model_version_status
    assert (status.version, status.state) == (123, status.AVAILABLE)
    assert status.status.error_code == 0
    get = server.models.GetModelStatus
    assert refused(get, status_request("x")) == (
        "NOT_FOUND",
        "Could not find any versions of model x",
    )
    assert refused(get, status_request(version=9)) == (
        "NOT_FOUND",
        "Could not find version 9 of model half",
    )
    assert refused(get, get_model_status_pb2.GetModelStatusRequest()) == (
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    )


def reload_request(*models):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    request.config.model_config_list.config.extend(models)
    return request


def test_a_new_list_of_models_replaces_the_old_one(server, half_path):
    old = list(server.service.manager.configs().values())
    for config in old:
        config.version_labels.clear()
    reload = server.models.HandleReloadConfigRequest
    try:
        reload(reload_request(*old, model_config("more", half_path.parent)), timeout=20)
        request = predict_request("more", x=X)
        assert server.predict.Predict(request, timeout=20).outputs["y"].float_val == [2.5]
    finally:
        response = reload(reload_request(*old), timeout=20)
    assert response.status.error_code == 0
    assert refused(server.predict.Predict, request)[0] == "NOT_FOUND"
    labelled = [type(config).FromString(config.SerializeToString()) for config in old]
    next(c for c in labelled if c.name == "half").version_labels["stable"] = 123
    reload(reload_request(*labelled), timeout=20)


def test_bad_lists_of_models_are_refused_and_change_nothing(server, half_path, tmp_path):
    base = half_path.parent
    before = server.service.manager.configs()
    platform = model_config("half", base)
    platform.model_platform = ""
    unknown = model_config("new", base)
    unknown.model_platform = "torch"
    label = model_config("half", base)
    label.version_labels["stable"] = 9
    relative = model_config("half", base)
    relative.base_path = "models/half"
    for models, code, message in [
        ((platform, platform), "INVALID_ARGUMENT", "Illegal to list model half multiple times"),
        ((relative,), "INVALID_ARGUMENT", "Expected model half to have an absolute path or URI"),
        ((platform,), "INVALID_ARGUMENT", "Illegal to change a model's platform. For model half"),
        ((unknown,), "INVALID_ARGUMENT", "platform"),
        ((label,), "FAILED_PRECONDITION", "Request to assign label to version 9 of model half"),
    ]:
        found = refused(server.models.HandleReloadConfigRequest, reload_request(*models))
        assert found[0] == code
        assert message in found[1]
    nothing = model_management_pb2.ReloadConfigRequest()
    assert (
        "Only ModelConfigList is currently supported"
        in (refused(server.models.HandleReloadConfigRequest, nothing)[1])
    )
    assert server.service.manager.configs() == before


def test_a_model_that_does_not_load_is_reported_to_whoever_requested_it(server, tmp_path):
    (tmp_path / "broken" / "1").mkdir(parents=True)
    old = list(server.service.manager.configs().values())
    broken = model_config("broken", tmp_path / "broken")
    reload = server.models.HandleReloadConfigRequest
    code, message = refused(reload, reload_request(*old, broken))
    assert code == "UNKNOWN"
    assert "1 servable(s) did not become available: {broken version 1" in message
    reload(reload_request(*old), timeout=20)


def test_tells_its_health(server):
    stub = health_pb2_grpc.HealthStub(server.channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="unknown"), timeout=20)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
