"""Texts and translations from every form of data, good and bad."""

import gzip
import json

import pytest

from data import parallel_texts
from data.number_words import COUNT, english, german
from data.sources import SPLITS, BadData
from data.text_files import read_text

EN = [f"This is the sentence of number {i}." for i in range(60)]
DE = [f"Dies ist der Satz Nummer {i}, der zweite." for i in range(60)]


def write(path, lines):
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def both(folder, name="train", en=EN, de=DE, end=""):
    folder.mkdir(exist_ok=True)
    write(folder / f"{name}.en{end}", en)
    write(folder / f"{name}.de{end}", de)
    return folder


def every(found):
    return {pair for split in SPLITS for pair in found.split(split)}


def fault(data, *languages, **options):
    with pytest.raises(BadData) as caught:
        parallel_texts.load(str(data), *languages, **options)
    return str(caught.value)


def test_the_sample_has_each_number_once():
    found = parallel_texts.load("number_words")
    assert sum(len(found.split(split)) for split in SPLITS) == len(every(found)) == COUNT
    assert ("zweiundvierzig", "forty-two") in every(found)
    back = parallel_texts.load("number_words", "en")
    assert back.languages == ("en", "de") and ("forty-two", "zweiundvierzig") in every(back)


@pytest.mark.parametrize(
    ("number", "words", "worte"),
    [
        (0, "zero", "null"),
        (1, "one", "eins"),
        (21, "twenty-one", "einundzwanzig"),
        (101, "one hundred and one", "einhunderteins"),
        (116, "one hundred and sixteen", "einhundertsechzehn"),
        (7070, "seven thousand and seventy", "siebentausendsiebzig"),
        (1200, "one thousand two hundred", "eintausendzweihundert"),
        (
            201_031,
            "two hundred and one thousand and thirty-one",
            "zweihunderteintausendeinunddreißig",
        ),
    ],
)
def test_numbers_are_written_as_people_write_them(number, words, worte):
    assert (english(number), german(number)) == (words, worte)
    with pytest.raises(ValueError, match=r"`number` must be in \[0, 1,000,000\)"):
        english(1_000_000)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("named", ["folder", "prefix", "file"])
def test_two_files_of_one_name_are_read(tmp_path, named, end):
    folder = both(tmp_path / "corpus", "things", end=end)
    named = {"folder": folder, "prefix": folder / "things", "file": folder / f"things.de{end}"}[
        named
    ]
    found = parallel_texts.load(str(named), target="de")
    assert found.languages == ("en", "de") and every(found) == set(zip(EN, DE, strict=True))
    assert found.origin("test", 0).startswith(f"things.de{end} line ")


def test_splits_are_in_the_beginnings_of_names(tmp_path):
    folder = both(tmp_path / "corpus")
    both(folder, "val", EN[:3], DE[:3])
    both(folder, "test_2016_flickr", EN[3:5], DE[3:5])
    write(folder / "train.fr", EN)
    write(folder / "notes.txt", ["hello"])
    found = parallel_texts.load(str(folder), "en", "de")
    assert [len(found.split(split)) for split in SPLITS] == [60, 3, 2]
    assert "Splits: train from train, validation from val, test from test_2016_flickr." in (
        found.remarks
    )
    assert "In validation, 3 of 3 different source texts are also in train" in str(found.remarks)
    assert {"Not read: notes.txt.", "Not read: train.fr."} <= {*found.remarks}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "fields", "unnamed"])
def test_tables_are_read(tmp_path, suffix):
    pairs = list(zip(EN, DE, strict=True))
    translations = [{"translation": {"en": en, "de": de}} for en, de in pairs]
    name, text = {
        "csv": ("a.csv", "en,de\n" + "".join(f'"{en}","{de}"\n' for en, de in pairs)),
        "tsv": ("a.tsv", "en\tnote\tde\n" + "".join(f"{en}\tx\t{de}\n" for en, de in pairs)),
        "jsonl": ("a.jsonl", "\n".join(map(json.dumps, translations))),
        "json": ("a.json", json.dumps(translations)),
        "fields": ("a.jsonl", "\n".join(json.dumps(one["translation"]) for one in translations)),
        "unnamed": ("a.tsv", "".join(f"{en}\t{de}\n" for en, de in pairs)),
    }[suffix]
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = parallel_texts.load(str(tmp_path / name))
    assert every(found) == set(pairs)
    assert found.languages == (("source", "target") if suffix == "unnamed" else ("en", "de"))
    assert ("Not read: note." in str(found.remarks)) == (suffix == "tsv")


def test_tfds_with_translations_is_read(store):
    import tensorflow_datasets as tfds

    rows = [{"en": en, "de": de} for en, de in zip(EN, DE, strict=True)]
    store({"en": tfds.features.Text(), "de": tfds.features.Text()}, train=rows)
    found = parallel_texts.load("tfds:tiny", "de", "en")
    assert every(found) == set(zip(DE, EN, strict=True))
    message = fault("tfds:tiny", "de", "fr")
    assert "expected the language fr" in message and "Received: the languages" in message


