"""JSON of the REST interface to arrays and back, with TensorFlow Serving's types and layout.

What is accepted, refused and written, and how errors read, follows
tensorflow_serving/util/json_tensor.cc.
"""

import base64
import binascii
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import tensorflow as tf
from grpc import StatusCode
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.server.failure import Failure, invalid
from serving.server.servable import Arrays
from serving.server.tensors import type_name

INTEGERS = {
    tf.int32: (-(2**31), 2**31 - 1),
    tf.int16: (-(2**31), 2**31 - 1),
    tf.int8: (-(2**31), 2**31 - 1),
    tf.uint8: (-(2**31), 2**31 - 1),
    tf.int64: (-(2**63), 2**63 - 1),
    tf.uint32: (0, 2**32 - 1),
    tf.uint64: (0, 2**64 - 1),
}
"""Numbers that a request may hold for each type; the small ones are cut to their bits later."""

FLOATS = {tf.float32: (2**24 - 1, 3.4028234663852886e38), tf.float64: (2**53 - 1, math.inf)}
"""Largest integer and largest number that a request may hold for each type."""

CONVERTIBLE = {*INTEGERS, *FLOATS, tf.bool, tf.string}

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


def parse(body: bytes) -> dict[str, Any]:
    """Reads a JSON object; what comes after it is ignored, NaN and Infinity are numbers."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_leniently(body)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_quoted(document)} Is not object")
    return document


def _parse_leniently(body: bytes) -> Any:
    # Bytes that are no UTF-8 go on as they are, in strings.
    text = body.decode("utf-8", "surrogateescape")
    start = _SPACE.match(text).end()  # type: ignore[union-attr]
    if start == len(text):
        raise invalid("JSON Parse error: The document is empty")
    try:
        return _DECODER.raw_decode(text, start)[0]
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode("utf-8", "surrogateescape"))
        raise invalid(f"JSON Parse error: Invalid value. at offset: {offset}") from error
    except RecursionError as error:
        raise invalid("JSON Parse error: Nested too deeply. at offset: 0") from error


def signature_name(document: Mapping[str, Any]) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_quoted(document)} not formatted correctly. 'signature_name' key must "
            "be a string value."
        )
    return name


def read_predict(
    document: Mapping[str, Any], inputs: Mapping[str, tf.DType]
) -> tuple[Arrays, bool]:
    """Returns the arrays of a predict request, and whether it is in row format.

    Args:
        document: The request.
        inputs: Type of each input of the signature.
    """
    if "instances" in document and "inputs" in document:
        raise invalid(
            f"JSON Value: {_quoted(document)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise invalid(
                f"JSON Value: {_quoted(document)} Excepting 'instances' to be an list/array"
            )
        if not instances:
            raise invalid(f"JSON Value: {_quoted(document)} No values in 'instances' array")
        return _read_rows(instances, inputs), True
    if "inputs" in document:
        return _read_columns(document["inputs"], inputs), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _read_rows(instances: list, inputs: Mapping[str, tf.DType]) -> Arrays:
    if not isinstance(instances[0], dict) and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    if not _is_object(instances[0]):
        for number, element in enumerate(instances):
            if _is_object(element):
                raise invalid(f"Expecting value/list but got object at item {number} of input list")
        (name,) = inputs
        return {name: _stacked(instances, inputs[name], "")}
    for number, element in enumerate(instances):
        if not _is_object(element):
            raise invalid(f"Expecting object but got list at item {number} of input list")
        for name in element:
            if name not in inputs:
                raise invalid(
                    f"Failed to process element: {number} key: {name} of 'instances' list. Error: "
                    f"INVALID_ARGUMENT: JSON object: does not have named input: {name}"
                )
        if element.keys() != inputs.keys():
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{_quoted(element)} keys must be equal to: {','.join(sorted(inputs))}"
            )
    return {
        name: _stacked([element[name] for element in instances], dtype, f" key: {name}")
        for name, dtype in inputs.items()
    }


def _stacked(rows: list, dtype: tf.DType, key: str) -> np.ndarray:
    """Makes one array of the rows, all at once; only if that fails, one by one for the error."""
    try:
        return to_array(rows, dtype)
    except Failure:
        arrays: list[np.ndarray] = []
        for number, row in enumerate(rows):
            where = f"Failed to process element: {number}{key} of 'instances' list. Error: "
            try:
                arrays.append(to_array(row, dtype))
            except Failure as failure:
                raise invalid(f"{where}INVALID_ARGUMENT: {failure.message}") from failure
            first, this = arrays[0], arrays[-1]
            if first.size != this.size:
                raise invalid(
                    f"{where}INVALID_ARGUMENT: Expecting tensor size: {first.size} but got: "
                    f"{this.size}"
                ) from None
            if first.shape != this.shape:
                raise invalid(
                    f"{where}INVALID_ARGUMENT: Expecting shape {_shape(first)} but got: "
                    f"{_shape(this)}"
                ) from None
        raise


def _read_columns(value: Any, inputs: Mapping[str, tf.DType]) -> Arrays:
    if not _is_object(value):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        (name,) = inputs
        return {name: to_array(value, inputs[name])}
    for name in sorted(inputs):
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: to_array(value[name], dtype) for name, dtype in inputs.items()}


def to_array(value: Any, dtype: tf.DType) -> np.ndarray:
    """Returns a value or nested lists of values as an array of a type, without any conversion
    that loses something: 1.0 is no int32, true no number, 5 no string."""
    shape: list[int] = []
    level, flat = value, [value]
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    for depth, size in enumerate(shape):
        for item in flat:
            if not isinstance(item, list):
                raise invalid(
                    f"JSON Value: {_quoted(item)} found at incorrect level: {depth + 1} in the "
                    f"JSON DOM. Expected at level: {len(shape)}"
                )
            if len(item) != size:
                raise invalid(
                    f"Encountered list at unexpected size: {len(item)} at level: {depth} expected "
                    f"size: {size}"
                )
        flat = list(itertools.chain.from_iterable(flat))
    if list in set(map(type, flat)):
        raise invalid(f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}")
    return _values(flat, dtype).reshape(shape)


def _values(flat: list, dtype: tf.DType) -> np.ndarray:
    if dtype not in CONVERTIBLE:
        if not flat:
            return np.zeros(0, dtype.as_numpy_dtype)
        raise Failure(
            StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {_quoted(flat[0])} to type: {type_name(dtype)}",
        )
    kinds = set(map(type, flat))
    if dtype == tf.string:
        if kinds - {str, dict}:
            raise _type_error(next(v for v in flat if not isinstance(v, (str, dict))), dtype)
        array = np.empty(len(flat), object)
        array[:] = [_as_bytes(v) if isinstance(v, str) else _from_base64(v) for v in flat]
        return array
    allowed = {tf.bool: {bool}}.get(dtype, {int, float} if dtype in FLOATS else {int})
    if kinds - allowed:
        raise _type_error(next(v for v in flat if type(v) not in allowed), dtype)
    if dtype == tf.bool:
        return np.array(flat, bool)
    if dtype in FLOATS:
        return _floats(flat, dtype)
    low, high = INTEGERS[dtype]
    if flat and (min(flat) < low or max(flat) > high):
        raise _type_error(next(v for v in flat if not low <= v <= high), dtype)
    wide = np.uint64 if low == 0 else np.int64
    return np.array(flat, wide).astype(dtype.as_numpy_dtype)


def _floats(flat: list, dtype: tf.DType) -> np.ndarray:
    largest_integer, largest = FLOATS[dtype]
    for value in flat:
        lossy = (
            abs(value) > largest_integer
            if type(value) is int
            else math.isfinite(value) and abs(value) > largest
        )
        if lossy:
            raise invalid(
                f"Cannot convert JSON value: {_quoted(value)} to {type_name(dtype)} without loss "
                "of precision."
            )
    return np.array(flat, dtype.as_numpy_dtype)


def _type_error(value: Any, dtype: tf.DType) -> Failure:
    return invalid(
        f"JSON Value: {_quoted(value)} Type: {_kind(value)} is not of expected type: "
        f"{type_name(dtype)}"
    )


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _from_base64(value: dict) -> bytes:
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_quoted(value)} not formatted correctly for base64 data")
    text = value["b64"]
    try:
        # Padding is optional, and white space is skipped.
        text = "".join(text.split()).rstrip("=")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _quoted(value: Any) -> str:
    """A value as JSON for an error, cut where a client has seen enough."""
    try:
        text = json.dumps(value, ensure_ascii=False, indent=4)
    except RecursionError:
        text = "..."
    return text if len(text) <= 500 else text[:500] + "..."


# Examples of classify and regress.


def read_examples(document: Mapping[str, Any]) -> input_pb2.Input:
    """Returns the examples of a classify or regress request."""
    examples = input_pb2.Input()
    has_context = "context" in document
    if has_context:
        _fill_example(document["context"], examples.example_list_with_context.context)
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {_quoted(document)} When method is classify, key 'examples' is expected "
            "and was not found"
        )
    values = document["examples"]
    if not isinstance(values, list):
        raise invalid(
            f"JSON Value: {_quoted(document)} Expecting 'examples' value to be an list/array"
        )
    if not values:
        raise invalid(f"JSON Value: {_quoted(document)} 'examples' value is an empty array")
    kept = examples.example_list_with_context if has_context else examples.example_list
    for value in values:
        _fill_example(value, kept.examples.add())
    return examples


def _fill_example(value: Any, example: tf.train.Example) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {_kind(value)}")
    for name, content in value.items():
        items = content if isinstance(content, list) else [content]
        feature = example.features.feature[name]
        for item in items:
            _add_to_feature(name, item, feature)


def _add_to_feature(name: str, value: Any, feature: tf.train.Feature) -> None:
    kinds: dict[type, tuple[str, Any]] = {
        bool: ("int64_list", int),
        int: ("int64_list", int),
        float: ("float_list", float),
        str: ("bytes_list", _as_bytes),
        dict: ("bytes_list", _from_base64),
    }
    if type(value) not in kinds or (isinstance(value, dict) and not _is_base64(value)):
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {_kind(value)}")
    kind, convert = kinds[type(value)]
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        expected = present.removesuffix("_list")
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {expected}")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
    if kind == "float_list":
        _floats([value], tf.float32)
    getattr(feature, kind).value.append(convert(value))


def _kind(value: Any) -> str:
    names = {type(None): "Null", dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), str(value) if isinstance(value, bool) else "Number")


# Answers.


def write_predictions(outputs: Arrays, by_row: bool) -> bytes:
    """Lays out the outputs of a predict request.

    With one output its name is dropped. Strings whose output's name ends in `_bytes` are base64.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    return _write_rows(outputs) if by_row else _write_columns(outputs)


