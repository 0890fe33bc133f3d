"""Ends a run with the weights of its best epoch, resumable."""

from collections.abc import Sequence

import keras

from callbacks.monitor import Monitor


class BestWeights(keras.callbacks.Callback):
    """Gives the model the weights of the epoch with the best monitored value when training ends.

    The value of an epoch is the metric at its end, or the mean of several. Of epochs with the same
    value the one with the lower `tie` counts, then the earlier one. An epoch whose value is NaN is
    never the best; if no epoch is, the model keeps its last weights. The weights are kept once, in
    main memory, and go with a checkpoint (`get_state`, `set_state`). A new run starts afresh.

    Writes `logs["best_epoch"]`, the best epoch so far, counted from 1; 0 if there is none yet.

    With `EarlyStopping` in the same run, let only one of them restore weights:
    `EarlyStopping(..., restore_best_weights=False)`.

    Args:
        monitor: Name of the metric in `logs`, or several, whose mean counts.
        tie: Name of a loss in `logs` that decides between equal values; None for the earlier epoch,
            as where `logs` have no such loss.
        mode: `"min"`, `"max"` or `"auto"` (by the metrics' names).

    Attributes:
        best, best_epoch: The best value and its epoch, counted from 0; None before the first.
        last, last_epoch: The value of the last epoch that had one, and the epoch; likewise.
    """

    def __init__(
        self,
        monitor: str | Sequence[str] = "val_loss",
        tie: str | None = "val_loss",
        *,
        mode: str = "auto",
    ):
        super().__init__()
        self.monitor = Monitor(monitor, mode)
        self.tie = tie
        self._reset()

    def on_train_begin(self, logs=None):
        self._reset()

    def on_epoch_end(self, epoch, logs=None):
        value = self.monitor.read(logs)
        if value is None:
            return
        self.last, self.last_epoch = value, epoch
        tie = (logs or {}).get(self.tie)
        if self._is_better(value, tie):
            self.best, self.best_epoch, self.best_tie = value, epoch, tie
            self.best_weights = self.model.get_weights()
        if logs is not None:
            logs["best_epoch"] = 0 if self.best_epoch is None else self.best_epoch + 1

    def on_train_end(self, logs=None):
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)
            self.best_weights = None

    def get_state(self) -> dict[str, object]:
        """Returns what a resumed run needs: numbers and a list of arrays."""
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_tie": self.best_tie,
            "best_weights": self.best_weights,
            "last": self.last,
            "last_epoch": self.last_epoch,
        }

    def set_state(self, state: dict) -> None:
        """Continues from `get_state`; call it after `on_train_begin`."""
        self.best = state["best"]
        self.best_epoch = state["best_epoch"]
        self.best_tie = state["best_tie"]
        self.best_weights = state["best_weights"]
        self.last = state["last"]
        self.last_epoch = state["last_epoch"]

    def _is_better(self, value, tie):
        if self.monitor.is_better(value, self.best):
            return True
        return value == self.best and None not in (tie, self.best_tie) and tie < self.best_tie

    def _reset(self):
        self.best = self.best_epoch = self.best_tie = self.best_weights = None
        self.last = self.last_epoch = None
