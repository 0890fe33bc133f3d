"""What the answers of a policy are worth, before and after its training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from metrics.intervals import bounds
from metrics.replies import variety

VARIETY = ("distinct_2", "commonest_share")
"""Measures of `metrics.replies.variety` that show how much a policy repeats itself."""
NOISE = 2.0
"""Standard errors of a difference of means that may be chance."""


@dataclass(frozen=True)
class Answered:
    """Answers to some prompts, in their order, and what they are worth.

    Args:
        texts: The answers.
        ratings: For each judge, by its name, the ratings of the answers, float `(n,)`; the first is
            the reward that training raises.
        lengths: Numbers of tokens, float `(n,)`.
        kl: An estimate of the KL divergence from the network before the training by each answer, in
            nats, float `(n,)`. None: they are of that network.
    """

    texts: Sequence[str]
    ratings: Mapping[str, np.ndarray]
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0))
    kl: np.ndarray | None = None

    @property
    def means(self) -> dict[str, float]:
        """Mean ratings, length and variety of the answers."""
        kinds = variety(self.texts)
        return {
            **{name: float(values.mean()) for name, values in self.ratings.items()},
            **({"length": float(self.lengths.mean())} if len(self.lengths) else {}),
            **{name: kinds[name] for name in VARIETY},
        }


def best(several: Sequence[Answered]) -> Answered:
    """Returns the answer to each prompt with the highest reward: best of n.

    Its KL divergence from the network that wrote them is at most `log n - (n - 1) / n` nats.

    Reference:
        Stiennon et al., Learning to Summarize from Human Feedback, 2020, appendix G.3.
        https://arxiv.org/abs/2009.01325

    Args:
        several: n answers to each prompt, of which the first rating is compared.
    """
    rewards = np.stack([next(iter(one.ratings.values())) for one in several])
    chosen = rewards.argmax(axis=0)  # (prompts,)
    numbers = np.arange(len(chosen))
    return Answered(
        [several[number].texts[prompt] for prompt, number in enumerate(chosen)],
        {
            name: np.stack([one.ratings[name] for one in several])[chosen, numbers]
            for name in several[0].ratings
        },
        np.stack([one.lengths for one in several])[chosen, numbers],
        np.full(len(chosen), np.log(len(several)) - (len(several) - 1) / len(several)),
    )


def compared(before: Answered, after: Answered) -> dict[str, float]:
    """Returns the scores of a trained policy.

    They are those of `Answered.means` with the interval of the reward, the same `..._before`, the
    KL divergence `kl` in nats per answer, and for each judge the share of prompts to which it
    prefers the new answer, `preferred_by_...`, with its interval; equal ratings count half.
    """
    reward = next(iter(after.ratings))
    scores = after.means
    scores |= bounds(reward, after.ratings[reward])
    for name, values in after.ratings.items():
        hits = (np.sign(values - before.ratings[name]) + 1) / 2
        scores[f"preferred_by_{name}"] = float(hits.mean())
        scores |= bounds(f"preferred_by_{name}", hits)
    if after.kl is not None:
        scores["kl"] = float(after.kl.mean())
    return scores | {f"{name}_before": value for name, value in before.means.items()}


def exploited(scores: Mapping[str, float], history: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Warns where the judge likes the answers less although the reward rises.

    Args:
        scores: From `compared`.
        history: Values of `val_reward`, `val_judge` and its standard error `val_judge_error` after
            each epoch; empty if there was no judge.
    """
    advice = "Try a larger --beta or fewer --epochs."
    if "judge" in scores and scores["reward"] > scores["reward_before"]:
        before, after = scores["judge_before"], scores["judge"]
        if after < before:
            yield (
                f"The policy exploits the reward: that of the judge fell from {before:.4g} to "
                f"{after:.4g} while the reward rose. {advice}"
            )
    if "val_judge" in history:
        rewards, judged, errors = (
            np.array(history[f"val_{name}"]) for name in ("reward", "judge", "judge_error")
        )
        best = int(judged.argmax())
        fell = judged[best] - judged[-1] > NOISE * np.hypot(errors[best], errors[-1])
        if fell and rewards[-1] > rewards[best]:
            yield (
                f"After epoch {best + 1} the policy exploits the reward: on the validation prompts "
                f"that of the judge fell from {judged[best]:.4g} to {judged[-1]:.4g} while the "
                f"reward rose from {rewards[best]:.4g} to {rewards[-1]:.4g}. With --keep best that "
                f"epoch is exported, and the later ones are not. {advice}"
            )


def baselines(groups: Mapping[str, Answered]) -> dict[str, tuple[str, float]]:
    """Returns the mean rewards of the answers before the training, as `runs.report` takes them."""
    return {
        name.replace(", ", "_").replace(" ", "_"): (
            f"the network {name}",
            float(next(iter(group.ratings.values())).mean()),
        )
        for name, group in groups.items()
        if name != "after"
    }


def means_by_divergence(
    groups: Mapping[str, Answered],
) -> dict[str, tuple[float, dict[str, float]]]:
    """Returns the KL divergence of each policy, in nats per answer, and its mean ratings."""
    return {
        name: (
            0.0 if group.kl is None else float(group.kl.mean()),
            {judge: float(values.mean()) for judge, values in group.ratings.items()},
        )
        for name, group in groups.items()
    }


def samples(
    prompts: Sequence[bytes], before: Answered, after: Answered
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns heading and rows of a table of the first prompts with both answers."""
    rows: list[tuple[str, ...]] = []
    for number, prompt in enumerate(prompts):
        cells = [prompt.decode().strip()]
        for group in (before, after):
            ratings = (f"{values[number]:.3g}" for values in group.ratings.values())
            cells += [group.texts[number], *ratings]
        rows.append(tuple(cells))
    columns = ("answer", *after.ratings)
    heading = [f"{name} {when}" for when in ("before", "after") for name in columns]
    return ("prompt", *heading), rows


def table(groups: Mapping[str, Answered]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns heading and rows of a table that compares the answers of several policies."""
    rows = []
    for name, group in groups.items():
        kl = "0" if group.kl is None else f"{group.kl.mean():.3g}"
        rows.append((name, *(f"{value:.3g}" for value in group.means.values()), kl))
    columns = (name.replace("_", " ") for name in next(iter(groups.values())).means)
    return ("answers", *columns, "KL, nats"), rows
