import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from models import torchvision_weights
from models.detectors import detector
from models.torchvision_weights import COCO, OUTPUTS, coco_ids, load_torchvision
from models.trunks import trunk
from tests.models.blueprint import blueprint

STAGES = [(64, 3), (128, 4), (256, 6), (512, 3)]
"""Width and number of blocks of layer1 to layer4."""


def kernels() -> dict[str, tuple[int, ...]]:
    """Returns the shapes of torchvision's tensors with several axes, by the names of layers."""
    body = {"conv1": (64, 3, 7, 7)}
    channels = 64
    for stage, (width, blocks) in enumerate(STAGES, start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            body[f"{name}.conv1"] = (width, channels, 1, 1)
            body[f"{name}.conv2"] = (width, width, 3, 3)
            body[f"{name}.conv3"] = (4 * width, width, 1, 1)
            if block == 0:
                body[f"{name}.downsample.0"] = (4 * width, channels, 1, 1)
            channels = 4 * width
    return {
        **{f"backbone.body.{name}": shape for name, shape in body.items()},
        **{f"backbone.fpn.inner_blocks.{i}.0": (256, 256 * 2**i, 1, 1) for i in range(4)},
        **{f"backbone.fpn.layer_blocks.{i}.0": (256, 256, 3, 3) for i in range(4)},
        "rpn.head.conv.0.0": (256, 256, 3, 3),
        "rpn.head.cls_logits": (3, 256, 1, 1),
        "rpn.head.bbox_pred": (12, 256, 1, 1),
        "roi_heads.box_head.fc6": (1024, 12544),
        "roi_heads.box_head.fc7": (1024, 1024),
        "roi_heads.box_predictor.cls_score": (91, 1024),
        "roi_heads.box_predictor.bbox_pred": (364, 1024),
        **{f"roi_heads.mask_head.{i}.0": (256, 256, 3, 3) for i in range(4)},
        "roi_heads.mask_predictor.conv5_mask": (256, 256, 2, 2),
        "roi_heads.mask_predictor.mask_fcn_logits": (91, 256, 1, 1),
    }


def build(name: str, classes: int = 90, sides: tuple[int, int] = (64, 64)) -> keras.Model:
    images = trunk("resnet50", (*sides, 3), preset="detector.safetensors")
    return detector(name, images, classes, max_detections=30, aligned=False, rounded=True)


def test_every_layer_has_the_tensor_of_torchvision_that_fits():
    model = blueprint(build, "mask_rcnn")
    layers = {name: layer for layer, name in torchvision_weights.names(model)}
    normalizations = {name for name in layers if ".bn" in name or "downsample.1" in name}
    assert layers.keys() - normalizations == kernels().keys()
    assert {name.replace("bn", "conv").replace("ple.1", "ple.0") for name in normalizations} == {
        name for name in kernels() if name.startswith("backbone.body")
    }
    for name, shape in kernels().items():
        if name not in OUTPUTS:
            value = torchvision_weights._as_keras(np.broadcast_to(0.0, shape), layers[name])
            assert value.shape == layers[name].kernel.shape, name


def test_files_without_its_tensors_are_refused(tmp_path):
    (tmp_path / "text.safetensors").write_text("no tensors")
    save_file({"conv1.weight": np.zeros((64, 3, 7, 7))}, tmp_path / "other.safetensors")
    model = blueprint(build, "mask_rcnn")
    for name, error in {
        "text": "Expected a safetensors",
        "other": "torchvision's mask_rcnn",
    }.items():
        with pytest.raises(ValueError, match=error):
            load_torchvision(model, tmp_path / f"{name}.safetensors", [])


def test_the_classes_are_those_of_coco():
    assert len(COCO) == 91 and sum(map(bool, COCO)) == 81
    assert coco_ids(["toothbrush", "background", "", "person"]) == [90, None, None, 1]


def test_outputs_of_known_classes_are_chosen_and_others_remain():
    theirs = np.arange(91 * 4 * 2.0).reshape(364, 2)
    ours = keras.Variable(np.full((2, 8), -1.0))
    chosen = torchvision_weights._of_classes(theirs.T, ours, [None, 17], has_background=False)
    np.testing.assert_array_equal(chosen[:, :4], -1)
    np.testing.assert_array_equal(chosen[:, 4:], theirs[17 * 4 : 18 * 4].T)
    with_background = torchvision_weights._of_classes(theirs[:91].T, ours, [17] * 7, True)
    np.testing.assert_array_equal(with_background, theirs[[0, *[17] * 7]].T)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torchvision") is None, reason="needs torchvision")
@pytest.mark.parametrize("name", ["faster_rcnn_fpn", "mask_rcnn"])
def test_answers_are_those_of_torchvision(name, tmp_path: Path):
    # In a process of its own: some versions of torch crash beside TensorFlow.
    script = Path(__file__).with_name("torchvision_answers.py")
    subprocess.run([sys.executable, script, name, tmp_path], check=True, timeout=300)
    theirs = np.load(tmp_path / "answers.npz")
    pixels, sizes = theirs["pixels"], theirs["sizes"]

    model = build(name, sides=pixels.shape[1:3])
    load_torchvision(model, tmp_path / "weights.safetensors", range(1, 91))
    inputs = {"pixels": tf.constant(pixels), "true_size": tf.constant(sizes)}
    for level, ours in enumerate(model._maps(inputs, training=False)):
        expected = theirs[f"features_{level}"]
        np.testing.assert_allclose(ours, expected, atol=1e-4 * max(1, np.abs(expected).max()))
    found = {key: value.numpy() for key, value in model.detect(inputs).items()}
    for i in range(len(sizes)):
        expected = {key: theirs[f"{key}_{i}"] for key in ("labels", "scores", "boxes")}
        count = found["num_detections"][i]
        assert count == len(expected["scores"]) > 20
        np.testing.assert_allclose(found["scores"][i, :count], expected["scores"], atol=1e-4)
        np.testing.assert_array_equal(found["class_ids"][i, :count] + 1, expected["labels"])
        np.testing.assert_allclose(found["boxes"][i, :count], expected["boxes"], atol=0.05)
        if "masks" in found:
            masks = found["masks"][i, :count]
            np.testing.assert_allclose(masks, theirs[f"masks_{i}"], atol=1e-3)
