import json
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, regression_pb2

from serving.server import json_tensors
from serving.server.failure import Failure

FLOAT = {"x": tf.float32}
TWO = {"a": tf.int32, "b": tf.float32}


def read(text: str, inputs=FLOAT):
    document = json_tensors.parse(text.encode())
    return json_tensors.read_predict(document, inputs)[0]


def failure(text: str, inputs=FLOAT) -> Failure:
    with pytest.raises(Failure) as caught:
        read(text, inputs)
    return caught.value


# Parsing.


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The document is empty"),
        (b" \n", "The document is empty"),
        (b"x", "Invalid value. at offset: 0"),
        (b'{"a": x}', "Invalid value. at offset: 6"),
        (b'{"a": [1, 2', "Missing a comma or ] after an array element. at offset: 11"),
        (b'{"a": {"b": [1]} "c"', "Missing a comma or } after an object member. at offset: 17"),
        (b"{1: 2}", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": "b', "Missing a closing quotation mark in string."),
        (b'{"a": "\\x"}', "Invalid escape character in string."),
        (b'{"a": "\\u00"}', "Incorrect hex digit after \\u escape in string."),
        (b'{"a": "\x01"}', "Invalid encoding in string."),
        (b'{"a": "\\ud800"}', "The surrogate pair in string is invalid. at offset: 7"),
        (b'{"a": "\\udc80"}', "The surrogate pair in string is invalid. at offset: 7"),
        (b'{"a": 1e999}', "Number too big to be stored in double."),
        (b'{"a": ' + b"9" * 5000 + b"}", "Number too big to be stored in double."),
        (b'{"\xc3\xa4": x}', "Invalid value. at offset: 7"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else "",
)
def test_bad_json_is_reported_as_rapidjson_does(body, message):
    with pytest.raises(Failure) as caught:
        json_tensors.parse(body)
    assert caught.value.message.startswith(f"JSON Parse error: {message}")
    assert caught.value.http_status == 400


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1} and more', {"a": 1}),
        (b'{"a": 1}{"b": 2}', {"a": 1}),
        (b'\n {"a": -Infinity, "b": Infinity}', {"a": -math.inf, "b": math.inf}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": "\\\\ud800"} x', {"a": "\\ud800"}),
        (b'{"a": "\\ud83d\\ude00"} x', {"a": "\U0001f600"}),
        (b'{"a": 18446744073709551615} x', {"a": 2**64 - 1}),
        (b'{"a": 99999999999999999999} x', {"a": 1e20}),
        (b'{"a": 99999999999999999999}', {"a": 1e20}),
    ],
)
def test_what_rapidjson_takes_is_taken(body, expected):
    assert json_tensors.parse(body) == expected


@pytest.mark.parametrize("text", ["[1]", "1", '"a"', "null"])
def test_only_objects_are_requests(text):
    with pytest.raises(Failure, match="Is not object"):
        json_tensors.parse(text.encode())


def test_lists_too_deep_are_refused():
    deep = b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(Failure):
        json_tensors.parse(deep)


def test_the_signature_name_must_be_a_string():
    assert json_tensors.signature_name({}) == ""
    assert json_tensors.signature_name({"signature_name": "s"}) == "s"
    with pytest.raises(Failure, match="'signature_name' key must be a string value"):
        json_tensors.signature_name({"signature_name": 1})


# Requests to predict.


