"""Shows the progress of training, one line per epoch."""

import math
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TextIO

from callbacks.monitor import Monitor
from callbacks.resumable import Resumable


class Progress(Resumable):
    """Prints a line at the end of each epoch, such as

    `epoch 3/10  loss 0.3102  val_loss 0.2917  val_accuracy 0.914, best 0.9185 in 2  rate 0.00079
    0:12 left`

    On a terminal, a line for the current epoch is rewritten in place during the epoch. A file has
    no control codes. Put this callback after those that write into `logs`. A metric that was not
    measured, NaN, is left out. A model may name other logs than the losses in its attribute
    `shown_logs`.

    Args:
        monitor: Name of the metric in `logs` that is shown with its best value, or several, whose
            mean is shown. None shows no such metric.
        file: Where to print. None: the standard output at the time of printing.
    """

    def __init__(self, monitor: str | Sequence[str] | None = None, file: TextIO | None = None):
        super().__init__(best=None, best_epoch=None)
        self.monitor = None if monitor is None else Monitor(monitor)
        self.file = file

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._start: float | None = None
        self._steps = 0
        self._width = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._first: int | None = None

    def on_train_batch_begin(self, batch, logs=None):
        if self._start is None:
            self._start = time.perf_counter()
        if self._first is None:
            self._first = batch

    def on_train_batch_end(self, batch, logs=None):
        total = self.params["steps"]
        if self._out.isatty():
            loss = "" if not logs or "loss" not in logs else f"  loss {logs['loss']:.4g}"
            done = self._steps + batch + 1 - self._first
            text = (
                f"epoch {self._epoch + 1}/{self.params['epochs']}  step {batch + 1}/{total}{loss}"
            )
            self._show(f"{text}{self._left(done, batch + 1)}", end="\r")
        if batch + 1 >= total:
            self._steps += total - self._first

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        parts = [f"epoch {epoch + 1}/{self.params['epochs']}"]
        monitored = self.monitor.names if self.monitor else ()
        parts += [
            f"{name} {logs[name]:.4g}"
            for name in getattr(self.model, "shown_logs", ("loss", "val_loss"))
            if not math.isnan(logs.get(name, math.nan)) and monitored != (name,)
        ]
        value = self.monitor.read(logs) if self.monitor else None
        if value is not None and not math.isnan(value):
            if self.monitor.is_better(value, self.best):
                self.best, self.best_epoch = value, epoch
            title = monitored[0] if len(monitored) == 1 else f"mean of {', '.join(monitored)}"
            best = "" if self.best is None else f", best {self.best:.4g} in {self.best_epoch + 1}"
            parts.append(f"{title} {value:.4g}{best}")
        parts += [f"rate {rate:.3g}" for rate in self._rates()]
        self._show("  ".join(parts) + self._left(self._steps, self.params["steps"]), end="\n")

    def _rates(self) -> list[float]:
        named = getattr(self.model, "optimizers", None)
        optimizers = named.values() if isinstance(named, dict) else [self.model.optimizer]
        return [float(one.learning_rate) for one in optimizers if one is not None]

    def _left(self, done: int, batches: int) -> str:
        """Estimates the time left from the speed of the steps so far, validation included."""
        epochs = self.params["epochs"] - self._epoch
        rest = epochs * self.params["steps"] - batches
        if rest <= 0 or not done or self._start is None:
            return ""
        seconds = round((time.perf_counter() - self._start) / done * rest)
        return f"  {str(timedelta(seconds=seconds)).removeprefix('0:')} left"

    @property
    def _out(self) -> TextIO:
        return self.file or sys.stdout

    def _show(self, text: str, end: str) -> None:
        # What an earlier, longer line has left on a terminal is overwritten with spaces.
        padded = text.ljust(self._width) if self._out.isatty() else text
        self._width = len(text) if end == "\r" else 0
        print(padded, end=end, file=self._out, flush=True)
