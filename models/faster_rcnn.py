"""Faster R-CNN: proposed regions, classified and moved."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import tensorflow as tf
from keras import ops

from layers import Anchors, NonMaxSuppression, PyramidROIAlign, ROIAlign
from layers.boxes import clip, covered, decode, encode, iou, match, sample

PADDING, OBJECT, DIFFICULT, CROWD = range(4)
"""What a row of objects is: nothing; an object; one that evaluation ignores; many in one box."""
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Factors of what the head learns of boxes, so that the values have a deviation of about 1."""
SMALLEST_SIDE = 1e-3
"""Proposals with a shorter side, in pixels, are left out."""


@keras.saving.register_keras_serializable("hornbook")
class FasterRCNN(keras.Model):
    """Faster R-CNN, with or without a feature pyramid.

    A region proposal network rates anchors and moves those that may be objects; the best, less
    those that overlap a better one, are the proposals. A head classifies each proposal and moves
    it once for each class.

    The loss of the proposals is the mean of the binary cross-entropy over a sample of 256 anchors
    of each image, and smooth L1 of the deltas of the positive ones, divided by the size of the
    sample. The loss of the head is the mean of the cross-entropy over a sample of proposals, and
    smooth L1 of the deltas of the true classes of the positive ones, divided in the same way.

    Reference:
        Ren et al., Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
        Networks, 2015. https://arxiv.org/abs/1506.01497
        Lin et al., Feature Pyramid Networks for Object Detection, 2017.
        https://arxiv.org/abs/1612.03144

    Args:
        features: From images `(batch, height, width, channels)` in [0, 1] to a list of maps.
            Regions are pooled from the only one, or from the pyramid of all but the last.
        proposals: From `models.region_heads.region_proposals`; None if they come with the image.
        head: From regions to logits and deltas, as `models.region_heads.box_head` or
            `last_stage_head`.
        anchor_sizes: Sizes of the anchors of each map, in pixels.
        anchor_ratios: Height over width of the anchors.
        strides: Pixels of an image per pixel of each map.
        regions: Proposals of an image that the head learns from.
        proposed: Proposals of an image that the head reads; before the suppression twice as many of
            each map in training.
        canonical_size: Objects of this size, in pixels, are pooled from a stride of 16.
        max_detections: Maximum number of objects found in an image.
        score_threshold: Objects with a lower score are left out, in [0, 1).
        iou_threshold: Of two objects of a class that overlap by more, in [0, 1], the one with the
            higher score stays.
        aligned: As in `layers.ROIAlign`.
        rounded: As in `layers.Anchors`.
        padding: Value in [0, 1] of each channel beyond the true size of an image, which the
            preprocessing of `features` turns to 0.

    Returns:
        From a dict of `pixels`, images `(batch, height, width, channels)` in [0, 1], and their
        `true_size` without padding, height and width `(batch, 2)`, to a dict of `boxes` `(batch,
        max_detections, 4)` in pixels, `class_ids` and `scores` `(batch, max_detections)`, best
        first, and `num_detections` `(batch,)`. What is beyond the number is 0.
    """

    PARTS: tuple[str, ...] = ("features", "proposals", "head")
    LOGGED: tuple[str, ...] = (
        *("proposal_loss", "proposal_box_loss", "class_loss", "box_loss"),
        *("positive_anchors", "positive_regions"),
    )
    BACKGROUND = (0.0, 0.5)
    """IoU with the best object from which and below which a region of the head is background."""
    BETA = 1 / 9
    """Error of the head from which smooth L1 is linear."""

    def __init__(
        self,
        features: keras.Model,
        proposals: keras.Model | None,
        head: keras.Model,
        *,
        anchor_sizes: Sequence[Sequence[float]] = (),
        anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        regions: int = 512,
        proposed: int = 1000,
        canonical_size: int = 224,
        max_detections: int = 100,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        aligned: bool = True,
        rounded: bool = False,
        padding: Sequence[float] = (0.0, 0.0, 0.0),
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.features, self.head = features, head
        self.proposals: Any = proposals
        self._numbers: dict[str, Any] = {
            "anchor_sizes": [list(sizes) for sizes in anchor_sizes],
            "anchor_ratios": list(anchor_ratios),
            "strides": list(strides),
            "regions": regions,
            "proposed": proposed,
            "canonical_size": canonical_size,
            "max_detections": max_detections,
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "aligned": aligned,
            "rounded": rounded,
            "padding": list(padding),
        }
        self.regions, self.proposed = regions, proposed
        self.max_detections = max_detections
        self.num_classes = head.output_shape[1][1]
        if proposals:
            self.anchors = Anchors(anchor_sizes, anchor_ratios, strides, rounded=rounded)
        self.logged = {name: keras.metrics.Mean(name) for name in ("loss", *self.LOGGED)}
        self.built = True

    def get_config(self) -> dict[str, Any]:
        parts = {
            name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.PARTS
        }
        return {"name": self.name, **parts, **self._numbers}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in cls.PARTS
        }
        return cls(**config | parts)

    def with_classes(self, num_classes: int) -> Self:
        """Returns the same network for another number of classes, with new weights."""
        changes = {
            "classes": {"units": 1 + num_classes},
            "moves": {"units": 4 * num_classes},
            "moves_of_classes": {"target_shape": (num_classes, 4)},
            "masks": {"filters": num_classes},
        }
        config = self.get_config()
        for part in {*self.PARTS} - {"features", "proposals"}:
            for layer in config[part]["config"]["layers"]:
                layer["config"] |= changes.get(layer["name"], {})
        return self.from_config(config)

    def call(self, inputs, training=False):
        return self.detect(inputs)

    def detect(
        self, inputs: dict[str, Any], compilable: bool = False, proposals: bool = False
    ) -> dict[str, Any]:
        """Finds the objects in images, as the class says.

        Args:
            inputs: As the class takes them, and perhaps `score_threshold` and `iou_threshold` of
                each image, `(batch,)`, in place of the network's.
            compilable: Whether XLA can compile it. What it cannot compile is faster on CPUs.
            proposals: Whether to return the `proposals`, too, `(batch, proposed, 4)`, best first;
                what is beyond their number is 0.
        """
        maps = self._maps(inputs, training=False)
        sizes = ops.cast(inputs["true_size"], "float32")
        found = self._proposed(maps, sizes, training=False, compilable=compilable)
        detected = self._detected(maps, found, inputs, compilable)
        if proposals:
            detected["proposals"] = ops.where(found["valid"][..., None], found["boxes"], 0.0)
        return detected

    def _maps(self, inputs, training: bool) -> list:
        # Keras returns a single output without its list.
        return keras.tree.flatten(self.features(self._padded(inputs), training=training))

    def _padded(self, inputs):
        """Returns the images with the color of the padding beyond their true size."""
        pixels = inputs["pixels"]
        is_inside = [
            ops.arange(side)[None] < ops.cast(inputs["true_size"][:, axis, None], "int32")
            for axis, side in enumerate(pixels.shape[1:3])
        ]
        is_inside = ops.logical_and(is_inside[0][:, :, None], is_inside[1][:, None])
        padding = ops.convert_to_tensor(self._numbers["padding"], pixels.dtype)
        return ops.where(is_inside[..., None], pixels, padding)

    def _detected(self, maps, proposed, inputs, compilable) -> dict[str, Any]:
        """Classifies and moves proposals, and suppresses what overlaps a better object."""
        boxes, sizes = proposed["boxes"], ops.cast(inputs["true_size"], "float32")
        logits, deltas = self._read(self.head, maps, boxes, compilable)
        scores = self._scores(logits)
        least = inputs.get("score_threshold", self._numbers["score_threshold"])
        is_open = scores > ops.reshape(ops.cast(least, "float32"), (-1, 1, 1))
        is_open = ops.logical_and(is_open, proposed["valid"][..., None])
        moved = decode(deltas, boxes[:, :, None], BOX_WEIGHTS)
        suppress = NonMaxSuppression(
            self._numbers["iou_threshold"],
            self._numbers["max_detections"],
            compilable=compilable,
        )
        found = suppress(
            [clip(moved, sizes[:, 0], sizes[:, 1]), ops.where(is_open, scores, 0.0)],
            iou_threshold=inputs.get("iou_threshold"),
        )
        return {
            "boxes": found["boxes"],
            "class_ids": found["classes"],
            "scores": found["scores"],
            "num_detections": found["count"],
        }

    def _scores(self, logits):
        return ops.softmax(logits, axis=-1)[..., 1:]

    def _read(self, head, maps, boxes, compilable=False, training=False) -> list:
        """Reads the features in boxes `(batch, n, 4)`, and returns what a head says of each."""
        pooled = self._pooled(head.input_shape[1], maps, boxes, compilable)
        rows = ops.reshape(pooled, (-1, *pooled.shape[2:]))
        outputs = head(rows, training=training)
        shape = ops.shape(boxes)[:2]
        return [
            ops.reshape(ops.cast(one, "float32"), (*shape, *one.shape[1:]))
            for one in (outputs if isinstance(outputs, list) else [outputs])
        ]

    def _pooled(self, size: int, maps, boxes, compilable: bool):
        """Returns what boxes show, `(batch, n, size, size, channels)`."""
        numbers = self._numbers
        how = {"aligned": numbers["aligned"], "compilable": compilable}
        if len(maps) == 1:
            return ROIAlign(size, numbers["strides"][0], **how)([maps[0], boxes])
        pool = PyramidROIAlign(
            size, numbers["strides"][:-1], canonical_size=numbers["canonical_size"], **how
        )
        return pool([maps[:-1], boxes])

    def _proposed(self, maps, sizes, training: bool, compilable=False) -> dict[str, Any]:
        """Returns the outputs of the proposal network, and its best boxes with their validity."""
        each = [self.proposals(features, training=training) for features in maps]
        anchors = self.anchors(maps)
        limit = self.proposed * (2 if training else 1)
        kept, start = [], 0
        for logits, deltas in each:
            count = logits.shape[1]
            scores, chosen = ops.top_k(
                ops.sigmoid(ops.cast(ops.stop_gradient(logits), "float32")), min(limit, count)
            )
            chosen_deltas = _rows(ops.stop_gradient(deltas), chosen)
            chosen_anchors = ops.take(anchors[start : start + count], chosen, axis=0)
            boxes = clip(decode(chosen_deltas, chosen_anchors), sizes[:, 0], sizes[:, 1])
            sides = boxes[..., 2:] - boxes[..., :2]
            scores = ops.where(ops.all(sides >= SMALLEST_SIDE, axis=-1), scores, 0.0)
            most = min(self.proposed, chosen.shape[1])
            suppress = NonMaxSuppression(0.7, most, compilable=compilable)
            kept.append(suppress([boxes, scores]))
            start += count
        scores = ops.concatenate([one["scores"] for one in kept], axis=1)
        boxes = ops.concatenate([one["boxes"] for one in kept], axis=1)
        scores, best = ops.top_k(scores, min(self.proposed, scores.shape[1]))
        return {
            "logits": ops.concatenate([ops.cast(one, "float32") for one, _ in each], axis=1),
            "deltas": ops.concatenate([ops.cast(one, "float32") for _, one in each], axis=1),
            "anchors": anchors,
            "boxes": _rows(boxes, best),
            "valid": scores > 0,
        }

    def train_step(self, batch):
        inputs, objects = batch
        with tf.GradientTape() as tape:
            losses = self.losses_of(inputs, objects)
            total = tf.add_n([value for name, value in losses.items() if name.endswith("loss")])
            scaled = self.optimizer.scale_loss(total)  # In 16 bits small gradients would vanish.
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, weights), weights)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for name, value in {"loss": total, **losses}.items():
            self.logged[name].update_state(value * replicas)
        return {name: metric.result() for name, metric in self.logged.items()}

    def test_step(self, batch):
        inputs, objects = batch
        logs = self.compute_metrics(inputs, as_rows(objects), as_rows(self.detect(inputs)))
        # The metrics of training are there, too. They are of samples that validation does not draw.
        return {name: value for name, value in logs.items() if name not in self.logged}

    def losses_of(self, inputs: dict[str, Any], objects: dict[str, Any]) -> dict[str, Any]:
        """Returns this replica's share of each loss, and of the positives.

        Args:
            inputs: As the class takes them, and `seeds` `(batch, 2)` int32 that decide what is
                sampled in each image.
            objects: `boxes` `(batch, m, 4)`, `classes` and `kind` `(batch, m)`.
        """
        sizes = ops.cast(inputs["true_size"], "float32")
        maps = self._maps(inputs, training=True)
        found = self._proposed(maps, sizes, training=True)
        losses = self._proposal_losses(found, sizes, objects, inputs["seeds"])
        drawn = self._drawn(found, objects, inputs["seeds"])
        return losses | self._head_losses(maps, drawn)

    def _proposal_losses(self, found, sizes, objects, seeds) -> dict[str, Any]:
        anchors, is_object = found["anchors"], is_trained(objects)
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2
        outside = ops.any(centres >= sizes[:, None, ::-1], axis=-1)
        crowded = covered(anchors, objects["boxes"], objects["kind"] == CROWD)
        labels, matched = match(
            iou(anchors, objects["boxes"]),
            is_object,
            positive=0.7,
            negative=(0.0, 0.3),
            best=True,
            excluded=ops.logical_or(outside, crowded),
        )
        rows, is_drawn = sample(labels, uniform(seeds, 0, labels.shape[1]), 256, 0.5)
        is_positive = ops.logical_and(is_drawn, _rows(labels, rows) == 1)
        logits = _rows(found["logits"], rows)
        wrong = ops.binary_crossentropy(ops.cast(is_positive, "float32"), logits, from_logits=True)
        targets = encode(
            _rows(objects["boxes"], _rows(matched, rows)),
            ops.take(anchors, rows, axis=0),
        )
        off = smooth_l1(targets - _rows(found["deltas"], rows), 1 / 9)
        return {
            "proposal_loss": mean_over(wrong, is_drawn, is_drawn),
            "proposal_box_loss": mean_over(off, is_positive, is_drawn),
            "positive_anchors": mean_over(1.0, is_positive, is_drawn),
        }

    def _drawn(self, found, objects, seeds) -> dict[str, Any]:
        """Draws the proposals that the head learns from, the positive ones first."""
        boxes = ops.concatenate([found["boxes"], objects["boxes"]], axis=1)
        is_object = is_trained(objects)
        valid = ops.concatenate([found["valid"], is_object], axis=1)
        crowded = covered(boxes, objects["boxes"], objects["kind"] == CROWD)
        labels, matched = match(
            iou(boxes, objects["boxes"]),
            is_object,
            negative=self.BACKGROUND,
            excluded=ops.logical_or(ops.logical_not(valid), crowded),
        )
        rows, is_drawn = sample(
            labels, uniform(seeds, 1, labels.shape[1]), self.regions, POSITIVE_SHARE
        )
        matched = _rows(matched, rows)
        is_positive = ops.logical_and(is_drawn, _rows(labels, rows) == 1)
        return {
            "boxes": ops.stop_gradient(_rows(boxes, rows)),
            "matched": matched,
            "classes": _rows(objects["classes"], matched),
            "targets": _rows(objects["boxes"], matched),
            "masks": objects.get("masks"),
            "is_drawn": is_drawn,
            "is_positive": is_positive,
        }

    def _head_losses(self, maps, drawn) -> dict[str, Any]:
        is_drawn, is_positive = drawn["is_drawn"], drawn["is_positive"]
        logits, deltas = self._read(self.head, maps, drawn["boxes"], training=True)
        labels = ops.where(is_positive, drawn["classes"] + 1, 0)
        wrong = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        of_class = tf.gather(deltas, drawn["classes"], axis=2, batch_dims=2)
        targets = encode(drawn["targets"], drawn["boxes"], BOX_WEIGHTS)
        off = smooth_l1(targets - of_class, self.BETA)
        return {
            "class_loss": mean_over(wrong, is_drawn, is_drawn),
            "box_loss": mean_over(off, is_positive, is_drawn),
            "positive_regions": mean_over(1.0, is_positive, is_drawn),
        }


