"""Arrays, sparse matrices and lists of numbers from pickles, which are read and never executed."""

import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from data.sources import BadData, Fault

DTYPE = re.compile(r"[iufb][1248]|b1")
"""Types of numbers, and of truth values, that an array may have."""
_MARK = object()
"""Lies on the stack below the items of a tuple, list or dict."""


class _Refused(ValueError):
    """Something in a pickle that plain arrays do not need."""


class _Made:
    """An object that later instructions fill: an array, a matrix or a type of numbers."""

    def __init__(self, kind: str, value: Any = None):
        self.kind, self.value = kind, value


def read(path: Path) -> Any:
    """Reads a pickle of a NumPy array, a SciPy matrix in rows, or a dict of lists of numbers.

    The instructions of the file are interpreted here: six names stand for constructors of this
    module, no other name is looked up, and an array takes no more memory than its file has bytes.

    Args:
        path: A pickle of Python 2 or 3, at most of protocol 2.

    Returns:
        `numpy.ndarray`, `scipy.sparse.csr_matrix`, or a dict.

    Raises:
        BadData: If there is anything else; it names the file and the offset.
    """
    position = 0
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for code, argument, at in pickletools.genops(path.read_bytes()):
            position = at or 0
            if code.name == "STOP":
                return _finished(stack)
            _step(code.name, argument, stack, memo)
        raise _Refused("the end of the file")
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        received = f"{error} at byte {position}" if str(error) else f"damage at byte {position}"
        expected = "a pickle of an array, a sparse matrix or lists of numbers"
        raise BadData(
            str(path), [Fault(path.name, received[:200], expected, skippable=False)]
        ) from error


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """Carries out one instruction."""
    if name in ("BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE"):
        stack.append(argument)
    elif name in CONSTANTS:
        stack.append(CONSTANTS[name]())
    elif name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "GLOBAL":
        if argument not in GLOBALS:
            raise _Refused(f"the name {argument!r}")
        stack.append(_Made("global", GLOBALS[argument]))
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif name == "TUPLE":
        stack.append(tuple(_above_mark(stack)))
    elif name in ("REDUCE", "NEWOBJ"):
        arguments, made = stack.pop(), stack.pop()
        stack.append(made.value(*arguments))
    elif name == "BUILD":
        state = stack.pop()
        BUILDERS[stack[-1].kind](stack[-1], state)
    elif name == "APPEND":
        item = stack.pop()
        stack[-1].append(item)
    elif name == "APPENDS":
        items = _above_mark(stack)
        stack[-1].extend(items)
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        _entries(stack[-1])[key] = value
    elif name == "SETITEMS":
        items = _above_mark(stack)
        _entries(stack[-1]).update(zip(items[::2], items[1::2], strict=True))
    elif name != "PROTO":
        raise _Refused(f"the instruction {name}")


def _above_mark(stack: list[Any]) -> list[Any]:
    """Takes the items above the last mark, and the mark, from the stack."""
    start = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _entries(made: Any) -> dict[Any, Any]:
    return made.value if isinstance(made, _Made) and made.kind == "dict" else made


def _array(kind: Any, shape: Any, code: Any) -> _Made:
    return _Made("array")


def _dtype(name: str, align: Any = 0, copy: Any = 1) -> _Made:
    if not DTYPE.fullmatch(name):
        raise _Refused(f"an array of type {name!r}")
    return _Made("dtype", np.dtype(name))


def _matrix() -> _Made:
    return _Made("matrix")


def _dict(kind: Any) -> _Made:
    return _Made("dict", {})


def _nothing(*_: Any) -> _Made:
    raise _Refused("a call of a type")


def _build_dtype(made: _Made, state: tuple[Any, ...]) -> None:
    if state[1] not in "<>|=" or any(part is not None for part in state[2:5]):
        raise _Refused("a structured type")
    made.value = made.value.newbyteorder(state[1])


def _build_array(made: _Made, state: tuple[Any, ...]) -> None:
    _, shape, dtype, is_fortran, content = state
    content = content.encode("latin-1")
    if np.prod(shape, dtype=object) * dtype.value.itemsize != len(content):
        raise _Refused(f"{len(content)} bytes for an array of shape {shape}")
    flat = np.frombuffer(content, dtype.value)
    made.value = flat.reshape(shape, order="F" if is_fortran else "C")


def _build_matrix(made: _Made, state: dict[str, Any]) -> None:
    parts = tuple(state[name].value for name in ("data", "indices", "indptr"))
    made.value = sparse.csr_matrix(parts, shape=state["_shape"])
    made.value.check_format(full_check=True)


def _finished(stack: list[Any]) -> Any:
    """Returns what is read, if it has the promised form."""
    (made,) = stack
    if made.kind in ("array", "matrix") and made.value is not None:
        return made.value
    if made.kind != "dict":
        raise _Refused("something else")
    for key, values in made.value.items():
        if not isinstance(key, int) or not all(isinstance(value, int) for value in values):
            raise _Refused("lists of something else")
    return made.value


CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
GLOBALS: dict[str, Callable[..., _Made]] = {
    "numpy ndarray": _nothing,
    "numpy dtype": _dtype,
    "numpy.core.multiarray _reconstruct": _array,
    "scipy.sparse.csr csr_matrix": _matrix,
    "collections defaultdict": _dict,
    "__builtin__ list": _nothing,
}
"""The names that a pickle may use, and what stands for them here."""
BUILDERS: dict[str, Callable[[_Made, Any], None]] = {
    "dtype": _build_dtype,
    "array": _build_array,
    "matrix": _build_matrix,
}
