"""From the values of callers to the arrays that a signature takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.client.signatures import Signature
from serving.client.wire import DTYPES, numpy_dtype

Arrays = dict[str, np.ndarray]


def as_inputs(values: Mapping[str, Any], signature: Signature) -> Arrays:
    """Returns an array for each value, of its input's type, by served name.

    Raises:
        ValueError: Inputs are missing or unknown, or a number does not fit its input's type.
        TypeError: A value has another kind than its input, such as text for numbers.
    """
    names = signature.meant(values)
    required = signature.inputs.keys() - signature.optional
    if not required <= names.keys() or len(names) < len(values):
        raise ValueError(
            f"The signature takes the inputs {', '.join(map(signature.title, signature.inputs))}. "
            f"Received: {', '.join(sorted(values)) or 'none'}"
        )
    return {
        name: as_array(given, values[given], signature.inputs[name].dtype)
        for name, given in names.items()
    }


def as_array(name: str, value: Any, dtype: str) -> np.ndarray:
    """Returns a value as an array of a type, text as UTF-8; numbers may lose precision only."""
    if dtype not in DTYPES:
        raise TypeError(f"Input `{name}` is a {dtype}, which clients cannot send")
    return _as_bytes(name, value) if dtype == "string" else _as_numbers(name, value, dtype)


def _as_bytes(name: str, value: Any) -> np.ndarray:
    # Not NumPy's strings, which lose zeros at the end.
    texts = np.array(value, object)
    flat = np.empty(texts.size, object)
    for i, text in enumerate(texts.ravel()):
        if not isinstance(text, (str, bytes)):
            raise TypeError(f"Input `{name}` takes str or bytes. Received: {text!r:.100}")
        flat[i] = text.encode() if isinstance(text, str) else bytes(text)
    return flat.reshape(texts.shape)


def _as_numbers(name: str, value: Any, dtype: str) -> np.ndarray:
    wanted = numpy_dtype(dtype)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"Input `{name}` is not an array: {error}") from error
    whole = array.dtype.kind in "iu" and wanted.kind in "iu"
    # An empty list has no type of its own.
    if array.size and not whole and not np.can_cast(array.dtype, wanted, "same_kind"):
        raise TypeError(f"Input `{name}` takes {dtype}. Received: {array.dtype}")
    try:
        with np.errstate(over="raise"):
            # In the memory order and the byte order of the message.
            converted = np.ascontiguousarray(array.astype(wanted)).reshape(array.shape)
    except FloatingPointError as error:
        raise ValueError(f"Input `{name}` takes {dtype}, and a value is too large") from error
    if whole and not np.array_equal(converted, array):
        raise ValueError(f"Input `{name}` takes {dtype}, and a value does not fit")
    return converted
