"""Align networks that write with what people prefer, in stages.

`--stage sft` trains a network that replies as good answers do (supervised fine-tuning).
`--stage reward` trains a reward model, which rates answers, from pairs of answers or from ranked
lists. `--stage ppo` trains the network of the first stage further, so that the second rates its
answers higher (RLHF). `--stage all` does all of it. Each stage has options of its own: `--stage sft
--help`. The built-in sample, sentences of the Python reference against their shuffled words, only
shows how a run goes.

Example:

    hornbook alignment --stage sft --data hh_rlhf/ --skip-bad --model gpt --preset smollm2/
    hornbook alignment --stage reward --data hh_rlhf/ --skip-bad --preset saved_models/alignment_sft
    hornbook alignment --stage ppo --data hh_rlhf/ --skip-bad --preset saved_models/alignment_sft
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from apps.stages import every, ppo, reward, sft
from runs.command import command


@dataclass(frozen=True)
class Config(reward.Config):
    STAGES: ClassVar = {"sft": sft.Config, "ppo": ppo.Config, "all": every.Config}


def main(config: Any) -> dict[str, float]:
    """Runs the stage of these settings; returns the scores on the test examples."""
    stages = {"reward": reward, "sft": sft, "ppo": ppo, "all": every}
    return stages[config.stage].main(config)


if __name__ == "__main__":
    command(main, Config, __doc__)
