"""Language models of bytes, measured in bits and compared with n-grams."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from metrics import language_models
from metrics.ngrams import witten_bell

NGRAM = 5
"""Bytes of the n-grams that the network is compared with."""


def bits_per_byte(losses: np.ndarray, num_bytes: int) -> float:
    """Returns the cross-entropy in bits per byte of a text, regardless of its tokens.

    Args:
        losses: Nats of each token `(tokens,)`, end tokens included.
        num_bytes: Number of bytes of the text in UTF-8; at least 1.

    Example:
        >>> round(bits_per_byte(np.array([np.log(8), np.log(2)]), 2), 6)
        2.0
    """
    return float(losses.sum(dtype="float64") / (np.log(2) * num_bytes))


def word_perplexity(losses: np.ndarray, num_words: int) -> float:
    """Returns the perplexity per word of a text, regardless of its tokens.

    Computes `exp(nats / words)`. It is infinite if a float cannot hold it, as in texts whose words
    have no white space between them.

    Args:
        losses: Nats of each token `(tokens,)`, end tokens included.
        num_words: Number of words of the text, which white space separates.

    Example:
        >>> round(word_perplexity(np.log([8, 2, 4]), 2), 6)
        8.0
    """
    with np.errstate(over="ignore", divide="ignore"):
        return float(np.exp(losses.sum(dtype="float64") / np.float64(num_words)))


def in_bits(
    history: Mapping[str, Sequence[float]], validation: tf.data.Dataset, rows: Any
) -> dict[str, list[float]]:
    """Returns the losses of each epoch in bits per byte, by name.

    Args:
        history: `loss` and `val_loss` in nats per token; empty if nothing was trained.
        validation: The validation batches, as `metrics.language_models.evaluate` takes them. Their
            number of tokens per byte is that of the training texts, too.
        rows: As in `evaluate`.
    """
    if not history:
        return {}
    tokens = sum(np.count_nonzero(weights["logits"]) for *_, weights in validation)
    num_bytes = rows.num_bytes["validation"]
    return {
        bits: [bits_per_byte(np.array(loss * tokens), num_bytes) for loss in history[nats]]
        for bits, nats in (("bits_per_byte", "loss"), ("val_bits_per_byte", "val_loss"))
    }


def evaluate(model: keras.Model, batches: tf.data.Dataset, rows: Any) -> dict[str, float]:
    """Scores a network on the test texts.

    Args:
        model: Maps features to `logits`.
        batches: The test batches, as `metrics.language_models.evaluate` takes them.
        rows: Has `num_bytes` and `num_words`, the numbers of bytes and words of the texts of each
            split that are predicted.

    Returns:
        `bits_per_byte`, `accuracy` and `perplexity` of tokens, and `word_perplexity` if it is
        finite.
    """
    guesses = language_models.evaluate(model, batches)["logits"]
    of_words = word_perplexity(guesses.losses, rows.num_words["test"])
    return {
        "bits_per_byte": bits_per_byte(guesses.losses, rows.num_bytes["test"]),
        **guesses.scores,
        **({"word_perplexity": of_words} if np.isfinite(of_words) else {}),
    }


def baselines(
    rows: Any, vocabulary_size: int, predicted: np.ndarray | None = None
) -> dict[str, tuple[str, float]]:
    """Describes n-grams that are counted in the training texts, and measures their bits per byte.

    Args:
        rows: Has `streams`, the tokens of each split, and `num_bytes`, as in `evaluate`.
        vocabulary_size: Number of different tokens of `streams`.
        predicted: Whether each test token is predicted, bool `(tokens,)`. None: all are.
    """
    losses = witten_bell(rows.streams["train"], rows.streams["test"], vocabulary_size, NGRAM)
    if predicted is not None:
        losses = losses[predicted[1:]]
    bits = bits_per_byte(losses, rows.num_bytes["test"])
    return {"ngram": (f"the {NGRAM - 1} bytes before, counted", bits)}
