"""From a trained model to a version that TensorFlow Serving loads."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from serving import graph, parity, versions
from serving.card import Description, write_card
from serving.saving import write_graph
from serving.signature import Signature
from serving.warmup import Record, Tensors, batches, write_records

# Maximum difference between the answers of the live and the exported model, by compute dtype: they
# may be fused and so rounded differently (float32 has 24 bits, float16 11, bfloat16 8).
TOLERANCES = {"float32": 1e-5, "float64": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}

# Examples of each signature but serving_default: they may be large, such as decoded pixels.
NUM_FEATURES = 4
LEAST_GAP = 1e-3
"""Examples with smaller `Signature.gaps` are left out, in nats."""


def export(
    base: Path,
    model: keras.Model,
    signatures: Mapping[str, Signature],
    warmup: Tensors,
    card: Mapping[str, object],
) -> Path:
    """Writes the next version of a model, for any server that watches `base`.

    The version becomes visible when it is complete, and only after it has been loaded again and
    has answered the warmup examples like the live model: to 1e-5 of the largest value in float32,
    1e-2 in float16, 5e-2 in bfloat16. It needs only TensorFlow, and TensorFlow Text if a signature
    uses its operations.

    Args:
        base: Folder of the versions 1, 2, ...; created if it does not exist.
        model: A built model.
        signatures: `serving_default`, which takes raw data, and others, such as one that takes
            ready tensors, for clients that preprocess.
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
        write_graph(written, model, signatures)
        _require_portable(written, base)
        _require_parity(written, signatures, records, tolerance)
        write_records(written, records)
        described = {
            name: Description(
                signature.meanings,
                {served: title for title, served in signature.served.items()},
                signature.ties,
                signature.no_xla,
            )
            for name, signature in signatures.items()
        }
        write_card(written, card, described, tolerance)
        return versions.publish(written, base)


def _require_examples(signatures: Mapping[str, Signature], warmup: Tensors) -> None:
    if "serving_default" not in signatures:
        raise ValueError(
            f"`signatures` must have `serving_default`. Received: {sorted(signatures)}"
        )
    names = set(signatures["serving_default"].inputs)
    lengths = {len(values) for values in warmup.values()}
    if warmup.keys() != names or len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "`warmup` must have the same number of examples, at least one, for each input of "
            f"serving_default: {sorted(names)}. Received: "
            f"{ {name: len(values) for name, values in warmup.items()} }"
        )


def _ask_live(
    model: keras.Model, signatures: Mapping[str, Signature], warmup: Tensors
) -> list[Record]:
    """Answers the warmup examples, in batches of several sizes, without a graph."""
    requests = [("serving_default", batch) for batch in batches(warmup)]
    default = signatures["serving_default"]
    few = {name: tf.constant(values[:NUM_FEATURES]) for name, values in warmup.items()}
    features = default.prepared(few).features
    for name, signature in signatures.items():
        batch = signature.examples or _fitting(signature, features)
        if name != "serving_default" and batch:
            requests.append((name, batch))
    count = len(requests)
    requests += [(name, batch) for name in signatures for batch in signatures[name].warmup]
    records, clear = [], []
    for name, batch in requests:
        signature = signatures[name]
        tensors = {key: tf.constant(values) for key, values in batch.items()}
        prepared = signature.prepared(tensors)
        outputs = signature.compute(model)(prepared.features)
        answer = signature.finished(outputs, prepared.context)
        gaps = signature.gaps(outputs) if signature.gaps else None
        served = {signature.served[key]: values for key, values in batch.items()}
        records.append(Record(name, served, {key: answer[key].numpy() for key in answer}))
        rows = len(next(iter(batch.values())))
        clear.append(np.ones(rows, bool) if gaps is None else gaps.numpy() >= LEAST_GAP)
    return _without_near_ties(records[:count], clear) + records[count:]


def _without_near_ties(records: list[Record], clear: list[np.ndarray]) -> list[Record]:
    """Keeps the examples that are clear, or of a signature all if fewer than half are."""
    kept = []
    for record, rows in zip(records, clear, strict=False):
        pairs = zip(records, clear, strict=False)
        every = np.concatenate([some for one, some in pairs if one.signature == record.signature])
        rows = rows if 2 * every.sum() >= every.size else np.ones_like(rows)
        parts = [
            {name: values[rows] for name, values in part.items()}
            for part in (record.inputs, record.outputs)
        ]
        if rows.any():
            kept.append(Record(record.signature, *parts))
    return kept


def _fitting(signature: Signature, features: Any) -> Tensors | None:
    """Returns the model's inputs as those of a signature, if types and shapes fit."""
    specs = signature.inputs
    tensors = features if isinstance(features, dict) else None
    if tensors is None:
        flat = tf.nest.flatten(features)
        tensors = dict(zip(specs, flat, strict=True)) if len(flat) == len(specs) else {}
    if tensors.keys() != specs.keys():
        return None
    fits = all(specs[name].is_compatible_with(tensors[name]) for name in specs)
    return {name: tensors[name].numpy() for name in specs} if fits else None


def _tolerance(model: keras.Model) -> float:
    dtypes = {layer.compute_dtype for layer in (model, *model.layers)}
    return max(TOLERANCES.get(str(dtype), TOLERANCES["float32"]) for dtype in dtypes)


def _require_portable(folder: Path, base: Path) -> None:
    meta_graph = graph.read(folder)
    unservable = graph.unservable(graph.operations(meta_graph))
    if unservable:
        raise ValueError(
            "`signatures` must be made of operations of TensorFlow and TensorFlow Text, without "
            f"Python. Received: {unservable}"
        )
    machine = {Path.cwd(), Path.home(), Path(sys.prefix), base.resolve()}
    content = (folder / "saved_model.pb").read_bytes()
    # A folder such as / or /root is too short to be conclusive.
    paths = [str(path) for path in machine if len(path.parts) > 2]
    paths = [path for path in paths if path.encode() in content]
    if paths := sorted({*paths, *graph.absolute_paths(meta_graph)}):
        raise ValueError(f"`signatures` must name no absolute path. Received: {paths}")


def _require_parity(
    folder: Path, signatures: Mapping[str, Signature], records: list[Record], tolerance: float
) -> None:
    """Loads the version again and compares its answers with those of the live model."""
    loaded = graph.load(folder)
    for name, signature in signatures.items():
        answers = []
        for record in records:
            if record.signature == name:
                inputs = {key: tf.constant(values) for key, values in record.inputs.items()}
                answer = loaded.signatures[name](**inputs)
                answers.append((record.outputs, {key: answer[key].numpy() for key in answer}))
        try:
            parity.difference(answers, tolerance, signature.ties)
        except ValueError as error:
            raise ValueError(
                f"The exported `{name}` does not answer the warmup examples like the live model, "
                f"so nothing was written: {error}"
            ) from error
