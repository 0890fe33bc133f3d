import numpy as np
import pytest

from data.selective_search import MODES, grouped, histograms, selective_search

BOXES = np.array([[12, 10, 52, 44], [60, 30, 92, 84]])


def two_rectangles() -> np.ndarray:
    """A red and a blue rectangle on a textured ground of 96 x 104 pixels."""
    random = np.random.default_rng(0)
    image = random.integers(90, 130, (96, 104, 3))
    for (left, top, right, bottom), color in zip(
        BOXES, ([220, 40, 40], [40, 60, 220]), strict=True
    ):
        image[top:bottom, left:right] = color + random.integers(
            -8, 8, (bottom - top, right - left, 3)
        )
    return image.astype(np.uint8)


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    starts = np.maximum(boxes[:, None, :2], others[None, :, :2])
    ends = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.maximum(ends - starts, 0).prod(axis=-1)
    areas, other_areas = ((some[:, 2:] - some[:, :2]).prod(axis=1) for some in (boxes, others))
    return common / (areas[:, None] + other_areas - common)


@pytest.mark.parametrize("mode", ["single", "fast"])
def test_objects_are_found(mode):
    assert np.all(overlaps(BOXES, selective_search(two_rectangles(), mode)).max(axis=1) > 0.8)


def test_every_box_is_there_once_is_large_enough_and_is_in_the_image():
    boxes = selective_search(two_rectangles())
    assert boxes.dtype == np.float32
    assert len(np.unique(boxes, axis=0)) == len(boxes) > 5
    assert np.all(boxes[:, 2:] - boxes[:, :2] >= 20)
    assert np.all(boxes >= 0) and np.all(boxes <= [104, 96, 104, 96])
    smaller = selective_search(two_rectangles(), smallest=4)
    assert {*map(tuple, boxes.tolist())} < {*map(tuple, smaller.tolist())}


def test_the_seed_decides_the_order_alone():
    image = two_rectangles()
    first, again, other = (selective_search(image, "single", seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.tolist() != other.tolist()
    assert sorted(first.tolist()) == sorted(other.tolist())


def test_larger_regions_tend_to_come_first():
    boxes = selective_search(two_rectangles(), smallest=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    half = len(areas) // 2
    assert areas[:half].mean() > 1.5 * areas[half:].mean()


def test_the_most_similar_neighbors_are_joined_first():
    labels = np.array([[0, 0, 1, 2, 2]])
    colors = np.float32([[1, 0], [0.25, 0.75], [0, 1]])
    # By color 0 and 1 have 0.25 in common, 1 and 2 have 0.75.
    boxes = grouped(labels, colors, colors, ["color"])
    assert boxes.tolist() == [[0, 0, 2, 1], [2, 0, 3, 1], [3, 0, 5, 1], [2, 0, 5, 1], [0, 0, 5, 1]]
    # By size all pairs have 1 - 3 / 5: the lowest numbers come first.
    assert grouped(labels, colors, colors, ["size"]).tolist()[3] == [0, 0, 3, 1]


def test_histograms_of_joined_regions_are_weighted_by_size():
    labels = np.array([[0, 1, 1, 1, 2, 3]])
    colors = np.float32([[0.45, 0.15, 0.4], [1, 0, 0], [0.6, 0.4, 0], [0.58, 0, 0.42]])
    # 1 and 2 have most in common, 0.6. They become (3 [1, 0, 0] + [0.6, 0.4, 0]) / 4, which is
    # [0.9, 0.1, 0] and has 0.58 in common with 3, 0.55 with 0; without weights 0.58 and 0.6.
    joined = grouped(labels, colors, colors, ["color"])
    assert joined.tolist()[4:] == [[1, 0, 5, 1], [1, 0, 6, 1], [0, 0, 6, 1]]


def test_fill_prefers_regions_that_fill_each_others_gaps():
    # 1 is in the corner of 0; 2 is as large as 1, but further out.
    labels = np.array([[0, 0, 0, 2], [0, 1, 1, 2]])
    even = np.ones((3, 1), np.float32)
    assert grouped(labels, even, even, ["fill"]).tolist()[3] == [0, 0, 3, 2]


def test_histograms_of_regions_count_their_pixels():
    labels = np.array([[0, 0, 1]])
    counts = histograms(labels, [np.array([[0, 1, 1]]), np.array([[1, 1, 0]])], 2)
    np.testing.assert_allclose(counts, [[0.25, 0.25, 0, 0.5], [0, 0.5, 0.5, 0]])


def test_modes_have_as_many_groupings_as_in_the_paper():
    assert {mode: len(groupings) for mode, groupings in MODES.items()} == {
        "single": 1,
        "fast": 8,
        "quality": 80,
    }


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 3), (30, 2, 3)])
def test_an_image_without_segments_is_one_region(shape):
    boxes = selective_search(np.full(shape, 7, np.uint8), "quality", smallest=1)
    assert boxes.tolist() == [[0, 0, shape[1], shape[0]]]
    assert selective_search(np.full(shape, 7, np.uint8)).shape == (0, 4)


def test_what_is_no_image_or_mode_is_refused():
    with pytest.raises(ValueError, match="`mode` must be one of single, fast, quality"):
        selective_search(two_rectangles(), "slow")
    with pytest.raises(ValueError, match=r"Received: float64 with the shape \(3, 3\)"):
        selective_search(np.zeros((3, 3)))
