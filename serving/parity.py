"""Whether two answers are the same answer."""

from collections.abc import Mapping

import numpy as np

Tensors = Mapping[str, np.ndarray]


def difference(expected: Tensors, received: Tensors, tolerance: float) -> float:
    """Returns the largest difference of two answers, if they agree.

    Floating outputs are measured against the largest value of the tensor, or 1 if that is less; NaN
    agrees with nothing, not even NaN, since no answer is to hold it. All other outputs must be
    equal, but where they are ranked by a floating output of the same shape, which falls along the
    last axis: there the order among ties (values that lie within the tolerance) is free. In 16 bits
    (tolerances of at least 0.01), where the choice between two that are nearly alike may fall
    either way, one or a tenth of them may differ.

    Args:
        expected: Arrays by output name.
        received: Arrays by output name.
        tolerance: Largest difference allowed.

    Raises:
        ValueError: They do not agree; says which output, where and how.
    """
    if expected.keys() != received.keys():
        raise ValueError(f"outputs are {sorted(received)}, expected {sorted(expected)}")
    for name in expected:
        if expected[name].shape != received[name].shape:
            raise ValueError(
                f"`{name}` has the shape {received[name].shape}, expected {expected[name].shape}"
            )
    floating = {name: values for name, values in expected.items() if values.dtype.kind == "f"}
    largest = 0.0
    for name in floating:
        largest = max(largest, _distance(name, expected[name], received[name], tolerance))
    for name in expected.keys() - floating.keys():
        unequal = expected[name] != received[name]
        for scores in floating.values():
            if scores.shape == unequal.shape and _ranked(scores):
                unequal = unequal & ~_tied(scores, tolerance)
        if np.count_nonzero(unequal) > (max(1, unequal.size // 10) if tolerance >= 0.01 else 0):
            where = tuple(int(i) for i in np.argwhere(unequal)[0])
            raise ValueError(
                f"`{name}` at {where} is {received[name][where]!r}, expected "
                f"{expected[name][where]!r}"
            )
    return largest


def _distance(name: str, expected: np.ndarray, received: np.ndarray, tolerance: float) -> float:
    if expected.size == 0:
        return 0.0
    scale = max(1.0, float(np.max(np.abs(expected), where=np.isfinite(expected), initial=0.0)))
    with np.errstate(invalid="ignore"):
        distance = np.abs(received.astype("float64") - expected) / scale
    distance = np.where(
        received == expected, 0.0, np.nan_to_num(distance, nan=np.inf, posinf=np.inf)
    )
    if distance.max() > tolerance:
        where = tuple(int(i) for i in np.unravel_index(distance.argmax(), distance.shape))
        raise ValueError(
            f"`{name}` at {where} is {received[where]:.7g}, expected {expected[where]:.7g}: "
            f"{distance.max():.2g} apart, at most {tolerance:g} allowed"
        )
    return float(distance.max())


def _ranked(scores: np.ndarray) -> bool:
    """Whether each row of a batch falls, or at least does not rise."""
    return scores.ndim > 1 and bool(np.all(np.diff(scores, axis=-1) <= 0))


def _tied(scores: np.ndarray, tolerance: float) -> np.ndarray:
    """Marks the values that have another one within the tolerance on the last axis."""
    near = np.abs(scores[..., :, None] - scores[..., None, :]) <= tolerance
    return near.sum(axis=-1) > 1
