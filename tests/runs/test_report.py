import csv
import json

import numpy as np
from matplotlib.figure import Figure

from runs.pictures import heat_map
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


def test_figures_may_hold_words_that_the_font_lacks(tmp_path):
    figure = heat_map(np.array([[0.2, 0.8]]), ["lstm"], ["$5", "\U0001f600"])
    assert write_run(tmp_path, run(figures=[("Attention", figure)])).stat().st_size > 1000


def test_report_of_a_run_without_epochs_has_no_curves(tmp_path):
    assert "Learning curves" not in write_run(tmp_path, run(history={})).read_text()


def test_write_text_replaces_and_leaves_no_other_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"