def test_both_or_neither_of_instances_and_inputs_is_refused():
    both = failure('{"instances": [1], "inputs": [1]}')
    assert "expecting only one of 'inputs' or 'instances' keys to exist" in both.message
    assert failure("{}").message == "Missing 'inputs' or 'instances' key"
    assert "Excepting 'instances' to be an list/array" in failure('{"instances": 1}').message
    assert "No values in 'instances' array" in failure('{"instances": []}').message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"instances": [1, 2.5]}', [1, 2.5]),
        ('{"instances": [[1], [2]]}', [[1], [2]]),
        ('{"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}', [[1, 2], [3, 4]]),
        ('{"inputs": 1}', 1),
        ('{"inputs": [[1, 2]]}', [[1, 2]]),
        ('{"inputs": {"x": [1], "unknown": "ignored"}}', [1]),
        ('{"instances": [[], []]}', [[], []]),
        ('{"inputs": []}', []),
        ('{"instances": [NaN, Infinity, -Infinity]}', [math.nan, math.inf, -math.inf]),
    ],
)
def test_rows_and_columns_are_read(text, expected):
    array = read(text)["x"]
    assert array.dtype == np.float32
    assert np.array_equal(array, np.array(expected, np.float32), equal_nan=True)


def test_the_layout_of_the_request_is_reported():
    assert json_tensors.read_predict({"instances": [1]}, FLOAT)[1]
    assert not json_tensors.read_predict({"inputs": [1]}, FLOAT)[1]


def test_several_inputs_are_read():
    rows = read('{"instances": [{"a": 1, "b": 2}, {"b": 4, "a": 3}]}', TWO)
    columns = read('{"inputs": {"a": [1, 3], "b": [2, 4]}}', TWO)
    for arrays in (rows, columns):
        assert arrays["a"].tolist() == [1, 3]
        assert arrays["b"].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "[[1, 2], [1, 2], [1, 2, 3]]",
            "Failed to process element: 2 of 'instances' list. Error: INVALID_ARGUMENT: Expecting "
            "tensor size: 2 but got: 3",
        ),
        (
            "[[[1, 2]], [[1], [2]]]",
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting "
            "shape [1,2] but got: [2,1]",
        ),
        (
            '[1, "a"]',
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON "
            'Value: "a" Type: String is not of expected type: float',
        ),
        ('[1, {"x": 1}]', "Expecting value/list but got object at item 1 of input list"),
        ('[{"x": 1}, [1]]', "Expecting object but got list at item 1 of input list"),
        ('[{"x": 1}, {"b64": "aaaa"}]', "Expecting object but got list at item 1 of input list"),
        (
            '[{"x": 1, "q": 2}]',
            "Failed to process element: 0 key: q of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: q",
        ),
        (
            "[[[1], 2]]",
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON "
            "Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (
            "[[1, [2]]]",
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            "[[[1], [1, 2]]]",
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
        ),
        # The first fault in the text is the one reported.
        (
            '[[1, "a"], [1, 2, 3]]',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON "
            'Value: "a" Type: String is not of expected type: float',
        ),
    ],
)
def test_bad_rows_are_named(rows, message):
    assert failure(f'{{"instances": {rows}}}').message == message


def test_rows_need_all_inputs():
    found = failure('{"instances": [{"a": 1}]}', TWO).message
    assert found.startswith("Failed to process element: 0 of 'instances' list. JSON object: {")
    assert found.endswith("keys must be equal to: a,b")
    found = failure('{"instances": [{"a": 1, "b": 1}, {"a": 1.0, "b": 1}]}', TWO).message
    assert found == (
        "Failed to process element: 1 key: a of 'instances' list. Error: INVALID_ARGUMENT: JSON "
        "Value: 1.0 Type: Number is not of expected type: int32"
    )


def test_several_inputs_need_objects():
    assert "instances is a plain list" in failure('{"instances": [1]}', TWO).message
    assert "inputs is a plain value/list" in failure('{"inputs": [1]}', TWO).message
    assert "inputs is a plain value/list" in failure('{"inputs": {"b64": "aa"}}', TWO).message
    assert failure('{"inputs": {"a": [1]}}', TWO).message == (
        "Missing named input: b in 'inputs' object."
    )


def test_bytes_in_place_of_several_inputs_are_refused_later():
    two = {"a": tf.string, "b": tf.string}
    assert read('{"instances": [{"b64": "YQ=="}]}', two).keys() == {"a"}


