"""Batches for training and evaluation: order, resuming, completeness, distribution."""

import functools
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from data import pipeline
from preprocessing.augmentation import augmentation

CACHES = pytest.mark.parametrize("cache", [True, False], ids=["cached", "uncached"])


def numbers(count: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((tf.range(count), tf.range(count) % 3))


def collected(batches) -> np.ndarray:
    return np.concatenate([features for features, _ in batches.as_numpy_iterator()])


def pictures() -> tf.data.Dataset:
    levels = np.random.default_rng(0).integers(0, 256, (22, 6, 6, 1), np.uint8)
    return tf.data.Dataset.from_tensor_slices((levels, np.arange(22, dtype=np.int32) % 3))


@CACHES
def test_every_example_comes_once_an_epoch_but_the_rest(cache):
    batches = pipeline.training_batches(
        numbers(23), batch_size=5, seed=1, epochs=3, cache=cache, shuffle_buffer=8
    )
    assert len(batches) == 3 * pipeline.steps_per_epoch(23, 5) == 12
    epochs = collected(batches).reshape(3, 20)
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])


@CACHES
def test_set_smaller_than_a_batch_is_the_batch(cache):
    batches = pipeline.training_batches(
        numbers(3), batch_size=5, seed=0, epochs=2, cache=cache, shuffle_buffer=8
    )
    assert [sorted(features) for features, _ in batches.as_numpy_iterator()] == [[0, 1, 2]] * 2


@CACHES
def test_order_depends_on_the_seed_and_on_nothing_global(cache):
    def order(seed, global_seed):
        tf.random.set_seed(global_seed)
        batches = pipeline.training_batches(
            numbers(40), batch_size=4, seed=seed, epochs=2, cache=cache, shuffle_buffer=8
        )
        return collected(batches)

    np.testing.assert_array_equal(order(7, global_seed=0), order(7, global_seed=5))
    assert not np.array_equal(order(7, global_seed=0), order(8, global_seed=0))


@tf.function  # Traced once, and not by every pipeline.
def augmented(levels, labels, seed):
    augment = augmentation("light", (6, 6, 1))
    return augment(tf.cast(levels, tf.float32) / 255, tf.one_hot(labels, 3), seed)


def augmented_batches(start_step, cache):
    return list(
        pipeline.training_batches(
            pictures(),
            batch_size=4,
            seed=2,
            epochs=3,
            start_step=start_step,
            transform=augmented,
            cache=cache,
            shuffle_buffer=8,
        ).as_numpy_iterator()
    )


unbroken_batches = functools.cache(partial(augmented_batches, 0))


@CACHES
@pytest.mark.parametrize("start_step", [0, 3, 5, 12, 15])
def test_run_from_any_step_continues_the_unbroken_run_bit_for_bit(cache, start_step):
    unbroken = unbroken_batches(cache)[start_step:]
    resumed = augmented_batches(start_step, cache)
    assert len(resumed) == len(unbroken) == 15 - start_step
    for (images, labels), (same_images, same_labels) in zip(unbroken, resumed, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)


def test_skipped_examples_are_not_prepared():
    prepared = []

    def prepare(feature, label):
        feature = tf.numpy_function(lambda x: prepared.append(x) or x, [feature], tf.int32)
        return tf.ensure_shape(feature, ()), label

    batches = pipeline.training_batches(
        numbers(20), batch_size=5, seed=0, epochs=2, start_step=6, prepare=prepare, cache=False
    )
    assert len(list(batches)) == 2
    assert len(prepared) == 10


def test_cached_examples_are_prepared_once():
    prepared = []

    def prepare(feature, label):
        feature = tf.numpy_function(lambda x: prepared.append(x) or x, [feature], tf.int32)
        return tf.ensure_shape(feature, ()), label

    list(pipeline.training_batches(numbers(9), batch_size=2, seed=0, epochs=3, prepare=prepare))
    assert sorted(prepared) == list(range(9))


