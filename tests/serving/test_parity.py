"""Two answers are the same within a tolerance, and up to the ties that are allowed."""

import numpy as np
import pytest
import tensorflow as tf

from serving import parity


def difference(expected, received, tolerance, ties=None):
    return parity.difference([(expected, received)], tolerance, ties)


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


TIED = np.array([[0.5, 0.25, 0.25]], "float32")
SWAPPED = np.array([[b"a", b"c", b"b"]], object)


def test_rows_of_tied_scores_may_be_swapped_only_where_ties_says_so():
    expected, received = {"k": CLASSES, "s": TIED}, {"k": SWAPPED, "s": TIED}
    assert difference(expected, received, 1e-5, {"k": "s"}) == 0
    with pytest.raises(ValueError, match=r"`k` at \(0, 1\) is b'c', expected b'b'"):
        difference(expected, received, 1e-5)
    with pytest.raises(ValueError, match=r"`k` at \(0, 1\) is b'c', expected b'b'"):
        difference(expected | {"s": SCORES}, received | {"s": SCORES}, 1e-5, {"k": "s"})
    with pytest.raises(ValueError, match=r"`k` at \(0, 0\) is b'x', expected b'a'"):
        other = np.array([[b"x", b"c", b"b"]], object)
        difference(expected, received | {"k": other}, 1e-5, {"k": "s"})


def test_a_list_that_ends_among_ties_may_end_with_others():
    expected = {"k": CLASSES, "s": TIED}
    other = np.array([[b"a", b"x", b"b"]], object)
    assert difference(expected, {"k": other, "s": TIED}, 1e-5, {"k": "s"}) == 0
    with pytest.raises(ValueError, match="`k` differs in 2 of 3 rows, at most half may"):
        other = np.array([[b"a", b"x", b"y"]], object)
        difference(expected, {"k": other, "s": TIED}, 1e-5, {"k": "s"})
    with pytest.raises(ValueError, match=r"`k` at \(0, 1\) is b'x', expected b'b'"):
        other = np.array([[b"a", b"x", b"c"]], object)
        difference(expected | {"s": SCORES}, {"k": other, "s": SCORES}, 1e-5, {"k": "s"})
    with pytest.raises(ValueError, match=r"`k` at \(0, 2\) is b'x', expected b'c'"):
        other = np.array([[b"a", b"b", b"x"]], object)
        difference(expected | {"s": SCORES}, {"k": other, "s": SCORES}, 1e-5, {"k": "s"})


def boxes(*lefts: float) -> np.ndarray:
    return np.array([[[left, 0, left + 10, 10] for left in lefts]], "float32")


def test_all_that_the_same_scores_rank_is_swapped_together():
    ties = {"boxes": "scores", "classes": "scores"}
    expected = {"boxes": boxes(1, 2, 3), "classes": CLASSES, "scores": TIED}
    received = {"boxes": boxes(1, 3.00001, 2), "classes": SWAPPED, "scores": TIED}
    assert 0 < difference(expected, received, 1e-5, ties) < 1e-5
    for change in ({"classes": CLASSES}, {"boxes": boxes(1, 3.1, 2.1)}):
        with pytest.raises(ValueError, match="`boxes` differs in 2 of 3 rows"):
            difference(expected, received | change, 1e-5, ties)


def test_a_row_moves_no_further_than_its_score_allows():
    # Each is tied with its neighbours, but the first is not tied with the last.
    scores = 0.5 + 0.008 * np.array([[2, 1, 0]])
    expected, received = {"k": CLASSES, "s": scores}, {"k": CLASSES[:, ::-1], "s": scores}
    with pytest.raises(ValueError, match="`k`"):
        difference(expected, received, 0.009, {"k": "s"})
    swapped = np.array([[b"b", b"a", b"c"]], object)
    assert difference(expected, received | {"k": swapped}, 0.009, {"k": "s"}) == 0


def test_nearly_equal_rows_each_find_their_own():
    # The first may be in either position, and the second only in the first's.
    expected = {"boxes": np.array([[0.0, 0.9]]), "scores": np.array([[0.5, 0.5]])}
    received = {"boxes": np.array([[0.9, -0.05]]), "scores": np.array([[0.5, 0.5]])}
    assert difference(expected, received, 0.5, {"boxes": "scores"}) == pytest.approx(0.05)


