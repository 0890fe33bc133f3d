"""Exports the model each time it gets better."""

from collections.abc import Callable
from pathlib import Path

import keras

from callbacks.monitor import Monitor


class ExportBest(keras.callbacks.Callback):
    """Exports a new version at the end of each epoch that improves the monitored metric.

    Its state goes with a checkpoint (`get_state`, `set_state`), so that a resumed run exports
    only what beats the versions before the interruption. A new run starts afresh. Where several
    processes train one model, only the one that writes files gets this callback.

    Args:
        export: Called with the model and the epoch's logs; writes a version and returns its
            folder. Usually a function around `serving.export`.
        monitor: Name of the metric in `logs`.
        mode: `"min"`, `"max"` or `"auto"` (by the metric's name).
        min_delta: Least improvement that is worth a version, in the metric's unit.

    Attributes:
        best, best_epoch: The exported model's value and its epoch, counted from 0; None before.
        version: Folder of the newest version; None before the first.
    """

    def __init__(
        self,
        export: Callable[[keras.Model, dict[str, float]], Path],
        monitor: str = "val_loss",
        *,
        mode: str = "auto",
        min_delta: float = 0.0,
    ):
        super().__init__()
        self.export = export
        self.monitor = Monitor(monitor, mode, min_delta)
        self._reset()

    def on_train_begin(self, logs=None):
        self._reset()

    def on_epoch_end(self, epoch, logs=None):
        value = self.monitor.read(logs)
        if value is not None and self.monitor.is_better(value, self.best):
            self.version = Path(self.export(self.model, dict(logs)))
            self.best, self.best_epoch = value, epoch

    def get_state(self) -> dict[str, object]:
        """Returns what a resumed run needs."""
        version = None if self.version is None else str(self.version)
        return {"best": self.best, "best_epoch": self.best_epoch, "version": version}

    def set_state(self, state: dict) -> None:
        """Continues from `get_state`; call it after `on_train_begin`."""
        self.best = state["best"]
        self.best_epoch = state["best_epoch"]
        self.version = None if state["version"] is None else Path(state["version"])

    def _reset(self):
        self.best = None
        self.best_epoch = None
        self.version = None
