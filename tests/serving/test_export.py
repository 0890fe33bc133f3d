"""A trained model leaves as a version that needs only TensorFlow."""

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from serving import export as export_module
from serving import graph
from serving.card import Description, plain, write_card
from serving.export import export
from serving.signature import Prepared, Signature
from serving.versions import numbered
from serving.warmup import read_records
from tests.serving.conftest import classifier

ROOT = Path(__file__).parents[2]


def vector_signature(**changes) -> Signature:
    signature = Signature(
        inputs={"row": tf.TensorSpec((None, 4), tf.float32)},
        preprocess=lambda row: row,
        postprocess=lambda outputs: {"value": outputs},
        meanings={"row": "four numbers", "value": "two numbers"},
    )
    return dataclasses.replace(signature, **changes)


def dense() -> keras.Model:
    row = keras.Input((4,))
    return keras.Model(row, keras.layers.Dense(2)(row))


ROWS = {"row": np.ones((2, 4), "float32")}


def test_each_export_is_the_next_version(tmp_path):
    paths = [
        export(tmp_path, dense(), {"serving_default": vector_signature()}, ROWS, {})
        for _ in range(2)
    ]
    assert paths == [tmp_path / "1", tmp_path / "2"]
    assert not list(tmp_path.glob(".export-*"))


def test_the_loaded_model_answers_as_the_live_one(tmp_path, model, signatures, warmup):
    version = export(tmp_path, model, signatures, warmup, {})
    loaded = tf.saved_model.load(str(version)).signatures
    pixels = np.random.default_rng(1).random((5, 8, 8, 1), "float32")
    logits = loaded["from_pixels"](images=tf.constant(pixels))["logits"]
    np.testing.assert_allclose(logits, model.predict(pixels, verbose=0), atol=1e-5)
    answer = loaded["serving_default"](image_bytes=tf.constant(warmup["image_bytes"]))
    assert answer["classes"].shape == (10, 2)
    assert np.all(answer["scores"][:, 0] >= answer["scores"][:, 1])


def test_an_undecodable_image_fails_its_request_and_is_named(exported):
    answer = tf.saved_model.load(str(exported / "1")).signatures["serving_default"]
    (record, *_) = read_records(exported / "1")
    image = record.inputs["image_bytes"][0]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[1 3\]"):
        answer(image_bytes=tf.constant([image, b"no image", image, image[:20]]))
    assert answer(image_bytes=tf.constant([image]))["scores"].shape == (1, 2)


def test_nothing_of_training_is_in_the_graph(exported):
    operations = graph.operations(graph.read(exported / "1"))
    assert not [name for name in operations if "Random" in name or name == "AssignAddVariableOp"]


def test_the_card_says_what_goes_in_and_out(exported):
    card = json.loads((exported / "1" / "assets.extra" / "model_card.json").read_text())
    assert card["task"] == "test"
    assert card["signatures"]["serving_default"] == {
        "inputs": [
            {
                "name": "image_bytes",
                "title": "image_bytes",
                "dtype": "string",
                "shape": [None],
                "meaning": "PNG or JPEG files",
            }
        ],
        "outputs": [
            {
                "name": "classes",
                "dtype": "string",
                "shape": [None, 2],
                "meaning": "names of the two likeliest, best first",
            },
            {
                "name": "scores",
                "dtype": "float32",
                "shape": [None, 2],
                "meaning": "their probabilities",
            },
        ],
        "ties": {"classes": "scores"},
    }
    assert "Conv2D" in card["operations"]
    assert card["versions"]["tensorflow"] == tf.__version__
    assert card["tolerance"] == 1e-5


def test_a_card_is_written_into_any_version(tmp_path, exported):
    (tmp_path / "saved_model.pb").write_bytes((exported / "1" / "saved_model.pb").read_bytes())
    with pytest.raises(ValueError, match=r"none for \['images', 'logits'\]"):
        write_card(tmp_path, {}, {"from_pixels": Description({})}, 1e-5)
    described = Description({"images": "pixels", "logits": "scores"})
    write_card(tmp_path, {}, {"from_pixels": described}, 1e-5)
    card = json.loads((tmp_path / "assets.extra" / "model_card.json").read_text())
    assert list(card["signatures"]) == ["from_pixels"]


