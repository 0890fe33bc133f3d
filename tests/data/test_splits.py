from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf

from data.sources import Evaluated, split_of
from data.splits import ClassSplits, Splits, by_class, chosen_by_hash, dealt, shared, stratified

NUMBERS = tf.data.Dataset.range(10).map(lambda number: (number, 10 * number))


@dataclass(frozen=True, kw_only=True)
class Labeled(Splits):
    LABELS = "classes"
    classes: tuple[str, ...]


def labeled(*labels) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((range(len(labels)), np.array(labels, "int32")))


def test_known_labels_get_the_first_numbers_in_their_order():
    data = Labeled(
        train=labeled(0, 1, 2),
        test=labeled(2, 2),
        other={"outside": labeled(-1, 0)},
        classes=("ant", "bee", "cat"),
    )
    new = data.renumbered(["dog", "cat", "ant"])
    assert new.classes == ("dog", "cat", "ant", "bee")
    assert [int(label) for _, label in new.train] == [2, 3, 1]
    assert [int(label) for _, label in new.test] == [1, 1]
    assert [int(label) for _, label in new.other["outside"]] == [-1, 2]
    assert new.validation is None and len(new.train) == 3
    assert [int(number) for number, _ in new.train] == [0, 1, 2]


def test_the_labels_of_words_are_renumbered():
    tags = tf.ragged.constant([[0, 2, 1], [2]], dtype="int32")
    words = tf.ragged.constant([["a", "b", "c"], ["d"]])
    sentences = tf.data.Dataset.from_tensor_slices((words, tags)).map(lambda *example: example)
    data = Labeled(train=sentences, validation=sentences, test=sentences, classes=("O", "B", "I"))
    new = data.renumbered(["O", "I"])
    assert [tags.numpy().tolist() for _, tags in new.test] == [[0, 1, 2], [1]]


@pytest.mark.parametrize(
    ("splits", "chosen"),
    [
        (("", "", ""), (0, 1, 2)),
        (("train", "train", "train"), (0, 1, 2)),
        (("train", "validation", "validation"), (1, 2)),
        (("train", "validation", "test"), (2,)),
        (("test", "test", "test"), (0, 1, 2)),
    ],
)
def test_a_network_is_evaluated_on_the_test_split_or_the_next_best(splits, chosen):
    examples = [(split, f"{number}", number) for number, split in enumerate(splits)]
    found, (remark,) = dealt(examples, Evaluated())
    assert found == {"test": [*chosen]}
    which = f"the {splits[chosen[0]]} split, {len(chosen)} of 3"
    named = splits[chosen[0]] not in ("", "train")
    assert remark.startswith(f"Evaluated: {which if named else 'all'} examples")


@pytest.mark.parametrize("examples", [NUMBERS, [(n, 10 * n) for n in range(10)]])
def test_examples_are_picked_in_the_order_of_the_indices(examples):
    splits = Splits(train=examples)
    assert [tuple(map(int, one)) for one in splits.picked("train", [7, 0, 7])] == [
        (7, 70),
        (0, 0),
        (7, 70),
    ]
    assert splits.picked("train", []) == []
    assert [int(one[0]) for one in splits.first("train", 3)] == [0, 1, 2]
    assert len(splits.first("train", 99)) == 10


def test_only_what_is_picked_stays_in_memory():
    seen = []

    def generate():
        for number in range(1000):
            seen.append(number)
            yield number

    numbers = tf.data.Dataset.from_generator(generate, output_signature=tf.TensorSpec((), tf.int32))
    assert [int(one) for one in Splits(train=numbers).picked("train", [2, 4])] == [2, 4]
    assert max(seen) < 20


def test_the_origin_of_an_example_may_be_unknown():
    splits = Splits(train=[1, 2], test=[3], origins={"train": ["a.txt", "b.txt line 7"]})
    assert [splits.origin("train", number) for number in (0, 1)] == ["a.txt", "b.txt line 7"]
    assert splits.origin("test", 0) == ""


def test_examples_of_each_class_are_the_first_ones():
    labels = tf.data.Dataset.from_tensor_slices(([0, 1, 2, 3, 4, 5], [1, 0, 1, 1, 0, 2]))
    splits = ClassSplits(train=labels, classes=("a", "b", "c"))
    found = [tuple(map(int, one)) for one in splits.of_each_class("train", 6)]
    assert found == [(1, 0), (4, 0), (0, 1), (2, 1), (5, 2)]
    # Of more classes than examples, the first classes.
    assert [int(label) for _, label in splits.of_each_class("train", 2)] == [0, 1]


def test_further_splits_are_found_by_name_and_missing_ones_are_named():
    splits = Splits(train=[1], other={"test_oos": [2, 3]})
    assert splits.split("test_oos") == [2, 3]
    with pytest.raises(ValueError, match=r"The splits are train, test_oos\. Received: 'test'"):
        splits.split("test")


