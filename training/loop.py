"""The training loop of every app: Keras' train step and callbacks, exact resume, any strategy.

Keras' own `fit` fails under `MultiWorkerMirroredStrategy` and cannot continue inside an epoch.
"""

import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training.checkpoint import Checkpoint
from training.setup import is_chief

STEPS_PER_CALL = 10
"""Steps between two looks at the host: enough to hide the cost of a call on small networks."""


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (Ctrl-C or SIGTERM) and has saved its checkpoint."""


class NotFinite(ArithmeticError):
    """The loss or a weight became NaN or infinite."""


def fit(
    model: keras.Model,
    batches: Callable[[int], tf.data.Dataset],
    *,
    epochs: int,
    steps_per_epoch: int,
    validation: tf.data.Dataset | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Checkpoint | None = None,
    checkpoint_every: int | None = None,
    config: dict[str, Any] | None = None,
    verbose: bool = True,
) -> dict[str, list[float]]:
    """Trains a compiled model, continuing from the checkpoint if it holds one.

    On a CPU an interrupted run that is started again ends with the same bits as one that was
    never interrupted, as long as `batches(n)` is what `batches(0)` yields after `n` batches.

    Args:
        model: Compiled model, made in the scope of the strategy that is to train it.
        batches: From the number of steps already taken to the batches of all the steps that
            remain: `(features, labels)`, or with weights of the labels `(features, labels,
            weights)`. A batch is the global one, split over the replicas.
        epochs: Epochs of the whole run.
        steps_per_epoch: Steps (global batches) of an epoch.
        validation: Batches for the `val_*` logs of each epoch; each replica evaluates all of them.
        callbacks: Keras callbacks. Those with `get_state` and `set_state` are saved and restored.
        checkpoint: Where the state of the run is kept; None keeps none.
        checkpoint_every: Steps between checkpoints; None for one epoch. The end of an epoch always
            writes one.
        config: The settings of the run, saved with the checkpoint.
        verbose: Whether to show a progress bar.

    Returns:
        The history: for each metric its value after each epoch.

    Raises:
        Interrupted: After Ctrl-C or SIGTERM, with the checkpoint written.
        NotFinite: When the loss or a weight is NaN or infinite; names the step.
    """
    run = _Run(model, checkpoint, config, epochs, steps_per_epoch, callbacks, verbose)
    state = checkpoint.load() if checkpoint else None
    run.require_same_step(state["step"] if state else 0)
    remaining = batches(state["step"] if state else 0)
    run.build(remaining.element_spec)
    with _stop_signals() as stop_asked:
        run.callbacks.on_train_begin()
        if state:
            run.restore(state)
        iterator = iter(run.strategy.experimental_distribute_dataset(_by_data(remaining)))
        while run.step < epochs * steps_per_epoch and not model.stop_training:
            _epoch(run, iterator, validation, checkpoint_every or steps_per_epoch, stop_asked)
        run.callbacks.on_train_end()
    return run.recorder.history


class _Run:
    """What changes while a run goes on."""

    def __init__(self, model, checkpoint, config, epochs, steps_per_epoch, callbacks, verbose):
        self.model = model
        self.strategy = model.distribute_strategy
        self.checkpoint = checkpoint
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.step = 0
        # Last of all, so that it sees what the others write into the logs.
        self.recorder = keras.callbacks.History()
        self.stateful = [callback for callback in callbacks if hasattr(callback, "get_state")]
        self.callbacks = keras.callbacks.CallbackList(
            [*callbacks, self.recorder],
            add_progbar=verbose and is_chief(self.strategy),
            model=model,
            epochs=epochs,
            steps=steps_per_epoch,
            verbose=1,
        )
        self._steps = tf.function(self._take_steps)
        # Batches of texts are of many lengths, and each would be traced.
        self._test_step = tf.function(
            lambda batch: self.strategy.run(model.test_step, (batch,)), reduce_retracing=True
        )
        self._train_step = (
            tf.function(model.train_step, jit_compile=True)
            if model.jit_compile
            else model.train_step
        )

    def require_same_step(self, step: int):
        """Raises unless all workers continue from the same step."""
        moments = tf.constant([step, step**2], tf.float64)
        run = tf.function(lambda: self.strategy.run(lambda: moments), autograph=False)
        mean, square = self.strategy.reduce("MEAN", run(), axis=None).numpy()
        # The variance tells the worker that happens to be at the mean; up to rounding.
        if abs(mean - step) > 1e-6 * (1 + step) or square - mean**2 > 1e-12 * (1 + square):
            raise ValueError(
                f"All workers must find the same checkpoint, in one folder that they share. "
                f"Received: step {step} in {self.checkpoint.path} here, {mean:g} on the average"
            )

    def build(self, element_spec):
        """Creates optimizer and metric variables, which a traced step under a strategy cannot."""

        def filled(fill, specs):
            return tf.nest.map_structure(
                lambda spec: fill([size or 2 for size in spec.shape], spec.dtype), specs
            )

        # Ones, as cuDNN's recurrent layers take no row that is all padding.
        features, *others = element_spec
        batch = (filled(tf.ones, features), *filled(tf.zeros, others))
        with self.strategy.scope():
            self.model.optimizer.build(self.model.trainable_variables)
            self._test_step(batch)
            self.model.reset_metrics()
            self.model.stop_training = False

    def _take_steps(self, iterator, count):
        bad_step = tf.constant(-1)
        for step in tf.range(count):
            logs = self.strategy.run(self._train_step, (next(iterator),))
            losses = tf.stack(self.strategy.experimental_local_results(logs["loss"]))
            is_bad = tf.reduce_any(~tf.math.is_finite(losses))
            bad_step = tf.where((bad_step < 0) & is_bad, step, bad_step)
        return bad_step

    def take_steps(self, iterator, count: int) -> dict[str, float]:
        """Takes `count` training steps and returns the epoch's metrics so far."""
        bad_step = int(self._steps(iterator, tf.constant(count)))
        self.step += count
        logs = self.metrics()
        if not np.isfinite(logs["loss"]):
            # Another worker's loss may be the bad one: then only the last step is known here.
            step = self.step - count + bad_step + 1 if bad_step >= 0 else self.step
            raise NotFinite(self._advice(f"The loss became {logs['loss']}", step))
        return logs

    def metrics(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.model.get_metrics_result().items()}

    def validate(self, batches) -> dict[str, float]:
        self.model.reset_metrics()
        for batch in batches:
            self._test_step(batch)
        return {f"val_{name}": value for name, value in self.metrics().items()}

    def _variables(self):
        return [
            *self.model.variables,
            *self.model.metrics_variables,
            *self.model.optimizer.variables,
        ]

    def save(self):
        """Writes the checkpoint; every worker reads the variables, the chief alone writes."""
        values = [variable.value.numpy() for variable in self._variables()]
        # ReLU turns NaN into 0, so that weights can be lost behind a finite loss.
        if not all(np.isfinite(value).all() for value in values):
            raise NotFinite(self._advice("A weight had become NaN or infinite", self.step))
        if not self.checkpoint:
            return
        state = {
            "config": self.config,
            "step": self.step,
            "stopped": bool(self.model.stop_training),
            "history": self.recorder.history,
            "variables": values,
            "callbacks": [callback.get_state() for callback in self.stateful],
        }
        if is_chief(self.strategy):
            self.checkpoint.save(state)

    def restore(self, state):
        self.step = state["step"]
        self.recorder.history.update(state["history"])
        self.model.stop_training = state["stopped"]
        with self.strategy.scope():
            for variable, value in zip(self._variables(), state["variables"], strict=True):
                variable.assign(value)
        for callback, value in zip(self.stateful, state["callbacks"], strict=True):
            callback.set_state(value)

    def how_to_go_on(self) -> str:
        if not self.checkpoint:
            return f"Stopped after step {self.step}."
        return (
            f"Stopped after step {self.step}; {self.checkpoint.path} holds the state. The same "
            "command continues from there."
        )

    def _advice(self, what: str, step: int) -> str:
        saved = self.checkpoint and self.checkpoint.load()
        last = (
            f"The last good checkpoint, {self.checkpoint.path}, is of step {saved['step']}."
            if saved
            else "No checkpoint had been written yet."
        )
        return (
            f"{what} at step {step} (epoch {(step - 1) // self.steps_per_epoch + 1}). {last} Try a "
            "smaller learning rate, a warm-up, gradient clipping, float32 or bfloat16 instead of "
            "float16 precision, and look for extreme values in the data."
        )