def test_the_core_has_a_name_by_which_converters_find_it(exported):
    meta_graph = graph.read(exported / "1")
    (name,) = [name for name, a in meta_graph.meta_info_def.function_aliases.items() if a == "core"]
    functions = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    operations = {node.op for node in functions[name].node_def}
    assert "Conv2D" in operations and "DecodeJpeg" not in operations
    # Both signatures call it.
    assert len([f for f in functions.values() if name in called(f)]) == 2


def called(function) -> set[str]:
    return {attribute.func.name for node in function.node_def for attribute in node.attr.values()}


def test_the_parts_of_a_signature_are_functions_of_the_loaded_version(exported):
    loaded = tf.saved_model.load(str(exported / "1"))
    (record, *_) = read_records(exported / "1")
    features, context = loaded.preprocess["serving_default"](
        {name: tf.constant(values) for name, values in record.inputs.items()}
    )
    outputs = loaded.postprocess["serving_default"](
        loaded.core["serving_default"](features), context
    )
    np.testing.assert_array_equal(outputs["classes"], record.outputs["classes"])
    np.testing.assert_allclose(outputs["scores"], record.outputs["scores"], atol=1e-5)


def test_plain_keeps_no_absolute_path():
    value = {"out": Path("/home/me/run"), "data": "/data/cats", "n": np.float32(0.5), "k": (1, 2)}
    assert plain(value) == {"out": "run", "data": "cats", "n": 0.5, "k": [1, 2]}
    value = {"classes": ("/Arts/Other", "/Games/Other"), "config": {"preset": "/home/me/bert"}}
    assert plain(value) == {**value, "classes": [*value["classes"]], "config": {"preset": "bert"}}


def test_warmup_holds_both_signatures(exported):
    records = read_records(exported / "1")
    sizes = [(record.signature, len(next(iter(record.inputs.values())))) for record in records]
    default = [("serving_default", size) for size in (1, 2, 4, 3)]
    assert sizes == [*default, ("from_pixels", 4)]


def test_no_file_names_the_exporting_machine(exported, tmp_path_factory):
    folders = (ROOT, Path(sys.prefix), exported, tmp_path_factory.getbasetemp())
    files = [path for path in (exported / "1").rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        content = path.read_bytes()
        assert not [folder for folder in folders if str(folder).encode() in content], path


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("mixed_bfloat16", "mixed_float16", "bfloat16")
    ],
)
def test_outputs_are_float32_whatever_the_precision(tmp_path, policy, signatures, warmup):
    keras.config.set_dtype_policy(policy)
    version = export(tmp_path, classifier(), signatures, warmup, {})
    definitions = graph.read(version).signature_def
    for name in signatures:
        for output in definitions[name].outputs.values():
            assert tf.as_dtype(output.dtype) in (tf.float32, tf.string)
    card = json.loads((version / "assets.extra" / "model_card.json").read_text())
    assert card["tolerance"] == (1e-2 if policy.removeprefix("mixed_") == "float16" else 5e-2)


def test_pairs_dicts_and_lookup_tables_pass(tmp_path):
    left, right = keras.Input((), name="left"), keras.Input((), name="right")
    total = keras.layers.Add()([left, right])
    model = keras.Model({"left": left, "right": right}, {"total": total, "left": left})
    keys, values = tf.constant(["one", "two"]), tf.constant([1.0, 2.0])
    numbers = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1.0)
    meanings = {"first": "a word", "second": "a word", "total": "sum", "left": "first number"}
    signature = Signature(
        inputs={name: tf.TensorSpec((None,), tf.string) for name in ("first", "second")},
        preprocess=lambda first, second: {
            "left": numbers.lookup(first),
            "right": numbers.lookup(second),
        },
        postprocess=lambda outputs: outputs,
        meanings=meanings,
        resources=(numbers,),
    )
    warmup = {"first": np.array([b"one"], object), "second": np.array([b"two"], object)}
    version = export(tmp_path, model, {"serving_default": signature}, warmup, {})
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(version))
        definition = loaded.signature_def["serving_default"]
        feeds = {definition.inputs["first"].name: ["two"], definition.inputs["second"].name: ["x"]}
        assert session.run(definition.outputs["total"].name, feeds).tolist() == [1.0]


