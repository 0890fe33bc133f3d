"""Preferences between answers: loss, scores and tables of a network that rates answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops

from metrics.intervals import bounds

BINS = 10
"""Intervals of confidence, from 0.5 to 1, in `Preferences.calibration`."""
GROUPS = 5
"""Number of groups of pairs in `Preferences.by_difference`."""
SIMILAR = 0.1
"""Maximum difference of two lengths, as a share of the larger, that count as similar."""

Rows = list[tuple[Any, ...]]


def pairs(there: Any, rewards: Any) -> tuple[Any, Any]:
    """Compares each answer with all that are ranked below it.

    Args:
        there: 1 for each answer, 0 after the last, `(n, answers)`.
        rewards: Their rewards in order of rank, the best first, `(n, answers)`.

    Returns:
        The margins, reward of the better less that of the worse, and weights of the pairs, both
        `(n, answers, answers)`. The weights of a prompt sum to 1.
    """
    count = rewards.shape[1]
    above = np.triu(np.ones((count, count), "float32"), 1)
    there = ops.cast(there, "float32")
    weights = there[:, :, None] * there[:, None, :] * above
    total = ops.sum(weights, axis=(1, 2), keepdims=True)
    return rewards[:, :, None] - rewards[:, None, :], weights / ops.maximum(total, 1.0)


@keras.saving.register_keras_serializable(package="hornbook")
class PairwiseLoss(keras.losses.Loss):
    """Mean of `-log sigmoid(margin)` over all pairs of answers of a prompt, in nats.

    The margin is the reward of the better answer less that of the worse. A prompt counts as one
    example, no matter how many answers it has.

    Reference:
        Ouyang et al., Training Language Models to Follow Instructions with Human Feedback, 2022,
        equation 1. https://arxiv.org/abs/2203.02155
    """

    def call(self, y_true, y_pred):
        margins, weights = pairs(y_true, ops.cast(y_pred, "float32"))
        return ops.sum(weights * ops.softplus(-margins), axis=(1, 2))


def accuracy() -> keras.metrics.Metric:
    """Returns the metric of each epoch: the share of pairs in which the better answer gets more."""

    def correct(y_true, y_pred):
        margins, weights = pairs(y_true, y_pred)
        return ops.sum(weights * _hits(margins), axis=(1, 2))

    return keras.metrics.MeanMetricWrapper(correct, name="accuracy")


def _hits(margins: Any) -> Any:
    """Returns 1 for each correct pair, and a half where both answers get the same."""
    return (ops.sign(margins) + 1) / 2


@dataclass(frozen=True)
class Preferences:
    """Rewards of ranked answers.

    Args:
        rewards: Rewards on the scale of the loss `(n, answers)`, the best answer first.
        lengths: Length of each answer in bytes `(n, answers)`, 0 after the last.
        sets: Name of the data set of each prompt.
    """

    rewards: np.ndarray
    lengths: np.ndarray
    sets: Sequence[str]

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Number of the prompt of each pair, and those of its better and of its worse answer."""
        count = self.lengths.shape[1]
        above = np.triu(np.ones((count, count), bool), 1)
        there = self.lengths > 0
        prompt, better, worse = np.nonzero(there[:, :, None] & there[:, None, :] & above)
        return prompt, better, worse

    def _differences(self, values: np.ndarray) -> np.ndarray:
        prompt, better, worse = self.pairs
        return values[prompt, better] - values[prompt, worse]

    @cached_property
    def margins(self) -> np.ndarray:
        """Reward of the better answer of each pair less that of the worse `(pairs,)`."""
        return self._differences(self.rewards)

    @cached_property
    def hits(self) -> np.ndarray:
        """1 for each correct pair, 0.5 where both answers get the same reward `(pairs,)`."""
        return (np.sign(self.margins) + 1) / 2

    @property
    def probabilities(self) -> np.ndarray:
        """Probability of each true preference, `sigmoid(margin)`, `(pairs,)`."""
        return 1 / (1 + np.exp(-self.margins.astype(float)))

    @property
    def longer(self) -> float:
        """Accuracy of "the longer answer is better"; a half for a pair of equal lengths."""
        return float(((np.sign(self._differences(self.lengths)) + 1) / 2).mean())

    @property
    def calibration(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean confidence, accuracy and number of pairs in ten intervals of confidence.

        The confidence is the probability of the answer with the larger reward, at least 0.5.
        Intervals without a pair are left out.

        Reference:
            Guo et al., On Calibration of Modern Neural Networks, 2017, section 2.
            https://arxiv.org/abs/1706.04599
        """
        confidence = np.maximum(self.probabilities, 1 - self.probabilities)
        bins = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
        counts, confidences, hits = (
            np.bincount(bins, weights, BINS) for weights in (None, confidence, self.hits)
        )
        there = counts > 0
        counts = counts[there]
        return confidences[there] / counts, hits[there] / counts, counts

    @property
    def scores(self) -> dict[str, float]:
        """Accuracy and its interval, loss in nats, calibration error, accuracies of parts.

        The parts are the pairs of similar length, within a tenth, and the sets, if there are
        several. Pairs of one prompt depend on each other, so the interval draws prompts.
        """
        prompt, better, worse = self.pairs
        sums = [np.bincount(prompt, weights, len(self.rewards)) for weights in (self.hits, None)]
        scores = {"accuracy": float(self.hits.mean())} | bounds("accuracy", *sums)
        scores["loss"] = float(np.logaddexp(0, -self.margins).mean())
        confidence, accuracy, counts = self.calibration
        error = np.average(np.abs(confidence - accuracy), weights=counts)
        scores["calibration_error"] = float(error)
        first, second = self.lengths[prompt, better], self.lengths[prompt, worse]
        similar = np.abs(first - second) <= SIMILAR * np.maximum(first, second)
        if similar.any():
            scores["similar_length_accuracy"] = float(self.hits[similar].mean())
        return scores | {
            f"{name}_accuracy": float(part.hits.mean()) for name, part in self._parts.items()
        }

    @property
    def _parts(self) -> dict[str, "Preferences"]:
        """The sets by name; empty if there is only one."""
        names = sorted({*self.sets})
        parts = {}
        for name in names if len(names) > 1 else []:
            chosen = [number for number, one in enumerate(self.sets) if one == name]
            parts[name] = Preferences(
                self.rewards[chosen], self.lengths[chosen], [name] * len(chosen)
            )
        return parts

    def by_set(self) -> tuple[tuple[str, ...], Rows]:
        """Returns heading and rows of a table of all sets; no row if there is only one."""
        rows: Rows = []
        for name, part in self._parts.items():
            scores = part.scores
            interval = f"{scores['accuracy_low']:.3f} to {scores['accuracy_high']:.3f}"
            rows.append(
                (name, f"{scores['accuracy']:.3f}", interval, f"{part.longer:.3f}", len(part.hits))
            )
        return ("set", "accuracy", "95 % interval", "the longer answer", "test pairs"), rows

    def by_difference(self) -> tuple[tuple[str, ...], Rows]:
        """Returns heading and rows of a table of equally large groups by size of the difference."""
        sizes = np.abs(self.margins)
        order = np.argsort(sizes, kind="stable")
        rows: Rows = []
        for part in np.array_split(order, min(GROUPS, len(order))):
            least, most = sizes[part[0]], sizes[part[-1]]
            rows.append((f"{least:.3g} to {most:.3g}", f"{self.hits[part].mean():.3f}", len(part)))
        return ("difference of the rewards", "accuracy", "test pairs"), rows

    @property
    def worst(self) -> list[int]:
        """Indices of the twelve wrong pairs with the least margins, the least first."""
        order = np.argsort(self.margins, kind="stable")[:12]
        return [int(index) for index in order if self.margins[index] < 0]
