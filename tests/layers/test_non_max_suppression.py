import numpy as np
import pytest
from keras import ops

from layers import NonMaxSuppression
from tests.layers import torchvision_values
from tests.layers.check import BACKEND, assert_close, check_layer, gradients

FORMS = [True, False] if BACKEND == "tensorflow" else [True]
"""`compilable`, where it makes a difference."""
DTYPES = {
    "boxes": "float32",
    "scores": "float32",
    "classes": "int32",
    "indices": "int32",
    "count": "int32",
}


def kept(boxes, scores, iou_threshold=0.5, max_boxes=4, **settings) -> dict[str, np.ndarray]:
    layer = NonMaxSuppression(iou_threshold, max_boxes, **settings)
    outputs = layer([np.asarray(boxes, "float32"), np.asarray(scores, "float32")])
    return {name: ops.convert_to_numpy(output) for name, output in outputs.items()}


def random_boxes(*shape: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 20, size=(*shape, 2))
    sides = random.uniform(10, 40, size=(*shape, 2))
    return np.concatenate([corners, corners + sides], axis=-1).astype("float32")


def test_layer_does_what_every_layer_does():
    scores = np.random.default_rng(0).random((2, 6, 3)).astype("float32")
    config = {"iou_threshold": 0.4, "max_boxes": 5, "score_threshold": 0.2}
    shapes = {"boxes": (2, 5, 4), "scores": (2, 5), "classes": (2, 5), "indices": (2, 5)}
    inputs = [random_boxes(2, 6, 3), scores]
    check_layer(
        NonMaxSuppression,
        config,
        None,
        {**shapes, "count": (2,)},
        inputs=inputs,
        output_dtype=DTYPES,
    )


@pytest.mark.parametrize("compilable", FORMS)
def test_suppression_computed_on_paper(compilable):
    # Boxes 0 and 1 have an IoU of 3/4, 1 and 3 of 2/3; box 2 is far away.
    boxes = [[[0, 0, 4, 4], [0, 0, 4, 3], [8, 8, 9, 9], [0, 0, 4, 2]]]
    found = kept(boxes, [[0.6, 0.9, 0.7, 0.8]], 0.7, compilable=compilable)
    assert found["indices"].tolist() == [[1, 3, 2, -1]]
    np.testing.assert_array_equal(
        found["boxes"], [[[0, 0, 4, 3], [0, 0, 4, 2], [8, 8, 9, 9], [0, 0, 0, 0]]]
    )
    np.testing.assert_allclose(found["scores"], [[0.9, 0.8, 0.7, 0]])
    assert found["count"].tolist() == [3] and not found["classes"].any()


@pytest.mark.parametrize("compilable", FORMS)
def test_a_box_is_suppressed_above_the_threshold_and_counts_above_the_score(compilable):
    # IoU of exactly 1/2; a score of exactly 1/4.
    boxes = [[[0, 0, 4, 4], [0, 0, 4, 2], [5, 5, 9, 9]]]
    scores = [[0.75, 0.5, 0.25]]
    settings = {"score_threshold": 0.25, "compilable": compilable}
    assert kept(boxes, scores, 0.5, **settings)["indices"].tolist() == [[0, 1, -1, -1]]
    assert kept(boxes, scores, 0.49, **settings)["indices"].tolist() == [[0, -1, -1, -1]]


@pytest.mark.parametrize("compilable", FORMS)
def test_equal_scores_go_to_the_lower_index_and_then_class(compilable):
    boxes = [[[0, 0, 1, 1], [5, 5, 6, 6], [5, 5, 6, 6], [9, 9, 10, 10]]]
    found = kept(boxes, [[0.5, 0.5, 0.5, 0.5]], compilable=compilable)
    assert found["indices"].tolist() == [[0, 1, 3, -1]]
    scores = np.full((1, 4, 2), 0.5)
    found = kept(boxes, scores, compilable=compilable)
    assert found["indices"].tolist() == [[0, 0, 1, 1]]
    assert found["classes"].tolist() == [[0, 1, 0, 1]]


@pytest.mark.parametrize("compilable", FORMS)
def test_broken_boxes_and_scores_are_never_kept_and_suppress_nothing(compilable):
    boxes = np.tile([0.0, 0, 4, 4], (7, 1))
    boxes[0, 1], boxes[1, 2], boxes[2, 3] = np.nan, np.inf, -np.inf
    boxes[3] = [2, 2, 2, 2]
    boxes[4] = [4, 4, 0, 0]
    scores = [0.9, 0.9, 0.9, 0.8, 0.7, 0.6, np.nan]
    found = kept(boxes[None], [scores], 0.0, 6, compilable=compilable)
    assert found["indices"].tolist() == [[3, 4, 5, -1, -1, -1]]


@pytest.mark.parametrize("compilable", FORMS)
def test_images_without_candidates_keep_nothing(compilable):
    found = kept(random_boxes(2, 5), np.zeros((2, 5)), compilable=compilable)
    assert not found["count"].any() and not found["boxes"].any() and not found["scores"].any()
    assert (found["indices"] == -1).all()


