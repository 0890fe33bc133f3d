"""Two answers are the same within a tolerance, and up to the order of ties."""

import numpy as np
import pytest

from serving.parity import difference

SCORES = np.array([[0.5, 0.3, 0.2]], "float32")
CLASSES = np.array([[b"a", b"b", b"c"]], object)


def test_difference_is_relative_to_the_largest_value():
    expected, received = np.array([0.0, 100.0]), np.array([0.5, 100.0])
    assert difference({"x": expected}, {"x": received}, 0.01) == pytest.approx(0.005)
    with pytest.raises(ValueError, match=r"`x` at \(0,\) is 0.5, expected 0: 0.005 apart"):
        difference({"x": expected}, {"x": received}, 0.001)


def test_infinity_equals_itself_and_nan_nothing():
    values = np.array([np.inf, 1.0])
    assert difference({"x": values}, {"x": values}, 0) == 0
    with pytest.raises(ValueError, match="inf apart"):
        difference({"x": values}, {"x": np.array([2.0, 1.0])}, 1)
    with pytest.raises(ValueError, match=r"`x` at \(0,\) is nan, expected nan"):
        difference({"x": np.array([np.nan])}, {"x": np.array([np.nan])}, 1)


def test_order_among_ties_is_free():
    scores = np.array([[0.5, 0.25, 0.25]], "float32")
    swapped = np.array([[b"a", b"c", b"b"]], object)
    expected, received = {"k": CLASSES, "s": scores}, {"k": swapped, "s": scores}
    assert difference(expected, received, 1e-5) == 0
    with pytest.raises(ValueError, match=r"`k` at \(0, 1\) is b'c', expected b'b'"):
        difference(expected | {"s": SCORES}, received | {"s": SCORES}, 1e-5)


def test_scores_that_rank_nothing_excuse_no_other_answer():
    scores = np.array([0.5, 0.5], "float32")
    expected = {"answer": np.array([b"a", b"b"], object), "score": scores}
    received = {"answer": np.array([b"b", b"a"], object), "score": scores}
    with pytest.raises(ValueError, match=r"`answer` at \(0,\) is b'b', expected b'a'"):
        difference(expected, received, 1e-5)
    words = {"tags": np.array([[1, 2, 3]]), "score": np.array([[0.9, 0.90001, 0.5]])}
    with pytest.raises(ValueError, match=r"`tags` at \(0, 0\)"):
        difference(words, words | {"tags": np.array([[2, 2, 3]])}, 1e-4)


def test_in_16_bits_one_or_a_tenth_of_the_choices_may_fall_otherwise():
    expected, received = np.arange(40).reshape(10, 4), np.arange(40).reshape(10, 4)
    received[:, 0] += np.arange(10) < 4
    assert difference({"tags": expected}, {"tags": received}, 0.05) == 0
    with pytest.raises(ValueError, match=r"`tags` at \(0, 0\)"):
        difference({"tags": expected}, {"tags": received}, 1e-4)
    received[:, 0] += np.arange(10) < 5
    few = {"answers": np.array([1, 2, 3])}
    assert difference(few, {"answers": np.array([1, 2, 4])}, 0.05) == 0
    with pytest.raises(ValueError, match="`answers`"):
        difference(few, {"answers": np.array([0, 2, 4])}, 0.05)
    assert difference({"tags": expected[:0]}, {"tags": expected[:0]}, 1e-4) == 0
    with pytest.raises(ValueError, match=r"`tags` at \(0, 0\)"):
        difference({"tags": expected}, {"tags": received}, 0.05)


def test_other_outputs_and_shapes_are_refused():
    with pytest.raises(ValueError, match="outputs are"):
        difference({"s": SCORES}, {"k": CLASSES}, 1)
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(1, 3\)"):
        difference({"s": SCORES}, {"s": SCORES[0]}, 1)
