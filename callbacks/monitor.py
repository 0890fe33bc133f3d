"""The metric that a callback watches: its name, its direction and its least improvement."""

import math
import warnings
from collections.abc import Mapping, Sequence

FALLING_SUFFIXES = ("loss", "error")
RISING_SUFFIXES = ("accuracy", "acc", "auc", "precision", "recall", "f1", "judge", "map50")


class Monitor:
    """Reads one metric, or the mean of several, from a callback's logs and compares its values.

    A value is better when it beats the best so far by more than `min_delta`; NaN never is.

    Args:
        name: Key of the metric in `logs`, or several, whose mean counts.
        mode: `"min"`, `"max"`, or `"auto"`: falling for names that end in loss or error, rising for
            names that end in accuracy, auc, precision, recall, f1, judge or map50.
        min_delta: Least improvement that counts, in the metric's own unit; at least 0.
    """

    def __init__(self, name: str | Sequence[str], mode: str = "auto", min_delta: float = 0.0):
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"`mode` must be 'auto', 'min' or 'max'. Received: mode={mode!r}")
        if min_delta < 0:
            raise ValueError(f"`min_delta` must be at least 0. Received: min_delta={min_delta!r}")
        self.names = (name,) if isinstance(name, str) else tuple(name)
        self.mode = _direction(self.names) if mode == "auto" else mode
        self.min_delta = min_delta
        self._warned = False

    def read(self, logs: Mapping[str, float] | None) -> float | None:
        """Returns the value, or None after warning once that a metric is not there."""
        logs = logs or {}
        missing = [name for name in self.names if name not in logs]
        if not missing:
            return sum(float(logs[name]) for name in self.names) / len(self.names)
        if not self._warned:
            self._warned = True
            known = ", ".join(sorted(logs)) or "none"
            warnings.warn(
                f"The metric {missing[0]!r} is not in the logs. Available: {known}.", stacklevel=3
            )
        return None

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether `value` improves on `best`; anything but NaN improves on None."""
        if best is None:
            return not math.isnan(value)
        if self.mode == "min":
            return value < best - self.min_delta
        return value > best + self.min_delta


def _direction(names: Sequence[str]) -> str:
    if names and all(name.endswith(FALLING_SUFFIXES) for name in names):
        return "min"
    if names and all(name.endswith(RISING_SUFFIXES) for name in names):
        return "max"
    raise ValueError(
        "`mode` must be 'min' or 'max' unless the names of all metrics show the same direction. "
        f"Received: {', '.join(map(repr, names)) or 'no name'}"
    )
