"""Byte pairs and layouts of GPT, with operations of TensorFlow and TensorFlow Text only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from preprocessing.windows import segments
from preprocessing.word_pieces import WordPieces, as_graph, lone_tokenizer
from preprocessing.words import cleaned


class BytePairs:
    """Splits texts into the byte pairs of a pretrained GPT-2, plus two tokens for tasks.

    Reference:
        Radford et al., Language Models are Unsupervised Multitask Learners, 2019, section 2.2.

    Args:
        tokenizer: A `keras_hub.models.GPT2Tokenizer`, kept as the attribute `tokenizer`. The
            attribute `resources` contains it, for an exported signature.
    """

    specials = (2, 3)
    """Number of special tokens of a single text, and of a pair."""

    def __init__(self, tokenizer: Any):
        tokenizer.build(None)
        self.tokenizer = tokenizer
        self.resources = (tokenizer,)
        known = tokenizer.vocabulary_size()
        self.vocabulary_size = known + 2
        self.pad_id = tokenizer.pad_token_id
        self.start_id = tokenizer.start_token_id
        self.delimiter_id = known
        self.extract_id = known + 1
        tokenizer._maybe_initialized_tf()
        del tokenizer.cache
        tokenizer.cache = _Unsplit(tokenizer.unsplittable_tokens)
        self._tokenize = as_graph(tokenizer)

    @classmethod
    def from_preset(cls, preset: str | Path) -> "BytePairs":
        """Reads the vocabulary of a pretrained network.

        Args:
            preset: Name of a KerasHub preset, a folder that KerasHub can read, or a folder that
                `save` wrote.
        """
        import keras_hub

        tokenizer = lone_tokenizer(preset)
        return cls(tokenizer or keras_hub.models.GPT2Tokenizer.from_preset(str(preset)))

    def save(self, folder: str | Path) -> None:
        """Saves the tokenizer for `from_preset`."""
        self.tokenizer.save_to_preset(str(folder))

    def ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of the byte pairs of texts `(n,)`, int32 `(n, (pieces))`."""
        return self._tokenize(cleaned(texts))


class _Unsplit:
    """Replaces KerasHub's cache, a table that keeps the byte pairs of every word it has seen.

    With that table the memory of a server would grow with each new word, and an export would
    contain words of the training texts. This one only knows the tokens that are never split.

    Args:
        tokens: Tokens that are never split.
    """

    def __init__(self, tokens: Sequence[str]):
        self._tokens = list(tokens)
        self._inserted: tf.Tensor | None = None

    def lookup(self, words: tf.Tensor) -> tf.Tensor:
        """Returns the byte pairs of words `(n,)`, separated by spaces; empty for unknown words.

        In the call after `insert` all words are known.
        """
        known = tf.reduce_any(words[:, None] == tf.constant(self._tokens, tf.string), axis=1)
        split = tf.where(known, words, "")
        if self._inserted is not None:
            split = tf.tensor_scatter_nd_update(split, tf.where(~known), self._inserted)
            self._inserted = None
        return split

    def insert(self, words: tf.Tensor, split: tf.Tensor) -> None:
        """Stores the byte pairs of the words that `lookup` did not know, in their order."""
        self._inserted = split


def encode_gpt(
    tokens: WordPieces | BytePairs,
    texts: tf.Tensor,
    length: int,
    both_orders: bool = False,
    fixed: bool = True,
) -> dict[str, tf.Tensor]:
    """Encodes texts, or pairs of texts, in GPT-1's layout for tasks.

    A text becomes `start text extract`, a pair `start first delimiter second extract`. Pairs such
    as paraphrases, whose order has no meaning, are encoded in both orders. With `WordPieces` the
    start, delimiter and extract tokens are `[CLS]`, `[SEP]` and `[MASK]`.

    Reference:
        Radford et al., Improving Language Understanding by Generative Pre-Training, 2018,
        section 3.3 and figure 1.

    Args:
        tokens: The tokenizer.
        texts: Strings `(n, 1)` or, for pairs, `(n, 2)`.
        length: Tokens per row, special tokens included. Longer texts are truncated; in a pair, the
            longer text first.
        both_orders: Whether to encode pairs in both orders.
        fixed: As in `WordPieces.encode`.

    Returns:
        int32 `token_ids` and `padding_mask` `(n, orders, length)`, and `extract` `(n, orders)`, the
        index of the extract token; orders is 2 if `both_orders`, else 1.
    """
    pieces = segments(texts, tokens.ids, length, tokens.specials)
    if both_orders and len(pieces) == 1:
        raise ValueError(
            "`texts` must be pairs `(n, 2)` to be read in both orders. "
            f"Received: texts of shape {tuple(texts.shape)}"
        )
    return packed_gpt(tokens, pieces, length if fixed else None, both_orders)


def packed_gpt(
    tokens: WordPieces | BytePairs, pieces: list, width: int | None, both_orders: bool = False
) -> dict[str, tf.Tensor]:
    """Joins segments `(n, (pieces))` in GPT-1's layout and pads the rows to a width."""
    orders = [pieces, pieces[::-1]] if both_orders else [pieces]
    rows = [_joined(tokens, order) for order in orders]
    shape = (None, width)
    padded = [row.to_tensor(tokens.pad_id, shape=shape) for row in rows]
    masks = [tf.ones_like(row).to_tensor(0, shape=shape) for row in rows]
    return {
        "token_ids": tf.stack(padded, 1),
        "padding_mask": tf.stack(masks, 1),
        "extract": tf.stack([tf.cast(row.row_lengths(), tf.int32) - 1 for row in rows], 1),
    }


def _joined(tokens: WordPieces | BytePairs, pieces: list) -> tf.RaggedTensor:
    parts = []
    for number, segment in enumerate(pieces):
        mark = tokens.delimiter_id if number else tokens.start_id
        parts += [tf.fill((segment.nrows(), 1), mark), segment]
    return tf.concat([*parts, tf.fill((pieces[0].nrows(), 1), tokens.extract_id)], 1)
