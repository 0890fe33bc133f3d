import numpy as np
import pytest
import tensorflow as tf

from preprocessing.characters import Characters
from preprocessing.spelled_words import (
    NUM_MARKS,
    SpelledWords,
    encode_lines,
    labeled,
    saved_words,
    word_numbers,
)

NAMES = (b"be", b"to", b"or", b"new", b"!")
"""Words 3 to 7; the last two are not in the vocabulary."""

ROWS = np.array([[0, 1, 4, 3, 5], [3, 5, 3, 6, 2], [6, 2, 1, 3, 2], [3, 2, 0, 0, 0]], "int32")
"""The lines "to be or be new" and "be", in rows of three with a neighbor on each side."""


@pytest.fixture(scope="module")
def words() -> SpelledWords:
    begin, *spelled, end = Characters().encode_words(tf.ragged.constant([NAMES]))[0]
    characters = tf.stack([tf.zeros_like(begin), begin, end, *spelled])
    return SpelledWords(NAMES, characters, 6)


def test_vocabulary_names_the_marks_and_the_words_that_are_known(words):
    assert words.vocabulary == ["<unk>", "<S>", "</S>", "be", "to", "or"]
    assert words.known(np.arange(8)).numpy().tolist() == [0, 1, 2, 3, 4, 5, 0, 0]


def test_the_words_that_are_known_are_saved(words, tmp_path):
    words.save(tmp_path / "tokenizer")
    assert saved_words(tmp_path / "tokenizer") == [
        word.encode() for word in words.vocabulary[NUM_MARKS:]
    ]


def test_targets_are_the_neighbors_in_both_directions(words):
    targets = words.targets(ROWS)
    assert list(targets) == ["forward", "backward"]
    (next_words, counted), (last_words, counted_too) = targets.values()
    assert next_words.numpy().tolist() == [[4, 3, 5], [3, 0, 2], [1, 3, 2], [0, 0, 0]]
    # The beginning of a line says nothing new after an end, nor an end before a beginning.
    assert counted.numpy().tolist() == [[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0, 0]]
    assert last_words.numpy().tolist() == [[0, 1, 4], [3, 5, 3], [0, 2, 1], [3, 2, 0]]
    assert counted_too.numpy().tolist() == [[0, 1, 1], [1, 1, 1], [1, 0, 1], [1, 0, 0]]


def test_labelled_rows_are_cut_to_the_longest_of_them(words):
    short = np.array([[0, 1, 2, 0, 0, 0], [0, 1, 3, 2, 0, 0]], "int32")
    characters, labels, weights = labeled(words, tf.constant(short))
    np.testing.assert_array_equal(characters, words.spell(short[:, 1:4]))
    assert labels["forward"].numpy().tolist() == [[2, 0, 0], [3, 2, 0]]
    assert weights["backward"].numpy().tolist() == [[0, 1, 0], [0, 1, 1]]
    characters, labels, _ = labeled(words, tf.constant(short), fixed=True)
    assert characters.shape == (2, 4, 50) and labels["forward"].shape == (2, 4)


def test_lines_are_spelled_and_numbered(words):
    texts = tf.constant(["to be or", "be new !", ""])
    characters, positions = encode_lines(word_numbers(words), texts, 5)
    assert positions["words"].numpy().tolist() == [
        [b"to", b"be", b"or"],
        [b"be", b"new", b"!"],
        [b"", b"", b""],
    ]
    # new and ! are not in the vocabulary: 0.
    assert positions["line"].numpy().tolist() == [
        [1, 4, 3, 5, 2],
        [1, 3, 0, 0, 2],
        [1, 2, -1, -1, -1],
    ]
    np.testing.assert_array_equal(characters[:2], words.spell([[1, 4, 3, 5, 2], [1, 3, 6, 7, 2]]))
    assert not characters[2, 2:].numpy().any()
    characters, short = encode_lines(word_numbers(words), texts, 3)
    # What is cut ends with the next word, not with an end that there is not.
    assert short["words"].numpy().tolist() == [[b"to"], [b"be"], [b""]]
    assert short["line"].numpy().tolist() == [[1, 4, 3], [1, 3, 0], [1, 2, -1]]
    np.testing.assert_array_equal(characters[:2], words.spell([[1, 4, 3], [1, 3, 6]]))
