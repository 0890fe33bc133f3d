"""Answers to questions about documents: the most probable span, and SQuAD's scores."""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from metrics.intervals import bounds

HEADING = ("question", "correct answer", "predicted", "confidence")
"""Columns of a table of questions; the last three are those of `Answers.row`."""
NEVER = -100.0
"""Exported logit of a token at which no answer may begin or end."""
MEANINGS = {
    "question": "the question, in UTF-8",
    "document": "the text that may contain the answer, in UTF-8, of any length",
    "answer": 'the answer, a part of the document; "" for no answer',
    "score": "probability of the most probable answer, even if no answer is given",
    "no_answer_score": "probability of no answer, if the only other choice is this answer",
    "start": "offset in characters (code points) at which the answer begins; -1 for no answer",
    "end": "offset in characters after the answer; -1 for no answer",
    "start_byte": "offset in bytes at which the answer begins; -1 for no answer",
    "end_byte": "offset in bytes after the answer; -1 for no answer",
    "token_ids": "[CLS] question [SEP] part of the document [SEP], as ids in the vocabulary",
    "segment_ids": "0, and 1 from the part of the document on",
    "answer_mask": "1 at the tokens of the document and at [CLS], else 0",
    "start_logits": "log-probability, up to a constant, that the answer begins at each token; at "
    f"[CLS], that this part of the document has none; {NEVER:.0f} where the mask is 0",
    "end_logits": "log-probability, up to a constant, that the answer ends at each token; at [CLS] "
    "and where the mask is 0, as in start_logits",
}
"""Meanings of the inputs and outputs of a network that answers questions."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalized(text: str) -> str:
    """Normalizes a text for scoring: no capitals, ASCII punctuation, articles or extra spaces.

    Reference:
        Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016,
        section 6.1, and its evaluation script. https://arxiv.org/abs/1606.05250

    Example:
        >>> normalized("The  cat's hat, an A-side")
        'cats hat aside'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Returns 1 if a prediction equals a correct answer after normalization, else 0.

    Args:
        prediction: The predicted answer; empty for no answer.
        answers: The correct answers; empty if the document has none.
    """
    return float(normalized(prediction) in _counted(answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Returns the overlap of a prediction with the correct answer that is most similar, in [0, 1].

    `2 shared / (predicted words + words of the correct answer)`, the harmonic mean of precision
    and recall, after normalization. If one of the two is empty, 1 if both are empty, else 0.

    Reference:
        Rajpurkar et al., 2016, section 6.1. https://arxiv.org/abs/1606.05250
        Rajpurkar et al., Know What You Don't Know: Unanswerable Questions for SQuAD, 2018, whose
        evaluation script defines the score of no answer. https://arxiv.org/abs/1806.03822

    Args:
        prediction: The predicted answer; empty for no answer.
        answers: The correct answers; empty if the document has none.

    Example:
        >>> f1("the Eiffel Tower", ["Tower", "Eiffel Tower in Paris"])
        0.6666666666666666
    """
    words = normalized(prediction).split()
    return max(_overlap(words, answer.split()) for answer in _counted(answers))


def _counted(answers: Sequence[str]) -> list[str]:
    """Normalizes the correct answers; the empty text means no answer."""
    return [text for answer in answers if (text := normalized(answer))] or [""]


def _overlap(predicted: list[str], right: list[str]) -> float:
    if not predicted or not right:
        return float(predicted == right)
    shared = (Counter(predicted) & Counter(right)).total()
    return 2 * shared / (len(predicted) + len(right))