def _write_rows(outputs: Arrays) -> bytes:
    size = 0
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if len(array) < 1:
            raise invalid(f"Tensor name: {name} has invalid batch size: {len(array)}")
        if size and len(array) != size:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}"
            )
        size = len(array)
    columns = {name: _items(name, array) for name, array in outputs.items()}
    if len(columns) == 1:
        (rows,) = columns.values()
        text = ", ".join(map(_line, rows))
        return _encoded(f'{{\n    "predictions": [{text}\n    ]\n}}')
    objects = []
    for i in range(size):
        lines = [f"            {_string(name)}: {_line(rows[i])}" for name, rows in columns.items()]
        objects.append("        {\n" + ",\n".join(lines) + "\n        }")
    return _encoded('{\n    "predictions": [\n' + ",\n".join(objects) + "\n    ]\n}")


def _write_columns(outputs: Arrays) -> bytes:
    columns = {name: _items(name, array) for name, array in outputs.items()}
    if len(columns) == 1:
        (value,) = columns.values()
        return _encoded(f'{{\n    "outputs": {_lines(value, 4)}\n}}')
    parts = [f"        {_string(name)}: {_lines(value, 8)}" for name, value in columns.items()]
    return _encoded('{\n    "outputs": {\n' + ",\n".join(parts) + "\n    }\n}")