@pytest.mark.parametrize(
    ("value", "dtype", "kind"),
    [
        ("1.0", tf.int32, "Number"),
        ("2147483648", tf.int32, "Number"),
        ("2147483648", tf.int8, "Number"),
        ("9223372036854775808", tf.int64, "Number"),
        ("-1", tf.uint32, "Number"),
        ("4294967296", tf.uint32, "Number"),
        ("18446744073709551616", tf.uint64, "Number"),
        ("true", tf.float32, "True"),
        ("false", tf.int64, "False"),
        ("5", tf.string, "Number"),
        ("null", tf.float32, "Null"),
        ("1", tf.bool, "Number"),
        ('"1"', tf.double, "String"),
        ('{"b64": "YQ=="}', tf.float32, "Object"),
        ('{"b64": "YQ=="}', tf.float16, "Object"),
    ],
)
def test_nothing_is_converted_that_would_lose_something(value, dtype, kind):
    found = failure(f'{{"inputs": {{"x": [{value}]}}}}', {"x": dtype})
    name = {"float32": "float", "float64": "double", "float16": "half"}.get(dtype.name, dtype.name)
    assert found.message.endswith(f" Type: {kind} is not of expected type: {name}")
    assert found.http_status == 400


@pytest.mark.parametrize(
    ("value", "dtype"), [("16777216", tf.float32), ("1e39", tf.float32), (str(2**53), tf.double)]
)
def test_numbers_too_large_for_a_float_are_refused(value, dtype):
    found = failure(f'{{"instances": [0.5, {value}]}}', {"x": dtype}).message
    name = "float" if dtype == tf.float32 else "double"
    assert f" to {name} without loss of precision." in found


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ("16777215", tf.float32, 2.0**24 - 1),
        ("99999999999999999999", tf.float32, np.float32(1e20)),
        ("3.4028234663852886e38", tf.float32, np.finfo(np.float32).max),
        ("300", tf.int8, 44),
        ("-1", tf.uint8, 255),
        ("65537", tf.int16, 1),
        (str(2**64 - 1), tf.uint64, 2**64 - 1),
        (str(-(2**63)), tf.int64, -(2**63)),
        ("true", tf.bool, True),
    ],
)
def test_numbers_are_read_as_the_type_holds_them(value, dtype, expected):
    array = read(f'{{"instances": [{value}]}}', {"x": dtype})["x"]
    assert array.dtype == dtype.as_numpy_dtype
    assert array.tolist() == [expected]


def test_halves_cannot_be_given_in_json():
    columnar = failure('{"inputs": [1.0]}', {"x": tf.float16})
    assert columnar.http_status == 501
    assert columnar.message == "Conversion of JSON Value: 1.0 to type: half"
    row = failure('{"instances": [1.0]}', {"x": tf.bfloat16})
    assert row.http_status == 400
    assert row.message.endswith(
        "Error: UNIMPLEMENTED: Conversion of JSON Value: 1.0 to type: bfloat16"
    )


def test_strings_are_text_or_base64():
    string = {"x": tf.string}
    array = read('{"instances": ["\\u00e4", {"b64": "AP8="}, {"b64": "AP8"}]}', string)["x"]
    assert array.tolist() == ["ä".encode(), b"\x00\xff", b"\x00\xff"]
    assert read('{"inputs": {"b64": "Y Q =="}}', string)["x"] == b"a"
    assert "Unable to base64 decode" in failure('{"inputs": {"b64": "?"}}', string).message
    bad = failure('{"inputs": {"x": [{"b64": 1}]}}', string).message
    assert bad.endswith("not formatted correctly for base64 data")


