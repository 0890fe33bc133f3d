"""Whether two answers are the same answer."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

_PNG = b"\x89PNG\r\n\x1a\n"
"""First bytes of a PNG file."""
Tensors = Mapping[str, np.ndarray]
Ties = Mapping[str, str]
Pair = tuple[np.ndarray, np.ndarray]


def difference(
    answers: Iterable[tuple[Tensors, Tensors]], tolerance: float, ties: Ties | None = None
) -> float:
    """Returns the largest difference of expected and received answers, if they agree.

    Floating outputs are measured against the largest value of the tensor, or 1 if that is less. NaN
    agrees with nothing, not even NaN, because no answer may contain it. PNG files agree if they
    have the same size and, but for a thousandth of the pixels, levels that differ by at most 1:
    rounding decides about single pixels. All other outputs must be equal, except in 16 bits
    (tolerances of at least 0.01): there one value or a tenth of an output's values may differ,
    because rounding decides between options that are nearly equal, such as the tags of a word.

    `ties` allows more, for the outputs that it names:

    - Scores of several axes rank rows along their last axis: classes, words, boxes. Rows may be
      swapped if their scores are within the tolerance of each other; all outputs that the same
      scores rank are swapped together. If a list ends among such scores, rows from beyond its end
      may replace others, in at most half of all rows.
    - Scores of one axis, the batch, are log-probabilities of generated texts. The texts may differ
      in at most half of all examples, if their log-probabilities are within the tolerance.

    The scores themselves must agree.

    Args:
        answers: Pairs of the expected and the received answer, arrays by output name.
        tolerance: Largest difference allowed.
        ties: By name of an output, the name of the floating output with its scores.

    Raises:
        ValueError: They do not agree; says which output, where and how.
    """
    largest = 0.0
    excused, count = dict.fromkeys(ties or (), 0), dict.fromkeys(ties or (), 0)
    for expected, answered in answers:
        _require_same_form(expected, answered)
        received = dict(answered)
        for scores, names in _by_scores(expected, ties or {}).items():
            if expected[scores].ndim > 1:
                found = _in_order(expected, received, scores, names, tolerance)
            else:
                found = _unequal(expected, received, names, tolerance)
            for name, (values, rows) in found.items():
                received[name] = values.copy()
                received[name][rows] = expected[name][rows]
                excused[name] += int(np.count_nonzero(rows))
                count[name] += rows.size
        largest = max(largest, _compared(expected, received, tolerance))
    for name in excused:
        if 2 * excused[name] > count[name]:
            raise ValueError(
                f"`{name}` differs in {excused[name]} of {count[name]} rows, at most half may"
            )
    return largest


def _require_same_form(expected: Tensors, received: Tensors) -> None:
    if expected.keys() != received.keys():
        raise ValueError(f"outputs are {sorted(received)}, expected {sorted(expected)}")
    for name in expected:
        if expected[name].shape != received[name].shape:
            raise ValueError(
                f"`{name}` has the shape {received[name].shape}, expected {expected[name].shape}"
            )


def _by_scores(expected: Tensors, ties: Ties) -> dict[str, list[str]]:
    """Returns the names of outputs by the name of their scores."""
    found: dict[str, list[str]] = {}
    for name, scores in ties.items():
        if name not in expected or scores not in expected:
            raise ValueError(f"`ties` must name outputs. Received: {name} and {scores}")
        shape = expected[scores].shape
        if expected[scores].dtype.kind != "f" or expected[name].shape[: len(shape)] != shape:
            raise ValueError(
                "`ties` must name floating scores, one for each row. Received: "
                f"{name} of shape {expected[name].shape} and {scores} of shape {shape}"
            )
        found.setdefault(scores, []).append(name)
    return found


def _unequal(
    expected: Tensors, received: Tensors, names: Sequence[str], tolerance: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns by name the received texts, and which of them are not the expected ones."""
    found = {}
    for name in names:
        same = _agree(_scaled(expected[name], received[name]), tolerance)
        found[name] = received[name], ~np.all(same, axis=tuple(range(1, same.ndim)))
    return found


