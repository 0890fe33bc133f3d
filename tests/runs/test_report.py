import csv
import json
import re

import numpy as np
from matplotlib.figure import Figure

from runs.pictures import boxes_on_images, heat_map
from runs.report import (
    Code,
    Marked,
    Picture,
    Report,
    Shaded,
    Table,
    keep_report,
    machine,
    write_report,
    write_text,
)

HISTORY = {"loss": [1.0, 0.5], "val_loss": [1.1, 0.7], "examples_per_second": [90.0, 100.0]}


def report(**changes) -> Report:
    made = {
        "title": "Cats & dogs",
        "config": {"seed": 0, "optim": {"rate": 3e-4}},
        "scores": {"accuracy": 0.98765},
        "measured": "270 test images",
        "histories": {"": HISTORY},
        "facts": {"wall time": "9 s"},
        "sections": [
            Table("Mistakes", ("image", "predicted"), [("<a.png>", "dog")]),
            Picture("Confusion matrix", Figure()),
        ],
    }
    return Report(**{**made, **changes})


def test_files_hold_config_scores_and_history(tmp_path):
    folder = write_report(tmp_path / "run", report()).parent
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
    text = write_report(tmp_path, report()).read_text()
    for part in (
        "Cats &amp; dogs",
        "Scores on 270 test images",
        "0.9877",
        "&lt;a.png&gt;",
        "optim.rate",
        "9 s",
        machine(),
    ):
        assert part in text
    assert text.count("data:image/png;base64,") == 2
    assert 'src="http' not in text and "<script" not in text


def test_warnings_come_first(tmp_path):
    text = write_report(tmp_path, report(warnings=["5 < 6", "few texts"])).read_text()
    assert text.index("<li>5 &lt; 6</li><li>few texts</li>") < text.index("<h2>Scores on")
    assert "<h2>Warnings" not in write_report(tmp_path, report()).read_text()


def test_a_score_is_followed_by_its_interval(tmp_path):
    scores = {"f1": 0.5, "f1_low": 0.25, "f1_high": 0.76543, "loss": 2.0}
    folder = write_report(tmp_path, report(scores=scores)).parent
    text = (folder / "report.html").read_text()
    assert "<td>f1</td><td>0.5 (95 % interval 0.25 to 0.765)</td>" in text
    assert "<td>loss</td><td>2</td>" in text and "f1_low" not in text
    assert json.loads((folder / "scores.json").read_text()) == scores


def test_baselines_stand_below_the_network_and_in_the_scores(tmp_path):
    baselines = {"majority": ("the most frequent class", 0.25), "linear": ("pixels", 0.98765)}
    folder = write_report(tmp_path, report(baselines=baselines)).parent
    text = (folder / "report.html").read_text()
    table = text[text.index("<h2>Baselines</h2>") : text.index("<h2>Learning curves</h2>")]
    rows = ["this network</td><td>0.9877", "the most frequent class</td><td>0.25", "pixels"]
    positions = [table.index(row) for row in rows]
    assert positions == sorted(positions) and "<th>accuracy</th>" in table
    assert json.loads((folder / "scores.json").read_text()) == {
        "accuracy": 0.98765,
        "majority_accuracy": 0.25,
        "linear_accuracy": 0.98765,
    }
    assert "Baselines" not in write_report(tmp_path, report()).read_text()


def test_baselines_but_the_majority_are_drawn_beside_the_curves(tmp_path, monkeypatch):
    drawn = []

    def curves(history, rates, baselines):
        drawn.append(baselines)
        return Figure()

    monkeypatch.setattr("runs.report.learning_curves", curves)
    baselines = {"majority": ("the most frequent class", 0.25), "linear": ("pixels", 0.5)}
    write_report(tmp_path, report(baselines=baselines))
    assert drawn == [{"accuracy": {"pixels": 0.5}}]


def test_how_scores_were_computed_has_a_file_of_its_own(tmp_path):
    write_report(tmp_path, report(facts={"signature of bleu": "case:mixed", "wall time": "9 s"}))
    assert json.loads((tmp_path / "measures.json").read_text()) == {"bleu": "case:mixed"}
    keep_report(tmp_path, tmp_path / "kept")
    assert (tmp_path / "kept" / "measures.json").read_bytes() == (
        (tmp_path / "measures.json").read_bytes()
    )


def test_settings_that_differ_are_shown_and_all_are_folded(tmp_path):
    text = write_report(tmp_path, report(changed={"optim": {"rate": 3e-4}})).read_text()
    shown, _, folded = text.partition("<h2>Settings</h2>")[2].partition("<details>")
    assert "optim.rate" in shown and "seed" not in shown
    assert "optim.rate" in folded and "seed" in folded and "</details>" in folded
    text = write_report(tmp_path, report()).read_text()
    assert text.partition("<h2>Settings</h2>")[2].lstrip().startswith("<details>")


