"""All stages: sft, then a reward model and a judge of disjoint halves of the prompts, then ppo."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from apps import dialogue
from apps.stages import ppo, reward, sft
from models import gpt
from runs.settings import Data, Settings

SHARED = ("skip_bad", "seed", "precision")
"""Settings of all stages."""


@dataclass(frozen=True)
class Config(dialogue.Config):
    data: str = "python_docs"
    """Preferences: `python_docs` (built in) or files as of the stage reward. The best answers are
    the demonstrations, and the prompts those of ppo, unless others are given."""
    demonstrations: Data[str] = ""
    """Data of the stage sft. Default: `data`."""
    prompts: Data[str] = ""
    """Data of the stage ppo. Default: `data`."""
    model: str = "gpt_nano"
    out: Path = Path("saved_models/alignment")
    """Folder of the policy. Those of the stages before it have the same name with _sft, _reward and
    _judge behind it."""
    stage: Literal["all"] = "all"
    """The stage to run. The options are those of sft; the other stages have their defaults."""

    def __post_init__(self):
        super().__post_init__()
        self.require_one_of(gpt.NAMES, "model")  # Reward models begin with it.


def main(config: Config) -> dict[str, float]:
    """Runs all stages, but for those that are finished; returns the scores of the last."""
    folders = {
        name: config.out.with_name(f"{config.out.name}_{name}")
        for name in ("sft", "reward", "judge")
    }
    shared = {name: getattr(config, name) for name in SHARED}
    own = {name: value for name, value in config.changed.items() if name not in CHOSEN}
    first = sft.Config(**own, data=config.demonstrations or config.data, out=folders["sft"])
    _run(sft.main, first)
    for name, half in (("reward", "first"), ("judge", "second")):
        seed = config.seed + (half == "second")
        rater = reward.Config.continuing(
            folders["sft"],
            **{**shared, "seed": seed},
            data=config.data,
            half=half,
            out=folders[name],
        )
        _run(reward.main, rater)
    last = ppo.Config.continuing(
        folders["sft"],
        **shared,
        data=config.prompts or config.data,
        reward=str(folders["reward"]),
        judge=str(folders["judge"]),
        max_tokens=config.max_tokens,
        system=config.system,
        out=config.out,
    )
    return _run(ppo.main, last)


CHOSEN = ("data", "demonstrations", "prompts", "out", "stage")
"""Settings that each stage gets from `main`."""


def _run(stage: Callable[[Any], dict[str, float]], config: Settings) -> dict[str, float]:
    """Runs a stage, unless it is finished with these settings."""
    print(f"\nStage {config.out.name}", flush=True)
    if (config.out / "model.keras").is_file() and type(config).load(config.out) == config:
        print(f"Finished before, in {config.out}", flush=True)
        return {}
    return stage(config)
