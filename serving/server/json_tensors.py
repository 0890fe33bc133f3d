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
from serving.server.tensors import LARGEST_RANK, type_name

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

LONGEST_INTEGER = 20
"""Characters of an integer of 64 bits, its sign included."""

CONVERTIBLE = {*INTEGERS, *FLOATS, tf.bool, tf.string}

_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPE = re.compile(
    r"\\u[dD][89aAbB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<alone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)

_REASONS = {
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
    "Invalid control character at": "Invalid encoding in string.",
}
"""What RapidJSON says where Python's reader says something else."""


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
    # Bytes that are not UTF-8 stay in strings unchanged.
    text = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    start = _SPACE.match(text).end()  # type: ignore[union-attr]
    if start == len(text):
        raise invalid("JSON Parse error: The document is empty")
    try:
        document, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode("utf-8", "surrogateescape"))
        why = _REASONS.get(error.msg) or _missing(error, start)
        raise invalid(f"JSON Parse error: {why} at offset: {offset}") from error
    except RecursionError as error:
        raise invalid("JSON Parse error: Nested too deeply. at offset: 0") from error
    # Half a character could go into no answer.
    for escape in _ESCAPE.finditer(text, start, end):
        if escape["alone"]:
            raise invalid(
                "JSON Parse error: The surrogate pair in string is invalid. at offset: "
                f"{len(text[: escape.start()].encode('utf-8', 'surrogateescape'))}"
            )
    return document


def _missing(error: json.JSONDecodeError, start: int) -> str:
    if error.msg != "Expecting ',' delimiter":
        return "Invalid value."
    brackets: list[str] = []
    for sign in re.findall(r"[][{}]", _STRING.sub("", error.doc[start : error.pos])):
        if sign in "[{":
            brackets.append(sign)
        else:
            brackets.pop()
    if brackets[-1] == "{":
        return "Missing a comma or } after an object member."
    return "Missing a comma or ] after an array element."


def _decimal(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise invalid("JSON Parse error: Number too big to be stored in double. at offset: 0")
    return value


def _integer(text: str) -> int | float:
    """Integers beyond 64 bits are decimals, as RapidJSON and orjson have it."""
    value = int(text) if len(text) <= LONGEST_INTEGER else _decimal(text)
    return value if -(2**63) <= value < 2**64 else _decimal(text)


_QUOTER = json.JSONEncoder(ensure_ascii=False, indent=4)
_DECODER = json.JSONDecoder(parse_float=_decimal, parse_int=_integer)


def signature_name(document: Mapping[str, Any]) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_quoted(document)} not formatted correctly. 'signature_name' key must "
            "be a string value."
        )
    return checked_name(name)