def test_bytes_that_are_no_text_come_and_go_as_they_are():
    document = json_tensors.parse(b'{"instances": ["\xff\xfe"]}')
    arrays, _ = json_tensors.read_predict(document, {"x": tf.string})
    assert arrays["x"].tolist() == [b"\xff\xfe"]
    assert b'"\xff\xfe"' in json_tensors.write_predictions({"s": arrays["x"]}, True)
    with pytest.raises(Failure, match="UTF-8"):
        json_tensors.signature_name(json_tensors.parse(b'{"signature_name": "\xff"}'))


# Requests to classify and regress.


def test_examples_are_read_with_their_types():
    document = {
        "context": {"c": "text"},
        "examples": [{"i": 1, "f": [1.5, 2.5], "b": {"b64": "AA=="}, "t": True, "none": []}],
    }
    read = json_tensors.read_examples(document).example_list_with_context
    assert read.context.features.feature["c"].bytes_list.value == [b"text"]
    feature = read.examples[0].features.feature
    assert feature["i"].int64_list.value == [1]
    assert feature["f"].float_list.value == [1.5, 2.5]
    assert feature["b"].bytes_list.value == [b"\x00"]
    assert feature["t"].int64_list.value == [1]
    assert feature["none"].WhichOneof("kind") is None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "When method is classify, key 'examples' is expected and was not found"),
        ({"examples": 1}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"context": [], "examples": [{}]}, "Example must be JSON object but got JSON Array"),
        ({"examples": [{"a": None}]}, "Feature: a has element with unexpected JSON type: Null"),
        ({"examples": [{"a": [[1]]}]}, "Feature: a has element with unexpected JSON type: Array"),
        ({"examples": [{"a": {}}]}, "Feature: a has element with unexpected JSON type: Object"),
        ({"examples": [{"a": [1, 1.5]}]}, "Unexpected element type in feature: a expecting type:"),
        ({"examples": [{"a": 2**63}]}, "Feature: a has uint64 element. Only int64 is supported."),
        ({"examples": [{"a": 1e39}]}, "to float without loss of precision."),
    ],
)
def test_bad_examples_are_refused(document, message):
    with pytest.raises(Failure) as caught:
        json_tensors.read_examples(document)
    assert message in caught.value.message
    assert caught.value.http_status == 400


# Answers, to the byte.


def written(outputs: dict, by_row: bool) -> str:
    arrays = {
        name: np.array(v, object if name[0] == "s" else None) if isinstance(v, list) else v
        for name, v in outputs.items()
    }
    return json_tensors.write_predictions(arrays, by_row).decode()


def test_rows_of_one_output_have_no_name_and_stand_in_one_line():
    assert written({"y": [1.5, 2.0]}, True) == '{\n    "predictions": [1.5, 2.0\n    ]\n}'
    assert written({"y": [[1, 2], [3, 4]]}, True) == (
        '{\n    "predictions": [[1, 2], [3, 4]\n    ]\n}'
    )


def test_rows_of_several_outputs_are_objects():
    assert written({"a": [[1, 2]], "s": [b"x"]}, True) == (
        '{\n    "predictions": [\n        {\n            "a": [1, 2],\n            "s": "x"\n'
        "        }\n    ]\n}"
    )
    assert written({"a": [1, 2], "b": [True, False]}, True) == (
        '{\n    "predictions": [\n        {\n            "a": 1,\n            "b": true\n        },'
        '\n        {\n            "a": 2,\n            "b": false\n        }\n    ]\n}'
    )


def test_columns_have_a_line_for_each_value():
    assert written({"y": [[1, 2]]}, False) == (
        '{\n    "outputs": [\n        [\n            1,\n            2\n        ]\n    ]\n}'
    )
    assert written({"y": np.array(3)}, False) == '{\n    "outputs": 3\n}'
    assert written({"y": np.zeros((1, 0), int)}, False) == (
        '{\n    "outputs": [\n        []\n    ]\n}'
    )
    assert written({"a": [1], "b": np.array(2)}, False) == (
        '{\n    "outputs": {\n        "a": [\n            1\n        ],\n        "b": 2\n    }\n}'
    )


