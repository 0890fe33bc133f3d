"""Stops a run whose policy has drifted off or collapsed."""

from collections.abc import Callable

from callbacks.resumable import Resumable

LEAST_ENTROPY = 0.1
"""Minimum entropy of the policy, as a fraction of that at the start."""
MAX_RATIO = 10.0
"""Maximum mean ratio of a minibatch."""


class PolicyLost(ArithmeticError):
    """Training has made the policy useless."""


class PolicyGuard(Resumable):
    """Stops training by PPO with `PolicyLost` when the policy has become useless.

    Checked after each call of the training step, on the logs of `training.ppo.PPO`: the KL
    divergence `kl` exceeds `max_kl`, the `entropy` falls below a tenth of that of the first call,
    or the `ratio` of a minibatch exceeds 10. `kl` and `entropy` are means over an epoch's steps so
    far, weighted equally: the mean m of n steps and the mean m' of the first n' of them give that
    of the latest steps, `(n m - n' m') / (n - n')`. `ratio` is the maximum of the epoch and needs
    no such step. As the check precedes the checkpoint, the last checkpoint has passed it.

    Args:
        max_kl: Maximum KL divergence from the reference, in nats per answer; above 0.
        last_good: Returns a sentence on the last checkpoint, such as
            `training.checkpoint.Checkpoint.last_good`.
    """

    def __init__(self, max_kl: float, last_good: Callable[[], str]):
        super().__init__(first_entropy=None, steps=0, means=[0.0, 0.0])
        if not max_kl > 0:
            raise ValueError(f"`max_kl` must be above 0. Received: max_kl={max_kl}")
        self.max_kl = max_kl
        self.last_good = last_good

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:  # Not at the beginning of an epoch: a run may resume inside one.
            self.steps, self.means = 0, [0.0, 0.0]

    def on_train_batch_end(self, batch, logs=None):
        kl, entropy = self._latest(batch + 1, [logs["kl"], logs["entropy"]])
        if self.first_entropy is None:
            self.first_entropy = entropy
        if kl > self.max_kl:
            limit = f"`max_kl` is {self.max_kl:g}"
            self._stop(f"The KL divergence rose to {kl:.3g} nats per answer ({limit})", batch)
        if entropy < LEAST_ENTROPY * self.first_entropy:
            first = f"{self.first_entropy:.3g} at the start"
            self._stop(f"The entropy fell to {entropy:.3g} nats per token ({first})", batch)
        if logs["ratio"] > MAX_RATIO:
            ratio = f"{logs['ratio']:.3g} times the old ones (limit: {MAX_RATIO:g})"
            self._stop(f"The probabilities of a minibatch rose to {ratio} on the average", batch)

    def _latest(self, steps: int, means: list[float]) -> list[float]:
        """Returns the means of the steps since the last call, from those of the epoch so far."""
        latest = [
            (steps * mean - self.steps * before) / (steps - self.steps)
            for mean, before in zip(means, self.means, strict=True)
        ]
        self.steps, self.means = steps, means
        return latest

    def _stop(self, what: str, batch: int) -> None:
        step = self._epoch * self.params["steps"] + batch + 1
        raise PolicyLost(
            f"{what} by step {step} (epoch {self._epoch + 1}). {self.last_good()} Try a larger or "
            "an adaptive beta, a smaller learning rate, or fewer updates per rollout, and look for "
            "answers that the score overrates."
        )
