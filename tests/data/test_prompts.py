"""Prompts from every form of data, good and bad."""

import pytest

from data import preferences
from data.prompts import load
from data.sources import SPLITS, BadData
from tests.data.test_preferences import TALK, TRANSCRIPT, messages, pair, whole, write

COUNT = 60


def good():
    return [{"prompt": f"prompt {i}"} for i in range(COUNT)]


def every(found) -> list[str]:
    return [
        prompt.decode() for split in SPLITS for prompt in found.split(split).as_numpy_iterator()
    ]


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": TRANSCRIPT},
        {"prompt": messages(TALK)},
        whole("a", "b"),
        pair(TRANSCRIPT),
        {"prompt": TRANSCRIPT, "ranked": ["a", "b", "c"]},
    ],
)
def test_several_turns_are_a_transcript(tmp_path, value):
    write(tmp_path / "some.jsonl", [*good(), value, value])
    found = load(str(tmp_path / "some.jsonl"))
    assert TRANSCRIPT in every(found) and len(every(found)) == COUNT + 1
    assert "Prompts that repeat another one, left out: 1." in found.remarks


def test_a_lone_turn_and_a_line_stay_as_they_are(tmp_path):
    (tmp_path / "some.txt").write_text("\n".join(f"line {i}" for i in range(COUNT)) + "\n\n")
    assert sorted(every(load(str(tmp_path / "some.txt")))) == sorted(
        f"line {i}" for i in range(COUNT)
    )
    tie = {"instruction": "Say.", "input": "Ho", "response1": "a", "response2": "b", "label": 0}
    write(tmp_path / "more.jsonl", [*good(), tie])
    assert "Say.\n\nHo" in every(load(str(tmp_path / "more.jsonl")))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"prompt": " "}, "an empty prompt"),
        ({"prompt": 3}, "3 in 'prompt'"),
        ({"text": "Hi"}, "an object with 'text'"),
        ({"prompt": messages([("user", "a\n\nHuman: b")])}, "Human: after a blank line"),
        ({"prompt": TRANSCRIPT + "\n\nAssistant: I"}, "ends with the assistant"),
        (whole("a", "a"), "two equal answers"),
        ("[]", "[]"),
    ],
)
def test_a_bad_prompt_is_named(tmp_path, value, said):
    write(tmp_path / "some.jsonl", [*good(), value])
    with pytest.raises(BadData, match=r"some\.jsonl line 61") as caught:
        load(str(tmp_path / "some.jsonl"))
    assert said in str(caught.value)
    assert len(every(load(str(tmp_path / "some.jsonl"), skip_bad=True))) == COUNT


def test_a_prompt_is_in_the_same_split_as_in_the_reward_stage(tmp_path):
    for data in ("python_docs", str(tmp_path)):
        if data != "python_docs":
            write(tmp_path / "test.jsonl.gz", [pair(f"prompt {i}") for i in range(60)])
        found, ranked = load(data), preferences.load(data)
        for split in SPLITS:
            prompts = {text.decode() for text, _ in ranked.split(split).as_numpy_iterator()}
            assert {one.decode() for one in found.split(split).as_numpy_iterator()} == prompts
