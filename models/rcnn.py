"""R-CNN: proposals cut out of the image, warped to one size and classified one by one."""

from typing import Any

import keras
import numpy as np
from keras import ops

from layers import ROIAlign
from models.fast_rcnn import FastRCNN
from models.faster_rcnn import BOX_WEIGHTS

CONTEXT = 16 / 224
"""Share of a crop's side that the pixels around the box have on each side: 16 of 224 pixels."""


@keras.saving.register_keras_serializable("hornbook")
class RCNN(FastRCNN):
    """A classifier of images that reads each proposal as an image of its own.

    The box with some pixels around it is warped to the size that the classifier takes. In training
    it learns the classes alone, from regions with an IoU of 0.5 or more with an object and from
    background below 0.5. Afterwards `set_linear` replaces its last layers by linear models of its
    last features.

    Reference:
        Girshick et al., Rich Feature Hierarchies for Accurate Object Detection and Semantic
        Segmentation, 2014, sections 2 and 3.5, appendices A to C.
        https://arxiv.org/abs/1311.2524

    Args:
        head: From `models.region_heads.crop_head`.
        margins: Whether the logits are margins of support vector machines, one for each class.
            Scores are their sigmoid, instead of the softmax of the logits.
        options: As in `models.fast_rcnn.FastRCNN`.

    Returns:
        As `FastRCNN`.
    """

    PARTS = ("head",)
    LOGGED = ("class_loss", "positive_regions")
    BACKGROUND = (0.0, 0.5)
    BLOCK = 32

    def __init__(self, head: keras.Model, *, margins: bool = False, **options: Any):
        super().__init__(None, head, **options)
        self.margins = margins
        head.get_layer("moves").trainable = False

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margins": self.margins}

    def features_of(self, inputs: dict[str, Any], boxes):
        """Returns the last features of boxes `(batch, n, 4)`, `(batch, n, units)`."""
        features = keras.Model(self.head.input, [self.head.get_layer("classes").input])
        return self._read(features, self._maps(inputs, training=False), boxes)[0]

    def set_linear(
        self, boxes: tuple[np.ndarray, np.ndarray], classes: tuple[np.ndarray, np.ndarray] | None
    ) -> None:
        """Replaces the last layers by linear models.

        Args:
            boxes: Kernel `(units, classes, 4)` and bias `(classes, 4)` that give how boxes move, as
                `layers.boxes.encode` without weights.
            classes: Kernel `(units, classes)` and bias `(classes,)` of the margins; None keeps the
                layer that was trained.
        """
        kernel, bias = (values * BOX_WEIGHTS for values in boxes)
        self.head.get_layer("moves").set_weights([kernel.reshape(len(kernel), -1), bias.ravel()])
        self.margins = classes is not None
        if classes is not None:
            # Nothing reads the logit of background.
            padded = [np.pad(values, [*[(0, 0)] * (values.ndim - 1), (1, 0)]) for values in classes]
            self.head.get_layer("classes").set_weights(padded)

    def _maps(self, inputs, training: bool) -> list:
        # Context outside of an image is read as 0, which is to be the color of the padding.
        return [self._padded(inputs) - self._color]

    @property
    def _color(self):
        return ops.convert_to_tensor(self._numbers["padding"], "float32")

    def _scores(self, logits):
        return ops.sigmoid(logits)[..., 1:] if self.margins else super()._scores(logits)

    def _pooled(self, size: int, maps, boxes, compilable: bool):
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        halves = (boxes[..., 2:] - boxes[..., :2]) / 2 / (1 - 2 * CONTEXT)
        around = ops.concatenate([centres - halves, centres + halves], axis=-1)
        return ROIAlign(size, 1, compilable=compilable)([maps[0], around]) + self._color

    def _head_losses(self, maps, drawn) -> dict[str, Any]:
        losses = super()._head_losses(maps, drawn)
        return {name: losses[name] for name in self.LOGGED}
