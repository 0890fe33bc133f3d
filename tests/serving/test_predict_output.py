"""Any number of inputs become a file of answers."""

import csv
import io
import json
import os
from itertools import count, islice
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import tensorflow as tf
from pyarrow import parquet

from serving.answering import AT_ONCE, BATCH_SIZE, answered
from serving.examples import Example
from serving.predict import main
from serving.progress import Progress

LETTERS = ("a", "b", "c")


class Letters(tf.Module):
    """Ranks a, b and c by how often they are in a text: the share is (count + 1) / (total + 3)."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
    def classify(self, text):
        exclaims = tf.strings.regex_full_match(text, ".*!.*")
        tf.debugging.Assert(not tf.reduce_any(exclaims), ["texts must not exclaim"])
        counts = [tf.strings.length(tf.strings.regex_replace(text, f"[^{x}]", "")) for x in LETTERS]
        shares = tf.cast(tf.stack(counts, 1) + 1, tf.float32)
        scores, indices = tf.math.top_k(shares / tf.reduce_sum(shares, 1, keepdims=True), 3)
        return {"classes": tf.gather(tf.constant(LETTERS), indices), "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def measure(self, image_bytes):
        return {
            "size": tf.strings.length(image_bytes),
            "ends": tf.strings.substr(image_bytes, 0, 1),
        }

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
    def find(self, text):
        counts = tf.strings.length(tf.strings.regex_replace(text, "[^a]", ""))
        is_found = tf.range(3)[None] < counts[:, None]
        return {"letters": tf.where(is_found, "a", ""), "num_letters": counts}

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 1), tf.float32, name="size"),
            tf.TensorSpec((None,), tf.int64, name="count"),
        ]
    )
    def multiply(self, size, count):
        return {"total": size[:, 0] * tf.cast(count, tf.float32)}


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> str:
    """A model whose card says that training read the texts from a column `review`."""
    module, version = Letters(), tmp_path_factory.mktemp("letters") / "1"
    signatures = {
        "serving_default": module.classify,
        "files": module.measure,
        "table": module.multiply,
        "letters": module.find,
    }
    tf.saved_model.save(module, str(version), signatures=signatures)
    (version / "assets.extra").mkdir()
    card = {"config": {"text_column": "review", "pair_column": None}}
    (version / "assets.extra" / "model_card.json").write_text(json.dumps(card))
    return str(version)


def written(letters: str, *inputs: Path, output: Path, status: int = 0, **options) -> list[dict]:
    """Returns the rows of the file, the cells as its format has them."""
    assert main(letters, inputs, output=output, **options) == status
    assert not list(output.parent.glob(f".{output.name}*"))
    if output.suffix == ".parquet":
        return parquet.read_table(output).to_pylist()
    text = output.read_text(encoding="utf-8")
    if output.suffix in (".jsonl", ".json"):
        return [json.loads(line) for line in text.splitlines()]
    delimiter = "\t" if output.suffix == ".tsv" else ","
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


ROWS = [
    {"id": 7, "review": "aab", "stars": 4.5, "class": "x"},
    {"id": 8, "review": "ccüc\tc", "stars": None, "class": "y"},
]


def save_table(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix in (".jsonl", ".json"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
def test_tables_of_each_kind_are_answered_by_the_column_of_training(letters, suffix, tmp_path):
    table = save_table(tmp_path / f"in{suffix}", ROWS)
    first, second = written(letters, table, output=tmp_path / "out.csv")
    assert list(first) == [
        *("file", "line", "id", "stars", "input_class", "class", "confidence", "error")
    ]
    line = "2" if suffix == ".csv" else "1"
    assert first == {
        **{"file": str(table), "line": line, "id": "7", "stars": "4.5", "input_class": "x"},
        **{"class": "a", "confidence": "0.5", "error": ""},
    }
    # 5 of 7, and the first nearest float32 that reads back.
    assert (second["class"], second["confidence"]) == ("c", "0.71428573")
    assert (second["id"], second["stars"]) == ("8", "")


def test_an_answer_that_counts_its_rows_has_as_many_and_at_least_one(letters, tmp_path):
    table = save_table(tmp_path / "in.csv", [{"id": 1, "review": "aab"}, {"id": 2, "review": "b"}])
    rows = written(letters, table, output=tmp_path / "out.csv", signature="letters")
    assert list(rows[0]) == ["file", "line", "id", "letters", "error"]
    assert [(row["id"], row["letters"]) for row in rows] == [("1", "a"), ("1", "a"), ("2", "")]


def test_tab_separated_values_have_no_quotes(letters, tmp_path):
    table = tmp_path / "in.tsv"
    table.write_text('id\treview\n1\t"aa\n2\tb,b\n')
    rows = written(letters, table, output=tmp_path / "out.tsv")
    assert [(row["id"], row["line"], row["class"]) for row in rows] == [
        ("1", "2", "a"),
        ("2", "3", "b"),
    ]


def test_each_format_of_answers_keeps_types(letters, tmp_path):
    table = save_table(tmp_path / "in.jsonl", ROWS)
    for suffix in (".parquet", ".jsonl"):
        first, second = written(letters, table, output=tmp_path / f"out{suffix}")
        assert (first["line"], first["id"], first["stars"]) == (1, 7, 4.5)
        assert (first["class"], first["confidence"]) == ("a", 0.5)
        assert first.get("error") is None and second["stars"] is None


def test_columns_of_several_types_become_text_in_parquet(letters, tmp_path):
    table = tmp_path / "in.jsonl"
    lines = [{"x": 1}, {"x": [1, "ü"]}, {"x": "a"}]
    lines += [{"y": 2**70}, {"z": 1}, {"z": 0.5}]
    table.write_text("".join(json.dumps({"text": "a", **line}) + "\n" for line in lines))
    rows = written(letters, table, output=tmp_path / "out.parquet")
    assert [row["x"] for row in rows[:4]] == ["1", '[1, "ü"]', "a", None]
    assert rows[3]["y"] == str(2**70)
    assert [row["z"] for row in rows[4:]] == [1.0, 0.5]


def test_more_classes_have_columns_with_their_places(letters, tmp_path):
    table = save_table(tmp_path / "in.csv", ROWS)
    row, _ = written(letters, table, output=tmp_path / "out.jsonl", top_k=3)
    assert [row[name] for name in ("class", "class_2", "class_3")] == ["a", "b", "c"]
    assert row["confidence_2"] == 0.33333334


def test_printed_answers_have_as_many_classes(letters, tmp_path, capsys):
    table = save_table(tmp_path / "in.csv", ROWS[:1])
    assert main(letters, (table,), top_k=2, as_json=True) == 0
    (answer,) = json.loads(capsys.readouterr().out).values()
    assert answer["classes"] == ["a", "b"]


def test_bad_inputs_are_rows_and_the_others_are_answered(letters, tmp_path, capfd):
    table = tmp_path / "in.csv"
    table.write_bytes(b"id,review\n1,a\n2,stop!\n3\n4,\xff\n5,b\n")
    missing = tmp_path / "missing.txt"
    rows = written(letters, table, missing, output=tmp_path / "out.csv", status=1)
    assert [row["class"] for row in rows] == ["a", "", "", "", "b", ""]
    errors = [row["error"] for row in rows]
    assert "texts must not exclaim" in errors[1]
    assert errors[2] == "expected 2 cells (id, review). Received: 1"
    assert errors[3] == "not UTF-8 at byte 1"
    assert errors[5] == "No such file or directory"
    assert rows[1]["id"] == "2"
    said = capfd.readouterr().err
    assert "6 inputs" in said and "4 errors" in said
    assert f"{table}:3: " in said


def test_folders_and_globs_are_searched_in_sorted_order(letters, tmp_path):
    folder = tmp_path / "in"
    for name in ("b/2", "b/1", "a", "c.d/x", ".hidden/1", ".hidden"):
        path = folder / name
        if name != ".hidden":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * len(name))
    (folder / "b" / "up").symlink_to(folder)
    output = folder / "out.csv"
    for _ in range(2):  # The file of the first run is not an input of the second.
        rows = written(letters, folder, output=output, signature="files")
        found = [Path(row["file"]).relative_to(folder).as_posix() for row in rows]
        assert found == ["a", "b/1", "b/2", "c.d/x"]
        assert [row["size"] for row in rows] == ["1", "3", "3", "5"]
    (folder / "b" / "up").unlink()
    rows = written(letters, folder / "b*", output=tmp_path / "out.csv", signature="files")
    assert [Path(row["file"]).name for row in rows] == ["1", "2"]
    rows = written(letters, folder / "**" / "[2x]", output=output, signature="files")
    assert [Path(row["file"]).name for row in rows] == ["2", "x"]


def test_text_files_are_one_text_each(letters, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.txt").write_bytes(b"\xef\xbb\xbfaa\r\nb\r\n")
    (tmp_path / "in" / "2.txt").write_text("")
    output = tmp_path / "out.jsonl"
    first, second = written(letters, tmp_path / "in", output=output, status=1)
    assert (first["class"], first["confidence"], first["line"]) == ("a", 0.5, None)
    assert second["error"] == "empty"
    rows = written(letters, tmp_path / "in" / "1.txt", output=output, lines=True)
    assert [(row["line"], row["class"]) for row in rows] == [(1, "a"), (2, "b")]


def test_tables_name_files_from_their_own_folder(letters, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"12345")
    table = tmp_path / "in.csv"
    table.write_text("path,label\nimages/1.png,cat\nimages/2.png,dog\n")
    rows = written(letters, table, output=tmp_path / "out.csv", signature="files", status=1)
    assert [row["size"] for row in rows] == ["5", ""]
    assert [row["label"] for row in rows] == ["cat", "dog"]
    assert rows[1]["error"] == "No such file or directory"


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("in.parquet", {"image_bytes": b"123"}),
        ("in.parquet", {"image": {"bytes": b"123", "path": None}, "label": 2}),
        ("in.jsonl", {"image": {"b64": "MTIz"}}),
    ],
    ids=["bytes", "as in data sets of Hugging Face", "as in requests"],
)
def test_tables_hold_files_themselves(letters, name, cell, tmp_path):
    table = save_table(tmp_path / name, [cell])
    (row,) = written(letters, table, output=tmp_path / "out.csv", signature="files")
    assert (row["size"], row.get("label")) == ("3", "2" if "label" in cell else None)


def test_a_cell_without_a_file_is_an_error(letters, tmp_path):
    table = save_table(tmp_path / "in.jsonl", [{"path": 5}, {"path": {"b64": "?"}}])
    rows = written(letters, table, output=tmp_path / "out.csv", signature="files", status=1)
    assert rows[0]["error"] == "`path` must be bytes or the path of a file. Received: 5"
    assert rows[1]["error"]


def test_lines_are_numbered_where_rows_begin(letters, tmp_path):
    table = tmp_path / "in.csv"
    table.write_text('text,id\n"a\nb\nb",1\n\nc,2\n"a')
    rows = written(letters, table, output=tmp_path / "out.csv", status=1)
    assert [(row["line"], row["class"]) for row in rows] == [("2", "b"), ("6", "c"), ("", "")]
    assert "line 7: expected comma-separated text" in rows[2]["error"]


def test_names_of_files_need_not_be_utf8(letters, tmp_path, capfd):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt"))
    path.write_text("a!")
    for suffix in (".csv", ".jsonl", ".parquet"):
        (row,) = written(letters, path, output=tmp_path / f"out{suffix}", status=1)
        assert row["file"].endswith("\\udcff.txt" if suffix != ".jsonl" else "\udcff.txt")
    assert "\\udcff.txt: " in capfd.readouterr().err


def test_cells_of_json_have_types(letters, tmp_path):
    table = tmp_path / "in.jsonl"
    cells = ['"size": 1.5, "count": 2', '"size": [2], "count": 3', '"size": null, "count": 1']
    cells += ['"size": 1, "count": 1.5', '"size": 1, "count": true', '"size": 1']
    table.write_text("\n".join([*(f"{{{cell}}}" for cell in cells), "[1]", "{", ""]))
    rows = written(letters, table, output=tmp_path / "out.jsonl", signature="table", status=1)
    assert [row.get("total") for row in rows[:2]] == [3.0, 6.0]
    assert rows[2]["total"] != rows[2]["total"]
    assert "int64" in rows[3]["error"]
    assert rows[4]["error"] == "`count` must be int64. Received: True"
    assert rows[5]["error"].startswith("expected a column count. Received: the columns size.")
    assert all("expected a JSON object" in row["error"] for row in rows[6:])


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.json", b'[\n{"text": "a"}]', "Received: an array"),
        ("a.parquet", b"no", "expected a Parquet file"),
        ("a.csv", b"text,text\na,b\n", "columns of different names. Received: text, text"),
        ("a.tsv", b"text\n", "empty"),
        ("b.csv", b"x,y\n1,2\n3,4\n", "Fix: name the column with --columns text=COLUMN"),
        ("c.csv", b"\xff,y\n1,2\n", "the header is not UTF-8 at byte 0"),
    ],
)
def test_a_file_that_is_no_table_is_one_row(letters, name, content, error, tmp_path):
    (tmp_path / name).write_bytes(content)
    (row,) = written(letters, tmp_path / name, output=tmp_path / "out.csv", status=1)
    assert error in row["error"] and row["line"] == ""


def test_named_columns_are_read_instead(letters, tmp_path):
    table = save_table(tmp_path / "in.csv", [{"review": "a", "title": "bb"}])
    (row,) = written(letters, table, output=tmp_path / "out.jsonl", columns=("text=title",))
    assert (row["class"], row["review"]) == ("b", "a")
    (tmp_path / "lines.txt").write_text("cc\n")
    options = {"columns": ("text=title",), "lines": True}
    (row,) = written(letters, tmp_path / "lines.txt", output=tmp_path / "out.jsonl", **options)
    assert row["class"] == "c"


def test_shards_together_have_each_input_once(letters, tmp_path):
    table = tmp_path / "in.jsonl"
    table.write_text("".join(f'{{"text": "a", "id": {i}}}\n' for i in range(100)))
    parts = []
    for i in (1, 2, 3):
        rows = written(letters, table, output=tmp_path / "out.jsonl", shard=f"{i}/3")
        parts.append([row["id"] for row in rows])
    assert parts == [list(range(100))[i::3] for i in range(3)]
    # A machine without work writes the columns, for the files to be joined.
    assert written(letters, table, output=tmp_path / "out.csv", shard="101/101") == []
    assert (tmp_path / "out.csv").read_text().strip() == "file,line,class,confidence,error"


def test_few_inputs_are_read_ahead():
    read = count()
    endless = (Example(str(i), {"x": i}) for i in read)
    outcomes = answered(lambda columns: {"y": np.array(columns["x"])}, endless)
    assert [outcome["y"] for _, outcome in islice(outcomes, 100)] == list(range(100))
    outcomes.close()
    assert next(read) <= 100 + BATCH_SIZE * (AT_ONCE + 1)


def test_nothing_is_written_unless_all_is(letters, tmp_path, monkeypatch):
    table = save_table(tmp_path / "in.csv", ROWS)
    output = tmp_path / "out.csv"
    output.write_text("old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "count", fail)
    with pytest.raises(KeyboardInterrupt):
        main(letters, (table,), output=output)
    assert output.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_options_that_cannot_be_are_refused(letters, tmp_path, capsys):
    table = save_table(tmp_path / "in.csv", ROWS)

    def said(**options) -> str:
        assert main(letters, (table,), **options) == 1
        return capsys.readouterr().err

    assert "`output` must end in one of .csv" in said(output=tmp_path / "out.xlsx")
    assert "a folder that exists" in said(output=tmp_path / "no" / "out.csv")
    assert "`--json` is for printed answers" in said(output=tmp_path / "out.csv", as_json=True)
    for shard in ("0/2", "3/2", "1", "1/x"):
        assert f"`shard` must be I/N with I from 1 to N, such as 3/16. Received: {shard}" in said(
            shard=shard
        )
    assert "`top_k` must be from 1 to 3" in said(top_k=4)
    assert "`top_k` must be from 1 to 3" in said(top_k=0)
    assert "`top_k` is for signatures that return" in said(top_k=1, signature="table")
    assert "with one of the inputs text. Received: txt" in said(columns=("txt=review",))
    assert "`columns` must be INPUT=COLUMN" in said(columns=("review",))
    assert "`lines` is for signatures that take one text" in said(lines=True, signature="files")
    assert "one that takes count, size" in said(lines=True, signature="table")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "expected"),
    [
        (io.StringIO(), ["6 inputs, 0.1/s, 1 error\n"]),
        (Terminal(), [f"{i} inputs, 0.1/s, {i // 4} error" for i in range(4, 8)]),
    ],
    ids=["a file once per minute", "a terminal once per second"],
)
def test_progress_is_shown(terminal, expected, tmp_path):
    now = [0.0]
    progress = Progress(terminal, clock=lambda: now[0])
    for i in range(7):
        now[0] += 10.0
        progress.count(Example(str(i), {}), "bad" if i == 3 else {})
    counts = terminal.getvalue()
    assert all(line in counts for line in expected)
    assert counts.count("input") == (7 if terminal.isatty() else 1)
    progress.end(tmp_path)
    end = terminal.getvalue().removeprefix(counts).replace("\x1b[K", "")
    assert end == f"{tmp_path}: 7 inputs, 0.1/s, 1 error\n3: bad\n"
