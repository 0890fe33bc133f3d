"""What language models are trained and measured by: losses, answers of words, perplexities."""

from collections.abc import Sequence
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from metrics.ngrams import Guesses

MAX_WORDS = 5
"""Words that are put in a gap, the likeliest."""


def cross_entropy() -> keras.losses.Loss:
    """Returns the mean loss over what is told, in nats: where nothing is, weights are 0."""
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )


def with_prior_bias(model: keras.Model, layer: str, weight: str, shares: np.ndarray) -> keras.Model:
    """Lets a network answer the shares of words at first, which else it learns in many steps.

    Args:
        model: Built.
        layer: Name of the layer that makes the logits of words.
        weight: Name of its bias, which is set.
        shares: Probability of each word `(vocabulary,)`, each above 0. What the layer has room for
            beyond, as some presets do, gets the smallest.
    """
    (bias,) = (w for w in model.get_layer(layer).weights if w.name == weight)
    more = bias.shape[0] - len(shares)
    bias.assign(np.log(np.pad(shares, (0, more), constant_values=shares.min())))
    return model


def evaluate(model: keras.Model, batches: tf.data.Dataset) -> dict[str, Guesses]:
    """Asks a network; gives of each output the guesses at the labels whose weight is not 0.

    Args:
        model: From features to logits by name, `(..., vocabulary)`.
        batches: Features, labels by name `(...)`, and their weights.
    """

    @partial(tf.function, reduce_retracing=True, autograph=False)
    def ask(features, labels, weights):
        answer = model(features, training=False)
        found = {}
        for name, true in labels.items():
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(true, answer[name])
            hits = tf.argmax(answer[name], -1, true.dtype) == true
            found[name] = tuple(part[weights[name] > 0] for part in (losses, hits))
        return found

    parts = [ask(*batch) for batch in batches]
    joined = tf.nest.map_structure(lambda *chunks: np.concatenate(chunks), *parts)
    return {name: Guesses(*found) for name, found in joined.items()}


def fill_gaps(names: tf.Tensor, logits: dict[str, tf.Tensor], is_gap: tf.Tensor):
    """Names the likeliest pieces for each gap.

    Args:
        names: All pieces, strings `(vocabulary,)`.
        logits: `masked_words` `(n, gaps, vocabulary)`.
        is_gap: Which of the gaps there are, bool `(n, gaps)`.

    Returns:
        `words` and their probabilities `scores`, `(n, gaps, 5)`, "" and 0 where there is no gap.
    """
    most = min(MAX_WORDS, names.shape[0])
    scores, ids = tf.math.top_k(tf.nn.softmax(logits["masked_words"]), most)
    real = is_gap[:, :, None]
    return {
        "words": tf.where(real, tf.gather(names, ids), ""),
        "scores": tf.where(real, scores, 0.0),
    }


def measure_words(logits: dict[str, tf.Tensor], places: dict[str, tf.Tensor]):
    """Computes how likely texts are, `perplexity = exp(-mean log p)` over both directions.

    Args:
        logits: `forward` and `backward` of ELMo, `(n, words + 2, vocabulary)`.
        places: `words` `(n, words)` and `line` `(n, words + 2)`, from `spelled_words.encode_lines`.

    Returns:
        `perplexity` `(n,)`, the `words`, and of each in nats `log_probabilities` `(n, words)`, the
        mean of the two directions.
    """
    line = places["line"]  # begin, words, end; -1 behind
    real = tf.cast(line >= 0, tf.float32)

    def logs(direction, told):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(told, 0), direction)
        return -losses

    # Of the words and the end from those before them, of the begin and the words from those after.
    forward = logs(logits["forward"][:, :-1], line[:, 1:]) * real[:, 1:]
    backward = logs(logits["backward"][:, 1:], line[:, :-1]) * real[:, 1:]
    total = tf.reduce_sum(forward + backward, 1)
    count = 2 * tf.reduce_sum(real[:, 1:], 1)
    is_word = tf.strings.length(places["words"]) > 0
    each = (forward[:, :-1] + backward[:, 1:]) / 2
    return {
        "perplexity": tf.exp(-total / count),
        "words": places["words"],
        "log_probabilities": tf.where(is_word, each, 0.0),
    }


def least_expected(words: Sequence[bytes], logs: Sequence[float]) -> str:
    """Names the three words of a text with the lowest log-probabilities, and these as shares."""
    order = np.argsort(np.where([bool(word) for word in words], logs, np.inf), kind="stable")[:3]
    return ", ".join(f"{words[i].decode()} {np.exp(logs[i]):.1e}" for i in order if words[i])
