import csv
import io
import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from runs.pictures import confusion_matrix, heat_map, image_grid, learning_curves
from runs.report import Run, machine, write_run, write_text

HISTORY = {"loss": [1.0, 0.5], "val_loss": [1.1, 0.7], "examples_per_second": [90.0, 100.0]}


def run(**changes) -> Run:
    made = {
        "title": "Cats & dogs",
        "summary": "Two classes.",
        "config": {"seed": 0, "optim": {"rate": 3e-4}},
        "scores": {"accuracy": 0.98765},
        "num_test": 270,
        "history": HISTORY,
        "facts": {"wall time": "9 s"},
        "figures": [("Confusion matrix", Figure())],
        "tables": [("Mistakes", [("image", "taken for"), ("<a.png>", "dog")])],
    }
    return Run(**{**made, **changes})


def test_files_hold_config_scores_and_history(tmp_path):
    report = write_run(tmp_path / "run", run())
    folder = report.parent
    assert json.loads((folder / "config.json").read_text()) == {"seed": 0, "optim": {"rate": 3e-4}}
    assert json.loads((folder / "scores.json").read_text()) == {"accuracy": 0.98765}
    rows = list(csv.reader((folder / "history.csv").read_text().splitlines()))
    assert rows[0] == ["epoch", "loss", "val_loss", "examples_per_second"]
    assert rows[2] == ["2", "0.5", "0.7", "100.0"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "history.csv",
        "report.html",
        "scores.json",
    ]


def test_report_is_one_file_that_names_everything(tmp_path):
    text = write_run(tmp_path, run()).read_text()
    for part in (
        "Cats &amp; dogs",
        "Scores on 270 test examples",
        "0.9877",
        "&lt;a.png&gt;",
        "optim.rate",
        "9 s",
        machine(),
    ):
        assert part in text
    assert text.count("data:image/png;base64,") == 2
    assert 'src="http' not in text and "<script" not in text


def test_texts_are_highlighted_where_they_have_a_label(tmp_path):
    texts = [[("Mr ", ""), ("<Kant>", "person"), (" of ", ""), ("Königsberg", "place")]]
    text = write_run(tmp_path, run(texts=[("Names", texts)])).read_text()
    assert "Mr <mark" in text and "</mark> of <mark" in text
    assert "&lt;Kant&gt; <small>person</small>" in text
    assert text.count("hsl(0 ") == text.count("hsl(180 ") == 1


def test_heat_map_names_rows_and_columns(tmp_path):
    figure = heat_map(np.array([[0.2, 0.8]]), ["lstm"], ["$5", "\U0001f600"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [r"\$5", "\U0001f600"]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.2, 0.8]])
    assert write_run(tmp_path, run(figures=[("Attention", figure)])).stat().st_size > 1000


def test_dollars_in_names_begin_no_formula():
    prices = ["$10_$20", "$5%-$10%", "$"]
    drawn = [
        confusion_matrix(np.array([0, 1, 2]), np.array([1, 1, 0]), prices),
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


def test_report_of_a_run_without_epochs_has_no_curves(tmp_path):
    assert "Learning curves" not in write_run(tmp_path, run(history={})).read_text()


def test_write_text_replaces_and_leaves_no_other_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


def test_learning_curves_pair_training_with_validation():
    axes = learning_curves(HISTORY).axes
    assert [panel.get_title() for panel in axes] == ["loss"]
    assert [list(line.get_ydata()) for line in axes[0].lines] == [[1.0, 0.5], [1.1, 0.7]]


def test_confusion_matrix_counts_and_keeps_the_worst_classes():
    labels, predictions = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 2])
    axes = confusion_matrix(labels, predictions, ("a", "b", "c")).axes[0]
    cells = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert cells == {((0, 0), "1"), ((1, 0), "1"), ((1, 1), "1"), ((2, 2), "2")}
    axes = confusion_matrix(labels, predictions, ("a", "b", "c"), most=2).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b"]
    # Of the five of class a, four were taken for classes that are not drawn.
    labels, predictions = np.array([0, 0, 0, 0, 0, 1, 1, 1]), np.array([0, 2, 3, 2, 3, 0, 0, 0])
    axes = confusion_matrix(labels, predictions, tuple("abcd"), most=2).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.2, 0], [1, 0]])


@pytest.mark.parametrize("count", [0, 1, 7])
def test_image_grid_shows_each_picture_once(count):
    figure = image_grid([np.zeros((4, 4, 1), "uint8")] * count, ["x"] * count)
    assert sum(len(axes.images) for axes in figure.axes) == count