def write_classifications(result: classification_pb2.ClassificationResult) -> bytes:
    if not result.classifications:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    rows = [
        [[_string(item.label), _number(np.float32(item.score))] for item in row.classes]
        for row in result.classifications
    ]
    return _encoded(f'{{\n    "results": [{", ".join(map(_line, rows))}\n    ]\n}}')


def write_regressions(result: regression_pb2.RegressionResult) -> bytes:
    if not result.regressions:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    values = [_number(np.float32(item.value)) for item in result.regressions]
    return _encoded(f'{{\n    "results": {_line(values)}\n}}')


def write_error(message: str) -> bytes:
    return _encoded(f'{{\n    "error": {_string(message)}\n}}')


def _items(name: str, array: np.ndarray) -> Any:
    """Nested lists of the JSON texts of an array's values."""
    dtype = tf.as_dtype(array.dtype)
    if dtype not in CONVERTIBLE:
        raise invalid(f"Failed to write JSON value for tensor type: {type_name(dtype)}")
    flat = array.ravel()
    if dtype in FLOATS:
        texts: Sequence[str] = [_number(value) for value in flat]
    elif dtype == tf.bool:
        texts = ["true" if value else "false" for value in flat.tolist()]
    elif dtype != tf.string:
        texts = [str(value) for value in flat.tolist()]
    elif name.endswith("_bytes"):
        texts = [_base64(value) for value in flat.tolist()]
    else:
        texts = [_string(value.decode("utf-8", "surrogateescape")) for value in flat.tolist()]
    cells = np.empty(len(flat), object)
    cells[:] = texts
    return cells.reshape(array.shape).tolist()


def _number(value: Any) -> str:
    """Six digits if they read back as the same number, else all of them; never a bare integer."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    if type(value)(text) != value:
        text = f"{value:.{9 if isinstance(value, np.float32) else 17}g}"
    return text if "." in text or "e" in text else text + ".0"


def _base64(value: bytes) -> str:
    return f'{{"b64": "{base64.b64encode(value).decode()}"}}'


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _line(value: Any) -> str:
    return f"[{', '.join(map(_line, value))}]" if isinstance(value, list) else value


def _lines(value: Any, indent: int) -> str:
    if not isinstance(value, list):
        return value
    if not value:
        return "[]"
    space = " " * (indent + 4)
    inner = ",\n".join(space + _lines(item, indent + 4) for item in value)
    return f"[\n{inner}\n{' ' * indent}]"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
