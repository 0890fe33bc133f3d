import json
import re
from pathlib import Path

import pytest

from runs.compare import main, read

SCORES = {"accuracy": 0.75, "accuracy_low": 0.7, "accuracy_high": 0.8, "majority_accuracy": 0.5}


def run(folder: Path, history: str = "", scores=SCORES, **config) -> Path:
    """Writes what a finished run leaves for a comparison."""
    folder.mkdir(parents=True)
    settings = {"data": "digits", "model": "mlp", "out": str(folder), **config}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "scores.json").write_text(json.dumps(scores))
    if history:
        (folder / "history.csv").write_text(history)
    return folder


def table(page: str, title: str) -> list[list[str]]:
    """Reads the table below a heading."""
    text = page.split(f"<h2>{title}</h2>")[1].split("</table>")[0]
    rows = text.split("</tr>")[:-1]
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]


def test_scores_stand_side_by_side_and_only_settings_that_differ_are_shown(tmp_path, capsys):
    one = run(tmp_path / "one", units=[3, 4], same=1, old=True)
    two = run(tmp_path / "two", scores={"accuracy": 0.875, "loss": 0.25}, units=[3, 5], same=1)
    path = tmp_path / "pages" / "compare.html"
    assert main([str(one), str(two), "--output", str(path)]) == 0
    assert capsys.readouterr().out == f"Comparison {path}\n"
    page = path.read_text()
    names = ["", str(one), str(two)]
    assert table(page, "Scores") == [
        names,
        ["accuracy", "0.75 (95 % interval 0.7 to 0.8)", "0.875"],
        ["majority_accuracy", "0.5", ""],
        ["loss", "", "0.25"],
    ]
    different = [names, ["units", "[3, 4]", "[3, 5]"], ["old", "True", ""]]
    assert table(page, "Settings that differ") == different
    assert "<img" not in page


def test_how_scores_were_computed_is_compared(tmp_path):
    one, two, three = (run(tmp_path / name) for name in ("one", "two", "three"))
    for folder, tokens in ((one, "13a"), (two, "zh")):
        (folder / "measures.json").write_text(json.dumps({"bleu": f"tok:{tokens}"}))
    # A run without such scores has no column.
    path = tmp_path / "compare.html"
    assert main([*map(str, (one, two, three)), "--output", str(path)]) == 0
    rows = table(path.read_text(), "How scores were computed")
    assert rows == [["", str(one), str(two)], ["bleu", "tok:13a", "tok:zh"]]


def test_curves_are_drawn_over_each_other(tmp_path, monkeypatch):
    histories = []

    def curves(some):
        histories.append(some)
        return real(some)

    from runs import compare

    real = compare.compared_curves
    monkeypatch.setattr(compare, "compared_curves", curves)
    text = "epoch,loss,val_loss\n1,2.0,2.5\n2,1.5,1.75\n"
    one = run(tmp_path / "one", text)
    stages = "stage,epoch,loss,reward\na,1,3.0,\nb,1,,0.5\n"
    two = run(tmp_path / "two", stages, data="other")
    none = run(tmp_path / "three")
    path = tmp_path / "compare.html"
    assert main([*map(str, (one, two, none)), "--output", str(path)]) == 0
    assert histories == [
        {
            str(one): {"loss": [2.0, 1.5], "val_loss": [2.5, 1.75]},
            str(two): {"a loss": [3.0], "b reward": [0.5]},
        }
    ]
    page = path.read_text()
    assert page.count("<img") == 1 and "<h2>Scores, measured on different data</h2>" in page


def test_a_version_is_compared_by_the_files_that_its_run_left(tmp_path):
    newest = run(tmp_path / "run", seed=2)
    run(newest / "reports" / "version_1", seed=1)
    (newest / "1").mkdir()
    path = tmp_path / "compare.html"
    assert main([str(newest / "1"), str(newest), "--output", str(path)]) == 0
    assert ["seed", "1", "2"] in table(path.read_text(), "Settings that differ")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "at least two different folders. Received: none"),
        (["one"], "at least two different folders. Received: one"),
        (["one", "one"], "at least two different folders. Received: one one"),
        (["one", "empty"], "must be folders with config.json and scores.json"),
    ],
)
def test_what_is_no_run_is_refused(names, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as end:
        read(names)
    assert end.value.code == 2
    said = " ".join(re.sub("[^ -~]", " ", capsys.readouterr().err).split())
    assert message in said


def test_a_page_that_cannot_be_written_is_one_message(tmp_path, capsys):
    one, two = run(tmp_path / "one"), run(tmp_path / "two")
    (tmp_path / "file").touch()
    page = tmp_path / "file" / "compare.html"
    assert main([str(one), str(two), "--output", str(page)]) == 1
    assert capsys.readouterr().err.startswith("Error: ")
