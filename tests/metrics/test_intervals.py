import numpy as np
import pytest
from scipy import stats

from metrics.intervals import bounds, interval


@pytest.mark.parametrize(("correct", "number"), [(267, 270), (50, 100), (900, 1000)])
def test_the_interval_of_an_accuracy_is_that_of_the_binomial_distribution(correct, number):
    hits = np.arange(number) < correct
    expected = stats.binom.ppf((0.025, 0.975), number, correct / number) / number
    # At most one example away: 1000 draws are not all.
    np.testing.assert_allclose(interval(hits), expected, atol=max(1 / number, 0.004))


def test_the_interval_of_a_ratio_is_that_of_scipy():
    rng = np.random.default_rng(1)
    wholes = rng.integers(0, 9, 300)
    parts = rng.binomial(wholes, 0.7)
    expected = stats.bootstrap(
        (parts, wholes),
        lambda parts, wholes, axis: parts.sum(axis) / wholes.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=2000,
        method="percentile",
        rng=rng,
    ).confidence_interval
    np.testing.assert_allclose(interval(parts, wholes), expected, atol=0.006)


def test_the_interval_is_the_same_each_time_and_in_any_order():
    values = np.random.default_rng(0).random(50)
    assert interval(values) == interval(values[::-1])


def test_equal_examples_have_an_interval_without_width():
    assert interval(np.ones(20, bool)) == (1.0, 1.0)
    assert interval(np.zeros(5), np.zeros(5)) == (0.0, 0.0)
    assert bounds("f1", np.array([0.5])) == {"f1_low": 0.5, "f1_high": 0.5}
