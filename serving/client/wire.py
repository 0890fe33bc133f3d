"""The messages of TensorFlow Serving's interface, as far as the client uses them.

They are declared here because importing them from tensorflow-serving-api imports TensorFlow, by way
of `tensorflow.core.framework.tensor_pb2`. A test compares them with that package's.
"""

import math

import numpy as np
from ml_dtypes import bfloat16

from serving.client.failure import ServingError
from serving.messages import declare
from serving.packed_strings import unpacked

DTYPES = {
    "float32": ("DT_FLOAT", 1, "float_val"),
    "float64": ("DT_DOUBLE", 2, "double_val"),
    "int32": ("DT_INT32", 3, "int_val"),
    "uint8": ("DT_UINT8", 4, "int_val"),
    "int16": ("DT_INT16", 5, "int_val"),
    "int8": ("DT_INT8", 6, "int_val"),
    "string": ("DT_STRING", 7, "string_val"),
    "complex64": ("DT_COMPLEX64", 8, "scomplex_val"),
    "int64": ("DT_INT64", 9, "int64_val"),
    "bool": ("DT_BOOL", 10, "bool_val"),
    "bfloat16": ("DT_BFLOAT16", 14, "half_val"),
    "uint16": ("DT_UINT16", 17, "int_val"),
    "complex128": ("DT_COMPLEX128", 18, "dcomplex_val"),
    "float16": ("DT_HALF", 19, "half_val"),
    "uint32": ("DT_UINT32", 22, "uint32_val"),
    "uint64": ("DT_UINT64", 23, "uint64_val"),
}
"""The types that clients can use: name and number in `DataType`, field of `TensorProto`."""

_ENUMS = {
    "DataType": {"DT_INVALID": 0, **{name: number for name, number, _ in DTYPES.values()}},
    "State": {
        "UNKNOWN": 0,
        "START": 10,
        "LOADING": 20,
        "AVAILABLE": 30,
        "UNLOADING": 40,
        "END": 50,
    },
    "Code": {
        "OK": 0,
        "CANCELLED": 1,
        "UNKNOWN": 2,
        "INVALID_ARGUMENT": 3,
        "DEADLINE_EXCEEDED": 4,
        "NOT_FOUND": 5,
        "ALREADY_EXISTS": 6,
        "PERMISSION_DENIED": 7,
        "RESOURCE_EXHAUSTED": 8,
        "FAILED_PRECONDITION": 9,
        "ABORTED": 10,
        "OUT_OF_RANGE": 11,
        "UNIMPLEMENTED": 12,
        "INTERNAL": 13,
        "UNAVAILABLE": 14,
        "DATA_LOSS": 15,
        "UNAUTHENTICATED": 16,
    },
}
MESSAGES = {
    "Dim": {"size": (1, "int64"), "name": (2, "string")},
    "TensorShapeProto": {"dim": (2, "repeated Dim"), "unknown_rank": (3, "bool")},
    "TensorProto": {
        "dtype": (1, "DataType"),
        "tensor_shape": (2, "TensorShapeProto"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "repeated float"),
        "double_val": (6, "repeated double"),
        "int_val": (7, "repeated int32"),
        "string_val": (8, "repeated bytes"),
        "scomplex_val": (9, "repeated float"),
        "int64_val": (10, "repeated int64"),
        "bool_val": (11, "repeated bool"),
        "dcomplex_val": (12, "repeated double"),
        "half_val": (13, "repeated int32"),
        "uint32_val": (16, "repeated uint32"),
        "uint64_val": (17, "repeated uint64"),
    },
    "TensorInfo": {"dtype": (2, "DataType"), "tensor_shape": (3, "TensorShapeProto")},
    "SignatureDef": {
        "inputs": (1, "map TensorInfo"),
        "outputs": (2, "map TensorInfo"),
        "defaults": (4, "map TensorProto"),
    },
    "SignatureDefMap": {"signature_def": (1, "map SignatureDef")},
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, "Int64Value"),
        "signature_name": (3, "string"),
        "version_label": (4, "string"),
    },
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "map TensorProto")},
    "PredictResponse": {"outputs": (1, "map TensorProto"), "model_spec": (2, "ModelSpec")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "GetModelMetadataRequest": {
        "model_spec": (1, "ModelSpec"),
        "metadata_field": (2, "repeated string"),
    },
    "GetModelMetadataResponse": {"model_spec": (1, "ModelSpec"), "metadata": (2, "map Any")},
    "StatusProto": {"error_code": (1, "Code"), "error_message": (2, "string")},
    "ModelVersionStatus": {
        "version": (1, "int64"),
        "state": (2, "State"),
        "status": (3, "StatusProto"),
    },
    "GetModelStatusRequest": {"model_spec": (1, "ModelSpec")},
    "GetModelStatusResponse": {"model_version_status": (1, "repeated ModelVersionStatus")},
}
"""Fields by message, under the names and numbers of TensorFlow and TensorFlow Serving."""

CLASSES = declare("hornbook.client", MESSAGES, _ENUMS)
STATES = {number: name for name, number in _ENUMS["State"].items()}
CODES = {number: name for name, number in _ENUMS["Code"].items()}
NAMES = {number: name for name, (_, number, _) in DTYPES.items()}


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy type of a tensor's type; strings are objects, bytes."""
    return np.dtype({"string": object, "bfloat16": bfloat16}.get(name, name))


def write_tensor(array: np.ndarray, dtype: str, proto) -> None:
    """Fills a TensorProto with an array of that type."""
    proto.dtype = DTYPES[dtype][1]
    # An empty shape must be present, too.
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == "string":
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.tensor_content = array.tobytes()


def read_tensor(name: str, proto) -> np.ndarray:
    """Returns the values of a TensorProto, in whichever of its fields they are."""
    if proto.dtype not in NAMES:
        raise ServingError("UNIMPLEMENTED", f"output `{name}` has DataType {proto.dtype}")
    dtype = NAMES[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    values = getattr(proto, DTYPES[dtype][2])
    array: np.ndarray
    if proto.tensor_content and dtype == "string":
        array = np.empty(math.prod(shape), object)
        array[:] = unpacked(proto.tensor_content, len(array))
    elif proto.tensor_content:
        # A copy, because an array on bytes is read-only.
        array = np.frombuffer(proto.tensor_content, numpy_dtype(dtype)).copy()
    elif dtype == "string":
        array = np.empty(len(values), object)
        array[:] = list(values)
    elif dtype in ("float16", "bfloat16"):
        array = np.array(values, np.uint16).view(numpy_dtype(dtype))
    elif dtype in ("complex64", "complex128"):
        parts = {"complex64": np.float32, "complex128": np.float64}[dtype]
        array = np.array(values, parts).view(dtype)
    else:
        array = np.array(values, dtype)
    return array.reshape(shape)
