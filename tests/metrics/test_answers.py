import numpy as np
import pytest

from metrics import answers
from metrics.answers import Answers


def test_exact_match_is_the_fraction_of_equal_answers():
    test = Answers(["4", "five", "6", "7"], ["4", "5", "6", "8"])
    assert test.scores["exact_match"] == 0.5
    assert test.scores["exact_match_low"] < 0.5 < test.scores["exact_match_high"]
    _, rows = test.table(["2+2", "2+3", "3+3", "3+4"])
    assert rows == [
        ("2+3", "five", "5"),
        ("3+4", "7", "8"),
        ("2+2", "4", "4"),
        ("3+3", "6", "6"),
    ]


def test_the_likeliest_class_is_the_answer():
    logs = np.log([[0.02, 0.01], [0.001, 0.003], [0.5, 0.25]]).astype("float32")
    test = answers.evaluate({"log_probabilities": logs}, ["no", "yes", "yes"], ("no", "yes"))
    assert test.predictions.tolist() == [0, 1, 0]
    np.testing.assert_allclose(test.probabilities[:, 0], [2 / 3, 1 / 4, 2 / 3], rtol=1e-6)
    assert test.scores["accuracy"] == pytest.approx(2 / 3)


def test_scores_by_number_of_examples_are_a_table():
    texts = {"text": np.array([b"4", b"5"], object)}
    found = {0: Answers(["3", "5"], ["4", "5"]), 2: answers.evaluate(texts, ["4", "5"], ())}
    assert answers.by_shots(found, 2) == {
        **{"exact_match": 1.0, "exact_match_low": 1.0, "exact_match_high": 1.0},
        **{"0_shot_exact_match": 0.5, "2_shot_exact_match": 1.0},
    }
    heading, rows = answers.compared(found)
    assert heading == ("worked examples", "exact match", "95 % interval")
    assert rows[1] == (2, "1", "1 to 1") and rows[0][:2] == (0, "0.5")
