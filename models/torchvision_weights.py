"""Weights of torchvision's detectors, trained on COCO, in the networks of this folder."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

TRUNKS = ("resnet50",)
"""Trunks of detectors whose tensors are known by torchvision's names."""

COCO = (
    *("background", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck"),
    *("boat", "traffic light", "fire hydrant", "", "stop sign", "parking meter", "bench", "bird"),
    *("cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", ""),
    *("backpack", "umbrella", "", "", "handbag", "tie", "suitcase", "frisbee", "skis"),
    *("snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard"),
    *("surfboard", "tennis racket", "bottle", "", "wine glass", "cup", "fork", "knife", "spoon"),
    *("bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza"),
    *("donut", "cake", "chair", "couch", "potted plant", "bed", "", "dining table", "", ""),
    *("toilet", "", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave"),
    *("oven", "toaster", "sink", "refrigerator", "", "book", "clock", "vase", "scissors"),
    *("teddy bear", "hair drier", "toothbrush"),
)
"""Names of the classes by COCO's ids; "" for ids without objects."""
SIDES = (800, 1333)
"""Shortest and longest side in pixels to which torchvision resizes images."""
CHANNELS = 256
"""Channels of the pyramid."""


def coco_ids(classes: Sequence[str]) -> list[int | None]:
    """Returns COCO's id of each class, None for those that it does not have.

    Example:
        >>> coco_ids(["cat", "unicorn", "person"])
        [17, None, 1]
    """
    ids = {name: number for number, name in enumerate(COCO) if number and name}
    return [ids.get(name) for name in classes]


def load_torchvision(model: Any, path: str | Path, ids: Sequence[int | None]) -> None:
    """Copies the weights of a safetensors file into a network with a pyramid on ResNet-50.

    torchvision's batch normalization has an epsilon of 0: the scale compensates for ours.
    The head there also moves the box of the background and draws its mask, which is not read.

    Reference:
        torchvision.models.detection.fasterrcnn_resnet50_fpn and maskrcnn_resnet50_fpn.
        https://github.com/pytorch/vision

    Args:
        model: A `models.faster_rcnn.FasterRCNN` with batch normalization, whose widths are the
            defaults of `models.detectors.detector`.
        path: Tensors such as `backbone.body.conv1.weight` and `rpn.head.cls_logits.bias`.
        ids: COCO's id of each class of the network, from `coco_ids`. The weights of a class
            without one remain as they are.

    Raises:
        ValueError: If a tensor is missing, is left over or has another shape.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"Expected a safetensors file. Received: {path}: {error}") from error
    for layer, name in names(model):
        keys = {"weight": "kernel", "bias": "bias"}
        if isinstance(layer, keras.layers.BatchNormalization):
            keys = {"weight": "gamma", "bias": "beta"}
            keys |= {"running_mean": "moving_mean", "running_var": "moving_variance"}
        # The names of a layer's weights, and their tensors as Keras lays them out.
        given = {
            weight: _as_keras(tensors.pop(f"{name}.{key}"), layer)
            for key, weight in keys.items()
            if f"{name}.{key}" in tensors
        }
        if "moving_variance" in given:
            variance = given["moving_variance"]
            given["gamma"] = given["gamma"] * np.sqrt(1 + layer.epsilon / variance)
        for weight in layer.weights:
            value = given.get(weight.name)
            if value is not None and name in OUTPUTS:
                value = _of_classes(value, weight, ids, has_background=OUTPUTS[name])
            if value is None or value.shape != tuple(weight.shape):
                received = "none" if value is None else value.shape
                raise ValueError(
                    f"{path} must have the tensors of torchvision's {model.name}: {name} for a "
                    f"weight of shape {tuple(weight.shape)}. Received: {received}"
                )
            weight.assign(value)
    rest = sorted(key for key in tensors if not key.endswith("num_batches_tracked"))
    if rest:
        raise ValueError(
            f"{path} must have the tensors of torchvision's {model.name} and no other. Received "
            f"also: {', '.join(rest[:5])}{', ...' if len(rest) > 5 else ''}"
        )


OUTPUTS = {
    "roi_heads.box_predictor.cls_score": True,
    "roi_heads.box_predictor.bbox_pred": False,
    "roi_heads.mask_predictor.mask_fcn_logits": False,
}
"""Names of the layers with outputs of each class; whether ours have one of the background, too."""
_PROPOSALS = {
    "rpn": "rpn.head.conv.0.0",
    "objectness": "rpn.head.cls_logits",
    "moves": "rpn.head.bbox_pred",
}
_HEAD = {
    "fc6": "roi_heads.box_head.fc6",
    "fc7": "roi_heads.box_head.fc7",
    "classes": "roi_heads.box_predictor.cls_score",
    "moves": "roi_heads.box_predictor.bbox_pred",
}
_MASKS = {
    **{f"mask{number}": f"roi_heads.mask_head.{number - 1}.0" for number in range(1, 5)},
    "mask5": "roi_heads.mask_predictor.conv5_mask",
    "masks": "roi_heads.mask_predictor.mask_fcn_logits",
}


def names(model: Any) -> Iterator[tuple[keras.layers.Layer, str]]:
    """Yields the layers with weights, and the first part of the names of their tensors."""
    for layer in model.features.layers:
        if layer.weights:
            yield layer, _name_in_backbone(layer.name)
    fixed = {"proposals": _PROPOSALS, "head": _HEAD, "masks": _MASKS}
    for part in model.PARTS[1:]:
        for layer in getattr(model, part).layers:
            if layer.weights:
                yield layer, fixed[part][layer.name]


def _name_in_backbone(layer: str) -> str:
    first, *rest = layer.split("_")
    kind = "bn" if rest[-1:] == ["norm"] else "conv"
    if first == "conv1":
        return f"backbone.body.{kind}1"
    if not rest:  # lateral2, p2
        level = int(first[-1]) - 2
        return f"backbone.fpn.{'inner' if 'lateral' in first else 'layer'}_blocks.{level}.0"
    block, number = rest[:2]
    part = f"{kind}{number}" if number != "0" else f"downsample.{int(kind == 'bn')}"
    stage = int(first.removeprefix("conv")) - 1
    return f"backbone.body.layer{stage}.{int(block.removeprefix('block')) - 1}.{part}"


def _as_keras(tensor: np.ndarray, layer: keras.layers.Layer) -> np.ndarray:
    """Lays out a tensor as Keras does."""
    if tensor.ndim == 1:
        return tensor
    if layer.name == "fc6":  # Its inputs are the channels, rows and columns of a region.
        side = math.isqrt(tensor.shape[1] // CHANNELS)
        tensor = tensor.reshape(len(tensor), -1, side, side)
        return tensor.transpose((2, 3, 1, 0)).reshape(-1, len(tensor))
    # (out, in, height, width); of a transposed kernel (in, out, height, width).
    return tensor.T if tensor.ndim == 2 else tensor.transpose((2, 3, 1, 0))


def _of_classes(
    value: np.ndarray, weight: keras.Variable, ids: Sequence[int | None], has_background: bool
) -> np.ndarray:
    """Chooses the outputs of the classes, the last axis of a tensor, and of the background."""
    if value.shape[-1] % len(COCO):
        return value  # Of other classes than COCO's, so its shape is refused.
    outputs = value.shape[-1] // len(COCO)  # 1, or 4 of a box.
    theirs = value.reshape((*value.shape[:-1], len(COCO), outputs))
    ours = np.array(weight).reshape((*weight.shape[:-1], -1, outputs))
    for row, number in enumerate((0, *ids) if has_background else ids):
        if number is not None:
            ours[..., row, :] = theirs[..., number, :]
    return ours.reshape(weight.shape)
