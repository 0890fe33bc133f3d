import gc

import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    inference_pb2,
    input_pb2,
    predict_pb2,
    prediction_log_pb2,
)

from serving.server import inference
from serving.server.failure import Failure
from tests.serving.server import foreign
from tests.serving.server.foreign import example, load


def predict(servable, signature="", output_filter=(), **inputs):
    arrays = {name: np.array(value) for name, value in inputs.items()}
    call = inference.predict_call(servable, signature, arrays, output_filter)
    return dict(zip(call.outputs, inference.run(servable, call), strict=True))


def examples(*values: float) -> input_pb2.Input:
    made = input_pb2.Input()
    made.example_list.examples.extend(example(value) for value in values)
    return made


def classify(servable, signature, *values):
    call = inference.classify_call(servable, signature, examples(*values))
    return inference.classifications(call, inference.run(servable, call))


def regress(servable, signature, *values):
    call = inference.regress_call(servable, signature, examples(*values))
    return inference.regressions(call, inference.run(servable, call))


def refused(code: str, message: str):
    return pytest.raises(Failure, match=f"(?s)^{code}: {message}")


# Predict.


def test_a_graph_of_tensorflow_1_predicts(half):
    assert predict(half, x=np.array([[1], [2]], np.float32))["y"].tolist() == [[2.5], [3.0]]


def test_every_type_goes_in_and_out_as_it_is(types):
    arrays = {
        name: np.array([b"a", b"\xff"], object)
        if dtype == tf.string
        else np.array([0, 1], dtype.as_numpy_dtype)
        for name, dtype in foreign.TYPES.items()
    }
    call = inference.predict_call(types, "types", arrays)
    outputs = dict(zip(call.outputs, inference.run(types, call), strict=True))
    assert outputs.keys() == {f"{name}_out" for name in foreign.TYPES}
    for name, array in arrays.items():
        assert outputs[f"{name}_out"].dtype == array.dtype
        assert outputs[f"{name}_out"].tolist() == array.tolist()
    response = inference.predict_response(types, call, list(outputs.values()))
    assert tf.make_ndarray(response.outputs["string_out"]).tolist() == [b"a", b"\xff"]


def test_scalars_come_out(types):
    outputs = predict(types, "constants", x=np.array([1], np.float32))
    call = inference.Call("constants", {}, tuple(outputs))
    response = inference.predict_response(types, call, list(outputs.values()))
    assert response.outputs["number"].float_val == [3.0]
    assert response.outputs["text"].string_val == [b"t"]
    assert not response.outputs["text"].tensor_shape.dim


def test_an_export_of_ours_predicts(exported):
    servable = load(exported / "1")
    outputs = predict(servable, "from_pixels", images=np.zeros((2, 8, 8, 1), np.float32))
    assert outputs["logits"].shape == (2, 3)
    servable.close()


def test_shapes_are_not_compared_with_the_signature(half):
    assert predict(half, x=np.array([1, 2], np.float32))["y"].tolist() == [2.5, 3.0]


def test_the_answer_says_who_answered(half):
    call = inference.predict_call(half, "", {"x": np.zeros((1, 1), np.float32)})
    spec = inference.predict_response(half, call, inference.run(half, call)).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 1, "serving_default")


def test_an_unknown_signature_is_refused(half):
    with refused("FAILED_PRECONDITION", 'Serving signature key "s" not found.'):
        predict(half, "s", x=np.array([[1]], np.float32))


def test_missing_and_extra_inputs_are_named(half):
    with refused(
        "INVALID_ARGUMENT",
        r"input size does not match signature: 0!=1 len\({}\) != len\({x}\). Sent extra: {}. "
        r"Missing but required: {x}\.",
    ):
        predict(half)
    with refused(
        "INVALID_ARGUMENT",
        r"input size does not match signature: 2!=1 len\({x,z}\) != len\({x}\). Sent extra: {z}. "
        r"Missing but required: {}\.",
    ):
        predict(half, x=np.array([[1]], np.float32), z=1)
    with refused(
        "INVALID_ARGUMENT",
        r"Signature input alias: x\(feed name: x:0\) not found in request and no default value "
        r"provided. Inputs expected to be in the request {z}, or default input alias set: ",
    ):
        predict(half, z=1)