def mean_scores(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns mean F1 and exact match; if some questions have no answer, also F1 of both groups.

    Args:
        predictions: One predicted answer per question; empty for no answer.
        answers: The correct answers to each question.
    """
    f1s = np.array([f1(*pair) for pair in zip(predictions, answers, strict=True)])
    exact = np.array([exact_match(*pair) for pair in zip(predictions, answers, strict=True)])
    scores = {"f1": float(f1s.mean()), "exact_match": float(exact.mean())}
    answerable = np.array([bool(right) for right in answers])
    if 0 < answerable.sum() < len(answerable):
        scores["answerable_f1"] = float(f1s[answerable].mean())
        scores["unanswerable_f1"] = float(f1s[~answerable].mean())
    return scores


def best_threshold(
    no_answer_scores: np.ndarray, answered: np.ndarray, unanswered: np.ndarray
) -> float:
    """Chooses the no-answer score above which no answer is given, so that F1 is largest.

    Reference:
        Rajpurkar et al., 2018, whose evaluation script does the same.

    Args:
        no_answer_scores: In [0, 1], `(n,)`.
        answered: F1 of each question if it gets its answer `(n,)`.
        unanswered: F1 of each question if it gets no answer `(n,)`.

    Returns:
        A threshold midway between two scores, or 0 (never answer) or 1 (always answer).

    Example:
        >>> best_threshold(np.array([0.1, 0.5, 0.9]), np.array([1, 1, 0]), np.array([0, 0, 1]))
        0.7
    """
    levels = np.unique(no_answer_scores)  # ascending
    thresholds = [0.0, *((levels[1:] + levels[:-1]) / 2), 1.0]
    sums = [np.where(no_answer_scores > t, unanswered, answered).sum() for t in thresholds]
    # The last of equally good thresholds, which answers the most questions.
    return float(thresholds[len(sums) - 1 - int(np.argmax(sums[::-1]))])


class Spans(NamedTuple):
    """The most probable answer to each question; every tensor is `(n,)`.

    Args:
        row: Row of the answer, int64.
        first: Its first token in that row, int64.
        last: Its last token, int64.
        score: Probability that the answer begins and ends there rather than elsewhere in the row;
            0 if no token may be part of an answer.
        no_answer_score: Probability of no answer, if the only other choice is this span.
    """

    row: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor
    score: tf.Tensor
    no_answer_score: tf.Tensor


def best_spans(
    start: tf.Tensor, end: tf.Tensor, example: tf.Tensor, inside: tf.Tensor, max_tokens: int
) -> Spans:
    """Finds the most probable span over all rows of each question.

    The span `first <= last < first + max_tokens` has the largest product of two probabilities:
    that the answer begins at `first`, and that it ends at `last`. The softmax is over the tokens
    of one row. The first token means no answer in this row, so a row without the answer gives its
    spans low probabilities. The probability of no answer is the minimum over the rows.

    Reference:
        Devlin et al., BERT, 2019, sections 4.2 and 4.3. https://arxiv.org/abs/1810.04805

    Args:
        start: Logits of the first token of the answer `(rows, tokens)`.
        end: Logits of its last token `(rows, tokens)`.
        example: Index of the question of each row `(rows,)`, ascending from 0 without gaps.
        inside: Whether each token belongs to the document, bool `(rows, tokens)`.
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


def best_offsets(
    logits: Mapping[str, tf.Tensor],
    offsets: Mapping[str, tf.Tensor],
    max_tokens: int,
    threshold: float,
) -> dict[str, tf.Tensor]:
    """Locates the most probable answer to each question in its document.

    Args:
        logits: `start` and `end` `(rows, tokens)`, as in `best_spans`.
        offsets: `example` `(rows,)`, the index of the question of each row; `begins` and `ends`,
            offsets in bytes of each token in the document `(rows, tokens)`, -1 at other tokens.
        max_tokens: Maximum length of an answer in tokens.
        threshold: No-answer score above which no answer is given.

    Returns:
        `score`, `no_answer_score`, `start_byte` and `end_byte` of `MEANINGS`, `(n,)` each.
    """
    inside = offsets["begins"] >= 0
    best = best_spans(logits["start"], logits["end"], offsets["example"], inside, max_tokens)
    begin = tf.gather_nd(offsets["begins"], tf.stack([best.row, best.first], 1))
    end = tf.gather_nd(offsets["ends"], tf.stack([best.row, best.last], 1))
    answered = (begin >= 0) & (best.no_answer_score <= threshold)
    return {
        "score": best.score,
        "no_answer_score": best.no_answer_score,
        "start_byte": tf.where(answered, begin, -1),
        "end_byte": tf.where(answered, end, -1),
    }


@dataclass(frozen=True)
class Answers:
    """The predicted and the correct answers to questions, in their order.

    Args:
        predictions: Arrays `(n,)` by name: `answer`, in UTF-8 and empty for no answer; `score` and
            `no_answer_score`, as in `Spans`; and others of `MEANINGS`.
        right: The correct answers to each question; empty if its document has none.
        documents: The document of each question.
    """

    predictions: Mapping[str, np.ndarray]
    right: Sequence[Sequence[str]]
    documents: Sequence[str]

    @cached_property
    def texts(self) -> list[str]:
        return [answer.decode(errors="replace") for answer in self.predictions["answer"]]

    @cached_property
    def f1s(self) -> np.ndarray:
        return np.array([f1(*pair) for pair in zip(self.texts, self.right, strict=True)])

    @property
    def scores(self) -> dict[str, float]:
        """Mean F1, its interval by document, and the other `mean_scores`."""
        _, document, counts = np.unique(self.documents, return_inverse=True, return_counts=True)
        interval = bounds("f1", np.bincount(document, self.f1s), counts)
        means = mean_scores(self.texts, self.right)
        return {"f1": means["f1"], **interval, **means}

    @property
    def confidence(self) -> np.ndarray:
        """Probability of each predicted answer, or of no answer where that is predicted."""
        none = self.predictions["answer"] == b""
        return np.where(none, self.predictions["no_answer_score"], self.predictions["score"])

    @property
    def worst(self) -> list[int]:
        """Indices of the twelve most confident predictions without a correct word."""
        order = np.argsort(-self.confidence, kind="stable")
        return [int(index) for index in order if self.f1s[index] == 0][:12]

    def row(self, index: int) -> tuple[str, str, str]:
        """Returns the correct answers to a question, the predicted one and its confidence."""
        return (
            " | ".join(dict.fromkeys(self.right[index])) or "(none)",
            self.texts[index] or "(none)",
            f"{self.confidence[index]:.0%}",
        )

    def spans(self, index: int, answers: Sequence[tuple[str, int]]) -> dict[str, tuple[int, int]]:
        """Locates answers in a document.

        Args:
            index: Index of the question.
            answers: Text and start (in characters of the document) of each correct answer.

        Returns:
            Begin and end in characters of `correct`, the correct answer that is most similar to the
            predicted one, and of `predicted`; either may be missing.
        """
        found = {}
        if answers:
            text, start = max(answers, key=lambda one: f1(self.texts[index], one[:1]))
            found["correct"] = (start, start + len(text))
        begin, end = (int(self.predictions[name][index]) for name in ("start", "end"))
        if begin >= 0:
            found["predicted"] = (begin, end)
        return found

    def best_threshold(self) -> float:
        """Chooses the no-answer score above which no answer is given."""
        unanswered = np.array([f1("", right) for right in self.right])
        return best_threshold(self.predictions["no_answer_score"], self.f1s, unanswered)

    def with_threshold(self, threshold: float) -> "Answers":
        """Removes the answers whose no-answer score is above the threshold."""
        kept = self.predictions["no_answer_score"] <= threshold
        answer = np.where(kept, self.predictions["answer"], b"")
        return replace(self, predictions={**self.predictions, "answer": answer})


def marked(
    text: str, spans: Mapping[str, tuple[int, int]], context: int = 400
) -> list[tuple[str, str]]:
    """Cuts the part of a text around spans into pieces, with the names of the spans over each.

    Args:
        text: The text.
        spans: Begin and end of each span in characters, by name; without any, the text begins.
        context: Maximum number of characters before the first span and after the last.

    Example:
        >>> marked("in New York City", {"true": (3, 11), "predicted": (7, 16)})
        [('in ', ''), ('New ', 'true'), ('York', 'true and predicted'), (' City', 'predicted')]
    """
    edges = [offset for span in spans.values() for offset in span]
    first = max(0, min(edges, default=0) - context)
    last = min(len(text), max(edges, default=0) + context)
    pieces = [("…", "")] if first else []
    for begin, end in pairwise(sorted({first, *edges, last})):
        names = [name for name, (left, right) in spans.items() if left <= begin and end <= right]
        pieces.append((text[begin:end], " and ".join(names)))
    return [*pieces, ("…", "")] if last < len(text) else pieces
