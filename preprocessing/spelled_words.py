"""Words as numbers and characters, ELMo's targets and input, with TensorFlow operations."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from preprocessing.characters import Characters
from preprocessing.words import words_with_offsets

PADDING, BEGIN, END = 0, 1, 2
"""Numbers of the marks: padding, start of a line, end of a line."""

NUM_MARKS = 3
WORDS = "words.json"

MEANINGS = {"characters": "ids of the characters of each word, 0 in padding"}
"""Meaning of the features that ELMo takes."""


@dataclass(frozen=True)
class SpelledWords:
    """The numbers of words, and the characters of each, which ELMo reads.

    Number 0 is padding, 1 and 2 are the start and the end of a line. Words have the numbers from 3
    on, the most frequent training words first. ELMo predicts the numbers below `vocabulary_size`;
    as a target, 0 means any other word.

    Args:
        names: The words in UTF-8, from number 3 on.
        characters: int32 `(3 + words, 50)`, from `Characters`.
        vocabulary_size: Number of targets that ELMo predicts, the three marks included.
    """

    names: tuple[bytes, ...]
    characters: tf.Tensor
    vocabulary_size: int

    @property
    def vocabulary(self) -> list[str]:
        """The name of each number below `vocabulary_size`."""
        named = self.names[: self.vocabulary_size - NUM_MARKS]
        return ["<unk>", "<S>", "</S>", *(name.decode() for name in named)]

    def save(self, folder: str | Path) -> None:
        """Writes the words that ELMo predicts into a new folder, for `saved_words`."""
        Path(folder).mkdir()
        (Path(folder) / WORDS).write_text(json.dumps(self.vocabulary[NUM_MARKS:]), encoding="utf-8")

    def spell(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the characters int32 `(n, words, 50)` of numbers int32 `(n, words)`."""
        return tf.gather(self.characters, rows)

    def targets(self, rows: Any) -> dict[str, tuple[Any, Any]]:
        """Returns the words that ELMo predicts in rows.

        Args:
            rows: Numbers int32 `(n, words + 2)` from `word_rows`.

        Returns:
            By direction, targets below `vocabulary_size`, int32 `(n, words)`, and their weights,
            float32 `(n, words)`. `forward` predicts the next word, `backward` the previous one. The
            weight is 0 if there is no such word, and for the start of a line after an end (or the
            end before a start), which is trivial to predict.
        """
        before, words, after = rows[:, :-2], rows[:, 1:-1], rows[:, 2:]

        def targets_and_weights(neighbors, trivial):
            counts = (words != PADDING) & (neighbors != PADDING) & (neighbors != trivial)
            return self.known(neighbors), tf.cast(counts, tf.float32)

        return {
            "forward": targets_and_weights(after, BEGIN),
            "backward": targets_and_weights(before, END),
        }

    def known(self, numbers: Any) -> tf.Tensor:
        """Replaces words outside the vocabulary with 0."""
        return tf.where(numbers < self.vocabulary_size, numbers, PADDING)


def saved_words(folder: str | Path) -> list[bytes]:
    """Reads the words that `SpelledWords.save` wrote."""
    words = json.loads((Path(folder) / WORDS).read_text(encoding="utf-8"))
    return [word.encode() for word in words]


def num_words(rows: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(rows[:, 1:-1] != PADDING, tf.int32), 1)


def labeled(words: SpelledWords, rows: tf.Tensor, fixed: bool = False):
    """Returns the characters, targets and weights of rows `(n, length + 2)`.

    Unless `fixed`, columns that contain only padding are removed.
    """
    if not fixed:
        rows = rows[:, : tf.reduce_max(num_words(rows)) + 2]
    targets = words.targets(rows)
    labels = {name: labels for name, (labels, _) in targets.items()}
    weights = {name: weights for name, (_, weights) in targets.items()}
    return words.spell(rows[:, 1:-1]), labels, weights


def word_numbers(words: SpelledWords) -> tf.lookup.StaticHashTable:
    known = words.vocabulary[NUM_MARKS:]
    numbers = tf.range(len(known)) + NUM_MARKS
    pairs = tf.lookup.KeyValueTensorInitializer(tf.constant(known, tf.string), numbers)
    return tf.lookup.StaticHashTable(pairs, PADDING)


def encode_lines(
    numbers: tf.lookup.StaticHashTable, text: tf.Tensor, length: int
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Encodes the words of texts `(n,)` with start and end; at most `length` of them.

    Returns:
        Characters int32 `(n, words + 2, 50)`, and a dict: `words` `(n, words)`, padded with "", and
        `line`, their numbers with start and end, int32 `(n, words + 2)`, padded with -1. If a text
        is truncated, the next word replaces the end.
    """
    words, _, _ = words_with_offsets(text)
    words = words[:, : length - 1]
    characters = Characters().encode_words(words)[:, :length]
    known = words.with_values(numbers.lookup(words.values))
    edge = tf.ones((tf.size(text), 1), tf.int32)
    line = tf.concat([edge * BEGIN, known, edge * END], 1)[:, :length]
    return characters, {"words": words[:, : length - 2].to_tensor(), "line": line.to_tensor(-1)}
