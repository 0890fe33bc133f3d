import unicodedata

import keras
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from preprocessing import sentence_pieces
from preprocessing.sentence_pieces import SentencePieces

TEXTS = [f"the {color} house number {i}" for i in range(40) for color in ("red", "green", "blue")]
HARD = [
    *("", " ", "a  b\tc\nd", "\ufb01ne \uff21\u2460", "\u65e5\u672c\u8a9e", "\U0001f600", "\0"),
    *("</s> <unk> <0x41>", "\u05e9\u05dc\u05d5\u05dd", "e\u0301", "the red house"),
]


@pytest.fixture(scope="module")
def pieces():
    return SentencePieces.learned(TEXTS, 320)


def plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


@pytest.mark.parametrize("text", HARD)
def test_texts_survive_up_to_white_space_and_nfkc(pieces, text):
    found = pieces.decode(pieces.encode(tf.constant([text]))[:, :-1]).numpy()[0].decode()
    assert plain(found) == plain(text)


def test_pieces_are_those_of_sentencepiece_itself(pieces):
    theirs = sentencepiece.SentencePieceProcessor(model_proto=pieces.model)
    ours = pieces.ids(tf.constant([*TEXTS, *HARD])).to_list()
    assert ours == [theirs.encode(text) for text in [*TEXTS, *HARD]]
    assert pieces.vocabulary_size == theirs.get_piece_size() == 320
    assert theirs.id_to_piece(pieces.end_id) == "</s>"


def test_rows_end_with_the_end_token_when_they_are_truncated_too(pieces):
    texts = tf.constant(["the red house", ""])
    ids = pieces.encode(texts, 3)
    assert ids.shape == (2, 3) and ids.numpy()[:, -1].tolist() == [1, -1]
    assert ids.numpy()[1].tolist() == [1, -1, -1]
    assert pieces.encode(tf.constant([""]), 9, padded=False).shape == (1, 1)
    assert pieces.sizes(texts).numpy().tolist() == [len(pieces.ids(texts)[0]) + 1, 1]
    names = pieces.names(pieces.encode(texts)).numpy()
    assert names[0, 0].decode() == "\u2581the" and names[1].tolist()[:2] == [b"</s>", b""]


def test_bytes_that_are_no_text_become_replacement_characters(pieces):
    found = pieces.decode(pieces.encode(tf.constant([b"\xff red"]))[:, :-1]).numpy()[0]
    assert found.decode() == "\ufffd red"
    half = pieces.encode(tf.constant(["\u00e9"])).numpy()[:, :-2]
    assert pieces.decode(tf.constant(half)).numpy()[0].decode().strip() == "\ufffd"


def test_the_same_in_a_pipeline_in_a_graph_and_from_a_file(pieces, tmp_path):
    texts = tf.constant([*TEXTS[:5], *HARD])
    expected = pieces.encode(texts).numpy()
    graph = tf.function(pieces.encode, autograph=False)
    rows = tf.data.Dataset.from_tensor_slices(texts).batch(99).map(pieces.encode)
    pieces.save(tmp_path / "tokenizer")
    again = SentencePieces.load(tmp_path / "tokenizer")
    for found in (graph(texts), next(iter(rows)), again.encode(texts)):
        assert found.numpy().tolist() == expected.tolist()


def test_it_works_after_keras_has_cleared_its_session(pieces):
    before = pieces.tokenizer
    assert pieces.tokenizer is before
    keras.utils.clear_session(free_memory=False)
    assert pieces.ids(tf.constant(["the"])).shape[0] == 1


def test_a_vocabulary_too_small_for_the_letters_is_refused_with_the_least_size():
    with pytest.raises(ValueError, match=r"`vocabulary_size` must be at least \d{3} for the"):
        SentencePieces.learned(TEXTS, 100)


def test_pairs_become_features_labels_and_weights(pieces):
    sources, targets = tf.constant(["the red", "the"]), tf.constant(["house", "the blue house"])
    (rows,) = sentence_pieces.encoded_pairs(pieces, 8, sources, targets)
    features, labels, weights = sentence_pieces.labeled_pairs(pieces, False, rows)
    ids = pieces.encode(targets).numpy()
    assert labels["logits"].numpy().tolist() == ids.clip(0).tolist()
    assert weights["logits"].numpy().tolist() == (ids >= 0).tolist()
    assert features["target_ids"].numpy()[:, 0].tolist() == [1, 1]
    assert features["target_ids"].numpy()[1, 1:].tolist() == ids[1, :-1].tolist()
    assert (features["target_ids"].numpy() >= 0).tolist() == (ids >= 0).tolist()
    assert features["source_ids"].numpy().tolist() == pieces.encode(sources).numpy().tolist()
    fixed, *_ = sentence_pieces.labeled_pairs(pieces, True, rows)
    assert fixed["source_ids"].shape == fixed["target_ids"].shape == (2, 8)


def test_neighbors_in_the_order_of_pairs_differ_by_one_token_on_one_side():
    sizes = [(s, t) for s in range(1, 6) for t in range(1, 6)]
    rows = {
        f"{side}_ids": tf.constant([[0] * size[i] + [-1] * (6 - size[i]) for size in sizes])
        for i, side in enumerate(("source", "target"))
    }
    order = sentence_pieces.pair_length(rows).numpy().argsort()
    assert len(set(sentence_pieces.pair_length(rows).numpy())) == len(sizes)
    steps = np.diff([sizes[i] for i in order], axis=0)
    assert (np.abs(steps).sum(1) == 1).all()
    order = sentence_pieces.pair_length(rows, step=6).numpy().argsort(kind="stable")
    differences = [source - target for source, target in (sizes[i] for i in order)]
    assert differences == sorted(differences)
