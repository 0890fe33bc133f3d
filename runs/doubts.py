"""Reasons to doubt the score of a run, in words."""

from collections.abc import Iterator, Mapping, Sequence

from runs.report import History, Report

FEW = 100
"""Number of test examples below which a score is doubted."""
LOWER_IS_BETTER = ("bits_per_byte",)
"""Scores of which lower values are better."""


def doubts(report: Report, num_test: int, examples: str) -> Iterator[str]:
    """Yields reasons to doubt the score of a run, the most serious first.

    Args:
        report: Has the scores (if there are baselines, larger is better unless `LOWER_IS_BETTER`
            has the first), the baselines (`majority` always gives the most frequent answer) and the
            histories.
        num_test: Number of test examples.
        examples: Name of an example in the plural.
    """
    name, score = report.headline, report.scores[report.headline]
    majority = report.baselines.get("majority")
    for baseline in report.baselines.values():
        description, other = baseline
        is_better = other < score if name in LOWER_IS_BETTER else other > score
        if baseline != majority and is_better:
            yield (
                f"A simpler predictor beats this network, with {name.replace('_', ' ')} "
                f"{other:.4g} against {score:.4g}: {description}."
            )
    if majority and score <= majority[1]:
        yield (
            f"This network is no better than always giving {majority[0]}: {name} {score:.4g} "
            f"against {majority[1]:.4g}. Try a smaller --learning-rate, more --epochs, or a "
            "pretrained network (--preset)."
        )
    yield from _rising(report.histories)
    if f"{name}_low" in report.scores:
        yield from _wide(report, majority)
        if score == 1:
            # Hanley & Lippman-Hand, If Nothing Goes Wrong, Is Everything All Right?, 1983.
            yield (
                f"There is no error in the test set, so the 95 % interval has no width. Up to "
                f"{min(3 / num_test, 1):.1%} of other {examples} may be wrong."
            )
    if num_test < FEW:
        yield f"The test set has fewer than {FEW} {examples}: {num_test}."


def _wide(report: Report, majority: tuple[str, float] | None) -> Iterator[str]:
    name, score = report.headline, report.scores[report.headline]
    width = report.scores[f"{name}_high"] - report.scores[f"{name}_low"]
    if majority and 0 < score - majority[1] < width:
        yield (
            f"The 95 % interval is {width:.3g} wide, and the gain over always giving "
            f"{majority[0]} is only {score - majority[1]:.3g}."
        )


def _rising(histories: Mapping[str, History]) -> Iterator[str]:
    for stage, history in histories.items():
        losses: Sequence[float] = history.get("loss", ())
        later = losses[1:]
        if later and max(later) > losses[0] <= min(later):
            yield (
                f"The training loss{f' of {stage}' if stage else ''} rose after the first epoch "
                f"and never fell below it again: it was {losses[0]:.4g} after the first and "
                f"{losses[-1]:.4g} after the last. Try a smaller --learning-rate."
            )