def test_tensors_are_read_once_their_names_are_right(half):
    request = predict_pb2.PredictRequest()
    request.inputs["x"].dtype = request.inputs["z"].dtype = types_pb2.DT_INVALID
    with refused("INVALID_ARGUMENT", "input size does not match signature: 2!=1"):
        inference.read_inputs(half, request)
    request.model_spec.signature_name = "s"
    with refused("FAILED_PRECONDITION", "Serving signature key"):
        inference.read_inputs(half, request)


def test_a_wrong_type_is_named(half):
    with refused("INVALID_ARGUMENT", r"Expects arg\[0\] to be float but int32 is provided"):
        predict(half, x=np.array([[1]], np.int32))


def test_defaults_supply_missing_inputs(types):
    given = {"x": np.array([1], np.float32), "s": np.array([b"a"], object)}
    assert predict(types, "defaults", **given)["n_out"].tolist() == [42]
    assert predict(types, "defaults", **given, n=np.array([1], np.int32))["n_out"].tolist() == [2]
    with refused("INVALID_ARGUMENT", r"Signature input alias: s\(feed name: .*set: n$"):
        predict(types, "defaults", x=np.array([1], np.float32))
    with refused("INVALID_ARGUMENT", "Inputs contains invalid name. Used request inputs: s,x"):
        predict(types, "defaults", **given, z=1)
    with refused("INVALID_ARGUMENT", "input size does not match signature: 2!=3"):
        predict(types, "several", **given)


def test_outputs_are_filtered_in_the_requested_order(types):
    given = {
        "x": np.array([1], np.float32),
        "n": np.array([1], np.int32),
        "s": np.array([b"a"], object),
    }
    outputs = predict(types, "several", ("x_out", "n_out"), **given)
    assert list(outputs) == ["x_out", "n_out"]
    with refused(
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set "
        r"{n_out,s_out,x_out}\.",
    ):
        predict(types, "several", ("z",), **given)
    with refused("INVALID_ARGUMENT", "duplicate output tensor alias: x_out"):
        predict(types, "several", ("x_out", "x_out"), **given)


def test_errors_of_operations_keep_their_code(half):
    with pytest.raises(Failure, match="Could not parse example") as caught:
        call = inference.Call("scores", {"inputs": np.array([b"\xff"], object)}, ("scores",))
        inference.run(half, call)
    assert caught.value.code == StatusCode.INVALID_ARGUMENT


# Classify and regress.


def test_classes_and_scores_are_paired(half):
    result = classify(half, "classify", 0, 1)
    assert [[c.label for c in row.classes] for row in result.classifications] == [
        ["zero", "one"],
        ["one", "many"],
    ]
    assert [c.score for c in result.classifications[1].classes] == [2.5, 3.5]


def test_classes_or_scores_alone_are_enough(half):
    (scores,) = classify(half, "scores", 0).classifications
    assert [(c.label, c.score) for c in scores.classes] == [("", 2.0), ("", 3.0)]
    (classes,) = classify(half, "classes", 0).classifications
    assert [(c.label, c.score) for c in classes.classes] == [("zero", 0.0), ("one", 0.0)]


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("s", "No signature was found with the name: s"),
        ("serving_default", "No classification inputs found in SignatureDef: "),
        ("two_inputs", "Expected one input Tensor."),
        ("vector", "No classification inputs found in SignatureDef: "),
        ("regress", 'Expected classification signature outputs to contain at least one of "cla'),
        ("flat", r"Expected Tensor shape: \[batch_size num_classes\] but got \[2\]"),
        ("uneven", r"Tensors class and score should match in dim_size\(1\). Got 2 vs. 1"),
        ("numbers", "Expected classes Tensor of DT_STRING. Got: DT_INT64"),
        ("one_row", "Expected scores output batch size of 2. Got: 1"),
    ],
)
def test_what_cannot_classify_is_reported(half, signature, message):
    with refused("INVALID_ARGUMENT", message):
        classify(half, signature, 0, 1)


