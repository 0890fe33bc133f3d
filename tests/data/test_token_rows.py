import numpy as np
import pytest

from data import token_rows as rows_of_tokens
from data.plain_text import PlainTexts
from data.token_rows import arrange, encoded, token_rows, token_stream
from preprocessing.byte_pair_files import RULES
from preprocessing.byte_tokens import Bytes
from preprocessing.tokenizers import tokenizer
from tests.preprocessing.pretrained_pairs import LEARNED_FROM, write_tokenizer

TEXTS = PlainTexts(train=(("ab", "c"), ("é",)), validation=(("x",),), test=(("yz",),))


def test_documents_stand_one_after_the_other_between_end_tokens():
    rows = arrange(TEXTS, Bytes(), 4)
    expected = [256, 97, 98, 10, 99, 256, 0xC3, 0xA9, 256]
    assert rows.streams["train"].tolist() == expected
    assert rows.num_bytes == {"train": 6, "validation": 1, "test": 2}
    assert rows.num_words == {"train": 3, "validation": 1, "test": 1}
    read = [row.tolist() for row, _ in rows.train.as_numpy_iterator()]
    assert read == [[256, 97, 98, 10, 99], [99, 256, 0xC3, 0xA9, 256]]


def test_documents_are_encoded_together_but_not_padded_to_a_book():
    sizes = []

    class Watched(Bytes):
        def encode(self, texts, most=None):
            ids = super().encode(texts, most)
            sizes.append(ids.numpy().size)
            return ids

    books = ["c" * 1_200_000, "d " * 1_000_000]
    documents = ["a", "", *["short"] * 600, "b" * 300_000, *["é"] * 300, *books]
    stream = token_stream(documents, Watched())
    joined = b"|".join([b"", *(text.encode() for text in documents), b""])
    expected = np.frombuffer(joined, "uint8").astype("int32")
    np.testing.assert_array_equal(stream, np.where(expected == ord("|"), 256, expected))
    assert stream.dtype == "int32"
    assert len(sizes) < 14 and max(sizes) <= 1_200_000
    assert token_stream([], Bytes()).tolist() == [256]


@pytest.mark.parametrize("kind", ["bytes", "characters", "pieces", *RULES])
def test_a_book_is_encoded_in_parts_as_a_whole(kind, tmp_path, monkeypatch):
    if kind in RULES:
        write_tokenizer(tmp_path, kind)
        tokens = tokenizer(tmp_path)
    else:
        tokens = tokenizer(kind=kind, size=400, texts=LEARNED_FROM)
    random = np.random.default_rng(0)
    words = [*"  \n!½é7", "a", "don't", "the", *LEARNED_FROM]
    texts = [" ".join(random.choice(words, 60)) for _ in range(3)]
    whole = [row.tolist() for row in encoded(texts, tokens)]
    monkeypatch.setattr(rows_of_tokens, "PADDED", 5)
    assert [row.tolist() for row in encoded(texts, tokens)] == whole


@pytest.mark.parametrize("length", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("stride", [None, 1])
def test_each_token_but_the_first_is_predicted_once(length, stride):
    stream = np.arange(10, 17)
    rows, first = token_rows(stream, length, stride)
    assert rows.shape == (1 + max(-(-(6 - length) // (stride or length)), 0), length + 1)
    counts = (np.arange(length) >= first[:, None]) & (rows[:, 1:] >= 0)
    assert rows[:, 1:][counts].tolist() == list(range(11, 17))
    # Before each target stands the token before it.
    assert rows[:, :-1][counts].tolist() == list(range(10, 16))


@pytest.mark.parametrize("length", [2, 3, 8])
def test_test_rows_predict_each_token_from_at_least_half_of_the_length(length):
    texts = PlainTexts(train=(("ab",),), validation=(("x",),), test=(("A long test.",),))
    found = list(arrange(texts, Bytes(), length).test.as_numpy_iterator())
    assert all(start >= length // 2 for _, start in found[1:]) and len(found) > 1
    counted = [row[1:][start:] for row, start in found]
    labels = np.concatenate([one[one >= 0] for one in counted])
    assert labels.tolist() == [*b"A long test.", 256]


def test_an_empty_document_is_its_end():
    assert token_stream(["", "a"], Bytes()).tolist() == [256, 256, 97, 256]
