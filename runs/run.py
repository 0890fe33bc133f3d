"""A run of an app from its settings."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from callbacks import EarlyStopping, Throughput
from runs.settings import Settings
from training.checkpoint import Checkpoint, check_resume
from training.loop import fit
from training.optimizers import LEARNING_RATES, learning_rate_schedule, optimizer
from training.setup import is_chief, undistributed

NOT_TRAINED = ("out", "resume", "checkpoint_every")
"""Settings that may change when a run is resumed."""


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
