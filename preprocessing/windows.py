"""How what is longer than a network reads is cut: at its end, or into rows that overlap."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf


def segments(
    texts: tf.Tensor,
    split: Callable[[tf.Tensor], tf.RaggedTensor],
    length: int,
    specials: tuple[int, int],
) -> list[tf.RaggedTensor]:
    """Splits texts, and cuts what is too long at its end, of a pair always the longer text.

    Args:
        texts: Strings `(n, 1)` or, for pairs, `(n, 2)`.
        split: From texts `(n,)` to pieces `(n, (pieces))`.
        length: Tokens of a row, special tokens included.
        specials: Special tokens that a text by itself gets, and those that a pair gets.

    Returns:
        One or two segments `(n, (pieces))`.
    """
    if texts.shape.rank != 2 or texts.shape[1] not in (1, 2):
        raise ValueError(
            "`texts` must be of shape (n, 1) or, for pairs, (n, 2). "
            f"Received: texts of shape {texts.shape}"
        )
    count = texts.shape[1]
    room = length - specials[count - 1]
    if room < 1:
        raise ValueError(
            f"`length` must be above {specials[count - 1]}, the number of special tokens. "
            f"Received: length={length}"
        )
    found = [split(texts[:, number]) for number in range(count)]
    lengths = [segment.row_lengths() for segment in found]
    if count == 1:
        return [_firsts(found[0], tf.minimum(lengths[0], room))]
    # Taking one by one from the end of the longer text, from the second if both are as long.
    first = tf.minimum(lengths[0], tf.maximum(room - lengths[1], (room + 1) // 2))
    return [_firsts(found[0], first), _firsts(found[1], tf.minimum(lengths[1], room - first))]


def slices(line: tf.RaggedTensor, rows: Any, begins: Any, ends: Any) -> tf.RaggedTensor:
    """Takes the pieces from `begins[i]` to `ends[i]` of row `rows[i]` of `(n, (pieces))`.

    As slicing and gathering ragged tensors do, with far fewer operations in the graph.
    """
    starts = tf.gather(line.row_starts(), rows)
    places = tf.ragged.range(starts + begins, starts + ends)
    return places.with_values(tf.gather(line.values, places.values))


def _firsts(line: tf.RaggedTensor, counts: tf.Tensor) -> tf.RaggedTensor:
    return slices(line, tf.range(line.nrows()), 0, counts)


def require_room(length: int, step: int, stride: int) -> None:
    if length < 3 or stride < 0 or step < 1:
        raise ValueError(
            "`stride` must be at least 0 and leave at least a piece to each row that its neighbour "
            f"has not. Received: stride={stride}, length={length}"
        )


@dataclass(frozen=True)
class Windows:
    """Which pieces of which example each row holds.

    Args:
        example: `(rows,)`.
        begins: First piece of each row `(rows,)`.
        ends: The piece behind its last `(rows,)`.
        counts: Rows of each example `(n,)`.
        size: Most pieces of a row.
        step: Pieces from one row to the next.
    """

    example: tf.Tensor
    begins: tf.Tensor
    ends: tf.Tensor
    counts: tf.Tensor
    size: tf.Tensor
    step: tf.Tensor


def windows(lengths: tf.Tensor, size: Any, step: Any) -> Windows:
    """Cuts examples of so many pieces `(n,)` into rows; `size` and `step` are numbers or `(n,)`."""
    size = tf.broadcast_to(tf.cast(size, tf.int64), tf.shape(lengths))
    step = tf.broadcast_to(tf.cast(step, tf.int64), tf.shape(lengths))
    counts = 1 - tf.minimum(size - lengths, 0) // step  # // rounds down, so this rounds up
    example = tf.repeat(tf.range(tf.size(lengths, tf.int64)), counts)
    begins = tf.ragged.range(counts).values * tf.gather(step, example)
    ends = tf.minimum(begins + tf.gather(size, example), tf.gather(lengths, example))
    return Windows(example, begins, ends, counts, size, step)


def parts(line: tf.RaggedTensor, rows: Windows) -> tf.RaggedTensor:
    return slices(line, rows.example, rows.begins, rows.ends)


def places_of_words(
    words: tf.RaggedTensor, counts: tf.Tensor, rows: Windows, width: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Finds each word in the row that shows most on both sides of it.

    Args:
        words: `(n, (words))`.
        counts: Pieces of each word, int64 `(all words,)`.
        rows: From `windows`, of the pieces of each sentence.
        width: Tokens of a row, a special one before the pieces included, int64.

    Returns:
        `example`, the sentence of each row, int64 `(rows,)`; and `first_piece`, int64 `(n, words)`,
        the index of each word among the `rows * width` tokens, -1 beyond a sentence's words.
    """
    sentence = words.value_rowids()
    begins = tf.cumsum(counts, exclusive=True)
    # In pieces of the sentence.
    begins -= tf.gather(begins, tf.gather(words.row_starts(), sentence))
    first_piece = words.with_values(_indices_of_first_pieces(begins, sentence, rows, width))
    return {"example": rows.example, "first_piece": first_piece.to_tensor(-1)}


def _indices_of_first_pieces(
    begins: tf.Tensor, sentence: tf.Tensor, rows: Windows, width: tf.Tensor
) -> tf.Tensor:
    """Finds words `(all words,)` among `rows * width` tokens, in the row that shows most around."""
    size, step, counts, first_row = (
        tf.gather(values, sentence)
        for values in (rows.size, rows.step, rows.counts, tf.cumsum(rows.counts, exclusive=True))
    )
    # The row whose middle is nearest: round((begin - (size - 1) / 2) / step).
    row = (2 * begins - size + 1 + step) // (2 * step)
    row = tf.minimum(tf.maximum(row, 0), counts - 1)
    return (first_row + row) * width + 1 + begins - row * step
