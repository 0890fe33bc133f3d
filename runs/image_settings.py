"""Settings of the apps that read images, in addition to those of all apps."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runs.settings import Settings, Training


@dataclass(frozen=True)
class WeightSettings(Settings):
    """For apps whose networks may begin with weights from ImageNet."""

    def __post_init__(self):
        super().__post_init__()
        if self.weights_file is None:
            self.require_preset("imagenet", "a .safetensors file")
        elif not self.weights_file.is_file():
            raise ValueError(f"`preset` must be a file that exists. Received: {self.preset}")

    @property
    def weights_file(self) -> Path | None:
        """The file with pretrained weights; None for other presets."""
        path = Path(self.preset)
        return path if path.suffix == ".safetensors" else None

    @property
    def is_pretrained(self) -> bool:
        """Whether the weights come from ImageNet."""
        return self.preset == "imagenet" or self.weights_file is not None


@dataclass(frozen=True)
class ImageSettings(WeightSettings):
    """For apps that read images with networks that may be pretrained."""

    NETWORK = (*Settings.NETWORK, "norm", "pool", "image_size", "channels")
    preset: str = "none"
    """Pretrained weights to start from: `imagenet`, the set of keras.applications; a .safetensors
    file with timm's weights of an efficientnet_lite; or the folder of a finished run of this app.
    `none` begins with random weights."""
    freeze: Training[bool] = False
    """Train only the head (with a preset)."""
    norm: Literal["batch", "group", "layer", "none"] | None = None
    """Normalization layers. Default: as in the paper."""
    pool: Literal["max", "average", "lp", "mixed", "stochastic", "spectral"] | None = None
    """Pooling layers. Default: as in the paper."""
    image_size: tuple[int, int] | None = None
    """Height and width, in pixels, that images are resized to. Default: the size that all images
    share, if it is at most 224 x 224, else 224 x 224."""
    channels: Literal[1, 3] | None = None
    """1 for gray, 3 for color. Default: as in the data."""

    def __post_init__(self):
        super().__post_init__()
        self.require_least(1, "image_size")
        if self.freeze and self.preset == "none":
            raise ValueError("`freeze` needs a preset: the trunk of a new network is untrained.")
        if self.is_pretrained and (self.norm or self.pool or self.channels == 1):
            raise ValueError(
                "With a preset, `norm`, `pool` and `channels` are fixed. "
                f"Received: norm={self.norm}, pool={self.pool}, channels={self.channels}. "
                "Fix: leave these options out, or leave out --preset."
            )

    def require_network(
        self,
        models: Collection[str],
        pretrained: Collection[str],
        in_files: Collection[str],
        **taking: Collection[str],
    ) -> None:
        """Requires one of the networks of the app, and the settings that go with it.

        Args:
            models: Names of the networks.
            pretrained: Those with weights in `imagenet`.
            in_files: Those whose weights may come from a file.
            taking: Those that have a setting, such as `norm`, by its name.
        """
        self.require_one_of(models, "model")
        if not self.continued:
            self.require_only(in_files if self.weights_file else pretrained, "preset", "freeze")
        for name, some in taking.items():
            self.require_only(some, name)

    @property
    def usual(self) -> dict[str, Any]:
        pretrained = {"epochs": 10, "warmup_epochs": 0.5} if self.preset != "none" else {}
        return super().usual | pretrained

    @property
    def advice(self) -> str:
        needs_less = (
            "A pretrained network needs fewer: --model mobilenet --preset imagenet --freeze."
        )
        return needs_less if self.preset == "none" else ""

    def rate(self, factor: float | None = None) -> float:
        is_tuned = self.preset != "none" and not self.freeze
        return super().rate(factor or (0.1 if is_tuned else 1.0))

    @property
    def replaced(self) -> dict[str, str]:
        """The kinds of layers that the network has in place of those of its paper, by name."""
        chosen = {"norm": self.norm, "pool": self.pool}
        return {name: kind for name, kind in chosen.items() if kind is not None}
