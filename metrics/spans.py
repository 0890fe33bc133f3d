"""Answers to questions about documents: the likeliest span, and SQuAD's scores of it."""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalized(text: str) -> str:
    """Takes off what does not count: capitals, ASCII punctuation, articles, surplus spaces.

    Reference:
        Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016,
        section 6.1, and its evaluation script. https://arxiv.org/abs/1606.05250

    Example:
        >>> normalized("The  cat's hat, an A-side")
        'cats hat aside'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(found: str, answers: Sequence[str]) -> float:
    """Returns 1 if an answer is one of the right ones, normalised, and else 0.

    Args:
        found: The answer; empty for none.
        answers: The right ones; none if the document has none.
    """
    return float(normalized(found) in _counted(answers))


def f1(found: str, answers: Sequence[str]) -> float:
    """Returns how many words an answer shares with the right one that it is nearest to.

    `2 shared / (words found + words of the right answer)`, the harmonic mean of precision and
    recall, after normalisation. Where one of the two is empty, 1 if both are and else 0.

    Reference:
        Rajpurkar et al., 2016, section 6.1. https://arxiv.org/abs/1606.05250
        Rajpurkar et al., Know What You Don't Know: Unanswerable Questions for SQuAD, 2018, whose
        evaluation script says how no answer counts. https://arxiv.org/abs/1806.03822

    Args:
        found: The answer; empty for none.
        answers: The right ones; none if the document has none.

    Example:
        >>> f1("the Eiffel Tower", ["Tower", "Eiffel Tower in Paris"])
        0.6666666666666666
    """
    return max(_overlap(normalized(found).split(), right.split()) for right in _counted(answers))


def _counted(answers: Sequence[str]) -> list[str]:
    """Normalises the right answers; an empty one stands for none."""
    return [text for answer in answers if (text := normalized(answer))] or [""]


def _overlap(found: list[str], right: list[str]) -> float:
    if not found or not right:
        return float(found == right)
    shared = (Counter(found) & Counter(right)).total()
    return 2 * shared / (len(found) + len(right))


def mean_scores(found: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Averages over questions; where some have no answer, over these and the others apart too.

    Args:
        found: An answer a question, empty for none.
        answers: The right ones of each question.
    """
    f1s = np.array([f1(*pair) for pair in zip(found, answers, strict=True)])
    exact = np.array([exact_match(*pair) for pair in zip(found, answers, strict=True)])
    scores = {"f1": float(f1s.mean()), "exact_match": float(exact.mean())}
    answerable = np.array([bool(right) for right in answers])
    if 0 < answerable.sum() < len(answerable):
        scores["answerable_f1"] = float(f1s[answerable].mean())
        scores["unanswerable_f1"] = float(f1s[~answerable].mean())
    return scores


def best_threshold(
    no_answer_scores: np.ndarray, answered: np.ndarray, unanswered: np.ndarray
) -> float:
    """Chooses above which no-answer score no answer is to be given, for the largest sum.

    Reference:
        Rajpurkar et al., 2018, whose evaluation script does so.

    Args:
        no_answer_scores: In [0, 1], `(n,)`.
        answered: F1 of each question if it is answered `(n,)`.
        unanswered: F1 of each if it is not `(n,)`.

    Returns:
        Midway between two scores, or 0 (never answer) or 1 (always).

    Example:
        >>> best_threshold(np.array([0.1, 0.5, 0.9]), np.array([1, 1, 0]), np.array([0, 0, 1]))
        0.7
    """
    levels = np.unique(no_answer_scores)  # ascending
    thresholds = [0.0, *((levels[1:] + levels[:-1]) / 2), 1.0]
    sums = [np.where(no_answer_scores > t, unanswered, answered).sum() for t in thresholds]
    # Of equally good ones the last, which answers most.
    return float(thresholds[len(sums) - 1 - int(np.argmax(sums[::-1]))])


class Spans(NamedTuple):
    """The likeliest answer to each question; every tensor is `(n,)`.

    Args:
        row: The row it stands in, int64.
        first: Its first token in that row, int64.
        last: Its last token, int64.
        score: Probability that it begins and ends there rather than elsewhere in this row; 0 if
            there is no token that may be part of an answer.
        no_answer_score: Probability of no answer, if there were only that and this span.
    """

    row: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor
    score: tf.Tensor
    no_answer_score: tf.Tensor