@pytest.mark.parametrize("compilable", FORMS)
def test_classes_suppress_each_other_only_if_not_classwise(compilable):
    boxes = random_boxes(1, 1, seed=3).repeat(3, axis=1)
    scores = np.array([[[0.3, 0.9], [0.8, 0.1], [0.2, 0.2]]])
    found = kept(boxes, scores, compilable=compilable)
    assert found["indices"].tolist() == [[0, 1, -1, -1]]
    assert found["classes"].tolist() == [[1, 0, 0, 0]]
    found = kept(boxes, scores, classwise=False, compilable=compilable)
    assert found["indices"].tolist() == [[0, -1, -1, -1]]


@pytest.mark.parametrize("compilable", FORMS)
def test_kept_sets_equal_those_of_torchvision(compilable):
    boxes, scores, classes = torchvision_values.scored_boxes()
    by_class = np.where(classes[..., None] == np.arange(3), scores[..., None], 0)
    found = kept(boxes, by_class, 0.5, 40, compilable=compilable)
    wanted = torchvision_values.stored("batched_nms")
    assert found["count"].tolist() == wanted.sum(axis=1).tolist()
    for case in range(200):
        indices = found["indices"][case, : found["count"][case]]
        assert sorted(indices) == np.flatnonzero(wanted[case]).tolist()
        assert (found["classes"][case, : len(indices)] == classes[case, indices]).all()
        np.testing.assert_array_equal(
            found["scores"][case, : len(indices)], np.sort(scores[case, indices])[::-1]
        )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="one form")
@pytest.mark.parametrize("classwise", [True, False])
@pytest.mark.parametrize("max_boxes", [7, 300])
def test_both_forms_agree_with_a_box_for_each_class(classwise, max_boxes):
    # Scores with many ties.
    scores = np.random.default_rng(0).integers(1, 9, size=(2, 50, 4)) / 8
    arguments = (random_boxes(2, 50, 4), scores, 0.3, max_boxes)
    settings = {"score_threshold": 0.25, "classwise": classwise}
    wanted = kept(*arguments, **settings)
    found = kept(*arguments, **settings, compilable=False)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
    assert wanted["count"].min() > 6


@pytest.mark.skipif(BACKEND != "tensorflow", reason="XLA from TensorFlow")
def test_2000_boxes_compile_to_what_the_kernel_keeps():
    import tensorflow as tf

    boxes, scores = random_boxes(1, 2000), np.random.default_rng(0).random((1, 2000))
    boxes[..., [0, 2]] += np.random.default_rng(1).uniform(0, 300, size=(1, 2000, 1))
    inputs = [boxes, scores.astype("float32")]
    layer = NonMaxSuppression(0.7, 1000)
    compiled = tf.function(lambda x: layer(x), jit_compile=True)(inputs)
    wanted = kept(*inputs, 0.7, 1000, compilable=False)
    for name, array in wanted.items():
        np.testing.assert_array_equal(compiled[name], array)
    assert wanted["count"] > 300


def test_each_image_may_have_its_own_threshold():
    boxes, scores = random_boxes(2, 50), np.random.default_rng(0).random((2, 50, 3))
    scores = scores.astype("float32")
    layer = NonMaxSuppression(0.5, 150, compilable=False)
    both = layer([boxes, scores], iou_threshold=np.array([0.5, 0.1], "float32"))
    for image, threshold in enumerate([0.5, 0.1]):
        alone = kept(boxes[image : image + 1], scores[image : image + 1], threshold, 150)
        for name, values in alone.items():
            np.testing.assert_array_equal(both[name][image], values[0], name)
    assert both["count"][1] < layer([boxes, scores])["count"][1]


@pytest.mark.parametrize("compilable", FORMS)
def test_kept_boxes_and_scores_have_the_gradient_of_copies(compilable):
    boxes, scores = random_boxes(1, 3), np.array([[0.5, 0.0, 0.9]], "float32")
    layer = NonMaxSuppression(1.0, 2, compilable=compilable)
    to_boxes, to_scores = gradients(layer, [boxes, scores])[1]
    direction = np.random.default_rng(1).normal(size=(1, 2, 4)) / 8
    wanted = np.stack([direction[0, 1], np.zeros(4), direction[0, 0]])
    assert_close(to_boxes[0], wanted, rtol=1e-6)
    assert (to_scores != 0).tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 10), "`iou_threshold` must be in"),
        ((0.5, 0), "`max_boxes` must be a positive integer"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NonMaxSuppression(*arguments)


@pytest.mark.parametrize(
    ("boxes", "scores"), [((1, 3, 4), (1, 4)), ((1, 3, 2, 4), (1, 3)), ((1, 3, 4), (1,))]
)
def test_bad_inputs_are_refused(boxes, scores):
    with pytest.raises(ValueError, match="Scores must have the shape"):
        NonMaxSuppression(0.5, 3)([np.zeros(boxes), np.zeros(scores)])
