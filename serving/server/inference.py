"""From requests to tensors and from tensors to answers: predict, classify, regress.

A `Call` is what the session is to run. What makes it from a request and an answer from its outputs
is apart from what runs it: the batcher for clients, the session itself for warmup.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    input_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server.failure import Failure, invalid
from serving.server.servable import Arrays, Servable
from serving.server.tensors import read_tensor, type_name, write_tensor

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
PREDICT = "tensorflow/serving/predict"

LARGEST_TENSOR = 2**28
"""Values that a tensor of a request may have: a gibibyte of float32."""


@dataclass(frozen=True)
class Call:
    """Inputs by name and the names of the outputs wanted, for one signature.

    Args:
        signature: Its name.
        inputs: Arrays by name of the input.
        outputs: Names of the outputs.
        fed: Arrays by name of a tensor, for the inputs of other signatures of the same request.
    """

    signature: str
    inputs: Arrays
    outputs: tuple[str, ...]
    fed: Arrays = field(default_factory=dict)


def predict_call(
    servable: Servable, signature: str, inputs: Arrays, output_filter: Sequence[str] = ()
) -> Call:
    """Checks inputs against a signature and adds defaults."""
    definition = servable.signature(signature)
    if inputs.keys() != definition.inputs.keys():
        inputs = _with_defaults(inputs, definition)
    ordered = {name: inputs[name] for name in sorted(inputs)}
    for number, (name, array) in enumerate(ordered.items()):
        wanted, given = tf.as_dtype(definition.inputs[name].dtype), tf.as_dtype(array.dtype)
        if given != wanted.base_dtype:
            raise invalid(
                f"Expects arg[{number}] to be {type_name(wanted)} but {type_name(given)} is "
                "provided"
            )
    servable.require_shapes(signature, ordered)
    return Call(signature, ordered, _filtered(definition, output_filter))


def _with_defaults(inputs: Arrays, definition: meta_graph_pb2.SignatureDef) -> Arrays:
    """Adds what the signature has a default for; raises if that does not make the inputs right."""
    _require_names(set(inputs), definition)
    added = {
        name: read_tensor(name, definition.defaults[name], LARGEST_TENSOR)
        for name in sorted(definition.inputs.keys() - inputs.keys())
    }
    return {**inputs, **added}


def _require_names(given: set[str], definition: meta_graph_pb2.SignatureDef) -> None:
    wanted, defaults = set(definition.inputs), definition.defaults
    if len(given) > len(wanted) or (len(given) < len(wanted) and not defaults):
        raise invalid(_input_mismatch(given, wanted))
    for name in sorted(wanted - given):
        if name not in defaults:
            raise invalid(
                f"Signature input alias: {name}(feed name: {definition.inputs[name].name}) not "
                "found in request and no default value provided. Inputs expected to be in the "
                f"request {{{_listed(given)}}}, or default input alias set: {_listed(defaults)}"
            )
    if given - wanted:
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {_listed(given & wanted)}, "
            f"request input: {_listed(given)}"
        )


def read_inputs(servable: Servable, request: predict_pb2.PredictRequest) -> Arrays:
    """Reads the tensors of a request once their names are known to be those of the signature."""
    definition = servable.signature(request.model_spec.signature_name)
    if request.inputs.keys() != definition.inputs.keys():
        _require_names(set(request.inputs), definition)
    return {
        name: read_tensor(name, proto, LARGEST_TENSOR) for name, proto in request.inputs.items()
    }


def fill_spec(spec, servable: Servable, signature: str) -> None:
    """Writes the model and its version into an answer."""
    spec.name = servable.name
    spec.version.value = servable.version
    spec.signature_name = signature or "serving_default"


def predict_response(
    servable: Servable, call: Call, outputs: Sequence[np.ndarray]
) -> predict_pb2.PredictResponse:
    response = predict_pb2.PredictResponse()
    fill_spec(response.model_spec, servable, call.signature)
    for name, array in zip(call.outputs, outputs, strict=True):
        write_tensor(array, response.outputs[name])
    return response


def classify_call(servable: Servable, signature: str, examples: input_pb2.Input) -> Call:
    definition = _example_signature(servable, signature)
    if len(definition.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(definition.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(definition.outputs)}")
    if "inputs" not in definition.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {_short(definition)}")
    outputs = tuple(name for name in ("classes", "scores") if name in definition.outputs)
    if not outputs:
        raise invalid(
            "Expected classification signature outputs to contain at least one of "
            f'"classes" or "scores". Signature was: {_short(definition)}'
        )
    return Call(signature, {"inputs": serialized(examples)}, outputs)


def classifications(
    call: Call, outputs: Sequence[np.ndarray]
) -> classification_pb2.ClassificationResult:
    """Pairs of label and score for each example; a missing one of the two stays empty."""
    named = dict(zip(call.outputs, outputs, strict=True))
    count = len(call.inputs["inputs"])
    for name, array in named.items():
        _check_classes(name, array, count)
    widths = [array.shape[1] for array in named.values()]
    if len(set(widths)) > 1:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[1]}"
        )
    result = classification_pb2.ClassificationResult()
    for i in range(count):
        row = result.classifications.add()
        for j in range(widths[0]):
            item = row.classes.add()
            if "classes" in named:
                item.label = _text(named["classes"][i, j])
            if "scores" in named:
                item.score = float(named["scores"][i, j])
    return result


def _check_classes(name: str, array: np.ndarray, count: int) -> None:
    if array.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
    dtype, given = {"classes": tf.string, "scores": tf.float32}[name], tf.as_dtype(array.dtype)
    if given != dtype:
        raise invalid(f"Expected {name} Tensor of {_enum_name(dtype)}. Got: {_enum_name(given)}")
    if len(array) != count:
        raise invalid(f"Expected {name} output batch size of {count}. Got: {len(array)}")


def regress_call(servable: Servable, signature: str, examples: input_pb2.Input) -> Call:
    definition = _example_signature(servable, signature)
    if len(definition.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(definition.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "inputs" not in definition.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {_short(definition)}")
    if "outputs" not in definition.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {_short(definition)}")
    return Call(signature, {"inputs": serialized(examples)}, ("outputs",))


def regressions(call: Call, outputs: Sequence[np.ndarray]) -> regression_pb2.RegressionResult:
    (values,) = outputs
    count = len(call.inputs["inputs"])
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(values)}"
        )
    if len(values) != count:
        raise invalid(
            f"Input batch size did not match output batch size: {count} vs. {len(values)}"
        )
    if values.dtype != np.float32:
        raise invalid(
            f"Expected output Tensor of DT_FLOAT.  Got: {_enum_name(tf.as_dtype(values.dtype))}"
        )
    result = regression_pb2.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add().value = value
    return result


def inference_calls(
    servable: Servable, request: inference_pb2.MultiInferenceRequest
) -> list[tuple[str, Call]]:
    """Pairs of method and call for each task.

    The inputs of all tasks are fed the examples, as one run of the session for all would do: the
    outputs of one signature may need the input of another.
    """
    made = {CLASSIFY: classify_call, REGRESS: regress_call}
    calls: list[tuple[str, Call]] = []
    tensors = []
    for task in request.tasks:
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = task.model_spec.signature_name or "serving_default"
        if name in {call.signature or "serving_default" for _, call in calls}:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        if name not in servable.signatures:
            raise invalid(f"Requested signature not found in model graph: {name}")
        if task.method_name not in made:
            raise Failure(
                StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
            )
        call = made[task.method_name](servable, task.model_spec.signature_name, request.input)
        tensors.append(servable.signatures[name].inputs["inputs"].name)
        calls.append((task.method_name, call))
    return [
        (
            method,
            replace(call, fed=dict.fromkeys(sorted({*tensors} - {own}), call.inputs["inputs"])),
        )
        for (method, call), own in zip(calls, tensors, strict=True)
    ]


def serialized(examples: input_pb2.Input) -> np.ndarray:
    """Returns a request's examples as a signature takes them: serialised `tf.Example`s.

    A context is merged into each example, whose own features win.
    """
    kind = examples.WhichOneof("kind")
    found = list(getattr(examples, kind).examples) if kind else []
    if not found:
        raise invalid("Input is empty.")
    if kind == "example_list_with_context":
        context = examples.example_list_with_context.context.ByteSize()
        if context * len(found) > LARGEST_TENSOR:
            raise invalid(
                f"A context of {context} bytes for {len(found)} examples is more than the "
                f"{LARGEST_TENSOR} bytes allowed"
            )
        merged = []
        for example in found:
            whole = tf.train.Example()
            whole.CopyFrom(examples.example_list_with_context.context)
            for name, feature in example.features.feature.items():
                whole.features.feature[name].CopyFrom(feature)
            merged.append(whole)
        found = merged
    array = np.empty(len(found), object)
    array[:] = [example.SerializeToString() for example in found]
    return array


def byte_values(examples: input_pb2.Input) -> Iterator[tuple[bytes, int]]:
    """Yields the strings in a request's examples, any of which may be an image, and how often."""
    kind = examples.WhichOneof("kind")
    found = [(example, 1) for example in getattr(examples, kind).examples] if kind else []
    if kind == "example_list_with_context":
        found.append((examples.example_list_with_context.context, len(found)))
    for example, times in found:
        for feature in example.features.feature.values():
            yield from ((value, times) for value in feature.bytes_list.value)


