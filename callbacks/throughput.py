"""Measures the speed of training."""

import time

import keras


class Throughput(keras.callbacks.Callback):
    """Logs the training examples per second of each epoch.

    The time runs from the beginning of the epoch's first batch to the end of its last, so it
    excludes validation and the work of other callbacks at the epoch's end. The first epoch includes
    the tracing of the graph. Batches are counted by their index, since several steps may end in one
    call, and since a resumed epoch begins in its middle. Written at the end of each epoch as
    `logs["examples_per_second"]`; an epoch without a batch has none.

    Args:
        batch_size: Examples per batch over all replicas; at least 1. If the data has fewer examples
            than that, a batch has all of them. A smaller last batch is counted as a full one.
    """

    def __init__(self, batch_size: int):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self._first_batch = None
        self._batches = 0
        self._seconds = 0.0

    def on_train_batch_begin(self, batch, logs=None):
        if self._first_batch is None:
            self._first_batch = batch
            self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        # The last call of several steps may name a batch beyond the end of the epoch.
        end = min(batch + 1, (self.params or {}).get("steps") or batch + 1)
        self._batches = end - self._first_batch
        self._seconds = time.perf_counter() - self._start

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self._batches:
            logs["examples_per_second"] = self._batches * self.batch_size / self._seconds
