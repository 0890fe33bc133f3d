"""The one way from a trained model to a version that TensorFlow Serving loads as it is."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from serving import graph, parity, versions
from serving.card import write_card
from serving.warmup import Record, Tensors, batches, write_records

# Largest difference between the live model's answer and the exported one's, by compute dtype: they
# may be fused differently, which rounds differently (float32 has 24 bits, float16 11, bfloat16 8).
TOLERANCES = {"float32": 1e-5, "float64": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}

# Examples of each signature but serving_default: they may be large, such as decoded pixels.
NUM_FEATURES = 4


class Prepared(NamedTuple):
    """What `preprocess` returns where `postprocess` needs more than what the model answers.

    Args:
        features: What the model takes.
        places: Handed to `postprocess` as its second argument: a nest of tensors, such as the
            offsets in the text at which the tokens stand.
    """

    features: Any
    places: Any


@dataclass(frozen=True)
class Signature:
    """One way to ask a model: host preprocessing, then the model, then host postprocessing.

    Args:
        inputs: A named `tf.TensorSpec` for each input, first dimension None (the batch).
        preprocess: From the inputs, as keyword arguments, to what the model takes: a tensor,
            or a tuple, list or dict of tensors; or `Prepared`. TensorFlow operations only.
        postprocess: From what the model returns, floating tensors as float32, and from the places
            of `Prepared`, to a dict of tensors, named as the client shall see them.
        words: What each input and output means, for people: kind of data, unit, order.
        resources: Lookup tables, tokenizers and other trackable objects that the two functions use.
        examples: Real inputs, arrays by name, for a signature other than `serving_default`; None
            takes what the preprocessing of that makes of its examples, where that fits.
    """

    inputs: tuple[tf.TensorSpec, ...]
    preprocess: Callable[..., Any]
    postprocess: Callable[..., dict[str, tf.Tensor]]
    words: Mapping[str, str]
    resources: tuple[Any, ...] = ()
    examples: Tensors | None = None

    def __post_init__(self):
        for spec in self.inputs:
            if not spec.name or spec.shape.rank in (None, 0) or spec.shape[0] is not None:
                raise ValueError(
                    "`inputs` must be named and have None as their first dimension, the batch. "
                    f"Received: {spec}"
                )

    def answer(self, model: Callable, tensors: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Runs the three parts; floating outputs are float32 whatever the model computes in."""
        prepared = self.preprocess(**tensors)
        if isinstance(prepared, Prepared):
            outputs = self.postprocess(model(prepared.features), prepared.places)
        else:
            outputs = self.postprocess(model(prepared))
        if not isinstance(outputs, dict) or not outputs:
            raise TypeError(f"`postprocess` must return a dict of tensors. Received: {outputs!r}")
        return {name: _as_float32(tf.convert_to_tensor(outputs[name])) for name in outputs}


def export(
    base: Path,
    model: keras.Model,
    signatures: Mapping[str, Signature],
    warmup: Tensors,
    card: Mapping[str, object],
) -> Path:
    """Writes the next version of a model, for any server that watches `base`.

    The version appears whole or not at all, and only after it has been loaded again and has
    answered the warmup examples as the live model does: to 1e-5 of the largest value in float32,
    1e-2 in float16, 5e-2 in bfloat16. It needs TensorFlow, with TensorFlow Text if a signature uses
    its operations, and nothing else.

    Args:
        base: Folder of the versions 1, 2, ...; made if it is not there.
        model: A built model.
        signatures: `serving_default`, which takes what a client has, and others: at least one
            without strings, for clients that preprocess and for XLA.
        warmup: Real examples for `serving_default`, arrays by input name, at least one example;
            eight or so warm up enough.
        card: Task, data, scores, config and the like, for `assets.extra/model_card.json`.

    Returns:
        The folder of the new version.
    """
    base = Path(base)
    _require_examples(signatures, warmup)
    records = _ask_live(model, signatures, warmup)
    tolerance = _tolerance(model)
    with versions.workplace(base) as written:
        _write_graph(written, model, signatures)
        _require_portable(written, base)
        _require_parity(written, records, tolerance)
        write_records(written, records)
        words = {name: signature.words for name, signature in signatures.items()}
        write_card(written, card, words, tolerance)
        return versions.publish(written, base)


def _require_examples(signatures: Mapping[str, Signature], warmup: Tensors) -> None:
    if "serving_default" not in signatures:
        raise ValueError(
            f"`signatures` must have `serving_default`. Received: {sorted(signatures)}"
        )
    names = {spec.name for spec in signatures["serving_default"].inputs}
    lengths = {len(values) for values in warmup.values()}
    if warmup.keys() != names or len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "`warmup` must hold equally many examples, at least one, for each input of "
            f"serving_default: {sorted(names)}. Received: "
            f"{ {name: len(values) for name, values in warmup.items()} }"
        )


