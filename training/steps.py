"""The traced steps of training and testing, and their logs."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


def is_loss(name: str) -> bool:
    """Whether a log is a loss by its name.

    Example:
        >>> [is_loss(name) for name in ("loss", "val_loss", "generator_loss", "losses")]
        [True, True, True, False]
    """
    return name.endswith("loss")


class Steps:
    """Takes many steps in one call of a graph.

    Args:
        model: Has a `train_step`, which returns results of the model's metrics, and for a
            validation a `test_step`.
        strategy: Splits a batch over its replicas.
        jit_compile: Whether XLA compiles the training step, for each shape of a batch.
    """

    def __init__(
        self, model: keras.Model, strategy: tf.distribute.Strategy, jit_compile: bool = False
    ):
        self.model = model
        self.strategy = strategy
        self._take = tf.function(self._take_many)
        self._trained_names: list[str] = []
        train_step = _noting_names(model.train_step, self._trained_names)
        self._train_step = tf.function(train_step, jit_compile=True) if jit_compile else train_step
        self._tested_names: list[str] = []
        test_step = _noting_names(model.test_step, self._tested_names)
        # Batches of texts have many lengths, and each would be traced.
        self._test_step = tf.function(
            lambda batch: strategy.run(test_step, (batch,)), reduce_retracing=True
        )

    def build_metrics(self, batches: tf.data.Dataset, validation: tf.data.Dataset | None) -> None:
        """Has Keras make the metrics of `compile`, which otherwise happens in the first step.

        Tracing the test step makes them. The trace is that of all batches of the validation.

        A model with its own `train_step` may have no `test_step`: it needs none where there is no
        validation.
        """
        if validation is not None:
            self._test_step.get_concrete_function(validation.element_spec)
        elif type(self.model).train_step is keras.Model.train_step:
            self._test_step.get_concrete_function(batches.element_spec)
        in_scope = self.strategy.extended.variable_created_in_scope
        if not all(in_scope(variable.value) for variable in self.model.metrics_variables):
            raise ValueError(
                "The model's metrics must be made inside `strategy.scope()`: made outside, each "
                "worker would show the metrics of its own part of a batch."
            )

    def take(self, iterator, count: int) -> tuple[int, str] | None:
        """Takes steps; returns the first, from 1, with a loss that is not finite, and the loss.

        The losses are those of this worker's replicas. None where all are finite.
        """
        step, loss = (int(number) for number in self._take(iterator, tf.constant(count)))
        return (step, self._losses()[loss]) if step > 0 else None

    def _take_many(self, iterator, count):
        bad_step, bad_loss = tf.constant(0), tf.constant(0)
        for step in tf.range(1, count + 1):
            logs = self.strategy.run(self._train_step, (next(iterator),))
            lost = self._lost_losses(logs)
            if bad_step == 0 and tf.reduce_any(lost):
                bad_step, bad_loss = step, tf.argmax(tf.cast(lost, tf.int32), output_type=tf.int32)
        return bad_step, bad_loss

    def _losses(self) -> list[str]:
        return [name for name in self._trained_names if is_loss(name)]

    def _lost_losses(self, logs):
        """Returns whether each loss is not finite on some replica, bool, and one more False."""

        def is_lost(name):
            values = self.strategy.experimental_local_results(logs[name])
            return tf.reduce_any([tf.reduce_any(~tf.math.is_finite(value)) for value in values])

        return tf.stack([*(is_lost(name) for name in self._losses()), tf.constant(False)])

    def test(self, batches: tf.data.Dataset) -> None:
        """Tests the model on all batches, in every replica."""
        self.model.reset_metrics()
        for batch in batches:
            self._test_step(batch)

    def training_logs(self) -> dict[str, float]:
        """Returns the metrics of the training steps since they were reset."""
        return self._results("train_step", self._trained_names)

    def test_logs(self) -> dict[str, float]:
        """Returns the metrics of the last test."""
        return self._results("test_step", self._tested_names)

    def untested_logs(self) -> dict[str, float]:
        """Returns NaN in place of the metrics of a test that did not take place."""
        return dict.fromkeys(self._tested_names, math.nan)

    def _results(self, step: str, names: Sequence[str]) -> dict[str, float]:
        results = self.model.get_metrics_result()
        unknown = sorted(set(names) - results.keys())
        if unknown:
            raise ValueError(
                f"`{step}` must return results of the model's metrics, which are "
                f"{', '.join(results) or 'none'}. Received also: {', '.join(unknown)}"
            )
        return {name: float(value) for name, value in results.items() if name in names}


def _noting_names(step: Callable[[Any], dict], names: list[str]) -> Callable[[Any], dict]:
    """Returns a step that also puts the names of what it logs into a list when it is traced."""

    def noting(batch):
        logs = step(batch)
        names[:] = logs
        return logs

    return noting
