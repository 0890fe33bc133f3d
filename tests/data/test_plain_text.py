"""Documents from every form of data, good and bad."""

import pytest

from data import plain_text
from data.sources import SPLITS, BadData

DOCUMENTS = [(f"Verse {i} .", f"Second line {i} .") for i in range(40)]
TEXT = "\n\n".join("\n".join(document) for document in DOCUMENTS)


def sizes(found):
    return [len(getattr(found, split)) for split in SPLITS]


def every(found):
    return [document for split in SPLITS for document in getattr(found, split)]


def faults_of(path, content=None, **options):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadData) as caught:
        plain_text.load(str(path), **options)
    return str(caught.value)


def test_python_docs_are_sections_of_prose():
    found = plain_text.load("python_docs")
    lines = [line for document in every(found) for line in document]
    assert min(sizes(found)) > 5 and len(set(lines)) == len(lines) > 1800
    assert not any("::=" in line or ">>>" in line or "===" in line for line in lines)


def test_wikitext_documents_start_at_their_titles(shared_data, tmp_path):
    for split, name in (("train", "valid"), ("test", "test")):
        (tmp_path / f"wiki.{split}.txt").symlink_to(shared_data / "wikitext2" / f"{name}.txt")
    found = plain_text.load(str(tmp_path))
    assert len(found.train) + len(found.validation) == 60
    first = next(document for document in every(found) if "gammarus" in document[0])
    assert first[0] == "= Homarus gammarus =" and first[2] == "= = Description = ="
    words = sum(len(line.split()) for document in found.test for line in document)
    assert words == len((shared_data / "wikitext2" / "test.txt").read_text("utf-8").split())


def test_wikitext_without_a_file_to_train_on_says_so(shared_data):
    message = faults_of(shared_data / "wikitext2")
    assert "a file with train in its name. Received: only valid.txt, test.txt." in message


def test_tiny_shakespeare_is_cut_at_blank_lines(shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    found = plain_text.load("tfds:tiny_shakespeare")
    assert found.train[0] == (
        "First Citizen:",
        "Before we proceed any further, hear me speak.",
    )
    assert sizes(found) == [6283, 441, 500]
    assert (
        found.remarks[0] == "Splits: train from train, validation from validation, test from test."
    )


def test_a_file_is_split_by_document_and_more_move_no_old_ones(tmp_path):
    path = tmp_path / "verses.txt"
    path.write_text(TEXT)
    before = plain_text.load(str(path))
    assert sorted(every(before)) == sorted(DOCUMENTS) and min(sizes(before)) > 0
    path.write_text("A new one .\n\n" + TEXT)
    after = plain_text.load(str(path))
    for split in SPLITS:
        kept = tuple(one for one in getattr(after, split) if one != ("A new one .",))
        assert kept == getattr(before, split)


def test_a_folder_of_files_is_read_whole(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text("\n\n".join("\n".join(one) for one in DOCUMENTS[:20]))
    (tmp_path / "deep" / "b.txt").write_text("\n\n".join("\n".join(one) for one in DOCUMENTS[20:]))
    (tmp_path / "notes.md").write_text("not read")
    assert sorted(every(plain_text.load(str(tmp_path)))) == sorted(DOCUMENTS)


def test_given_splits_are_kept(tmp_path):
    for name, content in (("train", TEXT), ("dev", "One .\n"), ("test", "Two .\n\n\nThree .")):
        (tmp_path / f"{name}.txt").write_text(content)
    found = plain_text.load(str(tmp_path))
    assert sizes(found) == [40, 1, 2] and found.test == (("Two .",), ("Three .",))
    (tmp_path / "test.txt").write_text("Verse 3 .\nSecond line 3 .\n\nTwo .")
    assert plain_text.load(str(tmp_path)).remarks == (
        "Splits: train from train.txt, validation from dev.txt, test from test.txt.",
        "Lines: 84.",
        "In test, 1 of 2 different documents is also in train, such as 'Verse 3 .'.",
    )


def test_sub_folders_are_splits_and_files_without_a_split_are_named(tmp_path):
    for name, content in (("train/a", TEXT), ("Dev/deep/b", "One ."), ("test/c", "Two .")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / f"{name}.txt").write_text(content)
    found = plain_text.load(str(tmp_path))
    assert sizes(found) == [40, 1, 1] and found.test == (("Two .",),)
    (tmp_path / "extra.txt").write_text("Three .")
    (tmp_path / "train" / "about.md").write_text("not read")
    found = plain_text.load(str(tmp_path))
    assert sizes(found) == [40, 1, 1]
    assert found.remarks == ("Not read: extra.txt, 1 file (.md).", "Lines: 82.")
    (tmp_path / "extra.txt").rename(tmp_path / "._extra.txt")
    found = plain_text.load(str(tmp_path))
    assert sizes(found) == [40, 1, 1] and found.remarks[0] == "Not read: 1 file (.md)."


def test_a_book_whose_name_holds_a_split_is_not_all_there_is(tmp_path):
    (tmp_path / "night_train.txt").write_text(TEXT)
    (tmp_path / "sea.txt").write_text(TEXT)
    assert "Received: a name without a split." in faults_of(tmp_path)


def test_faults_name_file_and_line_and_can_be_left_out(tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXT.encode() + b"\n\ncaf\xe9\nok")
    (tmp_path / "empty.txt").write_text(" \n")
    message = faults_of(tmp_path)
    assert (
        r"a.txt line 121: expected UTF-8 text. Received: bytes that are not UTF-8 in 'caf\udce9'"
        in message
    )
    assert (
        "empty.txt: expected some text. Received: an empty file." in message
        and "--skip-bad" in message
    )
    found = plain_text.load(str(tmp_path), skip_bad=True)
    assert found.skipped == 1 and len(every(found)) == 41


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the train split: expected at least one example. Received: no usable example"),
        ("only one", "Received: 0 of 1 example. Fix: add examples, or provide a split"),
    ],
)
def test_data_without_use_says_why_and_is_not_skipped(tmp_path, content, message):
    report = faults_of(tmp_path / "bad.txt", content, skip_bad=True)
    assert message in report and "--skip-bad" not in report


