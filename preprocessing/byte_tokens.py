"""Texts as bytes, the smallest vocabulary that knows every text, with operations of TensorFlow.

It is one of the tokenizers of networks that write, which all have the form of `Tokens`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import tensorflow as tf

PADDING = -1
"""Follows the last token of a row."""


class Tokens(Protocol):
    """A tokenizer of networks that write.

    Its numbers are those of `Bytes`: `encode` returns int32 `(n, tokens)`, -1 in padding, of the
    last tokens only if `most` is given; `sizes` counts them; `decode` leaves out what is -1.
    """

    @property
    def vocabulary_size(self) -> int:
        """Number of different tokens."""

    @property
    def begin_id(self) -> int | None:
        """The token before each text. None: a text begins with its first token."""

    @property
    def end_id(self) -> int:
        """The token after each text."""

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of each token."""

    @property
    def resources(self) -> tuple[Any, ...]:
        """What an export must track, such as lookup tables."""

    @property
    def meaning(self) -> str:
        """Says which tokens there are, for clients."""

    def save(self, folder: str | Path) -> None:
        """Makes a folder with the files of the tokenizer."""

    def sizes(self, texts: tf.Tensor) -> tf.Tensor: ...

    def encode(self, texts: tf.Tensor, most: tf.Tensor | None = None) -> tf.Tensor: ...

    def decode(self, token_ids: tf.Tensor, num_bytes: tf.Tensor | None = None) -> tf.Tensor: ...


@dataclass(frozen=True)
class Bytes:
    """Encodes texts as the values of their bytes in UTF-8; 256 begins and ends a text.

    Example:
        >>> ids = Bytes().encode(tf.constant(["hé", ""]))
        >>> ids.numpy().tolist(), Bytes().decode(ids).numpy().tolist()
        ([[104, 195, 169], [-1, -1, -1]], [b'h\\xc3\\xa9', b''])
    """

    vocabulary_size: ClassVar[int] = 257
    begin_id: ClassVar[int] = 256
    end_id: ClassVar[int] = 256
    pieces: ClassVar[tuple[bytes, ...]] = (*(bytes([value]) for value in range(256)), b"")
    resources: ClassVar[tuple[Any, ...]] = ()
    meaning: ClassVar[str] = f"bytes, 0 to 255, {end_id} at the end of a text, -1 in padding"

    def save(self, folder: str | Path) -> None:
        """Makes an empty folder: bytes need no vocabulary."""
        Path(folder).mkdir()

    def sizes(self, texts: tf.Tensor) -> tf.Tensor:
        """Counts the tokens of texts `(...)`, int32 `(...)`, without encoding them."""
        return tf.strings.length(valid_utf8(texts))

    def encode(self, texts: tf.Tensor, most: tf.Tensor | None = None) -> tf.Tensor:
        """Encodes texts `(n,)` as int32 `(n, bytes)`, -1 in padding.

        Bytes that are not UTF-8 become U+FFFD. `most`, int32 `(n,)`, is how many tokens of each
        text are kept, the last ones; None: all.
        """
        texts = valid_utf8(texts)
        if most is not None:
            sizes = tf.strings.length(texts)
            kept = tf.minimum(sizes, most)
            texts = tf.strings.substr(texts, sizes - kept, kept)
        values = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8), tf.int32)
        rows = tf.RaggedTensor.from_row_lengths(values, tf.strings.length(texts))
        return rows.to_tensor(PADDING)

    def decode(self, token_ids: tf.Tensor, num_bytes: tf.Tensor | None = None) -> tf.Tensor:
        """Decodes int32 `(n, tokens)`, -1 in padding, as valid UTF-8 `(n,)`.

        A character that is cut off becomes U+FFFD. `num_bytes`, int32 `(n,)`, is how many bytes of
        each text are kept; -1 or None: all.
        """
        return joined(self.pieces, token_ids, num_bytes)


def joined(
    pieces: Sequence[bytes], token_ids: tf.Tensor, num_bytes: tf.Tensor | None = None
) -> tf.Tensor:
    """Joins the bytes of tokens to texts in UTF-8 `(n,)`.

    Bytes that are not a whole character become U+FFFD.

    Args:
        pieces: The bytes of each token.
        token_ids: int32 `(n, tokens)`, -1 in padding.
        num_bytes: How many bytes of each text are kept, int32 `(n,)`; -1 or None: all.
    """
    table = tf.constant([*pieces, b""])
    numbers = tf.where(token_ids < 0, len(pieces), token_ids)
    texts = tf.strings.reduce_join(tf.gather(table, numbers), axis=1)
    if num_bytes is not None:
        kept = tf.where(num_bytes < 0, tf.strings.length(texts), num_bytes)
        texts = tf.strings.substr(texts, tf.zeros_like(kept), kept)
    return valid_utf8(texts)


