"""How a policy answers prompts: in training, and to see what its answers are worth."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from metrics.policies import Answered, best
from models.generation import PADDING, Choice, Steps, generate
from models.writing import beginning
from preprocessing.answers import PromptReader
from preprocessing.byte_tokens import as_features
from preprocessing.turns import TurnTokens, lengths
from training.ppo import Rollout, divergences

BATCH = 32
"""Answers that are written at the same time outside of training."""
Write = Callable[[tf.Tensor, tf.Tensor], Rollout]
"""From prompts and seeds, both `(n,)`, to the answers."""
Judges = Mapping[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]
"""By name, from prompts and answers `(n,)` to ratings, float32 `(n,)`."""


def writing(steps_of: Callable[[], Steps], reader: PromptReader, max_tokens: int) -> Write:
    """Returns the function that answers prompts at temperature 1, with the policy's weights.

    Args:
        steps_of: Returns how the policy reads, with the weights of that moment.
        reader: Reads the prompts.
        max_tokens: Maximum number of tokens of an answer.
    """
    tokens = reader.tokens

    def write(prompts: tf.Tensor, seeds: tf.Tensor) -> Rollout:
        rows = tf.shape(prompts)[0]
        past = beginning(reader.encode(prompts), tokens.begin_id, tokens.end_id)
        ones = tf.ones((rows,))
        choice = Choice(
            max_tokens=tf.fill((rows,), max_tokens),
            temperature=ones,
            top_k=tf.zeros((rows,), tf.int32),
            top_p=ones,
            repetition_penalty=ones,
            seed=seeds,
        )
        written = generate(steps_of(), past, past, choice, limit=max_tokens, end_id=tokens.end_id)
        return _rollout(past, written.token_ids, written.ended, tokens.end_id)

    return write


def _rollout(past: tf.Tensor, answer: tf.Tensor, ended: tf.Tensor, end_id: int) -> Rollout:
    """Joins prompts and answers, both int32, -1 in padding, with the end tokens of answers."""
    end = tf.where(ended, end_id, PADDING)[:, None]
    parts = [tf.RaggedTensor.from_tensor(one, padding=PADDING) for one in (past, answer, end)]
    rows = tf.concat(parts, axis=1).to_tensor(PADDING)
    targets, before = rows[:, 1:], lengths(past)[:, None] - 1
    is_answer = (tf.range(tf.shape(targets)[1]) >= before) & (targets >= 0)
    mask = tf.cast(is_answer, tf.float32)
    return Rollout(as_features(rows[:, :-1]), targets, mask, ended)


def texts_of(rollout: Rollout, tokens: TurnTokens) -> tf.Tensor:
    """Returns the answers of a rollout as texts `(n,)`."""
    is_text = (rollout.mask > 0) & (rollout.targets != tokens.end_id)
    return tokens.decode(tf.ragged.boolean_mask(rollout.targets, is_text).to_tensor(PADDING))


def answering(
    write: Write,
    tokens: TurnTokens,
    judges: Judges,
    policy: Callable[[Any], tf.Tensor] | None = None,
    reference: Callable[[Any], tf.Tensor] | None = None,
) -> Callable[[Sequence[bytes], int], Answered]:
    """Returns the function that answers prompts and rates the answers.

    Its second argument is the seed of the first prompt; the next one has the next.

    Args:
        write: From `writing`.
        tokens: The tokens of the policy.
        judges: Rate the answers.
        policy: From features to logits of the network that writes, if the KL divergence is wanted.
        reference: The same of the network from which it has diverged.
    """

    @tf.function(
        input_signature=[tf.TensorSpec((None,), tf.string), tf.TensorSpec((None,), tf.int64)]
    )
    def answer(some, seeds):
        rollout = write(some, seeds)
        texts = texts_of(rollout, tokens)
        found = {"texts": texts, "lengths": tf.reduce_sum(rollout.mask, axis=1)}
        if policy and reference:

            def diverged(row):
                alone = tf.nest.map_structure(lambda one: one[None], row)
                of_each = [
                    -tf.nn.sparse_softmax_cross_entropy_with_logits(
                        tf.maximum(alone.targets, 0), tf.cast(read(alone.features), tf.float32)
                    )
                    for read in (policy, reference)
                ]
                _, estimate = divergences(*of_each, alone.mask)
                return estimate[0]

            # One by one, because the logits of a row take megabytes.
            found["kl"] = tf.map_fn(
                diverged, rollout, parallel_iterations=1, fn_output_signature=tf.float32
            )
        return found | {f"of {name}": judge(some, texts) for name, judge in judges.items()}

    def answered(prompts: Sequence[bytes], seed: int) -> Answered:
        parts = []
        for begin in range(0, len(prompts), BATCH):
            some = prompts[begin : begin + BATCH]
            seeds = tf.range(seed + begin, seed + begin + len(some), dtype=tf.int64)
            parts.append(answer(tf.constant(some), seeds))
        whole = {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
        return Answered(
            [text.decode() for text in whole["texts"]],
            {name: whole[f"of {name}"] for name in judges},
            whole["lengths"],
            whole.get("kl"),
        )

    return answered


def compare(
    networks: tuple[keras.Model, keras.Model],
    write_with: Callable[[keras.Model], Write],
    tokens: TurnTokens,
    judges: Judges,
    prompts: Sequence[bytes],
    best_of: int = 1,
) -> dict[str, Answered]:
    """Answers prompts with a policy before and after its training.

    Args:
        networks: The policy before and after.
        write_with: From a policy to `writing` with it.
        tokens: As of `answering`, and so are the judges.
        judges: Rate the answers.
        prompts: The prompts.
        best_of: Number of answers of the policy before of which the best are compared, too.

    Returns:
        `before`, `before, best of n` if n is above 1, and `after`.
    """
    before, after = networks
    first = answering(write_with(before), tokens, judges)
    several = [first(prompts, len(prompts) * number) for number in range(best_of)]
    groups = {"before": several[0]}
    if best_of > 1:
        groups[f"before, best of {best_of}"] = best(several)
    reads = [lambda features, one=one: one(features)["logits"] for one in (after, before)]
    groups["after"] = answering(write_with(after), tokens, judges, *reads)(prompts, 0)
    return groups