def best_spans(
    start: tf.Tensor, end: tf.Tensor, example: tf.Tensor, inside: tf.Tensor, max_tokens: int
) -> Spans:
    """Finds the likeliest span over all rows of each question.

    Of the spans `first <= last < first + max_tokens` it is the one with the largest product of the
    probabilities to begin and to end there. The softmax is over the tokens of one row, whose first
    stands for no answer in this row: so a row that knows that it has no answer does not outdo
    one that has it. No answer at all is as likely as in the row where it is least likely.

    Reference:
        Devlin et al., BERT, 2019, sections 4.2 and 4.3. https://arxiv.org/abs/1810.04805

    Args:
        start: Logits of the token at which an answer begins `(rows, tokens)`.
        end: Logits of the token at which it ends `(rows, tokens)`.
        example: The question of each row, `(rows,)`: ascending from 0, each at least once.
        inside: Which tokens are of the document `(rows, tokens)`, bool.
        max_tokens: Maximum length of a span in tokens; at least 1.
    """
    nowhere = tf.constant(-float("inf"))
    starts, ends = tf.nn.log_softmax(start), tf.nn.log_softmax(end)
    absent = tf.math.segment_min(starts[:, 0] + ends[:, 0], example)  # (n,)
    starts, ends = tf.where(inside, starts, nowhere), tf.where(inside, ends, nowhere)
    reach = tf.range(tf.shape(end)[1])[:, None] + tf.range(max_tokens)  # (tokens, max_tokens)
    padded = tf.pad(ends, [[0, 0], [0, max_tokens - 1]], constant_values=nowhere)
    totals = starts[:, :, None] + tf.gather(padded, reach, axis=1)  # (rows, tokens, max_tokens)
    totals = tf.reshape(totals, (tf.shape(end)[0], -1))
    by_question = tf.RaggedTensor.from_value_rowids(tf.reduce_max(totals, 1), example)
    row = by_question.row_starts() + tf.argmax(by_question.to_tensor(nowhere), 1)
    index = tf.gather(tf.argmax(totals, 1), row)
    best = tf.gather(by_question.values, row)
    first = index // max_tokens
    return Spans(row, first, first + index % max_tokens, tf.exp(best), tf.sigmoid(absent - best))


@dataclass(frozen=True)
class Answers:
    """What a network answers to questions, in their order.

    Args:
        predictions: Arrays `(n,)`: `answer`, in UTF-8 and empty for none, `score` and `no_answer_score`
            as in `Spans`; and others.
        right: The right answers to each question; none if its document has none.
    """

    predictions: Mapping[str, np.ndarray]
    right: Sequence[Sequence[str]]

    @cached_property
    def texts(self) -> list[str]:
        return [answer.decode(errors="replace") for answer in self.predictions["answer"]]

    @cached_property
    def f1s(self) -> np.ndarray:
        return np.array([f1(*pair) for pair in zip(self.texts, self.right, strict=True)])

    @property
    def scores(self) -> dict[str, float]:
        return mean_scores(self.texts, self.right)

    @property
    def confidence(self) -> np.ndarray:
        """Probability of what is answered, be it no answer."""
        none = self.predictions["answer"] == b""
        return np.where(none, self.predictions["no_answer_score"], self.predictions["score"])

    @property
    def worst(self) -> list[int]:
        """Indices of the twelve surest answers among those without a right word, surest first."""
        order = np.argsort(-self.confidence, kind="stable")
        return [int(index) for index in order if self.f1s[index] == 0][:12]

    def best_threshold(self) -> float:
        """Chooses the no-answer score above which no answer is to be given."""
        unanswered = np.array([f1("", right) for right in self.right])
        return best_threshold(self.predictions["no_answer_score"], self.f1s, unanswered)

    def with_threshold(self, threshold: float) -> "Answers":
        """Takes back the answers whose no-answer score is above the threshold."""
        given = self.predictions["no_answer_score"] <= threshold
        answer = np.where(given, self.predictions["answer"], b"")
        return Answers({**self.predictions, "answer": answer}, self.right)
