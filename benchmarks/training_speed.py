"""Training speed of the same networks in Hornbook and in PyTorch, side by side.

Both take batches that are already in memory, float32, the same batch size, number of threads and
optimizer (SGD with momentum 0.9). Runs alternate between the two; what is printed is the median
rate of each and the median of the ratios of neighbouring runs.

Example:

    OMP_WAIT_POLICY=passive python -m benchmarks.training_speed --networks lenet5
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

from models.cifar_resnet import cifar_resnet
from models.lenet import lenet5
from models.mobilenet import mobilenet


@dataclass(frozen=True)
class Config:
    networks: tuple[str, ...] = ("lenet5", "cifar_resnet20", "mobilenet")
    """Networks to compare."""
    rounds: int = 7
    """Interleaved runs of each."""
    seconds: float = 2.0
    """Length of a run."""
    variants: bool = False
    """Also measure XLA, bfloat16 and one step a call."""


@dataclass(frozen=True)
class Case:
    """A network in both libraries, and the batch it is measured on."""

    ours: Callable[[], keras.Model]
    theirs: Callable[[], nn.Module]
    input_shape: tuple[int, int, int]
    num_classes: int
    batch_size: int


def torch_lenet5() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, 10),
    )


class TorchResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut that subsamples and pads with zeros (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.stride, self.extra = stride, outputs - inputs

    def forward(self, x):
        shortcut = x[:, :, :: self.stride, :: self.stride] if self.stride > 1 else x
        if self.extra:
            half = self.extra // 2
            shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, half, self.extra - half))
        return torch.relu(self.body(x) + shortcut)


def torch_cifar_resnet20() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for outputs in (16, 32, 64):
        for block in range(3):
            stride = 2 if outputs > inputs and block == 0 else 1
            layers.append(TorchResidualBlock(inputs, outputs, stride))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def torch_mobilenet() -> nn.Module:
    def block(inputs, outputs, stride):
        return [
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU6(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        ]

    layers: list[nn.Module] = [
        nn.Conv2d(3, 32, 3, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU6(),
    ]
    inputs = 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    plan += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    for outputs, stride in plan:
        layers += block(inputs, outputs, stride)
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))


CASES = {
    "lenet5": Case(lenet5, torch_lenet5, (28, 28, 1), 10, 128),
    "cifar_resnet20": Case(
        lambda: cifar_resnet(input_shape=(32, 32, 3), num_classes=10, depth=20),
        torch_cifar_resnet20,
        (32, 32, 3),
        10,
        128,
    ),
    "mobilenet": Case(mobilenet, torch_mobilenet, (224, 224, 3), 1000, 16),
}


def batch_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    pixels = random.uniform(size=(case.batch_size, *case.input_shape)).astype("float32")
    return pixels, random.integers(case.num_classes, size=case.batch_size)


def ours(case: Case, *, jit_compile=False, precision="float32", steps_per_call=10):
    """Returns a function that takes some steps, as `training.loop.fit` takes them."""
    keras.config.set_dtype_policy(precision)
    model = case.ours()
    keras.config.set_dtype_policy("float32")
    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    iterator = iter(tf.data.Dataset.from_tensors(batch_of(case)).repeat().prefetch(1))
    model.optimizer.build(model.trainable_variables)
    model.test_on_batch(*batch_of(case))
    step = tf.function(model.train_step, jit_compile=True) if jit_compile else model.train_step

    @tf.function
    def take_steps():
        for _ in tf.range(steps_per_call):
            step(next(iterator))

    def run() -> int:
        take_steps()
        return steps_per_call * case.batch_size

    return run


def theirs(case: Case, channels_last: bool):
    torch.manual_seed(0)
    model = case.theirs()
    pixels, labels = batch_of(case)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    targets = torch.from_numpy(labels)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    correct = torch.zeros((), dtype=torch.int64)

    def run() -> int:
        for _ in range(10):
            optimizer.zero_grad(set_to_none=True)
            logits = model(images)
            nn.functional.cross_entropy(logits, targets).backward()
            optimizer.step()
            correct.add_((logits.argmax(1) == targets).sum())
        return 10 * case.batch_size

    return run


def rate(run: Callable[[], int], seconds: float) -> float:
    """Images per second over at least `seconds`."""
    images, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        images += run()
    return images / (time.perf_counter() - begin)


def compare(name: str, case: Case, config: Config) -> None:
    runs = {
        "Hornbook": ours(case),
        "PyTorch": theirs(case, channels_last=False),
        "PyTorch channels_last": theirs(case, channels_last=True),
    }
    if config.variants:
        runs["Hornbook XLA"] = ours(case, jit_compile=True)
        runs["Hornbook bfloat16"] = ours(case, precision="mixed_bfloat16")
        runs["Hornbook one step a call"] = ours(case, steps_per_call=1)
    for run in runs.values():
        rate(run, 0.5)
    rates: dict[str, list[float]] = {label: [] for label in runs}
    for _ in range(config.rounds):
        for label, run in runs.items():
            rates[label].append(rate(run, config.seconds))
    for label, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["Hornbook"], values, strict=True))
        print(
            f"{name:16}{label:26}{statistics.median(values):10.0f} images/s"
            f"{ratio:8.2f} Hornbook / this",
            flush=True,
        )


def main(config: Config) -> None:
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    print(f"TensorFlow {tf.__version__}, PyTorch {torch.__version__}, {cores} threads")
    for name in config.networks:
        compare(name, CASES[name], config)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
