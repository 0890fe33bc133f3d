"""COCO's files: ids, splits, crowds, polygons and run lengths as pycocotools reads them."""

import json
import zlib

import numpy as np
import pytest
from pycocotools import mask as pycoco
from pycocotools.coco import COCO

from data import coco, object_masks, objects
from data.annotations import CROWD, OBJECT
from data.sources import BadData, Evaluated
from tests.data.annotated import encoded_image

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 0, "name": "cat"}, {"id": 90, "name": "background"}]
POLYGON = [2.0, 1.0, 8.0, 1.5, 7.5, 6.0, 3.0, 7.0]


def write(path, names, things, categories=CATEGORIES, **sizes):
    """Writes a .json file; `things` has the number of the image and fields of an annotation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [
        {"id": 10 + i, "file_name": name, "height": 8, "width": 10, **sizes}
        for i, name in enumerate(names)
    ]
    annotations = [
        {"id": i, "image_id": 10 + number, "category_id": 0, "bbox": [1, 1, 4, 5], **thing}
        for i, (number, thing) in enumerate(things)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))


def draw(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(encoded_image(zlib.crc32(f"{folder.name} {name}".encode())))


@pytest.fixture
def tree(tmp_path):
    """A folder with the files of three splits, as the COCO project has them."""
    for split, count in {"train": 6, "val": 2, "test": 2}.items():
        names = [f"{i}.png" for i in range(count)]
        draw(tmp_path / f"{split}2017", names)
        things = [(i, {"category_id": 7 * (i % 2)}) for i in range(count)]
        write(tmp_path / "annotations" / f"instances_{split}2017.json", names, things)
        captions = {"images": [], "annotations": [{"caption": "a cat"}]}
        path = tmp_path / "annotations" / f"captions_{split}2017.json"
        path.write_text(json.dumps(captions))
    return tmp_path


def test_files_of_splits_with_equal_names_of_images(tree):
    found = objects.load(str(tree))
    assert [len(found.split(split)) for split in ("train", "validation", "test")] == [6, 2, 2]
    # Classes have the order of their ids; those without objects are left out.
    assert found.classes == ["cat", "dog"]
    assert "Classes without objects: background." in found.remarks
    _, things = next(iter(found.test))
    assert things["boxes"][0].numpy().tolist() == [1, 1, 5, 6]
    read = coco.read(tree, None)
    assert all(f"/{image.split[:3]}" in image.path for image in read.images)
    assert [image.split for image in coco.read(tree, Evaluated()).images] == ["test"] * 2


def test_a_file_in_each_folder_and_a_single_file(tmp_path):
    for split in ("train", "valid", "test"):
        draw(tmp_path / "one" / split, ["a.png"])
        write(tmp_path / "one" / split / "_annotations.coco.json", ["a.png"], [(0, {})])
    read = coco.read(tmp_path / "one", None)
    assert [image.split for image in read.images] == ["train", "validation", "test"]
    draw(tmp_path / "two" / "pictures", [f"{i}.png" for i in range(9)])
    table = tmp_path / "two" / "boxes.json"
    write(table, [f"pictures/{i}.png" for i in range(8)], [(i, {}) for i in range(5)])
    for path in (table, table.parent):
        found = objects.load(str(path))
        assert sum(len(found.split(split)) for split in ("train", "validation", "test")) == 8
        assert "Not read: 1 image that no .json file lists." in found.remarks


def test_masks_are_those_of_pycocotools(tmp_path):
    draw(tmp_path, [f"{i}.png" for i in range(8)])
    full = np.zeros((8, 10), np.uint8)
    full[2:5, 3:9] = 1
    compressed = pycoco.encode(np.asfortranarray(full))
    counts = [26, 3, 5, 3, 5, 3, 5, 3, 5, 3, 5, 3, 11]
    kinds = [
        {"segmentation": [POLYGON], "bbox": [2, 1, 6, 6]},
        {"segmentation": [POLYGON, [0, 0, 2, 0, 2, 2]], "bbox": [0, 0, 8, 7]},
        {"segmentation": {"size": [8, 10], "counts": compressed["counts"].decode()}},
        {"segmentation": {"size": [8, 10], "counts": counts}, "iscrowd": 1},
    ]
    for kind in kinds[2:]:
        kind["bbox"] = [3, 2, 6, 3]
    things = [(i % 8, kind) for i, kind in enumerate(kinds * 4)]
    write(tmp_path / "all.json", [f"{i}.png" for i in range(8)], things)
    reference = COCO(str(tmp_path / "all.json"))
    read = coco.read(tmp_path, None)
    annotations = [one for image in read.images for one in image.annotations]
    assert len(annotations) == 16
    for one in annotations:
        number = int(one.where.split()[-1])
        expected = reference.annToMask(reference.anns[number])
        np.testing.assert_array_equal(object_masks.decoded(one.mask, 8, 10), expected)
        assert one.kind == (CROWD if number % 4 == 3 else OBJECT)
    found = objects.load(str(tmp_path), masks=True)
    assert found.has_masks
    for _, things in found.train:
        for box, kind, mask in zip(
            things["boxes"].numpy(), things["kind"], things["masks"].numpy(), strict=True
        ):
            if kind and box.tolist() == [3, 2, 9, 5]:
                np.testing.assert_array_equal(object_masks.pasted(mask, box, 8, 10), full)
    # Crowds are regions to ignore: no object to train on.
    kinds_there = np.concatenate([things["kind"] for _, things in found.train.as_numpy_iterator()])
    assert len(found.train_boxes) == np.sum(kinds_there == OBJECT) < np.sum(kinds_there > 0)


def test_ids_with_one_name_are_one_class_and_masks_do_without_boxes(tmp_path):
    draw(tmp_path, [f"{i}.png" for i in range(8)])
    categories = [*CATEGORIES, {"id": 91, "name": "cat"}]
    bare = {"bbox": [], "segmentation": [[2, 1, 6, 1, 6, 5, 2, 5]], "category_id": 91}
    write(
        tmp_path / "all.json",
        [f"{i}.png" for i in range(8)],
        [(i, bare) for i in range(8)],
        categories,
    )
    found = objects.load(str(tmp_path), masks=True)
    assert found.classes == ["cat"]
    _, things = next(iter(found.train))
    assert things["boxes"][0].numpy().tolist() == [2, 1, 6, 5]


def test_faults_name_the_annotation(tmp_path):
    names = [*(f"{i}.png" for i in range(8)), "lost.png", "0.png"]
    draw(tmp_path, names[:8])
    square = [[2, 1, 6, 1, 6, 5, 2, 5]]
    good = {"segmentation": square, "bbox": [2, 1, 4, 4]}
    bad = {
        "a mask that leaves its box by 3 pixels": {**good, "bbox": [5, 1, 4, 4]},
        "an empty mask": {**good, "segmentation": {"size": [8, 10], "counts": [80]}},
        "a mask of 8 x 10 pixels": {**good, "segmentation": {"size": [10, 8], "counts": [0, 80]}},
        "a polygon of other numbers": {**good, "segmentation": [[1, 2, 3, 4]]},
        "no mask": {"bbox": [2, 1, 4, 4]},
        "neither bbox nor segmentation": {"bbox": None},
        "the bbox [1, 2]": {"bbox": [1, 2]},
        "3": {**good, "category_id": 3},
        "image_id 99": {**good, "image_id": 99},
        "a box of zero area (2, 1, 2, 5)": {**good, "bbox": [2, 1, 0, 4]},
    }
    things = [*((i % 8, good) for i in range(8)), *((0, thing) for thing in bad.values())]
    write(tmp_path / "all.json", names, things)
    with pytest.raises(BadData) as caught:
        objects.load(str(tmp_path), masks=True)
    seen = {fault.received: fault.where for fault in caught.value.faults}
    expected = {one: f"all.json annotation {i}" for i, one in enumerate(bad, 8)}
    expected["no such file"] = "lost.png"
    expected["an image that is listed twice"] = "all.json image 0.png"
    assert seen == expected
    known = next(fault for fault in caught.value.faults if fault.received == "3")
    assert known.expected == "a category_id that the file declares (0 cat, 7 dog, 90 background)"
    assert objects.load(str(tmp_path), masks=True, skip_bad=True).skipped == 12


def test_crowds_alone_and_files_that_are_not_coco_are_refused(tmp_path):
    draw(tmp_path, ["0.png"])
    write(tmp_path / "all.json", ["0.png"], [(0, {"iscrowd": 1})] * 2)
    with pytest.raises(BadData, match=r"Received: iscrowd 1 in every annotation. Fix: set iscrowd"):
        objects.load(str(tmp_path), skip_bad=True)
    (tmp_path / "all.json").write_text('{"images": [{}], "annotations": [], "categories": []}')
    with pytest.raises(BadData, match=r"all.json: .*without the usual content \(KeyError: 'id'\)"):
        objects.load(str(tmp_path))
    (tmp_path / "all.json").write_text('{"annotations": [')
    with pytest.raises(BadData, match=r"all.json line 1: .* Received: invalid JSON"):
        objects.load(str(tmp_path))
