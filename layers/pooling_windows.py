"""What the pooling layers share: their arguments, shapes and windows."""

import keras
from keras import ops


class _WindowPooling2D(keras.layers.Layer):
    """Keras' pooling arguments, checked, and windows as lists of tensors.

    The methods for `call` work on `(batch, height, width, channels)`, whatever the data format;
    sizes may be unknown before the call.
    """

    def __init__(self, pool_size, strides, padding: str, data_format: str | None, **kwargs):
        super().__init__(**kwargs)
        self.pool_size = _pair(pool_size, "pool_size")
        self.strides = self.pool_size if strides is None else _pair(strides, "strides")
        self.padding = padding
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        if padding not in ("valid", "same"):
            raise ValueError(
                f"`padding` must be 'valid' or 'same'. Received: padding={padding!r}"
            )
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(
                "`data_format` must be 'channels_last' or 'channels_first'. "
                f"Received: data_format={data_format!r}"
            )

    def build(self, input_shape):
        if len(input_shape) != 4:
            raise ValueError(
                "The input must have four axes: batch, height, width and channels. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        sizes = input_shape[1:3] if self.data_format == "channels_last" else input_shape[2:4]
        for size, window in zip(sizes, self.pool_size, strict=True):
            if self.padding == "valid" and size is not None and size < window:
                raise ValueError(
                    "`pool_size` must be at most the input's height and width, or `padding` be "
                    f"'same'. Received: pool_size={self.pool_size}, "
                    f"input_shape={tuple(input_shape)}"
                )

    def compute_output_shape(self, input_shape):
        first = 1 if self.data_format == "channels_last" else 2
        sizes = (
            None if size is None else self._num_windows(size, axis)
            for axis, size in enumerate(input_shape[first : first + 2])
        )
        return (*input_shape[:first], *sizes, *input_shape[first + 2 :])

    def get_config(self):
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }

    def _channels_last(self, inputs):
        """The inputs as `(batch, height, width, channels)`, in float32 at least."""
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        x = ops.cast(inputs, dtype)
        return x if self.data_format == "channels_last" else ops.transpose(x, (0, 2, 3, 1))

    def _as_inputs(self, outputs):
        """Outputs `(batch, height, width, channels)` in the layer's data format and dtype."""
        outputs = ops.cast(outputs, self.compute_dtype)
        if self.data_format == "channels_last":
            return outputs
        return ops.transpose(outputs, (0, 3, 1, 2))

    def _num_windows(self, size, axis: int):
        if self.padding == "same":
            return (size - 1) // self.strides[axis] + 1
        return (size - self.pool_size[axis]) // self.strides[axis] + 1

    def _pixels_before(self, size, axis: int):
        """Rows or columns of padding before the first pixel, half of all rounded down."""
        if self.padding == "valid":
            return 0
        last_window = (self._num_windows(size, axis) - 1) * self.strides[axis]
        missing = last_window + self.pool_size[axis] - size
        return (max(missing, 0) if isinstance(missing, int) else ops.maximum(missing, 0)) // 2

    def _window_elements(self, x):
        """Lists the first elements of all windows, then the second ones, row by row.

        Elements of the padding are 0. Each tensor is `(batch, windows down, windows across,
        channels)`.
        """
        windows = [self._num_windows(size, axis) for axis, size in enumerate(ops.shape(x)[1:3])]
        phases = self._phases(x, windows)
        elements = []
        for row in range(self.pool_size[0]):
            for column in range(self.pool_size[1]):
                top, left = row // self.strides[0], column // self.strides[1]
                phase = phases[row % self.strides[0]][column % self.strides[1]]
                elements.append(
                    phase[:, top : top + windows[0], left : left + windows[1]]
                    if max(self.pool_size[i] > self.strides[i] for i in (0, 1))
                    else phase
                )
        return elements

    def _phases(self, x, windows):
        """Splits the padded input into its pixels at each offset modulo the strides.

        Splitting costs a copy, and its gradient another; slices with steps cost several, since
        the gradient of each is as large as the input.
        """
        batch, *_, channels = ops.shape(x)
        pads, cells = [(0, 0)], []
        for axis, size in enumerate(ops.shape(x)[1:3]):
            before = self._pixels_before(size, axis)
            cells.append(windows[axis] + (self.pool_size[axis] - 1) // self.strides[axis])
            after = cells[axis] * self.strides[axis] - before - size
            pads.append(
                (before, max(after, 0) if isinstance(after, int) else ops.maximum(after, 0))
            )


def _pair(value, name: str) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(size, int) and size >= 1 for size in pair):
        raise ValueError(
            f"`{name}` must be a positive integer or a pair of them, for height and width. "
            f"Received: {name}={value!r}"
        )
    return pair
