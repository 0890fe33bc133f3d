import numpy as np
import pytest
import tensorflow as tf

from data import pipeline
from data.feed import Feed
from data.splits import Splits


def numbers(count: int, offset: int = 0) -> tf.data.Dataset:
    values = np.arange(offset, offset + count, dtype="int32")
    return tf.data.Dataset.from_tensor_slices((values, values % 2))


def contents(batches) -> list[list[int]]:
    return [np.asarray(features).tolist() for features, *_ in batches]


DATA = Splits(train=numbers(10), validation=numbers(3, 100), test=numbers(2, 200))


def test_training_shuffles_and_evaluation_does_not():
    feed = Feed(DATA, prepare=lambda x, y: (x + 1000, y), batch=lambda x, y: (2 * x, y))
    assert feed.steps_per_epoch(4) == 2
    drawn = contents(feed.training(batch_size=4, seed=0, epochs=2))
    assert [len(batch) for batch in drawn] == [4, 4, 4, 4]
    assert set(np.concatenate(drawn).tolist()) <= {2 * (x + 1000) for x in range(10)}
    assert drawn[:2] != drawn[2:]
    assert contents(feed.evaluation("validation", 2)) == [[2200, 2202], [2204]]
    assert contents(feed.evaluation("test", 2)) == [[2400, 2402]]


def test_a_run_that_starts_later_gets_the_same_batches():
    def vary(x, y, seed):
        return x + tf.random.stateless_uniform((), seed, 0, 10**6, tf.int32), y

    feed = Feed(DATA, vary=vary)
    whole = contents(feed.training(batch_size=3, seed=1, epochs=3))
    assert contents(feed.training(batch_size=3, seed=1, epochs=3, start_step=4)) == whole[4:]
    assert max(max(batch) for batch in whole) > 100  # varied
    assert contents(feed.evaluation("validation", 3)) == [[100, 101, 102]]


@pytest.mark.parametrize("limit", [pipeline.CACHE_LIMIT, 20])
def test_many_examples_are_prepared_at_once_into_any_number_of_rows(limit, monkeypatch):
    monkeypatch.setattr(pipeline, "CACHE_LIMIT", limit)
    calls = []

    def twice(x, y):
        tf.py_function(lambda: calls.append(1), [], [])
        return tf.repeat(x, 2), tf.repeat(y, 2)

    feed = Feed(DATA, prepare_many=twice)
    assert feed.count() == 20 and feed.count("validation") == 6
    drawn = contents(feed.training(batch_size=5, seed=0, epochs=3))
    assert sorted(np.concatenate(drawn[:4]).tolist()) == sorted([*range(10), *range(10)])
    assert contents(feed.evaluation("validation", 6)) == [[100, 100, 101, 101, 102, 102]]
    if limit > 20:
        assert len(calls) == 2  # once for each of the two splits


def test_examples_of_several_sizes_arrive_as_ragged_tensors():
    lines = tf.data.Dataset.from_generator(
        lambda: iter([(np.arange(n, dtype="int32"), n) for n in (1, 3, 2)]),
        output_signature=(tf.TensorSpec((None,), tf.int32), tf.TensorSpec((), tf.int32)),
    ).apply(tf.data.experimental.assert_cardinality(3))
    feed = Feed(
        Splits(train=lines), prepare_many=lambda x, y: (x.to_tensor(-1, shape=(None, 4)), y)
    )
    assert contents(feed.evaluation("train", 3)) == [
        [[0, -1, -1, -1], [0, 1, 2, -1], [0, 1, -1, -1]]
    ]


def test_similar_lengths_share_batches():
    rows = tf.data.Dataset.from_tensor_slices((np.arange(64) % 8, np.zeros(64, "int32")))
    feed = Feed(Splits(train=rows), prepare_many=lambda x, y: (x, y), length=lambda x: x)
    for batch in contents(feed.training(batch_size=8, seed=0, epochs=1)):
        assert len(set(batch)) == 1


def test_chosen_examples_are_prepared_and_varied_like_a_training_batch():
    feed = Feed(
        DATA,
        prepare=lambda x, y: (x + 1000, y),
        batch=lambda x, y: (2 * x, y),
        vary=lambda x, y, seed: (x + tf.random.stateless_uniform((2,), seed, 1, 9, tf.int32), -y),
    )
    features, labels = feed.varied([(3, 1), (5, 1)], seed=7)
    assert labels.numpy().tolist() == [-1, -1]
    added = features.numpy() - [2006, 2010]
    assert ((added >= 1) & (added < 9)).all()
    np.testing.assert_array_equal(feed.varied([(3, 1), (5, 1)], seed=7)[0], features)


def test_weights_of_labels_pass_through():
    rows = tf.data.Dataset.from_tensor_slices(([1, 2], [3, 4], [0.5, 0.0]))
    (batch,) = Feed(Splits(train=rows, test=rows)).evaluation("test", 2)
    assert [part.numpy().tolist() for part in batch] == [[1, 2], [3, 4], [0.5, 0.0]]


def test_a_task_may_have_no_validation_set():
    feed = Feed(Splits(train=numbers(4)))
    assert feed.evaluation("validation", 2) is None
    with pytest.raises(ValueError, match="The splits are train"):
        feed.evaluation("test", 2)


def test_only_one_way_of_preparing_is_taken():
    with pytest.raises(ValueError, match="Only one of"):
        Feed(DATA, prepare=lambda x, y: (x, y), prepare_many=lambda x, y: (x, y))
