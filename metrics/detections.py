"""How well found objects agree with true ones: COCO's numbers, VOC's, and tables."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import floor
from typing import Any, NamedTuple

import numpy as np

DRAWS = 200
"""Number of test sets that are drawn for an interval: each takes milliseconds to score."""
LEAST_SHOWN = 100
"""pycocotools gives no average precision unless at least so many objects an image may be found."""
PROPOSALS = (100, 300, 1000)
"""Numbers of proposals of an image whose recall is measured."""
IOUS = np.linspace(0.5, 0.95, 10)
"""What COCO averages over."""
SIZES = ("small, below 32 x 32 pixels", "medium", "large, above 96 x 96 pixels")
"""COCO's sizes of objects, by their area."""
USUAL_THRESHOLD = 0.5
"""Score that an object must reach to be shown, where no better one is known."""
NAMES = (
    *("map", "map50", "map75", "map_small", "map_medium", "map_large"),
    *("recall_1", "recall_10", "recall", "recall_small", "recall_medium", "recall_large"),
)
"""COCO's twelve numbers in their order; -1, where there is no such object, is left out."""


class Confusion(NamedTuple):
    """The class of each object, and that of what was found there.

    Args:
        labels: True classes `(n,)`; the number after the last class is the background.
        predictions: Classes found `(n,)`, the background for an object that was missed.
    """

    labels: np.ndarray
    predictions: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """Found objects of the images of a split, compared with the true ones.

    Args:
        truths: For each image `boxes` `(m, 4)`, `classes` and `kind` `(m,)`, and with masks `masks`
            as COCO's run lengths, m of them.
        found: For each image `boxes` `(n, 4)`, `classes` and `scores` `(n,)`, best first, and
            perhaps `masks`, all in the pixels of the upright image. Perhaps `proposals` `(r, 4)`,
            best first.
        classes: Names of the classes.
        most: Maximum number of objects found in an image.
        thresholds: Lowest score of each class with which an object is shown. Default: 0.5.
    """

    truths: Sequence[Mapping[str, Any]]
    found: Sequence[Mapping[str, Any]]
    classes: Sequence[str]
    most: int
    thresholds: Sequence[float] = ()

    @cached_property
    def scores(self) -> dict[str, float]:
        """VOC's interval round COCO's numbers, that at an IoU of 0.5 first."""
        first: dict[str, float] = {}
        scores: dict[str, float] = {}
        for kind, prefix in {"segm": "mask_", "bbox": ""}.items():
            if kind in self.kinds:
                low, high = self.interval(kind)
                numbers = self._coco(kind) | {"map50_low": low, "map50_high": high}
                named = {f"{prefix}{name}": value for name, value in numbers.items()}
                first |= {name: named.pop(name) for name in named.copy() if "map50" in name}
                scores |= named
        further = {"voc_map50": float(np.nanmean(self.voc()))}
        recalls = {f"proposal_recall_{n}": row[-1] for n, row in self.proposal_recalls.items()}
        return first | scores | further | recalls

    @property
    def map50(self) -> float:
        """The first of the scores alone."""
        return self._coco(self.kinds[-1])["map50"]

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is compared, by the names of pycocotools."""
        has_masks = bool(self.truths) and "masks" in self.truths[0]
        return ("bbox", "segm") if has_masks else ("bbox",)

    @cached_property
    def _coco_results(self) -> dict[str, Any]:
        from pycocotools import mask
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        class WithDifficult(COCOeval):
            def _prepare(self):
                super()._prepare()  # It ignores crowds only, not what an annotation says.
                for rows in self._gts.values():
                    for row in rows:
                        row["ignore"] = row["ignore"] or row["difficult"]

        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        results: list[dict[str, Any]] = []
        for number, (truth, found) in enumerate(zip(self.truths, self.found, strict=True), 1):
            sizes = [mask["size"] for one in (truth, found) for mask in one.get("masks", ())][:1]
            sides = dict(zip(("height", "width"), sizes[0], strict=True)) if sizes else {}
            images.append({"id": number, **sides})
            for i, box in enumerate(truth["boxes"]):
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(truth["classes"][i]) + 1,
                    "bbox": _as_xywh(box),
                    "area": float(np.prod(box[2:] - box[:2])),
                    "iscrowd": int(truth["kind"][i] == 3),
                    "difficult": int(truth["kind"][i] == 2),
                }
                if "masks" in truth:
                    annotation["segmentation"] = truth["masks"][i]
                    annotation["area"] = float(mask.area(truth["masks"][i]))
                annotations.append(annotation)
            for i, box in enumerate(found["boxes"]):
                result = {
                    "image_id": number,
                    "category_id": int(found["classes"][i]) + 1,
                    "bbox": _as_xywh(box),
                    "score": float(found["scores"][i]),
                }
                if "masks" in found:
                    result["segmentation"] = found["masks"][i]
                results.append(result)
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(self.classes)]
        evaluated = {}
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = {
                "images": images,
                "annotations": annotations,
                "categories": categories,
                "info": {},
            }
            truth.createIndex()
            for kind in self.kinds:
                predicted = truth.loadRes(_for_kind(results, kind)) if results else COCO()
                if not results:
                    predicted.dataset = {**truth.dataset, "annotations": []}
                    predicted.createIndex()
                evaluation = WithDifficult(truth, predicted, kind)
                evaluation.params.maxDets = [1, 10, max(self.most, LEAST_SHOWN)]
                evaluation.evaluate()
                evaluation.accumulate()
                evaluated[kind] = evaluation
        return evaluated

    def _coco(self, kind: str) -> dict[str, float]:
        """Returns COCO's twelve numbers, with as many objects an image as may be found."""
        evaluation = self._coco_results[kind]
        precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
        # (IoU, recall, class, area, number) and (IoU, class, area, number).
        values = [_mean(precision[:, :, :, 0, 2])]
        values += [_mean(precision[i, :, :, 0, 2]) for i in (0, 5)]
        values += [_mean(precision[:, :, :, area, 2]) for area in (1, 2, 3)]
        values += [_mean(recall[:, :, 0, most]) for most in (0, 1, 2)]
        values += [_mean(recall[:, :, area, 2]) for area in (1, 2, 3)]
        return {name: value for name, value in zip(NAMES, values, strict=True) if value >= 0}

    def by_class(self) -> tuple[list[str], list[list[Any]]]:
        """Returns heading and rows of a table: for each class COCO's precision and the objects."""
        rows = []
        for i, name in enumerate(self.classes):
            cells = []
            for kind in self.kinds:
                precision = self._coco_results[kind].eval["precision"][:, :, i, 0, 2]
                cells += [_mean(precision[0]), _mean(precision)]
            count = sum(int(np.sum(_counts(t) & (t["classes"] == i))) for t in self.truths)
            rows.append([name, *map(_shown, cells), count])
        return ["class", *self._columns("AP50", "AP"), "objects"], rows

    def by_size(self) -> tuple[list[str], list[list[Any]]]:
        """Returns heading and rows of a table: for each size COCO's precision and recall."""
        truth = self._coco_results[self.kinds[-1]].cocoGt
        areas = [
            one["area"]
            for one in truth.anns.values()
            if not one["iscrowd"] and not one["difficult"]
        ]
        counts = np.bincount(np.digitize(areas, [32**2, 96**2]), minlength=len(SIZES))
        rows = []
        for number, name in enumerate(SIZES, 1):
            cells = []
            for kind in self.kinds:
                found = self._coco_results[kind].eval
                cells += [_mean(found[one][..., number, 2]) for one in ("precision", "recall")]
            rows.append([name, *map(_shown, cells), int(counts[number - 1])])
        return ["size", *self._columns("AP", "recall"), "objects"], rows

    def _columns(self, *names: str) -> list[str]:
        titles = {"bbox": "box", "segm": "mask"}
        return [f"{titles[kind]} {name}" for kind in self.kinds for name in names]

    @cached_property
    def hits(self) -> dict[str, list[dict[str, np.ndarray]]]:
        """By kind, for each image the `scores`, `classes` and `right` of objects that count.

        A found object is right by the rule of VOC at an IoU of 0.5.
        """
        pairs = [*zip(self.truths, self.found, strict=True)]
        return {kind: [_hits(truth, found, kind) for truth, found in pairs] for kind in self.kinds}

    def voc(
        self,
        eleven_points: bool = False,
        weights: np.ndarray | None = None,
        kind: str = "bbox",
    ) -> np.ndarray:
        """Returns the average precision of each class by the rules of VOC; NaN without objects.

        Args:
            eleven_points: Whether the precision is averaged at recalls of 0, 0.1, ... 1, as until
                2009, or over all recalls.
            weights: How often each image counts. None: once.
            kind: One of `kinds`.
        """
        if weights is None:
            weights = np.ones(len(self.truths))
        joined = self._joined(kind)
        repeated = np.repeat(weights, [len(one["scores"]) for one in self.hits[kind]])
        totals = weights @ self._objects
        order = np.argsort(-joined["scores"], kind="stable")
        found = []
        for i, total in enumerate(totals):
            chosen = order[joined["classes"][order] == i]
            right = np.cumsum(joined["right"][chosen] * repeated[chosen])
            all_found = np.cumsum(repeated[chosen])
            found.append(_area(right, all_found, total, eleven_points) if total else np.nan)
        return np.array(found)

    def _joined(self, kind: str) -> dict[str, np.ndarray]:
        return {
            name: np.concatenate([one[name] for one in self.hits[kind]] or [np.zeros(0)])
            for name in ("scores", "classes", "right")
        }

    @cached_property
    def _objects(self) -> np.ndarray:
        """The number of objects of each class in each image, `(images, classes)`."""
        counts = [
            np.bincount(truth["classes"][_counts(truth)], minlength=len(self.classes))
            for truth in self.truths
        ]
        return np.array(counts).reshape(len(self.truths), len(self.classes))

    def interval(self, kind: str = "bbox") -> tuple[float, float]:
        """Returns the 95 % interval of the mean of VOC's precision, by a bootstrap over images."""
        count = len(self.truths)
        random = np.random.default_rng(0)
        even = np.full(count, 1 / count)
        means = [
            np.nanmean(self.voc(weights=random.multinomial(count, even), kind=kind))
            for _ in range(DRAWS)
        ]
        low, high = np.nanquantile(means, (0.025, 0.975))
        return float(low), float(high)

    def curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns recall and precision of each class that has objects, at an IoU of 0.5."""
        evaluation = self._coco_results["bbox"]
        recalls = evaluation.params.recThrs
        curves = {}
        for i, name in enumerate(self.classes):
            precision = evaluation.eval["precision"][0, :, i, 0, 2]
            if np.all(precision >= 0):
                curves[name] = (recalls, precision)
        return curves

    def best_thresholds(self) -> list[float]:
        """Returns for each class the lowest score that gives the best F1, to three digits."""
        joined, thresholds = self._joined(self.kinds[-1]), []
        order = np.argsort(-joined["scores"], kind="stable")
        for i, total in enumerate(self._objects.sum(axis=0)):
            chosen = order[joined["classes"][order] == i]
            right = np.cumsum(joined["right"][chosen])
            best = 2 * right / (np.arange(1, len(right) + 1) + total)
            score = joined["scores"][chosen][np.argmax(best)] if right.any() else USUAL_THRESHOLD
            thresholds.append(floor(1000 * score) / 1000)
        return thresholds

    @property
    def _least_scores(self) -> np.ndarray:
        return np.array(self.thresholds or [USUAL_THRESHOLD] * len(self.classes))

    def at_thresholds(self) -> tuple[list[str], list[list[Any]]]:
        """Returns heading and rows of a table: the quality of the objects that are shown."""
        joined, rows = self._joined(self.kinds[-1]), []
        shown = joined["scores"] >= self._least_scores[joined["classes"].astype(int)]
        for i, total in enumerate(self._objects.sum(axis=0)):
            of_class = shown & (joined["classes"] == i)
            right, found = np.sum(joined["right"][of_class]), np.sum(of_class)
            parts = [(right, found), (right, total), (2 * right, found + total)]
            shares = [f"{part / whole:.3f}" if whole else "" for part, whole in parts]
            rows.append([self.classes[i], f"{self._least_scores[i]:.3f}", *shares])
        return ["class", "threshold", "test precision", "test recall", "test F1"], rows

    def f1_of_images(self) -> np.ndarray:
        """Returns for each image the F1 of the objects that are shown."""
        scores = []
        for hits, truth in zip(self.hits[self.kinds[-1]], self.truths, strict=True):
            shown = hits["scores"] >= self._least_scores[hits["classes"]]
            right, objects = np.sum(hits["right"] & shown), np.sum(_counts(truth))
            both = np.sum(shown) + objects
            scores.append(2 * right / both if both else 1.0)
        return np.array(scores)

    def confusion(self) -> Confusion:
        """Pairs true objects with those that are shown, at an IoU of the boxes of at least 0.5.

        Each found object, best first, takes the object that it overlaps most of those that are
        left. One that is alone is background, unless it lies on what does not count.
        """
        pairs, background = [], len(self.classes)
        for truth, found in zip(self.truths, self.found, strict=True):
            classes = found["classes"][found["scores"] >= self._least_scores[found["classes"]]]
            boxes = found["boxes"][found["scores"] >= self._least_scores[found["classes"]]]
            left = _counts(truth)
            for label, overlaps in zip(classes, iou(boxes, truth["boxes"]), strict=True):
                free = np.where(left, overlaps, 0.0)
                if np.any(free >= 0.5):
                    nearest = int(np.argmax(free))
                    pairs.append((truth["classes"][nearest], label))
                    left[nearest] = False
                elif not np.any((overlaps >= 0.5) & ~_counts(truth)):
                    pairs.append((background, label))
            pairs += [(label, background) for label in truth["classes"][left]]
        labels, predictions = np.array(pairs, int).reshape(-1, 2).T
        return Confusion(labels, predictions)

    @cached_property
    def proposal_recalls(self) -> dict[int, list[float]]:
        """The recall of the best proposals of each image, by their number; empty without any.

        The values are those at an IoU of 0.5 and of 0.7, and COCO's average over IoU of 0.5 to
        0.95. Each proposal finds one object: the pairs are those of highest IoU.
        """
        if not self.found or "proposals" not in self.found[0]:
            return {}
        recalls = {}
        for number in PROPOSALS:
            best = [
                _paired(iou(found["proposals"][:number], truth["boxes"][_counts(truth)]))
                for truth, found in zip(self.truths, self.found, strict=True)
            ]
            reached = np.concatenate(best)[:, None] >= [0.5, 0.7, *IOUS]
            shares = reached.mean(axis=0) if len(reached) else np.zeros(reached.shape[1])
            recalls[number] = [float(x) for x in (*shares[:2], shares[2:].mean())]
        return recalls


def _paired(overlaps: np.ndarray) -> np.ndarray:
    """Returns the IoU of each column with its row, 0 without one; the highest are paired first."""
    left, best = overlaps.copy(), np.zeros(overlaps.shape[1])
    for _ in range(min(left.shape)):
        row, column = np.unravel_index(np.argmax(left), left.shape)
        if left[row, column] <= 0:
            break
        best[column] = left[row, column]
        left[row], left[:, column] = 0, 0
    return best


def _hits(truth: Mapping[str, Any], found: Mapping[str, Any], kind: str) -> dict[str, np.ndarray]:
    """Compares the objects of one image by the rule of VOC."""
    compare, name = (iou, "boxes") if kind == "bbox" else (mask_iou, "masks")
    overlaps = compare(found[name], truth[name])
    overlaps = np.where(found["classes"][:, None] == truth["classes"][None], overlaps, 0.0)
    right, counted, taken = [], [], set()
    for row in overlaps:
        nearest = int(np.argmax(row)) if len(row) else -1
        reaches = nearest >= 0 and row[nearest] >= 0.5
        is_object = reaches and truth["kind"][nearest] == 1
        counted.append(not reaches or is_object)
        right.append(bool(is_object and nearest not in taken))
        if is_object:
            taken.add(nearest)
    chosen = np.array(counted, bool)
    return {
        "scores": np.asarray(found["scores"])[chosen],
        "classes": np.asarray(found["classes"])[chosen],
        "right": np.array(right, bool)[chosen],
    }


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of boxes `(n, 4)` and `(m, 4)`, `(n, m)`."""
    shape = len(boxes), len(others)
    if 0 in shape:
        return np.zeros(shape)
    from pycocotools import mask

    first, second = (
        np.concatenate([one[:, :2], one[:, 2:] - one[:, :2]], axis=1).astype(np.float64)
        for one in (np.asarray(boxes), np.asarray(others))
    )
    return np.asarray(mask.iou(first, second, [0] * shape[1])).reshape(shape)


