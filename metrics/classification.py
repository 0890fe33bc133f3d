"""What classifiers have in common, whatever they classify: answers, scores, loss, metric."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

MOST_ANSWERS = 5
"""Classes that an exported classifier names at the most, the likeliest."""


@dataclass(frozen=True)
class Evaluation:
    """What the network says of the test examples, in their order.

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
        """Indices of the twelve wrong answers of the largest losses, worst first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        order = np.argsort(-self.losses[wrong], kind="stable")[:12]
        return [int(index) for index in wrong[order]]

    @property
    def scores(self) -> dict[str, float]:
        order = np.argsort(-self.probabilities, axis=-1)
        hits = order == self.labels[:, None]
        scores = {"accuracy": float(hits[:, 0].mean()), "loss": float(self.losses.mean())}
        if self.probabilities.shape[1] > 10:
            scores["top_5_accuracy"] = float(hits[:, :5].any(axis=1).mean())
        return scores


def evaluate(model: keras.Model, batches: tf.data.Dataset) -> Evaluation:
    """Asks a network that returns logits about batches of `(features, one-hot labels)`."""
    labels = np.concatenate([labels for _, labels in batches.as_numpy_iterator()]).argmax(-1)
    logits = model.predict(batches, verbose=0).astype("float32")
    return Evaluation(labels, keras.ops.convert_to_numpy(keras.ops.softmax(logits)))


def best_classes(classes: Sequence[str]) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns what makes of logits `(n, classes)` the names and probabilities of the likeliest."""
    names, count = tf.constant(classes), min(MOST_ANSWERS, len(classes))

    def answer(logits):
        scores, indices = tf.math.top_k(tf.nn.softmax(logits), count)
        return {"classes": tf.gather(names, indices), "scores": scores}

    return answer