def _epoch(run: _Run, iterator, validation, checkpoint_every: int, stop_asked) -> None:
    """Runs one epoch, or what a resumed run has left of it."""
    epoch, done = divmod(run.step, run.steps_per_epoch)
    if done == 0:
        run.model.reset_metrics()
    run.callbacks.on_epoch_begin(epoch)
    logs: dict[str, float] = {}
    while done < run.steps_per_epoch:
        until_checkpoint = checkpoint_every - run.step % checkpoint_every
        count = min(STEPS_PER_CALL, run.steps_per_epoch - done, until_checkpoint)
        run.callbacks.on_train_batch_begin(done)
        logs = run.take_steps(iterator, count)
        done += count
        run.callbacks.on_train_batch_end(done - 1, logs)
        if done < run.steps_per_epoch and (count == until_checkpoint or stop_asked()):
            run.save()
        if done < run.steps_per_epoch and stop_asked():
            raise Interrupted(run.how_to_go_on())
    if validation is not None:
        run.callbacks.on_test_begin()
        validation_logs = run.validate(validation)
        run.callbacks.on_test_end(validation_logs)
        logs = {**logs, **validation_logs}
    run.callbacks.on_epoch_end(epoch, logs)
    run.save()
    if stop_asked():
        raise Interrupted(run.how_to_go_on())


def _by_data(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Lets each worker take its part of every global batch, instead of its part of the files."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)


@contextmanager
def _stop_signals():
    """Turns the first Ctrl-C or SIGTERM into a question that the loop asks between two calls."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number, frame):
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
