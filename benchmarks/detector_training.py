"""Faster R-CNN with a feature pyramid trained by Hornbook and by torchvision, side by side.

Both have the same trunk, levels, widths, anchors and numbers of regions, and learn from the same
batches in the same order with the same schedule. Steps alternate between the two; what is printed
is the score of both on validation or test images, the median time of a step of each, and how many
times as long torchvision's takes.

torchvision's wheel needs the PyTorch that it was built with, so all go into a folder of their own:

    pip install --target FOLDER torch torchvision
    pip install --target FOLDER --no-deps timm safetensors huggingface-hub

Example:

    PYTHONPATH=FOLDER OMP_WAIT_POLICY=passive python -m benchmarks.detector_training \
        --data ../shared/data/bccd --preset ../shared/presets/efficientnet_lite0.safetensors
"""

import os
import statistics
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import torch  # Before TensorFlow, after which torchvision crashes the process.
import torchvision
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

# isort: split
import keras
import numpy as np
import tensorflow as tf
import tyro

from apps import object_detection as detection
from apps.detection.report import queried
from metrics.detections import Evaluation
from training.optimizers import learning_rate_schedule, optimizer

LAST = {"efficientnet_lite0": (24, 40, 112, 320), "resnet18": (64, 128, 256, 512)}
"""Channels of each trunk at strides of 4, 8, 16 and 32."""


@dataclass(frozen=True)
class Config:
    data: str = "digits"
    """As in `hornbook object_detection`."""
    backbone: str = "efficientnet_lite0"
    """efficientnet_lite0, or resnet18 with group normalization."""
    preset: str = "none"
    """File of timm's weights for efficientnet_lite0; none for random weights."""
    image_size: tuple[int, int] = (256, 320)
    levels: tuple[int, ...] = (3, 4, 5)
    anchors: tuple[float, ...] = (20, 45, 90, 180)
    augment: Literal["none", "light", "large"] = "none"
    epochs: int = 4
    batch_size: int = 4
    learning_rate: float = 1.5e-3
    seeds: int = 3
    test: bool = False
    """Score the test images instead of the validation images."""
    steps: int | None = None
    """Only so many steps, without a score: for the time of a step."""

    def settings(self, seed: int) -> detection.Config:
        return detection.Config(
            data=self.data,
            backbone=self.backbone,
            preset=self.preset,
            image_size=self.image_size,
            levels=self.levels,
            anchors=self.anchors,
            augment=self.augment,
            vertical_flip=True,
            batch_size=self.batch_size,
            seed=seed,
            skip_bad=True,
            out=Path(tempfile.mkdtemp()),
        )


class Trunk(torch.nn.Module):
    """A trunk with a feature pyramid above it, as torchvision's detectors take it."""

    def __init__(self, config: Config, channels: int):
        super().__init__()
        stages = tuple(level - 2 for level in config.levels)
        self.is_pretrained = config.preset != "none"
        if config.backbone == "resnet18":
            network = torchvision.models.resnet18(norm_layer=lambda n: torch.nn.GroupNorm(32, n))
            layers = {f"layer{stage + 1}": str(stage) for stage in stages}
            self.body = torchvision.models._utils.IntermediateLayerGetter(network, layers)
        else:
            import timm
            from safetensors.torch import load_file

            self.body = timm.create_model(
                f"tf_{config.backbone}", features_only=True, out_indices=[p + 1 for p in stages]
            )
            if self.is_pretrained:
                self.body.load_state_dict(load_file(config.preset), strict=False)
        widths = [LAST[config.backbone][stage] for stage in stages]
        self.pyramid = FeaturePyramidNetwork(widths, channels, LastLevelMaxPool())
        self.out_channels = channels
        for name, weight in self.body.named_parameters():
            first = name.startswith(("conv_stem", "bn1", "blocks.0", "blocks.1"))
            if self.is_pretrained and (first or "bn" in name):
                weight.requires_grad = False

    def train(self, mode: bool = True):
        super().train(mode)
        if self.is_pretrained:
            for layer in self.body.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.eval()
        return self

    def forward(self, images):
        found = self.body(images)
        maps = found.values() if isinstance(found, dict) else found
        return self.pyramid(OrderedDict((str(i), one) for i, one in enumerate(maps)))


def torchvision_detector(config: Config, num_classes: int, widths: dict[str, int]) -> FasterRCNN:
    levels = [str(number) for number in range(len(config.levels))]
    channels, units = widths["pyramid_channels"], widths["head_units"]
    return FasterRCNN(
        Trunk(config, channels),
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in config.anchors),
            ((0.5, 1.0, 2.0),) * len(config.anchors),
        ),
        box_roi_pool=MultiScaleRoIAlign(
            levels, 7, 2, canonical_scale=int(widths["canonical_size"])
        ),
        box_head=TwoMLPHead(7 * 7 * channels, units),
        box_predictor=FastRCNNPredictor(units, num_classes + 1),
        box_batch_size_per_image=widths["regions"],
        min_size=min(config.image_size),
        max_size=max(config.image_size),
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
    )


