"""Settings and report sections that all classifiers share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data.splits import ClassSplits
from runs.pictures import confusion_matrix, reliability_curve, threshold_curves
from runs.report import Picture, Section, Table
from runs.settings import Data, Training

NOTED = ("true", "predicted", "confidence", "from")
"""Notes on an example: true and predicted class, confidence, file and line."""
Notes = Mapping[str, str]
"""Notes by name; the file is "" if the example comes from no file."""
Show = Callable[[str, Sequence[Any], Sequence[Notes]], Section]
"""Makes a section of a title, examples and notes on each of them."""


@dataclass(frozen=True)
class ClassSettings:
    """For apps that give each example one class, in addition to their other settings."""

    group: Data[str | None] = None
    """Keep groups, such as the images of a patient, in one split. The group is a column, or the
    number of a level of folders (1: those below the class folders). Default: only copies stay
    together."""
    label_smoothing: Training[float] = 0.0
    """Label smoothing: fraction of each label that is spread over all classes, in [0, 1)."""
    class_weight: Training[Literal["none", "balanced"]] = "none"
    """Class weights in the loss; `balanced` makes rare classes count as much as others."""

    def __post_init__(self):
        super().__post_init__()
        self.require_share("label_smoothing")


def classified(evaluation: Any, data: ClassSplits, show: Show) -> list[Section]:
    """Returns sections about classes and confidence, then some mistakes and correct predictions.

    Args:
        evaluation: A `metrics.classification.Evaluation` of the test split.
        data: The examples.
        show: Shows examples.
    """
    classes = data.classes
    sections: list[Section] = [
        Table("Scores by class", *evaluation.by_class(classes)),
        Picture("Confusion matrix", confusion_matrix(evaluation, classes)),
        Table("Most frequent errors", *evaluation.confusions(classes)),
        Picture("Calibration", reliability_curve(evaluation)),
    ]
    if evaluation.has_thresholds:
        title = f"Thresholds, with {classes[1]!r} as the positive class"
        sections += [
            Picture("ROC and precision-recall curve", threshold_curves(evaluation, classes[1])),
            Table(title, *evaluation.thresholds),
        ]
    chosen = {"Worst mistakes": evaluation.worst, "Correct predictions": evaluation.correct}
    for title, indices in chosen.items():
        rows = [(*evaluation.row(i, classes), data.origin("test", i)) for i in indices]
        notes = [dict(zip(NOTED, row, strict=True)) for row in rows]
        sections.append(show(title, data.picked("test", indices), notes))
    return sections


def tabled(what: str, shown: Callable[[Any], str]) -> Show:
    """Returns a function that shows examples in a table.

    Args:
        what: Heading of the column of examples.
        shown: Returns the features of an example as text.
    """

    def show(title: str, examples: Sequence[Any], notes: Sequence[Notes]) -> Section:
        texts = [shown(features) for features, _ in examples]
        rows = [(text, *noted.values()) for text, noted in zip(texts, notes, strict=True)]
        return Table(title, (what, *NOTED), rows)

    return show


def caption(notes: Notes) -> str:
    """Formats the notes on an example, one per line.

    Example:
        >>> notes = {"true": "cat", "predicted": "dog", "confidence": "97%", "from": "7.jpg"}
        >>> caption(notes).splitlines()
        ['predicted dog', 'true cat', '97% confident', '7.jpg']
    """
    lines = [f"predicted {notes['predicted']}", f"true {notes['true']}"]
    return "\n".join([*lines, f"{notes['confidence']} confident", notes["from"]]).strip()


def mixtures(labels: Iterable[Sequence[float]], classes: Sequence[str]) -> list[str]:
    """Names the class of each training example, or the classes that augmentation has mixed.

    Args:
        labels: For each example the share of each class.
        classes: Name of each class.

    Example:
        >>> mixtures([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75]], ["cat", "dog", "eel"])
        ['dog', '75% eel\\n25% cat']
    """
    captions = []
    for shares in labels:
        named = sorted(zip(shares, classes, strict=True), reverse=True)
        lines = [f"{share:.0%} {name}" for share, name in named if share >= 0.005]
        captions.append("\n".join(lines) if len(lines) > 1 else named[0][1])
    return captions
