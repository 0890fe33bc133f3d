"""The parts of region-based detectors above their trunk: pyramid, proposals, boxes, masks."""

from collections.abc import Sequence

import keras

from models.parts import normalization

FIRST_CLASS = 0.01
FIRST_BOX = 0.001
"""Standard deviation of the initial kernels of layers that rate regions and that move boxes."""


def feature_pyramid(
    trunk: keras.Model, levels: Sequence[int], channels: int = 256, norm: str = "none"
) -> keras.Model:
    """Builds the feature pyramid network.

    Each map of the trunk is brought to the same number of channels (1 x 1) and added to the next
    coarser one, whose pixels are repeated; a 3 x 3 convolution follows. One more level, the
    coarsest at twice its stride, is for the region proposals alone.

    Reference:
        Lin et al., Feature Pyramid Networks for Object Detection, 2017, section 3.
        https://arxiv.org/abs/1612.03144

    Args:
        trunk: From images to features at strides of 4, 8, 16 and 32.
        levels: Levels of the pyramid, rising: 2 is the one at a stride of 4, 5 that of 32.
        channels: Channels of each level; at least 1.
        norm: Normalization after each convolution, as in `models.parts.normalization`.

    Returns:
        A model from images to the list of the levels and one more,
        `(batch, height / stride, width / stride, channels)` each.
    """
    sums: list = []
    for level in sorted(levels, reverse=True):
        x = _convolution(trunk.outputs[level - 2], channels, 1, norm, f"lateral{level}")
        if sums:
            coarser = keras.layers.UpSampling2D(name=f"repeat{level}")(sums[-1])
            x = keras.layers.Add(name=f"sum{level}")([x, coarser])
        sums.append(x)
    maps = [
        _convolution(x, channels, 3, norm, f"p{level}")
        for level, x in zip(sorted(levels, reverse=True), sums, strict=True)
    ]
    highest = max(levels) + 1
    extra = keras.layers.MaxPooling2D(1, 2, name=f"p{highest}")(maps[0])
    return keras.Model(trunk.input, [*reversed(maps), extra], name="pyramid")


def region_proposals(channels: int, width: int, anchors: int) -> keras.Model:
    """Builds the head of a region proposal network.

    Reference:
        Ren et al., Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
        Networks, 2015, section 3.1. https://arxiv.org/abs/1506.01497

    Args:
        channels: Channels of the features.
        width: Channels of the 3 x 3 convolution.
        anchors: Anchors per pixel of the features.

    Returns:
        A model from features `(batch, height, width, channels)` to logits of there being an object
        `(batch, height * width * anchors)` and deltas `(batch, height * width * anchors, 4)`.
    """
    features = keras.Input((None, None, channels), name="features")
    x = keras.layers.Conv2D(
        width,
        3,
        padding="same",
        activation="relu",
        kernel_initializer=_normal(FIRST_CLASS),
        name="rpn",
    )(features)
    logits = keras.layers.Conv2D(
        anchors, 1, kernel_initializer=_normal(FIRST_CLASS), name="objectness"
    )(x)
    deltas = keras.layers.Conv2D(
        4 * anchors, 1, kernel_initializer=_normal(FIRST_CLASS), name="moves"
    )(x)
    outputs = [
        keras.layers.Reshape((-1,), name="objectness_of_anchors")(logits),
        keras.layers.Reshape((-1, 4), name="moves_of_anchors")(deltas),
    ]
    return keras.Model(features, outputs, name="region_proposals")


def box_head(side: int, channels: int, num_classes: int, units: int = 1024) -> keras.Model:
    """Builds the head that classifies regions and moves their boxes.

    Reference:
        Lin et al., Feature Pyramid Networks for Object Detection, 2017, section 4.2.

    Args:
        side: Height and width of the features of a region.
        channels: Channels of these features.
        num_classes: Number of classes without background.
        units: Units of both dense layers.

    Returns:
        A model from regions `(n, side, side, channels)` to logits `(n, 1 + num_classes)`, that of
        background first, and deltas `(n, num_classes, 4)`.
    """
    regions = keras.Input((side, side, channels), name="regions")
    x = keras.layers.Flatten(name="flatten")(regions)
    for name in ("fc6", "fc7"):
        x = keras.layers.Dense(units, "relu", kernel_initializer="he_uniform", name=name)(x)
    return keras.Model(regions, outputs_of_regions(x, num_classes), name="box_head")


