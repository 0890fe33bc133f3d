"""The examples of networks that write text: documents as tokens, cut into rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from data.plain_text import PlainTexts
from data.sources import SPLITS
from data.splits import Splits
from preprocessing.byte_tokens import Bytes


@dataclass(frozen=True, kw_only=True)
class TokenRows(Splits):
    """Rows of tokens: each split is a dataset of tuples of one row, from `token_rows`.

    Args:
        streams: The tokens of each split without a cut, int32 `(tokens,)`.
        num_bytes: Number of bytes of the texts of each split, in UTF-8.
    """

    streams: Mapping[str, np.ndarray]
    num_bytes: Mapping[str, int]


def arrange(texts: PlainTexts, tokens: Bytes, length: int) -> TokenRows:
    """Cuts all splits into rows of tokens.

    Args:
        texts: The documents. Line feeds join the lines of each.
        tokens: The tokenizer.
        length: Tokens that the network reads of each row; at least 1.
    """
    documents = {split: ["\n".join(one) for one in texts.split(split)] for split in SPLITS}
    streams = {split: token_stream(some, tokens) for split, some in documents.items()}
    rows = {split: token_rows(stream, length) for split, stream in streams.items()}
    return TokenRows(
        **{split: tf.data.Dataset.from_tensor_slices((some,)) for split, some in rows.items()},
        streams=streams,
        num_bytes={
            split: sum(len(one.encode()) for one in some) for split, some in documents.items()
        },
    )


def token_stream(documents: Sequence[str], tokens: Bytes) -> np.ndarray:
    """Returns all documents in a row, with an end token before, between and after them.

    Example:
        >>> token_stream(["ab", "c"], Bytes()).tolist()
        [256, 97, 98, 256, 99, 256]
    """
    parts = [[tokens.end_id]]
    for document in documents:
        parts += [tokens.encode(tf.constant([document]))[0], [tokens.end_id]]
    stream = np.concatenate(parts)
    return stream[stream >= 0].astype("int32")


def token_rows(stream: np.ndarray, length: int) -> np.ndarray:
    """Cuts a stream into rows, each of which begins with the last token of the row before it.

    So each token but the first is predicted once, from those before it in its row.

    Args:
        stream: Integers `(tokens,)`, at least two.
        length: Tokens that are predicted in each row; at least 1.

    Returns:
        int32 `(rows, length + 1)`, -1 in the padding of the last row.

    Example:
        >>> token_rows(np.array([9, 1, 2, 3, 4, 9]), 3).tolist()
        [[9, 1, 2, 3], [3, 4, 9, -1]]
    """
    count = -(-(len(stream) - 1) // length)
    padded = np.pad(stream, (0, count * length + 1 - len(stream)), constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(padded.astype("int32"), length + 1)
    return windows[::length]
