"""Trunks of image classifiers: features at several strides, for detection."""

from pathlib import Path

import keras

from models import imagenet, torchvision_weights
from models.image_classifiers import MODELS
from models.resnet import RESNET_SIZES

STRIDES = (4, 8, 16, 32)
"""Pixels of an image per pixel of each map of features."""

FEATURES = {
    "vgg16": ("conv3_3_relu", "conv4_3_relu", "conv5_3_relu", "pool5"),
    **{
        f"resnet{depth}": tuple(
            f"conv{stage}_block{blocks}"
            for stage, blocks in enumerate(RESNET_SIZES[depth].blocks, start=2)
        )
        for depth in (18, 34, 50, 101)
    },
    "mobilenet": tuple(f"conv{number}_pointwise_relu" for number in (4, 6, 12, 14)),
    "efficientnet_lite0": (
        "stage1_block1_add",
        "stage2_block1_add",
        "stage4_block2_add",
        "stage6_block0_project_norm",
    ),
}
"""For each trunk the layer with the last features of each stride in `STRIDES`."""

VECTORS = {"alexnet": ("fc7_dropout",)}
"""Networks that R-CNN alone reads: the layer with their last features, `(batch, units)`."""


def trunk(
    name: str,
    input_shape: tuple[int, int, int],
    norm: str | None = None,
    preset: str = "none",
    freeze_stages: int = 2,
) -> keras.Model:
    """Builds the layers of a classifier up to its last map of features.

    A pretrained trunk normalizes by its moving statistics, and its first stages are not trained.

    Args:
        name: A key of `FEATURES` or `VECTORS`.
        input_shape: Height and width (multiples of 32 pixels) and channels of an image.
        norm: As in `models.parts.normalization`. None: group normalization, because batches of
            few large images have no useful statistics. VGG has no normalization by default.
        preset: `none` for random weights, `imagenet`, or a safetensors file as in
            `models.imagenet.pretrained`; one of a whole detector leaves the weights random, for
            `models.torchvision_weights.load_torchvision`.
        freeze_stages: Number of stages of a pretrained trunk, from the images on, that are not
            trained: 0 to 5. They end at strides of 2, 4, 8, 16 and 32.

    Returns:
        A model from images `(batch, height, width, channels)` in [0, 1] to a list of features
        `(batch, height / stride, width / stride, channels)`, one for each of `STRIDES`; those of
        `VECTORS` are one vector.
    """
    layers = FEATURES | VECTORS
    if name not in layers:
        raise ValueError(f"`name` must be one of {', '.join(layers)}. Received: name={name!r}")
    if name in VECTORS:
        network = MODELS[name](input_shape=input_shape, num_classes=1)
    elif preset == "none":
        kind = norm or ("none" if name.startswith("vgg") else "group")
        network = MODELS[name](input_shape=input_shape, num_classes=1, norm=kind)
    elif name in torchvision_weights.TRUNKS and preset != "imagenet":
        network = MODELS[name](input_shape=input_shape, num_classes=1, norm="batch")
        network = imagenet.with_preprocessing(network, "torch")
    else:
        file = None if preset == "imagenet" else Path(preset)
        network = imagenet.pretrained(name, input_shape, num_classes=2, file=file)
    features = [network.get_layer(layer).output for layer in layers[name]]
    model = keras.Model(network.input, features, name=name)
    if preset != "none":
        freeze(model, freeze_stages)
    return model


def load_dense(head: keras.Model, name: str) -> None:
    """Copies fc6 and fc7 of a VGG trained on ImageNet into a head with layers of these names.

    Reference:
        Girshick, Fast R-CNN, 2015, section 2.2. https://arxiv.org/abs/1504.08083
    """
    source = imagenet.download(name, include_top=True)
    for ours, theirs in {"fc6": "fc1", "fc7": "fc2"}.items():
        head.get_layer(ours).set_weights(source.get_layer(theirs).get_weights())


def freeze(model: keras.Model, stages: int) -> None:
    """Keeps the first stages of a trunk and all of its batch normalization as they are."""
    if not 0 <= stages <= 5:
        raise ValueError(f"`stages` must be 0 to 5. Received: stages={stages}")
    height = model.input_shape[1]
    strides = [height // layer.output.shape[1] for layer in model.layers]
    names = [layer.name for layer in model.layers]
    ends = [-1, max(i for i, stride in enumerate(strides) if stride <= 2)]
    ends += [names.index(name) for name in FEATURES[model.name]]
    for number, layer in enumerate(model.layers):
        is_normalization = isinstance(layer, keras.layers.BatchNormalization)
        if number <= ends[stages] or is_normalization:
            layer.trainable = False
