"""Language models: loss, evaluation, and the outputs of their exports."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from metrics.ngrams import NO_CONTEXT, Guesses

DIRECTIONS = ("forward", "backward")
"""Outputs of ELMo: predictions of the next word, and of the previous one."""

MAX_WORDS = 5
"""Maximum number of words that `fill_gaps` returns for a gap."""

GAP_MEANINGS = {
    "words": "the most probable word pieces for each gap, best first",
    "scores": 'their probabilities; 0, and "" in `words`, where a text has fewer gaps',
}
"""Meanings of the outputs of `fill_gaps`."""

WORD_MEANINGS = {
    "perplexity": "e to the mean cross-entropy, in nats, of each word and the end of the text, "
    "predicted from the words before it and from those after it",
    "words": 'the words that are read; "" after the end of the text',
    "log_probabilities": "the log-probability of each word, in nats: the mean of the prediction "
    "from the words before it and of that from the words after it",
}
"""Meanings of the outputs of `measure_words`."""

LOGITS = {
    "masked_words": "log-probabilities of all word pieces for each hidden token, up to a constant",
    "next_sentence": "log-probabilities, up to a constant, that the second segment comes from "
    "elsewhere, and that it continues the first one",
    "forward": "log-probabilities of all words to follow each word, up to a constant",
    "backward": "log-probabilities of all words to precede each word, up to a constant",
    "logits": "log-probabilities of all tokens to follow each token, up to a constant",
}
"""Meanings of what language models return."""


def cross_entropy(label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Returns the mean loss over positions with a weight above 0, in nats.

    Args:
        label_smoothing: As in `SmoothedCrossEntropy`.
    """
    if label_smoothing:
        return SmoothedCrossEntropy(label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )


@keras.saving.register_keras_serializable(package="hornbook")
class SmoothedCrossEntropy(keras.losses.Loss):
    """The cross-entropy with labels of which a share is spread evenly over the vocabulary.

    Computes `-(1 - e) log p_label - e mean(log p)` with the share e, without a label for each token
    of the vocabulary. By default, the mean counts positions by their weights.

    Reference:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016, section 7.
        https://arxiv.org/abs/1512.00567

    Args:
        label_smoothing: The share, in [0, 1).
        reduction: As in Keras' losses.

    Call arguments:
        y_true: Labels, integers `(...)`.
        y_pred: Logits `(..., vocabulary)`.
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        reduction: str = "mean_with_sample_weight",
        name: str = "smoothed_cross_entropy",
        **kwargs,
    ):
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        # Keras makes the labels floats, which are exact up to 2**24.
        y_true = tf.cast(y_true, tf.int32)
        return _smoothed_losses(y_true, y_pred, self.label_smoothing)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def _smoothed_losses(labels: tf.Tensor, logits: tf.Tensor, share: float) -> tf.Tensor:
    """Returns the loss of each position `(...)`; its gradient is the size of the logits once."""

    @tf.custom_gradient
    def losses(logits):
        # The operation computes the gradient of its loss, too: softmax minus the label.
        flat, numbers = tf.reshape(logits, (-1, logits.shape[-1])), tf.reshape(labels, (-1,))
        entropy, gradient = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
            features=flat, labels=numbers
        )
        indices = tf.stack([tf.range(tf.size(numbers)), numbers], axis=-1)
        excess = tf.gather(flat, numbers, batch_dims=1) - tf.reduce_mean(flat, axis=-1)

        def backward(upstream):
            whole = gradient - share / logits.shape[-1]
            ones = tf.fill((tf.size(numbers),), share)
            whole = tf.tensor_scatter_nd_add(whole, indices, ones)
            return tf.reshape(whole, tf.shape(logits)) * upstream[..., None]

        return tf.reshape(entropy + share * excess, tf.shape(labels)), backward

    return losses(logits)


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

    @partial(tf.function, input_signature=batches.element_spec, autograph=False)
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


def both_ways(guesses: Mapping[str, Guesses], prefix: str = "") -> dict[str, float]:
    """Scores the predictions of `forward` and `backward` together, and the perplexity of each.

    Args:
        guesses: By direction.
        prefix: Put before each name.
    """
    scores = guesses["forward"].joined(guesses["backward"]).named(prefix)
    for direction in DIRECTIONS:
        scores[f"{prefix}{direction}_perplexity"] = guesses[direction].scores["perplexity"]
    return scores


def masked_contexts(batches: tf.data.Dataset, mask_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the piece before each hidden piece, as BERT sees it, and the hidden piece.

    Args:
        batches: Features, labels and weights, as from `preprocessing.hidden_words.labeled`.
        mask_id: Id of `[MASK]`.

    Returns:
        Two int32 arrays `(hidden pieces,)`. The piece before is -1 if it is `[MASK]`.
    """
    contexts, hidden = [], []
    for features, labels, weights in batches:
        positions = tf.maximum(features["mask_positions"] - 1, 0)
        before = tf.gather(features["token_ids"], positions, batch_dims=1)
        before = tf.where(before == mask_id, NO_CONTEXT, before)
        real = weights["masked_words"] > 0
        contexts.append(before[real])
        hidden.append(labels["masked_words"][real])
    return np.concatenate(contexts), np.concatenate(hidden)


