"""Align networks that write with what people prefer, in stages.

`--stage sft` trains a network that replies as good answers do (supervised fine-tuning).
`--stage reward` trains a reward model, which rates answers, from pairs of answers or from ranked
lists. `--stage ppo` trains the network of the first stage further, so that the second rates its
answers higher (RLHF). Each stage has options of its own: `--stage sft --help`. The built-in sample,
sentences of the Python reference against their shuffled words, only shows how a run goes.

Example:

    hornbook alignment --stage sft --data hh_rlhf/ --skip-bad --model gpt --preset smollm2/
    hornbook alignment --stage reward --data hh_rlhf/ --skip-bad --preset saved_models/alignment_sft
    hornbook alignment --stage ppo --data hh_rlhf/ --skip-bad --preset saved_models/alignment_sft \
        --reward saved_models/alignment_reward
"""

from dataclasses import dataclass
from typing import ClassVar

from apps.stages import ppo, reward, sft
from runs.command import command


@dataclass(frozen=True)
class Config(reward.Config):
    STAGES: ClassVar = {"sft": sft.Config, "ppo": ppo.Config}


def main(config: reward.Config | sft.Config | ppo.Config) -> dict[str, float]:
    """Runs a stage; returns the scores on the test examples."""
    if isinstance(config, ppo.Config):
        return ppo.main(config)
    if isinstance(config, sft.Config):
        return sft.main(config)
    return reward.main(config)


if __name__ == "__main__":
    command(main, Config, __doc__)
