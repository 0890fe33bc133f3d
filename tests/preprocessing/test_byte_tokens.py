import numpy as np
import pytest
import tensorflow as tf

from preprocessing.byte_tokens import Bytes, as_features, labeled
from tests.preprocessing.hard_texts import HARD, TEXTS, decoded


def test_every_text_survives_letter_for_letter():
    texts = ["two  spaces\tand\n\nlines ", "é\U0001f600", "", "\0", *TEXTS, *HARD]
    got = Bytes().decode(Bytes().encode(tf.constant(texts))).numpy()
    assert [one.decode() for one in got] == [decoded(text) for text in texts]


def test_invalid_bytes_become_the_replacement_character():
    ids = Bytes().encode(tf.constant([b"\xff"]))
    assert ids.numpy().tolist() == [[0xEF, 0xBF, 0xBD]]
    cut = tf.constant([[104, 0xC3, -1]])
    assert Bytes().decode(cut).numpy()[0].decode() == "h\ufffd"


def test_the_end_and_padding_stand_for_nothing():
    assert Bytes().decode(tf.constant([[256, 104, 256], [-1, -1, -1]])).numpy().tolist() == [
        b"h",
        b"",
    ]


@pytest.mark.parametrize("texts", [[""], []], ids=["empty_text", "no_text"])
def test_nothing_is_encoded_as_rows_without_tokens(texts):
    ids = Bytes().encode(tf.constant(texts, tf.string))
    assert ids.shape == (len(texts), 0) and ids.dtype == tf.int32
    assert Bytes().decode(ids).numpy().tolist() == [b""] * len(texts)


def test_datasets_and_graphs_encode_as_eagerly():
    texts = ["ab", "é", ""]
    expected = Bytes().encode(tf.constant(texts)).numpy()
    (batch,) = tf.data.Dataset.from_tensor_slices(texts).batch(3).map(Bytes().encode)
    np.testing.assert_array_equal(batch, expected)
    signature = [tf.TensorSpec((None,), tf.string)]
    graph = tf.function(Bytes().encode, input_signature=signature)
    np.testing.assert_array_equal(graph(tf.constant(texts)), expected)


def test_each_token_is_a_label_of_those_before_it():
    features, labels, weights = labeled(
        Bytes(), tf.constant([[256, 5, 6, 7], [7, 8, -1, -1]]), tf.constant([1, 0])
    )
    assert features["token_ids"].numpy().tolist() == [[256, 5, 6], [7, 8, 0]]
    assert features["padding_mask"].numpy().tolist() == [[2, 2, 2], [1, 1, 0]]
    assert labels["logits"].numpy().tolist() == [[5, 6, 7], [8, 0, 0]]
    assert weights["logits"].numpy().tolist() == [[0, 1, 1], [1, 0, 0]]
    assert as_features(tf.constant([[0, -1]]))["padding_mask"].numpy().tolist() == [[1, 0]]


def test_each_text_of_a_row_has_a_number_and_begins_as_texts_do():
    class Begun(Bytes):
        begin_id = 5

    rows, first = tf.constant([[1, 256, 2, 256, 256, 3, -1]]), tf.constant([0])
    features, labels, _ = labeled(Begun(), rows, first)
    assert features["padding_mask"].numpy().tolist() == [[1, 2, 2, 3, 4, 4]]
    assert features["token_ids"].numpy().tolist() == [[1, 5, 2, 5, 5, 3]]
    assert labels["logits"].numpy().tolist() == [[256, 2, 256, 256, 3, 0]]


def test_a_saved_tokenizer_is_an_empty_folder(tmp_path):
    Bytes().save(tmp_path / "tokenizer")
    assert list((tmp_path / "tokenizer").iterdir()) == []
