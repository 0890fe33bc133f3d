import numpy as np
import pytest

from layers import boxes
from metrics.average_precision import MeanAveragePrecision
from metrics.detections import Evaluation, iou

CLASSES = ["cat", "dog", "eel"]


def images(count: int = 40, *, crowds: bool = False, seed: int = 0):
    """Makes true objects, and found ones that are near them, doubled, wrong or missing."""
    random = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(count):
        number = random.integers(0, 6)
        corners = random.uniform(0, 200, (number, 2))
        true = np.concatenate([corners, corners + random.uniform(10, 80, (number, 2))], axis=1)
        classes = random.integers(0, 3, number)
        kind = random.choice([1, 2, 3], number, p=[0.8, 0.1, 0.1]) if crowds else np.ones(number)
        near = np.repeat(true, 2, axis=0) + random.normal(0, 6, (2 * number, 4))
        wrong = random.uniform(0, 100, (3, 4)) + np.array([0, 0, 110, 110])
        boxes_found = np.concatenate([near, wrong])
        labels = np.concatenate([np.repeat(classes, 2), random.integers(0, 3, 3)])
        scores = random.permutation(np.linspace(0.06, 0.99, 400))[: len(labels)]
        order = np.argsort(-scores)
        truths.append({"boxes": true, "classes": classes, "kind": kind.astype(int)})
        found.append(
            {"boxes": boxes_found[order], "classes": labels[order], "scores": scores[order]}
        )
    return truths, found


def written_out(truths, found, number: int) -> float:
    """The average precision of a class at an IoU of 0.5, by the definition of VOC."""
    queue = [
        (score, image, box)
        for image, one in enumerate(found)
        for score, box, label in zip(one["scores"], one["boxes"], one["classes"], strict=True)
        if label == number
    ]
    right, taken = [], set()
    for _, image, box in sorted(queue, key=lambda one: -one[0]):
        truth = truths[image]
        best, best_iou = None, 0.5
        for i, other in enumerate(truth["boxes"]):
            if truth["classes"][i] != number:
                continue
            width = min(box[2], other[2]) - max(box[0], other[0])
            height = min(box[3], other[3]) - max(box[1], other[1])
            if width <= 0 or height <= 0:
                continue
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
            overlap = width * height / (sum(areas) - width * height)
            if overlap >= best_iou:
                best, best_iou = i, overlap
        right.append(best is not None and (image, best) not in taken)
        taken.add((image, best))
    total = sum(np.sum(truth["classes"] == number) for truth in truths)
    precisions = np.cumsum(right) / np.arange(1, len(right) + 1)
    recalls = np.cumsum(right) / total
    area, before = 0.0, 0.0
    for i, recall in enumerate(recalls):
        area += (recall - before) * max(precisions[i:])
        before = recall
    return area


def test_vocs_precision_is_that_of_its_definition():
    truths, found = images()
    precision = Evaluation(truths, found, CLASSES, 100).voc()
    for number in range(3):
        assert precision[number] == pytest.approx(written_out(truths, found, number), abs=1e-9)


def test_where_the_protocols_agree_cocos_precision_is_near_vocs():
    # No object is found twice, so that both protocols match in the same way; their sums differ.
    truths, found = images(200)
    for one in found:
        kept = np.unique(np.round(one["boxes"] / 25), axis=0, return_index=True)[1]
        kept.sort()
        for name in one:
            one[name] = one[name][kept]
    evaluation = Evaluation(truths, found, CLASSES, 100)
    assert evaluation.scores["map50"] == pytest.approx(evaluation.scores["voc_map50"], abs=0.01)


def test_perfect_boxes_have_all_precision_and_no_boxes_none():
    truths, _ = images()
    perfect = [{**truth, "scores": np.ones(len(truth["boxes"]))} for truth in truths]
    scores = Evaluation(truths, perfect, CLASSES, 100).scores
    assert scores["map"] == scores["map50"] == scores["voc_map50"] == scores["recall"] == 1
    empty = np.zeros(0)
    nothing = [
        {"boxes": np.zeros((0, 4)), "classes": empty.astype(int), "scores": empty} for _ in truths
    ]
    scores = Evaluation(truths, nothing, CLASSES, 100).scores
    assert scores["map"] == scores["map50"] == scores["voc_map50"] == scores["recall"] == 0