def test_values_are_regressed(half):
    assert [r.value for r in regress(half, "regress", 1, 2).regressions] == [2.5, 3.0]


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("s", "No signature was found with the name: s"),
        ("serving_default", "No regression inputs found in SignatureDef: "),
        ("two_inputs", "Expected one input Tensor."),
        ("classify", "Expected one output Tensor."),
        ("no_outputs", "No regression outputs found in SignatureDef: "),
        ("regress_wide", r"Expected output Tensor shape to be either \[batch_size\] or .*\[2,2\]"),
        ("regress_one", "Input batch size did not match output batch size: 2 vs. 1"),
        ("regress_double", "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
    ],
)
def test_what_cannot_regress_is_reported(half, signature, message):
    with refused("INVALID_ARGUMENT", message):
        regress(half, signature, 0, 1)


@pytest.mark.parametrize("ask", [inference.classify_call, inference.regress_call])
def test_no_examples_are_refused(half, ask):
    name = "classify" if ask is inference.classify_call else "regress"
    for empty in (input_pb2.Input(), examples()):
        with refused("INVALID_ARGUMENT", "Input is empty."):
            ask(half, name, empty)


def test_a_context_is_merged_into_each_example_whose_own_features_win(half):
    given = input_pb2.Input()
    given.example_list_with_context.context.CopyFrom(example(4))
    given.example_list_with_context.examples.add()
    given.example_list_with_context.examples.append(example(6))
    call = inference.regress_call(half, "regress", given)
    result = inference.regressions(call, inference.run(half, call))
    assert [r.value for r in result.regressions] == [4.0, 5.0]


# Several at once.


def tasks(*pairs: tuple[str, str], name="m") -> inference_pb2.MultiInferenceRequest:
    request = inference_pb2.MultiInferenceRequest(input=examples(1))
    for method, signature in pairs:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = name, signature
    return request


def test_several_signatures_are_run_at_once(half):
    calls = inference.inference_calls(half, tasks(("regress", "regress"), ("classify", "scores")))
    assert [(method, call.signature) for method, call in calls] == [
        (inference.REGRESS, "regress"),
        (inference.CLASSIFY, "scores"),
    ]


def test_signatures_of_several_inputs_get_the_same_examples(half):
    """`regress_elsewhere` has an input of its own and computes with that of `regress`."""
    pairs = [("regress", "regress"), ("regress", "regress_elsewhere"), ("classify", "scores")]
    for order in (pairs, pairs[::-1]):
        calls = [call for _, call in inference.inference_calls(half, tasks(*order))]
        outputs = {call.signature: inference.run(half, call)[0] for call in calls}
        assert outputs["regress"] == outputs["regress_elsewhere"] == 2.5
        assert outputs["scores"].tolist() == [[2.5, 3.5]]
    alone = inference.inference_calls(half, tasks(pairs[1]))[0][1]
    with refused("INVALID_ARGUMENT", "You must feed a value for placeholder"):
        inference.run(half, alone)


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (
            tasks(("predict", "serving_default")),
            "UNIMPLEMENTED",
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (
            tasks(("regress", "regress"), ("regress", "regress")),
            "INVALID_ARGUMENT",
            "Duplicate evaluation of signature: regress",
        ),
        (
            tasks(("regress", "s")),
            "INVALID_ARGUMENT",
            "Requested signature not found in model graph: s",
        ),
        (
            tasks(("regress", "regress"), name=""),
            "INVALID_ARGUMENT",
            "Found ModelSpec with an empty model name.",
        ),
    ],
    ids=["predict", "twice", "unknown", "no name"],
)
def test_bad_tasks_are_refused(half, request_, code, message):
    with refused(code, message):
        inference.inference_calls(half, request_)


