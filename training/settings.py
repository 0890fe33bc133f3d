"""What all apps let a user choose about a run, and the run itself from these settings."""

import json
import math
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from callbacks import EarlyStopping, Throughput
from training.checkpoint import Checkpoint, check_resume
from training.loop import fit
from training.optimizers import (
    LEARNING_RATES,
    OptimizerName,
    Schedule,
    learning_rate_schedule,
    optimizer,
)
from training.setup import Precision, Strategy, is_chief, undistributed

NOT_TRAINED = ("out", "resume", "checkpoint_every")
"""Settings that may change when a run is resumed."""


@dataclass(frozen=True)
class Settings:
    """What every app has; an app's config gives the defaults and adds what its task needs."""

    data: str
    """The examples."""
    model: str
    """The network."""
    epochs: int
    """Passes over the training set."""
    out: Path
    """Folder of the run: versions for TensorFlow Serving, model.keras, report.html."""
    skip_bad: bool = False
    """Leave bad examples out instead of stopping."""
    batch_size: int = 32
    """Examples a step, over all devices."""
    optimizer: OptimizerName = "adamw"
    """How the gradient becomes a step; momentum and nesterov are SGD with momentum 0.9."""
    learning_rate: float | None = None
    """Highest step size; None for the optimizer's usual."""
    schedule: Schedule = "cosine"
    """How the step size goes on after the warm-up."""
    warmup_epochs: float = 0.0
    """Epochs over which the step size rises from 0."""
    weight_decay: float | None = None
    """Decoupled weight decay; None for 0.05 with adamw and 0 with the others."""
    clip_norm: float | None = None
    """Largest norm of the gradients of a step, all together; None for no limit."""
    patience: int = 0
    """Stop after so many epochs without a better validation loss; 0 for never."""
    seed: int = 0
    """Seeds weights, shuffling, dropout and augmentation."""
    precision: Precision = "float32"
    """Type of the computations."""
    strategy: Strategy = "none"
    """Devices to train on: `mirrored`: all GPUs; `multi_worker`: the processes in TF_CONFIG, whose
    `out` is one folder that they share."""
    jit_compile: bool = False
    """Compile the training step with XLA: often faster on GPUs. On CPUs, where operations are
    deterministic, Keras does not and warns."""
    resume: bool = False
    """Insist on continuing an interrupted run. Without it a run continues where it finds one."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; None for one epoch."""

    def __post_init__(self):
        for name in ("epochs", "batch_size", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        rate = self.learning_rate
        if rate is not None and not (rate >= 0 and math.isfinite(rate)):
            raise ValueError(f"`learning_rate` must be at least 0. Received: learning_rate={rate}")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ValueError(f"`clip_norm` must be above 0. Received: clip_norm={self.clip_norm}")

    def require_only(self, models: Collection[str], *names: str) -> None:
        """Raises `ValueError` if a setting is given that the network does not heed.

        Args:
            models: The networks that heed it.
            names: The settings.
        """
        defaults = {field.name: field.default for field in fields(self)}
        for name in names:
            if self.model not in models and getattr(self, name) != defaults[name]:
                known = ", ".join(models)
                raise ValueError(f"`{name}` is for {known}. Received: model={self.model!r}")

    @property
    def saved(self) -> dict[str, Any]:
        """The settings as JSON values, as the run folder and the model card hold them."""
        return json.loads(json.dumps({**asdict(self), "out": str(self.out)}))


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Args:
        model: The network, free of the strategy in the process that writes files.
        history: For each metric its value after each epoch.
        checkpoint: To be deleted once the export is written.
    """

    model: keras.Model
    history: dict[str, list[float]]
    checkpoint: Checkpoint


def train(
    config: Settings,
    strategy: tf.distribute.Strategy,
    *,
    make_model: Callable[[], keras.Model],
    loss: keras.losses.Loss | dict[str, keras.losses.Loss],
    metrics: list[keras.metrics.Metric] | dict[str, list[keras.metrics.Metric]],
    steps_per_epoch: int,
    batches: Callable[[int], tf.data.Dataset],
    validation: tf.data.Dataset,
    scale: Callable[[keras.Model], Callable[[str], float]] | None = None,
    loss_weights: dict[str, float] | None = None,
    weighted_metrics: dict[str, list[keras.metrics.Metric]] | None = None,
) -> Trained:
    """Builds, compiles and trains a network as the settings say, or continues where a run stopped.

    Args:
        config: The app's config.
        strategy: What `prepare` returned.
        make_model: Builds the network.
        loss: Of labels and what the network returns; by output where it returns several.
        metrics: Shown after each epoch; likewise.
        steps_per_epoch: Batches of an epoch.
        batches: From the number of steps already taken to the batches of the steps that remain:
            features and labels, and weights of the labels where they do not all count the same.
        validation: Batches for the validation after each epoch.
        scale: From the network to `scale` of `training.optimizers.optimizer`; None for 1.
        loss_weights: What the loss of each output is multiplied by; None for 1.
        weighted_metrics: Metrics that, unlike the others, heed the weights of the labels.
    """
    checkpoint = Checkpoint(config.out / "checkpoint")
    step = check_resume(checkpoint, config.saved, required=config.resume, may_differ=NOT_TRAINED)
    if step and is_chief(strategy):
        total = steps_per_epoch * config.epochs
        print(f"Continuing the run in {config.out} after step {step} of {total}.")
    rate = learning_rate_schedule(
        LEARNING_RATES[config.optimizer] if config.learning_rate is None else config.learning_rate,
        config.schedule,
        round(config.warmup_epochs * steps_per_epoch),
        steps_per_epoch * config.epochs,
    )
    with strategy.scope():
        model = make_model()
        model.compile(
            optimizer=optimizer(
                config.optimizer,
                rate,
                config.weight_decay,
                config.clip_norm,
                scale and scale(model),
            ),
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            jit_compile=config.jit_compile,
        )
    callbacks: list[keras.callbacks.Callback] = [Throughput(config.batch_size)]
    if config.patience:
        callbacks.append(EarlyStopping("val_loss", patience=config.patience))
    history = fit(
        model,
        batches,
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        validation=validation,
        callbacks=callbacks,
        checkpoint=checkpoint,
        checkpoint_every=config.checkpoint_every,
        config=config.saved,
    )
    if is_chief(strategy):
        model = undistributed(model, make_model)
    return Trained(model, history, checkpoint)
