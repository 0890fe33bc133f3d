from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from preprocessing import tagged_words
from preprocessing.readers import word_reader

TAGS = ("O", "B-name", "I-name")
SETTINGS: dict[str, Any] = {"preset": "none", "length": 8, "vocabulary_size": 100}


def test_a_tag_continues_as_itself_where_there_is_no_other():
    tags = ("O", "B-a", "I-a", "B-b", "noun")
    assert tagged_words.continuations(tags).numpy().tolist() == [0, 2, 2, 3, 4]


def test_words_are_split_at_marks_and_their_parts_continue_the_tag():
    words = tf.ragged.constant([["@ada", "is", "New-York"], [], ["x"]])
    tags = tf.ragged.constant([[1, 0, 1], [], [2]])
    parts, of_parts = tagged_words.split_at_marks(words, tags, tagged_words.continuations(TAGS))
    assert parts.to_list() == [[b"@", b"ada", b"is", b"New", b"-", b"York"], [], [b"x"]]
    assert of_parts.to_list() == [[1, 2, 0, 1, 2, 2], [], [2]]


@pytest.mark.parametrize("family", ["elmo", "lstm"])
def test_each_part_of_a_word_has_one_label_in_one_row(family):
    lines = [["New-York", "is", "big"] * 4, ["Ada"]]
    words = tf.ragged.constant(lines)
    tags = tf.ragged.constant([[1, 0, 0] * 4, [1]])
    reader = word_reader(family, tf.data.Dataset.from_tensors(words.values), **SETTINGS)
    features, labels = tagged_words.labeled(
        reader.encode, words, tags, tagged_words.continuations(TAGS)
    )
    rows = labels.numpy()
    assert len(rows) > 2 and rows.shape[1] == SETTINGS["length"]
    assert all(len(value) == len(rows) for value in features.values())
    assert np.bincount(rows[rows >= 0]).tolist() == [8, 5, 8]
    assert set(rows[:, 0]) == {-1}


def test_columns_of_padding_are_removed_from_features_and_labels():
    ids = tf.constant([[7, 8, 0, 0], [9, 0, 0, 0]])
    batch = {"token_ids": ids, "padding_mask": tf.sign(ids)}, tf.constant([[-1, 1, -1, -1]] * 2)
    features, labels = tagged_words.trimmed(*batch)
    assert features["token_ids"].shape == labels.shape == (2, 2)
    features, labels = tagged_words.trimmed(*batch, unless=True)
    assert features["token_ids"].shape == labels.shape == (2, 4)
