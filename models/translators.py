"""The networks that translate, by name."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from models import seq2seq, transformer
from models.generation import Steps
from models.writing import chosen

NAMES = ("seq2seq", *transformer.NAMES)


def translator(
    name: str,
    vocabulary_size: int,
    *,
    cell: str,
    attention: str,
    luong_score: str,
    units: int,
    dropout: float,
    norm_first: bool = False,
) -> keras.Model:
    """Builds a network that predicts the next token of a translation, with random weights.

    Args:
        name: One of `NAMES`.
        vocabulary_size: Number of different tokens in both languages together; at least 1.
        cell: As in `models.seq2seq.seq2seq`, and so are the next three.
        attention: `bahdanau`, `luong` or `none`.
        luong_score: `dot`, `general` or `concat`.
        units: Features of a token and of each recurrent state; even.
        dropout: Dropout rate, in [0, 1).
        norm_first: As in `models.transformer.transformer`.

    Returns:
        A model from `source_ids` and `target_ids` to `logits`, as these functions return it.
    """
    if name == "seq2seq":
        return seq2seq.seq2seq(vocabulary_size, cell, attention, luong_score, units, dropout)
    size = name.removeprefix("transformer_")
    return transformer.transformer(vocabulary_size, size, dropout, norm_first)


def steps_of(name: str, begin_id: int, length: int) -> Callable[[keras.Model], Steps]:
    """Returns the function from a network of this name to how it writes token by token.

    Args:
        name: One of `NAMES`.
        begin_id: The token before the first one of a translation.
        length: Maximum number of tokens of a translation.
    """
    if name == "seq2seq":
        return partial(seq2seq.seq2seq_steps, begin_id=begin_id)
    return partial(transformer.transformer_steps, begin_id=begin_id, context=length)


def attention_of(
    name: str, attention: str, layer: int | None = None, head: int | None = None
) -> Callable[[keras.Model, Any, Any], tf.Tensor] | None:
    """Returns the function from a network, source and target to the weight of each source token.

    Args:
        name: One of `NAMES`.
        attention: As in `translator`; with `none` a seq2seq has no weights to return.
        layer: Index of the layer of a Transformer. None: the mean of all.
        head: Index of the head. None: the mean of all.
    """
    if name == "seq2seq" and attention == "none":
        return None
    is_recurrent = name == "seq2seq"
    weights = seq2seq.seq2seq_attention if is_recurrent else transformer.transformer_attention
    return lambda *inputs: chosen(weights(*inputs), layer, head)
