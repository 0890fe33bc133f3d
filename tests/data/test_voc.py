"""VOC's files: where pixels are counted from, splits, broken boxes and files."""

import numpy as np
import pytest

from data import objects, voc
from data.anchor_sizes import chosen_anchors
from data.annotations import DIFFICULT, OBJECT
from data.sources import BadData, Evaluated
from tests.data.annotated import write_voc


def boxes_of(root):
    read = voc.read(root, None)
    return [[one.box for one in image.annotations] for image in read.images], read.findings


def test_pixels_count_from_1_unless_a_box_has_a_0(tmp_path):
    write_voc(tmp_path, "a", [("cat", (1, 1, 10, 8), 0)])
    write_voc(tmp_path, "b", [("cat", (3, 4, 5, 6), 1)])
    boxes, findings = boxes_of(tmp_path)
    assert boxes == [[(1, 1, 10, 8)], [(3, 4, 5, 6)]]
    assert {image.first for image in voc.read(tmp_path, None).images} == {1}
    assert findings == ["Pixels of the boxes are counted from 1, as in VOC."]
    kinds = [image.annotations[0].kind for image in voc.read(tmp_path, None).images]
    assert kinds == [OBJECT, DIFFICULT]
    write_voc(tmp_path, "c", [("cat", (0, 1, 5, 6), 0)])
    boxes, findings = boxes_of(tmp_path)
    assert {image.first for image in voc.read(tmp_path, None).images} == {0}
    assert findings == ["Pixels of the boxes are counted from 0, because an xmin or ymin is 0."]


def test_a_box_of_the_whole_image_covers_it(tmp_path):
    for name in "abcdefgh":
        write_voc(tmp_path, name, [("cat", (1, 1, 10, 8), 0)])
    _, things = next(iter(objects.load(str(tmp_path)).train))
    assert things["boxes"][0].numpy().tolist() == [0, 0, 10, 8]


def test_images_beside_their_files_in_folders_of_splits(tmp_path):
    for split in ("train", "valid", "test", "notes"):
        write_voc(tmp_path / split, split, [("cat", (1, 1, 10, 8), 0)])
        for path in (tmp_path / split).glob("*/*"):
            path.rename(tmp_path / split / path.name)
        for folder in ("Annotations", "JPEGImages"):
            (tmp_path / split / folder).rmdir()
    read = voc.read(tmp_path, None)
    assert [(image.split, image.where) for image in read.images] == [
        ("train", "train/train.png"),
        ("validation", "valid/valid.png"),
        ("test", "test/test.png"),
    ]
    assert "Not read: notes/." in read.findings
    assert [image.split for image in voc.read(tmp_path, Evaluated()).images] == ["test"]


BROKEN = {
    (5, 3, 5, 6): "a box of zero area (5, 3, 5, 6)",
    (7, 3, 5, 6): "a box of negative area (7, 3, 5, 6)",
    ("nan", 3, 5, 6): "a box with a side that is not a number (nan, 3, 5, 6)",
    ("left", 3, 5, 6): "the sides ['left', '3', '5', '6']",
    (12, 3, 15, 6): "a box outside the image (12, 3, 15, 6)",
    (3, 3, 13, 6): "a box that leaves the image by 3 pixels (3, 3, 13, 6)",
}


def test_a_broken_box_costs_the_box_and_not_the_image(tmp_path):
    for name in "abcdefgh":
        write_voc(tmp_path, name, [("cat", (1, 1, 10, 8), 0)])
    things = [("cat", sides, 0) for sides in [(1, 1, 5, 5), *BROKEN]]
    write_voc(tmp_path, "bad", [*things, ("", (1, 1, 5, 5), 0)])
    with pytest.raises(BadData) as caught:
        objects.load(str(tmp_path))
    seen = {fault.where: fault.received for fault in caught.value.faults}
    received = [*BROKEN.values(), "no name"]
    assert seen == {
        f"Annotations/bad.xml object {number}": one for number, one in enumerate(received, 2)
    }
    found = objects.load(str(tmp_path), skip_bad=True)
    assert sum(len(found.split(split)) for split in ("train", "validation", "test")) == 9
    assert found.skipped == 7
    assert "Images with broken objects are kept without these." in found.remarks


def test_a_box_slightly_over_the_edge_is_clipped(tmp_path):
    for name in "abcdefgh":
        write_voc(tmp_path, name, [("cat", (3, 3, 11, 9), 0)])
    _, things = next(iter(objects.load(str(tmp_path)).train))
    assert things["boxes"][0].numpy().tolist() == [2, 2, 10, 8]


def test_faults_of_images_name_the_file(tmp_path):
    for name in ("a", "b", "c", "d", "e", "f", "g", "lost", "new", "size"):
        write_voc(tmp_path, name, [("cat", (1, 1, 10, 8), 0)], (9, 9) if name == "size" else None)
    (tmp_path / "JPEGImages" / "lost.png").unlink()
    (tmp_path / "Annotations" / "new.xml").unlink()
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation><object>")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("a\nb\nc\nd\ne\nf\nlost\nsize\nnew\nghost\n")
    (lists / "test.txt").write_text("g\nb\n")
    with pytest.raises(BadData) as caught:
        objects.load(str(tmp_path))
    expected = [
        "test.txt line 2: expected each image once. Received: b, which is also in train. "
        "Fix: remove the line.",
        "ghost: expected an annotation for each image. Received: a name in a list without "
        "annotation. Fix: add ghost.xml, empty if the image shows no object.",
        "new.png: expected an annotation for each image. Received: an image without annotation. "
        "Fix: add new.xml, empty if the image shows no object.",
        "Annotations/a.xml: expected an annotation in VOC's format. Received: invalid XML (no "
        "element found: line 1, column 20).",
        "JPEGImages/lost.jpg: expected a complete JPEG, PNG, BMP, GIF or WebP image. Received: no "
        "such file.",
        "JPEGImages/size.png: expected the size of the image, 10 x 8 pixels. Received: a declared "
        "size of 9 x 9 pixels.",
    ]
    lines = [line.strip() for line in str(caught.value).split("\n")]
    assert sorted(lines[1:-1]) == sorted(expected)
    found = objects.load(str(tmp_path), skip_bad=True)
    assert (len(found.train) + len(found.validation), len(found.test), found.skipped) == (5, 1, 6)


def test_blood_cells_have_two_broken_boxes(shared_data):
    found = objects.load(str(shared_data / "bccd"), skip_bad=True)
    assert [len(found.split(split)) for split in ("train", "validation", "test")] == [205, 87, 72]
    assert found.classes == ["Platelets", "RBC", "WBC"] and found.image_size == (480, 640)
    assert len(found.train_boxes) == 2804 and found.max_objects == 32 and found.skipped == 2
    assert np.all(found.train_boxes[:, 2:] <= [640, 480])
    anchors = ((32,), (64,), (128,), (256,), (512,)), (0.5, 1.0, 2.0), (4, 8, 16, 32, 64)
    sizes, _, (remark,) = chosen_anchors(found.train_boxes, *anchors, found.image_size)
    assert sizes == anchors[0]  # The paper's anchors fit.
    assert "Of the training boxes, 100.0 % have an IoU of at least 0.5 with the best" in remark
