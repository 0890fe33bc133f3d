"""A trained model is queried as its export will answer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from serving.signature import Prepared, Signature, ask, in_blocks, tensors


def doubler() -> keras.Model:
    rows = keras.Input((None,), name="rows")
    return keras.Model(rows, keras.layers.Rescaling(2.0)(rows))


TEXT = {"text": tf.TensorSpec((None,), tf.string)}
MEANINGS = dict.fromkeys(("text", "words", "lengths", "known"), "words of a text")


def split(text):
    words = tf.strings.split(text)
    features = tf.cast(tf.strings.length(words), tf.float32).to_tensor()
    return Prepared(features, words.to_tensor())


def word_lengths() -> Signature:
    return Signature(
        inputs=TEXT,
        preprocess=split,
        postprocess=lambda outputs, words: {
            "words": words,
            "lengths": tf.cast(outputs, tf.int32),
            "known": words != "",
        },
        meanings=MEANINGS,
    )


TEXTS = ["a bcd", "ef", "", "a b c d", "e"]


def test_inputs_come_in_the_order_of_the_signature():
    inputs = {name: tf.TensorSpec((None,), tf.float32) for name in ("text", "known")}
    signature = Signature(inputs, lambda **columns: tuple(columns), dict, MEANINGS)
    ones = tf.ones(1)
    assert signature.prepared({"known": ones, "text": ones}).features == ("text", "known")


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 32])
def test_answers_of_batches_of_any_size_are_joined_and_padded(batch_size):
    answer = ask(word_lengths(), doubler(), {"text": TEXTS}, batch_size)
    assert answer["words"].tolist() == [
        [b"a", b"bcd", b"", b""],
        [b"ef", b"", b"", b""],
        [b"", b"", b"", b""],
        [b"a", b"b", b"c", b"d"],
        [b"e", b"", b"", b""],
    ]
    assert answer["lengths"].tolist() == [
        [2, 6, 0, 0],
        [4, 0, 0, 0],
        [0, 0, 0, 0],
        [2, 2, 2, 2],
        [2, 0, 0, 0],
    ]
    assert answer["known"].sum() == 8
    assert [answer[name].dtype for name in ("words", "lengths", "known")] == [object, "int32", bool]


@pytest.mark.parametrize("texts", [np.array(["ä", "b"]), np.array(["ä", b"b"], object), ["ä", "b"]])
def test_texts_may_be_strings_or_bytes(texts):
    answer = ask(word_lengths(), doubler(), {"text": texts})
    assert answer["words"].tolist() == [["ä".encode()], [b"b"]]


def test_numbers_become_the_type_of_the_input_and_floats_float32():
    signature = tensors(
        {"rows": tf.TensorSpec((None, 2), tf.float32)}, dict.fromkeys(("rows", "logits"), "numbers")
    )
    keras.config.set_dtype_policy("mixed_bfloat16")
    answer = ask(signature, doubler(), {"rows": [[1, 2], [3, 4]]})
    assert answer["logits"].dtype == "float32"
    assert answer["logits"].tolist() == [[2, 4], [6, 8]]


def test_a_model_of_several_inputs_and_outputs_has_them_by_name():
    left, right = keras.Input((1,), name="left"), keras.Input((1,), name="right")
    total = keras.layers.Add()([left, right])
    model = keras.Model({"left": left, "right": right}, {"total": total, "left": left})
    specs = {name: tf.TensorSpec((None, 1), tf.float32) for name in ("left", "right")}
    signature = tensors(specs, dict.fromkeys(("left", "right", "total"), "numbers"))
    answer = ask(signature, model, {"right": [[2.0]], "left": [[1.0]]})
    assert {name: values.tolist() for name, values in answer.items()} == {
        "total": [[3.0]],
        "left": [[1.0]],
    }


def test_a_core_may_call_the_network_again_and_again():
    def twice(network, rows):
        return network(network(rows))

    signature = Signature(
        inputs={"rows": tf.TensorSpec((None, 1), tf.float32)},
        preprocess=lambda rows: rows,
        postprocess=lambda outputs: {"rows": outputs},
        meanings={"rows": "numbers"},
        core=twice,
    )
    assert ask(signature, doubler(), {"rows": [[1.0]]})["rows"].tolist() == [[4.0]]


def test_names_of_inputs_are_the_user_s():
    inputs = {name: tf.TensorSpec((None,), tf.float32) for name in ("Größe (cm)", "mean radius")}
    signature = Signature(
        inputs=inputs,
        preprocess=lambda **columns: tf.stack([columns[name] for name in inputs], axis=1),
        postprocess=lambda outputs: {"doppelte Größe": outputs[:, 0]},
        meanings=dict.fromkeys((*inputs, "doppelte Größe"), "numbers"),
    )
    assert signature.served == {"Größe (cm)": "Grosse_cm", "mean radius": "mean_radius"}
    answer = ask(signature, doubler(), {"Größe (cm)": [1, 2, 3], "mean radius": [4, 5, 6]}, 2)
    assert answer["doppelte Größe"].tolist() == [2, 4, 6]


@pytest.mark.parametrize("rows", [1, 3, 4, 9])
def test_many_rows_are_computed_in_blocks(rows, monkeypatch):
    monkeypatch.setattr("serving.signature.BLOCK", 4)
    inputs = {name: keras.Input((2,), name=name) for name in "ab"}
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Add()(list(inputs.values()))))
    sizes = []

    def network(features):
        sizes.append(features["a"].shape[0])
        return model(features)

    random = np.random.default_rng(0)
    features = {name: random.normal(size=(rows, 2)).astype("float32") for name in "ab"}
    tensors_of = {name: tf.constant(value) for name, value in features.items()}
    eager = in_blocks(network, tensors_of)
    np.testing.assert_allclose(eager, model(features), atol=1e-6)
    assert max(sizes) <= 4
    graph = tf.function(
        lambda **parts: in_blocks(model, parts),
        input_signature=None,
        autograph=False,
    ).get_concrete_function(**dict.fromkeys("ab", tf.TensorSpec((None, 2), tf.float32)))
    np.testing.assert_allclose(graph(**tensors_of), model(features), atol=1e-6)
