"""Words hidden from BERT, which predicts them, with TensorFlow operations only."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.word_pieces import WordPieces

HIDDEN = 0.15
"""Share of the pieces that BERT predicts; 80 % of these become [MASK], 10 % a random piece."""

MASK = "[MASK]"

MEANINGS = {
    "token_ids": "ids of the tokens in the vocabulary",
    "segment_ids": "0, and 1 in the second segment",
    "padding_mask": "1 at tokens, 0 in padding",
    "mask_positions": "indices of the tokens to predict",
}
"""Meanings of the features that BERT takes in pretraining."""


class WordHider:
    """Chooses pieces for BERT to predict, and hides most of them.

    It chooses 15 % of the pieces, never special tokens or padding. 80 % of these become `[MASK]`,
    10 % become a random piece, and 10 % stay unchanged. The result is a pure function of the seed,
    computed by TensorFlow operations only.

    Reference:
        Devlin et al., BERT, 2019, section 3.1 and appendix A.1. https://arxiv.org/abs/1810.04805

    Args:
        pieces: The tokenizer.
    """

    def __init__(self, pieces: WordPieces):
        special = [pieces.pad_id, pieces.unknown_id, pieces.start_id, pieces.end_id, pieces.mask_id]
        self.mask_id = pieces.mask_id
        self._is_special = np.isin(np.arange(pieces.vocabulary_size), special)
        self._ordinary = np.flatnonzero(~self._is_special).astype("int32")

    def hide(
        self, features: Mapping[str, tf.Tensor], seed: Any
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """Hides words of a batch.

        Args:
            features: From `sentence_pairs`, `(n, length)`.
            seed: Two integers.

        Returns:
            The features, with `mask_positions` int32 `(n, predictions)`, where predictions is 15 %
            of the length; the pieces that were there, int32 `(n, predictions)`; and their weights,
            float32 `(n, predictions)`. In rows with fewer predictions, the remaining positions,
            pieces and weights are 0.
        """
        ids = tf.convert_to_tensor(features["token_ids"])
        order_seed, fate_seed, piece_seed = tf.unstack(tf.random.split(seed, 3))
        is_word = (features["padding_mask"] > 0) & ~tf.gather(self._is_special, ids)
        noise = tf.random.stateless_uniform(tf.shape(ids), order_seed)
        _, positions = tf.math.top_k(tf.where(is_word, noise, -1.0), _share(_width(ids)))
        num_words = tf.reduce_sum(tf.cast(is_word, tf.int32), 1)
        counts = tf.minimum(_share(num_words), num_words)
        chosen = tf.range(tf.shape(positions)[1])[None] < counts[:, None]
        # The remaining positions are 0, where [CLS] replaces itself.
        positions = tf.where(chosen, positions, 0)
        true = tf.gather(ids, positions, batch_dims=1)
        fate = tf.random.stateless_uniform(tf.shape(positions), fate_seed)
        drawn = tf.random.stateless_uniform(
            tf.shape(positions), piece_seed, 0, len(self._ordinary), tf.int32
        )
        put = tf.where(fate < 0.9, tf.gather(self._ordinary, drawn), true)
        put = tf.where(chosen, tf.where(fate < 0.8, self.mask_id, put), true)
        rows = tf.broadcast_to(tf.range(tf.shape(ids)[0])[:, None], tf.shape(positions))
        ids = tf.tensor_scatter_nd_update(ids, tf.stack([rows, positions], 2), put)
        hidden = {**features, "token_ids": ids, "mask_positions": positions}
        return hidden, tf.where(chosen, true, 0), tf.cast(chosen, tf.float32)


def _width(ids: tf.Tensor) -> Any:
    """Returns the number of columns, as an int if it is known before the graph runs."""
    return tf.shape(ids)[1] if ids.shape[1] is None else ids.shape[1]


def _share(count: Any) -> Any:
    """Returns 15 % of a count, at least 1; an int if the count is an int."""
    if isinstance(count, int):
        return max(1, round(HIDDEN * count))
    rounded = tf.cast(tf.round(HIDDEN * tf.cast(count, tf.float32)), tf.int32)
    return tf.maximum(rounded, 1)


def labeled(hider: WordHider, features, continues, seed):
    """Hides words of a batch; returns features, labels by output, and weights by output."""
    hidden, true, weights = hider.hide(features, seed)
    labels = {"masked_words": true, "next_sentence": continues}
    ones = tf.ones_like(continues, tf.float32)
    return hidden, labels, {"masked_words": weights, "next_sentence": ones}


def hidden_once(pieces: WordPieces, rows: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """Hides the same words in every pass, so that scores on validation and test texts compare.

    Args:
        pieces: The tokenizer.
        rows: A dataset of features `(length,)` and whether the second segment continues the first.
        seed: Seed of the choice of words; each row has its own.

    Returns:
        A dataset of features, labels by output, and weights by output, as from `labeled`.
    """
    hider = WordHider(pieces)

    def hide(number, row):
        row_seed = tf.stack([tf.constant(seed, tf.int64), number])
        features, continues = tf.nest.map_structure(lambda part: part[None], row)
        batch = labeled(hider, features, continues, row_seed)
        return tf.nest.map_structure(lambda part: part[0], batch)

    return rows.enumerate().map(hide, num_parallel_calls=tf.data.AUTOTUNE)


def encode_gaps(
    pieces: WordPieces, text: tf.Tensor, length: int
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Encodes texts `(n,)` as `[CLS] text [SEP]`, with the positions of `[MASK]` in them.

    Returns:
        Features `(n, tokens)`, with `mask_positions` `(n, gaps)`; and bool `(n, gaps)`, False where
        a position is padding. The text with the most gaps determines their number, at least 1.
    """
    parts = tf.strings.split(text, MASK)  # (n, (parts))
    ids = parts.with_values(pieces.ids(parts.values))  # (n, (parts), (pieces))
    gap = parts.with_values(tf.fill((tf.size(parts.values), 1), pieces.mask_id))
    line = tf.concat([ids, gap], 2).merge_dims(1, 2)
    # There is no gap after the last part.
    line = line[:, :-1][:, : length - 2]
    edge = tf.ones((tf.size(text), 1), tf.int32)
    line = tf.concat([edge * pieces.start_id, line, edge * pieces.end_id], 1)
    token_ids = line.to_tensor(pieces.pad_id)
    is_gap = token_ids == pieces.mask_id
    columns = tf.broadcast_to(tf.range(tf.shape(token_ids)[1])[None], tf.shape(token_ids))
    positions = tf.ragged.boolean_mask(columns, is_gap)
    # At least one column, for texts without gaps.
    count = tf.maximum(tf.reduce_max(positions.row_lengths()), 1)
    features = {
        "token_ids": token_ids,
        "segment_ids": tf.zeros_like(token_ids),
        "padding_mask": tf.ones_like(line).to_tensor(),
        "mask_positions": positions.to_tensor(0, shape=tf.stack([-1, count])),
    }
    return features, tf.sequence_mask(positions.row_lengths(), count)
