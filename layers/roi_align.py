"""Features of regions of an image, by bilinear samples: from one map, or from a pyramid."""

import math

import keras
from keras import ops

from layers.boxes import finite

SAMPLES_OF_A_PART = 2**22
"""TensorFlow's kernel crops the boxes of an image in parts with about so many numbers, which stay
in memory that is used again: all at once they take up to twice as long."""


class _ROIAlign(keras.layers.Layer):
    """What both layers share: samples from the map of each box, and the mean of each bin."""

    def __init__(
        self,
        size: int,
        strides: tuple[int, ...],
        samples: int,
        aligned: bool,
        compilable: bool,
        **kwargs,
    ):
        for name, value in {"size": size, "samples": samples}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
        # Without autocast: 16 bits are too coarse for the coordinates of boxes.
        super().__init__(autocast=False, **kwargs)
        self.size = size
        self.samples = samples
        self.aligned = aligned
        self.compilable = compilable
        self._strides = strides

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "samples": self.samples,
            "aligned": self.aligned,
            "compilable": self.compilable,
        }

    def _check(self, map_shapes, boxes_shape) -> None:
        for shape in map_shapes:
            if len(shape) != 4 or None in shape[1:]:
                raise ValueError(
                    "Feature maps must have the shape (batch, height, width, channels), known but "
                    f"for the batch. Received: {tuple(shape)}"
                )
        if len(boxes_shape) != 3 or boxes_shape[-1] != 4:
            raise ValueError(
                f"Boxes must have the shape (batch, boxes, 4). Received: {tuple(boxes_shape)}"
            )

    def _pooled_shape(self, map_shape, boxes_shape) -> tuple:
        return (*boxes_shape[:2], self.size, self.size, map_shape[-1])

    def _pool(self, maps, boxes, levels):
        """Returns the features of each box from the map with the number in `levels`.

        The maps have the shape `(batch, height, width, channels)`, levels `(batch, boxes)`.
        """
        maps = [ops.cast(features, "float32") for features in maps]
        rows, columns = self._bins(boxes, levels)
        if self.compilable or keras.backend.backend() != "tensorflow":
            outputs = self._gather(maps, rows, columns, levels)
        else:
            outputs = self._crop(maps, rows, columns, levels)
        return ops.cast(outputs, self.compute_dtype)

    def _bins(self, boxes, levels) -> tuple:
        """Returns start and size of the bins of each box in its map, of rows and of columns."""
        scales = ops.take(ops.convert_to_tensor([1 / x for x in self._strides]), levels, axis=0)
        # No gradient: it would be that of the bilinear weights alone, without their position.
        scaled = ops.stop_gradient(finite(boxes)) * scales[..., None]
        xmin, ymin, xmax, ymax = ops.unstack(scaled, 4, axis=-1)  # (batch, boxes)
        bins = []
        for start, end in ((ymin, ymax), (xmin, xmax)):
            side = end - start
            if self.aligned:
                start = start - 0.5
            else:
                side = ops.maximum(side, 1.0)
            bins.append((start, side / self.size))
        return tuple(bins)

    def _gather(self, maps, rows, columns, levels):
        """Samples by gathering the four pixels around each, on every backend and with XLA."""
        heights, widths = ([features.shape[axis] for features in maps] for axis in (1, 2))
        areas = [height * width for height, width in zip(heights, widths, strict=True)]
        starts = [sum(areas[:level]) for level in range(len(maps))]
        width = ops.take(ops.convert_to_tensor(widths, "int32"), levels, axis=0)
        start = ops.take(ops.convert_to_tensor(starts, "int32"), levels, axis=0)
        start = start + sum(areas) * ops.arange(ops.shape(levels)[0], dtype="int32")[:, None]
        channels = maps[0].shape[-1]
        # All maps are in one row of pixels, so that each box costs the samples of one map.
        pixels = [
            ops.reshape(features, (-1, area, channels))
            for features, area in zip(maps, areas, strict=True)
        ]
        pixels = ops.reshape(ops.concatenate(pixels, axis=1), (-1, channels))
        columns = self._neighbours(*columns, ops.cast(width, "float32"))
        height = ops.take(ops.convert_to_tensor(heights, "float32"), levels, axis=0)
        outputs = 0.0
        # XLA computes all terms of the sum in one loop, without intermediate arrays.
        for row, row_weight in self._neighbours(*rows, height):
            row = start[..., None] + width[..., None] * row  # (batch, boxes, size)
            for column, column_weight in columns:
                weight = row_weight[..., :, None] * column_weight[..., None, :]
                pixel = ops.take(pixels, row[..., :, None] + column[..., None, :], axis=0)
                outputs = outputs + weight[..., None] * pixel
        return outputs

    def _neighbours(self, start, bin_size, length) -> list[tuple]:
        """Returns, of each sample of a bin along an axis, two pixels and their weights.

        The arguments have the shape `(batch, boxes)`, the pixels and their weights `(batch, boxes,
        size)`. Samples outside [-1, length] have the weight 0.
        """
        neighbours = []
        for sample in range(self.samples):
            offsets = ops.arange(self.size, dtype="float32") + (sample + 0.5) / self.samples
            position = start[..., None] + bin_size[..., None] * offsets
            last = length[..., None] - 1
            is_inside = ops.logical_and(position >= -1, position <= last + 1)
            position = ops.minimum(ops.maximum(position, 0.0), last)
            before = ops.floor(position)
            after = ops.minimum(before + 1, last)
            share = position - before
            for pixel, weight in ((before, 1 - share), (after, share)):
                weight = ops.where(is_inside, weight / self.samples, 0.0)
                neighbours.append((ops.cast(pixel, "int32"), weight))
        return neighbours

    def _crop(self, maps, rows, columns, levels):
        """Samples by TensorFlow's kernel: on a CPU the same values in a fraction of the time."""
        import tensorflow as tf
        from tensorflow.python.framework.config import is_op_determinism_enabled

        (ymin, ysize), (xmin, xsize) = (
            [ops.reshape(x, (-1,)) for x in axis] for axis in (rows, columns)
        )
        # From the first sample to the last one; a map begins one pixel before its first.
        half = 0.5 / self.samples
        corners = [ymin + ysize * half, xmin + xsize * half]
        corners += [ymin + ysize * (self.size - half), xmin + xsize * (self.size - half)]
        corners = tf.stack(corners, axis=1) + 1
        batch, number = ops.shape(levels)
        images = tf.repeat(tf.range(batch), number)

        channels = maps[0].shape[-1]
        samples = (levels.shape[1] or 1) * channels * (self.size * self.samples) ** 2
        # The boxes are on several maps, and each part has a gradient as large as its map.
        parts = math.ceil(samples / SAMPLES_OF_A_PART / len(maps))
        levels = tf.reshape(levels, (-1,))

        def crop(*maps):
            numbers, outputs = [], []
            for level, features in enumerate(maps):
                # One more pixel at each edge: the kernel has 0 from there on.
                padded = tf.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)), "SYMMETRIC")
                sides = tf.constant([x + 1 for x in features.shape[1:3]] * 2, "float32")
                chosen = tf.cast(tf.where(levels == level)[:, 0], "int32")
                count = tf.size(chosen)
                for part in range(parts):
                    boxes = chosen[count * part // parts : count * (part + 1) // parts]
                    crops = tf.image.crop_and_resize(
                        padded,
                        tf.gather(corners, boxes) / sides,
                        tf.gather(images, boxes),
                        (self.size * self.samples,) * 2,
                    )
                    numbers.append(boxes)
                    outputs.append(tf.nn.avg_pool2d(crops, self.samples, self.samples, "VALID"))
            outputs = tf.dynamic_stitch(numbers, outputs)
            return tf.reshape(outputs, (batch, number, self.size, self.size, channels))

        @tf.custom_gradient
        def crop_with_gradient(*maps):
            def gradient(upstream):
                with tf.GradientTape() as tape:
                    tape.watch(maps)
                    outputs = self._gather(maps, rows, columns, tf.reshape(levels, (batch, number)))
                return tape.gradient(outputs, maps, upstream)

            return crop(*maps), gradient

        # The threads of the kernel's own gradient overwrite each other's sums, but for one thread,
        # which TensorFlow takes where operations are deterministic.
        return (crop if is_op_determinism_enabled() else crop_with_gradient)(*maps)


@keras.saving.register_keras_serializable(package="hornbook")
class ROIAlign(_ROIAlign):
    """Pools the features of boxes to a fixed size, without rounding coordinates.

    Each box is divided into `size` x `size` bins. The output of a bin is the mean of `samples` x
    `samples` bilinear samples at regular distances. Samples outside [-1, height] x [-1, width] of
    the map are 0, and those between there and the edge have the value of the edge. There is no
    gradient to the boxes.

    Reference:
        He et al., Mask R-CNN, 2017, section 3, "RoIAlign". https://arxiv.org/abs/1703.06870

    Args:
        size: Number of bins along each side; at least 1.
        stride: Pixels of the image per pixel of the feature map, the unit of the boxes.
        samples: Number of samples along each side of a bin; at least 1.
        aligned: Whether the value of a pixel is at its centre, and so a box is shifted by half a
            pixel of the map. False is for older weights: no shift, and boxes have sides of at
            least 1 pixel of the map.
        compilable: Whether XLA can compile the layer. With False TensorFlow's kernel is used, which
            on a CPU computes the same in a fraction of the time. Other backends ignore it.

    Call arguments:
        inputs: The pair `[features, boxes]`; boxes are `(xmin, ymin, xmax, ymax)`.

    Input shape:
        features `(batch, height, width, channels)`, boxes `(batch, boxes, 4)`.

    Output shape:
        `(batch, boxes, size, size, channels)`.

    Example:
        >>> features = ops.reshape(ops.arange(25, dtype="float32"), (1, 5, 5, 1))
        >>> pooled = ROIAlign(2, samples=1)([features, ops.array([[[1.0, 1.0, 3.0, 3.0]]])])
        >>> ops.convert_to_numpy(pooled)[0, 0, :, :, 0].tolist()
        [[6.0, 7.0], [11.0, 12.0]]
    """

    def __init__(
        self,
        size: int,
        stride: int = 1,
        samples: int = 2,
        aligned: bool = True,
        compilable: bool = True,
        **kwargs,
    ):
        if stride <= 0:
            raise ValueError(f"`stride` must be above 0. Received: stride={stride}")
        super().__init__(size, (stride,), samples, aligned, compilable, **kwargs)
        self.stride = stride

    def build(self, input_shape):
        features_shape, boxes_shape = input_shape
        self._check([features_shape], boxes_shape)

    def call(self, inputs):
        features, boxes = inputs
        return self._pool([features], boxes, ops.zeros(ops.shape(boxes)[:2], "int32"))

    def compute_output_shape(self, input_shape):
        return self._pooled_shape(*input_shape)

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}


