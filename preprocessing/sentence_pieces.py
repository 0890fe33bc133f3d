"""Texts to translate as pieces of a learned vocabulary, with operations of TensorFlow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tensorflow as tf

from preprocessing.byte_tokens import PADDING, joined
from preprocessing.piece_models import PieceModel, trained


@dataclass(frozen=True)
class SentencePieces(PieceModel):
    """Splits texts into pieces and ends each with the end token.

    Texts survive encoding and decoding up to white space and Unicode's normal form NFKC.

    Example:
        >>> pieces = SentencePieces.learned(["a rose is a rose"] * 9, 300)
        >>> ids = pieces.encode(tf.constant(["a rose", "né"]))
        >>> [text.decode() for text in pieces.decode(ids).numpy()]
        ['a rose', 'né']
    """

    longer: ClassVar[str] = ""
    """Says what happens to longer texts; empty: they are truncated."""

    @classmethod
    def learned(cls, texts: Iterable[str], size: int) -> "SentencePieces":
        """Learns a vocabulary, as `piece_models.trained` does it."""
        return cls(trained(texts, size))

    def encode(self, texts: tf.Tensor, length: int | None = None, padded: bool = True) -> tf.Tensor:
        """Encodes texts `(n,)`, an end token after each, as int32 `(n, tokens)`, -1 in padding.

        Args:
            texts: Strings in UTF-8; bytes that are not UTF-8 become U+FFFD.
            length: Maximum number of tokens of a row, at least 1; longer texts are truncated, and
                end with the end token, too. None: no limit.
            padded: Whether all rows are padded to the length, if there is one, or else only to the
                longest of them.
        """
        ids = self.ids(texts)
        if length is not None:
            ids = ids[:, : length - 1]
        ends = tf.fill((ids.nrows(), 1), self.end_id)
        return tf.concat([ids, ends], 1).to_tensor(
            PADDING, shape=(None, length if padded else None)
        )

    def sizes(self, texts: tf.Tensor) -> tf.Tensor:
        """Counts the tokens of whole texts, the end token included, int32 `(n,)`."""
        return tf.cast(self.ids(texts).row_lengths(), tf.int32) + 1

    def begun(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Returns what a decoder reads to predict each token: the token before it.

        That before the first is the end token, as if it ended the text before.

        Args:
            token_ids: int32 `(n, tokens)`, -1 in padding.
        """
        before = tf.pad(token_ids[:, :-1], [[0, 0], [1, 0]], constant_values=self.end_id)
        return tf.where(token_ids < 0, PADDING, before)

    def decode(self, token_ids: tf.Tensor, num_bytes: tf.Tensor | None = None) -> tf.Tensor:
        """Decodes pieces as UTF-8 `(n,)`; bytes that are not a whole character become U+FFFD.

        Args:
            token_ids: int32 `(n, tokens)`, -1 in padding.
            num_bytes: How many bytes of each text are kept, int32 `(n,)`; -1 or None: all. The
                space at its beginning, which the first piece has, counts, and is removed.
        """
        texts = joined(self.pieces, token_ids, num_bytes)
        return tf.strings.regex_replace(texts, "^ ", "")

    def names(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Returns the pieces of int32 `(n, tokens)` as strings; "" for -1."""
        names = self.tokenizer.id_to_string(tf.maximum(token_ids, 0))
        return tf.where(token_ids < 0, "", names)


def encoded_pairs(
    tokens: SentencePieces, length: int, sources: tf.Tensor, targets: tf.Tensor
) -> tuple[dict[str, tf.Tensor]]:
    """Encodes texts and their translations `(n,)` as rows of one length, for `labeled_pairs`."""
    ids = {"source_ids": sources, "target_ids": targets}
    return ({name: tokens.encode(texts, length) for name, texts in ids.items()},)


def labeled_pairs(
    tokens: SentencePieces, fixed: bool, rows: dict[str, tf.Tensor]
) -> tuple[dict[str, tf.Tensor], ...]:
    """Returns features, labels and weights for predicting each token of translations.

    Args:
        tokens: The tokenizer.
        fixed: Whether columns that contain only padding are kept.
        rows: `source_ids` and `target_ids`, int32 `(n, tokens)`, -1 in padding.

    Returns:
        `source_ids`, and `target_ids` as from `begun`; the labels `logits`, int32 `(n, tokens)`;
        and their weights, 1 or, in padding, 0.
    """
    source_ids, target_ids = (
        rows[name] if fixed else without_padding(rows[name])
        for name in ("source_ids", "target_ids")
    )
    features = {"source_ids": source_ids, "target_ids": tokens.begun(target_ids)}
    labels = {"logits": tf.maximum(target_ids, 0)}
    return features, labels, {"logits": tf.cast(target_ids >= 0, tf.float32)}


def pair_length(features: dict[str, tf.Tensor], step: int = 1) -> tf.Tensor:
    """Returns numbers that sort pairs so that neighbors have similar lengths on both sides.

    Pairs are sorted by the length of the longer side, and those of an equal one by how much longer
    the source is: upwards if that length is even, else downwards. This pads half as much as sorting
    by the targets and then by the sources.

    Args:
        features: `source_ids` and `target_ids`, int32 `(n, tokens)`, -1 in padding.
        step: Number of lengths of the longer side that count as equal, for long texts, of which few
            have the same length.

    Returns:
        int32 `(n,)`.
    """
    sources, targets = (_lengths(features[name]) for name in ("source_ids", "target_ids"))
    longer = tf.maximum(sources, targets)
    steps = longer // step
    upwards = tf.where(steps % 2 == 0, sources - targets, targets - sources)
    return steps * (2 * tf.reduce_max(longer) + 1) + upwards


def without_padding(token_ids: tf.Tensor) -> tf.Tensor:
    """Removes the columns `(n, tokens)` that contain only padding."""
    return token_ids[:, : tf.reduce_max(_lengths(token_ids))]


def _lengths(token_ids: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(token_ids >= 0, tf.int32), axis=1)


def sources(
    tokens: SentencePieces, length: int, texts: tf.Tensor
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Encodes texts to translate `(n,)`.

    Returns:
        `source_ids`, int32 `(n, tokens)`, -1 in padding; and the numbers of tokens of each text
        that are read and that are not, `prompt_tokens` and `dropped_tokens`, int32 `(n,)`.
    """
    whole = tokens.sizes(texts)
    counts = {
        "prompt_tokens": tf.minimum(whole, length),
        "dropped_tokens": tf.maximum(whole - length, 0),
    }
    return {"source_ids": tokens.encode(texts, length, padded=False)}, counts


def examples(
    tokens: SentencePieces, length: int, pairs: Sequence[tuple[str, str]]
) -> dict[str, np.ndarray]:
    """Returns real texts and translations, and what a network reads of them, by name."""
    text, translation = (np.array(side, object) for side in zip(*pairs, strict=True))
    source_ids, ids = (tokens.encode(tf.constant(one), length) for one in (text, translation))
    rows = {"source_ids": source_ids.numpy(), "target_ids": tokens.begun(ids).numpy()}
    return {"text": text, "translation": translation, **rows}


def to_score(
    tokens: SentencePieces, length: int, text: tf.Tensor, translation: tf.Tensor
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Returns what `models.writing.scoring` reads of texts and given translations `(n,)`.

    Returns:
        `source_ids`; `token_ids`: an end token, the translation and its end token, int32
        `(n, tokens)`, -1 in padding; and `first`, 1 for each, as the translation is what counts;
        and of each translation the numbers `tokens` and `bytes`, int32 `(n,)`.
    """
    token_ids, (features, _) = tokens.encode(translation), sources(tokens, length, text)
    begun = tf.pad(token_ids, [[0, 0], [1, 0]], constant_values=tokens.end_id)
    counts = {"tokens": _lengths(token_ids), "bytes": tf.strings.length(translation)}
    first = tf.ones_like(counts["tokens"])
    return {**features, "token_ids": begun, "first": first}, counts


def attended(
    tokens: SentencePieces, written: dict[str, tf.Tensor], features: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Returns translations, their pieces and those of the texts, and what was attended to.

    Args:
        tokens: The tokenizer.
        written: `token_ids`, int32 `(n, tokens)`, and `attention` `(n, tokens, source tokens)`.
        features: `source_ids`.
    """
    token_ids = written["token_ids"]
    longest = tf.reduce_max(_lengths(token_ids))
    return {
        "translation": tokens.decode(token_ids),
        "source_pieces": tokens.names(features["source_ids"]),
        "translation_pieces": tokens.names(token_ids[:, :longest]),
        "attention": written["attention"][:, :longest],
    }