def test_words_are_ranked_for_each_gap_along_the_last_axis():
    words = np.array([[[b"a", b"b"], [b"c", b"d"]]], object)
    scores = np.array([[[0.5, 0.5], [0.7, 0.2]]])
    received = np.array([[[b"b", b"a"], [b"c", b"d"]]], object)
    ties = {"words": "scores"}
    assert (
        difference(
            {"words": words, "scores": scores}, {"words": received, "scores": scores}, 1e-5, ties
        )
        == 0
    )
    with pytest.raises(ValueError, match="`words`"):
        gaps = received[:, ::-1]
        difference({"words": words, "scores": scores}, {"words": gaps, "scores": scores}, 1, ties)


def test_half_of_the_texts_may_differ_where_their_log_probability_agrees():
    scores = np.array([-30.0, -20.0, -10.0])
    text = np.array([b"a", b"b", b"c"], object)
    ties = {"text": "log_probability", "length": "log_probability"}
    expected = {"text": text, "length": np.array([1, 1, 1]), "log_probability": scores}

    def answer(*texts, by=scores):
        texts = np.array(texts, object)
        return {"text": texts, "length": np.array([*map(len, texts)]), "log_probability": by}

    received = answer(b"xx", b"b", b"c", by=scores + 1e-5)
    assert difference(expected, received, 1e-5, ties) < 1e-5
    with pytest.raises(ValueError, match="`length` at"):
        difference(expected, received, 1e-5)
    with pytest.raises(ValueError, match="`text` differs in 2 of 3 rows, at most half may"):
        difference(expected, answer(b"xx", b"y", b"c"), 1e-5, ties)
    with pytest.raises(ValueError, match="`log_probability` at"):
        difference(expected, answer(b"xx", b"b", b"c", by=scores - [1, 0, 0]), 1e-5, ties)
    # The examples of all answers count together.
    single = {name: values[:1] for name, values in expected.items()}
    other = {name: values[:1] for name, values in received.items()}
    assert parity.difference([(single, other), (expected, expected)], 1e-5, ties) < 1e-5
    with pytest.raises(ValueError, match="1 of 1"):
        parity.difference([(single, other)], 1e-5, ties)


@pytest.mark.parametrize(
    ("ties", "message"),
    [
        ({"k": "x"}, "must name outputs. Received: k and x"),
        ({"s": "k"}, "must name floating scores"),
        ({"k": "few"}, r"k of shape \(1, 3\) and few of shape \(1, 2\)"),
    ],
)
def test_ties_that_do_not_fit_are_refused(ties, message):
    answer = {"k": CLASSES, "s": SCORES, "few": SCORES[:, :2]}
    with pytest.raises(ValueError, match=message):
        difference(answer, answer, 1e-5, ties)


def test_outputs_without_rows_agree():
    empty = {"k": CLASSES[:, :0], "boxes": np.zeros((1, 0, 4)), "s": SCORES[:, :0]}
    assert difference(empty, empty, 1e-5, {"k": "s", "boxes": "s"}) == 0
    none = {"text": np.array([], object), "by": np.array([], "float32")}
    assert difference(none, none, 1e-5, {"text": "by"}) == 0


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


def test_png_files_agree_but_for_rounding():
    random = np.random.default_rng(0)
    levels = random.integers(1, 250, (64, 64, 1)).astype(np.uint8)

    def files(*pictures):
        return {"files": np.array([tf.io.encode_png(one).numpy() for one in pictures], object)}

    rounded = levels + random.integers(0, 2, levels.shape).astype(np.uint8)
    flipped = levels.copy()
    flipped[3, 5:9] = 255 - flipped[3, 5:9]
    assert parity.difference([(files(levels, levels), files(rounded, flipped))], 1e-5) == 0
    wrong = levels.copy()
    wrong[3, 5:10] = 255
    for other in (wrong, levels[:, :32], np.repeat(levels, 3, axis=-1)):
        with pytest.raises(ValueError, match="`files` at"):
            parity.difference([(files(levels), files(other))], 1e-5)
    with pytest.raises(ValueError, match="`files` at"):
        parity.difference([(files(levels), {"files": np.array([b"text"], object)})], 1e-5)
