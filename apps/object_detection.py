"""Find objects in images: a box, a class and a score for each.

Example:

    hornbook object_detection --data path/to/voc --backbone mobilenet --preset imagenet
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from apps.detection.answers import example, facts, signatures
from apps.detection.given import searched, window_scores, with_windows
from apps.detection.linear import fit_linear
from apps.detection.report import evaluated, report
from data import objects
from data.anchor_sizes import Sizes, best_ious, chosen_anchors, described
from data.feed import Feed
from layers import boxes
from metrics import baselines
from metrics.average_precision import MeanAveragePrecision
from models import torchvision_weights
from models.detectors import (
    BOXES,
    GIVEN,
    PYRAMIDS,
    RATIOS,
    detector,
    published_sizes,
    strides_of,
)
from models.imagenet import PRESETS
from models.timm_weights import NETWORKS
from models.trunks import FEATURES, VECTORS, load_dense, trunk
from preprocessing import objects as pixels
from runs import presets
from runs.command import command
from runs.object_settings import ObjectSettings
from runs.run import counted, finish, start, train
from runs.settings import Training


@dataclass(frozen=True)
class Config(ObjectSettings):
    NETWORK = (*ObjectSettings.NETWORK, "windows", "crop_size", "proposals")
    data: str = "digits"
    """`digits` (built in), `tfds:NAME`, or a folder in the format of VOC, COCO, YOLO or CSV."""
    model: str = "faster_rcnn_fpn"
    out: Path = Path("saved_models/object_detection")
    selective_search: Literal["single", "fast", "quality"] = "fast"
    """Selective search that proposes regions to rcnn and fast_rcnn: 1, 8 or 80 groupings."""
    proposals: int = 2000
    """Maximum number of proposals of an image for rcnn and fast_rcnn."""
    smallest_proposal: int | None = None
    """Minimum width and height of a proposal in pixels of the resized image. Default: 20, or 6 for
    images of at most 400 pixels a side."""
    windows: int = 2000
    """Maximum number of fixed windows that rcnn and fast_rcnn read if a request has no proposals.
    `anchors` are their sizes; by default sizes and ratios are clusters of the training boxes."""
    crop_size: int | None = None
    """Height and width in pixels to which rcnn warps regions. Default: 224, or 64 for images of at
    most 400 pixels a side."""
    classifier: Training[Literal["svm", "softmax"]] = "svm"
    """What classifies the last features of rcnn: a support vector machine for each class, or the
    network's own last layer."""

    def __post_init__(self):
        super().__post_init__()
        self.require_one_of(BOXES, "model")
        self.require_pyramid({*BOXES} & {*PYRAMIDS}, ["fast_rcnn"])
        self.require_backbone(
            FEATURES | VECTORS if self.model == "rcnn" else FEATURES,
            PRESETS,
            (*NETWORKS, *(torchvision_weights.TRUNKS if self.model in PYRAMIDS else ())),
        )
        self.require_least(1, "proposals", "smallest_proposal", "windows")
        self.require_least(32, "crop_size")
        names = "selective_search", "proposals", "smallest_proposal", "windows"
        self.require_only(GIVEN, *names)
        self.require_only(["rcnn"], "crop_size", "classifier")
        if self.backbone == "alexnet" and self.crop_size and self.crop_size < 64:
            self._refuse("crop_size", "at least 64 for alexnet")
        if self.backbone.startswith("vgg") and self.model == "fast_rcnn" and self.head_units:
            self._refuse("head_units", "left out for VGG, whose fc6 and fc7 have 4096 units")

    @property
    def usual(self) -> dict[str, Any]:
        # Girshick (2015), section 2.3.
        given = {"batch_size": 2, "regions": 64} if self.model in GIVEN else {}
        return super().usual | given


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test images."""
    run = start(config)
    data, anchors = with_anchors(config, load(config))
    data = counted(run, data, "images")
    if config.model in GIVEN and not config.check:
        data = searched(config, data)
    fed = feed(config, data)
    trained = train(
        run,
        partial(build, config, data, anchors),
        fed,
        weighted_metrics=lambda: [MeanAveragePrecision(len(data.classes), boxes.iou)],
        monitor="val_map50",
        evaluate_every=config.evaluate_every,
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    if config.model == "rcnn" and not config.EVALUATES:
        learned = fed.evaluation("train", config.batch_size)
        svm = config.classifier == "svm"
        fit_linear(trained.model, learned, len(data.train), svm=svm, seed=config.seed)
    test = evaluated(run, trained.model, data)
    scores = test.scores
    if config.model in GIVEN:
        scores |= window_scores(trained.model, data)
    images = [image for image, _ in data.first("validation", 4)]
    return finish(
        run,
        trained,
        task="object detection",
        signatures=signatures(data, images, getattr(trained.model, "margins", False)),
        warmup={"image_bytes": images},
        example=example(data),
        scores=scores,
        num_test=len(data.test),
        examples="images",
        facts=facts(data),
        report=report(trained.model, data, test),
        baselines=partial(baselines.of_boxes, data, test),
    )


def load(config: ObjectSettings, masks: bool = False) -> objects.Objects:
    size, sides, most = config.image_size, config.sides, config.max_detections
    if is_whole(config) and not size:
        sides = sides or torchvision_weights.SIDES
    if config.continued:  # All are those of the network.
        card = presets.card(config.continued)
        height, width, _ = map(int, card["input"].split(" x "))
        size, most = (height, width), card["max detections"]
        sides = card.get("sides") and tuple(card["sides"])
    return objects.load(
        **config.loading, masks=masks, image_size=size, sides=sides, max_detections=most
    )


def with_anchors(
    config: ObjectSettings, data: objects.Objects
) -> tuple[objects.Objects, dict[str, Any]]:
    """Returns the data with remarks on the anchors or windows, and these as `detector` has them."""
    if config.continued:
        return data, {}  # The network has its own.
    if isinstance(config, Config) and config.model in GIVEN:
        return with_windows(config, data)
    strides = strides_of(config.model, config.levels)
    published = published_sizes(config.model, strides)
    boxes, image_size = data.train_boxes, data.image_size
    sizes: Sizes = tuple(published)
    ratios: tuple[float, ...] = RATIOS
    if config.anchors:
        given = tuple(map(float, config.anchors))
        sizes = tuple((size,) for size in given) if config.model in PYRAMIDS else (given,)
    if config.anchors or is_whole(config):  # A proposal network is pretrained for its own.
        ious = best_ious(boxes, sizes, ratios, strides, image_size)
        remarks = [described("Anchors", sizes, ratios, ious)]
    else:
        sizes, ratios, remarks = chosen_anchors(boxes, sizes, ratios, strides, image_size)
    anchors = {"anchor_sizes": sizes, "anchor_ratios": ratios}
    return replace(data, remarks=(*data.remarks, *remarks)), anchors


def is_whole(config: ObjectSettings) -> bool:
    """Returns whether the preset has the weights of a whole network, not only of its trunk."""
    return config.weights_file is not None and config.backbone in torchvision_weights.TRUNKS


def feed(config: ObjectSettings, data: objects.Objects) -> Feed:
    augment = pixels.augmentation(config.augment, config.vertical_flip)

    def vary(images, objects, seed):
        images, objects = augment(images, objects, seed)
        count = tf.shape(images["scale"])[0]
        # What a network samples in an image depends on the step and on its place in the batch.
        seeds = tf.random.split(tf.random.fold_in(seed, 1), count)
        return {**images, "seeds": seeds}, objects

    return Feed(
        data,
        prepare=partial(pixels.prepared, image_size=data.image_size, sides=data.sides),
        batch=lambda images, objects: (pixels.with_floats(images), objects),
        vary=vary,
    )


def build(config: ObjectSettings, data: objects.Objects, anchors: dict[str, Any]) -> keras.Model:
    if config.continued:
        network = presets.network(config.continued)
        if config.model == "rcnn" and not config.EVALUATES:
            network.margins = False  # Its last layer is trained as a classifier again.
        if len(data.classes) == network.num_classes:
            return network
        # The known classes come first.
        return presets.with_first_of(network.with_classes(len(data.classes)), network)
    widths = config.widths(None if is_whole(config) else data.image_size)
    options = {"input_shape": (*data.image_size, 3), **widths, **anchors}
    features = trunk(
        config.backbone,
        options.pop("input_shape"),
        preset=config.preset,
        freeze_stages=config.freeze_stages,
    )
    network = detector(
        config.model,
        features,
        len(data.classes),
        levels=config.levels,
        max_detections=data.max_detections,
        norm="none" if config.preset != "none" else "group",
        aligned=not is_whole(config),
        rounded=is_whole(config),
        **options,
    )
    if is_whole(config):
        ids = torchvision_weights.coco_ids(data.classes)
        torchvision_weights.load_torchvision(network, config.preset, ids)
    # The fc6 of VGG reads 7 x 7 features, which crops of 224 x 224 pixels give.
    has_dense = config.model not in PYRAMIDS and network.head.input_shape[1] in (7, 224)
    if config.preset == "imagenet" and config.backbone == "vgg16" and has_dense:
        load_dense(network.head, config.backbone)
    return network


if __name__ == "__main__":
    command(main, Config, __doc__)
