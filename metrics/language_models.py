"""Language models: loss, evaluation, and what their exports return."""

from collections.abc import Sequence
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from metrics.ngrams import Guesses

MAX_WORDS = 5
"""Maximum number of words that `fill_gaps` returns for a gap."""


def cross_entropy() -> keras.losses.Loss:
    """Returns the mean loss over positions with a weight above 0, in nats."""
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )


def with_prior_bias(
    model: keras.Model, layer: str, weight: str, probabilities: np.ndarray
) -> keras.Model:
    """Initializes the output bias so that a network first predicts the frequencies of words.

    Otherwise it takes many steps to learn them.

    Args:
        model: A built model.
        layer: Name of the layer that computes the logits of words.
        weight: Name of the bias of this layer.
        probabilities: Probability of each word `(vocabulary,)`, each above 0. If the layer has more
            outputs, as in some presets, the others get the smallest probability.
    """
    (bias,) = (w for w in model.get_layer(layer).weights if w.name == weight)
    more = bias.shape[0] - len(probabilities)
    padded = np.pad(probabilities, (0, more), constant_values=probabilities.min())
    bias.assign(np.log(padded))
    return model


def evaluate(model: keras.Model, batches: tf.data.Dataset) -> dict[str, Guesses]:
    """Evaluates a network on batches, for each output at the labels with a weight above 0.

    Args:
        model: Maps features to logits by name, `(..., vocabulary)`.
        batches: Features, labels by name `(...)`, and their weights by name.
    """

    @partial(tf.function, reduce_retracing=True, autograph=False)
    def guesses(features, labels, weights):
        logits = model(features, training=False)
        kept = {}
        for name, true in labels.items():
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(true, logits[name])
            hits = tf.argmax(logits[name], -1, true.dtype) == true
            kept[name] = tuple(part[weights[name] > 0] for part in (losses, hits))
        return kept

    parts = [guesses(*batch) for batch in batches]
    joined = tf.nest.map_structure(lambda *chunks: np.concatenate(chunks), *parts)
    return {name: Guesses(*arrays) for name, arrays in joined.items()}


def fill_gaps(names: tf.Tensor, logits: dict[str, tf.Tensor], is_gap: tf.Tensor):
    """Returns the most probable pieces for each gap.

    Args:
        names: All pieces, strings `(vocabulary,)`.
        logits: `masked_words` `(n, gaps, vocabulary)`.
        is_gap: True for gaps, False for padding, bool `(n, gaps)`.

    Returns:
        `words` and their probabilities `scores`, `(n, gaps, 5)`; "" and 0 in padding.
    """
    count = min(MAX_WORDS, names.shape[0])
    scores, ids = tf.math.top_k(tf.nn.softmax(logits["masked_words"]), count)
    real = is_gap[:, :, None]
    return {
        "words": tf.where(real, tf.gather(names, ids), ""),
        "scores": tf.where(real, scores, 0.0),
    }


def measure_words(logits: dict[str, tf.Tensor], context: dict[str, tf.Tensor]):
    """Computes the perplexity of texts, `exp(-mean log p)` over the words in both directions.

    Args:
        logits: `forward` and `backward` of ELMo, `(n, words + 2, vocabulary)`.
        context: `words` `(n, words)` and `line` `(n, words + 2)` from `spelled_words.encode_lines`.

    Returns:
        `perplexity` `(n,)`, the `words` `(n, words)`, and their `log_probabilities` `(n, words)` in
        nats, the mean of both directions.
    """
    line = context["line"]  # begin, words, end, -1 in padding
    real = tf.cast(line >= 0, tf.float32)

    def logs(direction, targets):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(targets, 0), direction)
        return -losses

    # Forward predicts the words and the end, backward the begin and the words.
    forward = logs(logits["forward"][:, :-1], line[:, 1:]) * real[:, 1:]
    backward = logs(logits["backward"][:, 1:], line[:, :-1]) * real[:, 1:]
    total = tf.reduce_sum(forward + backward, 1)
    count = 2 * tf.reduce_sum(real[:, 1:], 1)
    is_word = tf.strings.length(context["words"]) > 0
    each = (forward[:, :-1] + backward[:, 1:]) / 2
    return {
        "perplexity": tf.exp(-total / count),
        "words": context["words"],
        "log_probabilities": tf.where(is_word, each, 0.0),
    }


def least_expected(words: Sequence[bytes], logs: Sequence[float]) -> str:
    """Lists the three words of a text with the lowest probabilities, and these probabilities."""
    order = np.argsort(np.where([bool(word) for word in words], logs, np.inf), kind="stable")[:3]
    return ", ".join(f"{words[i].decode()} {np.exp(logs[i]):.1e}" for i in order if words[i])
