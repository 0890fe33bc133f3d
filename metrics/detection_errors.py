"""Six types of errors of networks that find objects, and what fixing each would give."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metrics.detections import Evaluation, iou

FOREGROUND, BACKGROUND = 0.5, 0.1
"""IoU from which a found object is right, and up to which it is on the background."""
RECALLS = np.linspace(0, 1, 101)
"""Where COCO reads the precision."""
MEANINGS = {
    "class": "on an object of another class",
    "location": "near an object of its class: IoU of 0.1 to 0.5",
    "both": "near an object of another class",
    "duplicate": "on an object that was found with a higher score",
    "background": "on no object: IoU up to 0.1",
    "missed": "object without any found one that a better class or box would put there",
}
Row = tuple[int, float, bool]
"""Class, score, and whether a found object is right."""


@dataclass
class _Errors:
    """What is found in some images.

    Args:
        totals: Number of objects of each class.
        right: The found objects that are right.
        wrong: For each other one its type of error, the row, and the row after the error is fixed;
            None if it is left out then.
        missed: Classes of the missed objects.
    """

    totals: np.ndarray
    right: list[Row] = field(default_factory=list)
    wrong: list[tuple[str, Row, Row | None]] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)

    def precision(self, fixed: str = "") -> float:
        """Returns the mean over the classes of the average precision, with one type fixed."""
        rows = [*self.right]
        for kind, row, better in self.wrong:
            chosen = better if kind == fixed else row
            rows += [chosen] if chosen else []
        rows.sort(key=lambda row: -row[1])
        gone = self.missed if fixed == "missed" else []
        totals = self.totals - np.bincount(gone, minlength=len(self.totals))
        known = np.flatnonzero(self.totals)
        return float(np.mean([_precision(rows, int(i), int(totals[i])) for i in known]))


def by_error(evaluation: Evaluation) -> tuple[list[str], list[list[Any]]]:
    """Returns heading and rows of a table: for each type of error the number and what it costs.

    The cost is by how much the mean average precision of boxes at an IoU of 0.5 would rise if all
    errors of the type, and no others, were fixed: objects get the right class or box, or are left
    out; missed objects do not count.

    Reference:
        Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, 2020,
        section 2. https://arxiv.org/abs/2008.08115
    """
    errors = _Errors(np.zeros(len(evaluation.classes), int))
    for truth, found in zip(evaluation.truths, evaluation.found, strict=True):
        _add(errors, truth, found)
    counts = Counter(kind for kind, _, _ in errors.wrong)
    counts["missed"] = len(errors.missed)
    before = errors.precision() if errors.totals.any() else 0.0
    rows: list[list[Any]] = []
    for kind, meaning in MEANINGS.items():
        gain = max(errors.precision(kind) - before, 0.0) if errors.totals.any() else 0.0
        rows.append([kind, meaning, counts[kind], f"{gain:.3f}"])
    return ["error", "a found object is", "number", "mAP50 if fixed: +"], rows


def _add(errors: _Errors, truth: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Adds the errors in one image."""
    overlaps = iou(found["boxes"], truth["boxes"])
    is_same = np.asarray(found["classes"])[:, None] == np.asarray(truth["classes"])
    counts = np.asarray(truth["kind"]) == 1
    is_ignored = np.any((overlaps >= FOREGROUND) & is_same & ~counts, axis=1)
    overlaps, is_same = overlaps[:, counts], is_same[:, counts]
    labels = np.asarray(truth["classes"])[counts]
    errors.totals += np.bincount(labels, minlength=len(errors.totals))
    # A column of zeros for images without objects.
    own, other = (np.pad(overlaps * one, [(0, 0), (0, 1)]) for one in (is_same, ~is_same))
    is_right, is_taken = _matched(own)
    mended: dict[int, int] = {}
    for i, label in enumerate(np.asarray(found["classes"]).tolist()):
        row = (label, float(found["scores"][i]), bool(is_right[i]))
        if is_right[i]:
            errors.right.append(row)
            continue
        kind, place = _kind(own[i], other[i], is_taken)
        if place is not None and not is_taken[place]:
            # Of several that would find an object, the best one does.
            mended.setdefault(place, i)
        if is_ignored[i]:
            continue
        is_mended = place is not None and mended.get(place) == i
        fixed = (int(labels[place]), row[1], True) if is_mended else None
        errors.wrong.append((kind, row, fixed))
    errors.missed += [
        int(label) for j, label in enumerate(labels) if not is_taken[j] and j not in mended
    ]


def _matched(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns which found objects are right, by COCO's rule, and which true ones are found."""
    left, is_right = own.copy(), np.zeros(len(own), bool)
    is_taken = np.zeros(own.shape[1], bool)
    for i, overlaps in enumerate(left):
        nearest = int(np.argmax(overlaps))
        if overlaps[nearest] >= FOREGROUND:
            is_right[i] = is_taken[nearest] = True
            left[:, nearest] = 0
    return is_right, is_taken


def _kind(own: np.ndarray, other: np.ndarray, is_taken: np.ndarray) -> tuple[str, int | None]:
    """Returns the type of an error, and the object that would be found if it is fixed."""
    if BACKGROUND <= own.max() <= FOREGROUND:
        return "location", int(np.argmax(own))
    if other.max() >= FOREGROUND:
        return "class", int(np.argmax(other))
    if np.max(own * is_taken) >= FOREGROUND:
        return "duplicate", None
    if max(own.max(), other.max()) <= BACKGROUND:
        return "background", None
    return "both", None


def _precision(rows: Sequence[Row], label: int, total: int) -> float:
    right = np.array([is_right for one, _, is_right in rows if one == label], bool)
    if not total or not len(right):
        return 0.0
    reached = np.cumsum(right)
    precision = reached / np.arange(1, len(right) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(reached / total, RECALLS)
    return float(np.mean(np.append(highest, 0.0)[at]))