def _ask_live(
    model: keras.Model, signatures: Mapping[str, Signature], warmup: Tensors
) -> list[Record]:
    """Answers the warmup examples, in batches of several sizes, without a graph."""
    core = _core(model)
    requests = [("serving_default", batch) for batch in batches(warmup)]
    default = signatures["serving_default"]
    few = {name: tf.constant(values[:NUM_FEATURES]) for name, values in warmup.items()}
    features = default.preprocess(**few)
    if isinstance(features, Prepared):
        features = features.features
    for name, signature in signatures.items():
        batch = signature.examples or _fitting(signature, features)
        if name != "serving_default" and batch:
            requests.append((name, batch))
    records = []
    for name, batch in requests:
        tensors = {key: tf.constant(values) for key, values in batch.items()}
        answer = signatures[name].answer(core, tensors)
        records.append(Record(name, batch, {key: answer[key].numpy() for key in answer}))
    return records


def _fitting(signature: Signature, features: Any) -> Tensors | None:
    """Returns what the model takes as inputs of a signature, if types and shapes fit."""
    specs = {str(spec.name): spec for spec in signature.inputs}
    tensors = features if isinstance(features, dict) else None
    if tensors is None:
        flat = tf.nest.flatten(features)
        tensors = dict(zip(specs, flat, strict=True)) if len(flat) == len(specs) else {}
    if tensors.keys() != specs.keys():
        return None
    fits = all(specs[name].is_compatible_with(tensors[name]) for name in specs)
    return {name: tensors[name].numpy() for name in specs} if fits else None


def _core(model: keras.Model) -> Callable:
    """The dense part: the model at inference, its floating outputs as float32."""

    def answer(features):
        # In the scope nothing that a layer assigns or adds as a loss enters the graph.
        with keras.StatelessScope():
            return tf.nest.map_structure(_as_float32, model(features, training=False))

    return answer


def _as_float32(tensor: tf.Tensor) -> tf.Tensor:
    return tf.cast(tensor, tf.float32) if tensor.dtype.is_floating else tensor


def _write_graph(folder: Path, model: keras.Model, signatures: Mapping[str, Signature]) -> None:
    archive = keras.export.ExportArchive()
    archive.track(model)
    # A function of its own in each signature, so that it can be compiled apart from the host parts.
    core = tf.function(_core(model), autograph=False)
    for name, signature in signatures.items():
        for resource in signature.resources:
            archive.track(resource)
        archive.add_endpoint(name, _endpoint(signature, core), list(signature.inputs))
    # By this name converters for TPUs find the part that is to run there.
    options = tf.saved_model.SaveOptions(function_aliases={"core": core})
    archive.write_out(str(folder), options=options, verbose=False)


def _endpoint(signature: Signature, core: Callable) -> Callable:
    names = [spec.name for spec in signature.inputs]

    def answer(*tensors):
        return signature.answer(core, dict(zip(names, tensors, strict=True)))

    return answer


def _tolerance(model: keras.Model) -> float:
    dtypes = {layer.compute_dtype for layer in (model, *model.layers)}
    return max(TOLERANCES.get(str(dtype), TOLERANCES["float32"]) for dtype in dtypes)


def _require_portable(folder: Path, base: Path) -> None:
    meta_graph = graph.read(folder)
    foreign = graph.unservable(graph.operations(meta_graph))
    if foreign:
        raise ValueError(
            "`signatures` must be made of operations of TensorFlow and TensorFlow Text, without "
            f"Python. Received: {foreign}"
        )
    places = {Path.cwd(), Path.home(), Path(sys.prefix), base.resolve()}
    content = (folder / "saved_model.pb").read_bytes()
    # A place such as / or /root is too short to say anything.
    paths = [str(place) for place in places if len(place.parts) > 2]
    paths = [path for path in paths if path.encode() in content]
    if paths := sorted({*paths, *graph.absolute_paths(meta_graph)}):
        raise ValueError(f"`signatures` must name no absolute path. Received: {paths}")


def _require_parity(folder: Path, records: list[Record], tolerance: float) -> None:
    """Loads the version again and asks it what the live model was asked."""
    loaded = graph.load(folder)
    for record in records:
        tensors = {name: tf.constant(values) for name, values in record.inputs.items()}
        answer = loaded.signatures[record.signature](**tensors)
        received = {name: answer[name].numpy() for name in answer}
        try:
            parity.difference(record.outputs, received, tolerance)
        except ValueError as error:
            raise ValueError(
                f"The exported `{record.signature}` does not answer the warmup examples as the "
                f"live model does, so nothing was written: {error}"
            ) from error
