"""How well found objects agree with true ones: COCO's numbers, VOC's, and tables."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

DRAWS = 200
"""Number of test sets that are drawn for an interval: each takes milliseconds to score."""
LEAST_SHOWN = 100
"""pycocotools gives no average precision unless at least so many objects an image may be found."""
NAMES = (
    *("map", "map50", "map75", "map_small", "map_medium", "map_large"),
    *("recall_1", "recall_10", "recall", "recall_small", "recall_medium", "recall_large"),
)
"""COCO's twelve numbers in their order; -1, where there is no such object, is left out."""


@dataclass(frozen=True)
class Evaluation:
    """Found objects of the images of a split, compared with the true ones.

    Args:
        truths: For each image `boxes` `(m, 4)`, `classes` and `kind` `(m,)`, and with masks `masks`
            as COCO's run lengths, m of them.
        found: For each image `boxes` `(n, 4)`, `classes` and `scores` `(n,)`, best first, and
            perhaps `masks`, all in the pixels of the upright image.
        classes: Names of the classes.
        most: Maximum number of objects found in an image.
    """

    truths: Sequence[Mapping[str, Any]]
    found: Sequence[Mapping[str, Any]]
    classes: Sequence[str]
    most: int

    @cached_property
    def scores(self) -> dict[str, float]:
        """VOC's interval round COCO's numbers, that at an IoU of 0.5 first."""
        boxes = self._coco("bbox")
        low, high = self.interval
        scores = {"map50": boxes.pop("map50"), "map50_low": low, "map50_high": high}
        scores |= boxes | {"voc_map50": float(np.nanmean(self.voc()))}
        if self.has_masks:
            masks = {f"mask_{name}": value for name, value in self._coco("segm").items()}
            scores = {"mask_map50": masks.pop("mask_map50"), **scores, **masks}
        return scores

    @property
    def has_masks(self) -> bool:
        return bool(self.truths) and "masks" in self.truths[0]

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
            for kind in ("bbox", "segm") if self.has_masks else ("bbox",):
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
        kinds = {"bbox": "box", **({"segm": "mask"} if self.has_masks else {})}
        heading = ["class", *(f"{name} {n}" for name in kinds.values() for n in ("AP50", "AP"))]
        rows = []
        for i, name in enumerate(self.classes):
            cells = []
            for kind in kinds:
                precision = self._coco_results[kind].eval["precision"][:, :, i, 0, 2]
                cells += [_mean(precision[0]), _mean(precision)]
            count = sum(int(np.sum(_counts(t) & (t["classes"] == i))) for t in self.truths)
            shown = [f"{cell:.3f}" if cell >= 0 else "" for cell in cells]
            rows.append([name, *shown, count])
        return [*heading, "objects"], rows

    @cached_property
    def hits(self) -> list[dict[str, np.ndarray]]:
        """For each image the `scores`, `classes` and `right` of the found objects that count.

        An object is right by the rule of VOC at an IoU of 0.5.
        """
        return [_hits(truth, found) for truth, found in zip(self.truths, self.found, strict=True)]

    def voc(self, eleven_points: bool = False, weights: np.ndarray | None = None) -> np.ndarray:
        """Returns the average precision of each class by the rules of VOC; NaN without objects.

        Args:
            eleven_points: Whether the precision is averaged at recalls of 0, 0.1, ... 1, as until
                2009, or over all recalls.
            weights: How often each image counts. None: once.
        """
        if weights is None:
            weights = np.ones(len(self.truths))
        repeated = np.repeat(weights, [len(one["scores"]) for one in self.hits])
        joined = {
            name: np.concatenate([one[name] for one in self.hits] or [np.zeros(0)])
            for name in ("scores", "classes", "right")
        }
        objects = np.array(
            [
                np.bincount(truth["classes"][_counts(truth)], minlength=len(self.classes))
                for truth in self.truths
            ]
        ).reshape(len(self.truths), len(self.classes))
        totals = weights @ objects
        order = np.argsort(-joined["scores"], kind="stable")
        found = []
        for i, total in enumerate(totals):
            chosen = order[joined["classes"][order] == i]
            right = np.cumsum(joined["right"][chosen] * repeated[chosen])
            all_found = np.cumsum(repeated[chosen])
            found.append(_area(right, all_found, total, eleven_points) if total else np.nan)
        return np.array(found)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean of VOC's precision, by the bootstrap over images."""
        count = len(self.truths)
        random = np.random.default_rng(0)
        means = [
            np.nanmean(self.voc(weights=random.multinomial(count, np.full(count, 1 / count))))
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

    def f1_of_images(self, threshold: float = 0.5) -> np.ndarray:
        """Returns for each image the F1 of the objects found with at least a score."""
        scores = []
        for hits, truth in zip(self.hits, self.truths, strict=True):
            shown = hits["scores"] >= threshold
            right, objects = np.sum(hits["right"] & shown), np.sum(_counts(truth))
            both = np.sum(shown) + objects
            scores.append(2 * right / both if both else 1.0)
        return np.array(scores)


def _hits(truth: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Compares the objects of one image by the rule of VOC."""
    overlaps = iou(found["boxes"], truth["boxes"])
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


def _counts(truth: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(truth["kind"]) == 1


def _as_xywh(box: np.ndarray) -> list[float]:
    xmin, ymin, xmax, ymax = (float(one) for one in box)
    return [xmin, ymin, xmax - xmin, ymax - ymin]


def _for_kind(results: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Keeps what pycocotools is to compare: it reads boxes where there are some."""
    left_out = "bbox" if kind == "segm" else "segmentation"
    return [{name: value for name, value in one.items() if name != left_out} for one in results]


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
