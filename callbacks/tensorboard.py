"""Logs for TensorBoard, written by TensorFlow; only viewing needs the package tensorboard."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import tensorflow as tf

Summary = tf.compat.v1.Summary


class TensorBoardLogs(keras.callbacks.Callback):
    """Writes the logs of each epoch, with validation in the same chart as training.

    The curves are named as in `logs`; step n is the end of epoch n. What an earlier run left in the
    folder is removed when training begins. The epochs before a resumption are then written again,
    so that each is there once, wherever the run was interrupted. Values that were not measured,
    NaN, are left out.

    Keras' own `TensorBoard` needs the package tensorboard and repeats epochs after a resumption.

    Args:
        folder: Gets the sub-folders `train` and `validation`.
        history: Values of each metric after the epochs before a resumption, by its name.
    """

    def __init__(self, folder: Path, history: Mapping[str, Sequence[float]] | None = None):
        super().__init__()
        self.folder = Path(folder)
        self.history = history or {}

    def on_train_begin(self, logs=None):
        self._logs = {name: _EventLog(self.folder / name) for name in ("train", "validation")}
        for epoch in range(max((len(values) for values in self.history.values()), default=0)):
            self.on_epoch_end(epoch, {name: values[epoch] for name, values in self.history.items()})

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        for part, prefix in (("train", ""), ("validation", "val_")):
            values = [
                Summary.Value(tag=name.removeprefix("val_"), simple_value=float(value))
                for name, value in logs.items()
                if name.startswith("val_") == bool(prefix) and not math.isnan(value)
            ]
            if values:
                self._logs[part].write(values, epoch + 1)

    def on_train_end(self, logs=None):
        for log in self._logs.values():
            log.close()


def write_images(folder: Path, images: Mapping[str, bytes]) -> None:
    """Writes images for TensorBoard and removes those of an earlier run.

    Args:
        folder: Where they are written.
        images: The content of PNG files by title.
    """
    log = _EventLog(folder)
    for title, content in images.items():
        height, width, channels = tf.io.decode_png(content).shape
        image = Summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=content
        )
        log.write([Summary.Value(tag=title, image=image)], 0)
    log.close()


class _EventLog:
    """Makes a new file of events in a folder and removes the others."""

    def __init__(self, folder: Path):
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        # The file is made with its first event.
        self._writer = tf.summary.create_file_writer(str(folder))

    def write(self, values: Sequence[tf.compat.v1.Summary.Value], step: int) -> None:
        with self._writer.as_default():
            content = Summary(value=values).SerializeToString()
            tf.summary.experimental.write_raw_pb(content, step=step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