def _in_order(
    expected: Tensors, received: Tensors, scores: str, names: Sequence[str], tolerance: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns by name the received rows in the expected order, as far as their scores allow it.

    Also returns which of the rows may be replaced because the list ends among equal scores.
    """
    shape = expected[scores].shape
    count, length = int(np.prod(shape[:-1])), shape[-1]
    pairs = [
        _scaled(
            expected[name].reshape(count, length, -1), received[name].reshape(count, length, -1)
        )
        for name in (scores, *names)
        if expected[name].size > 0
    ]
    order, free = np.tile(np.arange(length), (count, 1)), np.zeros((count, length), bool)
    same = [_agree(pair, tolerance).all(axis=-1) for pair in pairs]
    for number in np.flatnonzero(~np.all(same, axis=(0, -1)) if same else []):
        fits = np.ones((length, length), bool)
        for wanted, found in pairs:
            # The scores come first, so that few rows are compared in full.
            rows, columns = np.nonzero(fits)
            pair = wanted[number, rows], found[number, columns]
            fits[rows, columns] = _agree(pair, tolerance).all(axis=-1)
        order[number] = _assigned(fits)
        wanted, found = (values[number, :, 0] for values in pairs[0])
        last = np.abs([wanted, found[order[number]]] - wanted.min()) <= tolerance
        end = last.all(axis=0)
        # A row that shares its score with no other is not tied with any beyond the list either.
        free[number] = end & (end.sum() > 1) & ~fits[np.arange(length), order[number]]
    which = np.arange(count)[:, None], order
    return {
        name: (
            values.reshape(count, *values.shape[len(shape) - 1 :])[which].reshape(values.shape),
            free.reshape(shape),
        )
        for name, values in ((name, received[name]) for name in names)
    }


def _assigned(fits: np.ndarray) -> list[int]:
    """Returns a column for each row, no column twice, and as many as possible that fit.

    Args:
        fits: Whether a row and a column fit `(rows, rows)`.
    """
    owners: dict[int, int] = {}

    def claim(row: int, tried: set[int]) -> bool:
        for column in (row, *np.flatnonzero(fits[row])):
            if fits[row, column] and column not in tried:
                tried.add(column)
                if column not in owners or claim(owners[column], tried):
                    owners[column] = row
                    return True
        return False

    for row in range(len(fits)):
        claim(row, set())
    columns = {row: column for column, row in owners.items()}
    rest = iter([column for column in range(len(fits)) if column not in owners])
    return [columns[row] if row in columns else next(rest) for row in range(len(fits))]


def _compared(expected: Tensors, received: Tensors, tolerance: float) -> float:
    largest = 0.0
    floating = {name for name, values in expected.items() if values.dtype.kind == "f"}
    for name in sorted(floating):
        largest = max(largest, _distance(name, expected[name], received[name], tolerance))
    for name in sorted(expected.keys() - floating):
        unequal = ~_equal(expected[name], received[name])
        if np.count_nonzero(unequal) > (max(1, unequal.size // 10) if tolerance >= 0.01 else 0):
            where = tuple(int(i) for i in np.argwhere(unequal)[0])
            raise ValueError(
                f"`{name}` at {where} is {received[name][where]!r}, expected "
                f"{expected[name][where]!r}"
            )
    return largest


def _equal(expected: np.ndarray, received: np.ndarray) -> np.ndarray:
    """Marks the values that are equal, or PNG files of the same picture."""
    same = np.array(expected == received)
    if expected.dtype == object:
        pairs = np.broadcast_arrays(expected, received, same)
        for where in np.argwhere(~same):
            one, other, _ = (values[tuple(where)] for values in pairs)
            same[tuple(where)] = _same_picture(one, other)
    return same


def _same_picture(one: bytes, other: bytes) -> bool:
    if not (one.startswith(_PNG) and other.startswith(_PNG)):
        return False
    first, second = (tf.io.decode_png(file).numpy().astype(int) for file in (one, other))
    if first.shape != second.shape:
        return False
    differing = np.any(np.abs(first - second) > 1, axis=-1)
    return bool(np.count_nonzero(differing) <= max(1, differing.size // 1000))


def _distance(name: str, expected: np.ndarray, received: np.ndarray, tolerance: float) -> float:
    if expected.size == 0:
        return 0.0
    wanted, found = _scaled(expected, received)
    with np.errstate(invalid="ignore"):
        distance = np.abs(found - wanted)
    distance = np.where(found == wanted, 0.0, np.nan_to_num(distance, nan=np.inf, posinf=np.inf))
    if distance.max() > tolerance:
        where = tuple(int(i) for i in np.unravel_index(distance.argmax(), distance.shape))
        raise ValueError(
            f"`{name}` at {where} is {received[where]:.7g}, expected {expected[where]:.7g}: "
            f"{distance.max():.2g} apart, at most {tolerance:g} allowed"
        )
    return float(distance.max())


def _scaled(expected: np.ndarray, received: np.ndarray) -> Pair:
    """Returns floating arrays as shares of the largest value, and others as they are."""
    if expected.dtype.kind != "f":
        return expected, received
    scale = max(1.0, float(np.max(np.abs(expected), where=np.isfinite(expected), initial=0.0)))
    return expected.astype("float64") / scale, received.astype("float64") / scale


def _agree(pair: Pair, tolerance: float) -> np.ndarray:
    """Marks the values of two scaled arrays that agree."""
    expected, received = pair
    if expected.dtype.kind != "f":
        return _equal(expected, received)
    same = np.asarray(expected == received)
    with np.errstate(invalid="ignore"):
        return same | (np.abs(expected - received) <= tolerance)
