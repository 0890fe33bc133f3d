"""Classifiers of any kind: evaluation, scores, and what their exports return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import f1_score, precision_recall_fscore_support

from metrics.intervals import bounds

MAX_ANSWERS = 5
"""Maximum number of classes that an exported classifier returns."""


MEANINGS = {
    "classes": "names of the most probable classes, best first",
    "scores": "their probabilities",
}
"""Meanings of what `best_classes` returns."""
TIES = {"classes": "scores"}
"""Which score ranks the classes of `best_classes`."""
LOGITS = "log-probabilities of all classes up to a constant"
HEADING = ("class", "precision", "recall", "F1", "test examples")
"""Columns of `Evaluation.by_class`."""


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
    def scores(self) -> dict[str, float]:
        """Accuracy and its interval, loss in nats, F1, and of more than ten classes the top five.

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

    def by_class(self, classes: Sequence[str]) -> list[tuple[Any, ...]]:
        """Returns a row of `HEADING` for each class; what nothing is divided by is 0."""
        precision, recall, f1, count = precision_recall_fscore_support(
            self.labels, self.predictions, labels=range(len(classes)), zero_division=0
        )
        return [
            (name, *(f"{score[i]:.3f}" for score in (precision, recall, f1)), int(count[i]))
            for i, name in enumerate(classes)
        ]

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

    def caption(self, index: int, classes: Sequence[str]) -> str:
        """Describes the prediction for an example in three lines of at most 24 characters."""
        true, predicted, confidence = self.row(index, classes)
        lines = (f"predicted {predicted}", f"true {true}", f"({confidence})")
        return "\n".join(line if len(line) <= 24 else f"{line[:23]}…" for line in lines)


def without_hits(kind: str, names: Sequence[str]) -> list[str]:
    """Returns a warning that names what is never predicted correctly, the first ten.

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


def evaluate(model: keras.Model, batches: tf.data.Dataset) -> Evaluation:
    """Evaluates a network that returns logits on batches of `(features, one-hot labels)`."""
    labels = np.concatenate([labels for _, labels in batches.as_numpy_iterator()]).argmax(-1)
    logits = model.predict(batches, verbose=0).astype("float32")
    return Evaluation(labels, keras.ops.convert_to_numpy(keras.ops.softmax(logits)))


def best_classes(classes: Sequence[str]) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns a function from logits `(n, classes)` to the most probable classes, best first."""
    names, count = tf.constant(classes), min(MAX_ANSWERS, len(classes))

    def answer(logits):
        scores, indices = tf.math.top_k(tf.nn.softmax(logits), count)
        return {"classes": tf.gather(names, indices), "scores": scores}

    return answer


def refusals(validation: Evaluation, test: Evaluation, outside: Evaluation) -> dict[str, float]:
    """Scores a threshold of confidence on texts that belong to none of the classes.

    An example is refused if its most probable class is less probable than those of 95 % of the
    validation examples.

    Args:
        validation: Examples that decide on the threshold.
        test: Further examples of the classes.
        outside: Examples of none of the classes.
    """
    threshold = float(np.quantile(validation.probabilities.max(axis=-1), 0.05))
    return {
        "out_of_scope_recall": float((outside.probabilities.max(axis=-1) < threshold).mean()),
        "in_scope_acceptance": float((test.probabilities.max(axis=-1) >= threshold).mean()),
        "threshold": threshold,
    }