def test_commands_keep_their_lines_and_their_signs(tmp_path):
    code = Code("Use", [("In a shell", "a '<b>' |\n    c")])
    text = write_report(tmp_path, report(sections=[code])).read_text()
    assert "<h3>In a shell</h3><pre>a &#x27;&lt;b&gt;&#x27; |\n    c</pre>" in text


def test_sections_come_in_the_order_of_the_app(tmp_path):
    text = write_report(tmp_path, report()).read_text()
    titles = ["Scores on", "Learning curves", "Mistakes", "Confusion matrix", "The run", "Settings"]
    positions = [text.index(f"<h2>{title}") for title in titles]
    assert positions == sorted(positions)


def test_empty_sections_and_empty_columns_are_left_out(tmp_path):
    sections = [
        *(Picture("Pictures", None), Table("Rows", ("text", "class"), [])),
        *(Marked("Marks", []), Shaded("Shades", [])),
        Table("Mistakes", ("text", "from", "count"), [("a", "", 0), ("b", "", 1)]),
    ]
    text = write_report(tmp_path, report(sections=sections)).read_text()
    titles = re.findall("<h2>(.*?)</h2>", text)
    assert titles[2:-2] == ["Mistakes"]
    assert "<tr><th>text</th><th>count</th></tr>" in text
    assert '<tr><td>a</td><td class="number">0</td></tr>' in text


def test_words_are_as_dark_as_their_weights(tmp_path):
    texts = [
        [("Not ", 0.0), ("<bad>", 0.6), (" at ", 0.1), ("all", 0.1), ("!", 0.1), ("?", 0.1)],
        [("a", 0.5), (" ", 0.0), ("b", 0.5)],
    ]
    text = write_report(tmp_path, report(sections=[Shaded("Attention", texts)])).read_text()
    paragraphs = re.findall('<p dir="auto">(.*?)</p>', text)
    first, second = ([float(x) for x in re.findall(r"/ ([\d.]+)\)", one)] for one in paragraphs)
    # The largest weight is three times the mean of 0.2; the others are a sixth of it.
    assert first == [0.75, 0.125, 0.125, 0.125, 0.125]
    assert paragraphs[0].startswith("Not <span") and ">&lt;bad&gt;</span>" in paragraphs[0]
    assert 'title="60.0%"' in paragraphs[0]
    # Weights that are all equal are no darker than a third.
    assert second == [0.25, 0.25]


def test_each_stage_has_its_curves_and_its_rows(tmp_path):
    histories = {"reward": {"loss": [2.0]}, "policy": {"reward": [0.1, 0.2]}}
    text = write_report(tmp_path, report(histories=histories)).read_text()
    assert "Learning curves: reward" in text and "Learning curves: policy" in text
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "stage,epoch,loss,reward",
        "reward,1,2.0,",
        "policy,1,,0.1",
        "policy,2,,0.2",
    ]


def test_texts_are_highlighted_where_they_have_a_label(tmp_path):
    texts = [[("Mr ", ""), ("<Kant>", "person"), (" of ", ""), ("Königsberg", "place")]]
    text = write_report(tmp_path, report(sections=[Marked("Names", texts)])).read_text()
    assert "Mr <mark" in text and "</mark> of <mark" in text
    assert "&lt;Kant&gt; <small>person</small>" in text
    assert text.count("hsl(0 ") == text.count("hsl(180 ") == 1


def test_six_photographs_take_at_most_half_of_6_mb(tmp_path):
    # Noise is what no format makes small.
    noise = np.random.default_rng(0).integers(0, 256, (6, 480, 640, 3)).astype(np.uint8)
    nothing = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int), "scores": np.zeros(0)}
    drawn = boxes_on_images(noise, [nothing] * 6, [nothing] * 6, ["cat"], [""] * 6, [0.5])
    path = write_report(tmp_path, report(sections=[Picture("worst", drawn)]))
    assert path.read_text().count('src="data:image/jpeg;base64,') == 1
    assert path.stat().st_size < 3e6


def test_a_picture_with_letters_that_no_font_has_is_drawn(tmp_path):
    figure = heat_map(np.array([[0.2, 0.8]]), ["lstm"], ["$5", "\U0001f600"])
    section = Picture("Attention", figure)
    assert write_report(tmp_path, report(sections=[section])).stat().st_size > 1000


def test_report_of_a_run_without_epochs_has_no_curves(tmp_path):
    assert "Learning curves" not in write_report(tmp_path, report(histories={"": {}})).read_text()


def test_write_text_replaces_and_leaves_no_other_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"