def fill_gaps(pieces: Sequence[str]) -> Callable[..., dict[str, tf.Tensor]]:
    """Returns the function that names the most probable word pieces for each gap.

    It maps a dict with the logits `masked_words` `(n, gaps, vocabulary)`, and bool `(n, gaps)`,
    False in padding, to `words` and their probabilities `scores`, `(n, gaps, 5)`; "" and 0 in
    padding.

    Args:
        pieces: The vocabulary.
    """
    names, count = tf.constant(pieces), min(MAX_WORDS, len(pieces))

    def answer(logits, is_gap):
        scores, ids = tf.math.top_k(tf.nn.softmax(logits["masked_words"]), count)
        real = is_gap[:, :, None]
        return {
            "words": tf.where(real, tf.gather(names, ids), ""),
            "scores": tf.where(real, scores, 0.0),
        }

    return answer


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

    # Forward predicts the words and the end, backward the beginning and the words.
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


def comparison(
    scores: Mapping[str, float], predictors: Mapping[str, str], kinds: Sequence[str]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns heading and rows of a table of scores, a row for each predictor.

    Args:
        scores: Scores by name; predictors without scores have no row.
        predictors: Prefix of the scores of each predictor, by its description.
        kinds: Suffixes of the scores, such as `perplexity`; a column for each.

    Example:
        >>> scores = {"accuracy": 0.5, "unigram_accuracy": 0.0712345}
        >>> comparison(scores, {"BERT": "", "frequencies": "unigram_"}, ["accuracy"])
        (('predicted by', 'accuracy'), [('BERT', '0.5'), ('frequencies', '0.07123')])
    """
    rows = [
        (description, *(f"{scores[prefix + kind]:.4g}" for kind in kinds))
        for description, prefix in predictors.items()
        if prefix + kinds[0] in scores
    ]
    return ("predicted by", *(kind.replace("_", " ") for kind in kinds)), rows


def beaten(scores: Mapping[str, float], predictors: Mapping[str, str], kind: str) -> list[str]:
    """Names the predictors that are better than the network.

    Args:
        scores: Scores by name; smaller ones are better. Predictors without scores are left out.
        predictors: As in `comparison`; the first is the network.
        kind: Suffix of the scores.

    Example:
        >>> scores = {"perplexity": 20.0, "unigram_perplexity": 12.5}
        >>> beaten(scores, {"BERT": "", "frequencies": "unigram_"}, "perplexity")
        ['A simpler predictor beats this network, with perplexity 12.5 against 20: frequencies.']
    """
    measured = {name: scores.get(prefix + kind) for name, prefix in predictors.items()}
    (_, own), *others = ((name, score) for name, score in measured.items() if score is not None)
    return [
        f"A simpler predictor beats this network, with {kind.replace('_', ' ')} {score:.4g} "
        f"against {own:.4g}: {name}."
        for name, score in others
        if score < own
    ]


def listed(words: Sequence[bytes], scores: Sequence[float]) -> str:
    """Lists words with their probabilities.

    Example:
        >>> listed([b"red", b"blue"], [0.75, 0.125])
        'red 75% · blue 12%'
    """
    return " · ".join(f"{word.decode()} {p:.0%}" for word, p in zip(words, scores, strict=True))


def least_expected(words: Sequence[bytes], logs: Sequence[float]) -> str:
    """Lists the three words of a text with the lowest probabilities, and these probabilities."""
    order = np.argsort(np.where([bool(word) for word in words], logs, np.inf), kind="stable")[:3]
    return ", ".join(f"{words[i].decode()} {np.exp(logs[i]):.1e}" for i in order if words[i])
