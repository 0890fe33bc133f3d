"""Answers that a network writes, compared with the true ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from metrics.classification import Evaluation
from metrics.intervals import bounds

SHOWN = 12
"""Maximum number of wrong answers, and of correct ones, in `Answers.table`."""


@dataclass(frozen=True)
class Answers:
    """Answers that a network wrote, and the true ones.

    Args:
        written: The network's answers; at least one.
        true: The true answer for each.
    """

    written: Sequence[str]
    true: Sequence[str]

    @property
    def hits(self) -> np.ndarray:
        """Whether each answer equals the true one, bool `(n,)`."""
        return np.array([one == other for one, other in zip(self.written, self.true, strict=True)])

    @property
    def scores(self) -> dict[str, float]:
        """The fraction of answers that equal the true ones, and its interval."""
        exact = {"exact_match": float(self.hits.mean())}
        return exact | bounds("exact_match", self.hits)

    def table(self, texts: Sequence[str]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Returns heading and rows of a table of answers to texts, wrong ones first."""
        chosen = [i for kind in (~self.hits, self.hits) for i in np.flatnonzero(kind)[:SHOWN]]
        heading = ("text", "the network's answer", "the true answer")
        return heading, [(texts[i], self.written[i], self.true[i]) for i in chosen]


def evaluate(
    outputs: Mapping[str, np.ndarray], true: Sequence[str], classes: Sequence[str]
) -> Answers | Evaluation:
    """Evaluates answers to test texts.

    Args:
        outputs: `log_probabilities` of all classes `(n, classes)`, or `text`, bytes `(n,)`.
        true: The true answers.
        classes: The possible answers; empty if an answer may be any text.
    """
    if not classes:
        return Answers([one.decode() for one in outputs["text"]], true)
    labels = np.array([classes.index(one) for one in true])
    return Evaluation(labels, softmax(outputs["log_probabilities"], axis=1))


def by_shots(found: Mapping[int, Any], chosen: int) -> dict[str, float]:
    """Returns all scores with the chosen number of worked examples, and the first with each number.

    Args:
        found: By number of worked examples, an object with `scores`.
        chosen: One of these numbers.

    Example:
        >>> scores = by_shots({0: Answers("ab", "bb"), 4: Answers("bb", "bb")}, 4)
        >>> scores["exact_match"], scores["0_shot_exact_match"], scores["4_shot_exact_match"]
        (1.0, 0.5, 1.0)
    """
    scores = found[chosen].scores
    name = next(iter(scores))
    return scores | {f"{count}_shot_{name}": one.scores[name] for count, one in found.items()}


def compared(found: Mapping[int, Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Returns heading and rows of a table of the first score by number of worked examples.

    Args:
        found: As in `by_shots`.
    """
    rows = []
    for count, one in found.items():
        (name, score), (_, low), (_, high), *_ = one.scores.items()
        rows.append((count, f"{score:.4g}", f"{low:.3g} to {high:.3g}"))
    return ("worked examples", name.replace("_", " "), "95 % interval"), rows
