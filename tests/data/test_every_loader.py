"""What every loader does with data that a finished network is only evaluated on."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from data import (
    demonstrations,
    dialogues,
    images,
    objects,
    parallel_texts,
    plain_text,
    preferences,
    prompts,
    questions,
    tagged_text,
    text,
)
from data.sources import BadData, Evaluated


@dataclass(frozen=True)
class Loader:
    """A loader and how its files are written.

    Args:
        load: The loader.
        write: Writes a file, or a folder, with an example of each of the numbers.
        name: Name of the file; {} stands for the split.
        shown: From an example as it is loaded to its number.
        labels: The labels that the network knows.
    """

    load: Callable[..., Any]
    write: Callable[[Path, list[int]], None]
    name: str
    shown: Callable[[Any], int]
    labels: tuple[str, ...] = ()


def last_number(content: str | bytes) -> int:
    return int(tf.compat.as_text(content).split()[-1])


def write_images(folder: Path, numbers: list[int]) -> None:
    (folder / "cat").mkdir(parents=True)
    for number in numbers:
        pixels = np.full((4, 4 + number, 1), 9, "uint8")
        (folder / "cat" / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())


def write_objects(folder: Path, numbers: list[int], label: str = "cat") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        pixels = np.full((4, 4 + number, 1), 9, "uint8")
        (folder / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
        sides = "<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax>"
        content = f"<object><name>{label}</name><bndbox>{sides}</bndbox></object>"
        (folder / f"{number}.xml").write_text(f"<annotation>{content}</annotation>")


def write_texts(path: Path, numbers: list[int]) -> None:
    path.write_text("text,label\n" + "".join(f"text {number},cat\n" for number in numbers))


def write_tags(path: Path, numbers: list[int]) -> None:
    path.write_text("\n".join(f"Tom B-cat\n{number} O\n" for number in numbers))


def write_questions(path: Path, numbers: list[int]) -> None:
    records = [
        {
            "question": f"which {number}",
            "context": "Tom",
            "answers": [{"text": "Tom", "answer_start": 0}],
        }
        for number in numbers
    ]
    path.write_text(json.dumps(records))


def write_pairs(path: Path, numbers: list[int]) -> None:
    path.write_text("en\tde\n" + "".join(f"cat {n}\tKatze {n}\n" for n in numbers))


def write_dialogues(path: Path, numbers: list[int]) -> None:
    turns = [{"turns": ["which?", f"cat {number}"]} for number in numbers]
    path.write_text("\n".join(map(json.dumps, turns)))


def write_preferences(path: Path, numbers: list[int]) -> None:
    values = [{"prompt": "which?", "chosen": f"cat {n}", "rejected": "dog"} for n in numbers]
    path.write_text("\n".join(map(json.dumps, values)))


def write_demonstrations(path: Path, numbers: list[int]) -> None:
    values = [{"prompt": "which?", "completion": f"cat {n}"} for n in numbers]
    path.write_text("\n".join(map(json.dumps, values)))


def write_prompts(path: Path, numbers: list[int]) -> None:
    path.write_text("\n".join(f"cat {number}" for number in numbers))


def write_plain(path: Path, numbers: list[int]) -> None:
    path.write_text("\n\n".join(f"cat {number}" for number in numbers))


def write_whole(path: Path, numbers: list[int]) -> None:
    path.write_text("\n".join(json.dumps({"text": f"cat {number}"}) for number in numbers))


LOADERS = {
    "images": Loader(
        images.load,
        write_images,
        "{}",
        lambda one: tf.io.decode_png(one[0]).shape[1] - 4,
        ("ant", "cat"),
    ),
    "objects": Loader(
        objects.load,
        write_objects,
        "{}",
        lambda one: tf.io.decode_png(one[0]).shape[1] - 4,
        ("ant", "cat"),
    ),
    "text": Loader(
        text.load, write_texts, "{}.csv", lambda one: last_number(one[0][0]), ("ant", "cat")
    ),
    "tagged_text": Loader(
        tagged_text.load,
        write_tags,
        "{}.conll",
        lambda one: int(one[0][-1]),
        ("O", "B-ant", "I-ant", "B-cat", "I-cat"),
    ),
    "questions": Loader(
        questions.load, write_questions, "{}.json", lambda one: last_number(one.question)
    ),
    "parallel_texts": Loader(
        parallel_texts.load, write_pairs, "{}.tsv", lambda one: last_number(one.source)
    ),
    "dialogues": Loader(
        dialogues.load, write_dialogues, "{}.jsonl", lambda one: last_number(one.turns[1])
    ),
    "preferences": Loader(
        preferences.load, write_preferences, "{}.jsonl", lambda one: last_number(one[1][0])
    ),
    "demonstrations": Loader(
        demonstrations.load,
        write_demonstrations,
        "{}.jsonl",
        lambda one: last_number(one.turns[1]),
    ),
    "prompts": Loader(prompts.load, write_prompts, "{}.txt", last_number),
    "plain_text": Loader(plain_text.load, write_plain, "{}.txt", lambda one: last_number(one[0])),
    "whole_text": Loader(
        partial(plain_text.load, whole=True),
        write_whole,
        "{}.jsonl",
        lambda one: last_number(one[0]),
    ),
}
LABELED = [name for name, loader in LOADERS.items() if loader.labels]
each_loader = pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)


def evaluated(loader: Loader, path: Path, **options: Any) -> tuple[Any, list[int]]:
    """Loads data to evaluate; returns it and the numbers of its examples."""
    data = loader.load(str(path), evaluated=Evaluated(loader.labels), **options)
    assert data.train is None and data.validation is None
    return data, sorted(map(loader.shown, data.first("test", 99)))


@each_loader
def test_one_example_without_splits_is_enough(loader, tmp_path):
    path = tmp_path / loader.name.format("new")
    loader.write(path, [1])
    data, numbers = evaluated(loader, path)
    assert numbers == [1] and len(data.test) == 1
    assert "Evaluated: all examples, because none is in a test or validation split." in data.remarks
    if loader.labels:
        # The labels are those of the network, whichever the data has.
        assert tuple(getattr(data, data.LABELS)) == loader.labels
        assert "Classes (test): ant (0), cat (1)." in data.remarks


@each_loader
@pytest.mark.parametrize(
    ("splits", "chosen"),
    [
        ({"test": [1]}, [1]),
        ({"train": [1, 2], "dev": [3]}, [3]),
        ({"train": [1], "dev": [2], "test": [3, 4]}, [3, 4]),
        ({"train": [1, 2]}, [1, 2]),
    ],
    ids=["test", "dev", "all three", "train"],
)
def test_the_test_split_or_else_validation_or_else_all_is_evaluated(
    splits, chosen, loader, tmp_path
):
    for split, numbers in splits.items():
        loader.write(tmp_path / loader.name.format(split), numbers)
    assert evaluated(loader, tmp_path)[1] == chosen


@each_loader
def test_splits_that_are_not_evaluated_are_not_read(loader, tmp_path):
    for split in ("train", "test"):
        loader.write(tmp_path / loader.name.format(split), [1])
    train = tmp_path / loader.name.format("train")
    bad = next(train.rglob("*1.*")) if train.is_dir() else train
    bad.write_bytes(b"\x80" * 9)
    data, numbers = evaluated(loader, tmp_path)
    assert numbers == [1] and data.skipped == 0
    assert f"Not read: {train.name}{'/' if train.is_dir() else ''}." in data.remarks


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("images", ["path,label,split", "cat/0.png,cat,train", "cat/1.png,cat,test"]),
        ("text", ["text,label,split", ",cat,train", "text 1,cat,test"]),
        ("parallel_texts", ["en,de,split", "cat 1,,train", "cat 1,Katze 1,test"]),
    ],
)
def test_faults_in_rows_of_other_splits_are_not_reported(name, rows, tmp_path):
    write_images(tmp_path, [1])
    path = tmp_path / "all.csv"
    path.write_text("\n".join(rows))
    data, numbers = evaluated(LOADERS[name], path)
    assert numbers == [1] and data.skipped == 0
    if name == "images":
        assert "Not read: 1 row of other splits." in data.remarks


@pytest.mark.parametrize("name", LABELED)
def test_labels_that_the_network_does_not_know_are_named_with_their_location(name, tmp_path):
    loader, path = LOADERS[name], tmp_path / LOADERS[name].name.format("new")
    loader.write(path, [1])
    if name == "objects":
        write_objects(path, [7, 8], "dog")
        where = "[78].xml object 1 and 1 more"
    elif path.is_dir():
        write_images(tmp_path / "more", [7, 8])
        (tmp_path / "more" / "cat").rename(path / "dog")
        where = "dog/7.png and 1 more"
    else:
        more = {"text": "text 7,dog\ntext 8,dog\n", "tagged_text": "\nTom B-dog\n\nTim B-dog\n"}
        path.write_text(path.read_text() + more[name])
        line = {"text": 3, "tagged_text": 4}[name]
        where = f"{path.name} line {line} and 1 more"
    label = "'B-dog'" if name == "tagged_text" else "'dog'"
    expected = f"{where}: expected a label that the network knows \\({', '.join(loader.labels)}\\)"
    with pytest.raises(BadData, match=rf"{expected}\. Received: {label}\. Fix: .*--skip-bad"):
        evaluated(loader, path)
    data, numbers = evaluated(loader, path, skip_bad=True)
    # Only the objects with these labels are left out, not their images.
    assert numbers == ([1, 7, 8] if name == "objects" else [1]) and data.skipped == 2


@each_loader
def test_data_without_a_usable_example_is_refused(loader, tmp_path):
    path = tmp_path / loader.name.format("new")
    loader.write(path, [])
    with pytest.raises(BadData):
        evaluated(loader, path, skip_bad=True)


def test_columns_without_a_header_are_known_by_the_labels_of_the_network(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("ant,text 1\ncat,text 2\n")
    assert evaluated(LOADERS["text"], path)[1] == [1, 2]


def test_a_folder_that_is_a_class_of_the_network_is_no_split(tmp_path):
    write_images(tmp_path / "new", [1])
    (tmp_path / "new" / "cat").rename(tmp_path / "new" / "test")
    found = images.load(str(tmp_path / "new"), evaluated=Evaluated(("ant", "test")))
    assert [int(label) for _, label in found.test] == [1]


@pytest.mark.parametrize(
    ("labels", "tags"), [(("O", "B-x"), [1, 1]), (("O", "B-x", "I-x"), [1, 2])]
)
def test_plain_tags_are_read_as_those_of_the_network(labels, tags, tmp_path):
    path = tmp_path / "new.conll"
    path.write_text("a x\nb x\n")
    found = tagged_text.load(str(path), evaluated=Evaluated(labels))
    assert [tags.tolist() for _, tags in found.test.as_numpy_iterator()] == [tags]


@pytest.mark.parametrize("splits", [("train",), ("train", "dev")])
def test_of_tensorflow_datasets_only_one_split_is_read(splits, store):
    import tensorflow_datasets as tfds

    names = ["no", "cat", "ant"]
    features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=names)}
    rows = [{"text": f"text {number}", "label": 1 + number % 2} for number in range(4)]
    store(features, **dict.fromkeys(splits, rows))
    data, numbers = evaluated(LOADERS["text"], Path("tfds:tiny"))
    assert numbers == [0, 1, 2, 3] and data.classes == ("ant", "cat")
    assert [int(label) for _, label in data.test] == [1, 0, 1, 0]
    assert data.remarks[0] == f"Splits: test from {splits[-1]}."
    with pytest.raises(BadData, match=r"test row 1 and 1 more: .*knows \(cat\)\. Received: 'ant'"):
        text.load("tfds:tiny", evaluated=Evaluated(("cat",)))
    rest = text.load("tfds:tiny", evaluated=Evaluated(("cat",)), skip_bad=True)
    assert (len(rest.test), rest.skipped) == (2, 2)
    with pytest.raises(BadData, match=r"the data: .* Received: no usable example"):
        text.load("tfds:tiny", evaluated=Evaluated(("dog",)), skip_bad=True)


def test_the_digits_are_evaluated_by_networks_that_know_some_of_them():
    with pytest.raises(BadData, match=r"test row \d+ and 26 more: .*Received: '0'"):
        images.load("digits", evaluated=Evaluated(("9", "1")))
    found = images.load("digits", evaluated=Evaluated(("9", "1")), skip_bad=True)
    assert sorted(int(label) for _, label in found.test) == [0] * 27 + [1] * 27
    assert (found.train, found.skipped, found.classes) == (None, 216, ("9", "1"))
    assert "Evaluated: the test split, 270 of 1,797 examples." in found.remarks
    with pytest.raises(BadData, match=r"the data: .* Received: no usable example"):
        images.load("digits", evaluated=Evaluated(("ten",)), skip_bad=True)


def test_languages_of_a_table_without_a_header_are_those_of_the_network(tmp_path):
    path = tmp_path / "new.tsv"
    path.write_text("a cat\teine Katze\n")
    found = parallel_texts.load(str(path), "en", "de", evaluated=Evaluated())
    assert found.test == (parallel_texts.Pair("a cat", "eine Katze"),)
