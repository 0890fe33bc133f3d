"""Signatures of exports: host preprocessing, a dense core, host postprocessing."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from serving import names
from serving.warmup import Tensors

BLOCK = 64
"""Maximum number of rows of a call in `in_blocks`."""


class Prepared(NamedTuple):
    """The result of `preprocess` if `postprocess` needs more than the core's outputs.

    Args:
        features: The inputs of the core.
        context: Passed to `postprocess` as its second argument: nested tensors, such as the
            offsets of the tokens in the text. None: `postprocess` has no second argument.
    """

    features: Any
    context: Any


@dataclass(frozen=True)
class Network:
    """A model as a core gets it: a function of features at inference.

    Args:
        model: The model itself, for a core that runs its layers one by one.
    """

    model: Any

    def __call__(self, features: Any) -> Any:
        # In the scope nothing that a layer assigns or adds as a loss enters the graph. Each call
        # has its own: what one call inside a loop assigns is no tensor outside of it.
        with keras.StatelessScope():
            return self.model(features, training=False)


def in_blocks(network: Network, features: Any) -> Any:
    """A core that calls the network on at most `BLOCK` rows at a time.

    For features whose number of rows a client does not limit, such as the windows of long texts:
    the memory of one call for all would have no limit either.

    Args:
        network: Returns a tensor with a row for each row of the features.
        features: A nest of tensors with equally many rows, at least one.
    """
    rows = tf.shape(tf.nest.flatten(features)[0])[0]
    block = tf.minimum(rows, BLOCK)
    blocks = -(-rows // block)

    def divided(tensor):
        padding = [[0, blocks * block - rows], *[[0, 0]] * (tensor.shape.rank - 1)]
        shape = tf.concat([[blocks, block], tf.shape(tensor)[1:]], axis=0)
        divided = tf.reshape(tf.pad(tensor, padding), shape)
        return tf.ensure_shape(divided, (None, None, *tensor.shape[1:]))

    parts = tf.nest.map_structure(divided, features)
    # Only its shape and type are read, so a graph does not compute it.
    kind = network(tf.nest.map_structure(lambda part: part[0], parts))
    spec = tf.TensorSpec((None, *kind.shape[1:]), kind.dtype)
    found = tf.map_fn(network, parts, fn_output_signature=spec, parallel_iterations=1)
    return tf.reshape(found, (blocks * block, *kind.shape[1:]))[:rows]


@dataclass(frozen=True)
class Signature:
    """One way to query a model: host preprocessing, then the core, then host postprocessing.

    Args:
        inputs: A `tf.TensorSpec` by name of each input, first dimension None (the batch). Any text
            may be a name, such as that of a table's column; `served` are the names in the graph.
        preprocess: From the inputs, as keyword arguments in the order of `inputs`, to what the core
            takes: a tensor, or a tuple, list or dict of tensors; or `Prepared`. TensorFlow
            operations only.
        postprocess: From what the core returns, floating tensors as float32, and from the context
            of `Prepared`, to a dict of tensors, named as the client shall see them.
        meanings: Meaning of each input and output for people: kind of data, unit, order.
        resources: Lookup tables, tokenizers, further networks and other trackable objects that the
            functions use.
        examples: Real inputs, arrays by name, for a signature other than `serving_default`. None:
            the preprocessed examples of `serving_default`, if they fit.
        warmup: Further requests, arrays by name each, for the warm-up alone.
        core: From the `Network`, a function of features at inference, and the features to what
            `postprocess` reads. None calls the model once. Generation loops, searches and several
            networks belong here.
        ties: By name of an output, the output with the scores that rank its rows, or with the
            log-probability of a generated text. `serving.parity` says what it allows where scores
            are equal. None allows nothing.
        gaps: From what the core returns to how clearly each row was decided, in nats, `(n,)`: with
            a small gap to the next option, rounding may decide. The export leaves out examples
            below `serving.export.LEAST_GAP`, unless these are most. None, instead of the function
            or of its result: leaves out none.
        no_xla: Why the core does not compile with XLA, such as the operation without a kernel. The
            model card repeats it. None: it compiles, which `serving.verify` checks.
    """

    inputs: Mapping[str, tf.TensorSpec]
    preprocess: Callable[..., Any]
    postprocess: Callable[..., dict[str, tf.Tensor]]
    meanings: Mapping[str, str]
    resources: tuple[Any, ...] = ()
    examples: Tensors | None = None
    warmup: Sequence[Tensors] = ()
    core: Callable[[Network, Any], Any] | None = None
    ties: Mapping[str, str] | None = None
    gaps: Callable[[Any], tf.Tensor | None] | None = None
    no_xla: str | None = None

    def __post_init__(self):
        for name, spec in self.inputs.items():
            if spec.shape.rank in (None, 0) or spec.shape[0] is not None:
                raise ValueError(
                    "`inputs` must have None as their first dimension, the batch. "
                    f"Received: {name}: {spec}"
                )
        names.served(self.inputs)
        ties = self.ties or {}
        if unknown := {*ties, *ties.values()} - self.meanings.keys():
            raise ValueError(
                f"`ties` must name outputs that `meanings` explains: {sorted(self.meanings)}. "
                f"Received: {sorted(unknown)}"
            )

    @functools.cached_property
    def served(self) -> dict[str, str]:
        """For each name of an input, the one under which it is served."""
        return names.served(self.inputs)

    def compute(self, model: Callable) -> Callable[[Any], Any]:
        """Returns the dense part: the core at inference, its floating outputs as float32."""

        network = Network(model)

        def answer(features):
            # This scope is for what else a core runs.
            with keras.StatelessScope():
                outputs = network(features) if self.core is None else self.core(network, features)
            return tf.nest.map_structure(_as_float32, outputs)

        return answer

    def prepared(self, tensors: Mapping[str, tf.Tensor]) -> Prepared:
        """Runs the preprocessing on the inputs by name."""
        prepared = self.preprocess(**{name: tensors[name] for name in self.inputs})
        return prepared if isinstance(prepared, Prepared) else Prepared(prepared, None)

    def finished(self, outputs: Any, context: Any) -> dict[str, tf.Tensor]:
        """Runs the postprocessing on what `compute` and `prepared` returned."""
        named = self.postprocess(outputs) if context is None else self.postprocess(outputs, context)
        if not isinstance(named, dict) or not named:
            raise TypeError(f"`postprocess` must return a dict of tensors. Received: {named!r}")
        return {name: _as_float32(tf.convert_to_tensor(named[name])) for name in named}

    def answer(self, compute: Callable, tensors: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Runs the three parts.

        Args:
            compute: What `compute` returned.
            tensors: The inputs by name.
        """
        features, context = self.prepared(tensors)
        return self.finished(compute(features), context)

    def graph(self, model: Callable) -> Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]]:
        """Returns the three parts with a model as one function of the inputs, traced once."""
        if id(model) not in self._graphs:  # Which keeps the model.
            compute = self.compute(model)
            self._graphs[id(model)] = tf.function(
                lambda tensors: self.answer(compute, tensors),
                input_signature=[dict(self.inputs)],
                autograph=False,
            )
        return self._graphs[id(model)]

    @functools.cached_property
    def _graphs(self) -> dict[int, Callable]:
        return {}


