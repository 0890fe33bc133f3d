"""A SavedModel, loaded and run by a session as TensorFlow Serving does."""

import importlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving import graph
from serving.server.failure import Failure, from_tensorflow, invalid

Arrays = dict[str, np.ndarray]

MOST_CALLABLES = 32
"""Prepared calls that are kept; clients may ask for any of countless subsets of the outputs."""


class Servable:
    """One version of a model, ready to answer.

    Args:
        name: The model's name.
        version: The version's number.
        path: Folder of the SavedModel, of TensorFlow 1 or 2.
        session_config: Threads of the session.

    Raises:
        ValueError: The folder holds no SavedModel, or a damaged one.
        tf.errors.OpError: TensorFlow cannot load it.
    """

    def __init__(
        self, name: str, version: int, path: Path, session_config: tf.compat.v1.ConfigProto
    ):
        self.name, self.version, self.path = name, version, path
        # An unknown operation may be from TensorFlow Text, which servers link.
        meta_graph = graph.read(path)
        operations = graph.operations(meta_graph)
        if any(not hasattr(tf.raw_ops, op) for op in operations):
            importlib.import_module("tensorflow_text")
        with tf.Graph().as_default():
            self._session = tf.compat.v1.Session(config=session_config)
            try:
                loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
            except BaseException:
                self._session.close()
                raise
        self.signatures = dict(loaded.signature_def)
        self.is_compiled = graph.is_compiled(meta_graph)
        # The required shape of each input, if the graph must not get others; -1 means any size.
        self.shapes = _shapes(self.signatures) if graph.have_layouts(operations) else {}
        # The queue of each signature and its outputs, made where requests are batched.
        self.batchers: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._callables: dict[tuple[str, *tuple[tuple[str, ...], ...]], Callable] = {}
        self._lock = threading.Lock()

    @property
    def warmup_path(self) -> Path:
        """The file of the version's warmup requests, which need not be there."""
        return self.path / "assets.extra" / "tf_serving_warmup_requests"

    def card(self) -> Any:
        """The model card of the version; None where there is none."""
        path = self.path / "assets.extra" / "model_card.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def signature(self, name: str) -> meta_graph_pb2.SignatureDef:
        name = name or "serving_default"
        if name not in self.signatures:
            raise Failure(
                StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.'
            )
        return self.signatures[name]

    def require_shapes(self, signature: str, inputs: Mapping[str, np.ndarray]) -> None:
        """Raises `Failure` where the graph has operations with a layout and another shape is given.

        Another number of axes would end the process, and for each other size these operations
        prepare and keep code and memory.
        """
        shapes = self.shapes.get(signature or "serving_default", {})
        for number, name in enumerate(sorted(inputs)):
            wanted, given = shapes.get(name), inputs[name].shape
            if wanted is not None and not _is_shape(given, wanted):
                raise invalid(
                    f"Expects arg[{number}] to have shape {list(wanted)} but one with shape "
                    f"{list(given)} is provided"
                )

    def run(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        fed: Mapping[str, np.ndarray] = MappingProxyType({}),
    ):
        """Returns the arrays of the named outputs, in their order.

        Does not compare shapes with the signature: `require_shapes` does, where it matters.

        Args:
            signature: Name of the signature.
            inputs: Arrays by name of the input.
            outputs: Names of outputs.
            fed: Arrays by name of a tensor, for further tensors.
        """
        call = self._callable(signature, tuple(inputs), tuple(outputs), tuple(fed))
        try:
            arrays = call(*inputs.values(), *fed.values())
            # A single string comes as itself.
            return [np.array(a, object) if isinstance(a, bytes) else a for a in arrays]
        except tf.errors.OpError as error:
            raise from_tensorflow(error) from error
        except UnicodeDecodeError as error:
            # A message with bytes of the request in it, which Python's TensorFlow cannot hold.
            raise invalid(error.object.decode(errors="replace")) from error

    def close(self) -> None:
        self.batchers.clear()
        self._callables.clear()
        self._session.close()
        del self._session

    def _callable(
        self,
        signature: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        fed: tuple[str, ...],
    ):
        key = signature, inputs, outputs, fed
        with self._lock:
            if key not in self._callables:
                definition = self.signature(signature)
                options = config_pb2.CallableOptions(
                    feed=[*(definition.inputs[name].name for name in inputs), *fed],
                    fetch=[definition.outputs[name].name for name in outputs],
                )
                if len(self._callables) >= MOST_CALLABLES:
                    del self._callables[next(iter(self._callables))]
                # The public `make_callable` compares shapes with the graph's, which a server does
                # not, and takes five times as long.
                self._callables[key] = self._session._make_callable_from_options(options)
            return self._callables[key]


def _shapes(
    signatures: Mapping[str, meta_graph_pb2.SignatureDef],
) -> dict[str, dict[str, tuple[int, ...]]]:
    return {
        key: {
            name: tuple(dim.size for dim in info.tensor_shape.dim)
            for name, info in definition.inputs.items()
            if not info.tensor_shape.unknown_rank
        }
        for key, definition in signatures.items()
    }


def _is_shape(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(given) == len(wanted) and all(
        size in (-1, there) for size, there in zip(wanted, given, strict=True)
    )
