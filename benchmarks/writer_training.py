"""Speed of training a GPT in Hornbook and in Hugging Face's transformers on PyTorch.

GPTs with the same random weights learn from the same tokens, without dropout, by AdamW, in float32.
Hornbook takes its steps as its training loop does, with and without `--jit-compile`; PyTorch with
its fused AdamW and its own attention. Nothing is timed before the losses of the first 10 steps are
equal. Runs alternate between the sides. What is printed is the median time per step of each, and
the median of the ratios of neighboring runs.

Example:

    OMP_WAIT_POLICY=passive python -m benchmarks.writer_training
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import torch
import tyro
from torch import nn

from benchmarks.writing_speed import torch_gpt
from metrics import language_models
from models.gpt import GPT_SIZES, gpt_backbone, gpt_language_model
from serving.table import table
from training.loop import STEPS_PER_CALL
from training.optimizers import optimizer
from training.setup import start

VOCABULARY, RATE, DECAY = 260, 1e-3, 0.1
OURS, COMPILED, THEIRS = "Hornbook", "--jit-compile", "transformers"

Steps = Callable[[], list[float]]
"""Takes `STEPS_PER_CALL` training steps and returns the loss of each."""


@dataclass(frozen=True)
class Config:
    size: str = "nano"
    """Network to train, one of `models.gpt.GPT_SIZES`."""
    batch_size: int = 12
    """Rows per step."""
    length: int = 64
    """Tokens per row."""
    rounds: int = 15
    """Interleaved calls of each."""


def network(config: Config) -> keras.Model:
    keras.utils.set_random_seed(0)
    return gpt_language_model(gpt_backbone(config.size, VOCABULARY, config.length, 0.0))


def ours(config: Config, rows: np.ndarray, jit_compile: bool) -> Steps:
    model = network(config)
    model.compile(
        optimizer=optimizer("adamw", RATE, weight_decay=DECAY),
        loss={"logits": language_models.cross_entropy()},
        jit_compile=False,
    )
    inputs, labels = rows[:, :-1], rows[:, 1:]
    features = {"token_ids": inputs, "padding_mask": np.ones_like(inputs)}
    weights = {"logits": np.ones(labels.shape, "float32")}
    batch = (features, {"logits": labels}, weights)
    iterator = iter(tf.data.Dataset.from_tensors(batch).repeat().prefetch(1))
    model.optimizer.build(model.trainable_variables)
    model.test_on_batch(*batch)
    step = tf.function(model.train_step, jit_compile=jit_compile)

    @tf.function
    def take():
        losses = tf.TensorArray(tf.float32, STEPS_PER_CALL)
        for number in tf.range(STEPS_PER_CALL):
            model.reset_metrics()
            losses = losses.write(number, step(next(iterator))["loss"])
        return losses.stack()

    return lambda: take().numpy().tolist()


def theirs(config: Config, rows: np.ndarray) -> Steps:
    made = torch_gpt(network(config), GPT_SIZES[config.size], VOCABULARY, config.length).train()
    weights = [weight for weight in made.parameters() if weight.dim() > 1]
    others = [weight for weight in made.parameters() if weight.dim() == 1]
    groups = [
        {"params": weights, "weight_decay": DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
    # Keras adds epsilon, 1e-7, outside the bias correction.
    update = torch.optim.AdamW(groups, lr=RATE, eps=1e-7, fused=True)
    tokens = torch.tensor(rows).long()
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def take():
        losses = []
        for _ in range(STEPS_PER_CALL):
            logits = made(inputs).logits
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
            loss.backward()
            update.step()
            update.zero_grad(set_to_none=True)
            losses.append(loss.item())
        return losses

    return take


def main(config: Config) -> None:
    start(0)
    random = np.random.default_rng(0)
    rows = random.integers(VOCABULARY, size=(config.batch_size, config.length + 1)).astype("int32")
    sides: dict[str, Steps] = {
        OURS: ours(config, rows, jit_compile=False),
        COMPILED: ours(config, rows, jit_compile=True),
        THEIRS: theirs(config, rows),
    }
    first = {name: take() for name, take in sides.items()}
    for name in (OURS, COMPILED):
        np.testing.assert_allclose(first[name], first[THEIRS], rtol=1e-3)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(config.rounds):
        for name, take in sides.items():
            begin = time.perf_counter()
            take()
            seconds[name].append((time.perf_counter() - begin) / STEPS_PER_CALL)

    def row(name: str) -> list[str]:
        ratio = statistics.median(
            a / b for a, b in zip(seconds[THEIRS], seconds[name], strict=True)
        )
        return [name, f"{1e3 * statistics.median(seconds[name]):.1f}", f"{ratio:.2f}"]

    print(table(["", "ms/step", "transformers' time / this"], [row(name) for name in sides]))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
