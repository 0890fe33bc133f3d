import keras
import numpy as np
import pytest
from keras import ops

from layers.boxes import clip, covered, decode, encode, iou, match, paste_masks, sample
from tests.layers import torchvision_values
from tests.layers.check import assert_close

RPN = {"positive": 0.7, "negative": (0.0, 0.3), "best": True}


def boxes_of(*shape: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 60, size=(*shape, 2))
    sides = random.uniform(1, 40, size=(*shape, 2))
    return np.concatenate([corners, corners + sides], axis=-1).astype("float32")


def as_numpy(tensors) -> list[np.ndarray]:
    return [ops.convert_to_numpy(tensor) for tensor in tensors]


def iou_of_two(box, other) -> float:
    """The definition for one pair, in Python's floats."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    area, other_area = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return shared / (area + other_area - shared)


def test_iou_computed_on_paper():
    # 2 x 2 and 2 x 2 share 1 of 7; 4 x 4 contains the first.
    boxes = np.array([[[0, 0, 2, 2]]])
    others = np.array([[[1, 1, 3, 3], [0, 0, 4, 4], [2, 0, 4, 2], [0, 0, 2, 2]]])
    assert_close(iou(boxes, others), [[[1 / 7, 0.25, 0, 1]]], rtol=1e-6)


def test_iou_equals_its_definition_and_broadcasts():
    boxes, others = boxes_of(5), boxes_of(2, 4, seed=1)
    found = ops.convert_to_numpy(iou(boxes, others))
    assert found.shape == (2, 5, 4)
    wanted = [[[iou_of_two(b, o) for o in some.tolist()] for b in boxes] for some in others]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_boxes_without_area_overlap_nothing():
    boxes = np.array([[1.0, 1, 1, 1], [3, 3, 2, 2], [0, 0, 4, 4]])
    assert_close(iou(boxes, boxes), np.diag([0.0, 0, 1]))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_decoding_inverts_encoding(weights):
    boxes, anchors = boxes_of(2, 50), boxes_of(50, seed=1)
    assert_close(decode(encode(boxes, anchors, weights), anchors, weights), boxes, 0, 1e-4)


def test_encoding_computed_on_paper():
    # Centre (4, 6) of the anchor, 4 x 8; centre (5, 4) of the box, 8 x 4.
    anchor, box = np.array([2.0, 2, 6, 10]), np.array([1.0, 2, 9, 6])
    deltas = [10 / 4, 10 * -2 / 8, 5 * np.log(2), 5 * np.log(1 / 2)]
    assert_close(encode(box, anchor, (10, 10, 5, 5)), deltas, rtol=1e-6)


def test_boxes_grow_at_most_1000_sixteenths():
    decoded = decode(np.array([0, 0, 100, 100.0]), np.array([0, 0, 16, 16.0]))
    assert_close(decoded, [-492, -492, 508, 508], rtol=1e-5)


def test_encoding_without_area_is_finite():
    empty = np.zeros(4)
    for box, anchor in ((empty, empty), (empty, [0, 0, 9, 9]), ([0, 0, 9, 9], empty)):
        assert np.isfinite(ops.convert_to_numpy(encode(np.array(box), np.array(anchor)))).all()


def test_float16_is_only_the_type_of_the_deltas():
    anchors = np.array([[4000.0, 3000, 4003, 3001]])
    decoded = decode(ops.zeros((1, 4), "float16"), anchors)
    assert keras.backend.standardize_dtype(decoded.dtype) == "float32"
    assert_close(decoded, anchors)


def test_boxes_are_clipped_to_one_size_or_to_that_of_each_image():
    boxes = np.array([[-5.0, 2, 90, 80], [50, 60, 70, 70]])
    assert_close(clip(boxes, 40, 60), [[0, 2, 60, 40], [50, 40, 60, 40]])
    batch = np.stack([boxes, boxes])
    wanted = [[[0, 2, 60, 40], [50, 40, 60, 40]], [[0, 2, 30, 70], [30, 60, 30, 70]]]
    heights, widths = np.array([40, 70]), np.array([60, 30])
    assert_close(clip(batch, heights, widths), wanted)
    classes = clip(batch[:, :, None], heights, widths)
    assert_close(classes, np.array(wanted)[:, :, None])


def test_candidates_in_crowds_are_found():
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 20, 10], [0, 0, 20, 11], [5, 5, 5, 5]])
    crowds = np.array([[[0.0, 0, 10, 100], [0, 0, 99, 99]]] * 2)
    # Shares of the first region: 1, 1/2, 1/2, none. The second one is only in the second image.
    found = covered(boxes, crowds, np.array([[1, 0], [0, 1]]))
    assert_close(found, [[1, 1, 1, 0], [1, 1, 1, 0]])
    assert_close(covered(boxes + 1, crowds, np.array([[1, 0], [0, 0]])), [[1, 0, 0, 0], [0] * 4])


def test_matching_computed_on_paper():
    # Rows are candidates, columns are objects; the last object is padding.
    overlaps = np.array(
        [
            [0.8, 0.1, 0.9],  # Positive for the first object.
            [0.2, 0.1, 0.9],  # Negative: the padding does not count.
            [0.5, 0.4, 0.0],  # Best of the second object, but its own is the first.
            [0.3, 0.4, 0.0],  # Just as good for the second.
            [0.3, 0.1, 0.0],  # Between the thresholds.
        ]
    )
    valid = np.array([[True, True, False]])
    labels, objects = as_numpy(match(overlaps[None], valid, **RPN))
    assert labels.tolist() == [[1, 0, 1, 1, -1]]
    assert objects.tolist() == [[0, 0, 0, 1, 0]]
    labels, _ = as_numpy(match(overlaps[None], valid))
    assert labels.tolist() == [[1, 0, 1, 0, 0]]
    labels, _ = as_numpy(match(overlaps[None], valid, negative=(0.35, 0.5)))
    assert labels.tolist() == [[1, -1, 1, 0, -1]]


def test_excluded_candidates_are_nothing_and_leave_the_best_to_others():
    overlaps = np.array([[[0.9], [0.4], [0.2], [0.0]]])
    excluded = np.array([[True, False, False, True]])
    labels, _ = as_numpy(match(overlaps, np.array([[1]]), **RPN, excluded=excluded))
    assert labels.tolist() == [[-1, 1, 0, -1]]


def test_without_objects_all_candidates_are_background():
    labels, objects = as_numpy(match(np.full((1, 4, 2), 0.9), np.zeros((1, 2)), **RPN))
    assert not labels.any() and not objects.any()


def test_objects_that_no_candidate_overlaps_make_nothing_positive():
    labels, _ = as_numpy(match(np.zeros((1, 4, 2)), np.ones((1, 2)), **RPN))
    assert not labels.any()


def test_matching_equals_loops():
    anchors, objects = boxes_of(200), boxes_of(3, 6, seed=1)
    valid = np.arange(6) < np.array([[6], [3], [0]])
    excluded = np.random.default_rng(2).random((3, 200)) < 0.1
    overlaps = iou(anchors, objects)
    labels, matched = as_numpy(match(overlaps, valid, **RPN, excluded=excluded))
    table = ops.convert_to_numpy(overlaps)
    for image in range(3):
        real, usable = np.flatnonzero(valid[image]), np.flatnonzero(~excluded[image])
        best = {o: max(table[image, a, o] for a in usable) for o in real}
        for anchor in range(200):
            row = {o: table[image, anchor, o] for o in real}
            highest = max(row.values(), default=0)
            wanted = 0 if highest < 0.3 else -1
            if highest >= 0.7 or any(0 < row[o] == best[o] for o in real):
                wanted = 1
            assert labels[image, anchor] == (wanted if anchor in usable else -1)
            if anchor in usable and highest > 0:
                assert row[matched[image, anchor]] == highest
    assert (labels == 1).sum() > 9 and (labels == -1).any() and not (labels[2] == 1).any()


def test_sampling_computed_on_paper():
    labels = np.array([[1, 0, -1, 1, 0, 1, 0, 0]] * 2 + [[0, 1, -1, -1, -1, -1, -1, -1]])
    uniform = np.array([[0.1, 0.2, 0.9, 0.3, 0.4, 0.2, 0.0, 0.1]] * 2 + [[0.0] * 8])
    uniform[1] = uniform[0, ::-1]
    indices, is_drawn = as_numpy(sample(labels, uniform, 4, 0.5))
    assert indices.tolist() == [[3, 5, 4, 1], [5, 3, 4, 6], [1, 0, 0, 0]]
    assert is_drawn.tolist() == [[True] * 4, [True] * 4, [True, True, False, False]]


def test_negatives_fill_the_sample_where_positives_are_few():
    labels = np.zeros((1, 100), "int32")
    labels[0, 7] = 1
    uniform = np.random.default_rng(0).random((1, 100))
    indices, is_drawn = as_numpy(sample(labels, uniform, 64, 0.5))
    assert indices[0, 0] == 7 and is_drawn.all() and len(set(indices[0].tolist())) == 64


def test_a_sample_may_be_larger_than_the_number_of_candidates():
    indices, is_drawn = as_numpy(sample(np.array([[0, 1, -1]]), np.zeros((1, 3)), 8, 0.5))
    assert indices.tolist() == [[1] + [0] * 7]
    assert is_drawn.tolist() == [[True] * 2 + [False] * 6]


def test_every_candidate_is_drawn_equally_often():
    labels = np.tile([1, 0], (4000, 10))
    uniform = np.random.default_rng(0).random(labels.shape)
    indices, _ = as_numpy(sample(labels, uniform, 8, 0.25))
    counts = np.bincount(indices.ravel(), minlength=20)
    # 2 of 10 positives and 6 of 10 negatives: 800 and 2400 of 4000, with deviations 25 and 31.
    assert np.abs(counts[::2] - 800).max() < 100 and np.abs(counts[1::2] - 2400).max() < 124


def test_pasted_masks_equal_those_of_detectron2():
    probabilities, boxes = torchvision_values.masks()
    pasted = ops.convert_to_numpy(paste_masks(probabilities, boxes, 60, 80))
    wanted = torchvision_values.stored("pasted")
    assert pasted.shape == wanted.shape and pasted.dtype == bool
    shared = (pasted & wanted).sum(axis=(1, 2)) / (pasted | wanted).sum(axis=(1, 2))
    assert shared.min() > 0.999


def test_pasting_computed_on_paper():
    # The left half of a box of 4 x 4 pixels; half a pixel further the edge is at 0.5.
    mask, box = np.array([[[1.0, 0.0], [1.0, 0.0]]]), np.array([[1.0, 1, 5, 5]])
    pasted = ops.convert_to_numpy(paste_masks(mask, box, 6, 7))[0]
    wanted = np.zeros((6, 7), bool)
    wanted[1:5, 1:3] = True
    # In the corners two bilinear weights of 0.75 multiply to more than 0.5.
    np.testing.assert_array_equal(pasted, wanted)
    assert not ops.convert_to_numpy(paste_masks(mask, np.zeros((1, 4)), 6, 7)).any()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA from TensorFlow")
def test_training_targets_compile_to_the_same():
    import tensorflow as tf

    anchors, objects = boxes_of(300), boxes_of(2, 5, seed=1)
    uniform = np.random.default_rng(0).random((2, 300)).astype("float32")

    def targets(objects, uniform):
        labels, matched = match(iou(anchors, objects), np.ones((2, 5)), **RPN)
        indices, is_drawn = sample(labels, uniform, 32, 0.5)
        chosen = ops.take_along_axis(objects, matched[..., None], axis=1)
        return labels, indices, is_drawn, clip(encode(chosen, anchors), 9.0, 9.0)

    eager = targets(ops.convert_to_tensor(objects), uniform)
    compiled = tf.function(targets, jit_compile=True)(objects, uniform)
    for one, other in zip(eager, compiled, strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-5)