def latest(rows: tf.RaggedTensor, most: tf.Tensor | None = None) -> tf.Tensor:
    """Returns rows of tokens `(n, (tokens))` as `(n, tokens)`, -1 in padding.

    Args:
        rows: The tokens of each text.
        most: How many of each row are kept, the last ones, int32 `(n,)`. None: all.
    """
    if most is not None:
        sizes = rows.row_lengths()
        numbers = tf.ragged.range(sizes, row_splits_dtype=sizes.dtype)
        dropped = sizes - tf.cast(most, sizes.dtype)
        rows = tf.ragged.boolean_mask(rows, numbers >= dropped[:, None])
    return rows.to_tensor(PADDING)


def as_features(token_ids: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns what a network reads of rows `(n, tokens)`, -1 in padding: `token_ids`, and where
    they are no padding the `padding_mask` 1, both int32 `(n, tokens)`."""
    real = token_ids >= 0
    return {"token_ids": tf.where(real, token_ids, 0), "padding_mask": tf.cast(real, tf.int32)}


def labeled(tokens: Tokens, rows: tf.Tensor, first: tf.Tensor) -> tuple[dict[str, tf.Tensor], ...]:
    """Returns features, labels and weights for predicting each token of a row from those before.

    Args:
        tokens: The tokenizer.
        rows: int32 `(n, tokens + 1)`, -1 in padding. The end token is also before each text.
        first: Index of the first label of each row that counts, int32 `(n,)`.

    Returns:
        The features, from `as_features`, but each text begins with `begin_id`, if there is one, and
        `padding_mask` is the number of the text in the row, 0 in padding; the labels `logits`,
        int32 `(n, tokens)`; and their weights, 1 or, where they do not count and in padding, 0.
    """
    following = rows[:, 1:]
    labels = {"logits": tf.maximum(following, 0)}
    counts = (following >= 0) & (tf.range(tf.shape(following)[1]) >= first[:, None])
    weights = {"logits": tf.cast(counts, tf.float32)}
    features, begins = as_features(rows[:, :-1]), rows[:, :-1] == tokens.end_id
    features["padding_mask"] *= 1 + tf.cumsum(tf.cast(begins, tf.int32), axis=1)
    if tokens.begin_id is not None:
        features["token_ids"] = tf.where(begins, tokens.begin_id, features["token_ids"])
    return features, labels, weights


def to_score(
    tokens: Tokens, prompt: tf.Tensor, text: tf.Tensor
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Returns what `models.writing.scoring` reads of prompts and the texts that follow them.

    Args:
        tokens: The tokenizer.
        prompt: Strings `(n,)`.
        text: Strings `(n,)`.

    Returns:
        `token_ids`: the token that begins a text, the prompt and the text, int32 `(n, tokens)`, -1
        in padding, and `first`, where the text begins, int32 `(n,)`; and of each text the numbers
        `tokens` and `bytes`, int32 `(n,)`. Where no token begins a text, the end token is before an
        empty prompt, as in `models.writing.continuing`.
    """
    prompts, texts = (_ragged(tokens.encode(one)) for one in (prompt, text))
    is_begun = tf.fill((prompts.nrows(), 1), True)
    if tokens.begin_id is None:
        is_begun &= prompts.row_lengths()[:, None] == 0
    begin_id = tokens.end_id if tokens.begin_id is None else tokens.begin_id
    begins = _ragged(tf.where(is_begun, begin_id, PADDING))
    rows = tf.concat([begins, prompts, texts], axis=1).to_tensor(PADDING)
    # The network predicts at least one token.
    rows = tf.pad(
        rows, [[0, 0], [0, tf.maximum(2 - tf.shape(rows)[1], 0)]], constant_values=PADDING
    )
    counts = {"tokens": texts.row_lengths(), "bytes": tf.strings.length(text)}
    first = tf.cast(begins.row_lengths() + prompts.row_lengths(), tf.int32)
    return (
        {"token_ids": rows, "first": first},
        {name: tf.cast(count, tf.int32) for name, count in counts.items()},
    )


def _ragged(token_ids: tf.Tensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_tensor(token_ids, padding=PADDING)


def valid_utf8(texts: tf.Tensor) -> tf.Tensor:
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
