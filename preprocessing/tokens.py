"""Texts as token ids, with operations of TensorFlow and TensorFlow Text only.

The same functions therefore run in tf.data, eagerly and in an exported graph. Texts are strings in
UTF-8; n is the number of examples, and (words) or (pieces) is a ragged dimension. This module holds
what all tokenizers share; the tokenizers are in the modules that it imports.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from preprocessing.characters import Characters
from preprocessing.gpt_tokens import BytePairs, encode_gpt, packed_gpt
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
    "packed_gpt",
    "token_mask",
    "trimmed",
    "word_dropout",
    "words_with_offsets",
]


MEANINGS = {
    "characters": "ids of the characters of each word, 0 in padding",
    "token_ids": "ids of the tokens in the vocabulary",
    "segment_ids": "0, and 1 in the second text",
    "padding_mask": "1 at tokens, 0 in padding",
    "extract": "index of the token whose features are classified",
}
"""Meanings of the features that a network takes."""


def token_mask(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns int32 1 for tokens (or words, if the features are characters), 0 for padding."""
    if "characters" in features:
        return tf.cast(tf.reduce_any(features["characters"] > 0, -1), tf.int32)
    return features["padding_mask"]


def lengths(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """Counts the tokens of each example, int32 `(n,)`; of the longest row if it has several."""
    counts = tf.reduce_sum(token_mask(features), axis=-1)
    return tf.reduce_max(tf.reshape(counts, (tf.shape(counts)[0], -1)), axis=1)


def trimmed(features: dict[str, tf.Tensor], unless: bool = False) -> dict[str, tf.Tensor]:
    """Removes the columns that contain only padding in this batch.

    Args:
        features: The features of a batch.
        unless: Whether to keep them, for XLA, which compiles again for each length.

    Example:
        >>> ids = tf.constant([[7, 8, 0, 0], [9, 0, 0, 0]])
        >>> features = {"token_ids": ids, "padding_mask": tf.sign(ids), "extract": ids[:, 0]}
        >>> {name: value.shape.as_list() for name, value in trimmed(features).items()}
        {'token_ids': [2, 2], 'padding_mask': [2, 2], 'extract': [2]}
    """
    if unless:
        return features
    longest = tf.reduce_max(lengths(features))
    if "characters" in features:
        return {"characters": features["characters"][:, :longest]}
    rank = features["padding_mask"].shape.rank
    return {
        name: value[..., :longest] if value.shape.rank == rank else value
        for name, value in features.items()
    }


def first_order(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Takes the first order of pairs, if the features have several, `(n, orders, tokens)`."""
    if "characters" in features or features["padding_mask"].shape.rank == 2:
        return features
    return {name: value[:, 0] for name, value in features.items()}


def word_dropout(tokens: Any, share: float) -> Callable[..., Any] | None:
    """Returns `vary` of `data.feed.Feed`, which hides a fraction of the tokens; None if it is 0."""
    if not share:
        return None
    return lambda features, labels, seed: (tokens.with_unknown(features, share, seed), labels)


def compact(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Halves the memory of characters by int16, which Keras models convert back to int32."""
    if "characters" in features:
        return {"characters": tf.cast(features["characters"], tf.int16)}
    return features


def at_first_pieces(outputs: tf.Tensor, first_piece: tf.Tensor) -> tf.Tensor:
    """Gathers the outputs of a network for each word, at the first piece of the word.

    Args:
        outputs: `(rows, length, channels)`.
        first_piece: `(n, words)` from `WordPieces.encode_words` or `Characters.encode_rows`.

    Returns:
        `(n, words, channels)`; arbitrary values after the last word of a sentence.
    """
    flat = tf.reshape(outputs, (-1, tf.shape(outputs)[-1]))
    return tf.gather(flat, tf.maximum(first_piece, 0))


def labels_at_first_pieces(labels: tf.Tensor, first_piece: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Assigns the label of each word to its first piece, for training.

    Args:
        labels: Integers `(n, words)`; the values in padding are ignored.
        first_piece: `(n, words)` from `WordPieces.encode_words` or `Characters.encode_rows`.
        mask: Any tensor `(rows, length)`, such as `token_mask` of the same features.

    Returns:
        int32 `(rows, length)`: the label of each word at its first piece, -1 at all other tokens.
    """
    real = first_piece >= 0
    indices = tf.boolean_mask(first_piece, real)[:, None]
    labels = tf.cast(tf.boolean_mask(labels, real), tf.int32)
    nothing = tf.fill([tf.size(mask)], -1)
    return tf.reshape(tf.tensor_scatter_nd_update(nothing, indices, labels), tf.shape(mask))


def labels_of_spans(
    offsets: dict[str, tf.Tensor], begins: tf.Tensor, ends: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the first and the last token of each answer in each row, for training.

    Args:
        offsets: From `WordPieces.windows`.
        begins: Byte offset of each answer in its document, int64 `(n,)`; -1 for no answer.
        ends: Byte offset after each answer, int64 `(n,)`.

    Returns:
        Two int32 tensors `(rows,)`; 0, the index of `[CLS]`, in rows without the whole answer.
    """
    begin = tf.gather(begins, offsets["example"])[:, None]
    end = tf.gather(ends, offsets["example"])[:, None]
    # Outside of the document both offsets are -1, so that both comparisons are false.
    first = (offsets["begins"] <= begin) & (begin < offsets["ends"])
    last = (offsets["begins"] < end) & (end <= offsets["ends"])
    whole = tf.reduce_any(first, 1) & tf.reduce_any(last, 1)
    final = tf.shape(last)[1] - 1
    firsts = tf.argmax(tf.cast(first, tf.int32), 1, tf.int32)
    lasts = final - tf.argmax(tf.cast(tf.reverse(last, [1]), tf.int32), 1, tf.int32)
    return tf.where(whole, firsts, 0), tf.where(whole, lasts, 0)
