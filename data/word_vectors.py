"""Pretrained word vectors in GloVe's text format."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.sources import BadData, Fault


class WordVectors(NamedTuple):
    """Embeddings that a network begins with.

    Args:
        values: float32 `(tokens, features)`.
        found: Number of tokens whose vector is in the file.
    """

    values: np.ndarray
    found: int

    def counted(self, path: str) -> str:
        """Says how many tokens have a vector in the file."""
        tokens, features = self.values.shape
        return (
            f"Word vectors of {features} features: {self.found:,} of the {tokens:,} tokens of the "
            f"vocabulary are in {path}."
        )


def load(path: str, tokens: Sequence[str], seed: int = 0) -> WordVectors:
    """Reads the vectors of the tokens of a vocabulary.

    Each line holds a word and its numbers, separated by single spaces. A first line with two whole
    numbers, as word2vec and fastText write it, is skipped. If a word occurs twice, its first vector
    counts. Tokens that are not in the file get random vectors; the mean and deviation of each
    feature are those of the vectors that are found.

    Reference:
        Pennington, Socher & Manning, GloVe, 2014. https://aclanthology.org/D14-1162

    Args:
        path: The file, in UTF-8.
        tokens: The tokens, by their number.
        seed: Seed of the random vectors.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"`embeddings` must be a file. Received: embeddings={path!r}")
    numbers = {token: number for number, token in reversed(list(enumerate(tokens)))}
    vectors: dict[int, np.ndarray] = {}
    faults = []
    for where, word, rest in _lines(path):
        if isinstance(rest, Fault):
            faults.append(rest)
        elif word in numbers and numbers[word] not in vectors:
            values = _numbers(rest)
            if values is None:
                faults.append(Fault(where, repr(rest[:40]), "finite numbers", skippable=False))
            else:
                vectors[numbers[word]] = values
    if faults:
        raise BadData(path, faults)
    if not vectors:
        received = f"none of the {len(tokens):,} tokens of the vocabulary"
        expected = "vectors of words in the language of the texts"
        raise BadData(path, [Fault(Path(path).name, received, expected, skippable=False)])
    found = np.stack(list(vectors.values()))
    random = np.random.default_rng(seed)
    values = random.normal(found.mean(0), found.std(0), (len(tokens), found.shape[1]))
    values[list(vectors)] = found
    return WordVectors(values.astype("float32"), len(vectors))


def _lines(path: str) -> Iterator[tuple[str, str, str | Fault]]:
    """Yields location, word and numbers of each line; the first line decides how many numbers."""
    size = 0
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            word, _, rest = line.rstrip("\r\n ").partition(" ")
            count = rest.count(" ") + 1 if rest else 0
            if number == 1 and word.isdecimal() and rest.isdecimal():
                continue
            size = size or count
            is_bad = not 0 < size <= count
            if count > size:
                # Some words of GloVe contain spaces, such as ". . .".
                parts = line.rstrip("\r\n ").rsplit(" ", size)
                word, rest = parts[0], " ".join(parts[1:])
                is_bad |= _numbers(word.rpartition(" ")[2]) is not None
            where = f"{Path(path).name}, line {number}"
            expected = f"a word and {size or 'its'} numbers, separated by spaces"
            received = f"{count + 1} fields, {line.strip()[:40]!r}"
            fault = Fault(where, received, expected, skippable=False) if is_bad else None
            yield where, word, fault or rest


def _numbers(text: str) -> np.ndarray | None:
    """Converts numbers between spaces; None if one of them is not a finite number."""
    try:
        values = np.array(text.split(" "), "float32")
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None
