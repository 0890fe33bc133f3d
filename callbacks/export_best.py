"""Exports the model each time it gets better."""

from collections.abc import Callable
from pathlib import Path

import keras

from callbacks.monitor import Monitor
from callbacks.resumable import Resumable


class ExportBest(Resumable):
    """Exports a new version at the end of each epoch that improves the monitored metric.

    Its state is saved in checkpoints (`get_state`, `set_state`), so that a resumed run exports
    only models that are better than the versions before the interruption. A new run starts afresh.
    If several processes train one model, only the one that writes files gets this callback.

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
        super().__init__(best=None, best_epoch=None, version=None)
        self.export = export
        self.monitor = Monitor(monitor, mode, min_delta)

    def on_epoch_end(self, epoch, logs=None):
        value = self.monitor.read(logs)
        if value is not None and self.monitor.is_better(value, self.best):
            self.version = Path(self.export(self.model, dict(logs)))
            self.best, self.best_epoch = value, epoch

    def get_state(self):
        """Returns the state for a resumed run, with the folder as text."""
        return super().get_state() | {"version": self.version and str(self.version)}

    def set_state(self, state):
        """Continues from `get_state`; call it after `on_train_begin`."""
        super().set_state(state)
        self.version = self.version and Path(self.version)
