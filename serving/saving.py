"""Writes the graph and the weights of an export, each weight once."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from serving.signature import Signature


class Parts(NamedTuple):
    """The graphs of a signature's three parts, each a concrete function."""

    preprocess: Any
    core: Any
    postprocess: Any


def write_graph(folder: Path, model: keras.Model, signatures: Mapping[str, Signature]) -> None:
    """Writes `saved_model.pb`, `variables/` and `assets/`.

    The version answers `signatures`. Loaded in Python it also has the parts of each, in the dicts
    `preprocess`, `core` and `postprocess` by name of the signature.

    What is saved are the variables that the signatures use, as TensorFlow's own. Tracking the model
    or its Keras variables as well, as `keras.export.ExportArchive` does, stores every weight twice.

    Raises:
        ValueError: The signatures use a lookup table that is not in the model or in `resources`.
    """
    cores: dict[Any, Any] = {}
    parts: dict[str, Parts] = {}
    for name, signature in signatures.items():
        # Signatures that share a core share its function.
        if signature.core not in cores:
            cores[signature.core] = tf.function(signature.compute(model), autograph=False)
        parts[name] = _parts(signature, cores[signature.core])
    endpoints = {name: _endpoint(signature, parts[name]) for name, signature in signatures.items()}
    functions = list(endpoints.values())
    owners = [owner for signature in signatures.values() for owner in signature.resources]
    root = tf.Module()
    root.weights = _variables(functions)
    root.resources = _resources(functions, root.weights, [*owners, model])
    root.preprocess = {name: parts[name].preprocess for name in parts}
    root.core = {name: parts[name].core for name in parts}
    root.postprocess = {name: parts[name].postprocess for name in parts}
    # Converters for TPUs find the parts for the TPU by these names.
    aliases = {
        f"core_{number}" if number else "core": [
            parts[name].core for name, signature in signatures.items() if signature.core == core
        ]
        for number, core in enumerate(cores)
    }
    options = tf.saved_model.SaveOptions(function_aliases=aliases)
    tf.saved_model.save(root, str(folder), signatures=endpoints, options=options)


def _parts(signature: Signature, core: Any) -> Parts:
    def prepared(inputs):
        return signature.prepared({name: inputs[key] for name, key in signature.served.items()})

    preprocess = tf.function(prepared, autograph=False).get_concrete_function(
        {spec.name: spec for spec in _served(signature)}
    )
    features, context = _specs(preprocess.structured_outputs)
    core = core.get_concrete_function(features)
    postprocess = tf.function(signature.finished, autograph=False).get_concrete_function(
        _specs(core.structured_outputs), context
    )
    return Parts(preprocess, core, postprocess)


def _endpoint(signature: Signature, parts: Parts) -> Any:
    specs = _served(signature)

    @tf.function(input_signature=specs, autograph=False)
    def answer(*tensors):
        inputs = {spec.name: tensor for spec, tensor in zip(specs, tensors, strict=True)}
        features, context = parts.preprocess(inputs)
        return parts.postprocess(parts.core(features), context)

    return answer.get_concrete_function()


def _served(signature: Signature) -> list[tf.TensorSpec]:
    return [
        tf.TensorSpec(spec.shape, spec.dtype, signature.served[name])
        for name, spec in signature.inputs.items()
    ]


def _specs(values: Any) -> Any:
    """Returns the specs of a nest of tensors, without the names that they have in their graph."""
    return tf.nest.map_structure(
        lambda value: (
            tf.TensorSpec(value.shape, value.dtype)
            if isinstance(value, tf.Tensor)
            else tf.type_spec_from_value(value)
        ),
        values,
    )


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
            "`resources` must have every lookup table, tokenizer and the like that the functions "
            f"of a signature use. Received: {len(missing)} of {len(used)} in use are in none"
        )
    return [found[key] for key in found if key in used]


class _Saved(tf.train.TrackableView):
    """Lists the children of an object when it is saved; only then does Keras list its layers."""

    @classmethod
    def children(cls, obj, save_type="savedmodel", **kwargs):
        return super().children(obj, save_type, cache={})
