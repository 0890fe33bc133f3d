import numpy as np
import pytest

from data.sources import BadData
from data.word_vectors import load

TOKENS = ["[PAD]", "the", "##ing", "cat"]


@pytest.fixture
def written(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "vectors.txt"
        path.write_bytes(text.encode())
        return str(path)

    return write


@pytest.mark.parametrize("header", ["", "4 2\n"], ids=["glove", "word2vec"])
def test_a_word_gets_its_numbers(header, written):
    path = written(f"{header}cat 1.5 -2\r\n. . . 9 9\nthe 0.5 4 \ncat 7 7\nlion 8 8\n")
    vectors = load(path, TOKENS)
    assert (vectors.found, vectors.values.shape, vectors.values.dtype) == (2, (4, 2), "float32")
    np.testing.assert_array_equal(vectors.values[[1, 3]], [[0.5, 4], [1.5, -2]])
    np.testing.assert_array_equal(vectors.values, load(path, TOKENS).values)
    assert "2 features: 2 of the 4 tokens" in vectors.counted(path)


def test_the_other_tokens_are_random_with_mean_and_deviation_of_the_found(written):
    tokens = [*"ab", *(f"rare{number}" for number in range(4000))]
    values = load(written("a 1 5\nb 3 5\n"), tokens).values[2:]
    np.testing.assert_allclose(values.mean(0), [2, 5], atol=0.1)
    np.testing.assert_allclose(values.std(0), [1, 0], atol=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the 1 2\ncat 3\n", "vectors.txt, line 2: expected a word and 2 numbers"),
        ("the 1 2\ncat 3 4 5\n", "vectors.txt, line 2: expected a word and 2 numbers"),
        ("the 1 2\n\ncat 3 4\n", "vectors.txt, line 2: expected a word and 2 numbers"),
        ("the 1 2\ncat 3 x\n", "vectors.txt, line 2: expected finite numbers. Received: '3 x'"),
        ("the 1 nan\n", "vectors.txt, line 1: expected finite numbers"),
        ("the\n", "vectors.txt, line 1: expected a word and its numbers"),
        ("dog 1 2\n", "expected vectors of words .*Received: none of the 4 tokens"),
        ("", "Received: none of the 4 tokens"),
    ],
)
def test_a_bad_file_is_refused_by_line(text, message, written):
    with pytest.raises(BadData, match=message):
        load(written(text), TOKENS)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"`embeddings` must be a file\. Received: .*'no"):
        load("no.txt", TOKENS)
