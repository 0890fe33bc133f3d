import io
import itertools
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from runs.pictures import (
    compared_curves,
    confusion_matrix,
    heat_map,
    image_grid,
    learning_curves,
    reliability_curve,
    rewards_over_divergence,
    shortened,
    threshold_curves,
)


def evaluation(labels: list[int], predictions: list[int]) -> SimpleNamespace:
    return SimpleNamespace(labels=np.array(labels), predictions=np.array(predictions))


def test_runs_are_drawn_over_each_other():
    histories = {
        "$1": {"loss": [3.0, 2.0], "val_loss": [4.0, 5.0], "rate": [1.0, 0.5]},
        "b": {"loss": [2.0], "val_loss": [1.0]},
    }
    figure = compared_curves(histories)
    (axes,) = figure.axes
    assert axes.get_title() == "loss"
    drawn = [(line.get_linestyle(), line.get_ydata().tolist()) for line in axes.lines]
    expected = [(":", [3.0, 2.0]), ("-", [4.0, 5.0]), (":", [2.0]), ("-", [1.0])]
    assert drawn == expected
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [r"\$1", "b"]
    colors = [line.get_color() for line in axes.lines]
    assert colors[0] == colors[1] != colors[2] == colors[3]
    assert compared_curves({}) is None
    without_validation = compared_curves({"a": {"loss": [1.0], "reward": [2.0]}})
    assert [axes.get_title() for axes in without_validation.axes] == ["loss", "reward"]


def test_curves_have_the_epochs_in_which_a_metric_was_measured():
    history = {"loss": [3.0, 2.0, 1.0], "val_loss": [float("nan"), 4.0, 5.0]}
    for figure in (learning_curves(history), compared_curves({"a": history})):
        (axes,) = figure.axes
        drawn = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines]
        assert drawn == [([1, 2, 3], [3.0, 2.0, 1.0]), ([2, 3], [4.0, 5.0])]


def test_heat_map_names_rows_and_columns():
    figure = heat_map(np.array([[0.2, 0.8]]), ["lstm"], ["$5", "\U0001f600"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [r"\$5", "\U0001f600"]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.2, 0.8]])


def test_dollars_in_names_begin_no_formula():
    prices = ["$10_$20", "$5%-$10%", "$"]
    drawn = [
        confusion_matrix(evaluation([0, 1, 2], [1, 1, 0]), prices),
        image_grid([np.zeros((2, 2, 1), np.uint8)] * 3, prices),
        heat_map(np.eye(3), prices, prices),
    ]
    for figure in drawn:
        figure.savefig(io.BytesIO())
    for axes in (drawn[0].axes[0], drawn[2].axes[0]):
        assert axes.get_xticklabels()[0].get_text() == r"\$10_\$20"


def test_heat_map_of_a_long_text_shows_its_beginning():
    words = [f"w{number}" for number in range(500)]
    figure = heat_map(np.eye(500), words, words)
    assert len(figure.axes[0].get_xticks()) == len(figure.axes[0].get_yticks()) == 64
    assert max(figure.get_size_inches()) < 25


def test_learning_curves_pair_training_with_validation():
    history = {"loss": [1.0, 0.5], "val_loss": [1.1, 0.7], "examples_per_second": [90.0, 100.0]}
    axes = learning_curves(history).axes
    assert [panel.get_title() for panel in axes] == ["loss"]
    assert [list(line.get_ydata()) for line in axes[0].lines] == [[1.0, 0.5], [1.1, 0.7]]


def test_a_metric_of_training_or_of_validation_alone_has_a_panel_too():
    history = {"loss": [1.0, 0.5], "val_map50": [0.2, 0.4], "kept_epoch": [1.0, 2.0]}
    loss, precision = learning_curves(history, baselines={"map50": {"clusters": 0.1}}).axes
    assert (loss.get_title(), precision.get_title()) == ("loss", "map50")
    assert [text.get_text() for text in precision.get_legend().get_texts()] == [
        *("validation", "clusters (test)"),
    ]
    assert list(precision.lines[0].get_ydata()) == [0.2, 0.4]
    assert all(axes.get_xgridlines()[0].get_visible() for axes in (loss, precision))


def test_baselines_are_horizontal_lines_in_the_panel_of_their_metric():
    history = {name: [1.0, 0.5] for name in ("loss", "val_loss", "accuracy", "val_accuracy")}
    loss, accuracy = learning_curves(history, baselines={"accuracy": {"cost in $": 0.25}}).axes
    assert len(loss.lines) == 2
    *_, line = accuracy.lines
    assert list(line.get_ydata()) == [0.25, 0.25]
    assert accuracy.get_legend().get_texts()[2].get_text() == r"cost in \$ (test)"


def test_many_learning_curves_stand_in_rows_of_three():
    figure = learning_curves({f"loss_{number}": [1.0, 0.5] for number in range(5)})
    assert [panel.get_title() for panel in figure.axes] == [f"loss_{n}" for n in range(5)]
    assert tuple(figure.get_size_inches()) == (13.5, 6.4)


def test_the_learning_rate_has_a_panel_over_the_steps():
    figure = learning_curves({"loss": [1.0, 0.5]}, {0: 0.1, 50: 0.05, 99: 0.0})
    loss, rate = figure.axes
    assert (rate.get_title(), rate.get_xlabel(), loss.get_xlabel()) == (
        *("learning rate", "step", "epoch"),
    )
    np.testing.assert_array_equal(rate.lines[0].get_xydata(), [[0, 0.1], [50, 0.05], [99, 0]])


