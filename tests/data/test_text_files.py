"""Encodings of text files: read, or named for what they are."""

import gzip

import pytest

from data.sources import BadData
from data.text_files import not_utf8, read_text, split_files

TEXT = "Käse, 5 €\nÖl\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_utf8_and_utf16_with_a_mark_are_read(tmp_path, encoding, ending):
    path = tmp_path / "a.txt"
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    path.write_bytes((mark + TEXT.replace("\n", ending)).encode(encoding))
    assert read_text(path) == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "naïve\ncafé, thé\ndéjà vu".encode("latin-1"),
            r"a.txt: expected UTF-8 text. Received: text in another encoding, such as 'na\udcefve' "
            "in line 1. Fix: convert it, for example with iconv -f WINDOWS-1252 -t UTF-8 a.txt.",
        ),
        (TEXT.encode("utf-16-le"), "Received: UTF-16 text without a byte order mark, or no text."),
        (TEXT.encode("utf-16")[:-1], "Received: UTF-16 text that is cut off or damaged."),
        (gzip.compress(b"text", mtime=0), "Received: a gzip file. Fix: decompress it."),
        (b"PK\x03\x04" + bytes(9), "Received: a ZIP or Excel file. Fix: unpack it, or export it"),
        (b"PAR1" + bytes(9), "Received: a Parquet file. Fix: export it as JSON lines."),
    ],
)
def test_what_is_no_such_text_is_named_with_the_fix(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(BadData) as caught:
        read_text(tmp_path / "a.txt")
    assert message in str(caught.value) and "--skip-bad" not in str(caught.value)


def test_single_bad_bytes_are_left_for_the_line_in_which_they_stand(tmp_path):
    (tmp_path / "a.txt").write_bytes("Käse\n".encode() + b"caf\xe9\nth\xe9\nn\xe9")
    good, *bad = read_text(tmp_path / "a.txt").split("\n")
    assert not_utf8(good, "") is None and all(not_utf8(line, "a.txt line 2") for line in bad)


def test_the_only_file_without_a_split_is_the_training_set(tmp_path):
    for name in ("dialogues.txt", "en_dev.txt", "en_test.txt", "notes.md"):
        (tmp_path / name).touch()
    files, remarks = split_files(tmp_path, {".txt"})
    assert [file.name for file in files.values()] == ["dialogues.txt", "en_dev.txt", "en_test.txt"]
    assert list(files) == ["train", "validation", "test"]
    assert remarks == [
        "Splits: train from dialogues.txt, validation from en_dev.txt, test from en_test.txt.",
        "Not read: 1 file (.md).",
    ]
    (tmp_path / "more.txt").touch()
    with pytest.raises(BadData, match="a file with train in its name"):
        split_files(tmp_path, {".txt"})
