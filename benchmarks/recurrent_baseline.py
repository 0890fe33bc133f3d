"""Plain recurrent networks of Keras over whole words, for comparison with those of Hornbook.

Embedding, bidirectional LSTM, softmax, as in Keras' own examples, trained by Adam with its default
rate. The epoch with the best validation accuracy is scored on the test examples. The last line of
each data set is the linear model of `metrics.baselines`.

Example:

    TFDS_DATA_DIR=../shared/tfds python -m benchmarks.recurrent_baseline --names trec
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import tyro

from benchmarks.accuracy import DEFAULTS, located
from benchmarks.accuracy import Config as Accuracy
from data import text
from metrics import baselines

CELLS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}


@dataclass(frozen=True)
class Config:
    names: tuple[str, ...] = ("sst2", "trec", "clinc6000")
    """Data sets, of `benchmarks.accuracy.RECURRENT_DATA`."""
    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    """The recurrent layer."""
    units: int = 64
    """Features of its state, for each direction."""
    epochs: int = 10
    """Passes over the training texts."""
    seeds: int = 3
    """Runs of each, with seeds 0, 1, ..."""
    data: Path = Path("../shared/data")
    """Folder of the data sets that are not from TensorFlow Datasets."""


class BestEpoch(keras.callbacks.Callback):
    """Scores the test examples after each epoch with a better validation accuracy than before."""

    def __init__(self, test: tuple[np.ndarray, np.ndarray]):
        super().__init__()
        self.test = test
        self.validation = self.score = 0.0

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_accuracy"] > self.validation:
            self.validation = logs["val_accuracy"]
            _, self.score = self.model.evaluate(*self.test, batch_size=256, verbose=0)


def arrays(examples: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    texts, labels = zip(*examples.as_numpy_iterator(), strict=True)
    return np.array([one[0].decode(errors="replace") for one in texts]), np.array(labels)


def scores(config: Config, data: text.Texts, seed: int) -> tuple[float, float]:
    """Returns the accuracy on validation and test examples."""
    keras.utils.set_random_seed(seed)
    splits = {name: arrays(data.split(name)) for name in ("train", "validation", "test")}
    words = keras.layers.TextVectorization(max_tokens=20_000)
    words.adapt(splits["train"][0])
    train, validation, test = (
        (np.asarray(words(texts)), labels) for texts, labels in splits.values()
    )
    model = keras.Sequential(
        [
            keras.layers.Embedding(words.vocabulary_size(), 128, mask_zero=True),
            keras.layers.Bidirectional(CELLS[config.cell](config.units)),
            keras.layers.Dense(len(data.classes), activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    best = BestEpoch(test)
    model.fit(*train, validation_data=validation, epochs=config.epochs, callbacks=[best], verbose=0)
    return best.validation, best.score


def main(config: Config) -> None:
    for name in config.names:
        with tempfile.TemporaryDirectory() as folder:
            experiment = DEFAULTS[f"{name}_lstm_by_default"]
            found = located(experiment, Accuracy(data=config.data), Path(folder))
            data = text.load(found.data)
            runs = [scores(config, data, seed) for seed in range(config.seeds)]
        for split, values in zip(("validation", "test"), np.transpose(runs), strict=True):
            single = ", ".join(f"{value:.4f}" for value in values)
            print(f"{name}, {config.cell}, {split}: {values.mean():.4f} ({single})", flush=True)
        for baseline in baselines.of_texts(data).values():
            print(f"{name}, test: {baseline.score:.4f}, {baseline.description}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
