"""Classifiers of any kind: evaluation, scores, and the outputs of their exports."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from metrics.intervals import bounds

MAX_ANSWERS = 5
"""Maximum number of classes that an exported classifier returns."""


MEANINGS = {
    "classes": "names of the most probable classes, best first",
    "scores": "their probabilities",
}
"""Meanings of the outputs of `best_classes`."""
TIES = {"classes": "scores"}
"""Which score ranks the classes of `best_classes`."""
LOGITS = "log-probabilities of all classes up to a constant"
THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Thresholds in `Evaluation.thresholds`."""
BINS = 10
"""Intervals of confidence in `Evaluation.calibration`."""

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Evaluation:
    """Labels and predictions for examples, in their order.

    Args:
        labels: True class numbers `(n,)`.
        probabilities: `(n, classes)`.
    """

    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        return self.probabilities.argmax(axis=-1)

    @property
    def losses(self) -> np.ndarray:
        """Cross-entropy of each example in nats."""
        true = self.probabilities[np.arange(len(self.labels)), self.labels]
        return -np.log(np.maximum(true, 1e-12))

    @property
    def worst(self) -> list[int]:
        """Indices of the twelve wrong predictions with the largest losses, largest first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        order = np.argsort(-self.losses[wrong], kind="stable")[:12]
        return [int(index) for index in wrong[order]]

    @property
    def correct(self) -> list[int]:
        """Indices of twelve correct predictions, or all of fewer, evenly over the examples."""
        right = np.flatnonzero(self.predictions == self.labels)
        chosen = np.unique(np.linspace(0, max(len(right) - 1, 0), 12, dtype=int))
        return right[chosen].tolist() if len(right) else []

    @property
    def scores(self) -> dict[str, float]:
        """Accuracy and its interval, loss in nats, F1; top-5 accuracy for more than ten classes.

        Macro F1 is the mean over the classes that occur among labels or predictions. Weighted F1
        weighs each class with the number of its examples.
        """
        order = np.argsort(-self.probabilities, axis=-1)
        hits = order == self.labels[:, None]
        scores = {"accuracy": float(hits[:, 0].mean())} | bounds("accuracy", hits[:, 0])
        scores["loss"] = float(self.losses.mean())
        for average in ("macro", "weighted"):
            f1 = f1_score(self.labels, self.predictions, average=average, zero_division=0)
            scores[f"{average}_f1"] = float(f1)
        if self.probabilities.shape[1] > 10:
            scores["top_5_accuracy"] = float(hits[:, :5].any(axis=1).mean())
        return scores

    def by_class(self, classes: Sequence[str]) -> tuple[tuple[str, ...], Rows]:
        """Returns heading and rows of a table of all classes; a ratio with denominator 0 is 0."""
        precision, recall, f1, count = precision_recall_fscore_support(
            self.labels, self.predictions, labels=range(len(classes)), zero_division=0
        )
        return ("class", "precision", "recall", "F1", "test examples"), [
            (name, *(f"{score[i]:.3f}" for score in (precision, recall, f1)), int(count[i]))
            for i, name in enumerate(classes)
        ]

    def confusions(self, classes: Sequence[str]) -> tuple[tuple[str, ...], Rows]:
        """Returns heading and rows of a table of the ten most frequent errors."""
        wrong = self.predictions != self.labels
        pairs = np.stack([self.labels[wrong], self.predictions[wrong]], axis=1)
        kinds, counts = np.unique(pairs, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:10]
        totals = np.bincount(self.labels, minlength=len(classes))
        return ("true", "predicted", "test examples", "fraction of the true class"), [
            (classes[true], classes[predicted], int(count), f"{count / totals[true]:.0%}")
            for (true, predicted), count in zip(kinds[order], counts[order], strict=True)
        ]

    @property
    def calibration(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean confidence, accuracy and number of examples in ten intervals of confidence.

        Intervals without an example are left out. The confidence is the probability of the
        predicted class.

        Reference:
            Guo et al., On Calibration of Modern Neural Networks, 2017, section 2.
            https://arxiv.org/abs/1706.04599
        """
        confidence = self.probabilities.max(axis=-1)
        # (0, 0.1], (0.1, 0.2], ...
        bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        counts, confidences, hits = (
            np.bincount(bins, weights, BINS)
            for weights in (None, confidence, self.predictions == self.labels)
        )
        there = counts > 0
        counts = counts[there]
        return confidences[there] / counts, hits[there] / counts, counts

    @property
    def has_thresholds(self) -> bool:
        """Whether there are two classes, and examples of both; class 1 is the positive one."""
        return self.probabilities.shape[1] == 2 and len(np.unique(self.labels)) == 2

    @property
    def roc(self) -> tuple[np.ndarray, np.ndarray, float]:
        """False positive rates and recalls over the thresholds, and the area under the curve."""
        positive = self.probabilities[:, 1]
        false_positive_rate, recall, _ = roc_curve(self.labels, positive)
        return false_positive_rate, recall, float(roc_auc_score(self.labels, positive))

    @property
    def precision_recall(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Recalls and precisions over the thresholds, and the average precision."""
        positive = self.probabilities[:, 1]
        precision, recall, _ = precision_recall_curve(self.labels, positive)
        return recall, precision, float(average_precision_score(self.labels, positive))

    @property
    def thresholds(self) -> tuple[tuple[str, ...], Rows]:
        """Returns heading and rows of a table of thresholds; a ratio with denominator 0 is 0.

        An example is predicted positive if the probability of class 1 is at least the threshold.
        """
        rows: Rows = []
        for threshold in THRESHOLDS:
            found = self.probabilities[:, 1] >= threshold
            precision, recall, f1, _ = precision_recall_fscore_support(
                self.labels, found, average="binary", zero_division=0
            )
            scores = (precision, recall, f1, found[self.labels == 0].mean())
            rows.append((threshold, *(f"{score:.3f}" for score in scores)))
        return ("threshold", "precision", "recall", "F1", "false positive rate"), rows

    def warnings(self, classes: Sequence[str]) -> list[str]:
        """Names the classes that have examples, but none that is predicted correctly."""
        hits = self.labels[self.predictions == self.labels]
        missed = np.setdiff1d(self.labels, hits)
        return without_hits("Classes", [classes[label] for label in missed])

    def row(self, index: int, classes: Sequence[str]) -> tuple[str, str, str]:
        """Returns the true class of an example, the predicted one and its probability."""
        predicted = self.predictions[index]
        return (
            classes[self.labels[index]],
            classes[predicted],
            f"{self.probabilities[index, predicted]:.0%}",
        )


@keras.saving.register_keras_serializable(package="hornbook")
class WeightedCrossentropy(keras.losses.CategoricalCrossentropy):
    """Cross-entropy of one-hot labels and logits, in nats, weighted by class.

    Computes `labels @ class_weights * cross_entropy(labels, logits)` for each example, so a blend
    of two classes (as mixup makes it) has the blend of their weights.

    Args:
        class_weights: Weight of each class; at least 0.
        label_smoothing: Share of each label that is spread over all classes, in [0, 1).
    """

    def __init__(self, class_weights: Sequence[float], label_smoothing: float = 0.0, **kwargs):
        super().__init__(from_logits=True, label_smoothing=label_smoothing, **kwargs)
        self.class_weights = list(class_weights)

    def call(self, y_true, y_pred):
        weights = keras.ops.convert_to_tensor(self.class_weights, y_pred.dtype)
        return keras.ops.matmul(y_true, weights) * super().call(y_true, y_pred)

    def get_config(self):
        config = super().get_config()
        del config["from_logits"]
        return {**config, "class_weights": self.class_weights}


def cross_entropy(
    label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
) -> keras.losses.Loss:
    """Returns the loss of classifiers: cross-entropy of one-hot labels and logits, in nats.

    Args:
        label_smoothing: As in `WeightedCrossentropy`.
        class_weights: As in `WeightedCrossentropy`. None: 1 throughout.
    """
    if class_weights is None:
        return keras.losses.CategoricalCrossentropy(True, label_smoothing=label_smoothing)
    return WeightedCrossentropy(class_weights, label_smoothing)


def without_hits(kind: str, names: Sequence[str]) -> list[str]:
    """Returns a warning that lists the first ten names that are never predicted correctly.

    Example:
        >>> without_hits("Classes", ["cat", "dog"])
        ['Classes never predicted correctly: cat, dog.']
        >>> without_hits("Classes", [])
        []
    """
    if not names:
        return []
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return [f"{kind} never predicted correctly: {', '.join(names[:10])}{more}."]


def evaluate(
    model: keras.Model, batches: tf.data.Dataset, rows: np.ndarray | None = None
) -> Evaluation:
    """Evaluates a network that returns logits.

    Args:
        model: The network.
        batches: Batches of `(features, one-hot labels)`.
        rows: Number of consecutive rows of each example, whose probabilities are averaged. None:
            each example has one row.
    """
    labels = np.concatenate([labels for _, labels in batches.as_numpy_iterator()]).argmax(-1)
    logits = model.predict(batches, verbose=0).astype("float32")
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    if rows is not None:
        begins = np.cumsum(rows) - rows
        labels = labels[begins]
        probabilities = np.add.reduceat(probabilities, begins) / rows[:, None].astype("float32")
    return Evaluation(labels, probabilities)


def best_classes(classes: Sequence[str]) -> Callable[..., dict[str, tf.Tensor]]:
    """Returns a function from logits `(n, classes)` to the most probable classes, best first.

    If examples have several rows, it also takes the index of the example of each, as `averaged`.
    """
    names, count = tf.constant(classes), min(MAX_ANSWERS, len(classes))

    def answer(logits, example=None):
        if example is not None:
            logits = averaged(logits, example)
        scores, indices = tf.math.top_k(tf.nn.softmax(logits), count)
        return {"classes": tf.gather(names, indices), "scores": scores}

    return answer


def averaged(logits: tf.Tensor, example: tf.Tensor) -> tf.Tensor:
    """Averages the probabilities of the rows of each example.

    Args:
        logits: `(rows, classes)`.
        example: Index of the example of each row, ascending, each at least once `(rows,)`.

    Returns:
        The logarithm of the mean probabilities `(examples, classes)`, which are logits, too.

    Example:
        >>> logits = tf.math.log([[0.5, 0.5], [0.75, 0.25], [0.25, 0.75]])
        >>> [round(100 * p) for p in np.exp(averaged(logits, [0, 0, 1])[:, 0])]
        [62, 25]
    """
    return tf.math.log(tf.math.segment_mean(tf.nn.softmax(logits), example))


def refusals(
    validation: Evaluation,
    test: Evaluation,
    outside: Evaluation,
    kept: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Scores a threshold of confidence on texts that belong to none of the classes.

    An example is refused if its most probable class is less probable than those of 95 % of the
    validation examples.

    Args:
        validation: Examples that decide on the threshold.
        test: Further examples of the classes.
        outside: Examples of none of the classes.
        kept: What this returned when the threshold was chosen. None: it is chosen now.
    """
    if kept is None:
        threshold = float(np.quantile(validation.probabilities.max(axis=-1), 0.05))
    elif "threshold" in kept:
        threshold = kept["threshold"]
    else:
        raise ValueError(
            "`out_of_scope` must be left out, because the network was trained without it and so "
            "has no threshold. Fix: train it with --out-of-scope, or leave that out."
        )
    return {
        "out_of_scope_recall": float((outside.probabilities.max(axis=-1) < threshold).mean()),
        "in_scope_acceptance": float((test.probabilities.max(axis=-1) >= threshold).mean()),
        "threshold": threshold,
    }
