"""Classical whitening that adapts to data: standardization, PCA and ZCA."""

import math

import keras
import numpy as np
from keras import ops

MODES = ("standard", "pca", "zca")
CHUNK = 4096
"""Number of examples of an array that are read at once."""


@keras.saving.register_keras_serializable(package="hornbook")
class Whitening(keras.layers.Layer):
    """Centers the features of each example and scales them to unit variance.

    `adapt` computes the mean m and the covariance C = V diag(l) V^T of flattened features; C is
    divided by the number of examples. The modes are:

    - "standard": `(x - m) / sqrt(diag(C) + epsilon)`, each feature separately;
    - "pca": `(x - m) V diag(1 / sqrt(l + epsilon))`, uncorrelated, largest variance first;
    - "zca": `(x - m) V diag(1 / sqrt(l + epsilon)) V^T`, uncorrelated and as close to x as
      possible, so that a whitened image still looks like one.

    Directions without variance become zeros. Before `adapt` the layer is the identity. Mean and
    covariance are saved with the model. The time of "pca" and "zca" grows with the third power of
    the number of features, their memory with the second: use them for up to a few thousand.

    Reference:
        Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, appendix A.
        https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf

    Args:
        mode: "standard", "pca" or "zca".
        epsilon: Added to every variance, in squared units of the data; at least 0. Larger
            values amplify directions with a small variance less.
        components: For "pca", the number of directions to keep, largest variance first. None: all.

    Input shape:
        `(batch, ...)` with a known number of features.

    Output shape:
        Same as the input; for "pca" `(batch, components)`.

    Example:
        >>> layer = Whitening("zca")
        >>> layer.adapt(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]]))
        >>> np.round(layer(np.array([[2.0, 4.0]])), 3).tolist()
        [[1.0, 1.0]]
    """

    def __init__(
        self,
        mode: str = "standard",
        epsilon: float = 1e-5,
        components: int | None = None,
        **kwargs,
    ):
        if mode not in MODES:
            raise ValueError(f"`mode` must be one of {MODES}. Received: mode={mode!r}")
        if epsilon < 0:
            raise ValueError(f"`epsilon` must be at least 0. Received: epsilon={epsilon}")
        if components is not None and (mode != "pca" or components < 1):
            raise ValueError(
                "`components` must be a positive integer with mode='pca', or None. "
                f"Received: components={components}, mode={mode!r}"
            )
        # Without autocast: the mean is subtracted before anything is rounded to 16 bits.
        super().__init__(autocast=False, **kwargs)
        self.mode = mode
        self.epsilon = epsilon
        self.components = components

    def adapt(self, data) -> None:
        """Computes mean and covariance of data; replaces those of an earlier call.

        Args:
            data: Array of examples, or a `tf.data.Dataset` or other iterable of batches of
                examples (without labels). It is read once, batch by batch, in float64.
        """
        if isinstance(data, np.ndarray) or ops.is_tensor(data):
            data = np.array_split(ops.convert_to_numpy(data), range(CHUNK, len(data), CHUNK))
        mean, covariance = _moments(data, diagonal=self.mode == "standard", layer=self)
        # The variance of a constant feature due to rounding.
        rounding = (8 * np.finfo(np.float64).eps * mean) ** 2
        if self.mode == "standard":
            kernel = _inverse_root(covariance, self.epsilon, rounding)
        else:
            variances, directions = np.linalg.eigh(covariance)
            # Sorted by variance, largest first, with a positive largest entry of each direction.
            variances, directions = variances[::-1], directions[:, ::-1]
            largest = np.abs(directions).argmax(axis=0)
            directions = directions * np.sign(directions[largest, np.arange(len(largest))])
            lost = len(variances) * np.finfo(np.float64).eps * variances[0]
            kernel = directions * _inverse_root(variances, self.epsilon, lost + rounding.sum())
            if self.mode == "zca":
                kernel = kernel @ directions.T
        self.mean.assign(mean)
        self.kernel.assign(kernel[..., : self.components] if self.mode == "pca" else kernel)

    def build(self, input_shape):
        features = input_shape[1:]
        if not features or None in features:
            raise ValueError(
                "The input must have the shape (batch, ...) with all features known. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        size = math.prod(features)
        if self.components is not None and self.components > size:
            raise ValueError(
                f"`components` must be at most the number of features, {size}. "
                f"Received: components={self.components}"
            )
        shape = (size,) if self.mode == "standard" else (size, self.components or size)
        identity = np.ones(shape) if self.mode == "standard" else np.eye(*shape)
        dtype = "float64" if self.variable_dtype == "float64" else "float32"
        self.mean = self.add_weight(
            shape=(size,),
            initializer="zeros",
            dtype=dtype,
            trainable=False,
            autocast=False,
            name="mean",
        )
        self.kernel = self.add_weight(
            shape=shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(identity, dtype),
            dtype=dtype,
            trainable=False,
            autocast=False,
            name="kernel",
        )

    def call(self, inputs):
        dtype = self.mean.dtype
        shape = ops.shape(inputs)
        x = ops.reshape(ops.cast(inputs, dtype), (shape[0], math.prod(inputs.shape[1:])))
        x = x - self.mean
        x = x * self.kernel if self.mode == "standard" else ops.matmul(x, self.kernel)
        if self.mode != "pca":
            x = ops.reshape(x, shape)
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        if self.mode != "pca":
            return tuple(input_shape)
        return (input_shape[0], self.components or math.prod(input_shape[1:]))

    def get_config(self):
        return {
            **super().get_config(),
            "mode": self.mode,
            "epsilon": self.epsilon,
            "components": self.components,
        }


def _moments(batches, *, diagonal: bool, layer: Whitening) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and covariance (or only its diagonal) over all batches.

    Batches are merged as in Chan, Golub & LeVeque, Algorithms for Computing the Sample Variance,
    1983, so that no digits are lost if the mean is large.
    """
    count, mean, scatter = 0, np.zeros(1), np.zeros(1)
    for batch in batches:
        values = np.asarray(ops.convert_to_numpy(batch), np.float64)
        if values.ndim < 2:
            raise ValueError(
                "`data` must hold examples with at least one axis of features. "
                f"Received: a batch of shape {values.shape}"
            )
        if not layer.built:
            layer.build((None, *values.shape[1:]))
            layer.built = True
        values = values.reshape(len(values), math.prod(values.shape[1:]))
        if values.shape[1:] != layer.mean.shape:
            raise ValueError(
                f"`data` must have {layer.mean.shape[0]} features, as the layer was built for. "
                f"Received: examples with {values.shape[1]} features"
            )
        if not np.isfinite(values).all():
            raise ValueError("`data` must be finite. Received: NaN or infinite values")
        if len(values) == 0:
            continue
        total = count + len(values)
        center = values.mean(axis=0)
        values -= center
        shift = center - mean
        spread = shift**2 if diagonal else np.multiply.outer(shift, shift)
        own = (values**2).sum(axis=0) if diagonal else values.T @ values
        scatter = scatter + own + spread * (count * len(values) / total)
        mean = mean + shift * (len(values) / total)
        count = total
    if count == 0:
        raise ValueError("`data` must hold at least one example. Received: none")
    return mean, scatter / count


def _inverse_root(variances: np.ndarray, epsilon: float, rounding) -> np.ndarray:
    """Returns 1 / sqrt(variance + epsilon), and 0 where the variance is only due to rounding."""
    real = variances > rounding
    return np.where(real, 1 / np.sqrt(np.where(real, variances, 1) + epsilon), 0)
