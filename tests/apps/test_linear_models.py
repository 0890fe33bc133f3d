import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from apps.detection.linear import Regions, fit_linear, machines, ridges
from tests.models.test_detectors import batch
from tests.models.test_fast_rcnn import given
from tests.models.test_rcnn import rcnn


def regions(count: int = 400) -> Regions:
    """Regions of two classes and background, whose features say what they are."""
    random = np.random.default_rng(0)
    kinds = random.integers(0, 3, count)
    overlaps = random.uniform(0, 0.29, (count, 2))
    for label in (0, 1):
        overlaps[kinds == label, label] = random.uniform(0.6, 1, np.sum(kinds == label))
    is_object = (kinds < 2) & (random.random(count) < 0.3)
    overlaps[is_object, kinds[is_object]] = 1
    features = random.normal(size=(count, 6)) + 8 * np.eye(6)[kinds]
    deltas = features @ random.normal(size=(6, 4)) + 0.5
    return Regions(features.astype(np.float32), overlaps, is_object, deltas)


def test_machines_learn_from_objects_and_from_what_is_far_from_them():
    some = regions()
    kernel, bias = machines(some)
    for label in (0, 1):
        positive = some.is_object & (some.overlaps[:, label] == 1)
        learned = positive | (some.overlaps[:, label] < 0.3)
        expected = LinearSVC(C=1e-3, class_weight={1: 2.0}, intercept_scaling=10.0, random_state=0)
        expected.fit(some.features[learned], positive[learned])
        np.testing.assert_allclose(kernel[:, label], expected.coef_[0], atol=1e-3)
        margins = some.features @ kernel[:, label] + bias[label]
        assert margins[positive].min() > margins[some.overlaps[:, label] < 0.3].max()


def test_ridges_learn_from_regions_near_an_object_of_the_class():
    some = regions()
    kernel, bias = ridges(some)
    near = some.overlaps[:, 1] >= 0.6
    expected = Ridge(1000.0).fit(some.features[near], some.deltas[near])
    np.testing.assert_allclose(kernel[:, 1], expected.coef_.T, atol=1e-6)
    np.testing.assert_allclose(bias[1], expected.intercept_, atol=1e-6)


def test_a_class_without_objects_is_background():
    some = regions()
    nothing = some._replace(overlaps=some.overlaps * [1, 0])
    kernel, bias = machines(nothing)
    assert not kernel[:, 1].any() and bias[1] == -1
    kernel, bias = ridges(nothing)
    assert not kernel[:, 1].any() and not bias[1].any()


@pytest.mark.parametrize("svm", [True, False])
def test_the_last_layers_of_a_network_become_linear_models(svm):
    model = rcnn()
    before = model.head.get_layer("classes").get_weights()[0].copy()
    inputs, objects = batch()
    # The first object of each image is of class 0 and 1, the crowd is ignored.
    inputs["proposals"] = tf.concat([objects["boxes"][:, :2] + 2.0, given()["proposals"]], axis=1)
    fit_linear(model, [(inputs, objects)], 2, svm=svm)
    after = model.head.get_layer("classes").get_weights()[0]
    assert model.margins == svm
    assert bool(np.any(after != before)) == svm
    dx, dy = model.head.get_layer("moves").get_weights()[1].reshape(2, 4)[:, :2].T
    assert np.all(dx < 0) and np.all(dy < 0)  # To the left and up, where the objects are.