def test_tfds_without_translations_is_refused(shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    assert "a feature with texts for each of two languages" in fault("tfds:tiny_shakespeare")


def test_unequal_numbers_of_lines_name_the_first_pair_that_is_shifted(tmp_path):
    short, long = "Yes.", "This sentence is much longer than the other one is."
    en = [long if i % 3 else short for i in range(60)]
    de = [one.replace("Yes", "Ja") for one in en]
    folder = both(tmp_path / "corpus", en=en, de=[*de[:22], *de[23:]])
    message = fault(folder)
    assert "train.de and train.en: expected files with equal numbers of lines" in message
    assert "Received: 59 and 60 lines; line 23 looks like the first that is shifted" in message
    assert "skip-bad" not in message


@pytest.mark.parametrize(
    ("line", "received"),
    [
        ((EN[4], ""), "train.de line 5: expected some text in both languages. Received: an empty"),
        (("A word.", "A word."), "train.de line 5: expected a text and its translation. Received"),
        (
            ("A b.", "Satz " * 20),
            "lengths that differ by a factor of at most 9. Received: texts of",
        ),
    ],
)
def test_faults_of_pairs_are_named_by_file_and_line(tmp_path, line, received):
    en, de = EN.copy(), DE.copy()
    en[4], de[4] = line
    folder = both(tmp_path / "corpus", en=en, de=de)
    assert received in fault(folder)
    found = parallel_texts.load(str(folder), skip_bad=True)
    assert found.skipped == 1 and len(every(found)) == 59


def test_languages_that_are_not_there_are_refused_with_those_that_are(tmp_path):
    folder = both(tmp_path / "corpus")
    assert "Received: the languages de, en." in fault(folder, "en", "fr")
    assert "expected two languages. Received: en twice" in fault(folder, "en", "en")
    write(folder / "train.fr", EN)
    assert "Received: the languages de, en, fr. Fix: choose two of them" in fault(folder)
    (tmp_path / "one.jsonl").write_text('{"en": "a", "comment": "b"}')
    assert "a column for each of two languages" in fault(tmp_path / "one.jsonl")


def test_other_data_is_refused(tmp_path):
    assert "no such file or folder" in fault(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "Received: an empty folder" in fault(tmp_path / "empty")
    both(tmp_path / "late", "test")
    both(tmp_path / "late", "dev")
    assert "files with train in their names" in fault(tmp_path / "late")
    (tmp_path / "bad.jsonl").write_text('{"translation": "a"}\n7\n{"en": "a\n')
    message = fault(tmp_path / "bad.jsonl")
    assert all(f"bad.jsonl line {number}: " in message for number in (1, 2, 3)), message
    assert "3 problems" in message and "no pairs" not in message


@pytest.mark.parametrize("name", ["metadata.json", "data.csv", ".hidden.json", "README.md"])
def test_other_files_beside_two_languages_are_not_read_but_named(tmp_path, name):
    folder = both(tmp_path / "corpus")
    (folder / name).write_text("{}")
    (folder / "README.txt").write_text("Notes")
    found = parallel_texts.load(str(folder))
    assert found.languages == ("de", "en") and len(every(found)) == 60
    said = " ".join(found.remarks)
    assert "README.txt" in said and (name in said or name.startswith("."))


def test_notes_of_one_name_beside_a_table_are_not_translations(tmp_path):
    rows = ["en\tde", *(f"{en}\t{de}" for en, de in zip(EN, DE, strict=True))]
    write(tmp_path / "train.tsv", rows)
    write(tmp_path / "README.md", ["Notes"])
    write(tmp_path / "README.txt", ["Notes"])
    assert parallel_texts.load(str(tmp_path)).languages == ("en", "de")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_carriage_return_inside_a_line_does_not_end_it(tmp_path, end):
    en = [*EN[:7], "One line\rwith a mark inside.", *EN[8:]]
    for name, lines in (("en", en), ("de", DE)):
        (tmp_path / f"train.{name}").write_bytes(end.join([*lines, ""]).encode())
    pairs = {(pair.source, pair.target) for pair in every(parallel_texts.load(str(tmp_path), "en"))}
    assert pairs == set(zip(en, DE, strict=True))


def test_a_damaged_gzip_file_is_named(tmp_path):
    (tmp_path / "a.en.gz").write_bytes(gzip.compress(b"text " * 100)[:20])
    with pytest.raises(BadData, match=r"a\.en\.gz: .*Received: a gzip file that is cut off"):
        read_text(tmp_path / "a.en.gz")


def test_multi30k_is_read_as_it_is(shared_data):
    found = parallel_texts.load(str(shared_data / "multi30k"), "en", "de", skip_bad=True)
    assert [len(found.split(split)) for split in SPLITS] == [28_998, 1014, 1000]
    assert "9 source texts of train are copies of earlier ones." in found.remarks