def test_default_caches_only_what_is_small_and_of_one_size(monkeypatch):
    def prepared_in_two_epochs(prepare):
        calls = []

        def counted(feature, label):
            calls_op = tf.numpy_function(lambda x: calls.append(x) or x, [label], tf.int32)
            return prepare(feature), tf.ensure_shape(calls_op, ())

        batches = pipeline.training_batches(
            numbers(8), batch_size=2, seed=0, epochs=2, prepare=counted
        )
        list(batches)
        return len(calls)

    assert prepared_in_two_epochs(tf.identity) == 8
    assert prepared_in_two_epochs(tf.strings.as_string) == 16
    monkeypatch.setattr(pipeline, "CACHE_LIMIT", 8 * 8 - 1)
    assert prepared_in_two_epochs(tf.identity) == 16


@CACHES
def test_evaluation_keeps_every_example_in_order(cache):
    batches = pipeline.evaluation_batches(
        numbers(11),
        batch_size=4,
        prepare=lambda feature, label: (2 * feature, label),
        transform=lambda features, labels: (features + 1, labels),
        cache=cache,
    )
    assert len(batches) == 3
    for _ in range(2):
        np.testing.assert_array_equal(collected(batches), 2 * np.arange(11) + 1)


@CACHES
def test_replicas_share_the_global_batches_of_a_single_process(cache):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    batches = pipeline.training_batches(
        numbers(22), batch_size=4, seed=0, epochs=2, cache=cache, shuffle_buffer=8
    )
    distributed = strategy.experimental_distribute_dataset(batches)
    together = np.concatenate([features.numpy() for features, _ in distributed])
    np.testing.assert_array_equal(together, collected(batches))


@CACHES
def test_every_worker_takes_its_part_of_each_global_batch(cache):
    batches = pipeline.training_batches(
        numbers(20), batch_size=4, seed=0, epochs=2, cache=cache, shuffle_buffer=8
    )
    policy = batches.options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.DATA


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"epochs": 0}, "`epochs` must be at least 1"),
        ({"seed": -1}, "`seed` must be in"),
        ({"start_step": 5}, "`start_step` must be in 0 to 4 .2 epochs of 2 steps."),
    ],
)
def test_impossible_arguments_are_refused(change, message):
    arguments = {"batch_size": 4, "epochs": 2, "seed": 0, **change}
    with pytest.raises(ValueError, match=message):
        pipeline.training_batches(numbers(9), **arguments)


def test_examples_of_unknown_number_are_refused():
    endless = numbers(4).repeat()
    with pytest.raises(ValueError, match="must be a finite dataset"):
        pipeline.evaluation_batches(endless, batch_size=2)


def test_batches_by_length_hold_similar_lengths_and_every_example(monkeypatch):
    monkeypatch.setattr(pipeline, "POOL_STEPS", 10)
    lengths = np.random.default_rng(0).integers(1, 100, 800).astype(np.int32)
    examples = tf.data.Dataset.from_tensor_slices((lengths, tf.range(800)))

    def run(start):
        return list(
            pipeline.training_batches(
                examples,
                batch_size=8,
                seed=3,
                epochs=2,
                start_step=start,
                length=lambda features: features,
            ).as_numpy_iterator()
        )

    batches = run(0)
    for epoch in (batches[:100], batches[100:]):
        assert sorted(np.concatenate([labels for _, labels in epoch])) == list(range(800))
    # Ten sorted batches of a pool span 100 lengths together, about ten each.
    assert np.median([np.ptp(features) for features, _ in batches]) < 20
    # Short ones do not come first.
    means = [features.mean() for features, _ in batches]
    assert abs(np.corrcoef(np.arange(200), means)[0, 1]) < 0.3
    for (features, labels), (again, also) in zip(run(37), batches[37:], strict=True):
        np.testing.assert_array_equal(features, again)
        np.testing.assert_array_equal(labels, also)


def test_a_checksum_changes_with_labels_and_texts():
    def made(texts, labels):
        return tf.data.Dataset.from_tensor_slices((texts, labels))

    first = pipeline.checksum(made(["a", "bc"], [0, 1]))
    assert first == pipeline.checksum(made(["a", "bc"], [0, 1]))
    others = [made(["a", "bc"], [1, 0]), made(["ab", "c"], [0, 1]), made(["a", "bd"], [0, 1])]
    assert len({first, *map(pipeline.checksum, others)}) == 4
    rows = ({"ids": tf.constant([[1, 2], [3, 4]])}, tf.constant([0, 1]))
    turned = ({"ids": tf.constant([[1, 2], [3, 5]])}, tf.constant([0, 1]))
    assert pipeline.checksum(rows) != pipeline.checksum(turned)
