import tensorflow as tf

from preprocessing.words import character_offsets, cleaned, words_with_offsets
from tests.preprocessing.hard_texts import HARD, TEXTS, decoded


def test_cleaning_mends_bytes_and_keeps_the_length_of_valid_texts():
    texts = [*TEXTS, *HARD, "a\u00a0b\u3000c\u2003d", "\x80\x9f".encode()]
    clean = cleaned(tf.constant(texts)).numpy()
    for text, answer in zip(texts, clean, strict=True):
        answer = answer.decode()
        assert not any(ord(c) < 32 and c not in "\t\n\r" for c in answer)
        if not isinstance(text, bytes):
            assert len(answer.encode()) == len(text.encode())
    assert clean[-2].decode().split() == ["a", "b", "c", "d"]
    assert "bad \ufffd\ufffd bytes" in clean[len(TEXTS) + 4].decode()


def test_offsets_are_those_of_the_words_in_the_original_text():
    texts = [*TEXTS, *HARD]
    found = [part.to_list() for part in words_with_offsets(tf.constant(texts))]
    for text, *rows in zip(texts, *found, strict=True):
        raw = text if isinstance(text, bytes) else text.encode()
        for word, begin, end in zip(*rows, strict=True):
            assert raw[begin:end].decode("utf-8", "replace") == word.decode()
    words, begins, _ = (rows[len(TEXTS) + 4] for rows in found)
    assert words[0] == b"bad" and begins[2] == HARD[4].index(b"bytes")


def test_offsets_in_characters_are_pythons():
    texts = [*TEXTS, b"bad \xff\xe4\xbd bytes"]
    words, *offsets = words_with_offsets(tf.constant(texts))
    begins, ends = (character_offsets(tf.constant(texts), offset).to_list() for offset in offsets)
    for text, *rows in zip(texts, words.to_list(), begins, ends, strict=True):
        for word, begin, end in zip(*rows, strict=True):
            assert decoded(text)[begin:end] == word.decode()
    dense = character_offsets(tf.constant(["è!", "ab"]), tf.constant([3, 1]))
    assert dense.numpy().tolist() == [2, 1]
