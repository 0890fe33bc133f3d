"""Align networks that write with what people prefer, in stages.

`--stage reward` trains a reward model, which rates answers, from pairs of answers or from ranked
lists. `--stage sft` trains a network that replies as good answers do (supervised fine-tuning). Each
stage has options of its own: `--stage sft --help`. The built-in sample, sentences of the Python
reference against their shuffled words, is too easy and only shows how a run goes.

Example:

    hornbook alignment --stage reward --data hh_rlhf/ --skip-bad --model bert --preset MINILM
    hornbook alignment --stage sft --data hh_rlhf/ --skip-bad --model gpt --preset smollm2/
"""

from dataclasses import dataclass
from typing import ClassVar

from apps.stages import reward, sft
from runs.command import command


@dataclass(frozen=True)
class Config(reward.Config):
    STAGES: ClassVar = {"sft": sft.Config}


def main(config: reward.Config | sft.Config) -> dict[str, float]:
    """Runs a stage; returns the scores on the test examples."""
    if isinstance(config, sft.Config):
        return sft.main(config)
    return reward.main(config)


if __name__ == "__main__":
    command(main, Config, __doc__)
