"""Ends training with the weights of the best epoch, or of one that is as good; resumable."""

import math
from collections.abc import Sequence

import numpy as np

from callbacks.monitor import Monitor
from callbacks.resumable import Resumable


class BestWeights(Resumable):
    """Restores the weights of the best epoch, or of one that is as good, when training ends.

    The value of an epoch is the metric at its end, or the mean of several. If several epochs have
    the same value, the one with the lower `tie` is the best, then the earlier one. An epoch whose
    value is NaN is never the best; if there is no other, the model keeps its last weights.

    A proportion, such as an accuracy, that is measured on few examples may be highest in an early
    epoch by chance. With `num_examples` the callback keeps the latest epoch whose proportion p is
    within one standard error of the best: `p >= best - sqrt(best * (1 - best) / num_examples)`.

    The weights are kept once, in main memory, and saved in checkpoints (`get_state`, `set_state`).
    A new run starts afresh. Writes `logs["kept_epoch"]`, the epoch that would be kept if training
    ended, counted from 1; 0 if there is none yet.

    With `EarlyStopping` in the same run, let only one of them restore weights:
    `EarlyStopping(..., restore_best_weights=False)`.

    Reference:
        Breiman, Friedman, Olshen & Stone, Classification and Regression Trees, 1984, section
        3.4.3, for the rule of one standard error.

    Args:
        monitor: Name of the metric in `logs`, or several, whose mean counts.
        tie: Name of a loss in `logs` that decides between equal values; None for the earlier epoch,
            as where `logs` have no such loss.
        mode: `"min"`, `"max"` or `"auto"` (by the metrics' names).
        num_examples: Number of independent examples behind the proportions; at least 1. F1 is not a
            proportion of them, so the rule is only approximate for it. None keeps the best epoch
            itself, as for metrics that fall, such as losses.

    Attributes:
        kept, kept_epoch: The value and the epoch whose weights are kept.
        best, best_epoch: The best value and its epoch.
        last, last_epoch: The value of the last epoch whose value is no NaN, and that epoch. All
            epochs are counted from 0, and all attributes are None before the first.
    """

    def __init__(
        self,
        monitor: str | Sequence[str] = "val_loss",
        tie: str | None = "val_loss",
        *,
        mode: str = "auto",
        num_examples: int | None = None,
    ):
        super().__init__(
            best=None,
            best_epoch=None,
            best_tie=None,
            kept_weights=None,
            kept=None,
            kept_epoch=None,
            last=None,
            last_epoch=None,
        )
        if num_examples is not None and num_examples < 1:
            raise ValueError(
                f"`num_examples` must be at least 1. Received: num_examples={num_examples}"
            )
        self.monitor = Monitor(monitor, mode)
        self.tie = tie
        self.num_examples = num_examples if self.monitor.mode == "max" else None

    def on_epoch_end(self, epoch, logs=None):
        value = self.monitor.read(logs)
        if value is None:
            return
        if not math.isnan(value):
            self.last, self.last_epoch = value, epoch
        tie = (logs or {}).get(self.tie)
        if self._is_better(value, tie):
            self.best, self.best_epoch, self.best_tie = value, epoch, tie
        if self.best_epoch == epoch or self._is_near(value):
            self.kept, self.kept_epoch = value, epoch
            # A checkpoint would turn a weight without axes into a number.
            self.kept_weights = [np.asarray(weight) for weight in self.model.get_weights()]
        if logs is not None:
            logs["kept_epoch"] = 0 if self.kept_epoch is None else self.kept_epoch + 1

    def on_train_end(self, logs=None):
        if self.kept_weights is not None:
            self.model.set_weights(self.kept_weights)
            self.kept_weights = None

    def _is_better(self, value, tie):
        if self.monitor.is_better(value, self.best):
            return True
        return value == self.best and None not in (tie, self.best_tie) and tie < self.best_tie

    def _is_near(self, value):
        """Whether a value is within one standard error of the best."""
        if self.num_examples is None or self.best is None:
            return False
        variance = max(0.0, self.best * (1 - self.best)) / self.num_examples
        return value >= self.best - math.sqrt(variance)
