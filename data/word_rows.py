"""The examples of ELMo's pretraining: documents as word numbers, cut into rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from data.plain_text import Document, PlainTexts, chunks
from data.sources import SPLITS
from data.splits import Splits
from preprocessing.characters import Characters
from preprocessing.spelled_words import BEGIN, END, NUM_MARKS, SpelledWords
from preprocessing.words import words_with_offsets


@dataclass(frozen=True, kw_only=True)
class WordRows(Splits):
    """Rows for ELMo's pretraining: each split is a dataset of tuples of one row, from `word_rows`.

    Args:
        words: The numbers of words, and the characters of each.
    """

    words: SpelledWords

    def contexts_and_targets(self, split: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns, for both directions, the words to predict and their neighbors.

        Returns:
            For `forward` and `backward`, contexts and targets, integers `(predictions,)`. The
            context of a forward target is the word before it, that of a backward target the word
            after it.
        """
        rows = np.concatenate([rows for (rows,) in self.split(split).batch(1024)])
        contexts = np.asarray(self.words.known(rows[:, 1:-1]))
        pairs = {}
        for name, (labels, weights) in self.words.targets(rows).items():
            real = np.asarray(weights) > 0
            pairs[name] = (contexts[real], np.asarray(labels)[real])
        return pairs


def arrange(
    texts: PlainTexts, vocabulary_size: int, length: int, known: Sequence[bytes] = ()
) -> WordRows:
    """Cuts all splits into rows of words.

    Args:
        texts: The documents.
        vocabulary_size: Maximum size of the vocabulary that ELMo predicts, marks included.
        length: Words per row, begins and ends of lines included; at least 1.
        known: Words that ELMo already predicts; they are kept even if there are more than
            `vocabulary_size`, and get the first numbers.
    """
    splits = {split: texts.split(split) for split in SPLITS}
    words, documents = spelled_documents(splits, vocabulary_size, known)
    rows = {split: word_rows(some, length) for split, some in documents.items()}
    datasets = {split: tf.data.Dataset.from_tensor_slices((some,)) for split, some in rows.items()}
    return WordRows(**datasets, words=words)


def spelled_documents(
    splits: Mapping[str, Sequence[Document]], vocabulary_size: int, known: Sequence[bytes] = ()
) -> tuple[SpelledWords, dict[str, list[np.ndarray]]]:
    """Splits documents into words and numbers the words.

    Args:
        splits: Documents of each split, `train` first. The vocabulary is counted in `train`.
        vocabulary_size: Maximum size of the vocabulary that ELMo predicts, marks included.
        known: As in `arrange`.

    Returns:
        The words, and the documents of each split, int32 `(words,)`, with 1 before and 2 after each
        line.
    """
    numbers = {word: number for number, word in enumerate(known, NUM_MARKS)}
    numbered = {split: _numbered(documents, numbers) for split, documents in splits.items()}
    in_training = np.concatenate(numbered["train"])
    counts = np.bincount(in_training, minlength=NUM_MARKS + len(numbers))[NUM_MARKS:]
    others = np.argsort(-counts[len(known) :], kind="stable") + len(known)
    order = np.concatenate([np.arange(len(known)), others])
    renumbered = np.arange(NUM_MARKS + len(numbers), dtype="int32")
    renumbered[order + NUM_MARKS] = np.arange(len(order)) + NUM_MARKS
    unsorted = list(numbers)
    names = tuple(unsorted[index] for index in order)
    least = NUM_MARKS + len(known)
    size = max(least, min(vocabulary_size, least + int((counts[len(known) :] > 0).sum())))
    documents = {
        split: [renumbered[document] for document in some] for split, some in numbered.items()
    }
    return SpelledWords(names, _spelled(names), size), documents


def _numbered(documents: Sequence[Document], numbers: dict[bytes, int]) -> list[np.ndarray]:
    """Splits the lines of documents into words, and numbers new words."""
    flat, counts = [], []
    for chunk in chunks(documents):
        words, _, _ = words_with_offsets(tf.constant(chunk))
        flat_numbers = [
            numbers.setdefault(word, NUM_MARKS + len(numbers)) for word in words.values.numpy()
        ]
        inner = words.with_values(tf.constant(flat_numbers, tf.int32))
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
    """Cuts documents into rows of consecutive words.

    Args:
        documents: From `spelled_documents`.
        length: Words per row, begins and ends of lines included; at least 1.

    Returns:
        int32 `(rows, length + 2)`. The first and the last column are only predicted: the words
        before and after the row, 0 outside the document.
    """
    rows = []
    for document in documents:
        count = -(-len(document) // length)
        padded = np.pad(document, (1, count * length - len(document) + 1))
        windows = np.lib.stride_tricks.sliding_window_view(padded, length + 2)
        rows.append(windows[::length])
    return np.concatenate(rows)
