import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from layers import RewardHead
from metrics.preferences import PairwiseLoss, Preferences, accuracy


def log_sigmoid(x):
    return -np.log1p(np.exp(-np.asarray(x, float)))


def test_the_loss_of_a_pair_is_minus_the_log_of_its_probability():
    loss = PairwiseLoss(reduction=None)(np.ones((2, 2)), np.array([[3.0, 1.0], [0.0, 0.5]]))
    np.testing.assert_allclose(loss, [-log_sigmoid(2), -log_sigmoid(-0.5)], rtol=1e-6)


def test_a_ranked_list_counts_as_one_example_with_all_its_pairs():
    there = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], "float32")
    rewards = np.array([[2, 3, -1, 99], [1, 0, 99, 99]], "float32")
    each = np.mean(log_sigmoid([2 - 3, 2 + 1, 3 + 1])), log_sigmoid(1)
    np.testing.assert_allclose(PairwiseLoss()(there, rewards), -np.mean(each), rtol=1e-6)
    metric = accuracy()
    metric.update_state(there, rewards)
    assert float(metric.result()) == pytest.approx((2 / 3 + 1) / 2)


def test_answers_with_one_reward_are_half_right():
    metric = accuracy()
    metric.update_state(np.ones((2, 2)), np.array([[1, 1], [2, 1]], "float32"))
    assert float(metric.result()) == 0.75
    found = Preferences(np.array([[1, 1], [2, 1]]), np.ones((2, 2), int), ["", ""])
    assert found.scores["accuracy"] == 0.75 and found.longer == 0.5


def test_the_loss_is_least_at_the_coefficient_of_bradley_and_terry():
    random = np.random.default_rng(0)
    features = random.normal(size=(4000, 2))
    is_first = random.random(4000) < 1 / (1 + np.exp(-1.5 * (features[:, 0] - features[:, 1])))
    theirs = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-8)
    theirs.fit((features[:, 0] - features[:, 1])[:, None], is_first)
    coefficient = theirs.coef_[0, 0]
    assert coefficient == pytest.approx(1.5, abs=0.1)
    head = RewardHead()
    rows = np.where(is_first[:, None], features, features[:, ::-1]).reshape(-1, 1, 1)
    head.build(rows.shape)

    def loss(kernel):
        head.kernel.assign([kernel])
        return float(PairwiseLoss()(np.ones((4000, 2)), keras.ops.reshape(head(rows), (-1, 2))))

    slopes = [loss(k + 0.05) - loss(k - 0.05) for k in (coefficient - 0.1, coefficient, 2.0)]
    assert slopes[0] < -1e-4 and abs(slopes[1]) < 1e-5 and slopes[2] > 1e-4


def test_swapping_the_answers_negates_every_margin():
    rewards = np.random.default_rng(0).normal(size=(9, 2))
    found, swapped = (
        Preferences(some, np.ones((9, 2), int), [""] * 9) for some in (rewards, rewards[:, ::-1])
    )
    np.testing.assert_array_equal(found.margins, -swapped.margins)
    np.testing.assert_allclose(found.probabilities, 1 - swapped.probabilities)
    assert found.scores["accuracy"] == pytest.approx(1 - swapped.scores["accuracy"])


def scored() -> Preferences:
    """Two pairs of one set and a list of three answers of another."""
    rewards = np.array([[2.0, 1.0, 0], [0.0, 3.0, 0], [1.0, 0.5, -1.0]])
    lengths = np.array([[10, 9, 0], [8, 40, 0], [5, 20, 30]])
    return Preferences(rewards, lengths, ["a", "a", "b"])


def test_scores_by_hand():
    found = scored()
    margins = [1, -3, 0.5, 2, 1.5]
    np.testing.assert_array_equal(found.margins, margins)
    scores = found.scores
    assert scores["accuracy"] == 0.8 and found.longer == 0.2
    assert scores["accuracy_low"] <= 0.8 <= scores["accuracy_high"]
    assert scores["loss"] == pytest.approx(-np.mean(log_sigmoid(margins)))
    # Only 10 and 9 bytes differ by at most a tenth.
    assert scores["similar_length_accuracy"] == 1
    assert (scores["a_accuracy"], scores["b_accuracy"]) == (0.5, 1)
    assert found.worst == [1]


def test_the_interval_draws_prompts_and_not_pairs():
    # 4 lists of 6 equal pairs each: as uncertain as 4 examples, not 24.
    rewards = np.repeat([[4, 3, 2, 1], [1, 2, 3, 4]], 2, axis=0)
    scores = Preferences(rewards, np.ones((4, 4), int), [""] * 4).scores
    assert (scores["accuracy_low"], scores["accuracy_high"]) == (0, 1)


def test_calibration_is_the_distance_of_confidence_and_accuracy():
    # 0.88 is correct twice of four times, 0.53 always.
    strong, weak = np.log(0.88 / 0.12), np.log(0.53 / 0.47)
    margins = np.array([strong, -strong, strong, -strong, weak])
    rewards = np.stack([margins, np.zeros(5)], axis=1)
    found = Preferences(rewards, np.ones((5, 2), int), [""] * 5)
    confidence, hits, counts = found.calibration
    np.testing.assert_allclose(confidence, [0.53, 0.88])
    np.testing.assert_allclose(hits, [1, 0.5])
    assert counts.tolist() == [1, 4]
    assert found.scores["calibration_error"] == pytest.approx((0.47 + 4 * 0.38) / 5)


def test_a_network_that_is_certain_has_no_empty_bin():
    found = Preferences(np.array([[50.0, -50.0]]), np.ones((1, 2), int), [""])
    assert found.calibration[0].tolist() == [1.0] and found.scores["calibration_error"] == 0


def test_tables_have_a_row_for_each_set_and_group():
    found = scored()
    _, sets = found.by_set()
    assert [(row[0], row[1], row[3], row[4]) for row in sets] == [
        ("a", "0.500", "0.500", 2),
        ("b", "1.000", "0.000", 3),
    ]
    _, groups = found.by_difference()
    assert [row[:2] for row in groups][::4] == [("0.5 to 0.5", "1.000"), ("3 to 3", "0.000")]
    one = Preferences(found.rewards, found.lengths, [""] * 3)
    assert one.by_set()[1] == [] and "_accuracy" not in one.scores