def last_stage_head(stage: keras.Model, side: int, num_classes: int) -> keras.Model:
    """Builds a head of the last stage of a trunk, whose layers it shares.

    Reference:
        He et al., Deep Residual Learning for Image Recognition, 2016, appendix A.
        https://arxiv.org/abs/1512.03385

    Args:
        stage: From features of an image `(batch, height, width, channels)` to the last ones.
        side: Height and width of the features of a region.
        num_classes: Number of classes without background.

    Returns:
        As `box_head`.
    """
    regions = keras.Input((side, side, stage.input_shape[-1]), name="regions")
    of_regions = keras.models.clone_model(stage, regions, clone_function=lambda layer: layer)
    x = keras.layers.GlobalAveragePooling2D(name="mean")(of_regions.output)
    return keras.Model(regions, outputs_of_regions(x, num_classes), name="box_head")


def crop_head(trunk: keras.Model, num_classes: int, units: int = 4096) -> keras.Model:
    """Builds a classifier of crops of an image.

    The last map of features is averaged; that of VGG is read by fc6 and fc7.

    Args:
        trunk: From `models.trunks.trunk`, for images of the size of a crop.
        num_classes: Number of classes without background.
        units: Units of fc6 and fc7.

    Returns:
        As `box_head`, from crops `(n, side, side, 3)`.
    """
    x = trunk.outputs[-1]
    if trunk.name.startswith("vgg"):
        x = keras.layers.Flatten(name="flatten")(x)
        for name in ("fc6", "fc7"):
            x = keras.layers.Dense(units, "relu", kernel_initializer="he_uniform", name=name)(x)
    elif len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(trunk.input, outputs_of_regions(x, num_classes), name="crop_head")


def outputs_of_regions(x, num_classes: int) -> list:
    """Returns logits and deltas from the last features of a region `(n, units)`."""
    logits = keras.layers.Dense(
        1 + num_classes, kernel_initializer=_normal(FIRST_CLASS), dtype="float32", name="classes"
    )(x)
    deltas = keras.layers.Dense(
        4 * num_classes, kernel_initializer=_normal(FIRST_BOX), dtype="float32", name="moves"
    )(x)
    return [logits, keras.layers.Reshape((num_classes, 4), name="moves_of_classes")(deltas)]


def mask_head(
    side: int, channels: int, num_classes: int, width: int = 256, norm: str = "none"
) -> keras.Model:
    """Builds the head that draws the mask of an object for each class.

    Reference:
        He et al., Mask R-CNN, 2017, figure 4. https://arxiv.org/abs/1703.06870

    Args:
        side: Height and width of the features of a region, usually 14.
        channels: Channels of these features.
        num_classes: Number of classes.
        width: Channels of the four convolutions and of the transposed one.
        norm: Normalization after each convolution, as in `models.parts.normalization`.

    Returns:
        A model from regions `(n, side, side, channels)` to logits
        `(n, 2 * side, 2 * side, num_classes)`.
    """
    regions = keras.Input((side, side, channels), name="regions")
    x = regions
    for number in range(1, 5):
        x = _convolution(x, width, 3, norm, f"mask{number}")
        x = keras.layers.ReLU(name=f"mask{number}_relu")(x)
    x = keras.layers.Conv2DTranspose(
        width, 2, 2, activation="relu", kernel_initializer="he_normal", name="mask5"
    )(x)
    logits = keras.layers.Conv2D(
        num_classes, 1, kernel_initializer="he_normal", dtype="float32", name="masks"
    )(x)
    return keras.Model(regions, logits, name="mask_head")


def _normal(stddev: float) -> keras.initializers.Initializer:
    # One for each layer, made after the seed of the run is set.
    return keras.initializers.RandomNormal(stddev=stddev)


def _convolution(x, filters: int, size: int, norm: str, name: str):
    x = keras.layers.Conv2D(
        filters,
        size,
        padding="same",
        use_bias=norm == "none",
        kernel_initializer="he_uniform",
        name=name,
    )(x)
    normalize = normalization(norm, filters, epsilon=1e-5, name=f"{name}_norm")
    return normalize(x) if normalize else x