POSITIVE_SHARE = 0.25
"""Maximum share of positive regions among those that the head learns from."""


def is_trained(objects: dict[str, Any]):
    """Returns which rows are objects to find, `(batch, m)` bool."""
    kind = objects["kind"]
    return ops.logical_or(kind == OBJECT, kind == DIFFICULT)


def smooth_l1(errors, beta: float):
    """Returns the sum over the last axis of 0.5 e^2 / beta below beta, |e| - 0.5 beta above."""
    size = ops.abs(errors)
    return ops.sum(ops.where(size < beta, 0.5 * size**2 / beta, size - 0.5 * beta), axis=-1)


def mean_over(values, chosen, counted):
    """Returns this replica's share of a mean over all replicas.

    Args:
        values: `(batch, n)`, or one number for all.
        chosen: `(batch, n)` bool, what is summed.
        counted: `(batch, n)` bool, the sum is divided by their number in all replicas, or by 1.
    """
    count = ops.sum(ops.cast(counted, "float32"))
    context = tf.distribute.get_replica_context()
    if context and context.num_replicas_in_sync > 1:
        count = context.all_reduce("sum", count)
    return ops.sum(ops.where(chosen, values, 0.0)) / ops.maximum(count, 1.0)


def uniform(seeds, stream: int, count: int) -> tf.Tensor:
    """Draws numbers in [0, 1) for each image, `(batch, count)`, from its own seed."""
    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform(
            (count,), tf.random.fold_in(seed, stream, alg="philox"), alg="philox"
        ),
        seeds,
        fn_output_signature=tf.TensorSpec((count,), tf.float32),
    )


def as_rows(objects: dict[str, Any]):
    """Returns true objects or found ones as one tensor `(batch, n, 6)`.

    The columns are the box, the class, and the kind of a true object or the score of a found one.
    """
    classes = objects["classes"] if "classes" in objects else objects["class_ids"]
    last = objects["kind"] if "kind" in objects else objects["scores"]
    columns = [ops.cast(one, "float32")[..., None] for one in (classes, last)]
    return ops.concatenate([objects["boxes"], *columns], axis=-1)


def _rows(values, rows):
    """Takes rows `(batch, k)` of values `(batch, n, ...)`."""
    return tf.gather(values, rows, batch_dims=1)
