"""The training loop of every app: Keras' train step and callbacks, exact resume, any strategy.

Keras' `fit` fails under `MultiWorkerMirroredStrategy` and cannot continue inside an epoch.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training.checkpoint import Checkpoint, Pace
from training.setup import has_other_workers, is_chief
from training.signals import stop_signals
from training.state import ModelState, assign, values_of
from training.steps import Steps, is_loss

STEPS_PER_CALL = 10
"""Steps per call of the graph: enough to hide the cost of a call on small networks."""


class Interrupted(KeyboardInterrupt):
    """The run received Ctrl-C or SIGTERM and has saved its checkpoint."""


class NotFinite(ArithmeticError):
    """A loss or a weight became NaN or infinite."""


def fit(
    model: keras.Model,
    batches: Callable[[int], tf.data.Dataset],
    *,
    epochs: int,
    steps_per_epoch: int,
    validation: tf.data.Dataset | None = None,
    validate_every: int = 1,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Checkpoint | None = None,
    checkpoint_every: int | None = None,
    config: dict[str, Any] | None = None,
    jit_compile: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, list[float]]:
    """Trains a model, continuing from the checkpoint if it holds one.

    The model is compiled, or is a subclass of `keras.Model` with its own `train_step`, several
    optimizers in the dict `optimizers` (see `training.state.ModelState`), and all weights and
    metrics made in its constructor. Such a `train_step` returns results of the model's metrics. It
    draws random numbers with `keras.random`; under a strategy each call needs a seed generator.

    On a CPU an interrupted run that is started again ends with the same bits as one that was
    never interrupted, as long as `batches(n)` is what `batches(0)` yields after `n` batches.

    If an optimizer keeps a moving average of the weights, the model has the averaged weights during
    validation, in the callbacks at the end of an epoch, and when training ends.

    A finished run keeps its checkpoint, from which `fit` returns at once, without batches. A run
    of several stages, each with a checkpoint, therefore resumes in the stage where it stopped.

    Args:
        model: The model, made with its metrics in the scope of the strategy that trains it.
        batches: From the number of steps already taken to the batches of all the steps that
            remain: `(features, labels)`, or with weights of the labels `(features, labels,
            weights)`, or what the model's own `train_step` takes. A batch is the global one, split
            over the replicas.
        epochs: Epochs of the whole run.
        steps_per_epoch: Steps (global batches) of an epoch.
        validation: Batches for the `val_*` logs of each epoch; each replica evaluates all of them.
            None for no validation.
        validate_every: Epochs from one validation to the next; the last epoch always has one. The
            `val_*` logs of the others are NaN.
        callbacks: Keras callbacks. Those with `get_state` and `set_state` are saved and restored.
        checkpoint: Where the state of the run is kept; None keeps none. It is written at the end,
            on a stop, and in between when `training.checkpoint.Pace` says so.
        checkpoint_every: Maximum number of steps between checkpoints; None for no limit.
        config: The settings of the run, saved with the checkpoint.
        jit_compile: Whether XLA compiles the training step, for each shape of a batch. It replaces
            that of `compile`, which Keras ignores where operations are deterministic.
        clock: Returns the time in seconds, from any start.

    Returns:
        The history: the values of each metric after each epoch.

    Raises:
        Interrupted: After Ctrl-C or SIGTERM, with the checkpoint written.
        ValueError: If `jit_compile` is on for several workers on CPUs.
        NotFinite: When a weight, or a log whose name ends in `loss`, is NaN or infinite; names the
            step.
    """
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    if jit_compile and has_other_workers(model.distribute_strategy) and not has_gpu:
        raise ValueError(
            "`jit_compile` needs GPUs where several workers train: XLA has no collective "
            "operations on CPUs. Received: jit_compile=True"
        )
    run = _Run(model, checkpoint, config, epochs, steps_per_epoch, callbacks, jit_compile)
    state = checkpoint.load() if checkpoint else None
    run.require_same_step(state["step"] if state else 0)
    if state and state["finished"]:
        run.restore(state)
        return run.recorder.history
    remaining = batches(state["step"] if state else 0)
    run.build(remaining, validation)
    with stop_signals() as stop_requested:
        run.callbacks.on_train_begin()
        if state:
            run.restore(state)
            state = None  # It contains a copy of all variables.
        run.pace = Pace(checkpoint_every, clock)
        run.stop_requested = stop_requested
        iterator = iter(run.strategy.experimental_distribute_dataset(_by_data(remaining)))
        while not run.is_over():
            _epoch(run, iterator, validation, validate_every)
        run.finish()
    return run.recorder.history


def validation_logs(model: keras.Model, validation: tf.data.Dataset) -> list[str]:
    """Returns the names of the `val_*` logs of `fit`, without testing the model.

    Args:
        model: As in `fit`.
        validation: As in `fit`.
    """
    strategy = model.distribute_strategy
    steps = Steps(model, strategy)
    with strategy.scope():
        steps.build_metrics(validation, validation)
    return [*_of_validation(steps.untested_logs())]


class _Run:
    """The state of a run in progress."""

    pace: Pace
    stop_requested: Callable[[], bool]

    def __init__(self, model, checkpoint, config, epochs, steps_per_epoch, callbacks, jit_compile):
        self.model = model
        self.state = ModelState(model)
        self.strategy = model.distribute_strategy
        self.checkpoint = checkpoint
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = epochs * steps_per_epoch
        self.step = 0
        # The last one, so that it sees the logs of the others.
        self.recorder = keras.callbacks.History()
        self.stateful = [callback for callback in callbacks if hasattr(callback, "get_state")]
        self.callbacks = keras.callbacks.CallbackList(
            [*callbacks, self.recorder],
            model=model,
            epochs=epochs,
            steps=steps_per_epoch,
        )
        self.steps = Steps(model, self.strategy, jit_compile)
        self._of_each_worker = tf.function(
            lambda values: self.strategy.run(lambda own: own, (values,))
        )

    def _mean_over_workers(self, values: Sequence[float]) -> np.ndarray:
        """Returns the mean over the values of all workers; all must call it together."""
        each = self._of_each_worker(tf.constant(values, tf.float64))
        return self.strategy.reduce("MEAN", each, axis=None).numpy()

    def require_same_step(self, step: int):
        """Raises unless all workers continue from the same step."""
        mean, square = self._mean_over_workers([step, step**2])
        # The variance reveals it to the worker that happens to be at the mean; up to rounding.
        if abs(mean - step) > 1e-6 * (1 + step) or square - mean**2 > 1e-12 * (1 + square):
            raise ValueError(
                f"All workers must find the same checkpoint, in one folder that they share. "
                f"Received: step {step} in {self.checkpoint.path} here, {mean:g} on the average"
            )

    def build(self, batches, validation):
        """Creates optimizer and metric variables, which a traced step under a strategy cannot."""
        with self.strategy.scope():
            self.state.build()
            self.steps.build_metrics(batches, validation)
            self.model.stop_training = False
        self.state.count_variables()

    def take_steps(self, iterator, count: int) -> dict[str, float]:
        """Takes `count` training steps and returns the epoch's metrics so far."""
        lost = self.steps.take(iterator, count)
        # This comes before any worker stops, because all read the metrics together.
        logs = self.steps.training_logs()
        if lost is not None:
            step, loss = lost
            raise NotFinite(self._advice(f"`{loss}` became NaN or infinite", self.step + step))
        self.step += count
        self._require_finite(logs)
        return logs

    def validate(self, batches) -> dict[str, float]:
        self.callbacks.on_test_begin()
        self.steps.test(batches)
        logs = _of_validation(self.steps.test_logs())
        self._require_finite(logs)
        self.callbacks.on_test_end(logs)
        return logs

    def _require_finite(self, logs: dict[str, float]):
        """Raises for a loss of the validation, or of another worker, whose step is not known."""
        for name, value in logs.items():
            if is_loss(name) and not math.isfinite(value):
                raise NotFinite(self._advice(f"`{name}` became NaN or infinite", self.step))

    def require_finite_weights(self):
        # ReLU turns NaN into 0, so that weights can be lost behind a finite loss.
        if not self.state.is_finite():
            raise NotFinite(self._advice("A weight had become NaN or infinite", self.step))

    def is_over(self) -> bool:
        at_end_of_epoch = self.step % self.steps_per_epoch == 0
        return self.step >= self.total_steps or (self.model.stop_training and at_end_of_epoch)

    def save_if_due(self):
        """Writes the checkpoint if it is due or the run is to stop, and stops it."""
        due, stop = is_chief(self.strategy) and self.pace.is_due(self.step), self.stop_requested()
        if has_other_workers(self.strategy):
            # They save and stop together: only together can they read the strategy's variables.
            due, stop = (bool(mean > 0) for mean in self._mean_over_workers([due, stop]))
        if due or stop:
            self.save()
        if stop:
            raise Interrupted(self._how_to_continue())

    def save(self, finished: bool = False):
        """Writes the checkpoint; every worker reads the variables, only the chief writes."""
        if not self.checkpoint:
            return
        self.require_finite_weights()
        values = values_of(self.state.weights) if finished else self.state.read()
        if is_chief(self.strategy):
            with self.pace.writing():
                self.checkpoint.save(
                    {
                        "config": self.config,
                        "step": self.step,
                        "finished": finished,
                        "stopped": bool(self.model.stop_training),
                        "history": self.recorder.history,
                        "variables": values,
                        "callbacks": [callback.get_state() for callback in self.stateful],
                    }
                )

    def restore(self, state):
        self.step = state["step"]
        self.recorder.history.update(state["history"])
        self.model.stop_training = state["stopped"]
        variables = self.state.weights if state["finished"] else self.state.variables
        assign(variables, state["variables"], self.strategy)
        for callback, value in zip(self.stateful, state["callbacks"], strict=True):
            callback.set_state(value)

    def finish(self):
        """Gives the model its final weights, and saves them."""
        self.state.keep_averages()
        self.callbacks.on_train_end()
        self.save(finished=True)
        if self.stop_requested():
            raise Interrupted(self._how_to_continue())

    def _how_to_continue(self) -> str:
        if not self.checkpoint:
            return f"Stopped after step {self.step}."
        return (
            f"Stopped after step {self.step}; {self.checkpoint.path} holds the state. The same "
            "command continues from there."
        )

    def _advice(self, what: str, step: int) -> str:
        last = self.checkpoint.last_good() if self.checkpoint else "The run keeps no checkpoint."
        return (
            f"{what} at step {step} (epoch {(step - 1) // self.steps_per_epoch + 1}). {last} Try a "
            "smaller learning rate, a warm-up, gradient clipping, float32 or bfloat16 instead of "
            "float16 precision, and look for extreme values in the data."
        )


