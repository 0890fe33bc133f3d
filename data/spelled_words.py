"""What ELMo is pretrained on: words in a row, as numbers and as characters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from data.plain_text import Document, chunks
from data.tokens import Characters, words_with_offsets

PADDING, BEGIN, END = 0, 1, 2
"""Numbers of what is no word: padding, and what ELMo reads at both ends of a line."""

NUM_MARKS = 3


@dataclass(frozen=True)
class SpelledWords:
    """The words of a text as numbers, and as the characters that ELMo reads.

    Number 0 is padding, 1 and 2 are the begin and the end of a line; words follow, those that are
    commonest in training first. The first `vocabulary_size` numbers are what ELMo tells words by:
    there 0 stands for all other words.

    Args:
        names: The words in UTF-8, from number 3 on.
        characters: int32 `(3 + words, 50)`, from `Characters`.
        vocabulary_size: Numbers that ELMo tells apart.
    """

    names: tuple[bytes, ...]
    characters: tf.Tensor
    vocabulary_size: int

    @property
    def vocabulary(self) -> list[str]:
        """The name of each number below `vocabulary_size`."""
        named = self.names[: self.vocabulary_size - NUM_MARKS]
        return ["<unk>", "<S>", "</S>", *(name.decode() for name in named)]

    def spell(self, rows: tf.Tensor) -> tf.Tensor:
        """Spells numbers int32 `(n, words)`; int32 `(n, words, 50)`."""
        return tf.gather(self.characters, rows)

    def targets(self, rows: Any) -> dict[str, tuple[Any, Any]]:
        """Says what is to be told by the words of rows.

        Args:
            rows: Numbers int32 `(n, words + 2)` from `word_rows`.

        Returns:
            `forward`, the next words, and `backward`, the words before: numbers below
            `vocabulary_size` int32 `(n, words)` and their weights float32, 0 where there is no such
            word. The begin of a line after an end is no news, nor is the end before a begin.
        """
        before, words, after = rows[:, :-2], rows[:, 1:-1], rows[:, 2:]

        def told(neighbours, no_news):
            counts = (words != PADDING) & (neighbours != PADDING) & (neighbours != no_news)
            return self.known(neighbours), tf.cast(counts, tf.float32)

        return {"forward": told(after, BEGIN), "backward": told(before, END)}

    def known(self, numbers: Any) -> tf.Tensor:
        """Makes 0 of the words that are not in the vocabulary."""
        return tf.where(numbers < self.vocabulary_size, numbers, PADDING)


def spelled_documents(
    splits: Mapping[str, Sequence[Document]], vocabulary_size: int
) -> tuple[SpelledWords, dict[str, list[np.ndarray]]]:
    """Splits documents into words and numbers these.

    Args:
        splits: Documents; those of `train` come first, and the vocabulary is counted in them.
        vocabulary_size: Most numbers that ELMo tells apart, marks included.

    Returns:
        The words, and of each split its documents, int32 `(words,)`: each line between 1 and 2.
    """
    numbers: dict[bytes, int] = {}
    found = {split: _numbered(documents, numbers) for split, documents in splits.items()}
    in_training = np.concatenate(found["train"])
    counts = np.bincount(in_training, minlength=NUM_MARKS + len(numbers))[NUM_MARKS:]
    order = np.argsort(-counts, kind="stable")
    renumbered = np.arange(NUM_MARKS + len(numbers), dtype="int32")
    renumbered[order + NUM_MARKS] = np.arange(len(order)) + NUM_MARKS
    unsorted = list(numbers)
    names = tuple(unsorted[place] for place in order)
    known = min(vocabulary_size, NUM_MARKS + int((counts > 0).sum()))
    documents = {
        split: [renumbered[document] for document in some] for split, some in found.items()
    }
    return SpelledWords(names, _spelled(names), known), documents


def _numbered(documents: Sequence[Document], numbers: dict[bytes, int]) -> list[np.ndarray]:
    """Splits the lines of documents into words, and numbers those that are new."""
    flat, counts = [], []
    for chunk in chunks(documents):
        words, _, _ = words_with_offsets(tf.constant(chunk))
        found = [
            numbers.setdefault(word, NUM_MARKS + len(numbers)) for word in words.values.numpy()
        ]
        inner = words.with_values(tf.constant(found, tf.int32))
        edges = tf.ones((len(chunk), 1), tf.int32)
        lines = tf.concat([BEGIN * edges, inner, END * edges], 1)
        flat.append(lines.values.numpy())
        counts.append(lines.row_lengths().numpy())
    line_ends = np.cumsum(np.concatenate(counts))
    last_lines = np.cumsum([len(document) for document in documents]) - 1
    return np.split(np.concatenate(flat), line_ends[last_lines[:-1]])


def _spelled(names: Sequence[bytes]) -> tf.Tensor:
    flat = tf.constant(list(names), tf.string, (len(names),))
    line = tf.RaggedTensor.from_row_lengths(flat, [len(names)])
    spelled = Characters().encode_words(line)[0]  # begin, words, end
    return tf.concat([tf.zeros_like(spelled[:1]), spelled[:1], spelled[-1:], spelled[1:-1]], 0)


def word_rows(documents: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Cuts documents into rows of words that follow each other.

    Args:
        documents: From `spelled_documents`.
        length: Words of a row, begins and ends of lines included; at least 1.

    Returns:
        int32 `(rows, length + 2)`: before and after the words of a row one that is only to be
        told; 0 outside of the document.
    """
    rows = []
    for document in documents:
        count = -(-len(document) // length)
        padded = np.pad(document, (1, count * length - len(document) + 1))
        windows = np.lib.stride_tricks.sliding_window_view(padded, length + 2)
        rows.append(windows[::length])
    return np.concatenate(rows)


def num_words(rows: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(rows[:, 1:-1] != PADDING, tf.int32), 1)


def labelled(words: SpelledWords, rows: tf.Tensor, fixed: bool = False):
    """Makes of numbers `(n, length + 2)` characters, the neighbours to tell and their weights.

    Unless `fixed`, rows are cut to the longest of them.
    """
    if not fixed:
        rows = rows[:, : tf.reduce_max(num_words(rows)) + 2]
    told = words.targets(rows)
    labels = {name: labels for name, (labels, _) in told.items()}
    weights = {name: weights for name, (_, weights) in told.items()}
    return words.spell(rows[:, 1:-1]), labels, weights


def told_by_neighbours(
    words: SpelledWords, rows: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Gives, in both directions, each word that is told and the neighbour before it."""
    contexts = np.asarray(words.known(rows[:, 1:-1]))
    found = {}
    for name, (labels, weights) in words.targets(rows).items():
        real = np.asarray(weights) > 0
        found[name] = (contexts[real], np.asarray(labels)[real])
    return found


def word_numbers(words: SpelledWords) -> tf.lookup.StaticHashTable:
    known = words.vocabulary[NUM_MARKS:]
    numbers = tf.range(len(known)) + NUM_MARKS
    pairs = tf.lookup.KeyValueTensorInitializer(tf.constant(known, tf.string), numbers)
    return tf.lookup.StaticHashTable(pairs, PADDING)


def encode_lines(
    numbers: tf.lookup.StaticHashTable, text: tf.Tensor, length: int
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Spells the words of texts `(n,)`, begin and end added, at most `length`.

    Returns:
        Characters int32 `(n, words + 2, 50)`; the `words` `(n, words)`, "" behind the last, and the
        `line` of their numbers with begin and end, `(n, words + 2)`, -1 behind it. Where a text is
        cut the next word stands in the place of the end.
    """
    words, _, _ = words_with_offsets(text)
    words = words[:, : length - 1]
    characters = Characters().encode_words(words)[:, :length]
    known = words.with_values(numbers.lookup(words.values))
    edge = tf.ones((tf.size(text), 1), tf.int32)
    line = tf.concat([edge * BEGIN, known, edge * END], 1)[:, :length]
    return characters, {"words": words[:, : length - 2].to_tensor(), "line": line.to_tensor(-1)}
