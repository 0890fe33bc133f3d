"""Texts longer than a network reads: truncation, or overlapping rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

Split = Callable[[tf.Tensor], tf.RaggedTensor]
"""Maps texts `(n,)` to pieces `(n, (pieces))`."""


def sizes(texts: tf.Tensor, split: Split, specials: tuple[int, int]) -> tf.Tensor:
    """Counts the tokens of whole texts, int64 `(n,)`; arguments as of `segments`."""
    count = texts.shape[1]
    lengths = [split(texts[:, number]).row_lengths() for number in range(count)]
    return tf.add_n(lengths) + specials[count - 1]


def segments(
    texts: tf.Tensor,
    split: Split,
    length: int,
    specials: tuple[int, int],
) -> list[tf.RaggedTensor]:
    """Splits texts into pieces and truncates them; in a pair, the longer text is truncated first.

    Args:
        texts: Strings `(n, 1)` or, for pairs, `(n, 2)`.
        split: Maps texts `(n,)` to pieces `(n, (pieces))`.
        length: Tokens per row, special tokens included.
        specials: Number of special tokens of a single text, and of a pair.

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
    pieces = [split(texts[:, number]) for number in range(count)]
    lengths = [segment.row_lengths() for segment in pieces]
    if count == 1:
        return [_firsts(pieces[0], tf.minimum(lengths[0], room))]
    # The result of removing single pieces from the longer text, or the second if both are equal.
    first = tf.minimum(lengths[0], tf.maximum(room - lengths[1], (room + 1) // 2))
    return [_firsts(pieces[0], first), _firsts(pieces[1], tf.minimum(lengths[1], room - first))]


def overlapping(
    texts: tf.Tensor, split: Split, length: int, specials: tuple[int, int]
) -> tuple[list[tf.RaggedTensor], tf.Tensor]:
    """Splits texts into pieces and long ones into windows; arguments as of `segments`.

    Consecutive windows share a quarter of their pieces.

    Args:
        texts: Strings `(n, 1)`.

    Returns:
        One segment `(windows, (pieces))`, at least one window per text, and the index of the text
        of each window, int64 `(windows,)`.
    """
    if texts.shape.rank != 2 or texts.shape[1] != 1:
        raise ValueError(f"`texts` must be of shape (n, 1). Received: texts of shape {texts.shape}")
    size = length - specials[0]
    require_room(length, size - size // 4, size // 4)
    line = split(texts[:, 0])
    rows = windows(line.row_lengths(), size, size - size // 4)
    return [parts(line, rows)], rows.example


def slices(line: tf.RaggedTensor, rows: Any, begins: Any, ends: Any) -> tf.RaggedTensor:
    """Returns the pieces from `begins[i]` to `ends[i]` of row `rows[i]` of `(n, (pieces))`.

    Equals slicing and gathering ragged tensors, with far fewer operations in the graph.
    """
    starts = tf.gather(line.row_starts(), rows)
    indices = tf.ragged.range(starts + begins, starts + ends)
    return indices.with_values(tf.gather(line.values, indices.values))


def _firsts(line: tf.RaggedTensor, counts: tf.Tensor) -> tf.RaggedTensor:
    return slices(line, tf.range(line.nrows()), 0, counts)


def require_room(length: int, step: int, stride: int) -> None:
    if length < 3 or stride < 0 or step < 1:
        raise ValueError(
            "`stride` must be at least 0 and leave room for at least one new piece in each row. "
            f"Received: stride={stride}, length={length}"
        )


@dataclass(frozen=True)
class Windows:
    """The example and the pieces of each row.

    Args:
        example: Index of the example of each row `(rows,)`.
        begins: First piece of each row `(rows,)`.
        ends: Index after its last piece `(rows,)`.
        counts: Number of rows of each example `(n,)`.
        size: Maximum number of pieces per row `(n,)`.
        step: Pieces from the start of one row to the start of the next `(n,)`.
    """

    example: tf.Tensor
    begins: tf.Tensor
    ends: tf.Tensor
    counts: tf.Tensor
    size: tf.Tensor
    step: tf.Tensor


def windows(lengths: tf.Tensor, size: Any, step: Any) -> Windows:
    """Cuts examples with `lengths` pieces `(n,)` into rows; `size` and `step` as in `Windows`."""
    size = tf.broadcast_to(tf.cast(size, tf.int64), tf.shape(lengths))
    step = tf.broadcast_to(tf.cast(step, tf.int64), tf.shape(lengths))
    counts = 1 - tf.minimum(size - lengths, 0) // step  # // rounds down, so this rounds up
    example = tf.repeat(tf.range(tf.size(lengths, tf.int64)), counts)
    begins = tf.ragged.range(counts).values * tf.gather(step, example)
    ends = tf.minimum(begins + tf.gather(size, example), tf.gather(lengths, example))
    return Windows(example, begins, ends, counts, size, step)


def parts(line: tf.RaggedTensor, rows: Windows) -> tf.RaggedTensor:
    return slices(line, rows.example, rows.begins, rows.ends)


def positions_of_words(
    words: tf.RaggedTensor, counts: tf.Tensor, rows: Windows, width: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Locates each word in the row that shows the most context on both sides of it.

    Args:
        words: `(n, (words))`.
        counts: Number of pieces of each word, int64 `(all words,)`.
        rows: From `windows` for the pieces of each sentence.
        width: Tokens per row, including one special token before the pieces, int64.

    Returns:
        `example`, the index of the sentence of each row, int64 `(rows,)`; and `first_piece`, int64
        `(n, words)`, the index of each word's first piece among the `rows * width` tokens, -1 after
        the last word of a sentence.
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
    """Returns the index of the first piece of each word `(all words,)` among all tokens."""
    size, step, counts, first_row = (
        tf.gather(values, sentence)
        for values in (rows.size, rows.step, rows.counts, tf.cumsum(rows.counts, exclusive=True))
    )
    # The row whose middle is nearest: round((begin - (size - 1) / 2) / step).
    row = (2 * begins - size + 1 + step) // (2 * step)
    row = tf.minimum(tf.maximum(row, 0), counts - 1)
    return (first_row + row) * width + 1 + begins - row * step
