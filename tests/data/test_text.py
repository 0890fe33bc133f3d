"""Texts and pairs with classes from every form of data, good and bad."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf

from data import text
from data.sources import SPLITS, BadData, Evaluated

ROWS = [(f"the {i}th film was {'good' if i % 2 else 'bad'}", "01"[i % 2]) for i in range(60)]


def contents(found):
    """All texts and class names of each split, in order."""
    together = {}
    for split in SPLITS:
        texts, labels = next(getattr(found, split).batch(100_000).as_numpy_iterator())
        together[split] = [
            (tuple(part.decode() for part in row), found.classes[label])
            for row, label in zip(texts, labels, strict=True)
        ]
    return together


def sizes(found):
    return [len(getattr(found, split)) for split in SPLITS]


def faults_of(path, content=None, **options):
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(BadData) as caught:
        text.load(str(path), **options)
    return str(caught.value)


def lines(rows, header=None, separator="\t"):
    return "\n".join(separator.join(row) for row in [*([header] if header else []), *rows])


def test_python_docs_have_four_classes_and_no_sentence_twice():
    found = text.load("python_docs")
    assert found.classes == ("data model", "expressions", "statements", "types")
    every = [texts for examples in contents(found).values() for texts, _ in examples]
    assert len(set(every)) == len(every) > 1500
    assert min(sizes(found)) > 150
    assert {label for _, label in contents(found)["test"]} == set(found.classes)


def test_examples_are_strings_and_int32_labels_in_a_stable_order():
    first, again = text.load("python_docs"), text.load("python_docs")
    assert first.train.element_spec == (tf.TensorSpec((1,), tf.string), tf.TensorSpec((), tf.int32))
    assert contents(first) == contents(again)


def test_sst2_loads_without_a_header(shared_data):
    found = text.load(str(shared_data / "sst2"))
    assert sizes(found) == [6920, 872, 1821] and found.classes == ("0", "1")
    assert (("one long string of cliches",), "0") in contents(found)["validation"]


def test_msrp_loads_as_pairs_with_quotes_as_they_are(shared_data):
    found = text.load(str(shared_data / "msrp"))
    assert sizes(found) == [3576, 500, 1725] and found.classes == ("0", "1")
    assert found.train.element_spec[0].shape == (2,)
    pairs = [texts for texts, _ in contents(found)["train"]]
    assert any(
        first.startswith('Amrozi accused his brother, whom he called "the') for first, _ in pairs
    )
    single = text.load(str(shared_data / "msrp"), text_column="#2 String")
    assert single.train.element_spec[0].shape == (1,)


def test_trec_has_two_kinds_of_labels(shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    coarse = text.load("tfds:trec")
    assert sizes(coarse) == [4907, 545, 500] and "ABBR" in coarse.classes
    fine = text.load("tfds:trec", label_column="label-fine")
    assert len(fine.classes) == 47 and next(iter(fine.test))[1].dtype == tf.int32
    with pytest.raises(
        BadData, match=r"a column 'label'\. Received: the columns label-coarse, label"
    ):
        text.load("tfds:trec", label_column="label")
    some = text.load("tfds:trec", skip_bad=True, evaluated=Evaluated(("ENTY", "HUM")))
    assert some.other == {} and len(some.test) == 159
    assert {int(label) for _, label in some.split("test")} == {0, 1}


def test_clinc_names_its_intents_and_keeps_what_is_out_of_scope_apart(shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    found = text.load("tfds:clinc_oos")
    assert sizes(found) == [15000, 3000, 4500] and len(found.classes) == 150
    assert {name: len(rows) for name, rows in found.other.items()} == {
        "train_oos": 100,
        "validation_oos": 100,
        "test_oos": 1000,
    }
    assert {int(label) for _, label in found.other["test_oos"]} == {-1}
    texts, label = next(iter(found.train))
    assert b"flight" in texts.numpy()[0] and found.classes[label] == "flight_status"


def test_tfds_pairs_are_found_and_a_test_split_without_labels_is_put_aside(store):
    import tensorflow_datasets as tfds

    rows = [{"sentence1": f"a {i}", "sentence2": f"b {i}", "label": i % 2} for i in range(30)]
    store(
        {
            "sentence1": tfds.features.Text(),
            "sentence2": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["no", "yes"]),
        },
        train=rows,
        validation=rows[:5],
        test=[{**row, "label": -1} for row in rows],
    )
    found = text.load("tfds:tiny")
    assert sizes(found) == [27, 5, 3] and found.classes == ("no", "yes")
    assert contents(found)["validation"][1] == (("a 1", "b 1"), "yes")
    assert found.other == {}
    assert found.remarks == (
        "Splits: train from train, validation from validation.",
        "Cut from the end of train: test, 10 %.",
        "Splits that are not read: test.",
        "Columns: text from 'sentence1', pair from 'sentence2', label from 'label'.",
        "Classes (train, validation, test): no (14, 3, 1), yes (13, 2, 2).",
    )


def test_tfds_rows_without_a_label_are_named_or_left_out(store):
    import tensorflow_datasets as tfds

    rows = [{"text": f"a {i}", "label": -1 if i in (0, 7) else i % 2} for i in range(30)]
    label = tfds.features.ClassLabel(names=["no", "yes"])
    store({"text": tfds.features.Text(), "label": label}, train=rows, validation=rows, test=rows)
    with pytest.raises(
        BadData, match=r"6 problems(.|\n)*test row 7: .* Received: no label \(-1\)\."
    ):
        text.load("tfds:tiny")
    found = text.load("tfds:tiny", skip_bad=True)
    assert sizes(found) == [28, 28, 28] and found.skipped == 6
    assert contents(found)["test"][0] == (("a 1",), "yes")


def test_tfds_label_without_training_examples_is_named(store):
    import tensorflow_datasets as tfds

    rows = [{"text": f"a {i}", "topic": "xy"[i % 2]} for i in range(10)]
    late = [{"text": "b", "topic": "z"}, {"text": "c", "topic": "y"}]
    store({"text": tfds.features.Text(), "topic": tfds.features.Text()}, train=rows, test=late)
    with pytest.raises(BadData, match=r"test row 0: expected one of .* Received: a class without"):
        text.load("tfds:tiny")
    found = text.load("tfds:tiny", skip_bad=True)
    assert contents(found)["test"] == [(("c",), "y")] and found.skipped == 1


def test_tfds_labels_may_be_true_or_false_or_numbers_but_not_fractions(store):
    import tensorflow_datasets as tfds

    rows = [{"text": f"{i}", "right": i % 3 == 0, "stars": i % 3, "share": 0.5} for i in range(30)]
    store(
        {
            "text": tfds.features.Text(),
            **{"right": np.bool_, "stars": np.int64, "share": np.float64},
        },
        train=rows,
        dev=rows[:6],
    )
    found = text.load("tfds:tiny", label_column="right")
    assert found.classes == ("false", "true") and sizes(found) == [27, 6, 3]
    labels = [label for _, label in contents(found)["validation"]]
    assert labels == ["true", "false", "false", "true", "false", "false"]
    stars = text.load("tfds:tiny", label_column="stars")
    assert [label for _, label in contents(stars)["validation"]] == ["0", "1", "2"] * 2
    with pytest.raises(BadData, match="features with texts and one class each"):
        text.load("tfds:tiny", label_column="share")


def test_tfds_without_texts_is_refused(shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    with pytest.raises(BadData, match=r"one class each\. Received: the features image: Image"):
        text.load("tfds:fashion_mnist")


@pytest.mark.parametrize(
    "form",
    [
        "csv",
        "tsv",
        "jsonl",
        "json",
        "bare.csv",
        "swapped.tsv",
        "folder",
        "semicolons.csv",
        "utf16.csv",
    ],
)
def test_all_forms_give_the_same_examples(tmp_path, form):
    quoted = [(f'"{sentence}"', label) for sentence, label in ROWS]
    path = tmp_path / f"films.{form}"
    if form == "csv":
        path.write_text("\ufeff" + lines(quoted, ("Review", "Sentiment"), ","), encoding="utf-8")
    elif form in ("semicolons.csv", "utf16.csv"):
        encoding = "utf-16" if form == "utf16.csv" else "utf-8"
        path.write_text(lines(quoted, ("text", "label"), ";"), encoding=encoding)
    elif form == "json":
        rows = [{"label": int(label), "text": sentence} for sentence, label in ROWS]
        path.write_text(json.dumps(rows, indent=2))
    elif form == "bare.csv":
        path.write_text(lines(quoted, separator=","))
    elif form == "tsv":
        path.write_bytes(lines(ROWS, ("sentence", "label")).replace("\n", "\r\n").encode())
    elif form == "swapped.tsv":
        path.write_text(lines([row[::-1] for row in ROWS]) + "\n\n")
    elif form == "jsonl":
        rows = [{"label": int(label), "text": sentence} for sentence, label in ROWS]
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        for i, (sentence, label) in enumerate(ROWS):
            (path / label).mkdir(parents=True, exist_ok=True)
            (path / label / f"{i}.txt").write_text(sentence + "\n")
    found = contents(text.load(str(path)))
    together = [example for split in SPLITS for example in found[split]]
    assert sorted(together) == sorted(((sentence,), label) for sentence, label in ROWS)
    (tmp_path / "same.tsv").write_text(lines(ROWS, ("text", "label")))
    assert found == contents(text.load(str(tmp_path / "same.tsv")))


def test_more_rows_move_no_old_ones_and_equal_texts_stay_together(tmp_path):
    table = tmp_path / "films.tsv"
    more = [(f"{row} {part}", label) for part in range(12) for row, label in ROWS]
    table.write_text(lines([*ROWS, *more[:500]], ("text", "label")))
    before = contents(text.load(str(table)))
    table.write_text(lines([*ROWS, *more, (ROWS[3][0], "0")], ("text", "label")))
    after = contents(text.load(str(table)))
    for split in SPLITS:
        assert set(before[split]) <= set(after[split])
    held = [split for split in SPLITS for texts, _ in after[split] if texts[0] == ROWS[3][0]]
    assert len(held) == 2 and len(set(held)) == 1


def test_quoted_cells_may_hold_commas_quotes_and_line_breaks(tmp_path):
    table = tmp_path / "films.csv"
    odd = '"He said ""no"",\nthen left",0\n'
    table.write_text("text,label\n" + odd + lines(ROWS, separator=",") + "\nlast")
    assert "films.csv line 64: expected 2 fields (text, label). Received: 1 field." in faults_of(
        table
    )
    every = contents(text.load(str(table), skip_bad=True))
    assert (('He said "no",\nthen left',), "0") in [row for rows in every.values() for row in rows]


def test_columns_can_be_chosen_and_two_make_a_pair(tmp_path):
    table = tmp_path / "films.jsonl"
    rows = [
        {"title": f"film {i}", "body": body, "kind": kind} for i, (body, kind) in enumerate(ROWS)
    ]
    table.write_text("\n".join(json.dumps(row) for row in rows))
    columns = {"text_column": "title", "pair_column": "body", "label_column": "kind"}
    found = text.load(str(table), **columns)
    assert (("film 0", ROWS[0][0]), "0") in contents(found)["train"]


def test_the_second_of_a_pair_or_the_label_is_not_the_text(tmp_path):
    table = tmp_path / "films.tsv"
    table.write_text(
        lines([(f"film {i}", *row) for i, row in enumerate(ROWS)], ("a", "text", "label"))
    )
    assert "expected a column 'text' or a similar name" in faults_of(table, pair_column="text")
    found = text.load(str(table), text_column="a", pair_column="text")
    assert (("film 0", ROWS[0][0]), "0") in contents(found)["train"]
    table.write_text(lines([(*row, f"{row[0]}!") for row in ROWS], ("text", "label", "review")))
    found = text.load(str(table), pair_column="text")
    assert ((f"{ROWS[0][0]}!", ROWS[0][0]), "0") in contents(found)["train"]


def test_a_cell_may_be_as_long_as_a_book(tmp_path):
    table = tmp_path / "films.csv"
    table.write_text(lines([*ROWS, ("word " * 50_000, "0")], ("text", "label"), ","))
    every = contents(text.load(str(table)))
    assert max(len(part) for rows in every.values() for (part,), _ in rows) == 249_999


def test_each_text_has_its_line(tmp_path):
    table = tmp_path / "films.tsv"
    table.write_text(lines(ROWS, ("text", "label")))
    written = table.read_text().splitlines()
    found = text.load(str(table))
    for split in SPLITS:
        for number, ((content,), _) in enumerate(getattr(found, split).as_numpy_iterator()):
            name, line = found.origin(split, number).split(" line ")
            assert name == "films.tsv" and written[int(line) - 1].startswith(content.decode())
    assert text.load("python_docs").origin("test", 0) == ""


def test_a_column_of_splits_is_used(tmp_path):
    table = tmp_path / "films.tsv"
    splits = ["train", "train", "train", "train", "dev", "test"]
    rows = [(*row, splits[i % 6]) for i, row in enumerate(ROWS)]
    for name in ("split", " Split", "SPLIT"):
        table.write_text(lines(rows, ("text", "label", name)))
        assert sizes(text.load(str(table))) == [40, 10, 10]
    message = faults_of(table, lines([*rows, ("x", "0", "late")], ("text", "label", "split")))
    assert (
        "films.tsv line 62: expected train, validation or test. Received: the split 'late'."
        in message
    )


def test_given_splits_are_kept_and_a_missing_one_is_cut_from_train(tmp_path):
    (tmp_path / "train.tsv").write_text(lines(ROWS, ("text", "label")))
    (tmp_path / "test.tsv").write_text(lines(ROWS[:4], ("text", "label")))
    found = text.load(str(tmp_path))
    assert sizes(found)[2] == 4 and sum(sizes(found)) == 64 and sizes(found)[1] > 0
    (tmp_path / "valid.tsv").write_text(lines(ROWS[:2], ("text", "label")))
    assert sizes(text.load(str(tmp_path))) == [60, 2, 4]
    (tmp_path / "dev.csv").write_text("")
    assert "expected one file per split. Received: both dev.csv and valid.tsv." in faults_of(
        tmp_path
    )


def test_what_stands_beside_the_files_of_the_splits_is_named(tmp_path):
    for name in ("Training.csv", "DEV.csv", "holdout.csv", "more.csv", "labels.md", "notes.md"):
        (tmp_path / name).write_text(lines(ROWS, ("text", "label"), ","))
    (tmp_path / "old").mkdir()
    found = text.load(str(tmp_path))
    assert sizes(found) == [60, 60, 60]
    assert found.remarks[:2] == (
        "Splits: train from Training.csv, validation from DEV.csv, test from holdout.csv.",
        "Not read: more.csv, old/, 2 files (.md).",
    )


def test_what_was_read_is_said_and_texts_in_two_splits_are_named(tmp_path):
    rows = [(f"{i}", *row) for i, row in enumerate(ROWS)]
    (tmp_path / "train.tsv").write_text(lines(rows, ("id", "text", "label")))
    (tmp_path / "dev.tsv").write_text(lines([("0", "new", "0")], ("id", "text", "label")))
    (tmp_path / "test.tsv").write_text(lines(rows[:2] + rows[:1], ("id", "text", "label")))
    assert text.load(str(tmp_path)).remarks == (
        "Splits: train from train.tsv, validation from dev.tsv, test from test.tsv.",
        "Columns: text from 'text', label from 'label'. Not read: id.",
        "Classes (train, validation, test): 0 (30, 1, 2), 1 (30, 0, 1).",
        f"In test, 2 of 2 different examples are also in train, such as {ROWS[0][0]!r}.",
    )


def test_a_folder_of_tables_without_splits_says_what_to_do(tmp_path):
    (tmp_path / "films.csv").write_text(lines(ROWS, ("text", "label"), ","))
    assert (
        "expected files with train, dev and test in their names. Received: only films.csv. "
        "Fix: pass one of them as --data, or rename them." in faults_of(tmp_path)
    )


def test_folders_of_a_class_may_lie_below_splits(tmp_path):
    for i, (sentence, label) in enumerate(ROWS):
        path = tmp_path / ("test" if i < 10 else "train") / label / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sentence)
    assert sizes(text.load(str(tmp_path)))[2] == 10
    (tmp_path / "train" / "0" / "bad.txt").write_bytes(b"caf\xe9")
    (tmp_path / "train" / "0" / "none.txt").write_text(" \n")
    message = faults_of(tmp_path)
    assert "train/0/bad.txt: expected UTF-8 text. Received: bytes that are not UTF-8" in message
    assert "train/0/none.txt: expected some text. Received: an empty text." in message
    assert text.load(str(tmp_path), skip_bad=True).skipped == 2


def test_faults_of_a_table_are_reported_at_once_and_can_be_left_out(tmp_path):
    table = tmp_path / "films.tsv"
    bad = [("", "1"), ("no label", ""), ("one",), ("a", "b", "c"), ("caf\udce9", "0")]
    content = lines([*bad, *ROWS], ("text", "label")).encode(errors="surrogateescape")
    message = faults_of(table, content)
    for line in (
        "5 problems",
        "films.tsv line 2: expected some text. Received: an empty text.",
        "films.tsv line 3: expected the name of a class. Received: no label.",
        "films.tsv line 4: expected 2 fields (text, label). Received: 1 field.",
        "films.tsv line 5: expected 2 fields (text, label). Received: 3 fields.",
        r"line 6: expected UTF-8 text. Received: bytes that are not UTF-8 in 'caf\udce90'",
        "--skip-bad",
    ):
        assert line in message
    found = text.load(str(table), skip_bad=True)
    assert found.skipped == 5 and sum(sizes(found)) == 60


def test_faults_of_json_lines_name_their_line(tmp_path):
    table = tmp_path / "films.jsonl"
    good = [json.dumps({"text": sentence, "label": label}) for sentence, label in ROWS]
    bad = ['{"text": "cut', "[1]", '{"text": "a"}', '{"text": 3, "label": "0"}']
    odd = [
        '{"text": "a", "label": ["0"]}',
        '{"text": "a", "label": NaN}',
        '{"text": "a", "label": null}',
    ]
    message = faults_of(table, "\n".join([*good, *bad, *odd]))
    for line in (
        "films.jsonl line 61: expected a JSON object with text and label. Received: invalid JSON (",
        "films.jsonl line 62: expected a JSON object with text and label. Received: [1].",
        "films.jsonl line 63: expected the name of a class. Received: no label.",
        "films.jsonl line 64: expected a text in quotes. Received: 3.",
        "films.jsonl line 65: expected the name of a class. Received: the label ['0'].",
        "films.jsonl line 66: expected the name of a class. Received: no label.",
        "films.jsonl line 67: expected the name of a class. Received: no label.",
    ):
        assert line in message
    found = text.load(str(table), skip_bad=True)
    assert found.skipped == 7 and found.classes == ("0", "1")


def test_measurements_are_no_classes_but_few_fractions_are(tmp_path):
    table = tmp_path / "films.csv"
    rows = [(sentence, f"{i / 2 % 3}") for i, (sentence, _) in enumerate(ROWS)]
    table.write_text(lines(rows, ("text", "score"), ","))
    found = text.load(str(table), label_column="score")
    assert found.classes == ("0.0", "0.5", "1.0", "1.5", "2.0", "2.5")
    rows = [(sentence, f"{i / 7:.3f}") for i, (sentence, _) in enumerate(ROWS)]
    message = faults_of(table, lines(rows, ("text", "score"), ","), label_column="score")
    assert (
        "films.csv: expected names of classes. Received: floating-point numbers in the column "
        "'score', such as 0.143. Fix: this app classifies: turn the numbers into classes, or name "
        "another --label-column." in message
    )


def test_a_table_in_latin_1_is_one_clear_error(tmp_path):
    content = lines([(f"{text} è", label) for text, label in ROWS], ("text", "label")).encode(
        "latin1"
    )
    message = faults_of(tmp_path / "films.tsv", content)
    assert "1 problem:" in message and "Fix: convert it, for example with iconv" in message
    (tmp_path / "films" / "0").mkdir(parents=True)
    (tmp_path / "films" / "0" / "a.txt").write_bytes("è é à".encode("latin1"))
    assert "0/a.txt: expected UTF-8 text. Received: text in another encoding" in faults_of(
        tmp_path / "films"
    )


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "expected one line per example. Received: no examples."),
        ("text,label\n", {}, "Received: no examples."),
        (
            "text,label\na,0\nb,0",
            {},
            "expected at least two classes. Received: only the class '0'.",
        ),
        ("a,b,c\nx,y,0", {}, "a column 'text' or a similar name. Received: the columns a, b, c."),
        ("body,label\nx,0", {}, "Received: the columns body, label. Fix: pass --text-column."),
        ("text,kind,n\nx,0,1", {}, "the columns text, kind, n. Fix: pass --label-column."),
        (
            "text,label\nx,0",
            {"text_column": "body"},
            "expected a column 'body'. Received: the columns text, label.",
        ),
        ("text,label\nx,0", {"pair_column": "b"}, "Fix: pass one of them as --pair-column."),
        ("a,b\nc,d\ne,f", {}, "no header, and it is not clear which column is the label"),
        (
            "body,kind\nx,0\ny,1\nz,0\nw,1\nv,1\nu,0",
            {},
            "or unknown column names: ['body', 'kind']",
        ),
        (
            'text,label\nx,0\n"y,1\nz,0',
            {},
            "Received: unexpected end of data in the row that starts",
        ),
        (b"t\xe9xte,label\nx,0", {}, "bad.csv line 1: expected UTF-8 text."),
    ],
)
def test_data_without_use_says_why_and_is_not_skipped(tmp_path, content, options, message):
    for skip_bad in (False, True):
        report = faults_of(tmp_path / "bad.csv", content, skip_bad=skip_bad, **options)
        assert message in report and "--skip-bad" not in report


def test_class_without_training_examples_is_reported_or_left_out(tmp_path):
    (tmp_path / "train.tsv").write_text(lines(ROWS, ("text", "label")))
    (tmp_path / "test.tsv").write_text(lines([*ROWS[:4], ("x", "2")], ("text", "label")))
    assert "class '2': expected at least one training example. Received: 1 example" in faults_of(
        tmp_path
    )
    found = text.load(str(tmp_path), skip_bad=True)
    assert found.classes == ("0", "1") and found.skipped == 1


def test_pairs_in_one_split_only_are_refused(tmp_path):
    (tmp_path / "train.tsv").write_text(lines(ROWS, ("text", "label")))
    pairs = [("a", "b", "0"), ("c", "d", "1")]
    (tmp_path / "test.tsv").write_text(lines(pairs, ("sentence1", "sentence2", "label")))
    assert "the splits: expected pairs in all splits or in none" in faults_of(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "note.md", "empty", "halves"])
def test_data_that_is_not_there_says_what_is_expected(tmp_path, name):
    (tmp_path / "note.md").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "halves").mkdir()
    (tmp_path / "halves" / "test.csv").write_text("text,label\na,0")
    expected = (
        "(at least two classes|a .csv, .tsv, .jsonl or .json file|a file with train in its name)"
    )
    assert re.search(f"expected {expected}", faults_of(tmp_path / name))


def test_numbers_in_place_of_texts_and_classes_are_named(tmp_path):
    rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(30)]
    rows[3]["text"] = 5
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        BadData, match=r"a\.jsonl line 4: expected a text in quotes\. Received: 5\."
    ):
        text.load(str(tmp_path / "a.jsonl"))
    lines = [f"text {number},{7 * number}" for number in range(30)]
    (tmp_path / "a.csv").write_text("\n".join(["text,price", *lines]))
    with pytest.raises(BadData, match=r"30 different numbers in the column 'price', such as 0\."):
        text.load(str(tmp_path / "a.csv"), label_column="price")
