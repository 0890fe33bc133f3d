"""From examples to batches: shuffled and resumable for training, complete for evaluation.

Only `prepare` and `transform` know the kind of the examples.
"""

import zlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

CACHE_LIMIT = 2 * 2**30
"""By default, prepared examples are cached in memory up to this many bytes."""

POOL_STEPS = 50
"""Number of batches in a pool that is sorted by length."""

Prepare = Callable[[Any, Any], tuple[Any, Any]]


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Counts the training batches of one epoch; an incomplete last batch is dropped.

    Example:
        >>> steps_per_epoch(1257, 32), steps_per_epoch(5, 32)
        (39, 1)
    """
    return max(1, num_examples // batch_size)


def count(examples: Any) -> int:
    """Returns the number of examples.

    Args:
        examples: A finite dataset of known cardinality, or stored rows: nested tensors, rows along
            the first axis.
    """
    if isinstance(examples, tf.data.Dataset):
        return int(examples.cardinality())
    return int(tf.nest.flatten(examples)[0].shape[0])


def checksum(examples: Any, most: int = 1000) -> int:
    """Returns a number that changes with the examples.

    Args:
        examples: As in `count`. In a dataset, only the first `most` examples count.
        most: Number of examples to read; at least 1.
    """
    found = 0
    rows = examples.take(most) if isinstance(examples, tf.data.Dataset) else [examples]
    for row in rows:
        for tensor in tf.nest.flatten(row, expand_composites=True):
            values = tensor.numpy()
            if not isinstance(values, bytes):
                text = values.dtype == object
                values = b"\0".join(values.ravel()) if text else values.tobytes()
            found = zlib.crc32(values, found)
    return found


def stored_or_counted(chunks: tf.data.Dataset) -> Any:
    """Reads chunks of rows once and stores them, if they take at most `CACHE_LIMIT` bytes.

    Args:
        chunks: Nests of tensors, rows along the first axis; all rows have one shape.

    Returns:
        One nest of tensors with all rows; or, if they are too large, a dataset of single rows that
        makes them again each time, its cardinality known.
    """
    kept: list[Any] = []
    num_rows, num_bytes = 0, 0
    with tf.device("CPU"):
        for chunk in chunks:
            flat = tf.nest.flatten(chunk)
            num_rows += int(flat[0].shape[0])
            num_bytes += sum(tensor.shape.num_elements() * tensor.dtype.size for tensor in flat)
            if num_bytes <= CACHE_LIMIT:
                kept.append(chunk)
            else:
                kept.clear()
        if kept:
            return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *kept)
    return chunks.unbatch().apply(tf.data.experimental.assert_cardinality(num_rows))


def training_batches(
    examples: Any,
    *,
    batch_size: int,
    seed: int,
    epochs: int,
    start_step: int = 0,
    prepare: Prepare | None = None,
    transform: Callable[..., Any] | None = None,
    cache: bool | None = None,
    shuffle_buffer: int = 4096,
    length: Callable[[Any], tf.Tensor] | None = None,
) -> tf.data.Dataset:
    """Yields the shuffled batches of all epochs, from any step on.

    The order of an epoch depends only on `seed` and the epoch; the seed for `transform` depends
    only on `seed` and the step. A run that starts at `start_step` therefore gets the same bits as
    an uninterrupted run from there on, and does not prepare or transform the batches before.

    A cached set is prepared once, here, and shuffled as a whole. Otherwise the raw examples pass
    through a buffer and are prepared in each epoch: memory stays at `shuffle_buffer` raw examples.

    Args:
        examples: Finite dataset of `(feature, label)` in a stable order, cardinality known; or
            rows that are prepared and stored already, as `stored_or_counted` returns them.
        batch_size: Examples per step over all replicas; at least 1. An incomplete last batch is
            dropped, unless the whole set is smaller than one batch.
        seed: 0 to 2**31 - 1.
        epochs: Passes over the examples; at least 1.
        start_step: Number of batches to skip, from the beginning of the first epoch.
        prepare: Maps one `(feature, label)` before the cache, such as decoding; None for nothing.
        transform: Maps the parts of a batch and a seed, int32 `(2,)`, such as
            augmentation; must be a pure function. None for nothing.
        cache: Whether to keep the prepared examples in memory (twice their size while it fills).
            None: if they have one fixed size and take at most `CACHE_LIMIT` bytes.
        shuffle_buffer: Raw examples among which an uncached set is shuffled; at least 1.
        length: From the features of all examples to the length of each, int32 `(n,)`: a batch of a
            cached set is then made of examples of similar length, so that `transform` can cut off
            what they are padded with. None to mix all lengths.

    Returns:
        A dataset of `epochs * steps_per_epoch(n, batch_size) - start_step` batches.
    """
    num_examples = _count(examples)
    for name, value in {"batch_size": batch_size, "epochs": epochs}.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
    if not 0 <= seed < 2**31:
        raise ValueError(f"`seed` must be in 0 to 2**31 - 1. Received: seed={seed}")
    steps = steps_per_epoch(num_examples, batch_size)
    if not 0 <= start_step <= steps * epochs:
        raise ValueError(
            f"`start_step` must be in 0 to {steps * epochs} ({epochs} epochs of {steps} steps). "
            f"Received: start_step={start_step}"
        )
    batch_size = min(batch_size, num_examples)
    first_epoch, first_batch = divmod(start_step, steps)
    order_seed, transform_seed = [seed, 0], [seed, 1]

    def skipped_batches(epoch):
        return tf.where(epoch == first_epoch, tf.constant(first_batch, tf.int64), 0)

    def shuffled_indices(epoch):
        epoch_seed = tf.random.fold_in(order_seed, epoch)
        indices = tf.random.experimental.stateless_shuffle(tf.range(num_examples), epoch_seed)
        indices = indices[: steps * batch_size]
        if lengths is None:
            batches = tf.reshape(indices, (steps, batch_size))
        else:
            batches = _by_length(indices, lengths, batch_size, epoch_seed)
        return tf.data.Dataset.from_tensor_slices(batches).skip(skipped_batches(epoch))

    def shuffled_examples(epoch):
        # Sets the seed of this traced function only, so that the order does not depend on
        # the global seed (with 0, `shuffle` would compare the tensor in Python).
        tf.random.set_seed(1)
        epoch_seed = tf.random.stateless_uniform(
            (), tf.random.fold_in(order_seed, epoch), minval=None, maxval=None, dtype=tf.int64
        )
        shuffled = examples.shuffle(shuffle_buffer, epoch_seed, reshuffle_each_iteration=False)
        return shuffled.take(steps * batch_size).skip(skipped_batches(epoch) * batch_size)

    is_stored = not isinstance(examples, tf.data.Dataset)
    prepared = examples if is_stored else _prepared(examples, prepare)
    epoch_numbers = tf.data.Dataset.range(first_epoch, epochs)
    if is_stored or (_fits_in_memory(prepared, num_examples) if cache is None else cache):
        stored = prepared if is_stored else _stored(prepared)
        lengths = None if length is None else length(stored[0])
        batches = epoch_numbers.flat_map(shuffled_indices).map(
            lambda indices: tf.nest.map_structure(lambda all_: tf.gather(all_, indices), stored),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    else:
        # The stream of each epoch is a whole number of batches, so batching it after the epochs
        # are joined keeps their boundaries while preparation runs ahead across them.
        batches = _prepared(epoch_numbers.flat_map(shuffled_examples), prepare).batch(
            batch_size, drop_remainder=True, num_parallel_calls=tf.data.AUTOTUNE
        )

    if transform is not None:
        numbered = tf.data.Dataset.zip(tf.data.Dataset.range(start_step, steps * epochs), batches)
        batches = numbered.map(
            lambda step, batch: transform(*batch, tf.random.fold_in(transform_seed, step)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps * epochs - start_step))
    return _finished(batches)


def evaluation_batches(
    examples: Any,
    *,
    batch_size: int,
    prepare: Prepare | None = None,
    transform: Callable[..., Any] | None = None,
    cache: bool | None = None,
) -> tf.data.Dataset:
    """Passes once over every example, in order; the last batch may be smaller.

    Args:
        examples: Finite dataset of tuples such as `(feature, label)`, cardinality known; or stored
            rows.
        batch_size: Examples per step over all replicas; at least 1.
        prepare: Maps one `(feature, label)` before the cache; None for nothing.
        transform: Maps the parts of a batch after the cache; None for nothing.
        cache: Whether the first pass keeps the prepared examples in memory for the later ones.
            None: if they have one fixed size and take at most `CACHE_LIMIT` bytes.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
    num_examples = _count(examples)
    if not isinstance(examples, tf.data.Dataset):
        batches = tf.data.Dataset.from_tensor_slices(examples).batch(batch_size)
        return _finished(batches if transform is None else batches.map(transform))
    prepared = _prepared(examples, prepare)
    batches = prepared.batch(batch_size, num_parallel_calls=tf.data.AUTOTUNE)
    if _fits_in_memory(prepared, num_examples) if cache is None else cache:
        batches = batches.cache()
    if transform is not None:
        batches = batches.map(transform, num_parallel_calls=tf.data.AUTOTUNE)
    return _finished(batches)


