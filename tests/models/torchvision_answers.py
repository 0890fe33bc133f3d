"""Writes random weights of torchvision's detectors, and their answers: NAME FOLDER."""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def randomized(name: str):
    """Builds a network with random weights, whose scores are far apart."""
    import torch
    from torchvision.models import detection, resnet50
    from torchvision.ops.misc import FrozenBatchNorm2d

    networks = {"faster_rcnn_fpn": detection.FasterRCNN, "mask_rcnn": detection.MaskRCNN}
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    trunk = resnet50(norm_layer=FrozenBatchNorm2d)
    backbone = detection.backbone_utils._resnet_fpn_extractor(trunk, 3)
    model = networks[name](
        backbone, num_classes=91, min_size=192, max_size=256, box_detections_per_img=30
    ).eval()
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0  # As for torchvision's weights of COCO.
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.uniform_(0.3, 0.7)
    model.rpn.head.cls_logits.weight *= 300
    model.rpn.head.bbox_pred.weight *= 30
    model.roi_heads.box_predictor.cls_score.weight *= 100
    model.roi_heads.box_predictor.bbox_pred.weight *= 10
    return model


def main(name: str, folder: str) -> None:
    import torch

    model = randomized(name)
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    save_file(state, Path(folder) / "weights.safetensors")
    random = np.random.default_rng(0)
    images = [
        torch.tensor(random.random((3, *size)).astype("float32"))
        for size in [(150, 200), (192, 192), (240, 160)]
    ]
    resized, _ = model.transform(images)
    features = model.backbone(resized.tensors)
    proposals, _ = model.rpn(resized, features)
    found, _ = model.roi_heads(features, proposals, resized.image_sizes)
    channels = resized.tensors.permute(0, 2, 3, 1).numpy()
    pixels = channels * model.transform.image_std + model.transform.image_mean
    answers = {"pixels": pixels.astype("float32"), "sizes": np.array(resized.image_sizes)}
    for level, values in enumerate(features.values()):
        answers[f"features_{level}"] = values.permute(0, 2, 3, 1).numpy()
    for i, one in enumerate(found):
        for key, values in one.items():
            answers[f"{key}_{i}"] = values[:, 0] if key == "masks" else values
    np.savez(Path(folder) / "answers.npz", **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
