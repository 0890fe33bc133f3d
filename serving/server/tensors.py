"""Tensors of requests and answers as NumPy arrays, read and written as TensorFlow Serving does."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.packed_strings import unpacked
from serving.server.failure import invalid

# The field of a TensorProto that holds the values of each type.
FIELDS: dict[tf.DType, str] = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int16: "int_val",
    tf.int8: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.float16: "half_val",
    tf.bfloat16: "half_val",
    tf.complex64: "scomplex_val",
    tf.complex128: "dcomplex_val",
}
LARGEST_RANK = 64
"""Axes that NumPy can hold."""
MOST_MISSING = 2**24
"""Values that a shape may ask for beyond those sent, which costs its sender nothing."""
MOST_MISSING_STRINGS = 2**10
"""The same for strings, any of which a graph may decode; of bytes, as for numbers."""

_BY_NUMBER = {dtype.as_datatype_enum: dtype for dtype in FIELDS}


def read_tensor(name: str, proto: tensor_pb2.TensorProto, largest: int) -> np.ndarray:
    """Returns the values of a TensorProto.

    Fewer values than the shape asks for are filled up with the last one, none at all with zeros,
    and surplus ones are dropped, as TensorFlow's own reader does.

    Args:
        name: The input's name, for errors.
        proto: What a client sent.
        largest: Values that a tensor may have at most.
    """
    dtype = _BY_NUMBER.get(proto.dtype)
    dimensions = [dim.size for dim in proto.tensor_shape.dim]
    if dtype is None or proto.tensor_shape.unknown_rank or any(size < 0 for size in dimensions):
        raise invalid(f"tensor parsing error: {name}")
    if len(dimensions) > LARGEST_RANK:
        raise invalid(f"tensor parsing error: {name}: at most {LARGEST_RANK} axes allowed")
    size = math.prod(dimensions)
    # An axis of length 0 makes the others free; graphs take memory for them all the same.
    claimed = math.prod(max(1, dimension) for dimension in dimensions)
    if claimed > largest:
        raise invalid(f"tensor parsing error: {name}: {claimed} values, at most {largest} allowed")
    numpy_type = dtype.as_numpy_dtype
    if proto.tensor_content and dtype == tf.string:
        try:
            # Each has a length, of a byte at least.
            count = min(size, len(proto.tensor_content) + 1)
            return _strings(unpacked(proto.tensor_content, count)).reshape(dimensions)
        except ValueError as error:
            raise invalid(f"tensor parsing error: {name}") from error
    if proto.tensor_content:
        if len(proto.tensor_content) != size * np.dtype(numpy_type).itemsize:
            raise invalid(f"tensor parsing error: {name}")
        return np.frombuffer(proto.tensor_content, numpy_type).reshape(dimensions)
    field = getattr(proto, FIELDS[dtype])
    most = MOST_MISSING_STRINGS if dtype == tf.string else MOST_MISSING
    if claimed > len(field) + most:
        raise invalid(
            f"tensor parsing error: {name}: {claimed} values, of which only {len(field)} were sent"
        )
    if dtype == tf.string:
        missing, filler = max(0, size - len(field)), field[-1] if field else b""
        if missing * len(filler) > MOST_MISSING:
            raise invalid(
                f"tensor parsing error: {name}: {missing} strings of {len(filler)} bytes were not "
                "sent"
            )
        values = _strings([*field, *[filler] * missing])
    elif FIELDS[dtype] == "half_val":
        values = np.array(field, np.int64).astype(np.uint16).view(numpy_type)
    elif dtype.is_complex:
        values = np.array(field, numpy_type(0).real.dtype)
        values = values[: len(values) // 2 * 2].view(numpy_type)
    else:
        wide = {tf.float32: np.float32, tf.float64: np.float64, tf.uint64: np.uint64}
        values = np.array(field, wide.get(dtype, np.int64)).astype(numpy_type)
    if len(values) < size:
        filled = np.full(size, values[-1] if len(values) else 0, values.dtype)
        filled[: len(values)] = values
        values = filled
    return values[:size].reshape(dimensions)


def _strings(values: Sequence[bytes]) -> np.ndarray:
    """Makes an array of objects: one of bytes would lose zeros at their ends."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def write_tensor(array: np.ndarray, proto: tensor_pb2.TensorProto) -> None:
    """Fills a TensorProto with an array, in the typed fields for any size."""
    dtype = tf.as_dtype(array.dtype)
    proto.dtype = dtype.as_datatype_enum
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    flat = array.ravel()
    if FIELDS[dtype] == "half_val":
        flat = flat.view(np.uint16)
    elif dtype.is_complex:
        flat = flat.view(flat.real.dtype)
    getattr(proto, FIELDS[dtype]).extend(flat.tolist())


def type_name(dtype: tf.DType) -> str:
    """The name that TensorFlow's C++ gives a type."""
    return {"float32": "float", "float64": "double", "float16": "half"}.get(dtype.name, dtype.name)