def checked_name(name: str) -> str:
    """Returns a name that protocol buffers can hold."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise invalid("Names must be UTF-8") from error
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
    try:
        return _stacked(instances, inputs)
    except Failure as failure:
        raise (_row_failure(instances, inputs) or failure) from None


def _stacked(instances: list, inputs: Mapping[str, tf.DType]) -> Arrays:
    """Makes one array for each input of all rows at once; errors do not yet say where."""
    if not _is_object(instances[0]):
        if any(_is_object(row) for row in instances):
            raise invalid("Expecting value/list but got object")
        name = min(inputs)
        return {name: to_array(instances, inputs[name])}
    if not all(_is_object(row) and row.keys() == inputs.keys() for row in instances):
        raise invalid("Expecting objects with equal keys")
    return {
        name: to_array([row[name] for row in instances], dtype) for name, dtype in inputs.items()
    }


def _row_failure(instances: list, inputs: Mapping[str, tf.DType]) -> Failure | None:
    """Goes through the rows one by one to the first that is wrong."""
    are_objects = _is_object(instances[0])
    first: Arrays = {}
    for number, row in enumerate(instances):
        if are_objects != _is_object(row):
            found = "object but got list" if are_objects else "value/list but got object"
            return invalid(f"Expecting {found} at item {number} of input list")
        for name, value in row.items() if are_objects else [(min(inputs), row)]:
            key = f" key: {name}" if are_objects else ""
            if failure := _item_failure(name, value, inputs, first):
                return invalid(
                    f"Failed to process element: {number}{key} of 'instances' list. Error: "
                    f"{failure}"
                )
        if are_objects and row.keys() != inputs.keys():
            return invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{_quoted(row)} keys must be equal to: {','.join(sorted(inputs))}"
            )
    return None


def _item_failure(
    name: str, value: Any, inputs: Mapping[str, tf.DType], first: Arrays
) -> Failure | None:
    if name not in inputs:
        return invalid(f"JSON object: does not have named input: {name}")
    try:
        array = to_array(value, inputs[name])
    except Failure as failure:
        return failure
    wanted = first.setdefault(name, array)
    if wanted.size != array.size:
        return invalid(f"Expecting tensor size: {wanted.size} but got: {array.size}")
    if wanted.shape != array.shape:
        return invalid(f"Expecting shape {_shape(wanted)} but got: {_shape(array)}")
    return None


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
    if len(shape) > LARGEST_RANK:
        raise invalid(f"Lists are nested {len(shape)} deep, at most {LARGEST_RANK} allowed")
    for size in shape:
        if any(type(item) is not list or len(item) != size for item in flat):
            raise _first_failure(value, shape, dtype) or invalid("Encountered no tensor")
        flat = list(itertools.chain.from_iterable(flat))
    try:
        return _values(flat, dtype).reshape(shape)
    except Failure as failure:
        raise (_first_failure(value, shape, dtype) or failure) from None


def _first_failure(value: Any, shape: Sequence[int], dtype: tf.DType) -> Failure | None:
    """Goes through nested lists in the order of the text to the first that is wrong."""
    rest = [(value, 0)]
    while rest:
        item, level = rest.pop()
        if not isinstance(item, list):
            if level != len(shape):
                return invalid(
                    f"JSON Value: {_quoted(item)} found at incorrect level: {level + 1} in the "
                    f"JSON DOM. Expected at level: {len(shape)}"
                )
            try:
                _values([item], dtype)
            except Failure as failure:
                return failure
        elif level >= len(shape):
            return invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        elif level == len(shape) - 1 and _is_row(item, shape[level], dtype):
            continue
        elif len(item) != shape[level]:
            return invalid(
                f"Encountered list at unexpected size: {len(item)} at level: {level} expected "
                f"size: {shape[level]}"
            )
        else:
            rest.extend((inner, level + 1) for inner in reversed(item))
    return None


def _is_row(row: list, size: int, dtype: tf.DType) -> bool:
    """Whether nothing is wrong in a list of values; one by one takes a hundred times as long."""
    try:
        return len(_values(row, dtype)) == size
    except Failure:
        return False


def _values(flat: list, dtype: tf.DType) -> np.ndarray:
    kinds = set(map(type, flat))
    if dict in kinds and dtype != tf.string:
        raise _type_error(next(value for value in flat if isinstance(value, dict)), dtype)
    if dtype not in CONVERTIBLE:
        if not flat:
            return np.zeros(0, dtype.as_numpy_dtype)
        raise Failure(
            StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {_quoted(flat[0])} to type: {type_name(dtype)}",
        )
    allowed = _allowed(dtype)
    if kinds - allowed:
        raise _type_error(next(value for value in flat if type(value) not in allowed), dtype)
    if dtype == tf.string:
        array = np.empty(len(flat), object)
        array[:] = [_as_bytes(v) if isinstance(v, str) else _from_base64(v) for v in flat]
        return array
    if dtype == tf.bool:
        return np.array(flat, bool)
    if dtype in FLOATS:
        return _floats(flat, kinds, dtype)
    low, high = INTEGERS[dtype]
    if flat and (min(flat) < low or max(flat) > high):
        raise _type_error(next(v for v in flat if not low <= v <= high), dtype)
    wide = np.uint64 if low == 0 else np.int64
    return np.array(flat, wide).astype(dtype.as_numpy_dtype)


def _allowed(dtype: tf.DType) -> set[type]:
    kinds: dict[tf.DType, set[type]] = {tf.bool: {bool}, tf.string: {str, dict}}
    return {int, float} if dtype in FLOATS else kinds.get(dtype, {int})


def _floats(flat: list, kinds: set[type], dtype: tf.DType) -> np.ndarray:
    largest_integer, largest = FLOATS[dtype]
    values = np.array(flat, np.float64)
    lossy = np.isfinite(values) & (np.abs(values) > largest)
    if int in kinds:
        lossy |= [type(value) is int and abs(value) > largest_integer for value in flat]
    if lossy.any():
        raise invalid(
            f"Cannot convert JSON value: {_quoted(flat[int(lossy.argmax())])} to "
            f"{type_name(dtype)} without loss of precision."
        )
    return values.astype(dtype.as_numpy_dtype)


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
    if isinstance(value, float):
        largest = FLOATS[tf.float32][1]
        return _decimals(np.array([value], np.float32 if abs(value) <= largest else np.float64))[0]
    text = ""
    try:
        # Not more of it is written than is shown: all of a large request would take seconds.
        for piece in _QUOTER.iterencode(value):
            text += piece[:501]
            if len(text) > 500:
                break
    except RecursionError:
        text += "..."
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
        feature = example.features.feature[checked_name(name)]
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
        _floats([value], {float}, tf.float32)
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
    # Within the document and the list of predictions, and the object of a row.
    outer = 2 if len(outputs) == 1 else 3
    columns = {name: _items(name, array, outer - 1) for name, array in outputs.items()}
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
    outer = 1 if len(outputs) == 1 else 2
    columns = {name: _items(name, array, outer) for name, array in outputs.items()}
    if len(columns) == 1:
        (value,) = columns.values()
        return _encoded(f'{{\n    "outputs": {_lines(value, 4)}\n}}')
    parts = [f"        {_string(name)}: {_lines(value, 8)}" for name, value in columns.items()]
    return _encoded('{\n    "outputs": {\n' + ",\n".join(parts) + "\n    }\n}")


def write_classifications(result: classification_pb2.ClassificationResult) -> bytes:
    if not result.classifications:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    rows = [
        [
            [_string(item.label), score]
            for item, score in zip(row.classes, _decimals(_scores(row)), strict=True)
        ]
        for row in result.classifications
    ]
    return _encoded(f'{{\n    "results": [{", ".join(map(_line, rows))}\n    ]\n}}')


def _scores(row: classification_pb2.Classifications) -> np.ndarray:
    return np.array([item.score for item in row.classes], np.float32)


def write_regressions(result: regression_pb2.RegressionResult) -> bytes:
    if not result.regressions:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    values = _decimals(np.array([item.value for item in result.regressions], np.float32))
    return _encoded(f'{{\n    "results": {_line(values)}\n}}')


def write_error(message: str) -> bytes:
    return _encoded(f'{{\n    "error": {_string(message)}\n}}')


def _items(name: str, array: np.ndarray, outer: int) -> Any:
    """Nested lists of the JSON texts of an array's values.

    Args:
        name: The output's name.
        array: Its values.
        outer: Objects and lists that the array is within.
    """
    dtype = tf.as_dtype(array.dtype)
    if dtype not in CONVERTIBLE and array.size:
        raise invalid(f"Failed to write JSON value for tensor type: {type_name(dtype)}")
    flat = array.ravel()
    if dtype in FLOATS:
        texts: Sequence[str] = _decimals(flat)
    elif dtype == tf.bool:
        texts = ["true" if value else "false" for value in flat.tolist()]
    elif dtype != tf.string:
        texts = [str(value) for value in flat.tolist()]
    elif name.endswith("_bytes"):
        texts = [_base64(value, outer + array.ndim) for value in flat.tolist()]
    else:
        texts = [_string(value.decode("utf-8", "surrogateescape")) for value in flat.tolist()]
    cells = np.empty(len(flat), object)
    cells[:] = texts
    return cells.reshape(array.shape).tolist()


def _decimals(flat: np.ndarray) -> list[str]:
    """Six digits if they read back as the same number, else all of them; never a bare integer."""
    values = flat.tolist()
    texts = [f"{value:.6g}" for value in values]
    digits = 9 if flat.dtype == np.float32 else 17
    for i in np.flatnonzero(np.array(list(map(float, texts))).astype(flat.dtype) != flat).tolist():
        texts[i] = f"{values[i]:.{digits}g}"
    return [_as_number(text) for text in texts]


def _as_number(text: str) -> str:
    if "." in text or "e" in text:
        return text
    return _NOT_FINITE.get(text) or text + ".0"


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _base64(value: bytes, level: int) -> str:
    """The object of a string's bytes; `level` is how many objects and lists it is within."""
    indent = "    " * level
    return f'{{\n{indent}    "b64": "{base64.b64encode(value).decode()}"\n{indent}}}'


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
