import numpy as np
import pytest
import tensorflow as tf

from metrics import spans

INSIDE = [[0, 0, 1, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0, 0]]
EXAMPLE = [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("The  Cat's\thats", "cats hats"),
        ("an  A-side, a B", "aside b"),
        ("theatre and Anna", "theatre and anna"),
        ("$1,000.50", "100050"),
        ("«Zoë»", "«zoë»"),
        ("The.", ""),
    ],
)
def test_normalizing_lowers_and_drops_marks_articles_and_spaces(text, counted):
    assert spans.normalized(text) == counted


@pytest.mark.parametrize(
    ("found", "answers", "f1", "exact"),
    [
        ("in the Oslo", ["Oslo"], 2 * 0.5 * 1 / 1.5, 0.0),
        ("quick brown fox", ["brown fox jumps", "fox"], 2 / 3, 0.0),
        ("no no yes", ["no yes yes"], 2 / 3, 0.0),
        ("the Oslo!", ["Bergen", "oslo"], 1.0, 1.0),
        ("Bergen", ["Oslo"], 0.0, 0.0),
        ("", ["Oslo"], 0.0, 0.0),
        ("", [], 1.0, 1.0),
        ("Oslo", [], 0.0, 0.0),
        ("Oslo", ["the", "Oslo"], 1.0, 1.0),
        ("", ["the", "Oslo"], 0.0, 0.0),
    ],
)
def test_f1_and_exact_match_by_hand(found, answers, f1, exact):
    assert spans.f1(found, answers) == pytest.approx(f1)
    assert spans.exact_match(found, answers) == exact


def test_f1_is_the_harmonic_mean_of_precision_and_recall():
    random = np.random.default_rng(0)
    for _ in range(50):
        found, right = (list(random.choice(list("bcdef"), random.integers(1, 6))) for _ in "12")
        shared = sum(min(found.count(word), right.count(word)) for word in set(found))
        precision, recall = shared / len(found), shared / len(right)
        mean = 2 * precision * recall / (precision + recall) if shared else 0.0
        assert spans.f1(" ".join(found), [" ".join(right)]) == pytest.approx(mean)


def test_questions_without_answer_are_averaged_apart():
    answers = [["Oslo"], [], []]
    scores = spans.mean_scores(["in Oslo", "", "Oslo"], answers)
    assert scores == pytest.approx(
        {
            "f1": (2 / 3 + 1) / 3,
            "exact_match": 1 / 3,
            "answerable_f1": 2 / 3,
            "unanswerable_f1": 0.5,
        }
    )
    assert spans.mean_scores(["Oslo"], [["Oslo"]]) == {"f1": 1.0, "exact_match": 1.0}


def test_no_threshold_is_better_than_the_best():
    random = np.random.default_rng(0)
    for _ in range(20):
        none = random.random(9).round(1)
        answered, unanswered = random.random(9), random.integers(0, 2, 9)

        def total(threshold, none=none, answered=answered, unanswered=unanswered):
            return np.where(none > threshold, unanswered, answered).sum()

        found = spans.best_threshold(none, answered, unanswered)
        assert total(found) == pytest.approx(max(map(total, np.linspace(0, 1, 201))))


def test_without_gain_every_question_is_answered():
    ones = np.ones(3)
    assert spans.best_threshold(np.array([0.2, 0.5, 1.0]), ones, 0 * ones) == 1.0
    assert spans.best_threshold(np.array([0.2, 0.5, 1.0]), 0 * ones, ones) == 0.0


def by_force(start, end, most) -> list[tuple]:
    """Row, first, last, probability and no-answer probability of each question, span by span."""
    shares = [np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (start, end)]
    found = []
    for question in sorted(set(EXAMPLE)):
        rows = [row for row, number in enumerate(EXAMPLE) if number == question]
        probability, row, first, last = max(
            (shares[0][row, first] * shares[1][row, last], row, first, last)
            for row in rows
            for first in np.flatnonzero(INSIDE[row])
            for last in np.flatnonzero(INSIDE[row])
            if first <= last < first + most
        )
        none = min(shares[0][row, 0] * shares[1][row, 0] for row in rows)
        found.append((row, first, last, probability, none / (none + probability)))
    return found


@pytest.mark.parametrize("most", [1, 2, 30])
def test_best_spans_are_those_of_a_search_over_all(most):
    random = np.random.default_rng(most)
    for _ in range(5):
        start, end = random.normal(0, 3, (2, 3, 7)).astype("float32")
        found = spans.best_spans(
            tf.constant(start),
            tf.constant(end),
            tf.constant(EXAMPLE, tf.int64),
            tf.constant(INSIDE) > 0,
            most,
        )
        np.testing.assert_allclose(np.transpose(by_force(start, end, most)), found, rtol=1e-5)


def test_a_document_without_tokens_has_no_answer():
    zeros = tf.zeros((1, 4))
    found = spans.best_spans(zeros, zeros, tf.constant([0], tf.int64), zeros > 0, 3)
    assert found.score.numpy() == [0.0] and found.no_answer_score.numpy() == [1.0]


def test_answers_know_how_sure_and_how_wrong_they_are():
    found = {
        "answer": np.array([b"Oslo", b"Bergen", b"", b"\xff"], object),
        "score": np.array([0.9, 0.8, 0.1, 0.2]),
        "no_answer_score": np.array([0.1, 0.4, 0.95, 0.3]),
    }
    answers = spans.Answers(found, [["Oslo"], [], ["Rome"], ["Rome"]])
    assert answers.texts == ["Oslo", "Bergen", "", "\ufffd"]
    assert answers.confidence.tolist() == [0.9, 0.8, 0.95, 0.2]
    assert answers.worst == [2, 1, 3]
    assert answers.best_threshold() == pytest.approx(0.35)
    assert answers.with_threshold(0.35).texts == ["Oslo", "", "", "\ufffd"]
    assert answers.with_threshold(0.35).scores["f1"] == 0.5