def mask_iou(masks: Sequence[Any], others: Sequence[Any]) -> np.ndarray:
    """Returns the intersection over union of masks, COCO's run lengths, `(n, m)`."""
    if not masks or not others:
        return np.zeros((len(masks), len(others)))
    from pycocotools import mask

    return np.asarray(mask.iou([*masks], [*others], [0] * len(others)))


def _counts(truth: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(truth["kind"]) == 1


def _as_xywh(box: np.ndarray) -> list[float]:
    xmin, ymin, xmax, ymax = (float(one) for one in box)
    return [xmin, ymin, xmax - xmin, ymax - ymin]


def _for_kind(results: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Keeps what pycocotools is to compare: it reads boxes where there are some."""
    left_out = "bbox" if kind == "segm" else "segmentation"
    return [{name: value for name, value in one.items() if name != left_out} for one in results]


def _shown(value: float) -> str:
    return f"{value:.3f}" if value >= 0 else ""


def _mean(values: np.ndarray) -> float:
    """Returns the mean of the values that are there; -1 for none."""
    there = values[values > -1]
    return float(np.mean(there)) if there.size else -1.0


def _area(right: np.ndarray, found: np.ndarray, total: float, eleven_points: bool) -> float:
    """Returns the average precision from the numbers after each found object."""
    recall = right / total
    precision = right / np.maximum(found, 1e-12)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    if eleven_points:
        at = np.searchsorted(recall, np.linspace(0, 1, 11) - 1e-12)
        return float(np.mean(np.append(highest, 0.0)[np.minimum(at, len(highest))]))
    return float(np.sum(np.diff(recall, prepend=0.0) * highest))
