"""Inputs of the layers of object detection, and what torchvision makes of them.

torchvision_values.npz has the answers, so that tests need no PyTorch. Where torchvision is
installed, this writes them again:

    python -m tests.layers.torchvision_values
"""

from pathlib import Path
from typing import Any

import numpy as np

PATH = Path(__file__).with_suffix(".npz")
STRIDE = 8


def stored(name: str) -> np.ndarray:
    """Returns one of the stored arrays."""
    with np.load(PATH) as arrays:
        return arrays[name]


def regions() -> tuple[np.ndarray, np.ndarray]:
    """Feature maps `(3, 12, 16, 1)` with stride 8, and 1002 boxes `(3, 334, 4)` of all kinds."""
    random = np.random.default_rng(0)
    features = random.normal(size=(3, 12, 16, 1))
    height, width = 12 * STRIDE, 16 * STRIDE
    corners = random.uniform(0, (width, height), size=(3, 334, 2))
    sides = random.uniform(0, 60, size=(3, 334, 2))
    boxes = np.concatenate([corners, np.minimum(corners + sides, (width, height))], axis=2)
    boxes[:, :40, 2:] = boxes[:, :40, :2]  # Empty.
    boxes[:, 40:80] = boxes[:, 40:80, [2, 3, 0, 1]]  # Inverted.
    boxes[:, 80:120] += random.choice([-1, 1], size=(3, 40, 1)) * 40  # Partly outside.
    boxes[:, 120:160] += random.choice([-1, 1], size=(3, 40, 1)) * 300  # Wholly outside.
    return features.astype("float32"), boxes.astype("float32")


def regions_gradient() -> np.ndarray:
    """The gradient to outputs of size 2 in `tests.layers.check.gradients`: `(3, 334, 2, 2, 1)`."""
    return (np.random.default_rng(1).normal(size=(3, 334, 2, 2, 1)) / 8).astype("float32")


def scored_boxes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """200 cases: boxes `(200, 40, 4)`, distinct scores `(200, 40)`, classes below 3 `(200, 40)`."""
    random = np.random.default_rng(2)
    corners = random.uniform(0, 20, size=(200, 40, 2))
    boxes = np.concatenate([corners, corners + random.uniform(15, 40, size=(200, 40, 2))], axis=2)
    scores = random.permuted(np.tile((1 + np.arange(40)) / 41, (200, 1)), axis=1)
    classes = random.integers(3, size=(200, 40))
    return boxes.astype("float32"), scores.astype("float32"), classes


def masks() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `(12, 28, 28)` of blobs with a hole, and their boxes `(12, 4)`, in 60 x 80."""
    random = np.random.default_rng(3)
    y, x = (np.mgrid[:28, :28] + 0.5) / 28
    centre, radii = random.uniform(0.3, 0.7, (12, 2, 1, 1)), random.uniform(0.2, 0.5, (12, 2, 1, 1))
    distance = np.hypot((x - centre[:, 0]) / radii[:, 0], (y - centre[:, 1]) / radii[:, 1])
    probabilities = 1 / (1 + np.exp(20 * (np.abs(distance - 0.6) - 0.4)))
    corners = random.uniform(-5, 40, size=(12, 2))
    boxes = np.concatenate([corners, corners + random.uniform(17, 50, size=(12, 2))], axis=1)
    return probabilities.astype("float32"), boxes.astype("float32")


def main() -> None:
    import torch
    import torchvision
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    arrays: dict[str, Any] = {"version": np.array(torchvision.__version__)}
    features, boxes = regions()
    direction = torch.from_numpy(regions_gradient()).flatten(0, 1).permute(0, 3, 1, 2)
    maps = torch.from_numpy(features).permute(0, 3, 1, 2).contiguous().requires_grad_()
    lists = list(torch.from_numpy(boxes))
    pool, align = torchvision.ops.roi_pool, torchvision.ops.roi_align
    for name, function in {
        "roi_align": lambda: align(maps, lists, 2, 1 / STRIDE, 2, aligned=True),
        "roi_align_without_shift": lambda: align(maps, lists, 2, 1 / STRIDE, 2, aligned=False),
        "roi_pool": lambda: pool(maps, lists, 2, 1 / STRIDE),
    }.items():
        output = function()
        (gradient,) = torch.autograd.grad((output * direction).sum(), maps)
        arrays[name] = output.detach().reshape(3, 334, 2, 2, 1).numpy()
        arrays[name + "_gradient"] = gradient.permute(0, 2, 3, 1).numpy()

    kept = np.zeros((200, 40), "bool")
    for case, (some, scores, classes) in enumerate(zip(*scored_boxes(), strict=True)):
        numbers = [torch.from_numpy(x) for x in (some, scores, classes)]
        kept[case, torchvision.ops.batched_nms(*numbers, 0.5).numpy()] = True
    arrays["batched_nms"] = kept

    # detectron2's way: the pixels' centres in the frame of the mask, [-1, 1] x [-1, 1].
    probabilities, frames = (torch.from_numpy(x) for x in masks())
    xmin, ymin, xmax, ymax = frames[:, :, None].unbind(1)
    x = (torch.arange(80) + 0.5 - xmin) / (xmax - xmin) * 2 - 1
    y = (torch.arange(60) + 0.5 - ymin) / (ymax - ymin) * 2 - 1
    grid = torch.stack([x[:, None].expand(12, 60, 80), y[:, :, None].expand(12, 60, 80)], 3)
    sampled = torch.nn.functional.grid_sample(probabilities[:, None], grid, align_corners=False)
    arrays["pasted"] = sampled[:, 0].numpy() >= 0.5

    generator = AnchorGenerator(((20,), (32,)), ((0.5, 1.0, 2.0),) * 2)
    images = ImageList(torch.zeros(1, 3, 24, 32), [(24, 32)])
    (anchors,) = generator(images, [torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 2, 2)])
    arrays["rounded_anchors"] = anchors.numpy()
    np.savez_compressed(PATH, **arrays)


if __name__ == "__main__":
    main()
