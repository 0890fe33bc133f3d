"""Average precision of found boxes, counted while a network trains."""

from collections.abc import Callable

import keras
from keras import ops

BINS = 1000
"""Scores are counted in so many equal bins."""


class MeanAveragePrecision(keras.metrics.Metric):
    """Mean over the classes of the average precision at one IoU.

    A found object is right if the true object of its class that it overlaps most has at least this
    IoU, and no object with a higher score was found there. Average precision is the area below the
    precision at each recall, where the precision is the highest at this recall or a higher one. It
    is computed from scores in 1000 bins. Classes without objects do not count.

    Reference:
        Everingham et al., The Pascal Visual Object Classes Challenge: A Retrospective, 2015,
        section 4.2. https://doi.org/10.1007/s11263-014-0733-5

    Args:
        num_classes: Number of classes.
        overlaps: From boxes `(batch, n, 4)` and `(batch, m, 4)` to their IoU `(batch, n, m)`.
        iou: Least overlap of a right box, in (0, 1].
        name: Name of the metric.

    Call with true objects `(batch, m, 6)`: box, class, and 1 for an object, 2 for one that does not
    count, 3 for a region with many, 0 for padding; and found objects `(batch, n, 6)`: box, class
    and score, best first, with a score of 0 for padding.
    """

    def __init__(
        self,
        num_classes: int,
        overlaps: Callable,
        iou: float = 0.5,
        name: str = "map50",
    ):
        super().__init__(name=name)
        self.num_classes = num_classes
        self.overlaps = overlaps
        self.iou = iou
        shape = (num_classes * BINS,)
        self.right = self.add_weight(shape=shape, initializer="zeros", name="right")
        self.wrong = self.add_weight(shape=shape, initializer="zeros", name="wrong")
        self.objects = self.add_weight(shape=(num_classes,), initializer="zeros", name="objects")

    def update_state(self, y_true, y_pred, sample_weight=None):
        boxes, classes, kind = y_true[..., :4], y_true[..., 4], y_true[..., 5]
        found, found_classes, scores = y_pred[..., :4], y_pred[..., 4], y_pred[..., 5]
        overlaps = self.overlaps(found, boxes)
        same = ops.logical_and(found_classes[..., None] == classes[:, None], kind[:, None] > 0)
        overlaps = ops.where(same, overlaps, 0.0)
        nearest = ops.argmax(overlaps, axis=-1)  # (batch, n)
        reaches = ops.max(overlaps, axis=-1) >= self.iou
        kind_of_nearest = ops.take_along_axis(kind, nearest, axis=1)
        ignored = ops.logical_and(reaches, kind_of_nearest > 1)
        hits = ops.logical_and(reaches, kind_of_nearest == 1)
        both = ops.logical_and(hits[:, :, None], hits[:, None])
        same_object = ops.logical_and(both, nearest[:, :, None] == nearest[:, None])
        order = ops.arange(nearest.shape[1])
        earlier = order[None, None, :] < order[None, :, None]
        repeated = ops.any(ops.logical_and(same_object, earlier), axis=-1)
        is_right = ops.logical_and(hits, ops.logical_not(repeated))
        is_found = ops.logical_and(scores > 0, ops.logical_not(ignored))
        bins = ops.cast(ops.clip(scores * BINS, 0, BINS - 1), "int32")
        cells = ops.reshape(ops.cast(found_classes, "int32") * BINS + bins, (-1,))

        def counted(chosen):
            ones = ops.cast(ops.reshape(chosen, (-1,)), "float32")
            return ops.segment_sum(ones, cells, self.num_classes * BINS)

        self.right.assign_add(counted(ops.logical_and(is_found, is_right)))
        self.wrong.assign_add(counted(ops.logical_and(is_found, ops.logical_not(is_right))))
        of_class = ops.one_hot(ops.cast(classes, "int32"), self.num_classes)
        self.objects.assign_add(
            ops.sum(of_class * ops.cast(kind == 1, "float32")[..., None], (0, 1))
        )

    def result(self):
        shape = (self.num_classes, BINS)
        right = ops.cumsum(ops.flip(ops.reshape(self.right, shape), 1), axis=1)
        wrong = ops.cumsum(ops.flip(ops.reshape(self.wrong, shape), 1), axis=1)
        precision = right / ops.maximum(right + wrong, 1.0)
        recall = right / ops.maximum(self.objects, 1.0)[:, None]
        steps = ops.concatenate([recall[:, :1], recall[:, 1:] - recall[:, :-1]], axis=1)
        highest = ops.flip(_running_maximum(ops.flip(precision, 1)), 1)
        areas = ops.sum(steps * highest, axis=1)
        has_objects = ops.cast(self.objects > 0, "float32")
        return ops.sum(areas * has_objects) / ops.maximum(ops.sum(has_objects), 1.0)


def _running_maximum(values):
    """Returns the maximum of each element of a row and those before it."""
    shift, count = 1, values.shape[1]
    while shift < count:
        before = ops.pad(values[:, :-shift], ((0, 0), (shift, 0)))
        values, shift = ops.maximum(values, before), 2 * shift
    return values
