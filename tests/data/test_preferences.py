"""Preferences from every form of data, good and bad."""

import gzip
import json
from collections import Counter

import pytest

from data.preferences import load
from data.sources import SPLITS, BadData

COUNT = 60
TALK = [("user", "Hi"), ("assistant", "Ho"), ("user", "Who?")]
TRANSCRIPT = "\n\nHuman: Hi\n\nAssistant: Ho\n\nHuman: Who?"


def every(found) -> list[tuple[str, ...]]:
    """All prompts with their answers, as texts."""
    return [
        (prompt.decode(), *(answer.decode() for answer in answers if answer))
        for split in SPLITS
        for prompt, answers in found.split(split).as_numpy_iterator()
    ]


def messages(turns):
    return [{"role": role, "content": text} for role, text in turns]


def pair(prompt="Hi", chosen="a", rejected="b"):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def whole(chosen, rejected, prompt=TRANSCRIPT):
    return {
        "chosen": f"{prompt}\n\nAssistant: {chosen}",
        "rejected": f"{prompt}\n\nAssistant: {rejected}",
    }


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(value if isinstance(value, str) else json.dumps(value) for value in values)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def good(count=COUNT, first=0):
    return [pair(f"prompt {first + i}", "a", "b") for i in range(count)]


def faults_of(path, values) -> str:
    write(path, [*good(), *values])
    with pytest.raises(BadData) as caught:
        load(str(path))
    found = load(str(path), skip_bad=True)
    assert found.skipped == len(values) and len(every(found)) == COUNT
    return str(caught.value)


def test_python_docs_are_sentences_and_their_shuffled_words():
    found = load("python_docs")
    listed = every(found)
    assert len(listed) > 500 and min(len(found.split(split)) for split in SPLITS) > 20
    for prompt, chosen, rejected in listed:
        assert prompt.startswith("\n\nHuman: What does the reference say about ")
        assert chosen != rejected and Counter(chosen.split()) == Counter(rejected.split())
    assert every(load("python_docs")) == listed and not found.origins


def test_two_halves_share_no_prompt_and_keep_the_other_splits():
    both = load("python_docs")
    halves = [load("python_docs", half=half) for half in ("first", "second")]
    prompts = [{prompt for prompt, _ in one.train.as_numpy_iterator()} for one in halves]
    assert not prompts[0] & prompts[1]
    assert prompts[0] | prompts[1] == {p for p, _ in both.train.as_numpy_iterator()}
    assert 0.4 < len(halves[0].train) / len(both.train) < 0.6
    for one in halves:
        assert [len(one.validation), len(one.test)] == [len(both.validation), len(both.test)]
        assert len(one.sets["train"]) == len(one.train)


@pytest.mark.parametrize(
    "value",
    [
        whole("a", "b"),
        whole(" a ", "b\n", TRANSCRIPT.strip()),
        pair(TRANSCRIPT),
        pair(messages(TALK)),
        pair(messages(TALK), messages([("assistant", "a")]), messages([("assistant", "b")])),
        {
            "chosen": messages([*TALK, ("assistant", "a")]),
            "rejected": messages([*TALK, ("assistant", "b")]),
        },
        {"prompt": TRANSCRIPT, "ranked": ["a", "b"]},
    ],
    ids=["transcripts", "stripped", "prompt", "messages", "answers", "implicit", "ranked"],
)
def test_every_layout_is_read(value, tmp_path):
    for split in ("train", "dev", "test"):
        write(tmp_path / f"{split}.jsonl", [value])
    assert every(load(str(tmp_path))) == [(TRANSCRIPT, "a", "b")] * 3


