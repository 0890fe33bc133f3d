import keras
import numpy as np
import pytest
import tensorflow as tf

from preprocessing.tokens import (
    Characters,
    at_first_pieces,
    character_offsets,
    compact,
    encode_gpt,
    labels_at_first_pieces,
    labels_of_spans,
    lengths,
    token_mask,
    trimmed,
    words_with_offsets,
)
from serving import graph
from serving.export import export
from serving.signature import Signature
from tests.preprocessing.hard_texts import HARD, TEXTS


def test_columns_of_padding_are_cut_off_and_counted(tiny):
    texts = tf.constant([["a b"], ["a b c d"]])
    features = tiny.encode(texts, 100)
    assert lengths(features).numpy().tolist() == [4, 6]
    short = tiny.encode(texts, 100, fixed=False)
    for name, values in trimmed(features).items():
        np.testing.assert_array_equal(values, short[name])


def test_labels_lie_at_first_pieces_and_are_read_from_there(tiny):
    words = tf.ragged.constant([["a", "bcb"], ["abc"] * 9])
    features, positions = tiny.encode_words(words, 8)
    labels = tf.constant([[1, 2, *[9] * 7], [3, 4, 5, 6, 7, 8, 9, 10, 11]])
    spread = labels_at_first_pieces(labels, positions["first_piece"], features["token_ids"])
    assert spread.shape == features["token_ids"].shape
    assert sorted(spread.numpy()[spread.numpy() >= 0]) == list(range(1, 12))
    read = at_first_pieces(spread[..., None], positions["first_piece"]).numpy()[..., 0]
    assert read[0, :2].tolist() == [1, 2] and read[1].tolist() == list(range(3, 12))


def test_answers_are_found_in_the_rows_that_hold_them_whole(tiny):
    document = "é a b c d, e f g h a b c"
    features, positions = tiny.windows(
        tf.constant(["a b", "a b", "a"]), tf.constant([document] * 3), 11, 2, question_length=4
    )
    begin = document.encode().index(b"e f")
    spans = tf.constant([begin, begin, -1], tf.int64), tf.constant([begin + 3] * 2 + [-1], tf.int64)
    starts, ends = labels_of_spans(positions, *spans)
    first = positions["example"].numpy() == 0
    assert starts.numpy()[first].tolist() == [0, 6, 0]
    assert ends.numpy()[first].tolist() == [0, 7, 0]
    assert not starts.numpy()[positions["example"].numpy() == 2].any()
    assert features["token_ids"].numpy()[1, 6:8].tolist() == [9, 10]


def counting_model() -> keras.Model:
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    x = keras.layers.Embedding(200, 3)(inputs["token_ids"])
    x = keras.layers.Add()([x, keras.layers.Embedding(2, 3)(inputs["segment_ids"])])
    x = x * keras.ops.cast(inputs["padding_mask"], "float32")[..., None]
    return keras.Model(inputs, keras.ops.sum(x, 1))


@pytest.mark.parametrize("fixed", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_exported_graph_encodes_texts_as_here(uncased, tmp_path, fixed):
    model = counting_model()

    def preprocess(text, other):
        return uncased.encode(tf.stack([text, other], 1), 24, fixed)

    signature = Signature(
        inputs=dict.fromkeys(("text", "other"), tf.TensorSpec((None,), tf.string)),
        preprocess=preprocess,
        postprocess=lambda sums: {"sums": sums},
        meanings={"text": "any", "other": "any", "sums": "of embeddings"},
        resources=(uncased.tokenizer,),
    )
    texts = np.array([*TEXTS, *HARD], dtype=object)
    warmup = {"text": texts, "other": texts[::-1]}
    version = export(tmp_path, model, {"serving_default": signature}, warmup, {"task": "test"})
    served = graph.load(version).signatures["serving_default"]
    answer = served(text=tf.constant(texts), other=tf.constant(texts[::-1]))["sums"]
    expected = model(preprocess(tf.constant(texts), tf.constant(texts[::-1])))
    np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.slow
def test_rows_of_words_documents_and_orders_are_saved_in_graphs(uncased, tmp_path):
    module = tf.Module()
    module.tokenizer = uncased.tokenizer

    def everything(text):
        words, _, _ = words_with_offsets(text)
        features, positions = uncased.encode_words(words, 16)
        rows, spans = uncased.windows(text, text, 16, 2, question_length=4)
        gpt = encode_gpt(uncased, tf.stack([text, text], 1), 16, both_orders=True)
        letters = Characters().encode_words(words[:, :20])
        characters = character_offsets(text, tf.strings.length(text))
        answers = [features, positions, rows, spans, gpt, letters, characters]
        return {f"a{n}": value for n, value in enumerate(tf.nest.flatten(answers))}

    signature = [tf.TensorSpec((None,), tf.string, name="text")]
    tf.saved_model.save(
        module,
        str(tmp_path),
        signatures=tf.function(everything, input_signature=signature, autograph=False),
    )
    assert not graph.unservable(graph.operations(graph.read(tmp_path)))
    served = graph.load(tmp_path).signatures["serving_default"]
    texts = tf.constant([*TEXTS, "", "word " * 100, b"\xff x"])
    answers, expected = served(text=texts), everything(texts)
    assert answers.keys() == expected.keys()
    for name in answers:
        np.testing.assert_array_equal(answers[name], expected[name])


def test_words_of_characters_are_counted_cut_off_and_made_small():
    features = Characters().encode(tf.constant([["a b"], ["a b c d"]]), 100)
    assert lengths(features).numpy().tolist() == [4, 6]
    assert token_mask(features).numpy().sum(1).tolist() == [4, 6]
    short = compact(trimmed(features))["characters"]
    assert short.dtype == tf.int16 and token_mask({"characters": short}).shape == (2, 6)
    np.testing.assert_array_equal(short, features["characters"][:, :6])


def test_both_orders_are_the_encodings_of_each(uncased):
    texts = tf.constant([["Some words", "others, and many more of them"], ["a", ""]])
    both = uncased.encode(texts, 10, fixed=False, both_orders=True)
    for i, order in enumerate([texts, texts[:, ::-1]]):
        for name, value in uncased.encode(order, 10, fixed=False).items():
            np.testing.assert_array_equal(both[name][:, i], value)
    with pytest.raises(ValueError, match="must be pairs"):
        uncased.encode(texts[:, :1], 10, both_orders=True)
