"""Words as numbers and as characters, as ELMo reads and predicts them, by TensorFlow operations."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from preprocessing.characters import Characters
from preprocessing.words import words_with_offsets

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
