"""Find objects in images: a box, a class, a score and a mask for each.

Example:

    hornbook instance_segmentation --data path/to/coco --backbone mobilenet --preset imagenet
"""

from dataclasses import dataclass
from pathlib import Path

from apps.object_detection import trained_and_tested
from models.detectors import MASKS
from models.trunks import FEATURES
from runs.command import command
from runs.object_settings import ObjectSettings


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
        self.require_one_of(FEATURES, "backbone")


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test images."""
    return trained_and_tested(config, "instance segmentation", has_masks=True)


if __name__ == "__main__":
    command(main, Config, __doc__)
