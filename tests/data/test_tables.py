"""Separators of cells, and the layouts of JSON."""

import json

import pytest

from data.sources import BadData
from data.tables import json_values, rows_of_cells


@pytest.mark.parametrize(
    ("content", "cells", "named"),
    [
        ("text,label\na;b,0\n", [["text", "label"], ["a;b", "0"]], None),
        ("text;label\na, b;0\nc;1", [["text", "label"], ["a, b", "0"], ["c", "1"]], "semicolons"),
        ('text;label\n"a;b";0', [["text", "label"], ["a;b", "0"]], "semicolons"),
        ("a, b;0\nc, d, e;1", [["a, b", "0"], ["c, d, e", "1"]], "semicolons"),
        ("text\tlabel\na, b\t0", [["text", "label"], ["a, b", "0"]], "tabs"),
        ("text|label\na|0", [["text", "label"], ["a", "0"]], "vertical bars"),
        ("text;label\na;0\nb", [["text", "label"], ["a", "0"], ["b"]], "semicolons"),
        ("text,label\na;x,0\nb", [["text", "label"], ["a;x", "0"], ["b"]], None),
        ("", [], None),
    ],
)
def test_the_separator_is_found_and_named(tmp_path, content, cells, named):
    path = tmp_path / "a.csv"
    path.write_text(content)
    rows, remarks = rows_of_cells("a", path)
    assert [row for _, row in rows] == cells
    assert remarks == ([f"a.csv is separated by {named}."] if named else [])


def test_tabs_separate_without_quotes_unless_there_are_none(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"a\t0\n')
    assert rows_of_cells("a", path) == (
        [("a.tsv line 1", ["text", "label"]), ("a.tsv line 2", ['"a', "0"])],
        [],
    )
    path.write_text('text,label\n"a,\nb",0\nc,1')
    rows, _ = rows_of_cells("a", path)
    assert rows[1:] == [("a.tsv line 2", ["a,\nb", "0"]), ("a.tsv line 4", ["c", "1"])]


def test_an_open_quote_is_found_where_its_row_starts(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\nx,0\n"y,1\nz,0')
    with pytest.raises(BadData, match=r"a.csv line 3: expected text separated by commas"):
        rows_of_cells("a", path)


VALUES = [{"a": 1}, {"a": [2]}]


@pytest.mark.parametrize(
    ("name", "content", "locations"),
    [
        ("a.json", json.dumps(VALUES, indent=1), ["a.json, item 1", "a.json, item 2"]),
        ("a.jsonl", "\n".join(map(json.dumps, VALUES)), ["a.jsonl line 1", "a.jsonl line 2"]),
        ("a.json", "\n\n".join(map(json.dumps, VALUES)), ["a.json line 1", "a.json line 3"]),
    ],
)
def test_json_is_a_list_or_a_value_per_line(tmp_path, name, content, locations):
    (tmp_path / name).write_text(content)
    assert json_values(tmp_path / name, "") == (list(zip(locations, VALUES, strict=True)), [])


def test_what_is_not_json_is_named_with_its_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1},\n {"a": }]')
    values, (fault,) = json_values(path, "objects")
    assert not values and str(fault).startswith("a.json line 2: expected objects. Received: inval")
    path.write_text('{"a": 1}\n{"a"\n')
    values, (fault,) = json_values(path, "objects")
    assert len(values) == 1 and fault.where == "a.json line 2" and fault.skippable
