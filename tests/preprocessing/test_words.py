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
    words, begins, ends = words_with_offsets(tf.constant(texts))
    for row, text in enumerate(texts):
        raw = text if isinstance(text, bytes) else text.encode()
        for word, begin, end in zip(words[row], begins[row], ends[row], strict=True):
            assert raw[begin:end].decode("utf-8", "replace") == word.numpy().decode()
    invalid = len(TEXTS) + 4
    assert words[invalid][0].numpy() == b"bad"
    assert begins[invalid].numpy()[2] == HARD[4].index(b"bytes")


def test_offsets_in_characters_are_pythons():
    texts = [*TEXTS, b"bad \xff\xe4\xbd bytes"]
    words, begins, ends = words_with_offsets(tf.constant(texts))
    begins = character_offsets(tf.constant(texts), begins)
    ends = character_offsets(tf.constant(texts), ends)
    for row, text in enumerate(texts):
        for word, begin, end in zip(words[row], begins[row], ends[row], strict=True):
            assert decoded(text)[begin.numpy() : end.numpy()] == word.numpy().decode()
    dense = character_offsets(tf.constant(["è!", "ab"]), tf.constant([3, 1]))
    assert dense.numpy().tolist() == [2, 1]
