"""What all apps let a user choose about a run."""

import json
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from training.optimizers import OptimizerName, Schedule
from training.setup import Precision, Strategy


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
