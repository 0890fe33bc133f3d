"""Rows to pretrain on, made of texts in which every word says where it stands."""

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from data.plain_text import PlainTexts
from data.sentence_pairs import (
    _elsewhere,
    _Taken,
    arrange,
    piece_documents,
    read_vocabulary,
    sentence_pairs,
    with_gap,
    with_gaps,
)
from data.sources import BadData
from preprocessing.hidden_words import encode_gaps
from preprocessing.tokens import SPECIAL_TOKENS, WordPieces

PER_DOCUMENT = 40
"""Words of a document: the first is w0 to w39, with w40 begins the second."""

DOCUMENTS = [
    tuple(
        " ".join(f"w{word}" for word in range(begin, min(begin + 6, 40 * (number + 1))))
        for begin in range(40 * number, 40 * (number + 1), 6)
    )
    for number in range(4)
]


@pytest.fixture(scope="module")
def pieces() -> WordPieces:
    vocabulary = [*SPECIAL_TOKENS, ".", "?", *(f"w{word}" for word in range(160))]
    return WordPieces(keras_hub.models.BertTokenizer(vocabulary))


def segments(features, row) -> tuple[list[int], list[int]]:
    """The numbers of the words in both segments of a row of pairs."""
    ids, kinds = features["token_ids"][row], features["segment_ids"][row]
    real = features["padding_mask"][row] == 1
    first, second = ids[real & (kinds == 0)], ids[real & (kinds == 1)]
    assert (first[0], first[-1], second[-1]) == (2, 3, 3)
    assert not ids[~real].any() and not kinds[~real].any()
    return (first[1:-1] - 7).tolist(), (second[:-1] - 7).tolist()


def test_sentences_end_at_marks_and_lines(pieces):
    first, second = piece_documents(pieces, [("w1 w2. w3? w4", "w5"), ("\x07",), ("w6",)])
    assert first.ids.tolist() == [8, 9, 5, 10, 6, 11, 12]
    assert first.ends.tolist() == [3, 5, 6, 7]
    assert (second.ids.tolist(), second.ends.tolist()) == ([13], [1])


def test_of_every_other_pair_the_second_goes_on_and_else_is_of_another_document(pieces):
    documents = piece_documents(pieces, DOCUMENTS)
    labels = []
    for seed in range(60):
        features, continues = sentence_pairs(documents, pieces, 19, seed)
        labels += continues.tolist()
        for row, label in enumerate(continues):
            first, second = segments(features, row)
            for segment in (first, second):
                assert segment == list(range(segment[0], segment[0] + len(segment)))
            same = first[0] // PER_DOCUMENT == second[0] // PER_DOCUMENT
            assert same == (second[0] == first[-1] + 1) == bool(label)
    assert len(labels) > 600
    assert np.mean(labels) == pytest.approx(0.5, abs=0.06)


def test_rows_are_full_but_for_a_tenth_and_the_ends_of_documents(pieces):
    long = [tuple(f"w{word}" for word in range(160)) * 20 for _ in range(2)]
    features, _ = sentence_pairs(piece_documents(pieces, long), pieces, 19, 0)
    assert features["padding_mask"].all(1).mean() == pytest.approx(0.9, abs=0.03)


def test_second_segments_begin_sentences_and_every_word_is_read(pieces):
    documents = piece_documents(pieces, DOCUMENTS)
    features, _ = sentence_pairs(documents, pieces, 19, 3)
    seen = set()
    for row in range(len(features["token_ids"])):
        first, second = segments(features, row)
        seen.update(first, second)
        if len(first) + len(second) == 16:
            assert second[0] % PER_DOCUMENT % 6 == 0
    # A single word that remains at the end of a document makes no pair.
    assert len(seen) >= 156