def tensors(
    inputs: Mapping[str, tf.TensorSpec],
    meanings: Mapping[str, str],
    *,
    examples: Tensors | None = None,
    preprocess: Callable[..., Any] | None = None,
    postprocess: Callable[[Any], dict[str, tf.Tensor]] | None = None,
    no_xla: str | None = None,
) -> Signature:
    """Returns the signature of a model for clients that preprocess, and for XLA.

    Args:
        inputs: What the model takes.
        meanings: Meaning of each input and output.
        examples: Real inputs, as in `Signature`.
        preprocess: From the inputs, as keyword arguments, to what the model takes. None: a single
            input as a tensor, several as a dict.
        postprocess: From what the model returns to the outputs by name. None: a dict as it is, a
            tensor as `logits`.
        no_xla: As in `Signature`.
    """
    return Signature(
        inputs=inputs,
        preprocess=preprocess or _alone_or_named,
        postprocess=postprocess or _named,
        meanings=meanings,
        examples=examples,
        no_xla=no_xla,
    )


def within(
    values: Mapping[str, tf.Tensor],
    allowed: Mapping[str, tuple[str, Callable[[tf.Tensor], tf.Tensor]]],
) -> dict[str, tf.Tensor]:
    """Returns the values of a client; fails if one is out of range, and names it and the rows.

    Args:
        values: `(n,)` each, by name of the input.
        allowed: By name of the input what is expected, for the message, and a function from its
            values to where they are so. Some may be of inputs that are not there.
    """
    checks = []
    for name, (expected, is_good) in allowed.items():
        if name not in values:
            continue
        good = is_good(values[name])
        rows = tf.where(~good)[:, 0]
        said = f"`{name}` must be {expected}. Rows, and what was received:"
        facts = [said, rows, tf.gather(values[name], rows)]
        checks.append(tf.debugging.Assert(tf.reduce_all(good), facts, 1000))
    with tf.control_dependencies(checks):
        return {name: tf.identity(value) for name, value in values.items()}


