"""Optimizers by name, with decoupled weight decay and a warm-up + cosine learning rate."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import keras

from training import updates

OptimizerName = Literal[
    "sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adam_98", "adamw"
]
Schedule = Literal["constant", "cosine", "linear", "inverse_sqrt"]

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "sgd": keras.optimizers.SGD,
    "momentum": partial(keras.optimizers.SGD, momentum=0.9),
    "nesterov": partial(keras.optimizers.SGD, momentum=0.9, nesterov=True),
    "adagrad": keras.optimizers.Adagrad,
    "adadelta": keras.optimizers.Adadelta,
    "rmsprop": keras.optimizers.RMSprop,
    "adam": keras.optimizers.Adam,
    # Vaswani et al., Attention Is All You Need, 2017, section 5.3.
    "adam_98": partial(keras.optimizers.Adam, beta_1=0.9, beta_2=0.98, epsilon=1e-9),
    "adamw": keras.optimizers.AdamW,
}

LEARNING_RATES = {
    "sgd": 0.1,
    "momentum": 0.05,
    "nesterov": 0.05,
    "adagrad": 0.03,
    "adadelta": 1.0,
    "rmsprop": 1e-3,
    "adam": 1e-3,
    "adam_98": 1e-3,
    "adamw": 1e-3,
}
"""Default learning rate of each optimizer."""

ADAMW_DECAY = 0.05
"""Default weight decay of adamw."""

NOT_DECAYED = ("bias", "gamma", "beta", "gain", "shift", "position", "class_token")
"""Weights with one of these in their names are not kernels, and get no decay."""


def learning_rate_schedule(
    learning_rate: float, schedule: Schedule, warmup_steps: int, total_steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate of each step.

    Rises linearly from 0 over `warmup_steps`, then stays (`constant`), falls to 0 at `total_steps`
    along half a cosine wave (`cosine`) or along a line (`linear`), or falls with the inverse square
    root of the step (`inverse_sqrt`).

    Reference:
        inverse_sqrt: Vaswani et al., Attention Is All You Need, 2017, equation 3, which is that of
        `learning_rate = (hidden_dim * warmup_steps) ** -0.5`. https://arxiv.org/abs/1706.03762
        cosine: Loshchilov & Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017,
        eq. 5, without restarts. https://arxiv.org/abs/1608.03983

    Args:
        learning_rate: The peak learning rate, reached after the warm-up.
        schedule: `constant`, `cosine`, `linear` or `inverse_sqrt`.
        warmup_steps: Updates of the weights in the warm-up; 0 for none.
        total_steps: Updates of the whole run: its batches, divided by `accumulate` of `optimizer`;
            more than `warmup_steps`.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            "`warmup_steps` must be at least 0 and less than the updates of the run. Received: "
            f"warmup_steps={warmup_steps}, total_steps={total_steps}"
        )
    if schedule == "inverse_sqrt":
        return InverseSquareRoot(learning_rate, max(warmup_steps, 1))
    if schedule == "linear":
        return Linear(learning_rate, warmup_steps, total_steps)
    if schedule == "constant" and warmup_steps == 0:
        return learning_rate
    if schedule == "constant":
        return keras.optimizers.schedules.PolynomialDecay(
            0.0, warmup_steps, end_learning_rate=learning_rate
        )
    if warmup_steps == 0:
        return keras.optimizers.schedules.CosineDecay(learning_rate, total_steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        total_steps - warmup_steps,
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
    )


@keras.saving.register_keras_serializable(package="hornbook")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises linearly and then falls with the inverse square root of the step.

    Computes `learning_rate * min(step / warmup_steps, (warmup_steps / step) ** 0.5)`.

    Args:
        learning_rate: The peak learning rate, at the end of the warm-up.
        warmup_steps: Updates of the weights in the warm-up; at least 1.
    """

    def __init__(self, learning_rate: float, warmup_steps: int):
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        share = keras.ops.cast(step, "float32") / self.warmup_steps
        falling = keras.ops.rsqrt(keras.ops.maximum(share, 1.0))
        return self.learning_rate * keras.ops.minimum(share, falling)

    def get_config(self):
        return {"learning_rate": self.learning_rate, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable(package="hornbook")
class Linear(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises linearly and then falls linearly to 0.

    Computes `learning_rate * min(step / warmup_steps, rest)`, where `rest` is
    `(total_steps - step) / (total_steps - warmup_steps)`.

    Args:
        learning_rate: The peak learning rate, at the end of the warm-up.
        warmup_steps: Updates of the weights in the warm-up; 0 for none.
        total_steps: Updates of the whole run; more than `warmup_steps`.
    """

    def __init__(self, learning_rate: float, warmup_steps: int, total_steps: int):
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        rest = (self.total_steps - step) / (self.total_steps - self.warmup_steps)
        rising = step / self.warmup_steps if self.warmup_steps else 1.0
        return self.learning_rate * keras.ops.minimum(rising, keras.ops.maximum(rest, 0.0))

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
        }


def optimizer(
    name: OptimizerName,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | None = None,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    scale: Callable[[str], float] | None = None,
    accumulate: int = 1,
    average: float | None = None,
) -> keras.optimizers.Optimizer:
    """Returns an optimizer whose weight decay is decoupled from the gradient.

    Each step also subtracts `learning_rate * weight_decay * w` from every kernel `w`.

    Reference:
        Loshchilov & Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2.
        https://arxiv.org/abs/1711.05101

    Args:
        name: One of `OPTIMIZERS`; momentum and nesterov are SGD with a momentum of 0.9.
        learning_rate: The learning rate or its schedule; None for the entry of `LEARNING_RATES`.
        weight_decay: Fraction of a kernel that a step at learning rate 1 subtracts; 0 for none.
            None for `ADAMW_DECAY` with adamw and 0 with every other optimizer.
        clip_norm: Maximum norm of all gradients together; None for no limit.
        scale: From a variable's path to the factor of its learning rate (weight decay uses the
            common rate); None for 1.
        accumulate: Batches whose gradients are averaged before the weights are updated, at least 1.
            `learning_rate` and `average` count updates, so that `accumulate` batches train as one
            batch of their size does (dropout and batch normalization see the small ones). Batches
            at the end of a run that do not complete an update are lost.
        average: Momentum of a moving average of the weights, in [0, 1): after each update it
            becomes `average * old + (1 - average) * weights`. `training.loop.fit` validates with
            it and ends with it. None for no average.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"`name` must be one of {', '.join(OPTIMIZERS)}. Received: name={name!r}")
    if weight_decay is None:
        weight_decay = ADAMW_DECAY if name == "adamw" else 0.0
    if not (weight_decay >= 0 and math.isfinite(weight_decay)):
        raise ValueError(
            f"`weight_decay` must be at least 0. Received: weight_decay={weight_decay}"
        )
    if not (isinstance(accumulate, int) and accumulate >= 1):
        raise ValueError(
            f"`accumulate` must be an integer of at least 1. Received: accumulate={accumulate!r}"
        )
    if average is not None and not 0 <= average < 1:
        raise ValueError(f"`average` must be in [0, 1). Received: average={average}")
    made = OPTIMIZERS[name](
        learning_rate=LEARNING_RATES[name] if learning_rate is None else learning_rate,
        # AdamW refuses None, and for the others a decay of 0 would still cost a pass.
        weight_decay=weight_decay if weight_decay or name == "adamw" else None,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
        use_ema=average is not None,
        ema_momentum=average or 0.0,
    )
    if weight_decay:
        made.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    if name in ("adam", "adam_98", "adamw"):
        updates.fuse_adam(made)
    updates.add_up_gradients(made)
    if clip_norm is not None:
        updates.clip_gradients(made, clip_norm)
    if scale is not None:
        updates.scale_learning_rates(made, scale)
    if accumulate > 1:
        updates.accumulate_gradients(made)
    return made


def layerwise_scale(depths: Mapping[str, int], decay: float) -> Callable[[str], float]:
    """Returns a scale that falls from the head to the embeddings of a pretrained network.

    The learning rate of depth `d` is multiplied by `decay ** (d_max - d)`: layers near the input
    are already general and change less.

    Reference:
        Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, 2018, section
        3.2 (discriminative fine-tuning). https://arxiv.org/abs/1801.06146

    Args:
        depths: The depth of each variable, by its path: 0 for the embeddings, largest for the head.
        decay: In (0, 1]; 1 treats all layers equally.

    Example:
        >>> scale = layerwise_scale({"embedding": 0, "layer_0": 1, "head": 2}, 0.5)
        >>> [scale(path) for path in ("embedding", "layer_0", "head")]
        [0.25, 0.5, 1.0]
    """
    if not 0 < decay <= 1:
        raise ValueError(f"`decay` must be in (0, 1]. Received: decay={decay}")
    last = max(depths.values())
    scales = {path: decay ** (last - depth) for path, depth in depths.items()}
    return lambda path: scales[path]
