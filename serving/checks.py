"""The checks of `serving.verify`, which runs them in a separate process.

They do not depend on the kind of data: the examples are the warmup requests of the version. Each
prints a line of JSON as soon as it is done.
"""

import functools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from serving import graph, parity
from serving.errors import reason
from serving.names import RESERVED
from serving.verify import XLA_BATCH_SIZES, Check
from serving.warmup import Record, Tensors, read_records

BATCH_SIZES = (1, 2, 3, 7)
XLA_TOLERANCE = 1e-4
# For a dimension other than the batch that a signature leaves open, such as the length of a text.
OPEN_DIMENSION = 16


class Subject:
    """The version under test, read once."""

    def __init__(self, version: Path):
        self.version = version

    @functools.cached_property
    def meta_graph(self) -> tf.compat.v1.MetaGraphDef:
        return graph.read(self.version)

    @functools.cached_property
    def signatures(self) -> dict:
        """Signatures by name, without the initialiser that TensorFlow adds."""
        found = self.meta_graph.signature_def
        return {name: found[name] for name in sorted(found) if not name.startswith("__")}

    @functools.cached_property
    def loaded(self):
        return graph.load(self.version)

    @functools.cached_property
    def card(self) -> dict:
        return json.loads((self.version / "assets.extra" / "model_card.json").read_text("utf-8"))

    @functools.cached_property
    def records(self) -> list[Record]:
        records = read_records(self.version)
        if "serving_default" not in {record.signature for record in records}:
            raise ValueError("no requests for `serving_default` in tf_serving_warmup_requests")
        return records

    def described(self, signature: str) -> dict:
        """The card's description of a signature."""
        return self.card["signatures"].get(signature, {})

    def ask(self, signature: str, inputs: Tensors) -> Tensors:
        tensors = {name: tf.constant(values) for name, values in inputs.items()}
        answer = self.loaded.signatures[signature](**tensors)
        return {name: answer[name].numpy() for name in answer}

    def difference(
        self, signature: str, answers: list[tuple[Tensors, Tensors]], least: float = 0.0
    ) -> float:
        """Returns the largest difference of answers, if it is within the card's tolerance.

        Args:
            signature: Name of the signature.
            answers: Expected and received outputs.
            least: Lower bound of the tolerance.
        """
        tolerance, ties = self.card["tolerance"], self.described(signature).get("ties")
        if any("title" not in item for item in self.described(signature).get("inputs", ())):
            # Before inputs had titles no card named ties, and every ranking allowed them.
            ties = _ranked(answers[0][0])
        return parity.difference(answers, max(least, tolerance), ties)

    def examples(self, signature: str, count: int) -> Tensors:
        """Returns `count` examples: the warmup requests, repeated, or generated ones."""
        batches = [record.inputs for record in self.records if record.signature == signature]
        if not batches:
            return _made_up(self.signatures[signature], count)
        # Requests that only compile may have another number of tokens.
        batches = [batch for batch in batches if _form(batch) == _form(batches[0])]
        whole = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        return {
            name: np.resize(values, (count, *values.shape[1:])) for name, values in whole.items()
        }


def graph_is_readable(subject: Subject) -> str:
    return f"{len(subject.meta_graph.graph_def.library.function)} functions"


def loads(subject: Subject) -> str:
    return f"{len(subject.loaded.signatures)} signatures in TensorFlow {tf.__version__}"


def signatures_are_named_float32_and_dynamic(subject: Subject) -> str:
    if "serving_default" not in subject.signatures:
        raise ValueError(f"no `serving_default`, only {sorted(subject.signatures)}")
    for signature, definition in subject.signatures.items():
        for name, info in (*definition.inputs.items(), *definition.outputs.items()):
            where = f"`{name}` of `{signature}`"
            dtype = tf.as_dtype(info.dtype)
            if dtype.is_floating and dtype != tf.float32:
                raise ValueError(f"{where} is {dtype.name}, not float32")
            if RESERVED.fullmatch(name):
                raise ValueError(f"{where} has no name of its own")
            dimensions = info.tensor_shape.dim
            if not info.tensor_shape.unknown_rank and (not dimensions or dimensions[0].size != -1):
                raise ValueError(f"{where} has no open first dimension for the batch")
    return "; ".join(_words(*item) for item in subject.signatures.items())


