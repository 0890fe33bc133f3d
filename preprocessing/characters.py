"""Words as characters, ELMo's input, with operations of TensorFlow only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from preprocessing.windows import parts, positions_of_words, require_room, segments, windows
from preprocessing.words import words_with_offsets


@dataclass(frozen=True)
class Characters:
    """Encodes words as byte ids, ELMo's input.

    A word is a start mark, its bytes, an end mark and padding. A sentence has one extra word at its
    start and one at its end. The id of a byte is its value plus 1. The other ids are 257 and 258
    for the start and end of a sentence, 259 and 260 for the start and end of a word, 261 for
    padding in a word, and 0 for padding after a sentence.

    Reference:
        Peters et al., Deep Contextualized Word Representations, 2018, and its code.
        https://arxiv.org/abs/1802.05365

    Args:
        word_length: Ids per word, at least 3; longer words are truncated.

    Example:
        >>> words = tf.ragged.constant([["hi"], []])
        >>> ids = Characters(word_length=5).encode_words(words)
        >>> ids.shape.as_list(), ids[0, 1].numpy().tolist()
        ([2, 3, 5], [259, 105, 106, 260, 261])
    """

    word_length: int = 50
    vocabulary_size: ClassVar[int] = 262
    resources: ClassVar[tuple[Any, ...]] = ()
    specials: ClassVar[tuple[int, int]] = (2, 4)
    """Number of extra words of a single text, and of a pair."""

    def __post_init__(self):
        if self.word_length < 3:
            raise ValueError(
                f"`word_length` must be at least 3. Received: word_length={self.word_length}"
            )

    def words(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Splits texts `(n,)` into words `(n, (words))`."""
        return words_with_offsets(texts)[0]

    def save(self, folder: str | Path) -> None:
        """Makes an empty folder: bytes need no vocabulary."""
        Path(folder).mkdir()

    def encode(self, texts: tf.Tensor, length: int, fixed: bool = True) -> dict[str, tf.Tensor]:
        """Encodes texts, or pairs of texts as two consecutive sentences.

        Long texts are truncated; in a pair, the longer text first.

        Args:
            texts: Strings `(n, 1)` or, for pairs, `(n, 2)`.
            length: Words per row, start and end of its sentences included.
            fixed: Whether all rows have `length` words, as XLA requires. If False, rows are as long
                as the longest one of the batch.

        Returns:
            `characters`, int32 `(n, length, word_length)`.
        """
        words = segments(texts, self.words, length, self.specials)
        return self.packed(words, length if fixed else None)

    def encode_words(self, words: tf.RaggedTensor) -> tf.Tensor:
        """Encodes sentences.

        Args:
            words: Strings `(n, (words))`.

        Returns:
            int32 `(n, words + 2, word_length)`, where words is that of the longest sentence.
        """
        return self.packed([words], None)["characters"]

    def encode_rows(
        self, words: tf.RaggedTensor, length: int, stride: int | None = None, fixed: bool = True
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Encodes the words of sentences for tagging, in as many rows as each sentence needs.

        Words are split at punctuation marks as in texts, `U.S.` into `U`, `.`, `S` and `.`. The tag
        of a word is predicted at its first part.

        Args:
            words: Strings `(n, (words))`.
            length: Words per row, start and end included.
            stride: Words that consecutive rows of a sentence share. None: half of a row.
            fixed: As in `encode`.

        Returns:
            `characters` `(rows, length, word_length)` and positions, as from
            `WordPieces.encode_words`.
        """
        size = length - 2
        stride = size // 2 if stride is None else stride
        require_room(length, size - stride, stride)
        pieces = _split_at_marks(words.values)  # (all words, (parts))
        line = words.with_values(pieces).merge_dims(1, 2)  # (n, (parts))
        rows = windows(line.row_lengths(), size, size - stride)
        features = self.packed([parts(line, rows)], length if fixed else None)
        width = tf.shape(features["characters"], tf.int64)[1]
        return features, positions_of_words(words, pieces.row_lengths(), rows, width)

    def names(self, characters: np.ndarray) -> list[str]:
        """Decodes words `(words, word_length)`; the ends of sentences are `<S>` and `</S>`."""
        return [
            {257: "<S>", 258: "</S>"}.get(int(word[1]))
            or bytes(int(i) - 1 for i in word if 0 < i <= 256).decode("utf-8", "replace")
            for word in characters
        ]

    def packed(self, sentences: list, width: int | None) -> dict[str, tf.Tensor]:
        """Encodes sentences `(n, (words))`, with start and end, and pads the rows to a width."""
        line = tf.concat([part for words in sentences for part in self._spelled(words)], 1)
        return {"characters": line.to_tensor(0, shape=(None, width, self.word_length))}

    def _spelled(self, words: tf.RaggedTensor) -> tuple[Any, tf.RaggedTensor, Any]:
        """Encodes the start, the words and the end of sentences `(n, (words))`."""
        room = self.word_length - 2
        flat = words.values
        letters = tf.cast(tf.io.decode_raw(flat, tf.uint8, fixed_length=room), tf.int32) + 1
        spelled = words.with_values(self._marked(letters, tf.strings.length(flat)))
        edges = tf.pad(tf.constant([[257], [258]]), [[0, 0], [0, room - 1]])
        edges = self._marked(edges, tf.constant([1, 1]))
        begin, end = (
            tf.tile(edge[None, None], (words.nrows(), 1, 1)) for edge in (edges[0], edges[1])
        )
        return begin, spelled, end

    def _marked(self, letters: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Adds start, end and padding to letters `(words, word_length - 2)`."""
        position = tf.range(self.word_length)[None]
        end = tf.minimum(lengths, self.word_length - 2)[:, None] + 1
        letters = tf.pad(letters, [[0, 0], [1, 1]])
        marked = tf.where(position == 0, 259, tf.where(position < end, letters, 261))
        return tf.where(position == end, 260, marked)


def _split_at_marks(words: tf.Tensor) -> tf.RaggedTensor:
    """Splits words `(n,)` as in texts; does not change a word of only control characters."""
    parts_of_words, _, _ = words_with_offsets(words)
    nothing = parts_of_words.row_lengths() == 0
    own = tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(words, nothing), tf.cast(nothing, "int64")
    )
    return tf.concat([parts_of_words, own], 1)
