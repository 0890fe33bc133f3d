"""Files are answered from the command line, by a folder and by servers."""

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.answering import answered, as_plain
from serving.client import ServingError
from serving.examples import Example
from serving.predict import as_table, counted_rows, main, quiet
from tests.serving.conftest import encoded


@pytest.fixture
def files(tmp_path) -> list[Path]:
    paths = [tmp_path / f"{i}.png" for i in range(40)]
    for path, content in zip(paths, encoded(len(paths)), strict=True):
        path.write_bytes(content)
    return paths


@pytest.fixture(params=["grpc", "rest", "folder"])
def target(request, server) -> str:
    return str(getattr(server, request.param))


def answers_of(target: str, *files: Path, capsys, **options) -> dict:
    assert main(target, files, as_json=True, **options) == 0
    return json.loads(capsys.readouterr().out)


def answer(ask, examples) -> tuple[dict, dict]:
    """Returns the outputs, and the reasons why there are none, by example."""
    outcomes = {example.name: outcome for example, outcome in answered(ask, iter(examples))}
    refused = {name: why for name, why in outcomes.items() if isinstance(why, str)}
    return {name: outcomes[name] for name in outcomes if name not in refused}, refused


@pytest.mark.slow
def test_a_fresh_process_answers_quietly_with_tensorflow_alone(exported, files):
    script = f"""
import sys
from pathlib import Path
from serving.predict import main
status = main({str(exported)!r}, (Path({str(files[0])!r}),))
ours = {{"apps", "callbacks", "data", "layers", "metrics", "models", "preprocessing"}}
ours |= {{"runs", "tensorflow_serving", "training"}}
print(sorted(ours & {{name.split(".")[0] for name in sys.modules}}))
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    header, first, second, modules = done.stdout.splitlines()
    assert header.split() == ["file", "classes", "scores"]
    assert first.split()[0] == str(files[0])
    assert float(first.split()[2]) >= float(second.split()[1])
    assert modules == "[]"


def test_json_holds_what_the_model_answers(exported, files, capsys):
    answers = answers_of(str(exported / "1"), *files, capsys=capsys)
    assert list(answers) == [str(path) for path in files]
    model = tf.saved_model.load(str(exported / "1")).signatures["serving_default"]
    expected = model(image_bytes=tf.constant([files[7].read_bytes()]))
    answer = answers[str(files[7])]
    assert answer["classes"] == [name.decode() for name in expected["classes"].numpy()[0]]
    np.testing.assert_allclose(answer["scores"], expected["scores"][0], rtol=1e-5)


def test_servers_answer_images_as_the_folder_does(server, files, capsys):
    expected = answers_of(str(server.folder / "tiny"), *files[:3], capsys=capsys)
    for target in (server.grpc, server.rest):
        assert answers_of(target, *files[:3], capsys=capsys, model="tiny") == expected


def test_servers_fill_the_file_as_the_folder_does(server, files, tmp_path):
    texts = []
    for i, target in enumerate((server.folder / "tiny", server.grpc, server.rest)):
        output = tmp_path / f"{i}.csv"
        assert main(str(target), tuple(files), model="tiny", output=output) == 0
        texts.append(output.read_text())
    assert texts[0].splitlines()[0] == "file,line,class,confidence,error"
    assert len(texts[0].splitlines()) == 41
    assert texts[1] == texts[2] == texts[0]


def test_bad_files_are_named_and_the_others_answered(target, files, tmp_path, capsys):
    bad, missing = tmp_path / "bad.jpg", tmp_path / "missing.png"
    bad.write_text("not an image")
    assert main(target, (files[0], bad, missing, files[1]), model="tiny", as_json=True) == 1
    said = capsys.readouterr()
    answers = json.loads(said.out)
    assert "scores" in answers[str(files[0])]
    assert "scores" in answers[str(files[1])]
    assert "error" in answers[str(bad)]
    lines = said.err.splitlines()
    assert len(lines) == 2
    assert f"{missing}: No such file or directory" in lines
    assert any(line.startswith(f"{bad}: ") and "must hold JPEG" in line for line in lines)


def test_texts_are_answered_line_by_line(target, tmp_path, capsys):
    path = tmp_path / "some.txt"
    path.write_bytes("one\r\n\nGrüße\u2028\n".encode())
    assert answers_of(target, path, capsys=capsys, model="echo", lines=True) == {
        f"{path}:1": {"length": 3, "upper": "ONE"},
        f"{path}:2": {"length": 0, "upper": ""},
        f"{path}:3": {"length": 10, "upper": "GRüßE\u2028"},
    }


def test_standard_input_is_a_file_too(target, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\r\ntwo")))
    answers = answers_of(target, Path("-"), capsys=capsys, model="echo")
    assert [item["upper"] for item in answers.values()] == ["ONE", "TWO"]
    assert list(answers) == ["-:1", "-:2"]


def test_tables_are_answered_row_by_row(target, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text('colour,id,count,size\nred,a,2,1.5\n"dark, blue",b,3,2\n')
    answers = answers_of(target, path, capsys=capsys, model="echo", signature="rows")
    assert answers == {
        f"{path}:2": {"colour": "red", "total": 3.0},
        f"{path}:3": {"colour": "dark, blue", "total": 6.0},
    }


def test_a_cell_may_be_as_long_as_a_book(target, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text(f"colour,count,size\n{'red ' * 50_000},2,1.5\n")
    (answer,) = answers_of(target, path, capsys=capsys, model="echo", signature="rows").values()
    assert len(answer["colour"]) == 200_000


def test_a_bad_row_and_a_bad_table_are_named(server, tmp_path, capsys):
    bad, narrow, empty = (tmp_path / name for name in ("bad.csv", "narrow.csv", "empty.csv"))
    bad.write_text("colour,count,size\nred,two,1\nblue,3,2\n")
    narrow.write_text("colour,size\nred,1\n")
    empty.write_text("colour,count,size\n")
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    files = (bad, narrow, empty, nothing)
    assert main(str(server.folder), files, model="echo", signature="rows") == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split() == [f"{bad}:3", "blue", "6"]
    assert sorted(said.err.splitlines()) == sorted(
        [
            f"{bad}:2: `count` must be int64. Received: 'two'",
            f"{narrow}: expected a column count. Received: the columns colour, size. "
            "Fix: name the column with --columns count=COLUMN",
            f"{empty}: empty",
            f"{nothing}: a folder without files",
        ]
    )


def test_text_that_is_none_is_named(server, tmp_path, capsys):
    path = tmp_path / "binary.txt"
    path.write_bytes(b"good\n\xff")
    assert main(str(server.folder), (path,), model="echo") == 1
    assert f"{path}: not UTF-8 at byte 5" in capsys.readouterr().err


def test_an_output_for_all_examples_together_is_requested_one_by_one(server, tmp_path, capsys):
    path = tmp_path / "some.txt"
    path.write_text("one\ntwo\n")
    answers = answers_of(
        str(server.folder), path, capsys=capsys, model="echo", signature="whole", lines=True
    )
    assert [item["count"] for item in answers.values()] == [1, 1]


def test_examples_with_and_without_a_default_are_queried_apart():
    queries = []

    def ask(columns):
        queries.append(columns)
        return {"x": np.array(columns["x"])}

    inputs = [{"x": 1}, {"x": 2}, {"x": 3, "k": 4}, {"x": 5}]
    answers, refused = answer(ask, [Example(f"{i}", some) for i, some in enumerate(inputs)])
    assert queries == [{"x": [1, 2]}, {"x": [3], "k": [4]}, {"x": [5]}]
    assert not refused and [one["x"] for one in answers.values()] == [1, 2, 3, 5]


def test_no_file_no_version_and_other_inputs_are_refused(exported, server, files, tmp_path, capsys):
    def said(target: object, *files: Path, **options) -> str:
        assert main(str(target), files, **options) == 1
        return capsys.readouterr().err

    assert "at least one file" in said(exported)
    assert "which is not there" in said(tmp_path / "nowhere", files[0])
    assert "`--model` must name one of the models detector, echo," in said(server.folder, files[0])
    assert "`--model` must name a model of the server" in said(server.grpc, files[0])
    assert "one of from_pixels, serving_default" in said(exported, files[0], signature="s")
    assert "the signature takes images (float32)" in said(
        exported, files[0], signature="from_pixels"
    )
    assert "NOT_FOUND" in said(exported, files[0], version=7)
    damaged = tmp_path / "1"
    damaged.mkdir()
    (damaged / "saved_model.pb").write_bytes(b"\x01")
    message = said(damaged, files[0])
    assert "cannot load" in message and "damaged" in message


def test_a_server_that_is_gone_is_not_queried_for_each_example():
    queries = []

    def ask(columns):
        queries.append(columns)
        raise ServingError("UNAVAILABLE", "gone")

    answers, refused = answer(ask, [Example(str(i), {"x": i}) for i in range(33)])
    assert answers == {}
    assert len(queries) == 2
    assert refused["32"] == "UNAVAILABLE: gone"


def test_outputs_become_json():
    assert as_plain("classes", np.array([b"a", "ä".encode()], object)) == ["a", "ä"]
    assert as_plain("scores", np.float32(0.1)) == 0.1
    assert as_plain("count", np.int64(3)) == 3
    assert as_plain("mask_bytes", b"\xff") == {"b64": base64.b64encode(b"\xff").decode()}


def test_a_table_has_a_row_a_rank_or_a_row_a_file():
    ranks = {"a": {"classes": np.array([b"x", b"y"], object), "scores": np.float32([0.75, 0.25])}}
    assert as_table(ranks).splitlines() == [
        "file  classes  scores",
        "a     x        0.75",
        "      y        0.25",
    ]
    mixed = {"a": {"answer": b"text", "map": np.zeros((4, 4), "float32"), "box": np.array([1, 2])}}
    assert as_table(mixed).splitlines()[1].split(maxsplit=2) == [
        "a",
        "text",
        "[0, 0, 0, 0, 0, 0, 0, 0, ... (4, 4)]  [1, 2]",
    ]


def test_several_strings_in_a_cell_are_text():
    words = np.array([["für".encode(), b"the"], [b"a", b""]] * 3, object)
    row = as_table({"a": {"words": words, "scores": np.zeros((6, 2))}}).splitlines()[1]
    assert row.split(maxsplit=1)[1].startswith('[["für", "the"], ["a", ""], [')


def test_answers_lose_their_padding_and_begin_with_strings():
    outputs = {
        "starts": np.array([[0, 4], [-1, -1], [0, -1]]),
        "scores": np.float32([[0.5, 0.75], [0, 0], [0, 0]]),
        "tags": np.array([[b"O", b"B"], [b"", b""], [b"O", b""]], object),
        "boxes": np.zeros((3, 2, 4), "float32"),
        "number": np.array([1, 2, 3]),
    }
    answers, _ = answer(lambda columns: outputs, [Example(str(i), {"x": i}) for i in range(3)])
    assert list(answers["0"]) == ["tags", "boxes", "scores", "number", "starts"]
    lengths = [{name: len(np.atleast_1d(a[name])) for name in a} for a in answers.values()]
    for found, length in zip(lengths, (2, 0, 1), strict=True):
        padded = dict.fromkeys(("tags", "boxes", "scores", "starts"), length)
        assert found == padded | {"number": 1}


@pytest.mark.parametrize(
    "outputs",
    [
        {"scores": np.array([[1, 0]], "float32")},
        {"text": np.array([[b"a", b""]], object), "scores": np.array([[0.5, 0.5]], "float32")},
        {"text": np.array([[b"a", b""]], object), "logits": np.zeros((1, 3), "float32")},
    ],
    ids=["numbers alone", "a score", "lists of several lengths"],
)
def test_what_may_be_no_padding_stays(outputs):
    answers, _ = answer(lambda columns: outputs, [Example("one", {"x": 0})])
    assert all(len(answers["one"][name]) == outputs[name].shape[1] for name in outputs)


def test_an_answer_of_nothing_has_a_row_too():
    nothing = {"tags": np.array([], object), "scores": np.float32([])}
    assert as_table({"a": nothing, "b": nothing}).splitlines()[1:] == ["a", "b"]


def test_quiet_hides_only_what_is_written_within(capfd):
    with quiet():
        os.write(2, b"noise")
    os.write(2, b"news")
    assert capfd.readouterr().err == "news"


def test_an_answer_that_counts_its_rows_has_a_row_for_each():
    found = {
        "classes": np.array([b"cat", b"eel", b""], object),
        "mask_bytes": np.array([b"\x89PNG", b"\x89PNG", b""], object),
        "scores": np.float32([0.75, 0.5, 0]),
        "boxes": np.float32([[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]]),
        "num_detections": np.int32(2),
    }
    nothing = found | {"num_detections": np.int32(0)}
    assert as_table({"a.png": found, "b.png": nothing}).splitlines() == [
        "file   classes  scores  boxes",
        "a.png  cat      0.75    [1, 2, 3, 4]",
        "       eel      0.5     [5, 6, 7, 8]",
        "b.png",
    ]
    assert [row["classes"] for row in counted_rows(found)] == [b"cat", b"eel"]
    assert counted_rows(nothing) == []
    assert counted_rows({"classes": found["classes"], "scores": found["scores"]}) is None