def card_is_complete(subject: Subject) -> str:
    if (
        missing := {"signatures", "versions", "operations", "date", "tolerance"}
        - subject.card.keys()
    ):
        raise ValueError(f"model_card.json has no {sorted(missing)}")
    if set(subject.card["signatures"]) != set(subject.signatures):
        raise ValueError(f"model_card.json describes {sorted(subject.card['signatures'])}")
    return f"of {subject.card['date']}"


def operations_are_servable(subject: Subject) -> str:
    names = graph.operations(subject.meta_graph)
    if unservable := graph.unservable(names):
        raise ValueError(f"not in TensorFlow or TensorFlow Text: {', '.join(unservable)}")
    others = [name for name in names if not hasattr(tf.raw_ops, name)]
    return f"{len(names)} operations, of TensorFlow Text: {', '.join(others) or 'none'}"


def paths_are_relative(subject: Subject) -> str:
    if paths := graph.absolute_paths(subject.meta_graph):
        raise ValueError(f"absolute: {', '.join(paths)}")
    return f"{len(subject.meta_graph.asset_file_def)} assets"


def warmup_replays_in_a_session(subject: Subject) -> str:
    """Replays the warmup requests like TensorFlow Serving, and compares with recorded answers."""
    records = subject.records
    answers: dict[str, list[tuple[Tensors, Tensors]]] = {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.load(session, ["serve"], str(subject.version))
        for record in records:
            definition = subject.signatures[record.signature]
            received = session.run(
                {name: info.name for name, info in definition.outputs.items()},
                {definition.inputs[name].name: values for name, values in record.inputs.items()},
            )
            answers.setdefault(record.signature, []).append((record.outputs, received))
    largest = max(subject.difference(name, pairs) for name, pairs in answers.items())
    equal = ", all answers equal, which proves little" if _equal(records) else ""
    return f"{len(records)} requests, at most {largest:.1e} from the recorded answers{equal}"


def batch_size_does_not_matter(subject: Subject) -> str:
    largest = 0.0
    for signature in subject.signatures:
        examples = subject.examples(signature, max(BATCH_SIZES))
        singles = [
            subject.ask(signature, {name: values[i : i + 1] for name, values in examples.items()})
            for i in range(max(BATCH_SIZES))
        ]
        answers: list[tuple[Tensors, Tensors]] = []
        for size in BATCH_SIZES:
            batch = {name: values[:size] for name, values in examples.items()}
            answer = subject.ask(signature, batch)
            expected = {name: _joined(name, singles[:size], answer[name]) for name in answer}
            answers.append((expected, answer))
        largest = max(largest, subject.difference(signature, answers))
    sizes = ", ".join(map(str, BATCH_SIZES))
    return f"{sizes} at once: at most {largest:.1e} from one by one"


def cores_compile_with_xla(subject: Subject) -> str:
    """Compiles each core, without pre- and postprocessing, and compares its answers."""
    compiled, excused, largest = [], [], 0.0
    for names, answer in _compiled(subject).items():
        reasons = [subject.described(name).get("no_xla") for name in names]
        if reason := next(filter(None, reasons), None):
            excused.append(f"{' and '.join(names)}: not compiled, {reason}")
            continue
        signature = names[0]
        compiled.append(signature)
        answers: list[tuple[Tensors, Tensors]] = []
        for size in XLA_BATCH_SIZES:
            examples = subject.examples(signature, size)
            answered = answer({name: tf.constant(values) for name, values in examples.items()})
            received = {name: answered[name].numpy() for name in answered}
            answers.append((subject.ask(signature, examples), received))
        largest = max(largest, subject.difference(signature, answers, XLA_TOLERANCE))
    sizes = ", ".join(map(str, XLA_BATCH_SIZES))
    found = f"{', '.join(compiled)} at {sizes}: at most {largest:.1e} from uncompiled"
    return "; ".join([found] * bool(compiled) + excused)


def _compiled(subject: Subject) -> dict[tuple[str, ...], Callable]:
    """Returns for each core a function that answers with it compiled, by its signatures' names.

    The function answers the first of them.
    """
    names = ("preprocess", "core", "postprocess")
    parts: list[Any] = [getattr(subject.loaded, name, None) for name in names]
    if None in parts:
        # A version made elsewhere, with an unknown division between host and accelerator.
        numeric = [name for name, item in subject.signatures.items() if not _has_strings(item)]
        if not numeric:
            raise ValueError("no core, and no signature without strings, to compile")
        return {(name,): _whole(subject.loaded.signatures[name]) for name in numeric}
    sharing: dict[str, list[str]] = {}
    for name in sorted(subject.signatures, key=lambda name: name != "serving_default"):
        sharing.setdefault(parts[1][name].name, []).append(name)
    return {tuple(names): _apart(*(part[names[0]] for part in parts)) for names in sharing.values()}


def _whole(signature: Callable) -> Callable:
    compiled = tf.function(signature, jit_compile=True)
    return lambda inputs: compiled(**inputs)


def _apart(preprocess: Callable, core: Callable, postprocess: Callable) -> Callable:
    compiled = tf.function(core, jit_compile=True)

    def answer(inputs):
        features, context = preprocess(inputs)
        return postprocess(compiled(features), context)

    return answer


CHECKS: dict[str, Callable[[Subject], str]] = {
    "graph": graph_is_readable,
    "loads": loads,
    "signatures": signatures_are_named_float32_and_dynamic,
    "model card": card_is_complete,
    "operations": operations_are_servable,
    "paths": paths_are_relative,
    "warmup": warmup_replays_in_a_session,
    "batch sizes": batch_size_does_not_matter,
    "XLA": cores_compile_with_xla,
}


def run(version: Path) -> Iterator[Check]:
    """Runs the checks one by one; stops if the version cannot be read or loaded."""
    subject = Subject(version)
    for name, check in CHECKS.items():
        try:
            yield Check(name, True, check(subject))
        # Any error, in TensorFlow or in the files, is the finding.
        except Exception as error:
            yield Check(name, False, reason(error))
            if name in ("graph", "loads"):
                return


def _has_strings(definition) -> bool:
    infos = (*definition.inputs.values(), *definition.outputs.values())
    return any(info.dtype == tf.string.as_datatype_enum for info in infos)


def _equal(records: list[Record]) -> bool:
    """Whether all of several examples have the same answer, as from a network of dead units."""
    default = [record.outputs for record in records if record.signature == "serving_default"]
    rows = {name: [row for outputs in default for row in outputs[name]] for name in default[0]}
    several = all(len(found) > 1 for found in rows.values())
    return several and all(
        np.array_equal(row, found[0]) for found in rows.values() for row in found
    )


def _ranked(outputs: Tensors) -> dict[str, str]:
    """Returns, for outputs that are not floating, the scores that fall along the last axis."""
    falling = {
        name: values
        for name, values in outputs.items()
        if values.dtype.kind == "f" and values.ndim > 1 and np.all(np.diff(values, axis=-1) <= 0)
    }
    return {
        name: scores
        for name, values in outputs.items()
        for scores in falling
        if values.dtype.kind != "f" and values.shape == falling[scores].shape
    }


def _form(batch: Tensors) -> dict[str, tuple[int, ...]]:
    """The shape of an example."""
    return {name: values.shape[1:] for name, values in batch.items()}


def _joined(name: str, singles: list[Tensors], batch: np.ndarray) -> np.ndarray:
    """Joins answers to single examples, padded as in a batch if they are of several lengths."""
    rows = [_padded(single[name], batch[i : i + 1]) for i, single in enumerate(singles)]
    return np.concatenate(rows)


def _padded(alone: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Gives an answer the shape of its row in a batch, whose last value is the padding."""
    fits = alone.ndim == row.ndim and all(np.less_equal(alone.shape, row.shape))
    if not fits or alone.shape == row.shape:
        return alone
    padded = np.full_like(row, row.flat[-1])
    padded[tuple(slice(size) for size in alone.shape)] = alone
    return padded


def _made_up(definition, count: int) -> Tensors:
    examples = {}
    for name, info in definition.inputs.items():
        dtype = tf.as_dtype(info.dtype)
        if dtype == tf.string:
            raise ValueError(f"no warmup request for `{name}`, and strings cannot be generated")
        dimensions = [
            dim.size if dim.size >= 0 else OPEN_DIMENSION for dim in info.tensor_shape.dim
        ]
        values = np.random.default_rng(0).random((count, *dimensions[1:]))
        examples[name] = values.astype(dtype.as_numpy_dtype)
    return examples


def _words(name: str, definition) -> str:
    return f"{name}({', '.join(definition.inputs)}) -> {', '.join(definition.outputs)}"


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    for result in run(Path(sys.argv[1])):
        print(json.dumps(asdict(result)), flush=True)
