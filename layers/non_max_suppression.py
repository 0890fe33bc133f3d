"""Greedy non-maximum suppression of boxes, in batches and by class, with static shapes."""

import keras
from keras import ops

from layers.boxes import iou

NOTHING = float("-inf")
"""Score of what is not, or no longer, a candidate."""


@keras.saving.register_keras_serializable(package="hornbook")
class NonMaxSuppression(keras.layers.Layer):
    """Keeps the boxes with the highest scores that overlap no kept box too much.

    Again and again the candidate with the highest score is kept, and all those whose
    intersection over union with it is above the threshold are removed. If scores are equal, the
    lower index is first, and the lower class of one index. Boxes with a NaN or an infinity are
    never kept; boxes without area remove nothing.

    Reference:
        Felzenszwalb et al., Object Detection with Discriminatively Trained Part Based Models,
        2010, section 7.2. https://doi.org/10.1109/TPAMI.2009.167

    Args:
        iou_threshold: A box is removed if its intersection over union with a kept one is above
            this, not equal; in [0, 1].
        max_boxes: Maximum number of kept boxes of an image, over all classes; at least 1.
        score_threshold: A box is a candidate if its score is above this.
        classwise: Whether boxes only remove those of the same class.
        compilable: Whether XLA can compile the layer. With False TensorFlow's kernel is used, which
            on a CPU keeps the same boxes in a fraction of the time. Other backends ignore it.

    Call arguments:
        inputs: The pair `[boxes, scores]`; boxes are `(xmin, ymin, xmax, ymax)`.
        iou_threshold: That of each image, `(batch,)`, in place of the layer's, without TensorFlow's
            kernel. None: the layer's.

    Input shape:
        boxes `(batch, boxes, 4)`, or `(batch, boxes, classes, 4)` with a box for each class;
        scores `(batch, boxes)` or `(batch, boxes, classes)`.

    Output shape:
        A dict, by descending scores, padded with zeros, the indices with -1: `boxes` `(batch,
        max_boxes, 4)` and `scores` `(batch, max_boxes)` float32; `classes` and `indices` of the
        boxes in the input, `(batch, max_boxes)` int32; `count` of the kept boxes, `(batch,)`
        int32.

    Example:
        >>> boxes = ops.array([[[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [5.0, 5.0, 9.0, 9.0]]])
        >>> kept = NonMaxSuppression(0.5, max_boxes=4)([boxes, ops.array([[0.8, 0.9, 0.7]])])
        >>> ops.convert_to_numpy(kept["indices"]).tolist()
        [[1, 2, -1, -1]]
    """

    def __init__(
        self,
        iou_threshold: float,
        max_boxes: int,
        score_threshold: float = 0.0,
        classwise: bool = True,
        compilable: bool = True,
        **kwargs,
    ):
        if not 0 <= iou_threshold <= 1:
            raise ValueError(
                f"`iou_threshold` must be in [0, 1]. Received: iou_threshold={iou_threshold}"
            )
        if not isinstance(max_boxes, int) or max_boxes < 1:
            raise ValueError(
                f"`max_boxes` must be a positive integer. Received: max_boxes={max_boxes!r}"
            )
        # Without autocast: 16 bits are too coarse for coordinates, and make scores equal.
        super().__init__(autocast=False, **kwargs)
        self.iou_threshold = iou_threshold
        self.max_boxes = max_boxes
        self.score_threshold = score_threshold
        self.classwise = classwise
        self.compilable = compilable

    def build(self, input_shape):
        boxes_shape, scores_shape = (tuple(shape) for shape in input_shape)
        expected = [(*scores_shape[:2], 4)]
        if len(scores_shape) == 3:
            expected.append((*scores_shape, 4))
        if None in scores_shape[1:] or boxes_shape[1:] not in [shape[1:] for shape in expected]:
            raise ValueError(
                "Scores must have the shape (batch, boxes) or (batch, boxes, classes), and boxes "
                "(batch, boxes, 4) or (batch, boxes, classes, 4), known but for the batch. "
                f"Received: boxes {boxes_shape}, scores {scores_shape}"
            )

    def call(self, inputs, iou_threshold=None):
        boxes, scores = (ops.cast(x, "float32") for x in inputs)
        if len(scores.shape) == 2:
            scores = scores[..., None]
        num_boxes, num_classes = scores.shape[1:]
        if len(boxes.shape) == 3:
            boxes = ops.repeat(boxes[:, :, None], num_classes, axis=2)
        # Candidates in the order of box, class: number n is class `n % num_classes`.
        boxes = ops.reshape(boxes, (-1, num_boxes * num_classes, 4))
        scores = ops.reshape(scores, (-1, num_boxes * num_classes))

        # A choice has no gradient; kept boxes and scores have that of copies.
        fixed_boxes, fixed_scores = ops.stop_gradient(boxes), ops.stop_gradient(scores)
        is_candidate = ops.logical_and(
            fixed_scores > self.score_threshold, ops.all(ops.isfinite(fixed_boxes), axis=-1)
        )
        candidates = ops.where(is_candidate, fixed_scores, NOTHING)
        is_open = iou_threshold is not None
        if is_open or self.compilable or keras.backend.backend() != "tensorflow":
            limit = iou_threshold[:, None] if is_open else self.iou_threshold
            kept = self._keep(fixed_boxes, candidates, num_classes, limit)
        else:
            kept = self._keep_by_kernel(fixed_boxes, candidates, num_classes)

        is_kept = kept >= 0  # (batch, max_boxes)
        numbers = ops.maximum(kept, 0)
        kept_boxes = ops.take_along_axis(boxes, numbers[..., None], axis=1)
        return {
            "boxes": ops.where(is_kept[..., None], kept_boxes, 0.0),
            "scores": ops.where(is_kept, ops.take_along_axis(scores, numbers, axis=1), 0.0),
            "classes": numbers % num_classes,
            "indices": ops.where(is_kept, numbers // num_classes, -1),
            "count": ops.sum(ops.cast(is_kept, "int32"), axis=1),
        }

    def compute_output_shape(self, input_shape):
        batch = input_shape[0][0]
        return {
            "boxes": (batch, self.max_boxes, 4),
            "scores": (batch, self.max_boxes),
            "classes": (batch, self.max_boxes),
            "indices": (batch, self.max_boxes),
            "count": (batch,),
        }

    def compute_output_spec(self, inputs, iou_threshold=None):
        shapes = self.compute_output_shape([x.shape for x in inputs])
        types = {"boxes": "float32", "scores": "float32"}
        return {
            name: keras.KerasTensor(shape, types.get(name, "int32"))
            for name, shape in shapes.items()
        }

    def get_config(self):
        return {
            **super().get_config(),
            "iou_threshold": self.iou_threshold,
            "max_boxes": self.max_boxes,
            "score_threshold": self.score_threshold,
            "classwise": self.classwise,
            "compilable": self.compilable,
        }

    def _keep(self, boxes, scores, num_classes: int, iou_threshold):
        """Returns the numbers of the kept candidates, `(batch, max_boxes)`, then -1."""
        numbers = ops.arange(scores.shape[1], dtype="int32")
        steps = ops.arange(self.max_boxes, dtype="int32")

        def is_unfinished(step, scores, kept):
            return ops.logical_and(step < self.max_boxes, ops.any(scores > NOTHING))

        def keep_one(step, scores, kept):
            best = ops.cast(ops.argmax(scores, axis=1), "int32")[:, None]  # (batch, 1)
            is_candidate = ops.max(scores, axis=1, keepdims=True) > NOTHING
            kept = ops.where(steps == step, ops.where(is_candidate, best, -1), kept)
            box = ops.take_along_axis(boxes, best[..., None], axis=1)
            is_removed = iou(box, boxes)[:, 0] > iou_threshold  # (batch, candidates)
            if self.classwise:
                is_same_class = numbers % num_classes == best % num_classes
                is_removed = ops.logical_and(is_removed, is_same_class)
            is_removed = ops.logical_or(is_removed, numbers == best)
            return step + 1, ops.where(is_removed, NOTHING, scores), kept

        kept = ops.full((ops.shape(scores)[0], self.max_boxes), -1, dtype="int32")
        state = (ops.convert_to_tensor(0, "int32"), scores, kept)
        return ops.while_loop(is_unfinished, keep_one, state)[2]

    def _keep_by_kernel(self, boxes, scores, num_classes: int):
        """Computes `_keep` by TensorFlow's kernel for batches and classes.

        The kernel returns scores but no indices, and the order of equal scores is open. So it
        gets the candidates' ranks as scores: n for the first of n, 0 for what is no candidate.
        """
        import tensorflow as tf

        groups = num_classes if self.classwise else 1
        number = scores.shape[1]
        order = tf.argsort(scores, direction="DESCENDING", stable=True)
        ranks = number - tf.argsort(order)
        ranks = tf.where(scores > NOTHING, tf.cast(ranks, "float32"), 0.0)
        # The kernel would swap the sides of inverted boxes; here they have no area.
        starts, ends = boxes[..., :2], tf.maximum(boxes[..., :2], boxes[..., 2:])
        kept_ranks = tf.image.combined_non_max_suppression(
            tf.reshape(tf.concat([starts, ends], axis=-1), (-1, number // groups, groups, 4)),
            tf.reshape(ranks, (-1, number // groups, groups)),
            max_output_size_per_class=self.max_boxes,
            max_total_size=self.max_boxes,
            iou_threshold=self.iou_threshold,
            score_threshold=0.0,
            clip_boxes=False,
        ).nmsed_scores
        kept = tf.minimum(number - tf.cast(kept_ranks, "int32"), number - 1)
        return tf.where(kept_ranks > 0, tf.gather(order, kept, batch_dims=1), -1)
