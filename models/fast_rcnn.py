"""Fast R-CNN: proposals that come with the image, classified and moved."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from layers import ROIPooling
from layers.boxes import clip, finite
from models.faster_rcnn import SMALLEST_SIDE, FasterRCNN


@keras.saving.register_keras_serializable("hornbook")
class FastRCNN(FasterRCNN):
    """The head of Faster R-CNN on proposals that were found without a network.

    Regions with an IoU of 0.5 or more with an object are positive, those from 0.1 to 0.5 are
    background, and the others are not learned from. The loss is that of the head of Faster R-CNN,
    with a smooth L1 that is linear from 1 on.

    Reference:
        Girshick, Fast R-CNN, 2015. https://arxiv.org/abs/1504.08083

    Args:
        features: From images `(batch, height, width, channels)` in [0, 1] to one map.
        head: From regions to logits and deltas, as `models.region_heads.box_head`.
        windows: The boxes that are read in an image without proposals, `(n, 4)` in pixels.
        strides: Pixels of an image per pixel of the map.
        options: As in `models.faster_rcnn.FasterRCNN`.

    Returns:
        As `FasterRCNN`. The inputs may have `proposals` `(batch, n, 4)` in pixels, the best first,
        of which the first `proposed` are read. Boxes without area are padding.
    """

    PARTS: tuple[str, ...] = ("features", "head")
    LOGGED: tuple[str, ...] = ("class_loss", "box_loss", "positive_regions")
    BACKGROUND = (0.1, 0.5)
    BETA = 1.0
    BLOCK = 256
    """Number of regions that are read together, except in training, which bounds the memory."""

    def __init__(
        self,
        features: keras.Model,
        head: keras.Model,
        *,
        windows: Sequence[Sequence[float]] | np.ndarray,
        strides: Sequence[int] = (16,),
        **options: Any,
    ):
        super().__init__(features, None, head, strides=strides, **options)
        self.windows = np.asarray(windows, "float32").reshape(-1, 4)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "windows": self.windows.tolist()}

    def detect(
        self, inputs: dict[str, Any], compilable: bool = False, proposals: bool = False
    ) -> dict[str, Any]:
        given = self.given(inputs)
        maps = self._maps(inputs, training=False)
        found = self._detected(maps, given, inputs, compilable)
        if proposals:
            found["proposals"] = ops.where(given["valid"][..., None], given["boxes"], 0.0)
        return found

    def losses_of(self, inputs: dict[str, Any], objects: dict[str, Any]) -> dict[str, Any]:
        drawn = self._drawn(self.given(inputs), objects, inputs["seeds"])
        return self._head_losses(self._maps(inputs, training=True), drawn)

    def given(self, inputs) -> dict[str, Any]:
        """Returns the proposals of images with their validity."""
        sizes = ops.cast(inputs["true_size"], "float32")
        boxes = inputs.get("proposals")
        if boxes is None:
            boxes = ops.tile(self.windows[None], (ops.shape(sizes)[0], 1, 1))
        else:
            missing = ops.maximum(self.proposed - ops.shape(boxes)[1], 0)
            boxes = ops.pad(boxes[:, : self.proposed], ((0, 0), (0, missing), (0, 0)))
            boxes = tf.ensure_shape(boxes, (None, self.proposed, 4))
        boxes = clip(finite(boxes), sizes[:, 0], sizes[:, 1])
        sides = boxes[..., 2:] - boxes[..., :2]
        return {"boxes": boxes, "valid": ops.all(sides >= SMALLEST_SIDE, axis=-1)}

    def _read(self, head, maps, boxes, compilable=False, training=False) -> list:
        read = super()._read
        if training:
            return read(head, maps, boxes, compilable, training)
        count, block = boxes.shape[1], self.BLOCK
        blocks = -(-count // block)
        rows = ops.pad(boxes, ((0, 0), (0, blocks * block - count), (0, 0)))
        images = ops.repeat(ops.arange(ops.shape(boxes)[0]), blocks)
        shapes = [(1, block, *output.shape[1:]) for output in head.outputs]

        def read_block(one):
            image, some = one
            return tf.cond(
                tf.reduce_any(some[..., 2:] > some[..., :2]),  # Else it is padding.
                lambda: read(head, [values[image][None] for values in maps], some, compilable),
                lambda: [tf.zeros(shape) for shape in shapes],
            )

        outputs = tf.map_fn(
            read_block,
            (images, ops.reshape(rows, (-1, 1, block, 4))),
            fn_output_signature=[tf.TensorSpec(shape, tf.float32) for shape in shapes],
            parallel_iterations=1,
        )
        return [
            ops.reshape(one, (-1, blocks * block, *one.shape[3:]))[:, :count] for one in outputs
        ]

    def _pooled(self, size: int, maps, boxes, compilable: bool):
        return ROIPooling(size, self._numbers["strides"][0])([maps[0], boxes])