def _epoch(run: _Run, iterator, validation, validate_every: int) -> None:
    """Runs one epoch, or the rest of it in a resumed run."""
    epoch, done = divmod(run.step, run.steps_per_epoch)
    if done == 0:
        run.model.reset_metrics()
    run.callbacks.on_epoch_begin(epoch)
    logs: dict[str, float] = {}
    while done < run.steps_per_epoch:
        count = min(STEPS_PER_CALL, run.steps_per_epoch - done, run.pace.steps_left(run.step))
        run.callbacks.on_train_batch_begin(done)
        logs = run.take_steps(iterator, count)
        done += count
        run.callbacks.on_train_batch_end(done - 1, logs)
        if done < run.steps_per_epoch:
            run.save_if_due()
    run.require_finite_weights()
    with run.state.averaged():
        if validation is not None:
            is_due = (epoch + 1) % validate_every == 0 or run.step >= run.total_steps
            unknown = _of_validation(run.steps.untested_logs())
            logs = {**logs, **(run.validate(validation) if is_due else unknown)}
        run.callbacks.on_epoch_end(epoch, logs)
    if not run.is_over():
        run.save_if_due()


def _of_validation(logs: dict[str, float]) -> dict[str, float]:
    return {f"val_{name}": value for name, value in logs.items()}


def _by_data(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Gives each worker a part of every global batch, instead of a part of the files."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)
