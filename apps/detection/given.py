"""What networks need whose proposals come with the image: selective search and fixed windows."""

from dataclasses import replace
from typing import Any, Protocol

import keras
import numpy as np

from apps.detection.report import queried
from data.anchor_sizes import fitted_anchors
from data.objects import Objects
from data.proposals import with_proposals
from data.windows import best_ious, sliding_windows
from models.detectors import RATIOS
from runs.object_settings import SMALL

SIZES = 4
"""Number of sizes of windows, unless they are chosen."""


class GivenSettings(Protocol):
    """The settings of such networks."""

    @property
    def model(self) -> str: ...
    @property
    def backbone(self) -> str: ...
    @property
    def crop_size(self) -> int | None: ...
    @property
    def selective_search(self) -> str: ...
    @property
    def proposals(self) -> int: ...
    @property
    def smallest_proposal(self) -> int | None: ...
    @property
    def windows(self) -> int: ...
    @property
    def anchors(self) -> tuple[float, ...] | None: ...


def with_windows(config: GivenSettings, data: Objects) -> tuple[Objects, dict[str, Any]]:
    """Returns the data with a remark on the windows, and the options of such a network.

    Small images are read from features with a stride of 8 pixels, others from those of 16.

    Returns:
        The data, and the options of `models.detectors.detector`; for `rcnn` also the `input_shape`
        of its trunk.
    """
    (sizes,), ratios = fitted_anchors(data.train_boxes, [SIZES], len(RATIOS))
    if config.anchors:
        sizes, ratios = config.anchors, RATIOS
    # Those of equal boxes are equal.
    sizes, ratios = tuple(sorted({*sizes})), tuple(sorted({*ratios}))
    windows = sliding_windows(sizes, ratios, data.image_size, config.windows)
    ious = best_ious(data.train_boxes, windows)
    remark = (
        f"Windows for images without proposals: {len(windows):,}, with sizes of "
        f"{', '.join(map(str, sizes))} pixels and ratios of {', '.join(map(str, ratios))}; "
        f"{np.mean(ious >= 0.5):.1%} of the boxes have an IoU of at least 0.5 with one."
    )
    is_small = max(data.image_size) <= SMALL
    options: dict[str, Any] = {"windows": windows, "proposed": config.proposals}
    if config.model == "rcnn":
        side = config.crop_size or (64 if is_small else 224)
        options["input_shape"] = (side, side, 3)
    else:
        # The fc6 of VGG reads the features with a stride of 16.
        options["read_level"] = 3 if is_small and not config.backbone.startswith("vgg") else 4
    return replace(data, remarks=(*data.remarks, remark)), options


def searched(config: GivenSettings, data: Objects) -> Objects:
    """Adds the boxes of selective search to the images."""
    usual = 6 if max(data.image_size) <= SMALL else 20
    return with_proposals(
        data,
        mode=config.selective_search,
        smallest=config.smallest_proposal or usual,
        most=config.proposals,
    )


def window_scores(model: keras.Model, data: Objects) -> dict[str, float]:
    """Returns the scores of what clients get that send no proposals."""
    scores = queried(model, replace(data, num_proposals=0)).scores
    return {f"windows_{name}": scores[name] for name in ("map50", "map")}
