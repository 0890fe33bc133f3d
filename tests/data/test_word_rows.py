import numpy as np
import tensorflow as tf

from data.plain_text import PlainTexts
from data.word_rows import arrange, spelled_documents, word_rows
from preprocessing.tokens import Characters

TEXTS = {"train": [("to be or", "be"), ("to be",)], "test": [("be new !",)]}


def test_words_are_numbered_by_how_common_they_are_in_training():
    words, documents = spelled_documents(TEXTS, 100)
    assert words.names == (b"be", b"to", b"or", b"new", b"!")
    # be and to and or are known; new and ! were not in training.
    assert words.vocabulary == ["<unk>", "<S>", "</S>", "be", "to", "or"]
    assert [document.tolist() for document in documents["train"]] == [
        [1, 4, 3, 5, 2, 1, 3, 2],
        [1, 4, 3, 2],
    ]
    assert documents["test"][0].tolist() == [1, 3, 6, 7, 2]
    assert spelled_documents(TEXTS, 5)[0].vocabulary == ["<unk>", "<S>", "</S>", "be", "to"]


def test_known_words_keep_their_numbers_whatever_the_size():
    known = [b"new", b"to"]
    words, documents = spelled_documents(TEXTS, 100, known)
    assert words.names == (b"new", b"to", b"be", b"or", b"!")
    assert words.vocabulary == ["<unk>", "<S>", "</S>", "new", "to", "be", "or"]
    assert documents["test"][0].tolist() == [1, 5, 3, 7, 2]
    assert spelled_documents(TEXTS, 6, known)[0].vocabulary[3:] == ["new", "to", "be"]
    assert spelled_documents(TEXTS, 0, known)[0].vocabulary[3:] == ["new", "to"]


def test_words_are_spelled_as_characters_spells_sentences():
    words, documents = spelled_documents(TEXTS, 100)
    row = np.append(documents["test"][0], 0)[None]
    wanted = Characters().encode_words(tf.ragged.constant([["be", "new", "!"]]))
    np.testing.assert_array_equal(words.spell(row)[:, :-1], wanted)
    assert not words.spell(row).numpy()[:, -1].any()


def test_rows_of_words_follow_each_other_with_their_neighbors():
    _, documents = spelled_documents(TEXTS, 100)
    rows = word_rows(documents["train"], 3)
    assert rows.tolist() == [
        [0, 1, 4, 3, 5],
        [3, 5, 2, 1, 3],
        [1, 3, 2, 0, 0],
        [0, 1, 4, 3, 2],
        [3, 2, 0, 0, 0],
    ]


def test_rows_predict_words_and_the_ends_of_lines_once_in_each_direction():
    words, documents = spelled_documents(TEXTS, 5)
    for length in (2, 3, 20):
        rows = word_rows(documents["train"], length)
        targets = words.targets(rows)
        forward, backward = ([np.asarray(part) for part in targets[name]] for name in targets)
        assert list(targets) == ["forward", "backward"]
        # to be or </S> be </S>, to be </S>; 0 is a word that is not in the vocabulary.
        assert forward[0][forward[1] > 0].tolist() == [4, 3, 0, 2, 3, 2, 4, 3, 2]
        # <S> to be or <S> be, <S> to be
        assert backward[0][backward[1] > 0].tolist() == [1, 4, 3, 0, 1, 3, 1, 4, 3]


def test_all_splits_are_arranged_with_contexts_and_targets():
    texts = PlainTexts(
        train=(("to be or", "be"), ("to be",)), validation=(("or",),), test=(("be new !",),)
    )
    rows = arrange(texts, vocabulary_size=5, length=3)
    assert [len(rows.split(split)) for split in ("train", "validation", "test")] == [5, 1, 2]
    assert [row.tolist() for (row,) in rows.first("test", 2)] == [[0, 1, 3, 6, 7], [6, 7, 2, 0, 0]]
    pairs = rows.contexts_and_targets("test")
    # be after <S>, two words that are not in the vocabulary, </S>; and backwards.
    assert [part.tolist() for part in pairs["forward"]] == [[1, 3, 0, 0], [3, 0, 0, 2]]
    assert [part.tolist() for part in pairs["backward"]] == [[3, 0, 0, 2], [1, 3, 0, 0]]
