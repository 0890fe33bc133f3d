"""Speed of our layers against the counterparts in Keras, TensorFlow and, where installed, PyTorch.

Each layer runs forward, and forward and backward (gradients to input and weights), in a
`tf.function` with and without XLA. Runs alternate between all of them; what is printed is the
median of each in milliseconds, and how many times as long the counterpart takes.

Example:

    OMP_WAIT_POLICY=passive python -m benchmarks.layers --only GroupNormalization
"""

import inspect
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
import tyro

import layers

try:
    import torch
except ImportError:
    torch = None

SHAPE = (32, 56, 56, 64)


@dataclass(frozen=True)
class Config:
    only: str = ""
    """Measure only the cases whose name contains this."""
    rounds: int = 11
    """Interleaved runs of each."""


@dataclass(frozen=True)
class Case:
    """A layer and what it is compared with, on random images of shape `SHAPE`."""

    name: str
    ours: Callable[[], Callable[[tf.Tensor], tf.Tensor]]
    """Makes our layer, or a function of the input."""
    counterpart: str
    """Name of what it is compared with."""
    theirs: Callable[[], Callable[[tf.Tensor], tf.Tensor]]
    """Makes the counterpart: a Keras layer or a function of the input."""
    pytorch: Callable[[], Any] | None = None
    """Makes the counterpart in PyTorch, where it has one."""


