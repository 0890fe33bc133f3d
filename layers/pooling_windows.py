"""The base of the pooling layers: their arguments, shapes and windows."""

import math

import keras
from keras import ops


class _Pooling2D(keras.layers.Layer):
    """Checks Keras' pooling arguments, and returns the windows of an image as tensors."""

    def __init__(
        self,
        pool_size=2,
        strides=None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.pool_size = _pair(pool_size, "pool_size")
        self.strides = self.pool_size if strides is None else _pair(strides, "strides")
        self.padding = padding
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        if padding not in ("valid", "same"):
            raise ValueError(f"`padding` must be 'valid' or 'same'. Received: padding={padding!r}")
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(
                "`data_format` must be 'channels_last' or 'channels_first'. "
                f"Received: data_format={data_format!r}"
            )

    def build(self, input_shape):
        if len(input_shape) != 4:
            raise ValueError(
                "The input must be a batch of images with 4 axes. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        sides = self._sides(input_shape)
        if None in sides:
            raise ValueError(
                f"Height and width must be known. Received: input_shape={tuple(input_shape)}"
            )
        for side, window in zip(sides, self.pool_size, strict=True):
            if self.padding == "valid" and side < window:
                raise ValueError(
                    "`pool_size` must be at most the height and width of the image, unless "
                    f"`padding` is 'same'. Received: pool_size={self.pool_size}, "
                    f"input_shape={tuple(input_shape)}"
                )

    def compute_output_shape(self, input_shape):
        first = 1 if self.data_format == "channels_last" else 2
        sides = (
            None if side is None else self._num_windows(side, axis)
            for axis, side in enumerate(self._sides(input_shape))
        )
        return (*input_shape[:first], *sides, *input_shape[first + 2 :])

    def get_config(self):
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }

    def _sides(self, shape) -> tuple:
        return tuple(shape[1:3] if self.data_format == "channels_last" else shape[2:4])

    def _num_windows(self, side: int, axis: int) -> int:
        if self.padding == "same":
            return math.ceil(side / self.strides[axis])
        return (side - self.pool_size[axis]) // self.strides[axis] + 1

    def _channels_last(self, inputs):
        """Returns inputs as `(batch, height, width, channels)`, at least float32."""
        x = ops.cast(inputs, keras.backend.result_type(self.compute_dtype, "float32"))
        return x if self.data_format == "channels_last" else ops.transpose(x, (0, 2, 3, 1))

    def _as_outputs(self, x):
        """Reverses `_channels_last`, in the compute dtype of the layer."""
        x = ops.cast(x, self.compute_dtype)
        return x if self.data_format == "channels_last" else ops.transpose(x, (0, 3, 1, 2))

    def _mean(self, x):
        """Returns the mean of the pixels of each window inside the image; channels last."""
        if self.padding == "valid":
            return self._padded_mean(x)
        # With PyTorch, Keras' own "same" padding also counts repeated pixels.
        (down, top, _), (across, left, _) = self._grid(x.shape)
        (high, wide), (tall, broad) = self.strides, self.pool_size

        def fit(x):
            sizes = ((down - 1) * high + tall, (across - 1) * wide + broad)
            return _fit(x, (-top, -left), sizes)

        inside = self._padded_mean(fit(ops.ones((1, *x.shape[1:3], 1), x.dtype)))
        return self._padded_mean(fit(x)) / inside

    def _padded_mean(self, x):
        return ops.average_pool(x, self.pool_size, self.strides, "valid", "channels_last")

    def _grid(self, shape) -> list[tuple[int, int, int]]:
        """Returns, for height and width, the numbers of windows, padded pixels before, and cells.

        A cell is as large as the stride.
        """
        grid = []
        for axis, side in enumerate(shape[1:3]):
            window, stride = self.pool_size[axis], self.strides[axis]
            windows = self._num_windows(side, axis)
            missing = 0
            if self.padding == "same":
                missing = max((windows - 1) * stride + window - side, 0)
            grid.append((windows, missing // 2, windows + (window - 1) // stride))
        return grid

    def _offsets(self) -> list[tuple[int, int]]:
        return [(i, j) for i in range(self.pool_size[0]) for j in range(self.pool_size[1])]

    def _windows(self, x) -> list:
        """Returns one tensor per pixel of a window, row by row: that pixel of all windows.

        The images are `(batch, height, width, channels)`, each tensor is `(batch, windows down,
        windows across, channels)`. Pixels of the padding are 0.
        """
        (down, top, rows), (across, left, columns) = self._grid(x.shape)
        (high, wide), channels = self.strides, x.shape[3]
        x = _fit(x, (-top, -left), (rows * high, columns * wide))
        # Pixels one stride apart become adjacent: slices with steps take several times as long.
        x = ops.reshape(x, (-1, rows, high, columns, wide, channels))
        return [
            x[:, i // high : i // high + down, i % high, j // wide : j // wide + across, j % wide]
            for i, j in self._offsets()
        ]

    def _from_windows(self, windows: list, shape):
        """Computes the transpose of `_windows`: each pixel is the sum over its windows.

        The gradient of each slice in `_windows` would be as large as the image. Here they stay as
        large as the slices until those at the same position within a stride are added.
        """
        (_, top, rows), (_, left, columns) = self._grid(shape)
        high, wide = self.strides
        cells: dict[tuple[int, int], list] = {}
        for (i, j), window in zip(self._offsets(), windows, strict=True):
            shifted = _fit(window, (-(i // high), -(j // wide)), (rows, columns))
            cells.setdefault((i % high, j % wide), []).append(shifted)
        zeros = ops.zeros_like(next(iter(cells.values()))[0])
        x = ops.stack(
            [
                ops.concatenate([sum(cells.get((i, j), [zeros])) for j in range(wide)], axis=-1)
                for i in range(high)
            ],
            axis=2,
        )  # (batch, rows, high, columns, wide * channels)
        x = ops.reshape(x, (-1, rows * high, columns * wide, shape[3]))
        return _fit(x, (top, left), tuple(shape[1:3]))


def _fit(x, starts: tuple[int, int], sizes: tuple[int, int]):
    """Crops or zero-pads images to `sizes` rows and columns from `starts` on."""
    index, pads = [slice(None)], [(0, 0)]
    for side, start, size in zip(x.shape[1:3], starts, sizes, strict=True):
        index.append(slice(max(start, 0), min(start + size, side)))
        pads.append((max(-start, 0), max(start + size - side, 0)))
    pads.append((0, 0))
    if sizes != tuple(x.shape[1:3]) or starts != (0, 0):
        x = ops.pad(x[tuple(index)], pads) if any(map(any, pads)) else x[tuple(index)]
    return x


def _pair(value, name: str) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(size, int) and size >= 1 for size in pair):
        raise ValueError(
            f"`{name}` must be one positive integer, or two for height and width. "
            f"Received: {name}={value!r}"
        )
    return pair
