"""Mask R-CNN: Faster R-CNN that also draws each object."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from layers import ROIAlign
from models.faster_rcnn import POSITIVE_SHARE, FasterRCNN, mean_over

MOST_DRAWN = 128
"""Maximum number of positive regions of an image that the mask head learns from."""


@keras.saving.register_keras_serializable("hornbook")
class MaskRCNN(FasterRCNN):
    """Faster R-CNN with a head that draws a mask for each class.

    The loss of the masks is the mean of the binary cross-entropy of the mask of the true class over
    the pixels of the positive regions. Its target is the true mask as the region shows it.

    Reference:
        He et al., Mask R-CNN, 2017. https://arxiv.org/abs/1703.06870

    Args:
        masks: From `models.region_heads.mask_head`.
        options: As in `models.faster_rcnn.FasterRCNN`.

    Returns:
        As `FasterRCNN`, and `masks` `(batch, max_detections, 28, 28)`: the probability that a pixel
        of a box is in the object.
    """

    PARTS = (*FasterRCNN.PARTS, "masks")

    def __init__(self, *, masks: keras.Model, **options: Any):
        super().__init__(**options)
        self.masks = masks
        self.logged["mask_loss"] = keras.metrics.Mean("mask_loss")

    def _detected(self, maps, proposed, inputs, compilable) -> dict[str, Any]:
        found = super()._detected(maps, proposed, inputs, compilable)
        (logits,) = self._read(self.masks, maps, found["boxes"], compilable)
        is_found = ops.arange(logits.shape[1])[None] < found["num_detections"][:, None]
        masks = ops.sigmoid(_of_classes(logits, found["class_ids"]))
        return {**found, "masks": ops.where(is_found[..., None, None], masks, 0.0)}

    def _head_losses(self, maps, drawn) -> dict[str, Any]:
        most = min(int(self.regions * POSITIVE_SHARE), MOST_DRAWN)
        # The positive regions come first.
        first = {name: value[:, :most] for name, value in drawn.items() if name != "masks"}
        (logits,) = self._read(self.masks, maps, first["boxes"], training=True)
        targets = seen_masks(drawn["masks"], first, logits.shape[2])
        wrong = ops.binary_crossentropy(
            targets, _of_classes(logits, first["classes"]), from_logits=True
        )
        positive = first["is_positive"]
        losses = super()._head_losses(maps, drawn)
        return losses | {"mask_loss": mean_over(ops.mean(wrong, axis=(2, 3)), positive, positive)}


def seen_masks(masks, regions: dict[str, Any], side: int):
    """Returns the masks of objects as regions show them, at a lower resolution.

    Args:
        masks: The mask of each object, cut to its box, `(batch, m, height, width)` in {0, 1}.
        regions: `boxes` `(batch, n, 4)`, `matched` `(batch, n)`, the object of each, and `targets`,
            its box.
        side: Height and width of the result.

    Returns: `(batch, n, side, side)` float32 in {0, 1}.
    """
    height, width = masks.shape[2:]
    scale = ops.convert_to_tensor([width, height, width, height], "float32")
    true, boxes = regions["targets"], regions["boxes"]
    corner = ops.concatenate([true[..., :2], true[..., :2]], axis=-1)
    sides = true[..., 2:] - true[..., :2]
    sides = ops.maximum(ops.concatenate([sides, sides], axis=-1), 1e-6)
    inside = (boxes - corner) / sides * scale
    chosen = tf.gather(masks, regions["matched"], batch_dims=1)
    rows = ops.reshape(ops.cast(chosen, "float32"), (-1, height, width, 1))
    seen = ROIAlign(side, compilable=False)([rows, ops.reshape(inside, (-1, 1, 4))])
    return ops.cast(ops.reshape(seen, (-1, boxes.shape[1], side, side)) >= 0.5, "float32")


def _of_classes(masks, classes):
    """Takes the mask of a class `(batch, n)` of masks `(batch, n, height, width, classes)`."""
    return tf.gather(masks, classes, axis=-1, batch_dims=2)