def torch_images(images: dict[str, tf.Tensor]) -> list[torch.Tensor]:
    """Cuts off the padding, which torchvision adds again."""
    cut = []
    for one, (height, width) in zip(images["pixels"], images["true_size"].numpy(), strict=True):
        cut.append(torch.tensor(one[:height, :width].numpy()).permute(2, 0, 1).contiguous())
    return cut


def torch_targets(objects: dict[str, tf.Tensor]) -> list[dict[str, torch.Tensor]]:
    targets = []
    for boxes, classes, kind in zip(
        *(objects[name].numpy() for name in ("boxes", "classes", "kind")), strict=True
    ):
        chosen = (kind == 1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        labels = torch.tensor(classes[chosen] + 1, dtype=torch.int64)
        targets.append({"boxes": torch.tensor(boxes[chosen]), "labels": labels})
    return targets


def torch_evaluation(network: FasterRCNN, batches, truth: Evaluation) -> Evaluation:
    """Detections of torchvision in the pixels of the upright images."""
    network.eval()
    found = []
    with torch.no_grad():
        for images, *_ in batches:
            for one, scale in zip(
                network(torch_images(images)), images["scale"].numpy(), strict=True
            ):
                found.append(
                    {
                        "boxes": one["boxes"].numpy() / scale,
                        "classes": one["labels"].numpy() - 1,
                        "scores": one["scores"].numpy(),
                    }
                )
    return Evaluation(truth.truths, found, truth.classes, truth.most)


def train(config: Config, seed: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Trains both networks, and returns their scores and the times of their steps."""
    keras.utils.set_random_seed(seed)
    torch.manual_seed(seed)
    settings = config.settings(seed)
    data, anchors = detection.with_anchors(settings, detection.load(settings))
    if not config.test:
        data = replace(data, test=data.validation)
    fed = detection.feed(settings, data)
    total = config.epochs * fed.steps_per_epoch(config.batch_size)
    warmup = total // config.epochs // 2
    schedule = learning_rate_schedule(config.learning_rate, "cosine", warmup, total)
    rates = [float(schedule(number)) for number in range(total)]  # type: ignore[operator]
    ours = detection.build(settings, data, anchors)
    ours.compile(optimizer=optimizer("adamw", schedule))
    theirs = torchvision_detector(config, len(data.classes), settings.widths(data.image_size))
    weights = [weight for weight in theirs.parameters() if weight.requires_grad]
    decayed = [weight for weight in weights if weight.ndim > 1]
    others = [weight for weight in weights if weight.ndim == 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    descent = torch.optim.AdamW(groups, weight_decay=0.05)
    step = tf.function(ours.train_step)
    theirs.train()
    times: dict[str, list[float]] = {"ours": [], "torchvision": []}
    batches = fed.training(batch_size=config.batch_size, seed=seed, epochs=config.epochs)
    for number, (images, objects) in enumerate(batches):
        if config.steps and number >= config.steps:
            break
        inputs, targets = torch_images(images), torch_targets(objects)
        start = time.perf_counter()
        step((images, objects))
        middle = time.perf_counter()
        for group in descent.param_groups:
            group["lr"] = rates[number]
        loss = sum(theirs(inputs, targets).values())
        descent.zero_grad()
        loss.backward()
        descent.step()
        times["ours"].append(middle - start)
        times["torchvision"].append(time.perf_counter() - middle)
    if config.steps:
        return {}, times
    mine = queried(ours, data)
    other = torch_evaluation(theirs, fed.evaluation("test", config.batch_size), mine)
    scores = {
        f"{name} {score}": found.scores[score]
        for name, found in {"ours": mine, "torchvision": other}.items()
        for score in ("map50", "map")
    }
    return scores, times


def main(config: Config) -> None:
    tf.config.experimental.enable_op_determinism()  # As in runs on a CPU.
    found = []
    for seed in range(config.seeds):
        scores, times = train(config, seed)
        found.append(scores)
        steps = {name: 1000 * statistics.median(values[5:]) for name, values in times.items()}
        ratio = steps["torchvision"] / steps["ours"]
        shown = ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
        print(
            f"seed {seed}: {shown}; ms a step: ours {steps['ours']:.0f}, "
            f"torchvision {steps['torchvision']:.0f}, {ratio:.2f} times as long",
            flush=True,
        )
    for name in found[0]:
        print(f"{name}: mean {np.mean([scores[name] for scores in found]):.4f}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