def test_context_goes_past_the_model(tmp_path):
    def first_words(text):
        words = tf.strings.split(text)
        lengths = tf.cast(words.row_lengths(), tf.float32)
        return Prepared(tf.stack([lengths] * 4, axis=1), {"words": words[:, :1].to_tensor()})

    signatures = {
        "serving_default": Signature(
            inputs={"text": tf.TensorSpec((None,), tf.string)},
            preprocess=first_words,
            postprocess=lambda outputs, context: {"first": context["words"], "scores": outputs},
            meanings={"text": "words", "first": "the first word", "scores": "two numbers"},
        ),
        "from_vectors": vector_signature(),
    }
    model, texts = dense(), np.array(["one two", "three"], object)
    version = export(tmp_path / "words", model, signatures, {"text": texts}, {})
    served = tf.saved_model.load(version)
    answer = served.signatures["serving_default"](text=tf.constant(texts))
    assert answer["first"].numpy().tolist() == [[b"one"], [b"three"]]
    expected = model(np.array([[2] * 4, [1] * 4], np.float32))
    np.testing.assert_allclose(answer["scores"], expected, atol=1e-6)
    recorded = [record.signature for record in read_records(version)]
    assert "from_vectors" in recorded


def wide() -> keras.Model:
    row = keras.Input((4,), name="row")
    hidden = keras.layers.Dense(3000, name="hidden")(row)
    return keras.Model(row, keras.layers.Dense(100, name="last")(hidden))


def stored_variables(version: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (version / "variables").iterdir()}


def test_each_weight_is_stored_once_and_equal_exports_are_equal(tmp_path):
    model, signatures = wide(), {"serving_default": vector_signature()}
    parameters = 4 * model.count_params()
    first, second = (
        stored_variables(export(tmp_path, model, signatures, ROWS, {})) for _ in range(2)
    )
    size = sum(len(content) for content in first.values())
    assert parameters < size < 1.01 * parameters + 5000
    assert first == second


@keras.saving.register_keras_serializable(package="hornbook_tests")
class Coded(keras.layers.Layer):
    """Holds a lookup table in a list of layers, where TensorFlow alone does not find it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [keras.layers.StringLookup(vocabulary=["one", "two"])]

    def call(self, inputs):
        return keras.ops.cast(self.parts[0](inputs), "float32")


def test_lookup_tables_inside_a_model_are_saved(tmp_path):
    text = keras.Input((), dtype="string")
    model = keras.Model(text, Coded()(text))
    signature = vector_signature(inputs={"row": tf.TensorSpec((None,), tf.string)})
    warmup = {"row": np.array([b"two", b"three"], object)}
    version = export(tmp_path, model, {"serving_default": signature}, warmup, {})
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(version))
        definition = loaded.signature_def["serving_default"]
        feeds = {definition.inputs["row"].name: ["two", "one", "x"]}
        assert session.run(definition.outputs["value"].name, feeds).tolist() == [2, 1, 0]


def test_a_lookup_table_that_nothing_holds_is_refused(tmp_path):
    keys, values = tf.constant(["one"]), tf.constant([1.0])
    numbers = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1.0)
    signature = vector_signature(
        inputs={"row": tf.TensorSpec((None,), tf.string)},
        preprocess=lambda row: tf.repeat(numbers.lookup(row)[:, None], 4, axis=1),
    )
    warmup = {"row": np.array([b"one"], object)}
    with pytest.raises(ValueError, match="`resources` must have every lookup table"):
        export(tmp_path, dense(), {"serving_default": signature}, warmup, {})


def test_tuples_in_and_lists_out_pass(tmp_path):
    a, b = keras.Input((1,)), keras.Input((1,))
    model = keras.Model([a, b], [keras.layers.Add()([a, b]), keras.layers.Subtract()([a, b])])
    signature = vector_signature(
        preprocess=lambda row: (row[:, :1], row[:, 1:2]),
        postprocess=lambda outputs: {"sum": outputs[0], "difference": outputs[1]},
        meanings={"row": "numbers", "sum": "of two", "difference": "of two"},
    )
    version = export(tmp_path, model, {"serving_default": signature}, ROWS, {})
    answer = tf.saved_model.load(str(version)).signatures["serving_default"]
    assert answer(row=tf.constant([[3.0, 1.0, 0.0, 0.0]]))["difference"].numpy() == [[2.0]]


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        pytest.param(
            lambda row: tf.ensure_shape(
                tf.numpy_function(lambda x: x, [row], tf.float32), (None, 4)
            ),
            "without Python",
            id="python function",
        ),
        pytest.param(
            lambda row: row + tf.strings.to_number(tf.io.read_file("/proc/sys/kernel/panic")),
            "absolute path",
            id="absolute path",
        ),
        pytest.param(
            lambda row: row if tf.executing_eagerly() else row + 1.0,
            "does not answer the warmup examples like the live model",
            id="another answer",
        ),
    ],
)
def test_what_could_not_be_served_is_not_written(tmp_path, preprocess, message):
    signatures = {"serving_default": vector_signature(preprocess=preprocess)}
    with pytest.raises(ValueError, match=message):
        export(tmp_path, dense(), signatures, ROWS, {})
    assert numbered(tmp_path) == {}
    assert not list(tmp_path.glob(".export-*"))


def test_arguments_are_checked(tmp_path):
    signature = vector_signature()
    with pytest.raises(ValueError, match="must have `serving_default`"):
        export(tmp_path, dense(), {"other": signature}, ROWS, {})
    with pytest.raises(ValueError, match="same number of examples"):
        export(tmp_path, dense(), {"serving_default": signature}, {"rows": ROWS["row"]}, {})
    with pytest.raises(ValueError, match="`meanings` must explain"):
        few = vector_signature(meanings={"row": "four numbers"})
        export(tmp_path, dense(), {"serving_default": few}, ROWS, {})
    with pytest.raises(TypeError, match="`postprocess` must return a dict"):
        bare = vector_signature(postprocess=lambda outputs: outputs)
        export(tmp_path, dense(), {"serving_default": bare}, ROWS, {})
    for spec in (tf.TensorSpec((1, 4)), tf.TensorSpec(()), tf.TensorSpec(None)):
        with pytest.raises(ValueError, match="None as their first dimension, the batch"):
            dataclasses.replace(signature, inputs={"row": spec})
    with pytest.raises(ValueError, match=r"`ties` must name outputs .* Received: \['values'\]"):
        dataclasses.replace(signature, ties={"values": "value"})
    with pytest.raises(ValueError, match=r"`ties` must name outputs\. Received: value and row"):
        inputs = dataclasses.replace(signature, ties={"value": "row"})
        export(tmp_path, dense(), {"serving_default": inputs}, ROWS, {})


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_that_a_server_sees(tmp_path):
    script = """