def test_data_that_is_not_there_says_what_is_expected(tmp_path):
    assert "or a built-in sample (python_docs)" in faults_of(tmp_path / "nowhere")
    assert "the train split: expected at least one example" in faults_of(tmp_path)


def test_sample_lines_are_spread_over_the_documents_and_are_no_titles():
    long = " ".join(["word"] * 9)
    documents = [("A title", *[f"{long} {name} {i}" for i in range(4)]) for name in "abcd"]
    lines = plain_text.sample_lines(documents, count=4)
    assert lines == [f"{long} {name} 0" for name in "abcd"]
    assert plain_text.sample_lines([("Short", "lines")]) == ["Short", "lines"]


def test_tfds_without_texts_is_refused(shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    with pytest.raises(BadData, match="expected a feature with the name text, or only one"):
        plain_text.load("tfds:fashion_mnist")


WHOLE = "  To be,\n\n\tor not \U0001f600 to be:\nthat is  the question.\n" * 30


def test_a_whole_text_keeps_all_its_characters_and_its_end_is_held_out(tmp_path):
    (tmp_path / "play.txt").write_text(WHOLE, "utf-8")
    found = plain_text.load(str(tmp_path / "play.txt"), whole=True)
    assert sizes(found) == [1, 1, 1]
    parts = ["\n".join(document) for document in every(found)]
    assert "".join(parts) == WHOLE
    assert [len(part) / len(WHOLE) for part in parts] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert all(part.endswith("\n") for part in parts)
    assert "Cut from the end of each text: validation and test, about 10 % each." in found.remarks


@pytest.mark.parametrize("text", ["to be or not to be " * 50, "x" * 1000])
def test_a_text_of_one_line_is_cut_inside_it(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    found = plain_text.load(str(tmp_path / "a.txt"), whole=True)
    parts = [document[0] for document in every(found)]
    assert "".join(parts) == text
    assert all(len(part) >= 0.08 * len(text) for part in parts)


def test_only_the_missing_split_is_cut_from_the_text_to_train_on(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_text(f"{split} line\n" * 100)
    found = plain_text.load(str(tmp_path), whole=True)
    assert [len(document) for document in every(found)] == [92, 10, 101]


def test_many_whole_texts_are_not_cut(tmp_path):
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"text {number}\n\nmore")
    found = plain_text.load(str(tmp_path), whole=True)
    assert sum(sizes(found)) == 40 and all(len(document) == 3 for document in every(found))


def test_jsonl_has_a_text_per_line(tmp_path):
    rows = [f'{{"text": "Verse {number} .\\n\\nMore.", "id": {number}}}' for number in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    found = plain_text.load(str(tmp_path / "a.jsonl"), whole=True)
    assert sum(sizes(found)) == 40 and len(every(found)[0]) == 3
    assert sum(sizes(plain_text.load(str(tmp_path / "a.jsonl")))) > 40  # Cut at blank lines.


@pytest.mark.parametrize(
    ("line", "received"),
    [
        ('{"content": "a"}', "the fields content"),
        ('{"text": 5}', "the text 5"),
        ('{"text": " "}', "the text ' '"),
        ('["a"]', r"['a']"),
        ('{"text": "a"', "invalid JSON"),
    ],
)
def test_a_line_without_a_text_is_named(tmp_path, line, received):
    message = faults_of(tmp_path / "a.jsonl", '{"text": "good"}\n' + line + "\n")
    assert "a.jsonl line 2: expected an object with a text" in message and received in message
