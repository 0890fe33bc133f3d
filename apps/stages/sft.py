"""Supervised fine-tuning: a network learns to reply as good answers do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apps import dialogue
from data import demonstrations


@dataclass(frozen=True)
class Config(dialogue.Config):
    data: str = "python_docs"
    """`python_docs` (built in), or .jsonl or .json files (also .gz) of `prompt` and `completion`
    (or `answer`, `response`, `output`; or with `instruction` and `input`), `messages`,
    `conversations`, or preferences, whose best answers are the demonstrations; or a folder with
    such files, or with a sub-folder for each set."""
    model: str = "gpt_nano"
    out: Path = Path("saved_models/alignment_sft")
    stage: Literal["sft"] = "sft"
    """The stage to run; `--stage reward`, `ppo` and `all` have other options."""


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test replies."""
    return dialogue.main(config, demonstrations.load, "alignment")
