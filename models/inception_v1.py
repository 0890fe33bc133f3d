"""GoogLeNet, the first Inception network, and training with its auxiliary heads."""

from functools import partial

import keras

from layers import LocalResponseNormalization
from models.inception_module import Conv, Pool, convolution, inception_module
from models.parts import pooling, require_input

MODULES = {
    "3a": (64, (96, 128), (16, 32), 32),
    "3b": (128, (128, 192), (32, 96), 64),
    "4a": (192, (96, 208), (16, 48), 64),
    "4b": (160, (112, 224), (24, 64), 64),
    "4c": (128, (128, 256), (24, 64), 64),
    "4d": (112, (144, 288), (32, 64), 64),
    "4e": (256, (160, 320), (32, 128), 128),
    "5a": (256, (160, 320), (32, 128), 128),
    "5b": (384, (192, 384), (48, 128), 128),
}
"""Filters of each module, table 1: 1 x 1; 3 x 3 and 5 x 5, each after its reduction; pooled."""

SMALLEST_WITH_HEADS = 65
"""Minimum size in pixels for which the heads' 5 x 5 windows fit into the grid at stride 16."""


@keras.saving.register_keras_serializable(package="hornbook")
class WithAuxiliaryHeads(keras.Model):
    """A functional model whose first output is the prediction; the others only help training.

    The training loss is the compiled loss of the first output, plus 0.3 times that of each other
    output, plus regularization once. Everywhere else (metrics, `evaluate`, `predict`, calls without
    `training=True`) it is a model with one output. It saves, clones and exports like any functional
    model.

    Reference:
        Szegedy et al., Going Deeper with Convolutions, 2015, section 5.
        https://arxiv.org/abs/1409.4842
    """

    auxiliary_weight = 0.3

    def call(self, inputs, training=None, mask=None):
        outputs = super().call(inputs, training=training, mask=mask)
        return outputs if training else outputs[0]

    def compute_output_spec(self, inputs, training=None, mask=None):
        outputs = super().compute_output_spec(inputs, training=training, mask=mask)
        return outputs if training else outputs[0]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss_of = partial(super().compute_loss, x, y, sample_weight=sample_weight)
        if not training:
            return loss_of(y_pred=y_pred, training=False)
        answer, *others = y_pred
        # Scaled as in each of these losses: every replica has a share of it.
        penalty = sum(self._aggregate_additional_loss(loss) for loss in self.losses)
        return loss_of(y_pred=answer) + self.auxiliary_weight * sum(
            loss_of(y_pred=other) - penalty for other in others
        )

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        answer = y_pred[0] if isinstance(y_pred, list | tuple) else y_pred
        return super().compute_metrics(x, y, answer, sample_weight)

    def finished(self) -> keras.Model:
        """Returns the model with the first output only, with the same layers and weights."""
        return keras.Model(self.input, self.outputs[0], name=self.name)


def googlenet(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    auxiliary: bool = True,
    dropout: float = 0.4,
    norm: str = "none",
    pool: str = "max",
) -> keras.Model:
    """Builds GoogLeNet; without `norm` it has local response normalization, as in the paper.

    Reference:
        Szegedy et al., Going Deeper with Convolutions, 2015, table 1 and section 5.
        https://arxiv.org/abs/1409.4842

    Args:
        input_shape: Height, width (at least 65 pixels with auxiliary heads) and channels of an
            image.
        num_classes: Number of classes; at least 1.
        auxiliary: Whether to train with the two auxiliary heads (after 4a and 4d), which bring
            gradients to the lower layers. The predictions always come from the main head.
        dropout: Dropout rate of the last features, in [0, 1); 0.7 in the heads.
        norm: Normalization after each convolution: `batch`, `group`, `layer` or `none`. All but
            `none` replace the local response normalization.
        pool: Pooling between stages: `max`, `average`, `lp`, `mixed`, `stochastic`, `spectral`.

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to logits
        `(batch, num_classes)`: a `WithAuxiliaryHeads`, or a plain model without them.
    """
    require_input(input_shape, SMALLEST_WITH_HEADS if auxiliary else 1)
    images = keras.Input(input_shape, name="images")
    x = _stem(images, norm, pool)
    heads = []
    for name, filters in MODULES.items():
        x = inception_module(x, _branches(*filters), norm, f"inception_{name}")
        if name in ("4a", "4d") and auxiliary:
            heads.append(_auxiliary_head(x, num_classes, norm, f"head_{name}"))
        if name in ("3b", "4e"):
            x = pooling(pool, 3, 2, "same", name=f"pool{name[0]}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool5")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    if not auxiliary:
        return keras.Model(images, logits, name="googlenet")
    return WithAuxiliaryHeads(images, [logits, *heads], name="googlenet")


def _stem(x, norm: str, pool: str):
    x = convolution(x, Conv(64, 7, 2), norm, "conv1")
    x = pooling(pool, 3, 2, "same", name="pool1")(x)
    if norm == "none":
        x = _local_response_normalization("norm1")(x)
    x = convolution(x, Conv(64, 1), norm, "conv2_reduce")
    x = convolution(x, Conv(192, 3), norm, "conv2")
    if norm == "none":
        x = _local_response_normalization("norm2")(x)
    return pooling(pool, 3, 2, "same", name="pool2")(x)


def _local_response_normalization(name: str):
    # The paper gives no constants. These are from the reference model in Caffe, which divides alpha
    # (1e-4) by the five channels of the window.
    return LocalResponseNormalization(2, bias=1.0, alpha=2e-5, beta=0.75, name=name)


def _branches(filters: int, three: tuple[int, int], five: tuple[int, int], pooled: int):
    return (
        [Conv(filters, 1)],
        [Conv(three[0], 1), Conv(three[1], 3)],
        [Conv(five[0], 1), Conv(five[1], 5)],
        [Pool("max"), Conv(pooled, 1)],
    )


def _auxiliary_head(x, num_classes: int, norm: str, name: str):
    x = keras.layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = convolution(x, Conv(128, 1), norm, f"{name}_conv")
    x = keras.layers.Flatten(name=f"{name}_flatten")(x)
    x = keras.layers.Dense(1024, activation="relu", name=f"{name}_fc")(x)
    x = keras.layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name=f"{name}_logits")(x)