def metadata(
    servable: Servable, fields: Sequence[str]
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    if not fields:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for name in fields:
        if name != "signature_def":
            raise invalid(f"Metadata field {name} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.signatures.items():
        signatures.signature_def[name].CopyFrom(definition)
    response.metadata["signature_def"].Pack(signatures)
    return response


def run(servable: Servable, call: Call) -> list[np.ndarray]:
    """Runs a call in the session, in this thread."""
    return servable.run(call.signature, call.inputs, call.outputs, call.fed)


def replay(servable: Servable, log) -> None:
    """Answers one warmup record; see TensorFlow Serving's saved_model_warmup_util.h."""
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        spec = request.model_spec
        inputs = read_inputs(servable, request)
        run(servable, predict_call(servable, spec.signature_name, inputs, request.output_filter))
    elif kind == "classify_log":
        request = log.classify_log.request
        run(servable, classify_call(servable, request.model_spec.signature_name, request.input))
    elif kind == "regress_log":
        request = log.regress_log.request
        run(servable, regress_call(servable, request.model_spec.signature_name, request.input))
    elif kind == "multi_inference_log":
        for _, call in inference_calls(servable, log.multi_inference_log.request):
            run(servable, call)
    else:
        raise Failure(StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")


def _example_signature(servable: Servable, name: str) -> meta_graph_pb2.SignatureDef:
    name = name or "serving_default"
    if name not in servable.signatures:
        raise invalid(f"No signature was found with the name: {name}")
    return servable.signatures[name]


def _filtered(definition, wanted: Sequence[str]) -> tuple[str, ...]:
    names = sorted(definition.outputs)
    for i, name in enumerate(wanted):
        if name not in definition.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in "
                f"the set {{{','.join(names)}}}."
            )
        if name in wanted[:i]:
            raise invalid(f"duplicate output tensor alias: {name}")
    return tuple(wanted) or tuple(names)


def _input_mismatch(given: set[str], wanted: set[str]) -> str:
    return (
        f"input size does not match signature: {len(given)}!={len(wanted)} "
        f"len({{{_listed(given)}}}) != len({{{_listed(wanted)}}}). "
        f"Sent extra: {{{_listed(given - wanted)}}}. "
        f"Missing but required: {{{_listed(wanted - given)}}}."
    )


def _listed(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _enum_name(dtype: tf.DType) -> str:
    return types_pb2.DataType.Name(dtype.as_datatype_enum)


def _short(definition) -> str:
    return " ".join(str(definition).split())[:500]


def _text(value) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
