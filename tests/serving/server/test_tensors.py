import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.server.failure import Failure
from serving.server.tensors import FIELDS, read_tensor, type_name, write_tensor

LARGEST = 2**20


def proto(dtype: int, shape: list[int], **fields) -> tensor_pb2.TensorProto:
    made = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in shape:
        made.tensor_shape.dim.add().size = size
    return made


@pytest.mark.parametrize("dtype", FIELDS, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)], ids=str)
def test_written_as_typed_fields_and_read_again(dtype, shape):
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    array = values.astype(str).astype("S").astype(object) if dtype == tf.string else None
    if array is None:
        array = values.astype(dtype.as_numpy_dtype)
    made = tensor_pb2.TensorProto()
    write_tensor(array, made)
    assert not made.tensor_content
    assert np.array_equal(tf.make_ndarray(made), array)
    read = read_tensor("x", made, LARGEST)
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)


@pytest.mark.parametrize("dtype", [t for t in FIELDS if t != tf.string], ids=lambda t: t.name)
def test_tensor_content_is_read(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype.as_numpy_dtype)
    made = proto(dtype.as_datatype_enum, [2, 3], tensor_content=array.tobytes())
    assert np.array_equal(read_tensor("x", made, LARGEST), array)


def test_no_values_are_zeros_too_few_are_filled_up_with_the_last_and_surplus_is_dropped():
    def read(values):
        return read_tensor("x", proto(types_pb2.DT_FLOAT, [3], float_val=values), LARGEST).tolist()

    assert read([]) == [0, 0, 0]
    assert read([1, 2]) == [1, 2, 2]
    assert read([1, 2, 3, 4]) == [1, 2, 3]
    strings = proto(types_pb2.DT_STRING, [2])
    assert read_tensor("x", strings, LARGEST).tolist() == [b"", b""]
    strings = proto(types_pb2.DT_STRING, [3], string_val=[b"b", b"a\0"])
    assert read_tensor("x", strings, LARGEST).tolist() == [b"b", b"a\0", b"a\0"]


def test_a_long_string_is_not_repeated_without_end():
    strings = proto(types_pb2.DT_STRING, [1025], string_val=[bytes(2**20)])
    with pytest.raises(Failure, match="1024 strings of 1048576 bytes were not sent"):
        read_tensor("x", strings, LARGEST)


def test_strings_in_tensor_content_are_read_as_tensorflow_packs_them():
    content = bytes([1, 0, 0x82, 1]) + b"a" + b"b" * 130
    strings = proto(types_pb2.DT_STRING, [3, 1], tensor_content=content)
    assert read_tensor("x", strings, LARGEST).tolist() == [[b"a"], [b""], [b"b" * 130]]
    for wrong in (content + b"c", content[:-1], content[:2], b"\xff" * 10**6):
        strings = proto(types_pb2.DT_STRING, [3], tensor_content=wrong)
        with pytest.raises(Failure, match="tensor parsing error: x"):
            read_tensor("x", strings, LARGEST)


def test_values_beyond_a_small_type_are_cut_to_its_bits():
    assert read_tensor("x", proto(types_pb2.DT_INT8, [1], int_val=[300]), LARGEST) == 44
    half = proto(types_pb2.DT_HALF, [2], half_val=[0x13C00, -1])
    assert read_tensor("x", half, LARGEST).view(np.uint16).tolist() == [0x3C00, 0xFFFF]


@pytest.mark.parametrize(
    "made",
    [
        proto(types_pb2.DT_INVALID, [1]),
        proto(types_pb2.DT_RESOURCE, [1]),
        proto(types_pb2.DT_FLOAT, [-1]),
        proto(types_pb2.DT_FLOAT, [2**20, 2**20]),
        proto(types_pb2.DT_FLOAT, [2], tensor_content=b"123"),
        proto(types_pb2.DT_STRING, [1], tensor_content=b"a"),
    ],
    ids=["no type", "resource", "negative size", "too large", "too few bytes", "bytes of strings"],
)
def test_malformed_tensors_are_refused(made):
    with pytest.raises(Failure, match="tensor parsing error: x") as caught:
        read_tensor("x", made, LARGEST)
    assert caught.value.code == StatusCode.INVALID_ARGUMENT


def test_unknown_rank_is_refused():
    made = proto(types_pb2.DT_FLOAT, [])
    made.tensor_shape.unknown_rank = True
    with pytest.raises(Failure, match="tensor parsing error: x"):
        read_tensor("x", made, LARGEST)


def test_types_are_named_as_in_cpp():
    names = [type_name(t) for t in (tf.float32, tf.float64, tf.float16, tf.int64, tf.string)]
    assert names == ["float", "double", "half", "int64", "string"]
