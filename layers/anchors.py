"""Anchors: the boxes at regular positions that a region proposal network moves to objects."""

import itertools
import math

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="hornbook")
class Anchors(keras.layers.Layer):
    """Gives the anchors of the positions of feature maps; only the maps' shapes matter.

    At row i and column j of a map the anchors have the centre `(j stride, i stride)`, the width
    `size sqrt(1 / ratio)` and the height `size sqrt(ratio)`.

    Reference:
        Ren et al., Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
        Networks, 2015, section 3.1.1. https://arxiv.org/abs/1506.01497

    Args:
        sizes: For each feature map a tuple of the sides of square anchors, in pixels.
        ratios: Height / width of the anchors of each size; above 0.
        strides: Pixels of the image per pixel of each feature map.
        rounded: Whether the corners, relative to the centre, are rounded to whole pixels, as
            torchvision's weights need it.

    Call arguments:
        inputs: The list of feature maps.

    Input shape:
        Each `(batch, height, width, channels)`, height and width known.

    Output shape:
        `(anchors, 4)`, float32: `(xmin, ymin, xmax, ymax)` in pixels of the image, in the order of
        map, row, column, size, ratio.

    Example:
        >>> maps = [ops.zeros((1, 2, 3, 8)), ops.zeros((1, 1, 2, 8))]
        >>> layer = Anchors([(16,), (32, 48)], ratios=(0.5, 1.0, 2.0), strides=(8, 16))
        >>> tuple(layer(maps).shape)  # 2 x 3 x 1 x 3 + 1 x 2 x 2 x 3
        (30, 4)
    """

    def __init__(self, sizes, ratios, strides, rounded: bool = False, **kwargs):
        sizes = [tuple(some) for some in sizes]
        ratios, strides = tuple(ratios), tuple(strides)
        all_sizes = list(itertools.chain(*sizes))
        for name, values in {"sizes": all_sizes, "ratios": ratios, "strides": strides}.items():
            if not values or min(values) <= 0:
                raise ValueError(f"`{name}` must be above 0. Received: {name}={values}")
        if len(sizes) != len(strides):
            raise ValueError(
                "`sizes` and `strides` must have one entry for each feature map. "
                f"Received: sizes={sizes}, strides={strides}"
            )
        super().__init__(autocast=False, **kwargs)
        self.sizes = sizes
        self.ratios = ratios
        self.strides = strides
        self.rounded = rounded

    def build(self, input_shape):
        if len(input_shape) != len(self.strides) or any(None in x[1:3] for x in input_shape):
            raise ValueError(
                "The input must be one feature map for each stride, of known height and width. "
                f"Received: {[tuple(x) for x in input_shape]}, strides={self.strides}"
            )

    def call(self, inputs):
        anchors = [
            self._anchors_of_map(*features.shape[1:3], sizes, stride)
            for features, sizes, stride in zip(inputs, self.sizes, self.strides, strict=True)
        ]
        return ops.convert_to_tensor(np.concatenate(anchors), "float32")

    def compute_output_shape(self, input_shape):
        cells = [math.prod(shape[1:3]) for shape in input_shape]
        per_cell = [len(sizes) * len(self.ratios) for sizes in self.sizes]
        return (sum(map(math.prod, zip(cells, per_cell, strict=True))), 4)

    def compute_output_spec(self, inputs):
        shape = self.compute_output_shape([features.shape for features in inputs])
        return keras.KerasTensor(shape, "float32")

    def get_config(self):
        return {
            **super().get_config(),
            "sizes": self.sizes,
            "ratios": self.ratios,
            "strides": self.strides,
            "rounded": self.rounded,
        }

    def _anchors_of_map(self, height: int, width: int, sizes, stride) -> np.ndarray:
        sides = [
            (size * math.sqrt(1 / ratio), size * math.sqrt(ratio))
            for size in sizes
            for ratio in self.ratios
        ]
        corners = np.array([(-w, -h, w, h) for w, h in sides]) / 2  # (anchors per cell, 4)
        if self.rounded:
            corners = np.round(corners)
        y, x = np.mgrid[:height, :width] * stride
        centres = np.stack([x, y, x, y], axis=-1)[:, :, None]  # (height, width, 1, 4)
        return np.reshape(centres + corners, (-1, 4))
