"""The networks that find objects in images, by name."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from models.fast_rcnn import FastRCNN
from models.faster_rcnn import FasterRCNN
from models.mask_rcnn import MaskRCNN
from models.rcnn import RCNN
from models.region_heads import (
    box_head,
    crop_head,
    feature_pyramid,
    last_stage_head,
    mask_head,
    region_proposals,
)
from models.trunks import STRIDES

GIVEN = ("rcnn", "fast_rcnn")
"""Networks whose proposals come with the image."""
BOXES = (*GIVEN, "faster_rcnn", "faster_rcnn_fpn")
MASKS = ("mask_rcnn",)
"""Networks that find boxes, and those that find masks, too."""
PYRAMIDS = ("faster_rcnn_fpn", *MASKS)
"""Networks with a feature pyramid."""

RATIOS = (0.5, 1.0, 2.0)
"""Height over width of anchors: Ren et al. (2015), section 3.1.1."""
SIZES = (128.0, 256.0, 512.0)
"""Sizes of the anchors without a pyramid, in pixels: the same section."""
LAST_BUT_ONE = 2
"""Number of the trunk's map that is read without a pyramid."""
FC_UNITS = 4096
"""Units of fc6 and fc7 of VGG: Simonyan & Zisserman (2015), table 1."""


def strides_of(name: str, levels: Sequence[int]) -> tuple[int, ...]:
    """Returns the strides in pixels of the maps that a network proposes regions from.

    With a pyramid these are the levels and one more for the proposals.

    Example:
        >>> strides_of("faster_rcnn_fpn", (2, 3)), strides_of("faster_rcnn", ())
        ((4, 8, 16), (16,))
    """
    if name not in PYRAMIDS:
        return (STRIDES[LAST_BUT_ONE],)
    strides = [STRIDES[level - 2] for level in levels]
    return (*strides, 2 * strides[-1])


def published_sizes(name: str, strides: Sequence[int]) -> list[tuple[float, ...]]:
    """Returns the sizes of the paper's anchors of each map, in pixels.

    Args:
        name: As in `detector`.
        strides: From `strides_of`.
    """
    return [(8.0 * stride,) for stride in strides] if name in PYRAMIDS else [SIZES]


def detector(
    name: str,
    trunk: keras.Model,
    num_classes: int,
    *,
    levels: Sequence[int] = (2, 3, 4, 5),
    anchor_sizes: Sequence[Sequence[float]] | None = None,
    anchor_ratios: Sequence[float] = RATIOS,
    pyramid_channels: int = 256,
    head_units: int = 1024,
    region_size: int = 14,
    regions: int = 512,
    canonical_size: int = 224,
    max_detections: int = 100,
    norm: str = "none",
    aligned: bool = True,
    rounded: bool = False,
    proposed: int = 1000,
    windows: Sequence[Sequence[float]] = (),
    read_level: int = 4,
) -> FasterRCNN:
    """Builds a network that finds objects.

    Reference:
        Ren et al., Faster R-CNN, 2015. https://arxiv.org/abs/1506.01497
        Lin et al., Feature Pyramid Networks for Object Detection, 2017.
        https://arxiv.org/abs/1612.03144
        He et al., Mask R-CNN, 2017. https://arxiv.org/abs/1703.06870

    Args:
        name: One of `BOXES` or `MASKS`.
        trunk: From `models.trunks.trunk`; that of `rcnn` takes images of the size of a crop.
        num_classes: Number of classes; at least 1.
        levels: Levels of the pyramid, rising.
        anchor_sizes: Sizes of the anchors of each of `strides_of`, in pixels. None:
            `published_sizes`.
        anchor_ratios: Height over width of the anchors.
        pyramid_channels: Channels of the pyramid, of the proposal network and of the mask head.
        head_units: Units of the dense layers of the head above a pyramid or on given proposals.
            Those of VGG without a pyramid have 4096.
        region_size: Height and width of the features of a region that the trunk's last stage reads,
            without a pyramid. The fc6 of VGG reads 7.
        regions, canonical_size, max_detections, proposed, aligned, rounded: As in
            `models.faster_rcnn.FasterRCNN`.
        norm: Normalization in pyramid and mask head, as in `models.parts.normalization`.
        windows: As in `models.fast_rcnn.FastRCNN`.
        read_level: The level of the trunk that given proposals are read from: 2 has a stride of 4
            pixels, 5 of 32.
    """
    if name in GIVEN:
        options: dict[str, Any] = {
            "windows": windows,
            "regions": regions,
            "proposed": proposed,
            "max_detections": max_detections,
            "padding": _black_of(trunk),
            "name": name,
        }
        if name == "rcnn":
            head = crop_head(trunk, num_classes, FC_UNITS)
            return RCNN(head, iou_threshold=0.3, **options)
        features = keras.Model(trunk.input, [trunk.outputs[read_level - 2]], name="features")
        units = FC_UNITS if trunk.name.startswith("vgg") else head_units
        head = box_head(7, features.outputs[0].shape[-1], num_classes, units)
        return FastRCNN(features, head, strides=(STRIDES[read_level - 2],), **options)
    strides = strides_of(name, levels)
    sizes = anchor_sizes or published_sizes(name, strides)
    if name in PYRAMIDS:
        channels = width = pyramid_channels
        features = feature_pyramid(trunk, levels, channels, norm)
        head = box_head(7, channels, num_classes, head_units)
    else:
        features = keras.Model(trunk.input, [trunk.outputs[LAST_BUT_ONE]], name="features")
        channels = features.outputs[0].shape[-1]
        # Ren et al., section 3.1: 512 for VGG-16 with its 512 channels, 256 for ZFNet with 256.
        width = 512 if channels >= 512 else 256
        stage = keras.Model(trunk.outputs[LAST_BUT_ONE], trunk.outputs[-1])
        if stage.weights:
            head = last_stage_head(stage, region_size, num_classes)
        else:  # VGG ends in pooling, which the pooling of regions replaces.
            head = box_head(7, channels, num_classes, FC_UNITS)
    parts = {
        "features": features,
        "proposals": region_proposals(channels, width, len(sizes[0]) * len(anchor_ratios)),
        "head": head,
    }
    network: type[FasterRCNN] = FasterRCNN
    if name in MASKS:
        network = MaskRCNN
        parts["masks"] = mask_head(14, pyramid_channels, num_classes, pyramid_channels, norm)
    return network(
        **parts,
        anchor_sizes=sizes,
        anchor_ratios=anchor_ratios,
        strides=strides,
        regions=regions,
        proposed=proposed,
        canonical_size=canonical_size,
        max_detections=max_detections,
        aligned=aligned,
        rounded=rounded,
        padding=_black_of(trunk),
        name=name,
    )


def _black_of(trunk: keras.Model) -> list[float]:
    """Returns the color in [0, 1] that the preprocessing of a trunk turns to 0."""
    for layer in trunk.layers:
        if isinstance(layer, keras.layers.Rescaling):
            color = -np.asarray(layer.offset) / np.asarray(layer.scale)
            return np.broadcast_to(color, 3).tolist()
    return [0.0] * 3