def _count(examples: Any) -> int:
    num_examples = count(examples)
    if num_examples < 1:
        raise ValueError(
            "`examples` must be a finite dataset of known size with at least one example. "
            f"Received: cardinality={num_examples}"
        )
    return num_examples


def _prepared(examples: tf.data.Dataset, prepare: Prepare | None) -> tf.data.Dataset:
    if prepare is None:
        return examples
    return examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)


def _fits_in_memory(prepared: tf.data.Dataset, num_examples: int) -> bool:
    specs = tf.nest.flatten(prepared.element_spec)
    if any(spec.dtype == tf.string or not spec.shape.is_fully_defined() for spec in specs):
        return False
    example_bytes = sum(spec.shape.num_elements() * spec.dtype.size for spec in specs)
    return num_examples * example_bytes <= CACHE_LIMIT


def _stored(prepared: tf.data.Dataset) -> Any:
    """Keeps all examples in one tensor per component: gathering a batch copies it only once."""
    with tf.device("CPU"):
        parts = list(prepared.batch(256, num_parallel_calls=tf.data.AUTOTUNE))
        return tf.nest.map_structure(lambda *chunks: tf.concat(chunks, axis=0), *parts)


def _by_length(
    indices: tf.Tensor, lengths: tf.Tensor, batch_size: int, seed: tf.Tensor
) -> tf.Tensor:
    """Sorts shuffled indices by length within pools of some batches, and shuffles the batches."""
    lengths = tf.cast(tf.gather(lengths, indices), tf.int64)
    pools = tf.range(tf.size(indices, tf.int64)) // (POOL_STEPS * batch_size)
    order = tf.argsort(pools * (tf.reduce_max(lengths) + 1) + lengths, stable=True)
    batches = tf.reshape(tf.gather(indices, order), (-1, batch_size))
    return tf.random.experimental.stateless_shuffle(batches, tf.random.fold_in(seed, 1))


def _finished(batches: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Every worker reads all examples and takes its share of each global batch.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options).prefetch(tf.data.AUTOTUNE)
