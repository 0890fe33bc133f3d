"""Words with a tag each as the rows that a network is trained on, with TensorFlow operations."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from preprocessing import tokens


def continuations(tags: Sequence[str]) -> tf.Tensor:
    """Returns for each tag the number of the tag of the next word of the same entity.

    Args:
        tags: Names in the BIO scheme. A tag without an `I-` tag continues as itself.

    Example:
        >>> continuations(["O", "B-city", "I-city"]).numpy().tolist()
        [0, 2, 2]
    """
    numbers = {tag: number for number, tag in enumerate(tags)}
    return tf.constant([numbers.get(f"I-{tag[2:]}", numbers[tag]) for tag in tags], tf.int32)


def split_at_marks(
    words: tf.RaggedTensor, tags: tf.RaggedTensor, continued: tf.Tensor
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Splits words at punctuation marks as `words_with_offsets` does, `@ada` into `@` and `ada`.

    The first part of a word gets its tag, the other parts the continuation of the tag. A word
    without parts, such as one of control characters, is left out.

    Args:
        words: `(n, (words))`.
        tags: Number of the tag of each word, in the same shape.
        continued: From `continuations`.

    Returns:
        The parts `(n, (parts))` and their tags, int32.
    """
    parts, _, _ = tokens.words_with_offsets(words.values)  # (all words, (parts))
    counts = parts.row_lengths()
    of_parts = tf.repeat(tf.cast(tags.values, tf.int32), counts)
    is_first = tf.ragged.range(counts).values == 0
    of_parts = tf.where(is_first, of_parts, tf.gather(continued, of_parts))
    split = words.with_values(parts).merge_dims(1, 2)
    return split, split.with_values(of_parts)


def labeled(
    encode: Callable[[tf.RaggedTensor, bool], Any],
    words: tf.RaggedTensor,
    tags: tf.RaggedTensor,
    continued: tf.Tensor,
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Encodes tagged sentences for training, long ones in several rows.

    Words are split in the same way as the words of a text are when the network is served.

    Args:
        encode: From `preprocessing.readers.WordReader`.
        words: `(n, (words))`.
        tags: Number of the tag of each word, in the same shape.
        continued: From `continuations`.

    Returns:
        Features, and labels int32 `(rows, length)`: the tag of each word at its first token, -1 at
        all other tokens.
    """
    words, tags = split_at_marks(words, tags, continued)
    features, positions = encode(words, True)
    labels = tokens.labels_at_first_pieces(
        tags.to_tensor(), positions["first_piece"], tokens.token_mask(features)
    )
    return tokens.compact(features), labels


def trimmed(
    features: dict[str, tf.Tensor], labels: tf.Tensor, unless: bool = False
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Removes the columns that contain only padding in this batch, as `tokens.trimmed` does."""
    if unless:
        return features, labels
    short = tokens.trimmed(features)
    return short, labels[:, : tf.shape(tokens.token_mask(short))[1]]
