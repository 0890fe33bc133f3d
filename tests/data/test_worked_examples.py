import json
from collections import Counter

import pytest

from data.sources import BadData
from data.worked_examples import Answered, drawn, load, prompts
from preprocessing.byte_tokens import Bytes

SHOTS = "text\tlabel\nfine\tgood\nawful stuff\tbad\n"
TESTED = "text\tlabel\nlovely\tgood\nawful\tbad\n"


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str) -> str:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
        return str(tmp_path / name)

    return write


def test_answers_of_the_examples_are_classes_and_texts_are_sorted_by_length(write):
    shots = write("shots.tsv", SHOTS + "wonderful\tgood\n")
    data = write("data.csv", "label,sentence\nbad,a long and dull one\ngood,fine\ngood,lovely\n")
    found = load(data, shots=shots)
    assert [one[:2] for one in found.tested] == [
        ("fine", "good"),
        ("lovely", "good"),
        ("a long and dull one", "bad"),
    ]
    assert found.classes == found.scored == ("bad", "good") and not found.is_free
    assert [int(label) for _, label in found.test] == [1, 1, 0]
    assert [one.text for one in found.worked] == ["awful stuff", "wonderful"]
    assert [int(label) for _, label in found.train] == [0, 1]
    assert found.origin("test", 0) == "data.csv line 3"
    assert "Answers are scored by the likelihood of each answer" in found.remarks[-2]
    assert found.remarks[-1] == "Worked examples left out, because they are test texts: 1."
    with pytest.raises(BadData, match="Received: only test texts"):
        load(shots, shots=shots)


def test_one_file_with_splits_has_both_and_columns_may_be_named(write):
    rows = ["train,geo,Where?,Here.", "test,bio,Who?,I.", "dev,geo,When?,Now."]
    path = write("all.csv", "\n".join(["split,topic,question,answer", *rows]) + "\n")
    found = load(path, shots=path, text_column="question", label_column="answer")
    assert [one[:2] for one in found.worked] == [("Where?", "Here.")]
    assert [one[:2] for one in found.tested] == [("Who?", "I.")]


def test_other_answers_may_be_any_text_also_numbers(write):
    rows = [{"prompt": f"{n} + 1.5", "answer": n + 1.5} for n in range(30)]
    lines = [json.dumps(row) for row in rows]
    shots, data = write("a.jsonl", "\n".join(lines[:4])), write("b.jsonl", "\n".join(lines[4:]))
    found = load(data, shots=shots)
    assert found.is_free and found.scored == ()
    assert found.tested[0][:2] == ("4 + 1.5", "5.5")
    assert found.classes[:4] == ("1.5", "2.5", "3.5", "4.5")
    said = "Answers are scored as a text: '5.5' (b.jsonl line 1) is none of the worked examples'"
    assert found.remarks[-1].startswith(said)


def test_only_the_test_split_of_a_folder_is_read(write):
    shots = write("shots.tsv", SHOTS)
    for split in ("train", "dev", "test"):
        data = write(f"data/{split}.tsv", f"text\tlabel\nfrom {split}\tgood\n")
    found = load(data.rpartition("/")[0], shots=shots)
    assert [one.text for one in found.tested] == ["from test"]


def test_each_fault_names_the_file_and_the_fix(write):
    shots, data = write("shots.tsv", SHOTS), write("data.tsv", TESTED)
    with pytest.raises(BadData, match=r"no_such.tsv.* of worked examples. Received: no such file"):
        load(data, shots="no_such.tsv")
    unknown = write("odd.csv", "phrase,mood,more\nfine,good,1\n")
    for files in ({"data": data, "shots": unknown}, {"data": unknown, "shots": shots}):
        with pytest.raises(BadData, match=r"odd.csv: expected a column 'text'.*--text-column"):
            load(**files)
    empty = write("empty.tsv", "text\tlabel\nfine\t\n")
    with pytest.raises(BadData, match=r"empty.tsv line 2: expected the name of a class"):
        load(data, shots=empty)
    with pytest.raises(BadData, match="expected at least one example"):
        load(data, shots=empty, skip_bad=True)
    partly = write("partly.tsv", SHOTS + "none\t\n")
    assert load(data, shots=partly, skip_bad=True).skipped == 1


def test_draws_are_balanced_nested_and_differ_by_seed():
    answers = ["a"] * 20 + ["b"] * 5 + ["c"]
    worked = [Answered(f"{n}", answer, "") for n, answer in enumerate(answers)]
    orders = [drawn(worked, seed) for seed in range(5)]
    for order in orders:
        assert sorted(order) == sorted(worked)
        assert Counter(one.answer for one in order[:3]) == {"a": 1, "b": 1, "c": 1}
        assert Counter(one.answer for one in order[:11]) == {"a": 5, "b": 5, "c": 1}
    assert drawn(worked, 3) == orders[3]
    assert len({order[0] for order in orders}) > 1


def test_prompts_have_the_chosen_number_of_examples_and_those_to_compare(write):
    rows = "".join(f"text {n}\t{'good' if n % 2 else 'bad'}\n" for n in range(9))
    data = load(write("data.tsv", TESTED), shots=write("shots.tsv", "text\tlabel\n" + rows))
    seen = []

    def choose(sizes, room):
        seen.extend([list(sizes), room])
        return 6, 7

    parts = {"template": "{text}={label};", "seed": 1, "length": 100, "max_tokens": 9}
    chosen, found, said = prompts(data, Bytes(), **parts, choose=choose)
    assert chosen == 6 and [*found] == [0, 1, 4, 6]
    assert [len(one.examples) for one in found.values()] == [0, 1, 4, 6]
    order = [one[:2] for one in drawn(data.worked, 1)]
    assert found[4].examples == order[:4]
    sizes = [len(f"{text}={label};") for text, label in order]
    # The first has no ";" before it, but the token that begins a text.
    assert seen == [sizes, 100 - len(";lovely=") - 9]
    assert said == f"Worked examples: 6 of 9, {sum(sizes[:6])} tokens before each text."


def test_answers_that_cannot_be_written_are_named(write):
    parts = {"seed": 1, "length": 100, "max_tokens": 3, "choose": lambda sizes, room: (1, 1)}
    free = load(write("data.tsv", "text\tlabel\nx\tlonger\ny\tno\n"), shots=write("a.tsv", SHOTS))
    *_, said = prompts(free, Bytes(), template="{text}={label};", **parts)
    assert said.endswith(
        "1 of 2 true answers have more than 3 tokens, which is all that is "
        "written: pass a larger --max-tokens."
    )
    with pytest.raises(ValueError, match=r"that is in no answer.*'ng', data"):
        prompts(free, Bytes(), template="{text}={label}ng", **parts)


@pytest.mark.slow  # TensorFlow Datasets.
def test_a_dataset_has_answers_of_the_worked_examples(write, shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    names = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
    rows = "".join(f"What?,{name}\n" for name in names)
    found = load("tfds:trec", shots=write("shots.csv", "text,label\n" + rows))
    assert found.classes == names and not found.is_free
    assert len(found.tested) == len(found.test) == 500
    with pytest.raises(BadData, match="expected a label that the network knows"):
        load("tfds:trec", shots=write("few.csv", "text,label\nWhat?,ABBR\nWho?,HUM\n"))
