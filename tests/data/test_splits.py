import numpy as np
import pytest
import tensorflow as tf

from data.splits import Splits

NUMBERS = tf.data.Dataset.range(10).map(lambda number: (number, 10 * number))


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
