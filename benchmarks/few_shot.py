"""Accuracy of a pretrained decoder on SST-2 after 0, 1, 4 and 8 worked examples, without training.

The examples are drawn from the training sentences, a new draw for each seed, as many positive as
negative ones. The answer is the likelier of two words. What is printed is the mean accuracy over
the draws with its standard deviation, the lowest and the highest one, and the seconds of a draw.

Example:

    python -m benchmarks.few_shot --preset smollm2/ --data ../shared/data/sst2
"""

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tyro

from apps import text_generation as app
from data import worked_examples
from preprocessing.tokenizers import tokenizer
from serving.table import table

WORDS = {"0": "negative", "1": "positive"}
"""The answer for each label."""


@dataclass(frozen=True)
class Config:
    preset: str
    """Folder of a pretrained decoder."""
    data: Path
    """Folder with train.tsv, dev.tsv and test.tsv: a sentence and its label, 0 or 1, per line."""
    template: str = r"Review: {text}\nSentiment: {label}\n"
    """Form of the examples and prompts."""
    split: str = "test"
    """The split that is scored."""
    draws: int = 5
    """Number of draws of the examples."""
    first: int = 0
    """Seed of the first draw."""
    limit: int | None = None
    """Number of sentences, evenly spread. Default: all."""
    batch_size: int = 64
    """Sentences that are read together."""


def in_words(file: Path, folder: Path, limit: int | None = None) -> str:
    """Writes a file with words for the labels; returns its path."""
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").strip().split("\n")]
    count = min(limit or len(rows), len(rows))
    rows = [rows[i * len(rows) // count] for i in range(count)]
    path = folder / file.name
    lines = ["text\tlabel", *(f"{text}\t{WORDS[label]}" for text, label in rows)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def main(config: Config) -> None:
    accuracies: dict[int, list[float]] = {}
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        shots = in_words(config.data / "train.tsv", Path(folder))
        data = in_words(config.data / f"{config.split}.tsv", Path(folder), config.limit)
        examples = worked_examples.load(data, shots=shots)
    for seed in range(config.first, config.first + config.draws):
        settings = app.Config(
            data=data,
            model="gpt",
            preset=config.preset,
            shots=shots,
            num_shots=8,
            template=config.template,
            length=1024,
            batch_size=config.batch_size,
            seed=seed,
        )
        if not accuracies:
            tokens = tokenizer(**settings.tokenizer)
            model = app.build(settings, tokens)
        begin = time.perf_counter()
        _, prompts, _ = worked_examples.prompts(examples, tokens, **settings.prompting)
        if accuracies:  # Without examples there is nothing to draw.
            del prompts[0]
        for count, found in app.answer(settings, examples, tokens, prompts, model).items():
            accuracies.setdefault(count, []).append(found.scores["accuracy"])
        seconds.append(time.perf_counter() - begin)
        now = ", ".join(f"{count}: {accuracies[count][-1]:.4f}" for count in prompts)
        print(f"Draw {seed}: {now}, {seconds[-1]:.0f} s", flush=True)
    rows = [
        [
            str(count),
            f"{statistics.mean(values):.3f}",
            f"{statistics.stdev(values):.3f}" if len(values) > 1 else "",
            f"{min(values):.3f}",
            f"{max(values):.3f}",
        ]
        for count, values in accuracies.items()
    ]
    print(f"{len(examples.tested):,} sentences of {config.split}")
    print(table(["examples", "accuracy", "deviation", "lowest", "highest"], rows))


if __name__ == "__main__":
    main(tyro.cli(Config))
