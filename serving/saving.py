"""Writes the graph and the weights of an export, each weight once."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from serving.signature import Signature


def write_graph(folder: Path, model: keras.Model, signatures: Mapping[str, Signature]) -> None:
    """Writes `saved_model.pb`, `variables/` and `assets/`.

    What is saved are the variables that the signatures use, as TensorFlow's own. Tracking the model
    or its Keras variables as well, as `keras.export.ExportArchive` does, stores every weight twice.

    Raises:
        ValueError: The signatures use a lookup table that neither the model nor `resources` holds.
    """
    # One function for the signatures that share a core, so that it can be compiled apart from the
    # host parts.
    cores: dict[Any, Callable] = {}
    endpoints = {}
    for name, signature in signatures.items():
        if signature.core not in cores:
            cores[signature.core] = tf.function(signature.compute(model), autograph=False)
        endpoints[name] = _endpoint(signature, cores[signature.core])
    owners = [owner for signature in signatures.values() for owner in signature.resources]
    functions = list(endpoints.values())
    root = tf.Module()
    root.weights = _variables(functions)
    root.resources = _resources(functions, root.weights, [*owners, model])
    # By these names converters for TPUs find the parts that are to run there.
    aliases = {f"core_{i}" if i else "core": core for i, core in enumerate(cores.values())}
    options = tf.saved_model.SaveOptions(function_aliases=aliases)
    tf.saved_model.save(root, str(folder), signatures=endpoints, options=options)


def _endpoint(signature: Signature, core: Callable):
    names = list(signature.inputs)
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in signature.inputs.items()]

    @tf.function(input_signature=specs, autograph=False)
    def answer(*tensors):
        return signature.answer(core, dict(zip(names, tensors, strict=True)))

    return answer.get_concrete_function()


def _variables(endpoints: Iterable[Any]) -> list[tf.Variable]:
    """Returns the variables that functions read, each once, in the order of their first use."""
    # `endpoint.variables` has another order in each process.
    found = {id(v.handle): v for endpoint in endpoints for v in endpoint.variables}
    used = {id(tensor): None for endpoint in endpoints for tensor in endpoint.captured_inputs}
    return [found[key] for key in used if key in found]


def _resources(
    endpoints: Iterable[Any], variables: Iterable[tf.Variable], owners: Iterable[Any]
) -> list[Any]:
    """Returns the lookup tables and the like that functions use.

    Args:
        endpoints: The functions.
        variables: The variables that they read.
        owners: Objects that hold the tables. They are searched until all are found.
    """
    known = {id(variable.handle) for variable in variables}
    used = {
        id(tensor)
        for endpoint in endpoints
        for tensor in endpoint.captured_inputs
        if tensor.dtype == tf.resource and id(tensor) not in known
    }
    found: dict[int, Any] = {}
    for owner in owners:
        if used <= found.keys():
            break
        for child in _Saved(owner).descendants():
            if isinstance(child, tf.saved_model.experimental.TrackableResource):
                found[id(child.resource_handle)] = child
    if missing := used - found.keys():
        raise ValueError(
            "`resources` must hold every lookup table, tokenizer and the like that the functions "
            f"of a signature use. Received: {len(missing)} of {len(used)} in use are in none"
        )
    return [found[key] for key in found if key in used]


class _Saved(tf.train.TrackableView):
    """What hangs on an object when it is saved for serving; Keras lists its layers only then."""

    @classmethod
    def children(cls, obj, save_type="savedmodel", **kwargs):
        return super().children(obj, save_type, cache={})
