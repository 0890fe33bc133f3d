import pytest
import tensorflow as tf

from preprocessing.characters import Characters
from preprocessing.words import words_with_offsets
from tests.preprocessing.hard_texts import HARD, TEXTS, decoded


def test_words_are_spelled_as_in_elmo():
    words = tf.ragged.constant([["hé", "x" * 60], [], ["\x00"]])
    ids = Characters().encode_words(words).numpy()
    assert ids.shape == (3, 4, 50)
    pad = [261]
    assert ids[0, 0].tolist() == [259, 257, 260, *pad * 47]
    assert ids[0, 1].tolist() == [259, *(byte + 1 for byte in "hé".encode()), 260, *pad * 45]
    assert ids[0, 2].tolist() == [259, *[ord("x") + 1] * 48, 260]
    assert ids[0, 3].tolist() == [259, 258, 260, *pad * 47]
    assert ids[1, :2, 1].tolist() == [257, 258] and not ids[1, 2:].any()
    assert ids[2, 1].tolist() == [259, 1, 260, *pad * 47]
    assert ids.max() < Characters.vocabulary_size
    with pytest.raises(ValueError, match="`word_length` must be at least 3"):
        Characters(word_length=2)


def test_texts_and_pairs_are_sentences_one_after_the_other():
    characters = Characters()
    features = characters.encode(tf.constant([["a b, c"], [""]]), 8)["characters"]
    assert features.shape == (2, 8, 50) and features.dtype == tf.int32
    names = [characters.names(row) for row in features.numpy()]
    assert names == [["<S>", "a", "b", ",", "c", "</S>", "", ""], ["<S>", "</S>", *[""] * 6]]
    pairs = tf.constant([["a b c d", "e"], ["", "f g h i"]])
    features = characters.encode(pairs, 8, fixed=False)["characters"].numpy()
    # Of a pair the longer text is cut.
    assert [characters.names(row) for row in features] == [
        ["<S>", "a", "b", "c", "</S>", "<S>", "e", "</S>"],
        ["<S>", "</S>", "<S>", "f", "g", "h", "i", "</S>"],
    ]
    begin, end = characters.encode_words(tf.ragged.constant([["e"]])).numpy()[0, [0, 2]]
    assert (features[0, 5] == begin).all() and (features[0, 7] == end).all()


def test_any_text_is_spelled_in_words_that_can_be_read_again():
    texts = tf.constant([*TEXTS, *HARD])
    words, _, _ = words_with_offsets(texts)
    features = Characters().encode(texts[:, None], 40)["characters"].numpy()
    assert features.shape == (len(texts), 40, 50)
    for row, some in zip(features, words, strict=True):
        names = Characters().names(row)
        assert names[0] == "<S>" and names[min(len(some), 38) + 1] == "</S>"
        for word, name in zip(some.numpy()[:38], names[1:], strict=False):
            assert name == decoded(word[:48])


def test_a_text_without_words_and_too_little_room():
    assert Characters().encode(tf.constant([[""], [" "]]), 4, False)["characters"].shape[1] == 2
    with pytest.raises(ValueError, match="`length` must be above 4, the number of special tokens"):
        Characters().encode(tf.constant([["a", "b"]]), 4)
    with pytest.raises(ValueError, match="`stride` must be at least 0"):
        Characters().encode_rows(tf.ragged.constant([["a"]]), 6, stride=4)


def test_words_with_marks_are_split_and_read_at_their_first_parts():
    words = tf.ragged.constant([["the", "U.S.", "\x07", "", "@ada"], ["so"]])
    features, positions = Characters().encode_rows(words, 14)
    names = Characters().names(features["characters"].numpy()[0])
    assert names[:12] == ["<S>", "the", "U", ".", "S", ".", "\x07", "", "@", "ada", "</S>", ""]
    assert positions["first_piece"].numpy().tolist() == [[1, 2, 6, 7, 8], [15, -1, -1, -1, -1]]


@pytest.mark.parametrize(("length", "stride", "fixed"), [(6, None, True), (5, 0, False)])
def test_every_word_of_a_long_sentence_is_read_once(length, stride, fixed):
    sentences = [["a", "bc", "d"], [], [f"w{number}" for number in range(11)]]
    words = tf.ragged.constant(sentences)
    features, positions = Characters().encode_rows(words, length, stride, fixed)
    rows = features["characters"].numpy()
    first, example = positions["first_piece"].numpy(), positions["example"].numpy()
    assert rows.shape[1:] == (length, 50) and first.shape == (3, 11)
    flat = [name for row in rows for name in Characters().names(row)]
    assert flat[::length] == ["<S>"] * len(rows)
    for row, sentence in enumerate(sentences):
        assert (first[row, len(sentence) :] == -1).all()
        assert [flat[place] for place in first[row, : len(sentence)]] == sentence
        assert (example[first[row, : len(sentence)] // length] == row).all()


def test_characters_need_no_files(tmp_path):
    Characters().save(tmp_path / "tokenizer")
    assert [*(tmp_path / "tokenizer").iterdir()] == []
