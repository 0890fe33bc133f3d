"""Language models of bytes, measured in bits and compared with n-grams."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from metrics import language_models
from metrics.ngrams import witten_bell

NGRAM = 5
"""Bytes of the n-grams that the network is compared with."""
PREDICTORS = {"the network": "", f"the {NGRAM - 1} bytes before, counted": "ngram_"}
"""What reports compare, and what the names of its scores begin with."""


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


def evaluate(
    model: keras.Model,
    batches: tf.data.Dataset,
    rows: Any,
    vocabulary_size: int,
    predicted: np.ndarray | None = None,
) -> dict[str, float]:
    """Scores a network on the test texts, and n-grams that are counted in the training texts.

    Args:
        model: Maps features to `logits`.
        batches: The test batches, as `metrics.language_models.evaluate` takes them.
        rows: Has `streams`, the tokens of each split, and `num_bytes`, the number of bytes of the
            texts of each split that are predicted.
        vocabulary_size: Number of different tokens.
        predicted: Whether each test token is predicted, bool `(tokens,)`. None: all are.
    """
    guesses = language_models.evaluate(model, batches)["logits"]
    counted, test, num_bytes = rows.streams["train"], rows.streams["test"], rows.num_bytes["test"]
    ngrams = witten_bell(counted, test, vocabulary_size, NGRAM)
    if predicted is not None:
        ngrams = ngrams[predicted[1:]]
    return {
        "bits_per_byte": bits_per_byte(guesses.losses, num_bytes),
        **guesses.scores,
        "ngram_bits_per_byte": bits_per_byte(ngrams, num_bytes),
    }