def test_strings_are_base64_only_where_the_name_ends_in_bytes():
    assert written({"s_bytes": [b"\x00\xff"]}, False) == (
        '{\n    "outputs": [\n        {\n            "b64": "AP8="\n        }\n    ]\n}'
    )
    assert written({"s_bytes": [b"a", b"b"]}, True) == (
        '{\n    "predictions": [{\n            "b64": "YQ=="\n        }, {\n            "b64": '
        '"Yg=="\n        }\n    ]\n}'
    )
    both = written({"s": [b'"\n'], "s_bytes": [b"a"]}, True)
    assert json.loads(both) == {"predictions": [{"s": '"\n', "s_bytes": {"b64": "YQ=="}}]}
    assert '                "b64": "YQ=="\n            }\n        }' in both


def test_numbers_ending_in_bytes_are_no_base64():
    assert json.loads(written({"n_bytes": [1]}, True)) == {"predictions": [1]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2, "0.2"),
        (9e6, "9e+06"),
        (3e-5, "3e-05"),
        (100.0, "100.0"),
        (-0.0, "-0.0"),
        (1234567.0, "1234567.0"),
        (0.123456789, "0.123456791"),
        (1 / 3, "0.333333343"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (3.4028234663852886e38, "3.40282347e+38"),
        (1e-45, "1.4013e-45"),
    ],
)
def test_floats_are_six_digits_or_all_of_them(value, text):
    assert written({"y": np.array(value, np.float32)}, False) == f'{{\n    "outputs": {text}\n}}'


def test_doubles_have_up_to_seventeen_digits():
    values = np.array([0.1, 1 / 3, 1e300, 123456789.0])
    assert json.loads(written({"y": values}, False))["outputs"] == values.tolist()
    assert "0.33333333333333331" in written({"y": values}, False)


def test_every_float_reads_back_as_it_was():
    bits = np.random.default_rng(0).integers(0, 2**32, 2000, np.uint32)
    values = bits.view(np.float32)
    text = written({"y": values}, False)
    back = np.array(json.loads(text)["outputs"], np.float64).astype(np.float32)
    assert np.array_equal(back, values, equal_nan=True)


def test_rows_need_equal_batches():
    with pytest.raises(Failure, match="Tensor name: t has no shape information"):
        written({"t": np.array(1)}, True)
    with pytest.raises(Failure, match="has inconsistent batch size: 1 expecting: 2"):
        written({"a": [1, 2], "b": [1]}, True)


def test_types_that_json_cannot_hold_are_refused():
    with pytest.raises(Failure, match="Failed to write JSON value for tensor type: half"):
        written({"h": np.ones(1, np.float16)}, True)
    with pytest.raises(Failure, match="Cannot convert empty tensor map to JSON"):
        written({}, True)


def test_classifications_are_pairs_in_one_line():
    result = classification_pb2.ClassificationResult()
    for labels in (("a", "b"), ("c",)):
        row = result.classifications.add()
        for label in labels:
            row.classes.add(label=label, score=0.5)
    assert json_tensors.write_classifications(result).decode() == (
        '{\n    "results": [[["a", 0.5], ["b", 0.5]], [["c", 0.5]]\n    ]\n}'
    )
    with pytest.raises(Failure, match="Cannot convert empty ClassificationResults"):
        json_tensors.write_classifications(classification_pb2.ClassificationResult())


def test_regressions_are_one_line():
    result = regression_pb2.RegressionResult()
    for value in (0.2, 3.0):
        result.regressions.add(value=value)
    expected = '{\n    "results": [0.2, 3.0]\n}'
    assert json_tensors.write_regressions(result).decode() == expected
    with pytest.raises(Failure, match="Cannot convert empty RegressionResults"):
        json_tensors.write_regressions(regression_pb2.RegressionResult())


def test_errors_are_an_object():
    assert json_tensors.write_error('a "b"') == b'{\n    "error": "a \\"b\\""\n}'
