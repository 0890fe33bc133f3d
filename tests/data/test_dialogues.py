"""Dialogues from every form of data, good and bad."""

import json
import tracemalloc

import pytest

from data import dialogues
from data.dialogues import Dialogue, Dialogues, load
from data.sources import SPLITS, BadData

DIALOGUES = [(f"Who is {i} ?", f"{i} is a number .", "Why ?", "No idea .") for i in range(40)]


def sizes(found):
    return [len(getattr(found, split)) for split in SPLITS]


def every(found):
    return [dialogue for split in SPLITS for dialogue in getattr(found, split)]


def messages(turns, system="", fields=("role", "content"), roles=("user", "assistant")):
    role, text = fields
    listed = [{role: "system", text: system}] if system else []
    return listed + [{role: roles[i % 2], text: turn} for i, turn in enumerate(turns)]


def faults_of(path, content, **options) -> str:
    path.write_text(content)
    with pytest.raises(BadData) as caught:
        load(str(path), **options)
    return str(caught.value)


def test_python_docs_are_questions_about_sections():
    found = load("python_docs")
    assert min(sizes(found)) > 10 and sum(sizes(found)) > 150
    for dialogue in every(found):
        assert dialogue.turns[0].startswith("What does the reference say about ")
        assert set(dialogue.turns[2::2]) <= {"Tell me more."}
        assert 1 <= len(dialogue.replies) <= 4 and len(dialogue.turns) % 2 == 0
    assert not found.origins


def conversations(turns):
    return {"conversations": messages(turns, "", ("from", "value"), ("human", "gpt"))}


def test_json_lines_of_every_layout_are_read(tmp_path):
    expected = {Dialogue(turns) for turns in DIALOGUES}
    for name, value in {
        "messages": lambda turns: {"messages": messages(turns), "id": 7},
        "conversations": conversations,
        "turns": lambda turns: {"turns": list(turns)},
    }.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps(value(turns)) for turns in DIALOGUES))
        found = load(str(path))
        assert set(every(found)) == expected and sum(sizes(found)) == 40
        assert found.origin("test", 0).startswith(f"{name}.jsonl line ")
        listed = tmp_path / f"{name}.json"
        listed.write_text(json.dumps([value(turns) for turns in DIALOGUES]))
        assert load(str(listed)).test == found.test


@pytest.mark.parametrize(
    "value",
    [
        {"messages": messages(["Hi", "Ho"], "Be kind.")},
        {"conversations": messages(["Hi", "Ho"], " Be kind. ", ("from", "value"))},
        {"turns": ["Hi", "Ho "], "system": "Be kind."},
    ],
    ids=["messages", "conversations", "turns"],
)
def test_a_system_text_comes_first(value, tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(value))
    assert load(str(tmp_path)).train == (Dialogue(("Hi", "Ho"), "Be kind."),)


def test_text_has_a_dialogue_per_line_or_a_turn_per_line(tmp_path):
    ends = tmp_path / "a.txt"
    ends.write_text("\n".join(" __eou__ ".join(turns) for turns in DIALOGUES))
    after = tmp_path / "b.txt"
    after.write_text("\n\n".join("".join(f"{t} __eou__ " for t in turns) for turns in DIALOGUES))
    lines = tmp_path / "c.txt"
    lines.write_text("\n\n\n".join("\n".join(turns) for turns in DIALOGUES) + "\n")
    expected = {Dialogue(turns) for turns in DIALOGUES}
    for path in (ends, after, lines):
        assert set(every(load(str(path)))) == expected
    first = next(i for i, one in enumerate(load(str(lines)).train) if "Who is 1 ?" in one.turns)
    assert load(str(lines)).origin("train", first) == "c.txt line 7"


def test_the_split_of_a_dialogue_does_not_depend_on_others(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(conversations(turns)) for turns in DIALOGUES))
    whole = load(str(path))
    path.write_text("\n".join(json.dumps(conversations(turns)) for turns in DIALOGUES[::2]))
    for split in SPLITS:
        assert set(getattr(load(str(path)), split)) <= set(getattr(whole, split))