def test_labels_name_the_better_response_and_ties_are_counted(tmp_path):
    rows = [
        {"instruction": f"Say {i}.", "input": i % 2 * "now", "response1": "x", "response2": "y"}
        | {"label": i % 3}
        for i in range(COUNT)
    ]
    (tmp_path / "all.json").write_text(json.dumps(rows))
    found = load(str(tmp_path / "all.json"))
    assert "Ties, which say nothing and are left out: 20." in found.remarks
    assert Counter(one[1] for one in every(found)) == {"x": 20, "y": 20}
    assert ("\n\nHuman: Say 1.\n\nnow", "x", "y") in every(found)
    assert ("\n\nHuman: Say 2.", "y", "x") in every(found)


def test_ranked_lists_may_differ_in_length(tmp_path):
    values = [{"prompt": "p", "ranked": ["c", "a", "b"]}, {"prompt": "q", "ranked": ["d", "e"]}]
    for split in ("train", "dev", "test"):
        write(tmp_path / f"{split}.jsonl", values)
    found = load(str(tmp_path))
    assert [one[1].tolist() for one in found.first("test", 2)] == [
        [b"c", b"a", b"b"],
        [b"d", b"e", b""],
    ]
    table = found.table("test", 4)
    assert table["response"] == [b"c", b"a", b"b", b"d"] and len(table["prompt"]) == 4


def test_turns_of_one_role_in_a_row_are_joined(tmp_path):
    prompt = "\n\nHuman: a\n\nAssistant:\n\nHuman: b\n\nAssistant: c\n\nHuman: d"
    for split in ("train", "dev", "test"):
        write(tmp_path / f"{split}.jsonl", [whole("x", "y", prompt)])
    joined = "\n\nHuman: a\n\nb\n\nAssistant: c\n\nHuman: d"
    assert every(load(str(tmp_path))) == [(joined, "x", "y")] * 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([whole("a", "a")], "different answers. Received: two equal answers"),
        (
            [{"chosen": whole("a", "b")["chosen"], "rejected": "\n\nHuman: x\n\nAssistant: b"}],
            "the same prompt in 'chosen' and 'rejected'. Received: two different prompts",
        ),
        ([whole("a", " ")], "answers with a text. Received: answer 2 of 2 is empty"),
        (
            [{"chosen": TRANSCRIPT, "rejected": TRANSCRIPT}],
            "ends with the assistant. Received: a transcript in 'chosen' that ends with the user",
        ),
        ([whole("a", "b", "Hello.\n\nHuman: x")], "Received: a turn without a role, Hello."),
        ([{"chosen": "a", "rejected": "b"}], "Received: a turn without a role, a, in 'chosen'"),
        ([pair("")], "a prompt with a text. Received: an empty prompt"),
        ([pair(messages(TALK[:2]))], "Received: a prompt that ends with the assistant"),
        (
            [pair(messages([("system", "s"), *TALK]))],
            "Received: the role 'system' in turn 1. Fix: ",
        ),
        ([pair(["Hi"])], 'expected turns with "role" and "content"'),
        ([pair("Hi", 1, "b")], "expected a text. Received: 1 in answer 1"),
        ([{"prompt": "p", "ranked": ["a"]}], "a list of at least two answers"),
        ([{"prompt": "p", "ranked": ["a", "b", "a"]}], "two equal answers"),
        ([{"instruction": "i", "response1": "a", "response2": "b", "label": 3}], "the label 3"),
        ([{"text": "a"}], "Received: an object with 'text'"),
        (["[1]"], "Received: [1]"),
        (["{"], "Received: invalid JSON"),
    ],
)
def test_faults_are_named_with_file_and_line(values, message, tmp_path):
    found = faults_of(tmp_path / "all.jsonl", values)
    assert f"all.jsonl line {COUNT + 1}: " in found and message in found


def test_a_pair_both_ways_round_is_named_with_the_other(tmp_path):
    found = faults_of(tmp_path / "all.jsonl", [pair("prompt 3", "b", "a")])
    assert f"line {COUNT + 1}: " in found
    assert "Received: the pair of all.jsonl line 4 the other way round" in found


