"""Characters of words, as ELMo reads texts, by operations of TensorFlow alone."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from preprocessing.windows import parts, places_of_words, require_room, segments, windows
from preprocessing.words import words_with_offsets


@dataclass(frozen=True)
class Characters:
    """Spells words in bytes, as ELMo reads them.

    A word is a begin mark, its bytes, an end mark and padding; a sentence has a word more at its
    beginning and one at its end. Ids are the byte plus 1, then 257 and 258 for the two ends of a
    sentence, 259 and 260 for those of a word, 261 for padding in a word; 0 pads the sentence.

    Reference:
        Peters et al., Deep Contextualized Word Representations, 2018, and its code.
        https://arxiv.org/abs/1802.05365

    Args:
        word_length: Ids of a word; at least 3. What a word has more is cut off.

    Example:
        >>> words = tf.ragged.constant([["hi"], []])
        >>> ids = Characters(word_length=5).encode_words(words)
        >>> ids.shape.as_list(), ids[0, 1].numpy().tolist()
        ([2, 3, 5], [259, 105, 106, 260, 261])
    """

    word_length: int = 50
    vocabulary_size: ClassVar[int] = 262
    resources: ClassVar[tuple[Any, ...]] = ()

    def __post_init__(self):
        if self.word_length < 3:
            raise ValueError(
                f"`word_length` must be at least 3. Received: word_length={self.word_length}"
            )

    def encode(self, texts: tf.Tensor, length: int, fixed: bool = True) -> dict[str, tf.Tensor]:
        """Spells texts, or pairs of texts, both as sentences one after the other.

        What is too long is cut at its end, of a pair always the longer text.

        Args:
            texts: Strings `(n, 1)` or, for pairs, `(n, 2)`.
            length: Words of a row, the ends of its sentences included.
            fixed: Whether all rows have `length` words, as XLA wants, or as many as the longest of
                this batch has.

        Returns:
            `characters`, int32 `(n, length, word_length)`.
        """
        found = segments(texts, lambda some: words_with_offsets(some)[0], length, (2, 4))
        return self._packed(found, length if fixed else None)

    def encode_words(self, words: tf.RaggedTensor) -> tf.Tensor:
        """Spells sentences.

        Args:
            words: Strings `(n, (words))`.

        Returns:
            int32 `(n, words + 2, word_length)`, with the longest sentence's number of words.
        """
        return self._packed([words], None)["characters"]

    def encode_rows(
        self, words: tf.RaggedTensor, length: int, stride: int | None = None, fixed: bool = True
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Spells words that are to be tagged, in as many rows as each sentence needs.

        They are split at marks as those of texts are, `U.S.` into `U`, `.`, `S` and `.`, and read
        at their first parts.

        Args:
            words: Strings `(n, (words))`.
            length: Words of a row, its two ends included.
            stride: Words that neighbouring rows of a sentence share, or None for half a row.
            fixed: As in `encode`.

        Returns:
            `characters` `(rows, length, word_length)` and the places, as from
            `WordPieces.encode_words`.
        """
        size = length - 2
        stride = size // 2 if stride is None else stride
        require_room(length, size - stride, stride)
        pieces = _split_at_marks(words.values)  # (all words, (parts))
        line = words.with_values(pieces).merge_dims(1, 2)  # (n, (parts))
        rows = windows(line.row_lengths(), size, size - stride)
        features = self._packed([parts(line, rows)], length if fixed else None)
        width = tf.shape(features["characters"], tf.int64)[1]
        return features, places_of_words(words, pieces.row_lengths(), rows, width)

    def names(self, characters: np.ndarray) -> list[str]:
        """Reads the words `(words, word_length)` that were spelled; `<S>`, `</S>` for the ends."""
        return [
            {257: "<S>", 258: "</S>"}.get(int(word[1]))
            or bytes(int(i) - 1 for i in word if 0 < i <= 256).decode("utf-8", "replace")
            for word in characters
        ]

    def _packed(self, sentences: list, width: int | None) -> dict[str, tf.Tensor]:
        """Spells sentences `(n, (words))`, each between its ends, and pads."""
        line = tf.concat([part for words in sentences for part in self._spelled(words)], 1)
        return {"characters": line.to_tensor(0, shape=(None, width, self.word_length))}

    def _spelled(self, words: tf.RaggedTensor) -> tuple[Any, tf.RaggedTensor, Any]:
        """Spells the begin, the words and the end of sentences `(n, (words))`."""
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
        """Puts the marks around letters `(words, word_length - 2)` and pads behind them."""
        places = tf.range(self.word_length)[None]
        end = tf.minimum(lengths, self.word_length - 2)[:, None] + 1
        letters = tf.pad(letters, [[0, 0], [1, 1]])
        marked = tf.where(places == 0, 259, tf.where(places < end, letters, 261))
        return tf.where(places == end, 260, marked)


def _split_at_marks(words: tf.Tensor) -> tf.RaggedTensor:
    """Splits words `(n,)` as those of texts are; a word of nothing but controls stays as it is."""
    found, _, _ = words_with_offsets(words)
    nothing = found.row_lengths() == 0
    own = tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(words, nothing), tf.cast(nothing, "int64")
    )
    return tf.concat([found, own], 1)
