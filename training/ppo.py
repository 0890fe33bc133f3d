"""Proximal policy optimization (PPO) for networks that write: arithmetic and training step.

Nothing here knows texts: what writes and what scores are functions that `PPO` receives.

Reference:
    Schulman et al., Proximal Policy Optimization Algorithms, 2017. https://arxiv.org/abs/1707.06347
    Schulman et al., High-Dimensional Continuous Control Using Generalized Advantage Estimation,
    2016. https://arxiv.org/abs/1506.02438
    Ziegler et al., Fine-Tuning Language Models from Human Preferences, 2019.
    https://arxiv.org/abs/1909.08593
    Stiennon et al., Learning to Summarize from Human Feedback, 2020.
    https://arxiv.org/abs/2009.01325
    Ouyang et al., Training Language Models to Follow Instructions with Human Feedback, 2022.
    https://arxiv.org/abs/2203.02155
    Huang et al., The N+ Implementation Details of RLHF with PPO, 2024.
    https://arxiv.org/abs/2403.17031
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

LARGEST_ERROR = 0.2
"""Maximum relative error of the KL divergence that `AdaptiveKL` reacts to."""


class Rollout(NamedTuple):
    """Answers that the policy wrote to `n` prompts, in rows of `t` positions.

    Args:
        features: What the network reads, prompt and answer together: tensors of `n` rows by name.
        targets: The next token at each position, int32 `(n, t)`; any number where `mask` is 0.
        mask: 1 where the next token belongs to the answer, its end token included, else 0; float32
            `(n, t)`.
        ended: Whether the answer has an end token, bool `(n,)`.
    """

    features: dict[str, tf.Tensor]
    targets: tf.Tensor
    mask: tf.Tensor
    ended: tf.Tensor


def masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean of the values where the mask is 1; 0 if it is 1 nowhere.

    Values where the mask is 0 may be NaN, here and in all functions of this file.
    """
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.where(mask > 0, values, 0.0)), tf.reduce_sum(mask)
    )


def token_rewards(
    log_probs: tf.Tensor,
    reference_log_probs: tf.Tensor,
    scores: tf.Tensor,
    mask: tf.Tensor,
    beta: float | tf.Tensor,
) -> tf.Tensor:
    """Computes the reward of each token: the KL penalty, and at the last one the answer's score.

    `-beta * (log_probs - reference_log_probs)`, plus the score at the last position of the answer.
    The sum over an answer is the reward that PPO maximizes.

    Reference:
        Ziegler et al., 2019, equation 2; Ouyang et al., 2022, section 3.5.

    Args:
        log_probs: Log-probability of each target under the policy, in nats, float32 `(n, t)`.
        reference_log_probs: The same under the reference.
        scores: Score of each answer, float32 `(n,)`.
        mask: 1 at the answers' tokens, float32 `(n, t)`.
        beta: Weight of the penalty, in units of the score per nat; at least 0.

    Returns:
        float32 `(n, t)`; 0 where the mask is 0.
    """
    is_last = tf.cumsum(mask, axis=1, reverse=True) == 1.0
    rewards = tf.where(is_last, scores[:, None], 0.0) - beta * (log_probs - reference_log_probs)
    return tf.where(mask > 0, rewards, 0.0)


