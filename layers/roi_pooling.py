"""Features of regions of an image, by max pooling over rounded bins."""

import functools

import keras
from keras import ops

from layers.boxes import finite


@keras.saving.register_keras_serializable(package="hornbook")
class ROIPooling(keras.layers.Layer):
    """Pools the features of boxes to a fixed size by the maximum of each bin.

    The corners of a box are rounded to pixels of the map, of which the box covers both and those
    between: its width there is `xmax - xmin + 1`, at least 1. Each of the `size` x `size` bins
    begins at the next pixel below and ends at the next one above, so that bins overlap. A bin
    outside the map gives 0. There is no gradient to the boxes.

    Reference:
        Girshick, Fast R-CNN, 2015, section 2.1. https://arxiv.org/abs/1504.08083

    Args:
        size: Number of bins along each side; at least 1.
        stride: Pixels of the image per pixel of the feature map, the unit of the boxes.

    Call arguments:
        inputs: The pair `[features, boxes]`; boxes are `(xmin, ymin, xmax, ymax)`.

    Input shape:
        features `(batch, height, width, channels)`, boxes `(batch, boxes, 4)`.

    Output shape:
        `(batch, boxes, size, size, channels)`.

    Example:
        >>> features = ops.reshape(ops.arange(25, dtype="float32"), (1, 5, 5, 1))
        >>> pooled = ROIPooling(2, stride=1)([features, ops.array([[[1.0, 1.0, 3.0, 3.0]]])])
        >>> ops.convert_to_numpy(pooled)[0, 0, :, :, 0].tolist()
        [[12.0, 13.0], [17.0, 18.0]]
    """

    def __init__(self, size: int, stride: int, **kwargs):
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"`size` must be a positive integer. Received: size={size!r}")
        if stride <= 0:
            raise ValueError(f"`stride` must be above 0. Received: stride={stride}")
        # Without autocast: 16 bits are too coarse for the coordinates of boxes.
        super().__init__(autocast=False, **kwargs)
        self.size = size
        self.stride = stride

    def build(self, input_shape):
        features_shape, boxes_shape = input_shape
        if len(features_shape) != 4 or None in features_shape[1:]:
            raise ValueError(
                "Feature maps must have the shape (batch, height, width, channels), known but for "
                f"the batch. Received: {tuple(features_shape)}"
            )
        if len(boxes_shape) != 3 or boxes_shape[-1] != 4:
            raise ValueError(
                f"Boxes must have the shape (batch, boxes, 4). Received: {tuple(boxes_shape)}"
            )

    def call(self, inputs):
        features, boxes = inputs
        features = ops.cast(features, "float32")
        _, height, width, channels = features.shape
        # Half away from zero, as in C; `ops.round` rounds halves to even numbers.
        scaled = ops.stop_gradient(finite(boxes)) / self.stride
        rounded = ops.sign(scaled) * ops.floor(ops.abs(scaled) + 0.5)
        xmin, ymin, xmax, ymax = ops.unstack(rounded, 4, axis=-1)  # (batch, boxes)
        rows, row_size, no_rows = self._bins(ymin, ymax, height)
        columns, column_size, no_columns = self._bins(xmin, xmax, width)

        maxima = [_window_maxima(x, axis=2) for x in _window_maxima(features, axis=1)]
        num_row_sizes, num_column_sizes = len(maxima), len(maxima[0])
        # (batch, row sizes, column sizes, height, width, channels)
        maxima = ops.stack([ops.stack(x, axis=1) for x in maxima], axis=1)
        maxima = ops.reshape(maxima, (-1, channels))
        image = ops.arange(ops.shape(features)[0], dtype="int32")[:, None, None, None]
        plane = image * num_row_sizes + row_size[..., :, None]
        plane = plane * num_column_sizes + column_size[..., None, :]  # (batch, boxes, size, size)
        windows = [
            ops.take(maxima, (plane * height + row[..., :, None]) * width + column[..., None, :], 0)
            for row in rows
            for column in columns
        ]
        is_empty = ops.logical_or(no_rows[..., :, None], no_columns[..., None, :])
        outputs = functools.reduce(ops.maximum, windows)
        outputs = ops.where(is_empty[..., None], 0.0, outputs)
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        features_shape, boxes_shape = input_shape
        return (*boxes_shape[:2], self.size, self.size, features_shape[-1])

    def get_config(self):
        return {**super().get_config(), "size": self.size, "stride": self.stride}

    def _bins(self, start, end, length: int) -> tuple:
        """Returns, for one axis, the two windows whose union is each bin.

        Returns: the first pixels of both windows, `(batch, boxes, size)` each; the number of their
        size, n for 2^n pixels; and whether the bin is empty.
        """
        side = ops.maximum(end - start + 1, 1.0)
        # The minimum is 0. If the divisor were a constant, XLA would multiply by 1 / size, whose
        # rounding moves edges that are whole numbers to the next pixel.
        bin_size = (side / (self.size + ops.minimum(side, 0.0)))[..., None]
        bins = ops.arange(self.size, dtype="float32")
        first = ops.floor(bins * bin_size) + start[..., None]
        last = ops.ceil((bins + 1) * bin_size) + start[..., None]
        first, last = (ops.cast(ops.clip(x, 0, length), "int32") for x in (first, last))
        powers = [2**n for n in range(1, length.bit_length())]
        zero = ops.zeros_like(first)
        window_size = sum((ops.cast(last - first >= power, "int32") for power in powers), zero)
        second = last - ops.take(ops.array([1, *powers], "int32"), window_size)
        starts = tuple(ops.clip(x, 0, length - 1) for x in (first, second))
        return starts, window_size, last <= first


def _window_maxima(x, axis: int) -> list:
    """Returns the maxima over windows of 1, 2, 4, ... pixels from each pixel on.

    Windows that reach over the end continue at the start; no bin has one.
    """
    maxima = [x]
    while 2 ** len(maxima) <= x.shape[axis]:
        shifted = ops.roll(maxima[-1], -(2 ** (len(maxima) - 1)), axis=axis)
        maxima.append(ops.maximum(maxima[-1], shifted))
    return maxima
