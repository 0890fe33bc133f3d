"""YOLO's files: folders of splits, names of classes, boxes and polygons in shares."""

import numpy as np
import pytest

from data import object_masks, objects, yolo
from data.sources import BadData, Evaluated
from tests.data.annotated import encoded_image


def add(root, folder, name, lines, seed, order="{kind}/{folder}"):
    for kind in ("images", "labels"):
        path = root / order.format(kind=kind, folder=folder)
        path.mkdir(parents=True, exist_ok=True)
        if kind == "images":
            (path / f"{name}.png").write_bytes(encoded_image(seed))
        else:
            (path / f"{name}.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("order", ["{kind}/{folder}", "{folder}/{kind}"])
@pytest.mark.parametrize("names", ["[cat, dog]", "{1: dog, 0: cat}"])
def test_boxes_in_folders_of_splits(order, names, tmp_path):
    for seed, split in enumerate(("train", "val", "test")):
        add(tmp_path, split, "a", ["1 0.5 0.5 0.4 0.5", "0 .25 .25 .5 .5"], seed, order)
    (tmp_path / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")
    read = yolo.read(tmp_path, None)
    assert sorted(image.split for image in read.images) == ["test", "train", "validation"]
    assert [image.split for image in yolo.read(tmp_path, Evaluated()).images] == ["test"]
    assert yolo.is_format(tmp_path) and read.classes == ("cat", "dog")
    if names[0] == "{" and order[1] == "k":
        found = objects.load(str(tmp_path))
        _, things = next(iter(found.test))
        np.testing.assert_allclose(things["boxes"][:2], [[3, 2, 7, 6], [0, 0, 5, 4]], atol=1e-5)
        assert things["classes"][:2].numpy().tolist() == [1, 0] and found.classes == ["cat", "dog"]


def test_polygons_are_masks(tmp_path):
    (tmp_path / "classes.txt").parent.mkdir(exist_ok=True)
    (tmp_path / "classes.txt").write_text("cat\n")
    polygon = "0 0.2 0.125 0.6 0.125 0.6 0.625 0.2 0.625"
    for number in range(8):
        add(tmp_path, "", f"{number}", [polygon], number)
    found = objects.load(str(tmp_path), masks=True)
    _, things = next(iter(found.train))
    box = things["boxes"][0].numpy()
    np.testing.assert_allclose(box, [2, 1, 6, 5], atol=1e-5)
    pasted = object_masks.pasted(things["masks"][0].numpy(), box, 8, 10)
    expected = np.zeros((8, 10), bool)
    expected[1:5, 2:6] = True
    np.testing.assert_array_equal(pasted, expected)


def test_faults_name_the_line(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    for number in range(8):
        add(tmp_path, "", f"{number}", ["0 0.5 0.5 0.4 0.5"], number)
    bad = ["7 0.5 0.5 0.4 0.5", "0 0.5 x 0.4 0.5", "0 0.5 0.5", "0 0.5 0.5 0 0.5", "0 2 2 .1 .1"]
    add(tmp_path, "", "bad", bad, 9)
    add(tmp_path, "", "new", [], 10)
    (tmp_path / "labels" / "new.txt").rename(tmp_path / "labels" / "old.txt")
    with pytest.raises(BadData) as caught:
        objects.load(str(tmp_path))
    assert {fault.where: fault.received for fault in caught.value.faults} == {
        "labels/bad.txt line 1": "class 7",
        "labels/bad.txt line 2": "'0 0.5 x 0.4 0.5'",
        "labels/bad.txt line 3": "3 numbers",
        "labels/bad.txt line 4": "a box of zero area (0.5, 0.25, 0.5, 0.75)",
        "labels/bad.txt line 5": "a box outside the image (1.95, 1.95, 2.05, 2.05)",
        "images/new.png": "an image without annotation",
        "labels/old.txt": "labels without image",
    }
    assert "a class of the data (0 cat, 1 dog)" in str(caught.value)


@pytest.mark.parametrize("content", ["names: 3", "names: {a: 0}", "[1, 2", "nc: 2"])
def test_files_without_names_are_refused(content, tmp_path):
    add(tmp_path, "", "a", [], 1)
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(BadData, match=r"data.yaml: expected data.yaml with a list or dict"):
        objects.load(str(tmp_path))
