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


@pytest.mark.parametrize(
    ("threshold", "begin", "end"), [(1.0, [7, 2], [16, 3]), (0.4, [-1, 2], [-1, 3])]
)
def test_the_best_answers_are_located_in_bytes_up_to_a_threshold(threshold, begin, end):
    logits = {
        "start": tf.constant([[9.5, 9, 0, 0], [9, 0, 0, 0], [0, 0, 9, 0]]),
        "end": tf.constant([[9.5, 0, 0, 9], [9, 0, 0, 0], [0, 0, 9, 0]]),
    }
    offsets = {
        "example": tf.constant([0, 0, 1], tf.int64),
        "begins": tf.constant([[-1, 7, 11, 15], [-1, 11, 15, -1], [-1, -1, 2, 4]], tf.int64),
        "ends": tf.constant([[-1, 10, 14, 16], [-1, 14, 16, -1], [-1, -1, 3, 6]], tf.int64),
    }
    best = spans.best_offsets(logits, offsets, 3, threshold)
    assert best["start_byte"].numpy().tolist() == begin
    assert best["end_byte"].numpy().tolist() == end
    assert best["no_answer_score"].numpy()[0] > 0.4 > best["no_answer_score"].numpy()[1]


def test_the_correct_answer_nearest_to_the_predicted_one_is_located():
    document = "in New York City or Rome"

    def located(start: int, end: int) -> dict[str, tuple[int, int]]:
        text = document[start:end].encode() if start >= 0 else b""
        columns = {"answer": np.array([text], object), "start": np.array([start])}
        answers = spans.Answers(
            columns | {"end": np.array([end])}, [["New York", "Rome"]], [document]
        )
        return answers.spans(0, (("New York", 3), ("Rome", 20)))

    assert located(7, 16) == {"correct": (3, 11), "predicted": (7, 16)}
    assert located(17, 24) == {"correct": (20, 24), "predicted": (17, 24)}
    assert located(-1, -1) == {"correct": (3, 11)}


def test_marked_pieces_are_the_text_around_the_spans():
    text = "a" * 500 + " in New York City."

    def pieces(**named: tuple[int, int]) -> list[tuple[str, str]]:
        return spans.marked(text, named)

    assert pieces(correct=(504, 512), predicted=(508, 517)) == [
        ("…", ""),
        (text[104:504], ""),
        ("New ", "correct"),
        ("York", "correct and predicted"),
        (" City", "predicted"),
        (".", ""),
    ]
    same = pieces(correct=(504, 512), predicted=(504, 512))
    assert [piece for piece in same if piece[1]] == [("New York", "correct and predicted")]
    assert "".join(piece for piece, _ in same) == "…" + text[104:]
    assert pieces() == [("a" * 400, ""), ("…", "")]


def test_answers_know_how_confident_and_how_wrong_they_are():
    found = {
        "answer": np.array([b"Oslo", b"Bergen", b"", b"\xff"], object),
        "score": np.array([0.9, 0.8, 0.1, 0.2]),
        "no_answer_score": np.array([0.1, 0.4, 0.95, 0.3]),
    }
    answers = spans.Answers(found, [["Oslo"], [], ["Rome"], ["Rome"]], ["a", "b", "b", "c"])
    assert answers.texts == ["Oslo", "Bergen", "", "\ufffd"]
    assert answers.confidence.tolist() == [0.9, 0.8, 0.95, 0.2]
    assert answers.worst == [2, 1, 3]
    assert answers.row(1) == ("(none)", "Bergen", "80%")
    assert answers.row(2) == ("Rome", "(none)", "95%")
    assert answers.best_threshold() == pytest.approx(0.35)
    assert answers.with_threshold(0.35).texts == ["Oslo", "", "", "\ufffd"]
    assert answers.with_threshold(0.35).scores["f1"] == 0.5


def test_questions_about_one_document_are_drawn_together():
    def width(documents) -> float:
        found = {"answer": np.array([b"Oslo"] * 40, object)}
        right = [["Oslo"], ["Oslo"], ["Rome"], ["Rome"]] * 10
        scores = spans.Answers(found, right, documents).scores
        assert list(scores)[:3] == ["f1", "f1_low", "f1_high"] and scores["f1"] == 0.5
        return scores["f1_high"] - scores["f1_low"]

    each = width([f"{number}" for number in range(40)])
    # Half of the answers in each of two documents are right, or all of one and none of the other.
    assert each == pytest.approx(2 * 1.96 * (0.25 / 40) ** 0.5, abs=0.06)
    assert width([f"{number // 20}" for number in range(40)]) == 0.0
    assert width([f"{number // 2 % 2}" for number in range(40)]) == 1.0