def test_difficult_objects_and_crowds_count_neither_way():
    truths, found = images(crowds=True)
    evaluation = Evaluation(truths, found, CLASSES, 100)
    only = [
        {name: truth[name][truth["kind"] == 1] for name in ("boxes", "classes", "kind")}
        for truth in truths
    ]
    without = Evaluation(only, found, CLASSES, 100)
    assert (evaluation.voc() > without.voc()).all()
    assert evaluation.scores["map50"] > without.scores["map50"] + 0.02
    # All objects that count are found, so nothing is missed.
    perfect = [{**one, "scores": np.ones(len(one["boxes"]))} for one in only]
    assert Evaluation(truths, perfect, CLASSES, 100).scores["map50"] == pytest.approx(1)
    assert evaluation.by_class()[1][0][-1] == sum(np.sum(one["classes"] == 0) for one in only)


def test_an_iou_by_hand():
    first = np.array([[0, 0, 10, 10], [0, 0, 10, 20], [50, 50, 60, 60]])
    second = np.array([[5, 5, 15, 15], [0, 0, 10, 10]])
    assert iou(first, second) == pytest.approx(np.array([[25 / 175, 1], [50 / 250, 0.5], [0, 0]]))


@pytest.mark.parametrize("crowds", [False, True])
def test_the_metric_of_training_counts_the_same(crowds):
    truths, found = images(crowds=crowds)
    metric = MeanAveragePrecision(3, boxes.iou)
    most = max(len(one["scores"]) for one in found)
    for begin in range(0, len(truths), 8):
        true_rows = np.zeros((8, 6, 6), "float32")
        found_rows = np.zeros((8, most, 6), "float32")
        for i, (truth, one) in enumerate(zip(truths[begin:][:8], found[begin:][:8], strict=True)):
            true_rows[i, : len(truth["kind"])] = np.column_stack(
                [truth["boxes"], truth["classes"], truth["kind"]]
            )
            found_rows[i, : len(one["scores"])] = np.column_stack(
                [one["boxes"], one["classes"], one["scores"]]
            )
        metric.update_state(true_rows, found_rows)
    expected = Evaluation(truths, found, CLASSES, 100).voc().mean()
    assert float(metric.result()) == pytest.approx(expected, abs=2e-3)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_masks_count_by_their_pixels():
    from data.object_masks import encoded

    left, whole = np.zeros((8, 10), bool), np.ones((8, 10), bool)
    left[:, :4] = True
    box = np.array([[0.0, 0, 10, 8]])
    one = {"boxes": box, "classes": np.array([0])}
    truths = [{**one, "kind": np.array([1]), "masks": [encoded(left)]}]
    found = [{**one, "scores": np.array([0.9]), "masks": [encoded(whole)]}]
    scores = Evaluation(truths, found, ["cat"], 100).scores
    # The boxes agree, the masks share 0.4 of their union.
    assert scores["map50"] == pytest.approx(1) and scores["mask_map50"] == 0
    found[0]["masks"] = [encoded(left)]
    right = Evaluation(truths, found, ["cat"], 100).scores
    assert right["mask_map"] == pytest.approx(1)
    assert [*right][:3] == ["mask_map50", "mask_map50_low", "mask_map50_high"]


def test_filled_masks_are_as_good_as_their_boxes():
    from data.object_masks import encoded

    truths, found = images(20, crowds=True)
    for one in (*truths, *found):
        one["boxes"] = np.clip(np.round(one["boxes"]), 0, 320)
        masks = np.zeros((len(one["boxes"]), 320, 320), bool)
        for mask, (xmin, ymin, xmax, ymax) in zip(masks, one["boxes"].astype(int), strict=True):
            mask[ymin:ymax, xmin:xmax] = True
        one["masks"] = [encoded(mask) for mask in masks]
    evaluation = Evaluation(truths, found, CLASSES, 100)
    np.testing.assert_allclose(evaluation.voc(kind="segm"), evaluation.voc())
    scores = evaluation.scores
    for name in ("map50", "map50_low", "map50_high", "map75", "recall_small"):
        assert scores[f"mask_{name}"] == pytest.approx(scores[name])
    assert scores["mask_map50"] == evaluation.map50


def test_the_threshold_of_a_class_has_the_best_f1():
    truths, found = images(20, crowds=True)
    evaluation = Evaluation(truths, found, CLASSES, 100)
    thresholds = evaluation.best_thresholds()

    def f1(number: int, threshold: float) -> float:
        right = shown = objects = 0
        for truth, hits in zip(truths, evaluation.hits["bbox"], strict=True):
            chosen = (hits["scores"] >= threshold) & (hits["classes"] == number)
            right, shown = right + np.sum(hits["right"][chosen]), shown + np.sum(chosen)
            objects += np.sum((truth["classes"] == number) & (truth["kind"] == 1))
        return 2 * right / (shown + objects)

    for number, threshold in enumerate(thresholds):
        best = max(f1(number, other) for other in np.arange(5, 1000, 5) / 1000)
        assert f1(number, threshold) >= best > 0.4
    heading, rows = Evaluation(truths, found, CLASSES, 100, thresholds).at_thresholds()
    assert [row[heading.index("threshold")] for row in rows] == [f"{t:.3f}" for t in thresholds]
    expected = [f"{f1(number, threshold):.3f}" for number, threshold in enumerate(thresholds)]
    assert [row[-1] for row in rows] == expected
    empty = Evaluation(truths[:1], [{name: found[0][name][:0] for name in found[0]}], CLASSES, 100)
    assert empty.best_thresholds() == [0.5, 0.5, 0.5]


