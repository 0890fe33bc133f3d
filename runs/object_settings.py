"""Settings of the apps that find objects in images, in addition to those of all apps."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from runs.image_settings import WeightSettings
from runs.settings import Data, Settings, Training

SMALL = 400
"""Images with no side above this, in pixels, get narrower networks and fewer regions."""


@dataclass(frozen=True)
class ObjectSettings(WeightSettings):
    """For apps whose networks pool the features of regions."""

    NETWORK = (
        *Settings.NETWORK,
        *("backbone", "image_size", "sides", "levels", "pyramid_channels", "head_units"),
        *("canonical_size", "max_detections", "anchors"),
    )
    EPOCHS = 12
    BATCH_SIZE = 4
    format: Data[Literal["voc", "coco", "yolo", "csv", "masks"] | None] = None
    """Format of the annotations. Default: found from the files."""
    backbone: str = "resnet18"
    """Network whose features are used; `--backbone help` lists them."""
    preset: str = "none"
    """Pretrained weights of the backbone: `imagenet`, the set of keras.applications, or a
    .safetensors file with timm's weights of an efficientnet_lite; or of the whole network: a
    .safetensors file with torchvision's weights for resnet50 with a pyramid, or the folder of a
    finished run of this app. `none` begins with random weights and group normalization."""
    freeze_stages: Training[int] = 2
    """Stages of a pretrained backbone, from the image on, that are not trained: 0 to 5, which end
    at strides of 2, 4, 8, 16 and 32. Its batch normalization is never trained."""
    image_size: tuple[int, int] | None = None
    """Height and width, in pixels, that images are resized into, keeping their aspect; multiples of
    32. Default: those of the median training image, at most 640."""
    sides: tuple[int, int] | None = None
    """Maximum lengths of the shortest and of the longest side, in pixels, that images are resized
    to, keeping their aspect; then `image_size` is by default what all training images fit. Default:
    as large as fits `image_size`, and with torchvision's weights 800 and 1333 if that is left out.
    """
    levels: tuple[int, ...] = (2, 3, 4, 5)
    """Levels of the feature pyramid: 2 has a stride of 4 pixels, 5 of 32. Without a pyramid,
    features with a stride of 16 are read."""
    anchors: tuple[float, ...] | None = None
    """Sizes of the anchors in pixels, with a pyramid one for each level and one more. Default: as
    in the paper, 8 strides of each level, or 128, 256 and 512 without a pyramid; by the training
    boxes if these do not fit more than 5 % of them."""
    pyramid_channels: int | None = None
    """Channels of the pyramid. Default: 256, or 64 for images of at most 400 pixels a side."""
    head_units: int | None = None
    """Units of the dense layers of the head. Default: 1024, or 256 for such small images."""
    regions: Training[int | None] = None
    """Regions of each image that the head learns from. Default: 512, or 128 for small images; 64
    for given proposals."""
    canonical_size: int | None = None
    """Side in pixels of the objects that are read from level 4 of the pyramid. Default: 224, or
    112 for small images."""
    max_detections: int | None = None
    """Maximum number of objects found in an image. Default: twice the number in most training
    images, at least 100."""
    evaluate_every: Training[int] = 1
    """Epochs from one validation to the next; the last epoch always has one. With `keep` best, the
    weights are those of the best of these epochs."""
    augment: Training[Literal["none", "light", "large"]] = "light"
    """Augmentation of the training images: `light`: mirror, scale by 0.8 to 1.25, colors; `large`:
    scale by 0.1 to 2."""
    vertical_flip: Training[bool] = False
    """Also mirror training images upside down."""

    def __post_init__(self):
        super().__post_init__()
        self.require_least(1, "pyramid_channels", "head_units", "regions", "max_detections")
        self.require_least(1, "canonical_size", "anchors", "evaluate_every")
        if 0 < self.patience < self.evaluate_every:
            self._refuse("patience", "0 or at least evaluate_every")
        if not 0 <= self.freeze_stages <= 5:
            self._refuse("freeze_stages", "0 to 5")
        if self.preset == "none" and self.freeze_stages != type(self).freeze_stages:
            self._refuse("freeze_stages", "left out without a preset, whose stages it freezes")
        if self.sides and not 1 <= self.sides[0] <= self.sides[1]:
            self._refuse("sides", "two lengths, rising")
        if self.image_size and any(side < 32 or side % 32 for side in self.image_size):
            self._refuse("image_size", "two multiples of 32")
        low, high = min(self.levels, default=0), max(self.levels, default=0)
        if low < 2 or high > 5 or self.levels != tuple(range(low, high + 1)):
            self._refuse("levels", "rising without gaps, from 2 to 5")

    def require_pyramid(self, models: Collection[str], dense: Collection[str] = ()) -> None:
        """Requires the models with a pyramid for its settings, and for them a size per level.

        Args:
            models: Names of these models.
            dense: Other models with a head of dense layers.
        """
        self.require_only(models, "levels", "pyramid_channels", "canonical_size")
        self.require_only((*models, *dense), "head_units")
        sizes = len(self.levels) + 1
        if self.model in models and self.anchors and len(self.anchors) != sizes:
            self._refuse("anchors", f"{sizes} sizes, one more than there are levels")

    def require_backbone(
        self, known: Collection[str], pretrained: Collection[str], in_files: Collection[str]
    ) -> None:
        """Requires one of the known backbones, and one that has the weights of the preset.

        Args:
            known: Names of the backbones.
            pretrained: Networks with weights in `imagenet`.
            in_files: Those whose weights may come from a file.
        """
        self.require_one_of(known, "backbone")
        having = in_files if self.weights_file else pretrained
        if self.is_pretrained and self.backbone not in having:
            raise ValueError(
                f"`preset` must be none, or `backbone` one of "
                f"{', '.join(name for name in known if name in having)}. Received: "
                f"backbone={self.backbone!r}, preset={self.preset!r}"
            )

    @property
    def usual(self) -> dict[str, Any]:
        return super().usual | {"warmup_epochs": 0.5}

    def widths(self, image_size: tuple[int, int] | None) -> dict[str, Any]:
        """Returns the widths of a network, which depend on the size of the images.

        Args:
            image_size: Height and width, in pixels. None: the widths of the paper.
        """
        is_small = image_size is not None and max(image_size) <= SMALL
        usual = {
            "pyramid_channels": 64 if is_small else 256,
            "head_units": 256 if is_small else 1024,
            "regions": 128 if is_small else 512,
            "canonical_size": 112 if is_small else 224,
        }
        chosen = {name: getattr(self, name) or value for name, value in usual.items()}
        return {**chosen, "region_size": 7 if is_small else 14}
