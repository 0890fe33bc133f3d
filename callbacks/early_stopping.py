"""Early stopping by patience or by Prechelt's criteria, resumable."""

from collections.abc import Sequence

import numpy as np

from callbacks.monitor import Monitor
from callbacks.resumable import Resumable

CRITERIA = ("patience", "gl", "pq")


class EarlyStopping(Resumable):
    """Stops training when the validation metric no longer improves.

    Judged at the end of each epoch t (counted from 1 in the formulas) by one of three criteria:

    - `"patience"`: the metric has not improved for `patience` epochs in a row.
    - `"gl"`: the generalisation loss exceeds `alpha`,
      `GL(t) = 100 (E(t) / min_{t' <= t} E(t') - 1)`, in percent.
    - `"pq"`: at the end of a strip of `strip` epochs, `GL(t) / P(t) > alpha`, where
      `P(t) = 1000 (mean of L / min of L - 1)` is the training progress in per mille, over the
      training values L of the last `strip` epochs.

    E is the monitored validation metric, L its training twin (`val_loss` -> `loss`). Unlike Keras'
    callback of the same name its state survives an interruption: `get_state` and `set_state` are
    saved in checkpoints. A new run starts afresh.

    Reference:
        Prechelt, Early Stopping - But When?, in Neural Networks: Tricks of the Trade, 1998,
        section 2.2.1. https://doi.org/10.1007/3-540-49430-8_3

    Args:
        monitor: Name of the metric in `logs`, or several, whose mean counts.
        patience: Epochs without improvement before `"patience"` stops; at least 1.
        min_delta: Least improvement that counts, in the metric's unit; for `"patience"` only.
        mode: `"min"`, `"max"` or `"auto"` (by the metric's name); `"gl"` and `"pq"` need an error,
            which falls.
        restore_best_weights: Whether training ends with the weights of the best epoch, stopped
            early or not.
        criterion: `"patience"`, `"gl"` or `"pq"`.
        alpha: Threshold of `"gl"` in percent and of `"pq"` as a ratio; above 0. Larger stops later.
        strip: Epochs of a strip (k in the paper); at least 2.
        every: Validation takes place in each so-many-th epoch, which alone may stop the run.

    Attributes:
        stopped_epoch: The epoch that stopped the run, counted from 0; None if none did.
        best, best_epoch: The best value and its epoch; None before the first.
    """

    def __init__(
        self,
        monitor: str | Sequence[str] = "val_loss",
        *,
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best_weights: bool = True,
        criterion: str = "patience",
        alpha: float = 2.0,
        strip: int = 5,
        every: int = 1,
    ):
        super().__init__(
            best=None,
            best_epoch=None,
            best_weights=None,
            epochs_since_best=0,
            training_values=[],
            stopped_epoch=None,
        )
        if criterion not in CRITERIA:
            raise ValueError(f"`criterion` must be one of {CRITERIA}. Received: {criterion!r}")
        if patience < 1:
            raise ValueError(f"`patience` must be at least 1. Received: patience={patience!r}")
        if not alpha > 0:
            raise ValueError(f"`alpha` must be above 0. Received: alpha={alpha!r}")
        if strip < 2:
            raise ValueError(f"`strip` must be at least 2. Received: strip={strip!r}")
        self.monitor = Monitor(monitor, mode, min_delta)
        if criterion != "patience" and (self.monitor.mode == "max" or min_delta):
            raise ValueError(
                f"`criterion` {criterion!r} needs a falling metric and min_delta=0. "
                f"Received: monitor={monitor!r}, mode={mode!r}, min_delta={min_delta!r}"
            )
        training_names = [name.removeprefix("val_") for name in self.monitor.names]
        self.training_monitor = Monitor(training_names, self.monitor.mode)
        self.patience, self.every = patience, every
        self.restore_best_weights = restore_best_weights
        self.criterion = criterion
        self.alpha = alpha
        self.strip = strip

    def on_epoch_end(self, epoch, logs=None):
        if self.criterion == "pq":
            training_value = self.training_monitor.read(logs)
            if training_value is not None:
                self.training_values = [*self.training_values, training_value][-self.strip :]
        value = self.monitor.read(logs)
        if value is None or (epoch + 1) % self.every:
            return
        if self.monitor.is_better(value, self.best):
            self.best, self.best_epoch, self.epochs_since_best = value, epoch, 0
            if self.restore_best_weights:
                # A checkpoint would turn a weight without axes into a number.
                self.best_weights = [np.asarray(weight) for weight in self.model.get_weights()]
        else:
            self.epochs_since_best += self.every
        if self._must_stop(epoch, value):
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.restore_best_weights and self.best_weights is not None:
            self.model.set_weights(self.best_weights)
            self.best_weights = None

    def set_state(self, state):
        """Continues from `get_state`; a run that had already stopped stays stopped."""
        super().set_state(state)
        if self.stopped_epoch is not None:
            self.model.stop_training = True

    def _must_stop(self, epoch, value):
        if self.criterion == "patience":
            return self.epochs_since_best >= self.patience
        if self.best is None:
            return False
        loss = generalization_loss(value, self.best)
        if self.criterion == "gl":
            return loss > self.alpha
        if (epoch + 1) % self.strip or len(self.training_values) < self.strip:
            return False
        # Multiplied out, because the progress is 0 if the training error does not change.
        return loss > self.alpha * training_progress(self.training_values)


def generalization_loss(value: float, best: float) -> float:
    """Prechelt's GL in percent: how far the validation error is above its minimum."""
    return 100 * _excess(value, best)


def training_progress(values: list[float]) -> float:
    """Prechelt's P in per mille: how far a strip's mean training error is above its minimum."""
    return 1000 * _excess(sum(values) / len(values), min(values))


def _excess(value, lowest):
    if lowest < 0:
        raise ValueError(f"Prechelt's criteria need errors of at least 0. Received: {lowest}")
    if lowest == 0:
        return 0.0 if value == 0 else float("inf")
    return value / lowest - 1