def test_objects_are_paired_with_what_was_found_there():
    place = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]], float)
    # A cat, a dog that is missed, a difficult eel and an eel.
    truth = {"boxes": place, "classes": np.array([0, 1, 2, 2]), "kind": np.array([1, 1, 2, 1])}
    found = {
        # Right; again; on the difficult one; a wrong class; nothing there; below the threshold.
        "boxes": np.concatenate([place[[0, 0, 2, 3]], [[80, 0, 90, 10]], place[[1]]]),
        "classes": np.array([0, 1, 2, 0, 2, 1]),
        "scores": np.array([0.9, 0.8, 0.7, 0.6, 0.55, 0.4]),
    }
    labels, predictions = Evaluation([truth], [found], CLASSES, 100).confusion()
    background = 3
    expected = [(0, 0), (background, 1), (2, 0), (background, 2), (1, background)]
    assert list(zip(labels.tolist(), predictions.tolist(), strict=True)) == expected
    seen = Evaluation([truth], [found], CLASSES, 100, [0.5, 0.4, 0.5]).confusion()
    assert (1, 1) in set(zip(*(one.tolist() for one in seen), strict=True))


def test_the_recall_of_proposals_is_cocos():
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    random = np.random.default_rng(0)
    truths, found, annotations, results = [], [], [], []
    for image in range(1, 6):
        # Objects that are apart, so that no protocol can pair them in another way.
        corners = 200.0 * np.argwhere(np.ones((3, 3)))
        true = np.concatenate([corners, corners + random.uniform(20, 90, (9, 2))], axis=1)
        proposals = true[random.integers(0, 9, 400)] + random.normal(0, 10, (400, 4))
        truths.append({"boxes": true, "classes": np.zeros(9, int), "kind": np.ones(9, int)})
        nothing = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int), "scores": np.zeros(0)}
        found.append({**nothing, "proposals": proposals})
        for box in true:
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": 1, "iscrowd": 0}
            sides = (box[2:] - box[:2]).tolist()
            annotations.append({**row, "bbox": [*box[:2], *sides], "area": np.prod(sides)})
        for rank, box in enumerate(proposals):
            row = {"image_id": image, "category_id": 1, "score": 1 - rank / 1000}
            results.append({**row, "bbox": [*box[:2], *(box[2:] - box[:2])]})
    truth = COCO()
    ids = [{"id": image} for image in range(1, 6)]
    truth.dataset = {"images": ids, "annotations": annotations, "categories": [{"id": 1}]}
    truth.dataset["info"] = {}
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.params.maxDets = [100, 300, 1000]
    evaluation.evaluate()
    evaluation.accumulate()
    recalls = Evaluation(truths, found, ["cat"], 100).proposal_recalls
    for number, (at, high, average) in zip((100, 300, 1000), recalls.values(), strict=True):
        theirs = evaluation.eval["recall"][:, 0, 0, (100, 300, 1000).index(number)]
        assert (at, high, average) == pytest.approx((theirs[0], theirs[4], theirs.mean()))
    assert 0.2 < recalls[100][-1] < recalls[1000][-1] < 0.9


def test_the_table_of_sizes_has_the_scores_of_each():
    truths, found = images()
    evaluation = Evaluation(truths, found, CLASSES, 100)
    heading, rows = evaluation.by_size()
    assert heading == ["size", "box AP", "box recall", "objects"]
    for size, row in zip(("small", "medium", "large"), rows, strict=True):
        # No object is large.
        names = (f"map_{size}", f"recall_{size}")
        shown = [f"{evaluation.scores[one]:.3f}" if size != "large" else "" for one in names]
        assert row[1:3] == shown
    areas = np.concatenate([np.prod(t["boxes"][:, 2:] - t["boxes"][:, :2], axis=1) for t in truths])
    small = np.sum(areas < 32**2)
    assert [row[3] for row in rows] == [small, len(areas) - small, 0]