def test_all_tasks_name_one_model(half):
    request = tasks(("regress", "regress"), ("classify", "scores"))
    request.tasks[1].model_spec.name = "other"
    with refused("INVALID_ARGUMENT", "All ModelSpecs in a MultiInferenceRequest must access the"):
        inference.inference_calls(half, request)


# Metadata and warmup.


def test_metadata_holds_the_signatures(types):
    response = inference.metadata(types, ["signature_def"])
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert "__saved_model_init_op" in signatures.signature_def
    assert signatures.signature_def["serving_default"].inputs["x"].dtype == 1


def test_metadata_knows_signatures_alone(half):
    with refused("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata"):
        inference.metadata(half, [])
    with refused("INVALID_ARGUMENT", "Metadata field f is not supported"):
        inference.metadata(half, ["signature_def", "f"])


def logs() -> dict[str, prediction_log_pb2.PredictionLog]:
    made = {name: prediction_log_pb2.PredictionLog() for name in ("p", "c", "r", "m", "none")}
    request = made["p"].predict_log.request
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([[1]], np.float32)))
    for name, part in (("c", made["c"].classify_log), ("r", made["r"].regress_log)):
        part.request.model_spec.signature_name = {"c": "classify", "r": "regress"}[name]
        part.request.input.CopyFrom(examples(1))
    made["m"].multi_inference_log.request.CopyFrom(tasks(("regress", "regress")))
    both = tasks(("regress", "regress"), ("regress", "regress_elsewhere"))
    made["two"] = prediction_log_pb2.PredictionLog()
    made["two"].multi_inference_log.request.CopyFrom(both)
    return made


@pytest.mark.parametrize(
    ("kind", "signatures"),
    [
        ("p", [""]),
        ("c", ["classify"]),
        ("r", ["regress"]),
        ("m", ["regress"]),
        ("two", ["regress", "regress_elsewhere"]),
    ],
)
def test_records_of_each_kind_are_replayed(half, kind, signatures, monkeypatch):
    run, calls = inference.run, []
    monkeypatch.setattr(
        inference, "run", lambda servable, call: calls.append(call) or run(servable, call)
    )
    inference.replay(half, logs()[kind])
    assert [call.signature for call in calls] == signatures


def test_a_record_that_cannot_be_answered_is_an_error(half):
    log = logs()["p"]
    log.predict_log.request.inputs["z"].CopyFrom(tf.make_tensor_proto(1))
    with refused("INVALID_ARGUMENT", "input size does not match"):
        inference.replay(half, log)
    with refused("UNIMPLEMENTED", "Unsupported log_type for warmup"):
        inference.replay(half, logs()["none"])


# Loading.


def test_what_is_no_saved_model_is_an_error(tmp_path, half_path):
    (tmp_path / "1").mkdir()
    with pytest.raises((ValueError, OSError)):
        load(tmp_path / "1")
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\xff\xff")
    with pytest.raises((ValueError, OSError, tf.errors.OpError)):
        load(tmp_path / "1")
    content = (half_path / "saved_model.pb").read_bytes()
    (tmp_path / "1" / "saved_model.pb").write_bytes(content)
    with pytest.raises((ValueError, OSError, tf.errors.OpError)):
        load(tmp_path / "1")


def test_a_closed_model_leaves_nothing_behind(half_path):
    def sessions():
        return sum(isinstance(found, tf.compat.v1.Session) for found in gc.get_objects())

    gc.collect()
    before = sessions()
    servable = load(half_path)
    predict(servable, x=np.array([[1]], np.float32))
    assert sessions() == before + 1
    servable.close()
    del servable
    gc.collect()
    assert sessions() == before
