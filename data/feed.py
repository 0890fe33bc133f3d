"""From a loader's examples to the batches that a network trains on and is evaluated on."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import tensorflow as tf

from data import pipeline
from data.splits import Splits

PREPARED_TOGETHER = 256
"""Number of examples per call of `prepare_many`; single texts would take four times as long."""


class Feed:
    """Turns examples into batches: prepared once, shuffled and varied for training.

    Args:
        data: The examples, datasets of `(features, label)` or of any tuple of tensors.
        prepare: Maps one example before it is cached, such as decoding an image.
        prepare_many: Maps many examples at once, instead of `prepare`; may return another number
            of rows. Dimensions of unknown size arrive as ragged tensors.
        batch: Maps the parts of a batch after the cache, such as scaling to floats.
        vary: Maps `(features, labels, seed)` of a training batch after `batch`, such as
            augmentation; must be a pure function, seed int32 `(2,)`.
        length: From the features of all rows to the length of each, int32 `(rows,)`: training
            batches are then made of rows of similar length. None mixes all lengths.
    """

    def __init__(
        self,
        data: Splits,
        *,
        prepare: Callable[..., Any] | None = None,
        prepare_many: Callable[..., Any] | None = None,
        batch: Callable[..., Any] | None = None,
        vary: Callable[..., Any] | None = None,
        length: Callable[[Any], tf.Tensor] | None = None,
    ):
        if prepare and prepare_many:
            raise ValueError("Only one of `prepare` and `prepare_many` may be given.")
        self.data = data
        self._prepare = _as_it_is(prepare)
        self._prepare_many = _as_it_is(prepare_many)
        self._batch = _as_it_is(batch)
        self._vary = _as_it_is(vary)
        self._length = length
        # Each split is prepared at most once.
        self.rows = cache(self._rows)

    def count(self, split: str = "train") -> int:
        """Returns the number of rows of a split."""
        return pipeline.count(self.rows(split))

    def checksum(self, split: str = "train") -> int:
        """Returns a number that changes with the rows of a split, or with its examples."""
        if split in self.data.checksums:
            return self.data.checksums[split]
        return pipeline.checksum(self.rows(split))

    def steps_per_epoch(self, batch_size: int | None) -> int:
        """Returns the number of training batches of one epoch; None is one batch of all rows."""
        return pipeline.steps_per_epoch(self.count(), batch_size or self.count())

    def training(
        self, *, batch_size: int | None, seed: int, epochs: int, start_step: int = 0
    ) -> tf.data.Dataset:
        """Returns the training batches of all epochs from `start_step` on.

        See `data.pipeline.training_batches` for the order and the arguments. A batch size of None
        makes one batch of all rows.
        """
        return pipeline.training_batches(
            self.rows("train"),
            batch_size=batch_size or self.count(),
            seed=seed,
            epochs=epochs,
            start_step=start_step,
            prepare=self._prepare,
            transform=self._varied if self._batch or self._vary else None,
            length=self._length,
        )

    def evaluation(self, split: str, batch_size: int | None) -> tf.data.Dataset | None:
        """Returns the batches of a split in order; None for a validation set that is not there.

        A batch size of None makes one batch of all rows.
        """
        if split == "validation" and self.data.validation is None:
            return None
        return pipeline.evaluation_batches(
            self.rows(split),
            batch_size=batch_size or self.count(split),
            prepare=self._prepare,
            transform=self._batch,
        )

    def varied(self, examples: Sequence[Any], seed: int) -> Any:
        """Returns some examples as one batch that training might see.

        Args:
            examples: At least one, for `prepare`, which must give all the same shape.
            seed: Decides how they vary.
        """
        prepared = [self._prepare(*one) if self._prepare else one for one in examples]
        parts = tf.nest.map_structure(lambda *rows: tf.stack(rows), *prepared)
        return self._varied(*parts, tf.random.fold_in([seed, 1], 0))

    def _rows(self, split: str) -> Any:
        """Returns a split for `pipeline`: a dataset, or the prepared rows in one tensor each."""
        examples = self.data.split(split)
        if self._prepare_many is None:
            return examples
        chunks = examples.ragged_batch(PREPARED_TOGETHER).map(
            self._prepare_many, num_parallel_calls=tf.data.AUTOTUNE
        )
        return pipeline.stored_or_counted(chunks)

    def _varied(self, *parts_and_seed: Any) -> Any:
        *parts, seed = parts_and_seed
        batch = self._batch(*parts) if self._batch else tuple(parts)
        return self._vary(*batch, seed) if self._vary else batch


def _as_it_is(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Keeps AutoGraph from rewriting a function of TensorFlow operations, which takes seconds.

    Its errors then reach the user unchanged, too.
    """
    return function and tf.autograph.experimental.do_not_convert(function)