def test_a_single_file_is_cut_by_a_hash_of_the_first_turn_regardless_of_its_name(tmp_path):
    later = [pair(f"\n\nHuman: p{i}\n\nAssistant: x\n\nHuman: y", "c", "d") for i in range(COUNT)]
    write(tmp_path / "test.jsonl.gz", [*(pair(f"p{i}") for i in range(COUNT)), *later])
    for data in (tmp_path, tmp_path / "test.jsonl.gz"):
        found = load(str(data))
        assert "Chosen by a hash: validation and test, about 10 % each." in found.remarks
        firsts = [
            {one.split(b"\n\n")[1] for one, _ in found.split(split).as_numpy_iterator()}
            for split in SPLITS
        ]
        assert all(firsts) and sum(map(len, firsts)) == len(set.union(*firsts)) == COUNT
    assert found.origin("test", 0).startswith("test.jsonl.gz line ")


def test_each_sub_folder_is_a_set(tmp_path):
    write(tmp_path / "b" / "test.jsonl.gz", good())
    write(tmp_path / "a" / "train.jsonl", good(9, 100))
    write(tmp_path / "a" / "test.jsonl", [pair("prompt 200")])
    write(tmp_path / ".checkpoints" / "train.jsonl", good(9, 300))
    (tmp_path / "readme.txt").touch()
    (tmp_path / "empty").mkdir()
    found = load(str(tmp_path))
    assert "Not read: empty/, 1 file (.txt)." in found.remarks
    assert "a: Splits: train from train.jsonl, test from test.jsonl." in found.remarks
    assert "b: Chosen by a hash: validation and test, about 10 % each." in found.remarks
    for split in SPLITS:
        origins = found.origins[split]
        assert [one.split("/")[0] for one in origins] == found.sets[split]
        assert len(origins) == len(found.split(split))
    assert Counter(found.sets["test"])["a"] == 1 and set(found.sets["train"]) == {"a", "b"}


def test_a_file_beside_the_folders_of_sets_is_refused(tmp_path):
    write(tmp_path / "train.jsonl", good())
    write(tmp_path / "old" / "a.jsonl", good())
    with pytest.raises(BadData, match=r"train.jsonl beside old/, which would be a set"):
        load(str(tmp_path))


def talk(*texts: str) -> list[dict[str, str]]:
    return messages(zip(("user", "assistant") * len(texts), texts, strict=False))


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (
            {"instruction": "Sum up.", "input": "Human: Hi.\n\nAssistant: Ho.", "label": 1}
            | {"response1": "a", "response2": "b"},
            "Human: after a blank line within a turn",
        ),
        (
            {"prompt": "a", "chosen": talk("a", "b", "c", "d")}
            | {"rejected": talk("a", "b", "e", "f")},
            "turns before the answer in 'chosen' that are not those of the prompt",
        ),
    ],
)
def test_turns_that_would_be_lost_or_misread_are_refused(content, received, tmp_path):
    write(tmp_path / "a.jsonl", [*good(), content])
    with pytest.raises(BadData, match=received):
        load(str(tmp_path))


def test_a_list_that_is_left_out_contradicts_no_other(tmp_path):
    lists = [["c", "a"], ["a", "b", "c"], ["b", "a"]]
    write(tmp_path / "a.jsonl", [*good(), *({"prompt": "x", "ranked": one} for one in lists)])
    assert load(str(tmp_path), skip_bad=True).skipped == 1


def test_hh_rlhf_is_read_as_it_is(shared_data):
    folder = shared_data / "hh_rlhf"
    with pytest.raises(
        BadData, match=r"59 problems .*\n  harmless-base/test\.jsonl\.gz line \d+: "
    ):
        load(str(folder))
    found = load(str(folder), skip_bad=True)
    assert sum(len(found.split(split)) for split in SPLITS) == 7415 - 59 and found.skipped == 59
    counted = Counter(one for split in SPLITS for one in found.sets[split])
    assert min(counted.values()) > 2300 and len(counted) == 3