def test_dailydialog_is_read_as_it_is(shared_data):
    found = load(str(shared_data / "dailydialog_en"))
    assert sizes(found) == [1000, 995, 996] and found.skipped == 0
    assert found.train[0].turns[2] == "What should I have brought with me ?"
    assert found.remarks[0] == (
        "Splits: train from dialogues_text_En_1k.txt, validation from en_dev_human.txt, "
        "test from en_test_human.txt."
    )
    assert "also in validation, such as 'Peter , how often do you exercise ?'." in found.remarks[-1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"messages": messages(["a", "b"]) + messages(["c"])[:1] + messages(["d"])[:1]},
            "two turns of the user in a row, turns 3 and 4",
        ),
        ({"messages": [{"role": "doctor", "content": "a"}]}, "the role 'doctor' in turn 1"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "the role ['user'] in turn 1"),
        ({"messages": messages(["a", "b"])[1:]}, "a dialogue that the assistant begins"),
        ({"messages": messages(["a", "b"]) + messages([], "S")}, "a system text in turn 3"),
        ({"messages": messages(["a"])}, "one turn only"),
        ({"turns": ["a"]}, "one turn only"),
        ({"turns": []}, "no turns"),
        ({"messages": messages(["a", " \n"])}, "turn 2 of 2 is empty"),
        ({"messages": messages(["a", ["b"]])}, "a list in turn 2"),
        ({"messages": messages(["a", None])}, "null in turn 2"),
        ({"turns": ["a", 7]}, "7 in turn 2"),
        ({"turns": ["a", "b"], "system": {}}, "an object in `system`"),
        ({"turns": "a"}, "a text as 'turns'"),
        ({"messages": {"role": "user"}}, "an object as 'messages'"),
        ({"messages": [{"role": "user"}]}, "another layout in turn 1"),
        ({"messages": ["a", "b"]}, "another layout in turn 1"),
        ({"text": "a"}, "an object with 'text'"),
        ({}, "an object with nothing in it"),
        ([], "a list"),
        ({"turns": ["a", "\ud800"]}, "bytes that are not UTF-8"),
    ],
)
def test_bad_dialogues_are_named_with_file_and_line(value, message, tmp_path):
    good = [json.dumps({"turns": turns}) for turns in DIALOGUES]
    content = "\n".join([good[0], json.dumps(value), *good[1:]])
    found = faults_of(tmp_path / "a.jsonl", content)
    assert "1 problem:\n  a.jsonl line 2: expected " in found
    assert f"Received: {message}" in found and "or pass --skip-bad." in found
    kept = load(str(tmp_path / "a.jsonl"), skip_bad=True)
    assert sum(sizes(kept)) == 40 and kept.skipped == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a __eou__ b\nonly one\n", "a.txt line 2: expected at least two turns. Received: one"),
        ("a __eou__ b\n\nonly one __eou__", "a.txt line 3: expected at least two turns."),
        ("a __eou__ __eou__ b", "a.txt line 1: expected turns with a text. Received: turn 2 of 3"),
        ("__eou__ b", "a.txt line 1: expected turns with a text. Received: turn 1 of 2 is empty"),
        ("a\nb\n\n\nc\n", "a.txt line 5: expected at least two turns. Received: one turn only."),
        ("", "a.txt: expected dialogues. Received: an empty file."),
    ],
)
def test_bad_lines_of_text_are_named(content, message, tmp_path):
    assert message in faults_of(tmp_path / "a.txt", content)


def test_other_data_is_refused_with_the_fix(tmp_path):
    with pytest.raises(BadData, match="Fix: write its dialogues to a"):
        load("tfds:tiny_shakespeare")
    with pytest.raises(BadData, match=r"folder with such files, or a built-in sample \(python_doc"):
        load(str(tmp_path / "nothing"))
    (tmp_path / "notes.csv").write_text("a,b")
    with pytest.raises(BadData, match="dialogues with train, dev and test in their names"):
        load(str(tmp_path))
    assert "invalid JSON" in faults_of(tmp_path / "a.jsonl", "{\n")


def test_repeated_and_shared_dialogues_are_counted(tmp_path):
    lines = [" __eou__ ".join(turns) for turns in DIALOGUES]
    (tmp_path / "train.txt").write_text("\n".join([*lines, lines[0]]))
    (tmp_path / "dev.txt").write_text("\n".join(lines[5:7]))
    (tmp_path / "test.txt").write_text("one __eou__ two")
    remarks = load(str(tmp_path)).remarks
    assert "Dialogues that repeat another one: 3." in remarks
    assert remarks[-1].startswith("In validation, 2 of 2 different dialogues are also in train")


def test_answered_replies_are_spread_over_a_split():
    found = load("python_docs")
    some = found.answered("train", 50)
    assert 20 < len(some) <= 50 and {len(past) for past, _, _ in some} == {1, 3, 5, 7}
    whole = found.answered("test", 10_000)
    assert [reply for *_, reply in whole] == [r for one in found.test for r in one.replies]


def test_only_the_turns_before_chosen_replies_take_memory():
    long = Dialogue(("a", "b") * 2000)
    found = Dialogues(train=(long,), validation=(), test=())
    tracemalloc.start()
    some = found.answered("train", 10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(some) <= 10 and peak < 2_000_000


def test_turns_are_padded_to_an_array():
    array = dialogues.padded([("a",), ("b", "c", "d")])
    assert array.tolist() == [["a", "", ""], ["b", "c", "d"]] and array.dtype == object
