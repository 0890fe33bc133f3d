import numpy as np
import pytest

from metrics.detection_errors import by_error
from metrics.detections import Evaluation
from tests.metrics.test_detections import CLASSES, images

TIDECV = {
    "class": (31, 0.100926),
    "location": (45, 0.147370),
    "both": (23, 0.023815),
    "duplicate": (20, 0.007290),
    "background": (82, 0.063766),
    "missed": (28, 0.044463),
}
"""Numbers and gains by tidecv 1.0.1 for the objects of the test, with 100 found ones an image."""


def table(truths, found) -> dict[str, tuple[int, float]]:
    heading, rows = by_error(Evaluation(truths, found, CLASSES, 100))
    assert len(heading) == 4
    return {kind: (number, float(gain)) for kind, _, number, gain in rows}


def test_errors_and_gains_are_those_of_tidecv():
    truths, found = images(60)
    random = np.random.default_rng(0)
    for one in found:
        wrong = random.random(len(one["classes"])) < 0.2
        one["classes"] = np.where(wrong, (one["classes"] + 1) % 3, one["classes"])
        kept = random.random(len(wrong)) < 0.6
        one["scores"] = np.sort(random.random(len(wrong)))[::-1]
        for name in one:
            one[name] = one[name][kept]
    errors = table(truths, found)
    assert {kind: number for kind, (number, _) in errors.items()} == {
        kind: number for kind, (number, _) in TIDECV.items()
    }
    for kind, (_, gain) in TIDECV.items():
        assert errors[kind][1] == pytest.approx(gain, abs=0.0006)


def test_each_type_of_error_by_hand():
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]], float)
    truth = {"boxes": boxes, "classes": np.array([0, 0, 1, 1]), "kind": np.array([1, 1, 1, 1])}
    moved = boxes + np.array([7, 0, 7, 0])  # An IoU of 3 / 17.
    rows = [
        (boxes[0], 0, 0.9),  # right
        (boxes[0], 0, 0.8),  # again
        (boxes[2], 0, 0.7),  # another class
        (moved[1], 0, 0.6),  # badly placed
        (moved[0], 1, 0.5),  # both
        (boxes[0] + 100, 1, 0.4),  # on the background
    ]
    one = {
        "boxes": np.array([box for box, _, _ in rows]),
        "classes": np.array([label for _, label, _ in rows]),
        "scores": np.array([score for _, _, score in rows]),
    }
    errors = table([truth], [one])
    assert {kind: number for kind, (number, _) in errors.items()} == dict.fromkeys(errors, 1)
    # COCO reads the precision at 101 recalls: 51 are up to a half.
    assert errors["class"][1] == pytest.approx(51 / 101 / 2, abs=0.0006)
    # The second object of the first class is the fourth one found.
    assert errors["location"][1] == pytest.approx(50 / 101 / 2 * 2 / 4, abs=0.0006)


def test_without_objects_or_found_ones_nothing_can_be_gained():
    truths, found = images(3)
    nothing = [{name: one[name][:0] for name in one} for one in found]
    bare = [{name: one[name][:0] for name in one} for one in truths]
    assert {gain for _, gain in table(truths, nothing).values()} == {0.0}
    assert table(truths, nothing)["missed"][0] == sum(len(one["classes"]) for one in truths)
    errors = table(bare, found)
    assert errors["background"] == (sum(len(one["classes"]) for one in found), 0.0)
