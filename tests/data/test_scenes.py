"""The sample of scenes: deterministic, exact, and no digit in two splits."""

from itertools import islice

import numpy as np

from data import scenes
from data.sources import SPLITS


def test_boxes_are_the_bounds_of_the_visible_masks():
    counts, overlaps = set(), 0
    for scene in islice(scenes.scenes("validation"), 40):
        assert scene.pixels.shape == (128, 128, 3) and scene.pixels.dtype == np.uint8
        assert len(scene.boxes) == len(scene.digits) == len(scene.masks)
        assert np.all(scene.masks.sum(axis=0) <= 1)  # A pixel shows one digit.
        for box, mask in zip(scene.boxes, scene.masks, strict=True):
            rows, columns = np.nonzero(mask)
            ends = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == ends
        counts.add(len(scene.digits))
        boxes = scene.boxes
        corner = np.minimum(boxes[:, None, 2:], boxes[:, 2:]) - np.maximum(
            boxes[:, None, :2], boxes[:, :2]
        )
        overlaps += np.sum(np.all(np.triu(corner.transpose(2, 0, 1), 1) > 0, axis=0))
    assert counts == {2, 3, 4, 5, 6, 7, 8} and overlaps > 5


def test_digits_are_lighter_than_what_is_around_them():
    scene = next(scenes.scenes("test"))
    covered = scene.masks.any(axis=0)
    assert scene.pixels[covered].mean() > scene.pixels[~covered].mean() + 50


def test_no_digit_is_in_two_splits():
    used = {}
    for split in SPLITS:
        made = list(islice(scenes.scenes(split), 100))
        assert len(made) == 100
        used[split] = {int(source) for scene in made for source in scene.sources}
        assert {int(digit) for scene in made for digit in scene.digits} == set(range(10))
    assert not used["train"] & used["test"] and not used["validation"] & used["test"]
    assert not used["train"] & used["validation"]


def test_scenes_are_the_same_each_time():
    one, other = (next(islice(scenes.scenes("train"), 3, None)) for _ in range(2))
    for part, again in zip(one, other, strict=True):
        np.testing.assert_array_equal(part, again)
    assert int(one.pixels.sum(dtype=int)) == 2_749_329