def _alone_or_named(**features: tf.Tensor) -> Any:
    return features if len(features) > 1 else next(iter(features.values()))


def _named(outputs: Any) -> dict[str, tf.Tensor]:
    return dict(outputs) if isinstance(outputs, Mapping) else {"logits": outputs}


def ask(
    signature: Signature,
    model: keras.Model,
    columns: Mapping[str, Sequence[Any] | np.ndarray],
    batch_size: int = 32,
    watch: Callable[[Iterable[range]], Iterable[range]] = iter,
) -> dict[str, np.ndarray]:
    """Queries a trained model through a signature, like its export.

    Args:
        signature: How it is queried.
        model: The network.
        columns: Examples by name of the input, equally many of each. Where the input has an axis
            of any size, they may differ in size; each query pads them with 0, False or "".
        batch_size: Examples of a query.
        watch: Yields the indices of the examples of each query, and may show progress.

    Returns:
        The outputs by name. Where batches are padded to several sizes, the smaller ones are padded
        further with 0, False or "".
    """
    answer = signature.graph(model)
    count = len(next(iter(columns.values())))
    indices = range(count)
    parts = []
    for query in watch(indices[begin : begin + batch_size] for begin in indices[::batch_size]):
        batch = {
            name: _tensor(column[query.start : query.stop], signature.inputs[name])
            for name, column in columns.items()
        }
        parts.append({name: value.numpy() for name, value in answer(batch).items()})
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _tensor(rows: Sequence[Any] | np.ndarray, spec: tf.TensorSpec) -> tf.Tensor:
    """Makes a batch of examples, padded to the largest if the input has an axis of any size."""
    if None in spec.shape.as_list()[1:] and not isinstance(rows, np.ndarray):
        dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
        rows = _joined([np.asarray(row, dtype)[None] for row in rows])
    return tf.constant(rows, spec.dtype)


def _joined(batches: Sequence[np.ndarray]) -> np.ndarray:
    """Joins batches along the first axis, padded along the others to the largest."""
    shape = np.max([batch.shape for batch in batches], axis=0)
    rows = sum(len(batch) for batch in batches)
    joined = np.full((rows, *shape[1:]), b"" if batches[0].dtype == object else 0, batches[0].dtype)
    begin = 0
    for batch in batches:
        end = begin + len(batch)
        joined[(slice(begin, end), *(slice(size) for size in batch.shape[1:]))] = batch
        begin = end
    return joined


def _as_float32(tensor: tf.Tensor) -> tf.Tensor:
    return tf.cast(tensor, tf.float32) if tensor.dtype.is_floating else tensor
