"""What a classifier says of the test examples."""

import numpy as np

from metrics.classification import Evaluation


def test_worst_are_the_wrong_answers_of_the_largest_losses():
    unsure = [[0.40, 0.35, 0.25]] * 12
    wrong = [[0.45, 0.55, 0.0], [0.1, 0.9, 0.0], [0.3, 0.0, 0.7]]
    evaluation = Evaluation(np.zeros(15, int), np.array(unsure + wrong))
    assert evaluation.worst == [13, 14, 12]
    many = Evaluation(np.zeros(20, int), np.array([[0.2, 0.8]] * 20))
    assert many.worst == list(range(12))
