"""Proximal policy optimization (PPO): a network that replies learns to get higher rewards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from apps import dialogue
from apps.stages.held_out import held_out, perplexities
from apps.stages.policies import LIMITS, judges_of, require_runs
from apps.stages.policy_networks import build, reader_of, writer
from apps.stages.rollouts import compare
from callbacks import PolicyGuard
from data import prompts
from data.dialogues import BUILT_IN
from data.feed import Feed
from metrics import policies as measures
from metrics.policies import Answered
from models import recurrent, text_writers
from models.actor_critic import policy_of
from models.transformers import width
from preprocessing.answers import turns_of
from preprocessing.tokenizers import tokenizer
from preprocessing.turns import turn_tokens
from runs import presets, reading
from runs.pictures import rewards_over_divergence
from runs.report import Picture, Section, Table
from runs.run import Example, counted, finish, start, train
from runs.settings import AUTO, Auto, Rates, Training
from training.optimizers import OptimizerName, Schedule

UNSEEN = 400
"""Maximum number of prompts, of those not trained on, that are answered before and after."""
LEAST_PROMPT = 4
"""Minimum number of tokens of a prompt: one, with what is around a turn."""
JUDGED = 200
"""Maximum number of validation prompts that are answered after each epoch for the judge."""
SHOWN = 20
"""Number of prompts in the report."""
RATE = 1e-5
"""Learning rate at a width of 768 features."""


@dataclass(frozen=True)
class Config(dialogue.Config):
    EPOCHS = 4
    BATCH_SIZE = 16
    NETWORK = (*dialogue.Config.NETWORK, "system")
    data: str = "python_docs"
    """Prompts: `python_docs` (built in), a .txt file with one per line, .jsonl or .json files (also
    .gz) of `prompt` or of preferences, or a folder with such files or with a sub-folder for each
    set. `preset` must be a network that was not trained on their validation and test splits."""
    preset: str = "none"
    """Folder of a finished run of the stage sft or of dialogue, but for seq2seq: the network to
    train."""
    model: str = "gpt_nano"
    reward: Training[str] = "saved_models/alignment_reward"
    """Folder of a run of the stage reward, or of text_classification with `reward_class`, whose
    rating of the answers is to rise."""
    reward_class: Training[str] = ""
    """Class of text_classification whose log-probability, less that of the likeliest other, is the
    reward."""
    judge: Training[str] = "none"
    """Folder of another such run, which rates the answers before and after and in validation, but
    trains nothing: it shows whether they are better or only exploit the reward, and decides which
    epoch is the best."""
    out: Path = Path("saved_models/alignment")
    stage: Literal["ppo"] = "ppo"
    """The stage to run; `--stage sft`, `reward` and `all` have other options."""
    optimizer: Training[OptimizerName] = "adam"
    schedule: Training[Schedule] = "linear"
    beta: Training[float] = 0.05
    """Weight of the KL penalty, reward per nat."""
    target_kl: Training[float | None] = None
    """KL divergence, in nats per answer, that beta is steered to. Default: beta is fixed."""
    horizon: Training[int] = 10_000
    """Answers after which a relative error of the KL divergence of 1 would have changed beta by its
    own size."""
    missing_end: Training[float] = -1.0
    """Reward of answers that reach `max_tokens`, in place of their own."""
    gamma: Training[float] = 1.0
    """Discount of rewards per token, in [0, 1]."""
    gae_lambda: Training[float] = 0.95
    """Weight of later tokens in the advantages, in [0, 1]."""
    whiten_rewards: Training[bool] = False
    """Scale the rewards of the tokens to the standard deviation 1."""
    update_epochs: Training[int] = 4
    """Number of times that answers are learned from."""
    minibatches: Training[int] = 4
    """Updates per such epoch, at most `batch_size`."""
    clip: Training[float] = 0.2
    """Maximum relative change of a token's probability that is rewarded."""
    value_clip: Training[float] = 0.2
    """Maximum change of a predicted value that is rewarded."""
    value_weight: Training[float] = 0.1
    """Weight of the loss of the values beside that of the policy."""
    value: Training[Literal["own", "head"]] = "own"
    """What predicts the rewards: `own`: a network of its own that begins as the reward model, which
    must have the tokens of the policy; `head`: one more head of the policy, which begins as 0."""
    demonstrations: Training[str] = ""
    """Data as of the stage sft. The perplexity of answers in its test split, before and after,
    shows what the higher rewards cost. Default: the data of `preset`, if that is a run of sft."""
    prompt_length: Training[Auto[int]] = AUTO
    """Maximum number of tokens of a prompt with the system text; longer ones lose their oldest
    turns. Default: what `length` leaves beside `max_tokens`."""
    max_kl: Training[float] = 100.0
    """KL divergence, in nats per answer, at which the run stops."""
    best_of: int = 4
    """Answers per prompt of the network before, of which the one with the highest reward is
    compared with that after; 1: no comparison."""

    def __post_init__(self):
        if self.continued is None:
            self._refuse("preset", "the folder of a finished run of the stage sft, or of dialogue")
        if self.out.resolve() == self.continued.resolve():
            self._refuse("out", "another folder than `preset`, which is the reference")
        super().__post_init__()
        self.require_one_of(text_writers.NAMES, "model")
        self.require_least(0 if self.target_kl is None else 1e-6, "beta")
        self.require_least(0, "value_weight")
        self.require_least(1, "horizon", "update_epochs", "minibatches", "best_of")
        self.require_least(LEAST_PROMPT, "prompt_length")
        if self.prompt_length > self.most_prompt:
            self._refuse("prompt_length", f"at most {self.most_prompt}, beside max_tokens")
        room = 2 * (len(self.system.encode()) + 8)  # A system text gets at most half of a prompt.
        if self.system and self.prompt_length < min(room, self.most_prompt):
            self._refuse("prompt_length", f"at least {room}, so that `system` is read as a whole")
        self.require_least(1e-6, "clip", "value_clip", "max_kl", "target_kl")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                self._refuse(name, "in [0, 1]")
        if self.minibatches > self.batch_size:
            self._refuse("minibatches", f"at most the batch size, {self.batch_size}")
        ignored = {"train_on": "replies", "accumulate": 1, "patience": 0, "monitor": None}
        ignored |= {"strategy": "none", "average": None, "jit_compile": False}
        for name, value in ignored.items():
            if getattr(self, name) != value:
                self._refuse(name, f"left out ({value}) in the stage ppo")
        if self.precision == "float16":  # Its loss would need to be scaled.
            self._refuse("precision", "float32 or bfloat16 in the stage ppo, and in the run before")

    @property
    def reference(self) -> Path:
        """Folder of the run whose network is that before the training."""
        # A finished run is evaluated against the network that it began with.
        return Path(self.values_of(self.preset)["preset"] if self.EVALUATES else self.preset)

    @property
    def held_out(self) -> str:
        """Data with answers that the network before was not trained on; "" if there are none."""
        if self.demonstrations or self.values_of(self.reference).get("stage") != "sft":
            return self.demonstrations
        data = self.sources_of(self.reference)[-1]
        return data if data in BUILT_IN or Path(data).exists() else ""

    def peak(self, policy: keras.Model) -> float:
        """Returns the peak learning rate, as elsewhere three times as large with LoRA."""
        usual = RATE * 768 / width(policy) * (3 if self.lora_rank else 1)
        return usual if self.learning_rate is None else self.learning_rate

    @property
    def most_prompt(self) -> int:
        """Number of tokens that an answer leaves of the length, as in the export."""
        written = super().usual["max_tokens"] if self.max_tokens is None else self.max_tokens
        return self.length - 1 - written

    @property
    def usual(self) -> dict[str, Any]:
        return super().usual | {"warmup_epochs": 0.0, "prompt_length": self.most_prompt}


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on prompts that were not trained on."""
    require_runs(config)
    run = start(config)
    data = counted(run, prompts.load(**config.loading), "prompts")
    tokens = turn_tokens(tokenizer(**config.tokenizer), config.preset)
    reading.lengths(run, data.train, reader_of(config, tokens), "prompts")
    judges, answers = judges_of(config), held_out(run)
    unseen, validation = data.prompts("test"), None
    if "judge" in judges:
        some = _evenly(data.prompts("validation"), JUDGED)
        validation = tf.data.Dataset.from_tensor_slices(some)
    elif not run.is_foreign:
        unseen += data.prompts("validation")
    unseen = _evenly(unseen, UNSEEN)
    fed = Feed(replace(data, validation=validation))
    if fed.count() < config.minibatches:
        config._refuse("minibatches", f"at most the training prompts, {fed.count()}")
    trained = train(
        run,
        partial(build, run, tokens, judges, fed.steps_per_epoch(config.batch_size)),
        fed,
        rates=Rates(config.peak),
        monitor="val_judge",
        callbacks=lambda checkpoint: [PolicyGuard(config.max_kl, checkpoint.last_good)],
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    trained = replace(trained, model=policy_of(trained.model))
    recurrent.without_cudnn(trained.model)
    networks = presets.network(config.reference), trained.model
    cost = perplexities(config, tokens, answers, networks)
    write_with = partial(writer, config, tokens)
    groups = compare(networks, write_with, tokens, judges, unseen, config.best_of)
    scores = measures.compared(groups["before"], groups["after"]) | cost
    past = turns_of(tf.constant(unseen[:8]))[0].to_tensor("").numpy()
    return finish(
        run,
        trained,
        task="alignment",
        signatures=dialogue.signatures(config, tokens, past),
        warmup={"turns": past},
        example=Example("a prompt", {"turns": [turn.decode() for turn in past[0] if turn]}),
        scores=scores,
        num_test=len(unseen),
        examples="prompts",
        facts={
            "vocabulary": tokens.vocabulary_size,
            "reference policy": config.reference.name,
            "reward model": Path(config.reward).name,
            "judge": Path(config.judge).name,
            "answers": "written at temperature 1, without top-k, top-p and penalty",
            "limits": LIMITS,
        },
        report=report(unseen, groups, trained.history),
        baselines=partial(measures.baselines, groups),
        warnings=[*measures.exploited(scores, trained.history)],
        tokens=tokens.tokens,
    )


def _evenly(texts: Sequence, most: int) -> Any:
    """Returns at most so many texts, evenly over all sets."""
    return texts[:: max(1, -(-len(texts) // most))]


def report(unseen: Sequence[bytes], groups: Mapping[str, Answered], history) -> list[Section]:
    drawn = rewards_over_divergence(history, measures.means_by_divergence(groups))
    shown = measures.samples(unseen[:SHOWN], groups["before"], groups["after"])
    return [
        Table("Answers", *measures.table(groups)),
        Picture("Rewards and divergence", drawn),
        Table("Before and after", *shown, in_card=True),
    ]
