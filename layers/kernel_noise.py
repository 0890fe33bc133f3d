"""Regularization by noise on the kernel of a layer: DropConnect and Gaussian weight noise."""

import keras
from keras import ops


class _KernelNoise(keras.layers.Wrapper):
    """Calls a layer with noisy kernels during training, and unchanged at inference."""

    def __init__(self, layer, seed: int | None, **kwargs):
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        super().build(input_shape)
        if not any(_is_kernel(weight) for weight in self.layer.weights):
            raise ValueError(
                "`layer` must have a weight whose name ends in 'kernel', as dense and "
                f"convolution layers do. Received: layer={self.layer}"
            )

    def call(self, inputs, training=False):
        if not training:
            return self.layer(inputs)
        values = [
            (weight, self._changed(ops.convert_to_tensor(weight)) if _is_kernel(weight) else weight)
            for weight in self.layer.variables
        ]
        with keras.StatelessScope(values, collect_losses=True) as scope:
            before = [scope.get_current_value(weight) for weight in self.layer.variables]
            outputs = self.layer(inputs)
            after = [scope.get_current_value(weight) for weight in self.layer.variables]
        for loss in scope.losses:
            self.add_loss(loss + 0.0)  # Not the same object, which the inner layer reports, too.
        for variable, old, new in zip(self.layer.variables, before, after, strict=True):
            # Unchanged values may be rounded to 16 bits, and kernels contain noise: keep both.
            if new is not old and not _is_kernel(variable):
                variable.assign(new)
        return outputs

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}

    def _changed(self, kernel):
        raise NotImplementedError


def _is_kernel(weight) -> bool:
    return weight.name.endswith("kernel")


@keras.saving.register_keras_serializable(package="hornbook")
class DropConnect(_KernelNoise):
    """Drops random weights of a dense or convolution layer during training.

    Calls `layer` with `kernel * mask / (1 - rate)`. Each entry of `mask` is 0 with probability
    `rate` and 1 otherwise, so that the expected value is the kernel. One mask is drawn per call and
    shared by the batch; the paper draws one per example, which needs one kernel per example. Biases
    are not dropped. At inference the layer is unchanged, which is the paper's mean network.

    Reference:
        Wan et al., Regularization of Neural Networks using DropConnect, 2013, eq. 5.
        https://proceedings.mlr.press/v28/wan13.html

    Args:
        layer: The layer whose kernels lose weights: all weights whose name ends in "kernel".
        rate: Probability that a weight is dropped, in [0, 1).
        seed: Seed of the masks. None: a random seed.

    Call arguments:
        inputs: The inputs of `layer`.
        training: Whether to drop weights.

    Input shape:
        As of `layer`.

    Output shape:
        As of `layer`.

    Example:
        >>> layer = DropConnect(keras.layers.Dense(3), rate=0.5)
        >>> tuple(layer(ops.ones((2, 4)), training=True).shape)
        (2, 3)
    """

    def __init__(self, layer, rate: float = 0.5, seed: int | None = None, **kwargs):
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be at least 0 and below 1. Received: rate={rate}")
        super().__init__(layer, seed, **kwargs)
        self.rate = rate

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}

    def _changed(self, kernel):
        draws = keras.random.uniform(ops.shape(kernel), dtype="float32", seed=self.seed_generator)
        return ops.where(draws < self.rate, 0.0, kernel / (1 - self.rate))


@keras.saving.register_keras_serializable(package="hornbook")
class WeightNoise(_KernelNoise):
    """Adds Gaussian noise to the kernel of a layer during training.

    Calls `layer` with `kernel + stddev * n`, where `n` is drawn from the standard normal
    distribution once per call. Biases get no noise. At inference the layer is unchanged.

    Reference:
        Graves, Practical Variational Inference for Neural Networks, 2011, section 3.1
        (a posterior of fixed variance is weight noise).
        https://papers.nips.cc/paper/2011/hash/7eb3c8be3d411e8ebfab08eba5f49632-Abstract.html

    Args:
        layer: The layer whose kernels get noise: all weights whose name ends in "kernel".
        stddev: Standard deviation of the noise, in units of the weights; at least 0.
        seed: Seed of the noise. None: a random seed.

    Call arguments:
        inputs: The inputs of `layer`.
        training: Whether to add noise.

    Input shape:
        As of `layer`.

    Output shape:
        As of `layer`.

    Example:
        >>> layer = WeightNoise(keras.layers.Conv2D(3, 2), stddev=0.1)
        >>> tuple(layer(ops.ones((1, 4, 4, 2)), training=True).shape)
        (1, 3, 3, 3)
    """

    def __init__(self, layer, stddev: float = 0.1, seed: int | None = None, **kwargs):
        if stddev < 0:
            raise ValueError(f"`stddev` must be at least 0. Received: stddev={stddev}")
        super().__init__(layer, seed, **kwargs)
        self.stddev = stddev

    def get_config(self):
        return {**super().get_config(), "stddev": self.stddev}

    def _changed(self, kernel):
        noise = keras.random.normal(ops.shape(kernel), dtype="float32", seed=self.seed_generator)
        return kernel + self.stddev * noise
