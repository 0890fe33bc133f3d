from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from apps.detection.answers import signatures
from apps.object_detection import Config, build, load, with_anchors
from data import objects
from data.proposals import with_proposals
from models import torchvision_weights
from tests.apps.every_app import Small
from tests.models.blueprint import blueprint


def squares(folder: Path, count: int = 60) -> str:
    """Writes images with one or two squares, light or dark, as VOC does."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number in range(count):
        random = np.random.default_rng(number)
        pixels = random.integers(90, 130, (64, 64, 3)).astype(np.uint8)
        things = []
        for column in range(1 + number % 2):
            side = int(random.integers(16, 28))
            xmin = int(random.integers(0, 32 - side + 1)) + 32 * column
            ymin = int(random.integers(0, 64 - side))
            kind = ("light", "dark")[int(random.integers(2))]
            pixels[ymin : ymin + side, xmin : xmin + side] = 240 if kind == "light" else 10
            box = (xmin + 1, ymin + 1, xmin + side, ymin + side)
            corners = "".join(
                f"<{name}>{value}</{name}>"
                for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
            )
            things.append(f"<object><name>{kind}</name><bndbox>{corners}</bndbox></object>")
        stem = f"image{number}"
        (folder / f"JPEGImages/{stem}.png").write_bytes(tf.io.encode_png(pixels).numpy())
        (folder / f"Annotations/{stem}.xml").write_text(
            f"<annotation><filename>{stem}.png</filename>"
            "<size><width>64</width><height>64</height><depth>3</depth></size>"
            f"{''.join(things)}</annotation>"
        )
        splits["test" if number % 5 == 0 else "val" if number % 5 == 1 else "train"].append(stem)
    for split, stems in splits.items() if count > 1 else ():
        (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(stems) + "\n")
    return str(folder)


def encoded(height: int, width: int, channels: int) -> bytes:
    return tf.io.encode_png(np.zeros((height, width, channels), np.uint8)).numpy()


SMALL = Small(
    write=squares,
    settings={
        "epochs": 6,
        "batch_size": 4,
        "levels": (2, 3),
        "anchors": (16.0, 24.0, 32.0),
        "pyramid_channels": 16,
        "head_units": 32,
        "regions": 16,
        "learning_rate": 2e-3,
        "augment": "none",
        "max_detections": 10,
    },
    beats=("map50", 0.3),
    sections=[
        "Scores by class",
        "Score thresholds, by the F1 on validation images",
        "Confusion matrix",
        "Errors by type, and what fixing each would give",
        "Scores by size of the objects",
        "Precision and recall",
        "Recall of the proposals",
        "Test images with the objects found, the true ones dashed",
        "The worst test images",
        "Training boxes and anchors",
    ],
    few=lambda folder: squares(folder, 1),
    odd=[
        {"image_bytes": encoded(1, 1, 1)},
        {"image_bytes": encoded(300, 2, 3)},
        {"image_bytes": encoded(5, 7, 4)},
    ],
    bad={
        "backbone": "no_such_backbone",
        "format": "no_such_format",
        "freeze_stages": 6,
        "image_size": (100, 64),
        "sides": (64, 32),
        "levels": (2, 4),
        "anchors": (1.0, 2.0),
        "pyramid_channels": 0,
        "head_units": 0,
        "regions": 0,
        "canonical_size": 0,
        "max_detections": 0,
        "evaluate_every": 0,
        "augment": "no_such_augmentation",
        "selective_search": "no_such_mode",
        "proposals": 0,
        "smallest_proposal": 0,
        "windows": 0,
        "crop_size": 31,
        "classifier": "no_such_classifier",
        "preset": "no_such_preset",
    },
    free=("vertical_flip",),
    ignored=[
        {"model": "faster_rcnn_fpn", "freeze_stages": 3},
        {"model": "faster_rcnn", "levels": (2, 3)},
        {"model": "faster_rcnn", "pyramid_channels": 8},
        {"model": "faster_rcnn", "head_units": 8},
        {"model": "faster_rcnn", "canonical_size": 8},
        {"model": "fast_rcnn", "levels": (2, 3)},
        {"model": "faster_rcnn", "selective_search": "single"},
        {"model": "faster_rcnn", "proposals": 8},
        {"model": "faster_rcnn", "smallest_proposal": 8},
        {"model": "faster_rcnn", "windows": 8},
        {"model": "rcnn", "head_units": 8},
        {"model": "fast_rcnn", "crop_size": 64},
        {"model": "fast_rcnn", "classifier": "softmax"},
    ],
)


def test_weights_of_a_whole_network_bring_their_anchors_sizes_and_classes(tmp_path, monkeypatch):
    loaded = {}
    monkeypatch.setattr(
        torchvision_weights, "load_torchvision", lambda network, path, ids: loaded.update(ids=ids)
    )
    file = tmp_path / "coco.safetensors"
    file.touch()
    config = Config(data=squares(tmp_path, 10), preset=str(file), backbone="resnet50")
    data, anchors = with_anchors(config, load(config))
    assert data.image_size == (800, 800) and data.sides == (800, 1333)
    numbers = blueprint(build, config, data, anchors).get_config()
    assert loaded == {"ids": [None, None]}  # Neither light nor dark is a class of COCO.
    assert numbers["anchor_sizes"] == [[8 * stride] for stride in (4, 8, 16, 32, 64)]
    assert numbers["rounded"] and not numbers["aligned"] and numbers["canonical_size"] == 224
    np.testing.assert_allclose(numbers["padding"], [0.485, 0.456, 0.406])
    with pytest.raises(ValueError, match="`preset` must be none, or `backbone` one of effic"):
        Config(model="faster_rcnn", preset=str(file), backbone="resnet50")


def test_proposals_are_read_in_pixels_of_the_upright_image(tmp_path):
    found = with_proposals(
        objects.load(squares(tmp_path / "voc", 10), image_size=(32, 32)),
        mode="single",
        smallest=4,
        most=5,
    )
    examples = found.first("validation", 2)
    images = [image for image, _ in examples]
    signature = signatures(found, images)["with_proposals"]
    given = tf.constant([one["proposals"] for _, one in examples])
    np.testing.assert_array_equal(signature.examples["proposals"], given)
    read = signature.prepared({"image_bytes": tf.constant(images), "proposals": given})
    np.testing.assert_array_equal(read.features["proposals"], given / 2)


def test_a_client_may_choose_thresholds_for_each_image(tmp_path):
    data = objects.load(squares(tmp_path, 10))
    images = tf.constant([image for image, _ in data.first("train", 2)])
    signature = signatures(data)["with_thresholds"]

    def read(**thresholds):
        return signature.prepared({"image_bytes": images, **thresholds}).features

    good = tf.constant([0.0, 1.0])
    features = read(score_threshold=good, iou_threshold=good)
    assert features["pixels"].shape == (2, 64, 64, 3)
    assert features["score_threshold"].numpy().tolist() == [0, 1]
    for name, bad in [("score_threshold", 1.5), ("score_threshold", np.nan), ("iou_threshold", -1)]:
        error = rf"`{name}` must be in 0 to 1. Rows, and what was received:'\n1\n"
        with pytest.raises(tf.errors.InvalidArgumentError, match=error):
            read(**{"score_threshold": good, "iou_threshold": good, name: tf.constant([0.5, bad])})


@pytest.mark.parametrize("backbone", ["alexnet", "vgg16", "resnet18"])
def test_a_network_of_crops_has_its_own_size_and_windows_of_the_training_boxes(tmp_path, backbone):
    config = Config(data=squares(tmp_path, 10), model="rcnn", backbone=backbone, windows=50)
    assert (config.batch_size, config.regions) == (2, 64)
    data, options = with_anchors(config, load(config))
    assert options["input_shape"] == (64, 64, 3) and 40 <= len(options["windows"]) <= 50
    assert "of the boxes have an IoU of at least 0.5 with one." in data.remarks[-1]
    network = blueprint(build, config, data, options)
    assert network.head.input_shape == (None, 64, 64, 3)
    units = 512 if backbone == "resnet18" else 4096
    assert network.head.get_layer("classes").input.shape == (None, units)
    numbers = network.get_config()
    assert numbers["iou_threshold"] == 0.3 and numbers["proposed"] == 2000
    np.testing.assert_array_equal(numbers["windows"], options["windows"])


def test_windows_may_have_chosen_sizes(tmp_path):
    settings = {"data": squares(tmp_path, 10), "model": "fast_rcnn", "windows": 50}
    config = Config(**settings, anchors=(16.0, 32.0), backbone="vgg16")
    data, options = with_anchors(config, load(config))
    sides = options["windows"][:, 2:] - options["windows"][:, :2]
    areas = np.unique(np.round(np.sqrt(sides.prod(axis=1)), 1))
    np.testing.assert_allclose(areas, [16, 32])
    network = blueprint(build, config, data, options)
    assert network.get_config()["strides"] == [16]  # That of conv5_3, which fc6 reads.
    assert network.head.get_layer("fc7").units == 4096


def test_alexnet_is_for_crops_alone():
    assert Config(model="rcnn", backbone="alexnet").backbone == "alexnet"
    with pytest.raises(ValueError, match="`backbone` must be one of vgg16, "):
        Config(model="fast_rcnn", backbone="alexnet")