@keras.saving.register_keras_serializable(package="hornbook")
class PyramidROIAlign(_ROIAlign):
    """Pools each box, as `ROIAlign` does, from the level of a pyramid that fits its size.

    The level of a box is `floor(canonical_level + log2(sqrt(width height) / canonical_size))`,
    within the levels that there are; level k has the stride 2^k. There is no gradient to the
    boxes.

    Reference:
        Lin et al., Feature Pyramid Networks for Object Detection, 2017, eq. 1.
        https://arxiv.org/abs/1612.03144

    Args:
        size: Number of bins along each side; at least 1.
        strides: Pixels of the image per pixel of each feature map: successive powers of 2.
        samples: Number of samples along each side of a bin; at least 1.
        canonical_size: Side of the boxes, in pixels of the image, whose level is
            `canonical_level`; above 0.
        canonical_level: Level of these boxes.
        aligned: That of `ROIAlign`.
        compilable: That of `ROIAlign`.

    Call arguments:
        inputs: The pair `[[p2, p3, ...], boxes]`; boxes are `(xmin, ymin, xmax, ymax)`.

    Input shape:
        each feature map `(batch, height, width, channels)`, boxes `(batch, boxes, 4)`.

    Output shape:
        `(batch, boxes, size, size, channels)`.

    Example:
        >>> pyramid = [ops.ones((2, side, side, 3)) for side in (32, 16, 8, 4)]
        >>> boxes = ops.array([[[0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 128.0, 128.0]]] * 2)
        >>> tuple(PyramidROIAlign(7)([pyramid, boxes]).shape)
        (2, 2, 7, 7, 3)
    """

    def __init__(
        self,
        size: int,
        strides: tuple[int, ...] = (4, 8, 16, 32),
        samples: int = 2,
        canonical_size: float = 224,
        canonical_level: int = 4,
        aligned: bool = True,
        compilable: bool = True,
        **kwargs,
    ):
        strides = tuple(strides)
        first = strides[0].bit_length() - 1 if strides else 0
        if strides != tuple(2 ** (first + i) for i in range(max(len(strides), 1))):
            raise ValueError(
                f"`strides` must be successive powers of 2. Received: strides={strides}"
            )
        if canonical_size <= 0:
            raise ValueError(
                f"`canonical_size` must be above 0. Received: canonical_size={canonical_size}"
            )
        super().__init__(size, strides, samples, aligned, compilable, **kwargs)
        self.strides = strides
        self.canonical_size = canonical_size
        self.canonical_level = canonical_level

    def build(self, input_shape):
        map_shapes, boxes_shape = input_shape
        if len(map_shapes) != len(self.strides):
            raise ValueError(
                "There must be one feature map for each stride. "
                f"Received: {len(map_shapes)} maps, strides={self.strides}"
            )
        self._check(map_shapes, boxes_shape)

    def call(self, inputs):
        maps, boxes = inputs
        xmin, ymin, xmax, ymax = ops.unstack(finite(boxes), 4, axis=-1)
        area = ops.maximum((xmax - xmin) * (ymax - ymin), 1e-6)
        # The small number keeps rounding from moving boxes of exactly the canonical size down.
        level = ops.floor(
            self.canonical_level + ops.log2(ops.sqrt(area) / self.canonical_size) + 1e-6
        )
        level = level - math.log2(self.strides[0])
        level = ops.cast(ops.clip(level, 0, len(self.strides) - 1), "int32")
        return self._pool(maps, boxes, level)

    def compute_output_shape(self, input_shape):
        map_shapes, boxes_shape = input_shape
        return self._pooled_shape(map_shapes[0], boxes_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "strides": self.strides,
            "canonical_size": self.canonical_size,
            "canonical_level": self.canonical_level,
        }