def draw_from_patches(pool_size: int, strides: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Stochastic pooling in the usual way: patches, then a categorical draw from each."""

    def pool(x):
        window, step = [1, pool_size, pool_size, 1], [1, strides, strides, 1]
        patches = tf.image.extract_patches(tf.nn.relu(x), window, step, [1, 1, 1, 1], "VALID")
        batch, down, across, _ = patches.shape
        patches = tf.reshape(patches, (-1, pool_size**2, x.shape[3]))
        patches = tf.reshape(tf.transpose(patches, (0, 2, 1)), (-1, pool_size**2))
        positions = tf.random.stateless_categorical(tf.math.log(patches + 1e-20), 1, seed=(0, 3))
        drawn = tf.gather(patches, positions, axis=1, batch_dims=1)
        return tf.reshape(drawn, (batch, down, across, x.shape[3]))

    return pool


def crop_spectrum(x):
    """Spectral pooling to half the height and width by Fourier transforms."""
    spectrum = tf.signal.fft2d(tf.cast(tf.transpose(x, (0, 3, 1, 2)), tf.complex64))
    spectrum = tf.signal.fftshift(spectrum, axes=(2, 3))
    height, width = x.shape[1:3]
    spectrum = spectrum[:, :, height // 4 : -height // 4, width // 4 : -width // 4]
    shrunk = tf.signal.ifft2d(tf.signal.ifftshift(spectrum, axes=(2, 3)))
    return tf.transpose(tf.math.real(shrunk), (0, 2, 3, 1)) / 4


CASES = [
    Case(
        "BatchNormalization",
        layers.BatchNormalization,
        "keras.layers.BatchNormalization",
        keras.layers.BatchNormalization,
        lambda: torch.nn.BatchNorm2d(64),
    ),
    Case(
        "GroupNormalization",
        layers.GroupNormalization,
        "keras.layers.GroupNormalization",
        keras.layers.GroupNormalization,
        lambda: torch.nn.GroupNorm(32, 64),
    ),
    Case(
        "LocalResponseNormalization",
        lambda: layers.LocalResponseNormalization(5, 1.0, 1e-4, 0.75),
        "tf.nn.local_response_normalization",
        lambda: lambda x: tf.nn.local_response_normalization(x, 5, 1.0, 1e-4, 0.75),
        lambda: torch.nn.LocalResponseNorm(11, 11e-4, 0.75, 1.0),
    ),
    Case(
        "StochasticPooling2D 2 x 2",
        lambda: layers.StochasticPooling2D(2),
        "draws from extracted patches",
        lambda: draw_from_patches(2, 2),
    ),
    Case(
        "StochasticPooling2D 3 x 3 / 2",
        lambda: layers.StochasticPooling2D(3, 2),
        "draws from extracted patches",
        lambda: draw_from_patches(3, 2),
    ),
    Case(
        "StochasticPooling2D 2 x 2 and max",
        lambda: layers.StochasticPooling2D(2),
        "keras.layers.MaxPooling2D",
        lambda: keras.layers.MaxPooling2D(2),
        lambda: torch.nn.MaxPool2d(2),
    ),
    Case(
        "StochasticPooling2D 3 x 3 / 2 and max",
        lambda: layers.StochasticPooling2D(3, 2),
        "keras.layers.MaxPooling2D",
        lambda: keras.layers.MaxPooling2D(3, 2),
        lambda: torch.nn.MaxPool2d(3, 2),
    ),
    Case(
        "LpPooling2D 2 x 2, p = 2",
        lambda: layers.LpPooling2D(2),
        "root of TensorFlow's average of squares",
        lambda: lambda x: tf.sqrt(tf.nn.avg_pool2d(tf.square(x), 2, 2, "VALID")),
        lambda: torch.nn.LPPool2d(2.0, 2),
    ),
    Case(
        "MixedPooling2D 2 x 2",
        lambda: layers.MixedPooling2D(2),
        "mean of TensorFlow's two poolings",
        lambda: (
            lambda x: (tf.nn.max_pool2d(x, 2, 2, "VALID") + tf.nn.avg_pool2d(x, 2, 2, "VALID")) / 2
        ),
    ),
    Case(
        "SpectralPooling2D 2 x 2",
        lambda: layers.SpectralPooling2D(2),
        "Fourier transforms of TensorFlow",
        lambda: crop_spectrum,
    ),
]


def passes(operation, jit_compile: bool) -> tuple[Callable, Callable]:
    """The forward pass, and the forward and backward pass, of a layer or function, compiled."""
    images = tf.random.stateless_normal(SHAPE, (0, 1))
    is_layer = isinstance(operation, keras.Layer)
    trains = is_layer and "training" in inspect.signature(operation.call).parameters
    call = {"training": True} if trains else {}
    direction = tf.random.stateless_normal(operation(images, **call).shape, (0, 2))
    weights = [weight.value for weight in operation.trainable_variables] if is_layer else []

    @tf.function(jit_compile=jit_compile)
    def forward():
        return operation(images, **call)

    @tf.function(jit_compile=jit_compile)
    def forward_and_backward():
        with tf.GradientTape() as tape:
            tape.watch(images)
            answer = operation(images, **call)
        return tape.gradient(answer, [images, *weights], output_gradients=direction)

    return forward, forward_and_backward


def torch_passes(module) -> tuple[Callable, Callable]:
    """The same two passes of a PyTorch module, on images in channels_last order."""
    images = torch.randn(SHAPE).permute(0, 3, 1, 2).requires_grad_()
    direction = torch.randn_like(module(images).detach())

    def forward():
        with torch.no_grad():
            return module(images)

    def forward_and_backward():
        return torch.autograd.grad(module(images), [images, *module.parameters()], direction)

    return forward, forward_and_backward


def medians(runs: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Median time of each run in ms, the runs taking turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn >= 2:  # the first two compile and warm up
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(case: Case, rounds: int) -> None:
    """Prints the two rows of a case."""
    columns = {
        "ours": passes(case.ours(), jit_compile=False),
        "theirs": passes(case.theirs(), jit_compile=False),
        "ours XLA": passes(case.ours(), jit_compile=True),
        "theirs XLA": passes(case.theirs(), jit_compile=True),
    }
    if torch is not None and case.pytorch is not None:
        columns["pytorch"] = torch_passes(case.pytorch())
    for index, title in enumerate(("forward", "forward + backward")):
        found = medians({name: both[index] for name, both in columns.items()}, rounds)
        cells = [
            f"{found['ours']:.1f}",
            f"{found['theirs']:.1f}",
            f"{found['theirs'] / found['ours']:.2f}",
            f"{found['ours XLA']:.1f}",
            f"{found['theirs XLA']:.1f}",
            f"{found['theirs XLA'] / found['ours XLA']:.2f}",
        ]
        if "pytorch" in found:
            cells += [f"{found['pytorch']:.1f}", f"{found['pytorch'] / found['ours']:.2f}"]
        else:
            cells += ["", ""]
        print(f"| {case.name} | {case.counterpart} | {title} | {' | '.join(cells)} |", flush=True)


def main(config: Config) -> None:
    keras.utils.set_random_seed(0)
    if torch is not None:
        torch.set_num_threads(os.cpu_count() or 1)
    heads = ["layer", "counterpart", "pass", "ours, ms", "theirs, ms", "ratio"]
    heads += ["ours XLA, ms", "theirs XLA, ms", "ratio", "PyTorch, ms", "ratio"]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for case in CASES:
        if config.only in case.name:
            measure(case, config.rounds)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
