"""The networks that find objects in images, by name."""

from collections.abc import Sequence

import keras

from models.faster_rcnn import FasterRCNN
from models.mask_rcnn import MaskRCNN
from models.region_heads import box_head, feature_pyramid, mask_head, region_proposals
from models.trunks import STRIDES

BOXES = ("faster_rcnn_fpn",)
MASKS = ("mask_rcnn",)
"""Networks that find boxes, and those that find masks, too."""

RATIOS = (0.5, 1.0, 2.0)
"""Height over width of anchors: Ren et al. (2015), section 3.1.1."""


def strides_of(levels: Sequence[int]) -> tuple[int, ...]:
    """Returns the strides in pixels of levels of a pyramid, and of one more for the proposals.

    Example:
        >>> strides_of((2, 3))
        (4, 8, 16)
    """
    strides = [STRIDES[level - 2] for level in levels]
    return (*strides, 2 * strides[-1])


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
    regions: int = 512,
    canonical_size: int = 224,
    max_detections: int = 100,
    norm: str = "none",
) -> FasterRCNN:
    """Builds a network that finds objects.

    Reference:
        Ren et al., Faster R-CNN, 2015. https://arxiv.org/abs/1506.01497
        Lin et al., Feature Pyramid Networks for Object Detection, 2017.
        https://arxiv.org/abs/1612.03144
        He et al., Mask R-CNN, 2017. https://arxiv.org/abs/1703.06870

    Args:
        name: One of `BOXES` or `MASKS`.
        trunk: From `models.trunks.trunk`.
        num_classes: Number of classes; at least 1.
        levels: Levels of the pyramid, rising.
        anchor_sizes: Sizes of the anchors of each level and of one more, in pixels. None: 8 times
            the stride, as in Lin et al.
        anchor_ratios: Height over width of the anchors.
        pyramid_channels: Channels of the pyramid, of the proposal network and of the mask head.
        head_units: Units of the dense layers of the head.
        regions, canonical_size, max_detections: As in `models.faster_rcnn.FasterRCNN`.
        norm: Normalization in pyramid and mask head, as in `models.parts.normalization`.
    """
    strides = strides_of(levels)
    sizes = anchor_sizes or [(8.0 * stride,) for stride in strides]
    parts = {
        "features": feature_pyramid(trunk, levels, pyramid_channels, norm),
        "proposals": region_proposals(
            pyramid_channels, pyramid_channels, len(sizes[0]) * len(anchor_ratios)
        ),
        "head": box_head(7, pyramid_channels, num_classes, head_units),
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
        canonical_size=canonical_size,
        max_detections=max_detections,
        name=name,
    )
