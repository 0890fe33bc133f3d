"""What a report warns of, case by case."""

import pytest

from runs.doubts import doubts
from runs.report import Report

MAJORITY = ("the most frequent class", 0.5)


def doubted(scores=None, baselines=None, histories=None, num_test: int = 100) -> list[str]:
    report = Report(
        title="",
        config={},
        scores=scores or {"accuracy": 0.9},
        measured="",
        histories=histories or {"": {"loss": [1.0, 0.5]}},
        baselines=baselines or {"majority": MAJORITY},
    )
    return list(doubts(report, num_test, "texts"))


def test_a_good_run_is_not_doubted():
    interval = {"accuracy_low": 0.8, "accuracy_high": 0.95}
    baselines = {"majority": MAJORITY, "linear": ("words", 0.9)}
    assert doubted({"accuracy": 0.9, **interval, "loss": 0.3}, baselines) == []
    assert doubted(baselines={"linear": ("words", 0.9)}) == []
    # Of perplexities, which have no baseline, nothing is said.
    assert doubted({"perplexity": 90.0}, {"none": ("", 0.0)}, {"": {}}) == []


def test_a_simpler_predictor_that_is_better_comes_first():
    baselines = {"majority": MAJORITY, "linear": ("logistic regression on words", 0.75)}
    first, second = doubted({"accuracy": 0.25}, baselines)
    assert first == (
        "A simpler predictor beats this network, with accuracy 0.75 against 0.25: "
        "logistic regression on words."
    )
    assert second.startswith("This network is no better than always giving the most frequent class")


def test_fewer_bits_are_better():
    baselines = {"ngram": ("bytes, counted", 1.5)}
    (warning,) = doubted({"bits_per_byte": 1.75}, baselines)
    assert "with bits per byte 1.5 against 1.75: bytes, counted." in warning
    assert doubted({"bits_per_byte": 1.25}, baselines) == []


@pytest.mark.parametrize("score", [0.5, 0.25])
def test_a_run_no_better_than_the_most_frequent_class_is_told_what_to_try(score):
    (warning,) = doubted({"accuracy": score})
    assert f"accuracy {score:.4g} against 0.5" in warning
    for advice in ("--learning-rate", "--epochs", "--preset"):
        assert advice in warning


@pytest.mark.parametrize(
    ("losses", "rose"),
    [
        ([0.5, 0.7, 0.6], True),
        ([0.5, 0.7, 0.5], True),
        ([0.5, 0.7, 0.4], False),
        ([0.5, 0.4, 0.9], False),
        ([0.5, 0.5, 0.5], False),
        ([0.5], False),
        ([], False),
    ],
)
def test_a_loss_that_stays_above_that_of_the_first_epoch_is_doubted(losses, rose):
    warnings = doubted(histories={"": {"loss": losses}})
    assert len(warnings) == rose
    if rose:
        assert f"0.5 after the first and {losses[-1]} after the last" in warnings[0]


def test_the_stage_whose_loss_rose_is_named():
    histories = {"reward": {"loss": [1.0, 0.5]}, "policy": {"loss": [1.0, 2.0]}}
    (warning,) = doubted(histories=histories)
    assert "loss of policy rose" in warning


def test_an_interval_wider_than_the_gain_is_doubted():
    scores = {"accuracy": 0.625, "accuracy_low": 0.5, "accuracy_high": 0.75}
    (warning,) = doubted(scores)
    assert warning == (
        "The 95 % interval is 0.25 wide, and the gain over always giving the most frequent class "
        "is only 0.125."
    )
    assert doubted({**scores, "accuracy_high": 0.625}) == []


def test_a_score_without_an_error_is_not_certain():
    (warning,) = doubted({"f1": 1.0, "f1_low": 1.0, "f1_high": 1.0}, num_test=200)
    assert "no width" in warning and "1.5% of other texts" in warning
    assert doubted({"f1": 0.9, "f1_low": 0.9, "f1_high": 0.9}, num_test=200) == []


def test_few_test_examples_are_doubted():
    assert doubted(num_test=99) == ["The test set has fewer than 100 texts: 99."]
