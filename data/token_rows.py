"""The examples of networks that write text: documents as tokens, cut into rows."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import tensorflow as tf

from data.plain_text import PlainTexts
from data.sources import SPLITS
from data.splits import Splits
from preprocessing.byte_tokens import Bytes, Tokens

CHUNK = 256
"""Maximum number of texts that are encoded together."""
PADDED = 1_000_000
"""Maximum number of characters that they have together, padding included; a longer text is cut."""
_BETWEEN_WORDS = re.compile(r"(?<=[^\W\d_]) (?=[^\W\d_])")
"""A space between two letters, before which a word ends by all splitting rules."""


@dataclass(frozen=True, kw_only=True)
class TokenRows(Splits):
    """Rows of tokens: each split is a dataset of rows and the first label that counts in each, from
    `token_rows`. Test rows overlap by half, so that each token is predicted from at least that.

    Args:
        streams: The bytes of each split without a cut, 256 between the texts, int32 `(bytes,)`,
            for predictors that count them, regardless of the tokens of the network.
        num_bytes: Number of bytes of the texts of each split, in UTF-8.
        num_words: Number of their words, which white space separates.
    """

    streams: Mapping[str, np.ndarray]
    num_bytes: Mapping[str, int]
    num_words: Mapping[str, int]


def arrange(texts: PlainTexts, tokens: Tokens, length: int) -> TokenRows:
    """Cuts all splits into rows of tokens.

    Args:
        texts: The documents. Line feeds join the lines of each.
        tokens: The tokenizer.
        length: Tokens that the network reads of each row; at least 1.
    """
    documents = {split: ["\n".join(one) for one in texts.split(split)] for split in SPLITS}
    strides = {"test": max(length // 2, 1)}
    rows = {
        split: token_rows(token_stream(some, tokens), length, strides.get(split))
        for split, some in documents.items()
    }
    return TokenRows(
        **{split: tf.data.Dataset.from_tensor_slices(some) for split, some in rows.items()},
        streams={split: token_stream(some, Bytes()) for split, some in documents.items()},
        num_bytes={
            split: sum(len(one.encode()) for one in some) for split, some in documents.items()
        },
        num_words={
            split: sum(len(one.split()) for one in some) for split, some in documents.items()
        },
    )


def token_stream(documents: Sequence[str], tokens: Tokens) -> np.ndarray:
    """Returns all documents in a row, with an end token between them, before and after them.

    Example:
        >>> token_stream(["ab", "c"], Bytes()).tolist()
        [256, 97, 98, 256, 99, 256]
    """
    end = np.array([tokens.end_id], "int32")
    parts = [part for ids in encoded(documents, tokens) for part in (ids, end)]
    return np.concatenate([end, *parts])


def encoded(texts: Sequence[str], tokens: Tokens) -> Iterator[np.ndarray]:
    """Yields the tokens of each text, int32 `(tokens,)`, and encodes many texts together."""
    parts = [_parts(text) for text in texts]
    rows = _rows([part for some in parts for part in some], tokens)
    for some in parts:
        yield np.concatenate([next(rows) for _ in some])


def _parts(text: str) -> list[str]:
    """Cuts a text at the first end of a word after each `PADDED` characters."""
    ends = [0]
    while found := _BETWEEN_WORDS.search(text, ends[-1] + PADDED):
        ends.append(found.start())
    return [text[begin:end] for begin, end in pairwise([*ends, len(text)])]


def _rows(texts: Sequence[str], tokens: Tokens) -> Iterator[np.ndarray]:
    """Yields the tokens of each text, int32 `(tokens,)`."""
    begin = longest = 0
    for end, text in enumerate((*texts, "")):
        longest = max(longest, len(text))
        # Together they are padded to the longest, which may be a book.
        if end == len(texts) or end - begin == CHUNK or (end + 1 - begin) * longest > PADDED:
            if end > begin:
                rows = tokens.encode(tf.constant(texts[begin:end])).numpy()
                yield from (row[row >= 0] for row in rows)
            begin, longest = end, len(text)


def token_rows(
    stream: np.ndarray, length: int, stride: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a stream into rows. Each token but the first is a label that counts in one row.

    Args:
        stream: Integers `(tokens,)`, at least two.
        length: Labels of each row, from the second token on; at least 1.
        stride: How many tokens after the row before it each row begins; 1 to `length`. None:
            `length`, so that no label is in two rows.

    Returns:
        int32 `(rows, length + 1)`, -1 in the padding of the last row, and the index of the first
        label that counts in each row, int32 `(rows,)`: the ones before it count in another row.

    Example:
        >>> rows, first = token_rows(np.array([9, 1, 2, 3, 4, 9]), 3)
        >>> rows.tolist(), first.tolist()
        ([[9, 1, 2, 3], [3, 4, 9, -1]], [0, 0])
        >>> rows, first = token_rows(np.array([9, 1, 2, 3, 4, 9]), 3, stride=1)
        >>> rows.tolist(), first.tolist()
        ([[9, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 9]], [0, 2, 2])
    """
    stride = stride or length
    count = 1 + max(-(-(len(stream) - 1 - length) // stride), 0)
    width = (count - 1) * stride + length + 1
    padded = np.pad(stream, (0, width - len(stream)), constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(padded.astype("int32"), length + 1)
    first = np.where(np.arange(count) > 0, length - stride, 0).astype("int32")
    return windows[::stride], first
