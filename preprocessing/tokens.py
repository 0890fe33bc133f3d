"""Text as numbers, by operations of TensorFlow and TensorFlow Text alone.

So the same functions run in tf.data, eagerly and in an exported graph. Texts are strings in UTF-8;
n is the number of examples, and (words) or (pieces) is a ragged dimension. Here is what all ways
to split texts have in common; they are in the modules that it imports.
"""

import tensorflow as tf

from preprocessing.characters import Characters
from preprocessing.gpt_tokens import BytePairs, encode_gpt
from preprocessing.vocabulary import SPECIAL_TOKENS
from preprocessing.word_pieces import WordPieces
from preprocessing.words import character_offsets, cleaned, words_with_offsets

__all__ = [
    "SPECIAL_TOKENS",
    "BytePairs",
    "Characters",
    "WordPieces",
    "at_first_pieces",
    "character_offsets",
    "cleaned",
    "compact",
    "encode_gpt",
    "labels_at_first_pieces",
    "labels_of_spans",
    "lengths",
    "token_mask",
    "trimmed",
    "words_with_offsets",
]


def token_mask(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """Tells tokens, or words of which there are characters, from padding: int32 1 and 0."""
    if "characters" in features:
        return tf.cast(tf.reduce_any(features["characters"] > 0, -1), tf.int32)
    return features["padding_mask"]


def lengths(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """Counts the tokens of each example, of the longest row where it has several; int32 `(n,)`."""
    counts = tf.reduce_sum(token_mask(features), axis=-1)
    return tf.reduce_max(tf.reshape(counts, (tf.shape(counts)[0], -1)), axis=1)


def trimmed(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Cuts off the columns that hold only padding in this batch.

    Example:
        >>> ids = tf.constant([[7, 8, 0, 0], [9, 0, 0, 0]])
        >>> features = {"token_ids": ids, "padding_mask": tf.sign(ids), "extract": ids[:, 0]}
        >>> {name: value.shape.as_list() for name, value in trimmed(features).items()}
        {'token_ids': [2, 2], 'padding_mask': [2, 2], 'extract': [2]}
    """
    longest = tf.reduce_max(lengths(features))
    if "characters" in features:
        return {"characters": features["characters"][:, :longest]}
    rank = features["padding_mask"].shape.rank
    return {
        name: value[..., :longest] if value.shape.rank == rank else value
        for name, value in features.items()
    }


def compact(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Halves the memory that characters take; Keras' models turn them into int32 again."""
    if "characters" in features:
        return {"characters": tf.cast(features["characters"], tf.int16)}
    return features


def at_first_pieces(outputs: tf.Tensor, first_piece: tf.Tensor) -> tf.Tensor:
    """Reads what a network says of each word at the word's first piece.

    Args:
        outputs: `(rows, length, channels)`.
        first_piece: `(n, words)` from `WordPieces.encode_words` or `Characters.encode_rows`.

    Returns:
        `(n, words, channels)`; what stands beyond a sentence's words means nothing.
    """
    flat = tf.reshape(outputs, (-1, tf.shape(outputs)[-1]))
    return tf.gather(flat, tf.maximum(first_piece, 0))


def labels_at_first_pieces(labels: tf.Tensor, first_piece: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Lays the labels of words on the words' first pieces, to train on.

    Args:
        labels: Integers `(n, words)`, padded with anything.
        first_piece: `(n, words)` from `WordPieces.encode_words` or `Characters.encode_rows`.
        mask: What has the shape `(rows, length)`, such as `token_mask` of the same features.

    Returns:
        int32 `(rows, length)`: each word's label once, -1 at all other tokens.
    """
    real = first_piece >= 0
    places = tf.boolean_mask(first_piece, real)[:, None]
    labels = tf.cast(tf.boolean_mask(labels, real), tf.int32)
    nothing = tf.fill([tf.size(mask)], -1)
    return tf.reshape(tf.tensor_scatter_nd_update(nothing, places, labels), tf.shape(mask))


def labels_of_spans(
    places: dict[str, tf.Tensor], begins: tf.Tensor, ends: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the first and the last token of each answer in each row, to train on.

    Args:
        places: From `WordPieces.windows`.
        begins: Byte of the document at which each answer begins, int64 `(n,)`; -1 without answer.
        ends: Byte behind each answer, int64 `(n,)`.

    Returns:
        Two int32 tensors `(rows,)`; 0, which is `[CLS]`, where a row does not hold all of it.
    """
    begin = tf.gather(begins, places["example"])[:, None]
    end = tf.gather(ends, places["example"])[:, None]
    # Outside of the document both are -1, so that neither holds.
    first = (places["begins"] <= begin) & (begin < places["ends"])
    last = (places["begins"] < end) & (end <= places["ends"])
    whole = tf.reduce_any(first, 1) & tf.reduce_any(last, 1)
    final = tf.shape(last)[1] - 1
    firsts = tf.argmax(tf.cast(first, tf.int32), 1, tf.int32)
    lasts = final - tf.argmax(tf.cast(tf.reverse(last, [1]), tf.int32), 1, tf.int32)
    return tf.where(whole, firsts, 0), tf.where(whole, lasts, 0)
