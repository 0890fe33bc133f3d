"""Confidence intervals of scores."""

import numpy as np

DRAWS = 1000
"""Number of test sets that are drawn for an interval."""


def interval(parts: np.ndarray, wholes: np.ndarray | None = None) -> tuple[float, float]:
    """Returns the 95 % interval of a score `sum(parts) / sum(wholes)` by the bootstrap.

    A test set of the same size is drawn from the examples, with replacement, 1000 times with a
    fixed seed. The interval lies between the 2.5 % and 97.5 % quantiles of the 1000 scores. Where
    every example has the same score, it has no width.

    Reference:
        Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.

    Args:
        parts: Contribution of each example to the numerator `(n,)`, such as 1 if it is correct,
            else 0. Examples that depend on each other, such as questions about one document, are
            summed.
        wholes: Contribution of each to the denominator `(n,)`. None: 1.

    Example:
        >>> low, high = interval(np.repeat([0, 1], [10, 90]))
        >>> round(low, 2), round(high, 2)
        (0.84, 0.96)
    """
    columns = np.stack([parts, np.ones(len(parts)) if wholes is None else wholes]).astype(float)
    # Equal examples are drawn together: correct and wrong ones are only two kinds.
    (parts, wholes), counts = np.unique(columns, axis=1, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(counts.sum(), counts / counts.sum(), DRAWS)
    numerators, denominators = drawn @ parts, drawn @ wholes  # (draws,)
    scores = numerators / np.where(denominators == 0, 1, denominators)
    low, high = np.quantile(scores, (0.025, 0.975))
    return float(low), float(high)


def bounds(name: str, parts: np.ndarray, wholes: np.ndarray | None = None) -> dict[str, float]:
    """Returns the interval of a score by the names under which `runs.report` finds its bounds."""
    low, high = interval(parts, wholes)
    return {f"{name}_low": low, f"{name}_high": high}