@pytest.mark.parametrize("length", [19, 30])
@pytest.mark.parametrize("count", [1, 4])
def test_foreign_segments_begin_anywhere_that_is_allowed(pieces, count, length):
    """The same, with a list of all positions."""
    documents = piece_documents(pieces, DOCUMENTS[:count])

    def elsewhere(documents, taken, random):
        number = taken.number
        if count > 1:
            number = int(random.integers(count - 1))
            number += number >= taken.number
        ids, ends = documents[number]
        starts = [0, *ends[:-1]] if taken.at_sentence else list(range(len(ids)))
        if number == taken.number:
            wanted = taken.size
            starts = [s for s in starts if s >= taken.end or s + wanted <= taken.begin]
        long = [start for start in starts if start + taken.size <= len(ids)] or starts[:1]
        start = long[random.integers(len(long))] if long else None
        return None if start is None else ids[start : start + taken.size]

    for begin in range(0, 38):
        for end in range(begin + 2, min(begin + length, 41)):
            for at_sentence in (True, False):
                taken = _Taken(0, begin, end, (end - begin) // 2, at_sentence)
                found, wanted = (
                    choose(documents, taken, np.random.default_rng(begin + end))
                    for choose in (_elsewhere, elsewhere)
                )
                np.testing.assert_array_equal(found, wanted)


def test_a_seed_decides_on_the_pairs(pieces):
    documents = piece_documents(pieces, DOCUMENTS)
    one, same, other = (
        sentence_pairs(documents, pieces, 19, seed)[0]["token_ids"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert one.shape != other.shape or (one != other).any()


def test_foreign_segments_of_a_single_document_are_from_elsewhere_in_it(pieces):
    documents = piece_documents(pieces, DOCUMENTS[:1])
    labels = []
    for seed in range(40):
        features, continues = sentence_pairs(documents, pieces, 13, seed)
        labels += continues.tolist()
        for row, label in enumerate(continues):
            first, second = segments(features, row)
            assert (second[0] == first[-1] + 1) == bool(label)
            assert not set(first) & set(second)
    assert 0.35 < np.mean(labels) < 0.65
    # Here there is nowhere else.
    _, continues = sentence_pairs(piece_documents(pieces, [("w1 w2 w3",)]), pieces, 13, 0)
    assert continues.tolist() == [1]


def test_a_gap_is_put_in_the_place_of_a_known_word_of_letters():
    vocabulary = [*SPECIAL_TOKENS, "are", "un", "##seen", "1", "."]
    known = WordPieces(keras_hub.models.BertTokenizer(vocabulary))
    random = np.random.default_rng(0)
    # unseen is two pieces, 1 and the mark are no letters, strange is not known.
    line = "1 unseen  strange é are, unseen ."
    assert with_gap(known, line, 99, random) == ("1 unseen  strange é [MASK], unseen .", "are")
    assert with_gap(known, "unseen 1 strange", 99, random) is None
    far = " ".join(["unseen"] * 30 + ["are"] + ["unseen"] * 30)
    around = " ".join(["unseen"] * 20 + ["[MASK]"] + ["unseen"] * 20)
    assert with_gap(known, far, 99, random) == (around, "are")
    # Each of these words is two pieces: three fit on either side of a row of 16.
    short, word = with_gap(known, far, 16, random)
    assert short == "unseen unseen unseen [MASK] unseen unseen unseen" and word == "are"
    features, is_gap = encode_gaps(known, tf.constant([short]), 16)
    assert is_gap.numpy().all() and features["token_ids"].shape[1] <= 16


def test_lines_without_a_known_word_get_no_gap():
    known = WordPieces(keras_hub.models.BertTokenizer([*SPECIAL_TOKENS, "are", "un", "##seen"]))
    documents = [("unseen", "we are", "are", "strange")]
    assert with_gaps(known, documents, 16, 0) == [("we [MASK]", "are"), ("[MASK]", "are")]
    assert with_gaps(known, [("unseen",)], 16, 0) == [("[MASK]", "")]


def test_all_splits_are_arranged_and_words_of_validation_and_test_hidden(pieces):
    texts = PlainTexts(train=DOCUMENTS[:2], validation=DOCUMENTS[2:3], test=DOCUMENTS[3:])
    rows, again = (arrange(texts, pieces, 19, seed) for seed in (0, 1))
    assert rows.pieces is pieces
    assert [ids.tolist() for ids in rows.documents] == [[*range(7, 47)], [*range(47, 87)]]
    features, continues = rows.first("train", 1)[0]
    assert set(features) == {"token_ids", "segment_ids", "padding_mask"} and continues in (0, 1)
    for split in ("validation", "test"):
        count = len(rows.split(split))
        tf.nest.map_structure(
            np.testing.assert_array_equal, rows.first(split, count), again.first(split, count)
        )
        features, labels, weights = rows.first(split, 1)[0]
        assert features["mask_positions"].shape == labels["masked_words"].shape == (3,)
        assert weights["masked_words"].any()


def test_a_document_of_one_word_is_no_split(pieces):
    texts = PlainTexts(train=DOCUMENTS, validation=(("w1",),), test=DOCUMENTS)
    with pytest.raises(ValueError, match="The validation split must have a document of at least"):
        arrange(texts, pieces, 19, 0)


def test_a_vocabulary_is_read_line_by_line(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\r\n".join([*SPECIAL_TOKENS, "the", "##s", "é"]).encode() + b"\r\n")
    assert read_vocabulary(path) == [*SPECIAL_TOKENS, "the", "##s", "é"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Received: no such file"),
        ("[PAD]\n[UNK]\n[CLS]\nthe\n", r"Received: no line \[SEP\]"),
        ("\n".join([*SPECIAL_TOKENS, "the", "the"]), "Received: 2 lines 'the'"),
    ],
)
def test_a_vocabulary_that_is_none_is_refused(content, message, tmp_path):
    path = tmp_path / "vocab.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadData, match=message):
        read_vocabulary(path)
