"""What the report of every classifier shows."""

from collections.abc import Sequence
from typing import Any

from runs.pictures import confusion_matrix, reliability_curve
from runs.report import Picture, Section, Table


def classified(evaluation: Any, classes: Sequence[str]) -> list[Section]:
    """Returns sections about classes and confidence.

    Args:
        evaluation: A `metrics.classification.Evaluation`.
        classes: Name of each class.
    """
    return [
        Table("Scores by class", *evaluation.by_class(classes)),
        Picture("Confusion matrix", confusion_matrix(evaluation, classes)),
        Table("Most frequent errors", *evaluation.confusions(classes)),
        Picture("Calibration", reliability_curve(evaluation)),
    ]
