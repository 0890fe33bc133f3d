import numpy as np
import pytest

from data.plain_text import PlainTexts
from data.token_rows import arrange, token_rows, token_stream
from preprocessing.byte_tokens import Bytes

TEXTS = PlainTexts(train=(("ab", "c"), ("é",)), validation=(("x",),), test=(("yz",),))


def test_documents_stand_one_after_the_other_between_end_tokens():
    rows = arrange(TEXTS, Bytes(), 4)
    expected = [256, 97, 98, 10, 99, 256, 0xC3, 0xA9, 256]
    assert rows.streams["train"].tolist() == expected
    assert rows.num_bytes == {"train": 6, "validation": 1, "test": 2}
    read = [row.tolist() for (row,) in rows.train.as_numpy_iterator()]
    assert read == [[256, 97, 98, 10, 99], [99, 256, 0xC3, 0xA9, 256]]


@pytest.mark.parametrize("length", [1, 2, 5, 6, 7])
def test_each_token_but_the_first_is_predicted_once(length):
    stream = np.arange(10, 17)
    rows = token_rows(stream, length)
    assert rows.shape == (-(-6 // length), length + 1)
    targets = rows[:, 1:].ravel()
    assert targets[targets >= 0].tolist() == list(range(11, 17))
    # Before each target stands the token before it.
    before = rows[:, :-1].ravel()[targets >= 0]
    assert before.tolist() == list(range(10, 16))


def test_an_empty_document_is_its_end():
    assert token_stream(["", "a"], Bytes()).tolist() == [256, 256, 97, 256]