def advantages(
    rewards: tf.Tensor, values: tf.Tensor, mask: tf.Tensor, gamma: float, lambda_: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Estimates how much better each token was than expected, by generalized advantage estimation.

    From the last token of an answer to its first, with `A` and `V` 0 after the last:
    `delta[t] = r[t] + gamma * V[t + 1] - V[t]` and `A[t] = delta[t] + gamma * lambda_ * A[t + 1]`.
    The token after `t` is the next one of the row where the mask is 1.

    Reference:
        Schulman et al., 2016, section 3.

    Args:
        rewards: From `token_rewards`, `(n, t)`.
        values: Expected sum of the rewards from each token on, in their unit, float32 `(n, t)`.
        mask: 1 at the answers' tokens, float32 `(n, t)`.
        gamma: Discount per token, in [0, 1].
        lambda_: Weight of later errors per token, in [0, 1]: 0 trusts the values, 1 the rewards.

    Returns:
        The advantages, and the returns `A + V` that the values should have been; float32 `(n, t)`,
        0 where the mask is 0.
    """
    is_answer = mask > 0
    rewards, values = (tf.where(is_answer, part, 0.0) for part in (rewards, values))

    def before(after, now):
        (next_advantage, next_value), (reward, value, is_own) = after, now
        delta = reward + gamma * next_value - value
        advantage = delta + gamma * lambda_ * next_advantage
        return tf.where(is_own, advantage, next_advantage), tf.where(is_own, value, next_value)

    by_position = tuple(tf.transpose(part) for part in (rewards, values, is_answer))
    nothing = tf.zeros_like(rewards[:, 0])
    found, _ = tf.scan(before, by_position, (nothing, nothing), reverse=True)
    found = tf.where(is_answer, tf.transpose(found), 0.0)
    return found, found + values


def whiten(values: tf.Tensor, mask: tf.Tensor, keep_mean: bool = False) -> tf.Tensor:
    """Shifts and scales the values where the mask is 1 to mean 0 and standard deviation 1.

    `(values - mean) / sqrt(variance + 1e-8)`, with the variance's mean over all of them.

    Reference:
        Ziegler et al., 2019, in their code; Huang et al., 2024.

    Args:
        values: float32 `(n, t)`.
        mask: 1 at the answers' tokens, float32 `(n, t)`.
        keep_mean: Whether the mean stays.

    Returns:
        float32 `(n, t)`, without unit; 0 where the mask is 0.
    """
    mean = masked_mean(values, mask)
    whitened = (values - mean) * tf.math.rsqrt(masked_mean((values - mean) ** 2, mask) + 1e-8)
    return tf.where(mask > 0, whitened + mean if keep_mean else whitened, 0.0)


def policy_loss(
    log_probs: tf.Tensor,
    old_log_probs: tf.Tensor,
    advantages: tf.Tensor,
    mask: tf.Tensor,
    clip: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the clipped loss of the policy.

    The mean over all tokens of `max(-A * r, -A * clip(r, 1 - clip, 1 + clip))`, with the ratio
    `r = exp(log_probs - old_log_probs)`.

    Reference:
        Schulman et al., 2017, equation 7.

    Args:
        log_probs: Log-probability of each target now, in nats, float32 `(n, t)`.
        old_log_probs: The same when the answers were written.
        advantages: Whitened advantages, float32 `(n, t)`.
        mask: 1 at the answers' tokens, float32 `(n, t)`.
        clip: Maximum change of the ratio that is rewarded; above 0.

    Returns:
        The loss, and the share of tokens that are clipped, in [0, 1]: they have no gradient. Both
        are float32 scalars.
    """
    ratios = tf.exp(tf.where(mask > 0, log_probs - old_log_probs, 0.0))
    unclipped = -advantages * ratios
    clipped = -advantages * tf.clip_by_value(ratios, 1.0 - clip, 1.0 + clip)
    share = masked_mean(tf.cast(clipped > unclipped, tf.float32), mask)
    return masked_mean(tf.maximum(unclipped, clipped), mask), share


def value_loss(
    values: tf.Tensor, old_values: tf.Tensor, returns: tf.Tensor, mask: tf.Tensor, clip: float
) -> tf.Tensor:
    """Computes the clipped loss of the values.

    Half the mean over all tokens of `max((V - R)^2, (clip(V, old - clip, old + clip) - R)^2)`.

    Reference:
        Ziegler et al., 2019, in their code; Huang et al., 2024.

    Args:
        values: Values now, in the unit of the rewards, float32 `(n, t)`.
        old_values: Values when the answers were written.
        returns: From `advantages`.
        mask: 1 at the answers' tokens, float32 `(n, t)`.
        clip: Maximum change of a value that is rewarded, in the unit of the rewards; above 0.

    Returns:
        A float32 scalar.
    """
    # Here, because the gradient of a square would turn a 0 behind NaN into NaN.
    values, old_values, returns = (
        tf.where(mask > 0, one, 0.0) for one in (values, old_values, returns)
    )
    near = tf.clip_by_value(values, old_values - clip, old_values + clip)
    return 0.5 * masked_mean(tf.maximum((values - returns) ** 2, (near - returns) ** 2), mask)


def divergences(
    log_probs: tf.Tensor, reference_log_probs: tf.Tensor, mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Estimates the KL divergence of each answer's distribution from the reference.

    Sums over the tokens of `-log r` and of `(r - 1) - log r`, with `r` the reference's probability
    over the policy's. Both have the same mean; the second has a lower variance and is never
    negative.

    Reference:
        Schulman, Approximating KL Divergence, 2020. http://joschu.net/blog/kl-approx.html

    Args:
        log_probs: Log-probability of each target under the policy, in nats, float32 `(n, t)`.
        reference_log_probs: The same under the reference.
        mask: 1 at the answers' tokens, float32 `(n, t)`.

    Returns:
        Two estimates in nats, float32 `(n,)`.
    """
    differences = tf.where(mask > 0, log_probs - reference_log_probs, 0.0)
    low_variance = tf.math.expm1(-differences) + differences
    return tf.reduce_sum(differences, axis=1), tf.reduce_sum(low_variance, axis=1)


def explained_variance(values: tf.Tensor, returns: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns `1 - variance(returns - values) / variance(returns)`; 0 if the returns are equal."""

    def variance(numbers):
        return masked_mean((numbers - masked_mean(numbers, mask)) ** 2, mask)

    whole = variance(returns)
    return tf.where(whole > 0, 1.0 - tf.math.divide_no_nan(variance(returns - values), whole), 0.0)


class AdaptiveKL:
    """The weight `beta` of the KL penalty, fixed or steered to a target.

    After each rollout `beta` becomes
    `beta * (1 + clip(kl / target - 1, -0.2, 0.2) * episodes / horizon)`.

    Reference:
        Ziegler et al., 2019, section 2.2.

    Args:
        beta: The weight at the beginning, in units of the score per nat; at least 0.
        target: KL divergence to hold, in nats per answer, above 0. None: `beta` is fixed.
        horizon: Answers after which a relative error of 1 would have changed `beta` by its own
            size; above 0.

    Attributes:
        beta: A variable, which a model must track for checkpoints to hold it.
    """

    def __init__(self, beta: float, target: float | None = None, horizon: float = 10_000):
        if beta < 0 or (target is not None and beta == 0):
            raise ValueError(
                "`beta` must be at least 0, and above 0 if there is a `target`. Received: "
                f"beta={beta}, target={target}"
            )
        if (target is not None and target <= 0) or horizon <= 0:
            raise ValueError(
                "`target` must be above 0 or None, and `horizon` above 0. Received: "
                f"target={target}, horizon={horizon}"
            )
        self.target = target
        self.horizon = horizon
        self.beta = keras.Variable(beta, trainable=False, dtype="float32", name="beta")

    def update(self, kl: tf.Tensor, episodes: tf.Tensor) -> None:
        """Changes `beta` after a rollout.

        Args:
            kl: Mean KL divergence of its answers, in nats.
            episodes: Number of its answers.
        """
        if self.target is not None:
            error = tf.clip_by_value(kl / self.target - 1.0, -LARGEST_ERROR, LARGEST_ERROR)
            step = error * tf.cast(episodes, tf.float32) / self.horizon
            self.beta.assign(self.beta * (1.0 + step))


class _Experience(NamedTuple):
    """What the updates learn from: a rollout as it was when it was written; see `Rollout`."""

    features: dict[str, tf.Tensor]
    targets: tf.Tensor
    mask: tf.Tensor
    log_probs: tf.Tensor
    values: tf.Tensor
    advantages: tf.Tensor
    returns: tf.Tensor


class _Largest(keras.metrics.Metric):
    """The largest of numbers that are at least 0."""

    def __init__(self, name: str):
        super().__init__(name=name)
        self.largest = self.add_weight(shape=(), initializer="zeros", name="largest")

    def update_state(self, value):
        self.largest.assign(tf.maximum(self.largest, value))

    def result(self):
        return tf.convert_to_tensor(self.largest)


class _StandardError(keras.metrics.Metric):
    """The standard error of the mean of numbers."""

    def __init__(self, name: str):
        super().__init__(name=name)
        self.sums = self.add_weight(shape=(3,), initializer="zeros", name="sums")

    def update_state(self, values):
        powers = [tf.ones_like(values), values, values**2]
        self.sums.assign_add([tf.reduce_sum(power) for power in powers])

    def result(self):
        count, total, squares = tf.unstack(self.sums.value)
        mean, square = (tf.math.divide_no_nan(one, count) for one in (total, squares))
        return tf.sqrt(tf.math.divide_no_nan(tf.nn.relu(square - mean**2), count))


MEANS = (
    *("reward", "kl", "kl_low_variance", "entropy", "clipped", "policy_loss", "value_loss"),
    *("explained_variance", "length", "ended", "beta"),
    *("time_writing", "time_scoring", "time_updates"),
)
"""Logs of `PPO` that are means over the steps of an epoch."""


class PPO(keras.Model):
    """Trains a policy, and the network that predicts its rewards, by proximal policy optimization.

    A step writes an answer to each prompt of a batch, scores the answers, and then updates the
    weights `update_epochs` times `minibatches` times, each epoch in a new random order. Networks
    are called without dropout. `training.loop.fit` trains this model, without XLA, which has no
    clock.

    The logs of an epoch are means over its steps, but for `ratio`, a maximum: `reward`, the scores
    that were learned from; `kl` and `kl_low_variance`, both of `divergences`, in nats per answer;
    `entropy` of the policy, in nats per token; `clipped`, the share of clipped tokens;
    `policy_loss` and `value_loss`; `explained_variance` of the returns by the values; `length` of
    the answers, in tokens; `ended`, the share of answers with an end token; `ratio`, the largest
    mean ratio of a minibatch; `beta`; the shares of a step's time `time_writing`, `time_scoring`
    (which includes reading the answers with policy and reference) and `time_updates`.

    A validation, which needs a `judge`, writes an answer to each prompt with the same seeds in
    every epoch, and logs the means `reward` and `judge` and the standard error `judge_error`.

    Args:
        network: From the features of a rollout to a dict of `logits` `(n, t, vocabulary)` and
            `values` `(n, t)`. It is trained.
        reference: From the same features to the logits of the reference, which is not trained.
        write: From a batch and seeds, int64 `(n,)`, to a `Rollout`, at temperature 1. It must read
            the network's weights when it is called, because a copy made before would not change
            with them. All its randomness must come from the seeds.
        score: From a batch and its `Rollout` to scores, float32 `(n,)`.
        optimizer: Trains policy and values.
        judge: As `score`, for the validation alone. None: there is no validation.
        beta: As in `AdaptiveKL`.
        target: As in `AdaptiveKL`.
        horizon: As in `AdaptiveKL`.
        missing_end: Score of answers without an end token, in place of their own. None: their own.
        gamma: As in `advantages`.
        lambda_: As in `advantages`.
        whiten_rewards: Whether the rewards of the tokens are whitened, but for their mean.
        update_epochs: Number of times that a rollout is learned from; at least 1.
        minibatches: Number of parts of a rollout, each of which updates the weights once per epoch;
            at least 1 and at most the rows of a batch. Memory is needed for one part at a time.
        clip: As in `policy_loss`.
        value_clip: `clip` of `value_loss`.
        value_weight: Factor of the value loss beside the policy loss; at least 0.
    """

    shown_logs = ("reward", "val_reward", "kl", "length", "entropy")

    def __init__(
        self,
        network: keras.Model,
        reference: Callable[[dict[str, tf.Tensor]], tf.Tensor],
        write: Callable[[Any, tf.Tensor], Rollout],
        score: Callable[[Any, Rollout], tf.Tensor],
        optimizer: keras.optimizers.Optimizer,
        *,
        judge: Callable[[Any, Rollout], tf.Tensor] | None = None,
        beta: float = 0.05,
        target: float | None = None,
        horizon: float = 10_000,
        missing_end: float | None = -1.0,
        gamma: float = 1.0,
        lambda_: float = 0.95,
        whiten_rewards: bool = False,
        update_epochs: int = 4,
        minibatches: int = 1,
        clip: float = 0.2,
        value_clip: float = 0.2,
        value_weight: float = 0.1,
    ):
        super().__init__()
        for name, number in (("update_epochs", update_epochs), ("minibatches", minibatches)):
            if number < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={number}")
        for name, share in (("gamma", gamma), ("lambda_", lambda_)):
            if not 0 <= share <= 1:
                raise ValueError(f"`{name}` must be in [0, 1]. Received: {name}={share}")
        for name, size in (("clip", clip), ("value_clip", value_clip)):
            if not size > 0:
                raise ValueError(f"`{name}` must be above 0. Received: {name}={size}")
        if value_weight < 0:
            raise ValueError(f"`value_weight` must be at least 0. Received: {value_weight=}")
        if tf.distribute.has_strategy():  # Replicas cannot exchange gradients inside a loop.
            raise ValueError(
                "PPO trains on one device, without a strategy. "
                f"Received: {type(self.distribute_strategy).__name__}"
            )
        self.network = network
        self.optimizers = {"network": optimizer}
        # Keras tracks networks, but not functions: checkpoints need not hold the reference.
        self.read_reference = lambda features: reference(features)
        self.write = write
        self.score = score
        self.judge = judge
        self.adaptive_kl = AdaptiveKL(beta, target, horizon)
        self.beta = self.adaptive_kl.beta
        self.random = keras.random.SeedGenerator()
        self.missing_end = missing_end
        self.gamma = gamma
        self.lambda_ = lambda_
        self.whiten_rewards = whiten_rewards
        self.update_epochs = update_epochs
        self.minibatches = minibatches
        self.clip = clip
        self.value_clip = value_clip
        self.value_weight = value_weight
        self.logged = {name: keras.metrics.Mean(name) for name in MEANS}
        self.logged["ratio"] = _Largest("ratio")
        self.judged = {
            "judge": keras.metrics.Mean("judge"),
            "judge_error": _StandardError("judge_error"),
        }

    @property
    def updates_per_step(self) -> int:
        """Updates of the weights in a step, which a learning rate schedule counts."""
        return self.update_epochs * self.minibatches

    def finished(self) -> keras.Model:
        """Returns the network that is evaluated and exported."""
        return self.network

    def train_step(self, batch):
        parts = tf.nest.flatten(batch)
        episodes = tf.shape(parts[0])[0]
        begin = _time_after([*parts, self._updates_so_far()])
        with tf.control_dependencies([begin]):
            seeds = keras.random.randint((episodes,), 0, tf.int64.max, "int64", self.random)
            rollout = self.write(batch, seeds)
        written = _time_after(tf.nest.flatten(rollout))
        with tf.control_dependencies([written]):
            experience, kl = self._judge(rollout, self.score(batch, rollout))
        scored = _time_after(tf.nest.flatten(experience))
        with tf.control_dependencies([scored]):
            self._update(experience)
        end = _time_after([self._updates_so_far()])
        self.adaptive_kl.update(kl, episodes)
        for name, start, stop in (
            ("time_writing", begin, written),
            ("time_scoring", written, scored),
            ("time_updates", scored, end),
        ):
            self._log(**{name: tf.math.divide_no_nan(stop - start, end - begin)})
        return {name: metric.result() for name, metric in self.logged.items()}

    def test_step(self, batch):
        seeds = tf.range(tf.shape(tf.nest.flatten(batch)[0])[0], dtype=tf.int64)
        rollout = self.write(batch, seeds)
        self._log(reward=self.score(batch, rollout))
        ratings = self.judge(batch, rollout)
        for metric in self.judged.values():
            metric.update_state(ratings)
        judged = {name: metric.result() for name, metric in self.judged.items()}
        return {"reward": self.logged["reward"].result(), **judged}

    def _updates_so_far(self) -> tf.Tensor:
        """Reads the number of updates, which waits for them."""
        return tf.identity(self.optimizers["network"].iterations.value)

    def _log(self, **values: tf.Tensor) -> None:
        for name, value in values.items():
            self.logged[name].update_state(value)

    def _judge(self, rollout: Rollout, scores: tf.Tensor) -> tuple[_Experience, tf.Tensor]:
        """Returns what to learn from a rollout, and its mean KL divergence in nats per answer."""
        log_probs, reference_log_probs, values, entropies = self._read(rollout)
        mask = rollout.mask
        if self.missing_end is not None:
            scores = tf.where(rollout.ended, scores, self.missing_end)
        rewards = token_rewards(log_probs, reference_log_probs, scores, mask, self.beta)
        if self.whiten_rewards:
            rewards = whiten(rewards, mask, keep_mean=True)
        raw, returns = advantages(rewards, values, mask, self.gamma, self.lambda_)
        sums = divergences(log_probs, reference_log_probs, mask)
        kl, kl_low_variance = (tf.reduce_mean(one) for one in sums)
        self._log(
            reward=tf.reduce_mean(scores),
            kl=kl,
            kl_low_variance=kl_low_variance,
            entropy=masked_mean(entropies, mask),
            explained_variance=explained_variance(values, returns, mask),
            length=tf.reduce_mean(tf.reduce_sum(mask, axis=1)),
            ended=tf.reduce_mean(tf.cast(rollout.ended, tf.float32)),
            beta=self.beta,
        )
        learned = (log_probs, values, whiten(raw, mask), returns)
        return _Experience(rollout.features, rollout.targets, mask, *learned), kl

    def _read(self, rollout: Rollout) -> list[tf.Tensor]:
        """Reads a rollout part by part.

        Returns:
            Log-probabilities of the targets under policy and reference, values, and entropies of
            the policy, float32 `(n, t)` each.
        """
        order = tf.range(tf.shape(rollout.mask)[0])
        shape = (None, None, 4)
        read = tf.TensorArray(tf.float32, self.minibatches, infer_shape=False, element_shape=shape)
        for number in tf.range(self.minibatches):
            part = self._part(rollout, order, number)
            logs, values = self._call(part.features)
            # 0 where a token is impossible, instead of 0 times infinity.
            entropies = -tf.reduce_sum(tf.math.multiply_no_nan(logs, tf.exp(logs)), axis=-1)
            reference = tf.nn.log_softmax(tf.cast(self.read_reference(part.features), tf.float32))
            of_targets = [_of_targets(each, part.targets, part.mask) for each in (logs, reference)]
            read = read.write(number, tf.stack([*of_targets, values, entropies], axis=-1))
        return tf.unstack(read.concat(), axis=-1)

    def _part(self, rows: Any, order: tf.Tensor, number: tf.Tensor) -> Any:
        """Returns a part of the rows of every tensor, of `minibatches` parts in this order."""
        count = tf.size(order)
        first, end = (count * edge // self.minibatches for edge in (number, number + 1))
        return tf.nest.map_structure(lambda one: tf.gather(one, order[first:end]), rows)

    def _call(self, features: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns log-probabilities of all tokens and values, from networks of any precision."""
        outputs = self.network(features, training=False)
        logits = tf.cast(outputs["logits"], tf.float32)
        return tf.nn.log_softmax(logits), tf.cast(outputs["values"], tf.float32)

    def _update(self, experience: _Experience) -> None:
        for _ in tf.range(self.update_epochs):
            order = keras.random.shuffle(tf.range(tf.shape(experience.mask)[0]), seed=self.random)
            for number in tf.range(self.minibatches):
                self._update_once(self._part(experience, order, number))

    def _update_once(self, part: _Experience) -> None:
        mask = part.mask
        with tf.GradientTape() as tape:
            logs, values = self._call(part.features)
            log_probs = _of_targets(logs, part.targets, mask)
            policy, clipped = policy_loss(
                log_probs, part.log_probs, part.advantages, mask, self.clip
            )
            value = value_loss(values, part.values, part.returns, mask, self.value_clip)
            loss = policy + self.value_weight * value
        weights = self.network.trainable_variables
        self.optimizers["network"].apply(tape.gradient(loss, weights), weights)
        self._log(clipped=clipped, policy_loss=policy, value_loss=value)
        self._log(ratio=masked_mean(tf.exp(log_probs - part.log_probs), mask))


def _of_targets(logs: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the log-probability of each target `(n, t)`, of those of all tokens."""
    return tf.gather(logs, tf.where(mask > 0, targets, 0), batch_dims=2)


def _time_after(tensors: list[tf.Tensor]) -> tf.Tensor:
    """Returns the time when all these tensors are there, in seconds."""
    with tf.control_dependencies(tensors):
        # Not `tf.timestamp`, which TensorFlow refuses where operations are deterministic.
        return tf.ensure_shape(tf.numpy_function(time.perf_counter, [], tf.float64), ())