import os, signal, sys
from pathlib import Path
from serving import export as module
from tests.serving.test_export import ROWS, dense, vector_signature

module.write_card = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
module.export(Path(sys.argv[1]), dense(), {"serving_default": vector_signature()}, ROWS, {})
"""
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL
    assert numbered(tmp_path) == {}
    assert len(list(tmp_path.glob(".export-*/version/saved_model.pb"))) == 1
    signatures = {"serving_default": vector_signature()}
    assert export_module.export(tmp_path, dense(), signatures, ROWS, {}) == tmp_path / "1"
    assert not list(tmp_path.glob(".export-*"))


def test_warmup_of_a_signature_with_strings_is_given(tmp_path):
    words = vector_signature(
        inputs={"numbers": tf.TensorSpec((None,), tf.string)},
        preprocess=lambda numbers: tf.repeat(tf.strings.to_number(numbers)[:, None], 4, axis=1),
        meanings={"numbers": "a number in words", "value": "two numbers"},
        examples={"numbers": np.array([b"1", b"2.5"], object)},
    )
    signatures = {"serving_default": vector_signature(), "from_words": words}
    records = read_records(export(tmp_path, dense(), signatures, ROWS, {}))
    assert records[-1].signature == "from_words"
    assert records[-1].inputs["numbers"].tolist() == [b"1", b"2.5"]
    assert records[-1].outputs["value"].shape == (2, 2)


@pytest.mark.parametrize(
    ("gaps", "kept"), [((1, 1, 9e-4, 1, 0), [0, 1, 3]), ((1, 1, 0, 0, 0), [0, 1, 2, 3, 4])]
)
def test_warmup_has_no_near_ties_unless_most_are(tmp_path, gaps, kept):
    rows = np.arange(20, dtype="float32").reshape(5, 4)

    def gap(outputs):
        # By row; a row is known by its first number.
        return tf.gather(tf.constant(gaps, tf.float32), tf.cast(outputs["first"] / 4, tf.int32))

    signature = vector_signature(
        core=lambda network, row: {"value": network(row), "first": row[:, 0]},
        postprocess=lambda outputs: {"value": outputs["value"]},
        gaps=gap,
    )
    version = export(tmp_path, dense(), {"serving_default": signature}, {"row": rows}, {})
    records = read_records(version)
    assert all(len(record.inputs["row"]) == len(record.outputs["value"]) for record in records)
    np.testing.assert_array_equal(
        np.concatenate([record.inputs["row"] for record in records]), rows[kept]
    )
