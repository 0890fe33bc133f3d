"""Anchors that fit boxes: the best IoU, k-means, and when the paper's are kept."""

import numpy as np

from data import anchor_sizes


def boxes_of(sides, image_size=(256, 256), seed=0):
    random = np.random.default_rng(seed)
    sides = np.asarray(sides, float)
    low = random.random((len(sides), 2)) * (np.array(image_size[::-1]) - sides)
    return np.concatenate([low, low + sides], axis=1)


def anchors_of(sizes, ratios, strides, image_size):
    """Lists all anchors one by one."""
    found = []
    for level, stride in zip(sizes, strides, strict=True):
        for y in np.arange(0, image_size[0], stride):
            for x in np.arange(0, image_size[1], stride):
                for size in level:
                    for ratio in ratios:
                        half = np.array([size / np.sqrt(ratio), size * np.sqrt(ratio)]) / 2
                        found.append([x - half[0], y - half[1], x + half[0], y + half[1]])
    return np.array(found)


def ious_of(boxes, anchors):
    common = np.minimum(boxes[:, None, 2:], anchors[:, 2:]) - np.maximum(
        boxes[:, None, :2], anchors[:, :2]
    )
    overlap = np.maximum(common, 0).prod(axis=2)
    areas = [(some[:, 2:] - some[:, :2]).prod(axis=1) for some in (boxes, anchors)]
    return overlap / (areas[0][:, None] + areas[1] - overlap)


def test_the_best_iou_is_that_with_all_anchors():
    sizes, ratios, strides, image_size = ((9, 14), (40,)), (0.5, 1, 2), (8, 16), (60, 100)
    boxes = boxes_of(np.random.default_rng(1).uniform(3, 55, (200, 2)), image_size)
    ious = ious_of(boxes, anchors_of(sizes, ratios, strides, image_size))
    found = anchor_sizes.best_ious(boxes, sizes, ratios, strides, image_size)
    np.testing.assert_allclose(found, ious.max(axis=1), rtol=1e-9)


def test_the_positives_of_a_level_are_those_among_all_anchors():
    sizes, ratios, strides, image_size = ((9, 14), (40,)), (0.5, 1, 2), (8, 16), (60, 100)
    boxes = boxes_of(np.random.default_rng(1).uniform(3, 55, (150, 2)), image_size)
    ious = ious_of(boxes, anchors_of(sizes, ratios, strides, image_size))
    best = ious.max(axis=1, keepdims=True)
    is_positive = np.where(best >= 0.7, ious >= 0.7, ious >= best - 1e-9)
    first = 8 * 13 * 2 * 3  # Anchors of the first level.
    expected = [is_positive[:, :first].sum(), is_positive[:, first:].sum()]
    found = anchor_sizes.positives_of_levels(boxes, sizes, ratios, strides, image_size)
    np.testing.assert_allclose(150 * found, expected)
    assert min(expected) > 50


def test_clusters_of_sizes_and_ratios_are_found():
    random = np.random.default_rng(0)
    sizes, ratios = [12, 40, 150], [0.5, 1.0, 3.0]
    shapes = [[size / ratio**0.5, size * ratio**0.5] for size in sizes for ratio in ratios]
    sides = np.repeat(shapes, 40, axis=0) * random.uniform(0.95, 1.05, (360, 2))
    found = anchor_sizes.fitted_anchors(boxes_of(sides, (512, 512)), [1, 1, 1], 3)
    np.testing.assert_allclose([level[0] for level in found[0]], sizes, rtol=0.03)
    np.testing.assert_allclose(found[1], ratios, rtol=0.03)


def test_the_papers_anchors_are_kept_if_they_fit():
    paper = ((32,), (64,), (128,)), (0.5, 1, 2), (4, 8, 16), (256, 256)
    good = boxes_of(np.full((50, 2), 60))
    sizes, ratios, remarks = anchor_sizes.chosen_anchors(good, *paper)
    assert (sizes, ratios) == (paper[0], paper[1]) and len(remarks) == 1
    assert remarks[0].startswith("Anchors of the paper: sizes 32; 64; 128 pixels by level, ratios ")
    assert "100.0 % have an IoU of at least 0.5 with the best one" in remarks[0]
    small = boxes_of(np.random.default_rng(0).uniform(12, 20, (50, 2)))
    sizes, ratios, remarks = anchor_sizes.chosen_anchors(small, *paper)
    ious = anchor_sizes.best_ious(small, sizes, ratios, *paper[2:])
    before = anchor_sizes.best_ious(small, *paper)
    assert len(remarks) == 2
    # The sizes still double from level to level.
    np.testing.assert_allclose(np.divide(sizes[1:], sizes[:-1]), 2, rtol=0.05)
    assert np.mean(ious >= 0.5) > 0.95 and np.mean(before >= 0.5) < 0.5
    assert "Anchors chosen from the training boxes: sizes " in remarks[1]
    assert anchor_sizes.chosen_anchors(np.zeros((0, 4)), *paper) == (*paper[:2], [])
