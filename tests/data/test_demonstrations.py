"""Demonstrations from every form of data, good and bad."""

import pytest

from data import preferences
from data.demonstrations import load
from data.sources import SPLITS, BadData
from tests.data.test_preferences import TALK, TRANSCRIPT, messages, pair, whole, write

COUNT = 60
TURNS = tuple(text for _, text in TALK)


def good():
    return [{"prompt": f"prompt {i}", "completion": "a"} for i in range(COUNT)]


def every(found):
    return [one.turns for split in SPLITS for one in found.split(split)]


@pytest.mark.parametrize(
    "value",
    [
        *({"prompt": TRANSCRIPT, name: " a "} for name in ("completion", "answer", "response")),
        {"prompt": messages(TALK), "output": "a"},
        {"messages": messages([*TALK, ("assistant", "a")])},
        {"turns": [*TURNS, "a"]},
        whole("a", "b"),
        pair(TRANSCRIPT),
        {"prompt": TRANSCRIPT, "ranked": ["a", "b", "c"]},
    ],
)
def test_a_demonstration_is_a_dialogue_that_ends_with_the_answer(tmp_path, value):
    write(tmp_path / "some.jsonl", [*good(), value])
    loaded = load(str(tmp_path / "some.jsonl"))
    found = every(loaded)
    assert (*TURNS, "a") in found and len(found) == COUNT + 1
    (one,) = [d for split in SPLITS for d in loaded.split(split) if len(d.turns) == 4]
    assert one.replies == (("Ho", "a") if {"messages", "turns"} & {*value} else ("a",))


def test_an_instruction_may_have_an_input(tmp_path):
    values = [
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        {"instruction": "Sing.", "input": "", "output": "la"},
        {"instruction": "Say.", "response1": "no", "response2": "yes", "label": 2},
        {"instruction": "Say.", "response1": "no", "response2": "yes", "label": 0},
    ]
    write(tmp_path / "some.jsonl", [*good(), *values])
    found = load(str(tmp_path / "some.jsonl"))
    assert {("Add.\n\n1, 2", "3"), ("Sing.", "la"), ("Say.", "yes")} < {*every(found)}
    assert len(every(found)) == COUNT + 3
    assert "Ties, of which no answer is better, left out: 1." in found.remarks


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"prompt": "Hi", "completion": " "}, "an empty answer"),
        ({"prompt": "Hi", "completion": 3}, "3 in 'completion'"),
        ({"prompt": "Hi"}, "an object with 'prompt'"),
        ({"prompt": "Hi", "answer": "a", "output": "b"}, "an object with 'prompt', 'answer', "),
        ({"prompt": "", "completion": "a"}, "an empty prompt"),
        ({"messages": messages(TALK)}, "a dialogue that ends with the user"),
        ({"prompt": TRANSCRIPT + "\n\nAssistant: I", "completion": "a"}, "ends with the assistant"),
        ({"prompt": "\n\nAssistant: I\n\nHuman: a", "completion": "b"}, "the assistant begins"),
        (whole("a", "a"), "two equal answers"),
        ("[]", "[]"),
    ],
)
def test_a_bad_demonstration_is_named(tmp_path, value, said):
    write(tmp_path / "some.jsonl", [*good(), value])
    with pytest.raises(BadData, match=r"some\.jsonl line 61") as caught:
        load(str(tmp_path / "some.jsonl"))
    assert said in str(caught.value)
    assert len(every(load(str(tmp_path / "some.jsonl"), skip_bad=True))) == COUNT


def test_a_prompt_is_in_the_same_split_as_in_the_reward_stage(tmp_path):
    for name in ("one", "other"):
        write(
            tmp_path / name / "test.jsonl.gz",
            [whole("a", "b", f"\n\nHuman: {name} {i}") for i in range(60)],
        )
    found, ranked = load(str(tmp_path)), preferences.load(str(tmp_path))
    for split in SPLITS:
        prompts = [prompt.decode() for prompt, _ in ranked.split(split).as_numpy_iterator()]
        assert [f"\n\nHuman: {one.turns[0]}" for one in found.split(split)] == prompts
    assert sum(map(len, map(found.split, SPLITS))) == 120
    built_in, pairs = load("python_docs"), preferences.load("python_docs")
    assert [len(built_in.split(s)) for s in SPLITS] == [len(pairs.split(s)) for s in SPLITS]
