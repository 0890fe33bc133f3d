import numpy as np
import pytest

from metrics.policies import (
    Answered,
    baselines,
    best,
    compared,
    exploited,
    means_by_divergence,
    samples,
    table,
)


def answered(texts, rewards, judged, kl=None):
    ratings = {"reward": np.array(rewards, float), "judge": np.array(judged, float)}
    lengths = np.array([len(text) for text in texts], float)
    return Answered(texts, ratings, lengths, None if kl is None else np.array(kl, float))


BEFORE = answered(["a b", "c d", "a b", "e"], [0, 0, 1, 1], [1, 1, 1, 1])
AFTER = answered(["a b", "a b", "a b", "a b"], [1, 2, 3, 4], [2, 0, 1, 2], [1, 2, 3, 4])


def test_a_policy_is_compared_with_that_before():
    scores = compared(BEFORE, AFTER)
    assert next(iter(scores)) == "reward"
    assert (scores["reward"], scores["reward_before"]) == (2.5, 0.5)
    assert (scores["judge"], scores["judge_before"]) == (1.25, 1)
    assert scores["preferred_by_reward"] == 1.0
    assert scores["preferred_by_judge"] == (1 + 0 + 0.5 + 1) / 4
    assert scores["preferred_by_judge_low"] < 0.625 < scores["preferred_by_judge_high"]
    assert scores["kl"] == 2.5 and scores["length"] == 3
    assert (scores["distinct_2"], scores["distinct_2_before"]) == (1 / 4, 2 / 3)
    assert (scores["commonest_share"], scores["commonest_share_before"]) == (1, 1 / 2)


def test_best_of_n_takes_the_answer_with_the_highest_reward():
    found = best([BEFORE, AFTER, answered("wxyz", [5, 0, 3, 0], [7, 7, 7, 7])])
    assert found.texts == ["w", "a b", "a b", "a b"]
    np.testing.assert_array_equal(found.ratings["reward"], [5, 2, 3, 4])
    np.testing.assert_array_equal(found.ratings["judge"], [7, 0, 1, 2])
    np.testing.assert_array_equal(found.lengths, [1, 3, 3, 3])
    assert found.kl is not None and found.kl.mean() == pytest.approx(np.log(3) - 2 / 3)


def test_a_table_has_a_row_for_each_policy():
    heading, rows = table({"before": BEFORE, "after": AFTER})
    assert heading[:2] == ("answers", "reward") and heading[-1] == "KL, nats"
    assert [row[0] for row in rows] == ["before", "after"] and rows[0][-1] == "0"
    assert all(len(row) == len(heading) for row in rows)
    groups = {"before": BEFORE, "before, best of 3": AFTER, "after": AFTER}
    assert baselines(groups) == {
        "before": ("the network before", 0.5),
        "before_best_of_3": ("the network before, best of 3", 2.5),
    }


def test_samples_show_both_answers_with_their_ratings():
    heading, (row, _) = samples([b" Hi ", b"Ho"], BEFORE, AFTER)
    assert row == ("Hi", "a b", "0", "1", "a b", "1", "2")
    assert heading[:4] == ("prompt", "answer before", "reward before", "judge before")
    assert heading[4:] == ("answer after", "reward after", "judge after")
    found = means_by_divergence({"before": BEFORE, "after": AFTER})
    assert found == {
        "before": (0.0, {"reward": 0.5, "judge": 1.0}),
        "after": (2.5, {"reward": 2.5, "judge": 1.25}),
    }


def test_a_reward_that_rises_while_the_judge_falls_is_exploited():
    scores = {"reward": 1.0, "reward_before": 0.0, "judge": 0.0, "judge_before": 1.0}
    (found,) = exploited(scores, {})
    assert "exploits the reward: that of the judge fell from 1 to 0" in found
    for change in ({"judge": 2.0}, {"reward": -1.0}):
        assert [*exploited(scores | change, {})] == []
    assert [*exploited({"reward": 1.0, "reward_before": 0.0}, {})] == []


def test_a_judge_that_falls_after_the_best_epoch_is_a_warning_unless_it_may_be_chance():
    scores = {"reward": 1.0, "reward_before": 0.0, "judge": 1.0, "judge_before": 0.0}
    history = {"val_reward": [0, 1, 2, 3.0], "val_judge": [0, 1, 0.5, 0.25]}
    (found,) = exploited(scores, history | {"val_judge_error": [0.2] * 4})
    assert found.startswith("After epoch 2 the policy exploits the reward")
    assert "fell from 1 to 0.25 while the reward rose from 1 to 3." in found
    assert [*exploited(scores, history | {"val_judge_error": [0.3] * 4})] == []
    history["val_reward"] = [0, 1, 2, 1.0]
    assert [*exploited(scores, history | {"val_judge_error": [0.2] * 4})] == []