@pytest.mark.parametrize(
    ("splits", "text"),
    [
        (
            Splits(train=[1] * 1257, validation=[1], test=NUMBERS),
            "1,257 training, 1 validation, 10 test images",
        ),
        (Splits(train=[1], skipped=2), "1 training images; 2 bad examples were left out"),
    ],
)
def test_counts_are_said_in_words(splits, text):
    assert splits.counted("images") == text


def test_picked_rows_are_arrays():
    ((words, tags),) = Splits(
        train=tf.data.Dataset.from_tensors((tf.constant([b"a", b"b"]), tf.constant([0, 1])))
    ).picked("train", [0])
    assert words.tolist() == [b"a", b"b"]
    np.testing.assert_array_equal(tags, [0, 1])


@pytest.mark.parametrize(
    ("size", "held_out", "train"), [(1, 0, 1), (2, 0, 1), (3, 1, 1), (9, 1, 4), (40, 4, 20)]
)
def test_each_made_split_has_its_part_of_a_small_class(size, held_out, train):
    for start in range(30):
        classes = {f"{start} {name}": "a" for name in range(size)}
        counts = Counter(stratified(classes, {""}).values())
        assert sum(counts.values()) == size and counts["train"] >= train
        assert min(counts["validation"], counts["test"]) >= held_out


def test_classes_are_divided_one_by_one_and_large_ones_as_the_hash_says():
    small = {f"small {name}": "small" for name in range(40)}
    large = {f"large {name}": "large" for name in range(1000)}
    together = stratified(small | large, {""})
    assert {name: together[name] for name in small} == stratified(small, {""})
    assert {name: together[name] for name in large} == {name: split_of(name) for name in large}


def test_adding_to_a_class_that_borrows_nothing_moves_nothing():
    names = [f"{name}" for name in range(2000)]
    before = stratified(dict.fromkeys(names[:1000], "a"), {""})
    after = stratified(dict.fromkeys(names, "a"), {""})
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("given", "made", "said"),
    [
        ({""}, {"validation", "test"}, ["Chosen by a hash: validation and test, about 10 % each."]),
        ({"train", "test"}, {"validation"}, ["Chosen by a hash: validation, about 10 %."]),
        ({"train", "validation", "test"}, set(), []),
    ],
)
def test_only_the_splits_that_are_missing_are_made(given, made, said):
    classes = {f"{name}": "ab"[name % 2] for name in range(50)}
    assert set(stratified(classes, given).values()) == {"train"} | made
    assert chosen_by_hash(given) == said
    splits, remarks = dealt(("train", name, name) for name in classes)
    assert remarks and {split for split in splits if splits[split]} == {
        "train",
        "validation",
        "test",
    }


def test_what_stands_in_two_splits_is_named_with_an_example():
    contents = {
        "train": {"1": "a", "2": "b", "3": "c"},
        "validation": {"3": "c", "4": "d" * 90},
        "test": {"1": "a", "2": "b", "4": "d" * 90},
    }
    assert shared(contents, "texts") == [
        "In validation, 1 of 2 different texts is also in train, such as 'c'.",
        "In test, 2 of 3 different texts are also in train, such as 'a'.",
        f"In test, 1 of 3 different texts is also in validation, such as '{'d' * 60}...'.",
    ]


def test_up_to_twenty_classes_are_counted_by_split_and_untested_ones_named():
    few = {"train": {f"{i}": i for i in range(1, 21)}, "test": {f"{i}": 1 for i in range(1, 20)}}
    counted, untested = by_class(few)
    assert counted.startswith("Classes (train, test): 1 (1, 1), 10 (10, 1), ")
    assert untested == "Classes without test examples: 20."
    many = {"train": dict.fromkeys(map(str, range(21)), 5), "test": {"0": 1}}
    assert by_class(many) == [
        "21 classes.",
        "Classes without test examples: 1, 10, 11, 12, 13, 14, 15, 16, 17, 18 and 10 more.",
    ]


def test_balanced_weights_give_classes_the_same_total():
    labels = [0] * 6 + [1] * 3 + [2]
    train = tf.data.Dataset.from_tensor_slices((["text"] * 10, labels))
    data = ClassSplits(train=train, classes=("a", "b", "c"))
    assert data.class_weights("none") is None
    weights = data.class_weights("balanced")
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert sum(weights[label] for label in labels) == pytest.approx(10)


def test_balanced_weights_count_the_rows_of_each_example():
    train = tf.data.Dataset.from_tensor_slices((["text"] * 4, [0, 0, 1, 1]))
    data = ClassSplits(train=train, classes=("a", "b"))
    rows = np.array([3, 5, 1, 1])
    weights = data.class_weights("balanced", rows)
    assert weights == pytest.approx([10 / 16, 10 / 4])