def test_confusion_matrix_counts_and_keeps_the_worst_classes():
    found = evaluation([0, 0, 1, 2, 2], [0, 1, 1, 2, 2])
    axes = confusion_matrix(found, ("a", "b", "c")).axes[0]
    cells = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert cells == {((0, 0), "1"), ((1, 0), "1"), ((1, 1), "1"), ((2, 2), "2")}
    axes = confusion_matrix(found, ("a", "b", "c"), most=2).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b"]
    # Of the five of class a, four are predicted as classes that are not drawn.
    found = evaluation([0, 0, 0, 0, 0, 1, 1, 1], [0, 2, 3, 2, 3, 0, 0, 0])
    axes = confusion_matrix(found, tuple("abcd"), most=2).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.2, 0], [1, 0]])
    # Of seven errors, those from b to a are drawn.
    assert axes.get_title() == "the 2 classes with the most errors; 4 errors are outside"
    assert confusion_matrix(found, tuple("abcd")).axes[0].get_title() == ""


def test_reliability_curve_shows_bins_and_their_mean_error():
    bins = np.array([0.5, 0.9]), np.array([0.7, 0.8]), np.array([10, 30])
    axes = reliability_curve(SimpleNamespace(calibration=bins)).axes[0]
    np.testing.assert_array_equal(axes.lines[1].get_xydata(), [[0.5, 0.7], [0.9, 0.8]])
    # No confidence is below 0.5.
    assert axes.get_xlim() == pytest.approx((0.48, 1.02)) == axes.get_ylim()
    # (10 * 0.2 + 30 * 0.1) / 40
    assert axes.get_title() == "expected calibration error 0.125"


def test_rewards_are_drawn_over_the_root_of_the_divergence():
    history = {"kl": [-0.25, 4.0, 9.0], "reward": [0.0, 1.0, 2.0]}
    points = {
        "before": (0.0, {"reward": 0.5, "judge": 1.0}),
        "after": (16.0, {"reward": 2.0, "judge": 0.5}),
    }
    lines = rewards_over_divergence(history, points).axes[0].lines
    np.testing.assert_array_equal(lines[0].get_xydata(), [[0, 0], [2, 1], [3, 2]])
    drawn = {line.get_label(): line.get_xydata().tolist()[0] for line in lines[1:]}
    assert drawn == {
        "before, by the reward": [0, 0.5],
        "after, by the reward": [4, 2],
        "before, by the judge": [0, 1],
        "after, by the judge": [4, 0.5],
    }
    lines = rewards_over_divergence(history | {"val_judge": [1, 2, 0]}, points).axes[0].lines
    (judged,) = (line for line in lines if line.get_label() == "in validation, by the judge")
    np.testing.assert_array_equal(judged.get_xydata(), [[0, 1], [2, 2], [3, 0]])


def test_curves_of_two_classes_name_the_positive_one_and_the_areas():
    found = SimpleNamespace(
        labels=np.array([0, 0, 0, 1]),
        roc=(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 1.0]), 0.75),
        precision_recall=(np.array([1.0, 0.0]), np.array([0.5, 1.0]), 0.625),
    )
    roc, curve = threshold_curves(found, "$spam").axes
    assert roc.get_title() == "ROC curve, area 0.750"
    assert curve.get_title() == "Precision and recall, average precision 0.625"
    assert roc.get_ylabel() == curve.get_xlabel() == r"recall of \$spam"
    np.testing.assert_array_equal(roc.lines[1].get_xydata(), [[0, 0], [0.5, 1], [1, 1]])
    # By chance the precision is the share of positive examples.
    np.testing.assert_array_equal(curve.lines[0].get_xydata(), [[0, 0.25], [1, 0.25]])


def test_a_single_epoch_has_an_axis_of_whole_epochs():
    axes = learning_curves({"loss": [1.0]}).axes[0]
    assert axes.get_xlim() == (0.8, 2.2)


def test_long_names_keep_their_begin_and_their_end():
    assert shortened("American Staffordshire Terrier", 12) == "Ameri…errier"
    assert shortened("tabby cat", 9) == "tabby cat"
    # Each of these letters is as wide as two.
    assert shortened("\u72ac" * 6, 12) == "\u72ac" * 6
    assert shortened("\u72ac" * 7, 12) == "\u72ac\u72ac…\u72ac\u72ac\u72ac"


def test_captions_of_neighbors_do_not_overlap():
    captions = ["predicted MOTORCYCLES WITHOUT A NUMBER PLATE\ntrue " + "\u72ac" * 30] * 6
    figure = image_grid([np.zeros((4, 4, 1), "uint8")] * 6, captions)
    with warnings.catch_warnings(action="ignore"):  # The font lacks some letters.
        figure.draw_without_rendering()
        boxes = [axes.title.get_window_extent() for axes in figure.axes]
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0


def test_floats_are_drawn_like_levels():
    grays = [
        image_grid([one], ["x"]).axes[0].images[0]
        for one in (np.full((2, 2, 1), 51, np.uint8), np.full((2, 2, 1), 0.2, np.float32))
    ]
    assert grays[0].norm(51) == pytest.approx(0.2) and grays[1].norm(0.2) == pytest.approx(0.2)


def test_image_grid_of_no_pictures_is_none():
    assert image_grid([], []) is None


@pytest.mark.parametrize("count", [1, 7])
def test_image_grid_shows_each_picture_once(count):
    figure = image_grid([np.zeros((4, 4, 1), "uint8")] * count, ["x"] * count)
    assert sum(len(axes.images) for axes in figure.axes) == count
