"""Find objects in images: a box, a class, a score and a mask for each.

Example:

    hornbook instance_segmentation --data path/to/coco --backbone mobilenet --preset imagenet
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from apps.detection.answers import example, facts, signatures
from apps.detection.report import evaluated, report
from apps.object_detection import build, feed, load, with_anchors
from layers import boxes
from metrics import baselines
from metrics.average_precision import MeanAveragePrecision
from models.detectors import MASKS, PYRAMIDS
from models.imagenet import PRESETS
from models.timm_weights import NETWORKS
from models.torchvision_weights import TRUNKS
from models.trunks import FEATURES
from runs.command import command
from runs.object_settings import ObjectSettings
from runs.run import counted, finish, start, train


@dataclass(frozen=True)
class Config(ObjectSettings):
    data: str = "digits"
    """`digits` (built in), or a folder in the format of COCO or YOLO with polygons, or with a mask
    for each object or each image."""
    model: str = "mask_rcnn"
    out: Path = Path("saved_models/instance_segmentation")

    def __post_init__(self):
        super().__post_init__()
        self.require_one_of(MASKS, "model")
        self.require_pyramid(PYRAMIDS)
        self.require_backbone(FEATURES, PRESETS, (*NETWORKS, *TRUNKS))


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test images."""
    run = start(config)
    data, anchors = with_anchors(config, load(config, masks=True))
    data = counted(run, data, "images")
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
    test = evaluated(run, trained.model, data)
    images = [image for image, _ in data.first("validation", 4)]
    return finish(
        run,
        trained,
        task="instance segmentation",
        signatures=signatures(data, images),
        warmup={"image_bytes": images},
        example=example(data),
        scores=test.scores,
        num_test=len(data.test),
        examples="images",
        facts=facts(data),
        report=report(trained.model, data, test),
        baselines=partial(baselines.of_boxes, data, test),
    )


if __name__ == "__main__":
    command(main, Config, __doc__)
