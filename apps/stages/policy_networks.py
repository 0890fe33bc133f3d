"""The networks that PPO trains and needs, made from those of finished runs."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras

from apps.stages.policies import Judge, require_readable
from apps.stages.rollouts import Write, texts_of, writing
from models import text_writers
from models.actor_critic import ActorCritic, critic_of, part_that_writes, with_values
from models.lora import without_adapters
from preprocessing.answers import PromptReader
from preprocessing.turns import TurnTokens
from runs import presets, reading
from runs.run import Run
from training.optimizers import learning_rate_schedule, optimizer
from training.ppo import PPO

EPSILON = 1e-5
"""Number that Adam divides by at least."""


def build(run: Run, tokens: TurnTokens, judges: Mapping[str, Judge], steps_per_epoch: int) -> PPO:
    """Makes the training of the policy of a run.

    Args:
        run: What `start` returned, with settings of the stage ppo.
        tokens: The tokens of the policy.
        judges: `reward`, which is to rise, and perhaps `judge`, for validation.
        steps_per_epoch: Batches of an epoch.
    """
    config: Any = run.config
    policy = presets.network(config.continued)
    if config.value == "own":
        require_readable(config, Path(config.reward))
        critic = critic_of(presets.network(Path(config.reward)))
        network = ActorCritic(policy, critic)
    else:
        network = critic = with_values(policy)
    writes = before = part_that_writes(network)
    if config.new_adapters:
        for part in {id(one): one for one in (writes, critic)}.values():
            part.enable_lora(config.new_adapters)
    else:
        before = presets.network(config.continued)
    per_epoch = config.update_epochs * config.minibatches * steps_per_epoch
    total = max(1, config.epochs * per_epoch)
    warmup = min(round(config.warmup_epochs * per_epoch), total - 1)
    rate = learning_rate_schedule(config.peak(policy), config.schedule, warmup, total)
    chosen = optimizer(config.optimizer, rate, config.weight_decay, config.clip_norm)
    if "adam" in config.optimizer:
        chosen.epsilon = EPSILON
    say_memory(run, network, None if before is writes else before, judges)

    def reference(features):
        with without_adapters(before):
            return before(features, training=False)["logits"]

    def rates(name):
        return lambda some, rollout: judges[name](some, texts_of(rollout, tokens))

    return PPO(
        network,
        reference,
        write=writer(config, tokens, writes),
        score=rates("reward"),
        judge=rates("judge") if "judge" in judges else None,
        optimizer=chosen,
        beta=config.beta,
        target=config.target_kl,
        horizon=config.horizon,
        missing_end=config.missing_end,
        gamma=config.gamma,
        lambda_=config.gae_lambda,
        whiten_rewards=config.whiten_rewards,
        update_epochs=config.update_epochs,
        minibatches=config.minibatches,
        clip=config.clip,
        value_clip=config.value_clip,
        value_weight=config.value_weight,
    )


def say_memory(run: Run, network, before, judges: Mapping[str, Judge]) -> None:
    """Says how much memory the weights of all networks need, in GiB."""
    config: Any = run.config
    policy = part_that_writes(network)
    trained = sum(math.prod(weight.shape) for weight in network.trainable_variables)
    counts = {
        "the policy": policy.count_params(),
        "the values": network.count_params() - policy.count_params(),
        "the reference": before.count_params() if before else 0,
        **{f"the {name}": judge.size for name, judge in judges.items()},
        "the optimizer": trained * (2 if "adam" in config.optimizer else 1),
    }
    parts = ", ".join(f"{4 * count / 2**30:.2g} for {name}" for name, count in counts.items())
    total = f"{4 * sum(counts.values()) / 2**30:.2g}"
    reading.said(run, "memory", f"Memory before the first step: {total} GiB: {parts}.")


def reader_of(config: Any, tokens: TurnTokens) -> PromptReader:
    return PromptReader(tokens, config.prompt_length, config.system, config.most_system)


def writer(config: Any, tokens: TurnTokens, policy: keras.Model) -> Write:
    steps_of = text_writers.steps_of(config.model, config.length)
    return writing(partial(steps_of, policy), reader_of(config, tokens), config.max_tokens)
