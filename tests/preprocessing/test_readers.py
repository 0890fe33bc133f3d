from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.readers import QuestionReader, question_reader, text_reader, word_reader

SETTINGS: dict[str, Any] = {"preset": "none", "length": 16, "vocabulary_size": 100}


@pytest.mark.parametrize(("family", "name"), [("elmo", "from_characters"), ("gru", "from_tokens")])
def test_words_and_texts_are_read_alike(family, name):
    words = tf.data.Dataset.from_tensors(tf.constant(["big", "hat"]))
    reader = word_reader(family, words, **SETTINGS)
    assert reader.signature_name == name
    features, (first_piece, outputs) = reader.read_texts(tf.constant(["Ä big.", ""]))
    assert outputs["words"].numpy().tolist() == [["Ä".encode(), b"big", b"."], [b"", b"", b""]]
    assert outputs["starts"].numpy().tolist() == [[0, 3, 6], [-1, -1, -1]]
    assert outputs["ends"].numpy().tolist() == [[2, 6, 7], [-1, -1, -1]]
    assert ((first_piece >= 0) == (outputs["words"] != b"")).numpy().all()
    same, (of_words, nothing) = reader.read_words(tf.pad(outputs["words"], [[0, 0], [0, 2]]))
    np.testing.assert_array_equal(of_words[:, :3], first_piece)
    assert of_words[:, 3:].numpy().tolist() == [[-1, -1], [-1, -1]] and nothing == {}
    assert reader.inputs.keys() == features.keys()
    for feature, spec in reader.inputs.items():
        np.testing.assert_array_equal(same[feature], features[feature])
        assert spec.is_compatible_with(features[feature])


def test_a_gap_between_words_is_a_word_of_its_own():
    reader = word_reader("lstm", tf.data.Dataset.from_tensors(["big", "hat"]), **SETTINGS)
    _, (first_piece, _) = reader.read_words(tf.constant([["big", "hat", ""], ["", "hat", "big"]]))
    assert (first_piece >= 0).numpy().tolist() == [[True, True, False], [True, True, True]]
    _, (first_piece, _) = reader.read_words(tf.constant([["", ""]]))
    assert first_piece.numpy().tolist() == [[-1, -1]]


@pytest.fixture(scope="module")
def questions() -> QuestionReader:
    texts = ["The city is Oslo.", "The pet is cat.", "The city?"]
    return question_reader(texts, stride=4, question_length=4, **SETTINGS)


def examples(share: float) -> dict[str, tf.Tensor]:
    """The same question twice about a document of several rows; the first has an answer."""
    document = "The pet is cat. " * 20 + "The city is Oslo. " + "The pet is cat. " * 20
    begin = document.index("Oslo")
    return {
        "question": tf.constant(["The city?", "The city?"]),
        "document": tf.constant([document, document]),
        "begin": tf.constant([begin, -1], tf.int64),
        "end": tf.constant([begin + 4, -1], tf.int64),
        "number": tf.constant([0, 1]),
        "answerless_rows": tf.constant([share, share]),
    }


def test_labels_are_the_tokens_of_the_answer_or_0(questions):
    features, labels = questions.labeled(examples(1.0), seed=0)
    held = np.flatnonzero(labels["start"])
    assert len(held) > 0 and held.max() < len(labels["start"]) / 2
    assert np.flatnonzero(labels["end"]).tolist() == held.tolist()
    for row in held:
        ids = features["token_ids"][row, labels["start"][row] : labels["end"][row] + 1]
        pieces = [questions.tokens.id_to_token(int(i)) for i in ids]
        assert "".join(piece.removeprefix("##") for piece in pieces) == "oslo"


def test_rows_without_the_answer_of_a_question_are_thinned_out_by_the_seed(questions):
    def rows(share, seed=0):
        features, labels = questions.labeled(examples(share), seed)
        return features["token_ids"].numpy(), np.count_nonzero(labels["start"])

    (every, held), (none, held_by_none), (some, held_by_some) = map(rows, (1.0, 0.0, 0.5))
    assert held == held_by_none == held_by_some > 0
    # All rows of the question without an answer stay.
    assert len(none) == held + len(every) / 2 < len(some) < len(every)
    np.testing.assert_array_equal(some, rows(0.5)[0])
    others = rows(0.5, seed=1)[0]
    assert len(some) != len(others) or (some != others).any()


def test_a_sample_has_full_length_and_few_rows(questions):
    table = {name: examples(1.0)[name] for name in ("question", "document")}
    sample = questions.sample(table, rows=3)
    assert sample["inputs"].keys() == sample["examples"].keys()
    for name, spec in sample["inputs"].items():
        assert spec.shape.as_list() == [None, 16]
        assert sample["examples"][name].shape == (3, 16)


@pytest.mark.parametrize("family", ["elmo", "gru"])
def test_weights_of_tokens_become_weights_of_words(family):
    texts = tf.data.Dataset.from_tensors(["big", "hat"])
    reader = text_reader(family, texts, **{**SETTINGS, "length": 12})
    pair = ("Ä  big, hat".encode(), b"a hat big hat big hat")
    _, names = reader.first_row(pair)
    kept = [name for name in names if name not in ("[CLS]", "[SEP]", "<S>", "</S>")]
    weights = [
        0.0 if name not in kept else 0.5 + 0.25 * number for number, name in enumerate(names)
    ]
    found = reader.weighted(pair, names, weights)
    assert "".join(piece for piece, _ in found) == "Ä  big, hat | a hat big hat big hat"
    assert [piece for piece, weight in found if weight][:4] == ["Ä", "big", ",", "hat"]
    assert [piece for piece, weight in found if weight][4] == "a"
    # Each weight goes to one word; words beyond the end of the row have none.
    assert sum(weight for _, weight in found) == pytest.approx(sum(weights))
    assert found[-1] == ("hat", 0.0)
    by_word = [weight for _, weight in found if weight]
    assert by_word[0] == weights[1]


def test_a_gpt_reads_the_word_pieces_that_it_was_trained_with(tmp_path):
    texts = tf.data.Dataset.from_tensors(["a big hat", "Bäume"])
    reader = text_reader("gpt", texts, **SETTINGS)
    reader.tokens.save(tmp_path / "tokenizer")
    again = text_reader("gpt", [], **{**SETTINGS, "preset": str(tmp_path / "tokenizer")})
    some = tf.constant([["big Bäume"], ["A HAT"]])
    for name, feature in reader.encode(some, True).items():
        np.testing.assert_array_equal(again.encode(some, True)[name], feature)
