"""What a classifier says of the test examples."""

import numpy as np
import pytest

from metrics.classification import Evaluation, refusals


def test_worst_are_the_wrong_answers_of_the_largest_losses():
    unsure = [[0.40, 0.35, 0.25]] * 12
    wrong = [[0.45, 0.55, 0.0], [0.1, 0.9, 0.0], [0.3, 0.0, 0.7]]
    evaluation = Evaluation(np.zeros(15, int), np.array(unsure + wrong))
    assert evaluation.worst == [13, 14, 12]
    many = Evaluation(np.zeros(20, int), np.array([[0.2, 0.8]] * 20))
    assert many.worst == list(range(12))


def test_texts_of_no_class_are_refused_below_the_confidence_of_most_validation_texts():
    def evaluation(*best):
        return Evaluation(np.zeros(len(best), int), np.array([[one, 1 - one] for one in best]))

    validation = evaluation(*np.linspace(0.6, 1.0, 21))  # Of which 5 % lie below 0.62.
    found = refusals(validation, evaluation(0.9, 0.61, 0.7, 0.8), evaluation(0.55, 0.6, 0.95))
    assert found["threshold"] == pytest.approx(0.62)
    assert found["out_of_scope_recall"] == pytest.approx(2 / 3)
    assert found["in_scope_acceptance"] == 0.75
