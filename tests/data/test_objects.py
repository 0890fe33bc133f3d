"""Images with objects: the built-in scenes, splits, sizes, masks, and what is said about them."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import object_masks, objects
from data.annotations import AnnotatedImage, Annotation, checked
from data.scenes import scenes
from data.sources import SPLITS, BadData, Evaluated
from tests.data.annotated import write_voc

TURN = Image.Transpose
BACK = {
    2: TURN.FLIP_LEFT_RIGHT,
    3: TURN.ROTATE_180,
    4: TURN.FLIP_TOP_BOTTOM,
    5: TURN.TRANSPOSE,
    6: TURN.ROTATE_90,
    7: TURN.TRANSVERSE,
    8: TURN.ROTATE_270,
}
"""How an upright picture is stored with each EXIF orientation."""


def contents(found, split="train"):
    """The objects of each image, without padding, by the encoded image."""
    return {
        data: {name: rows[things["kind"] > 0] for name, rows in things.items()}
        for data, things in found.split(split).as_numpy_iterator()
    }


def test_the_number_of_detections_may_be_given():
    known = Evaluated(tuple("0123456789"))
    found = objects.load("digits", max_detections=7, evaluated=known)
    assert found.max_detections == 7
    assert any("At most 7 detections are returned." in remark for remark in found.remarks)


def test_scenes_are_loaded_with_their_exact_boxes_and_masks():
    found = objects.load("digits", masks=True, evaluated=Evaluated(tuple("0123456789")))
    assert found.train is None and len(found.test) == 200
    assert found.image_size == (128, 128) and found.max_objects == 8
    assert (
        objects.load("digits", max_detections=7)
        .remarks[-2]
        .endswith("At most 7 detections are returned.")
    )
    assert found.max_detections == 100 and found.classes == list("0123456789")
    for (data, things), scene in zip(found.test.take(3), scenes("test"), strict=False):
        np.testing.assert_array_equal(tf.io.decode_png(data), scene.pixels)
        count = len(scene.digits)
        assert things["kind"].numpy().tolist() == [1] * count + [0] * (8 - count)
        np.testing.assert_array_equal(things["boxes"][:count], scene.boxes)
        np.testing.assert_array_equal(things["classes"][:count], scene.digits)
        for mask, box, whole in zip(
            things["masks"].numpy(), scene.boxes, scene.masks, strict=False
        ):
            np.testing.assert_array_equal(object_masks.pasted(mask, box, 128, 128), whole)


def write_tree(root):
    """Writes 40 images of cats in VOC's layout, every third with a dog, and two without objects."""
    for number in range(40):
        things = [("cat", (1, 1, 4, 5), 0)]
        things += [("dog", (3, 2, 8, 6), 1)] * (number % 3 == 0)
        write_voc(root, f"{number}", things)
    write_voc(root, "empty", [])
    write_voc(root, "nothing", [])
    (root / "Annotations" / "nothing.xml").write_text("")
    return root


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "voc")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    root = write_tree(tmp_path_factory.mktemp("objects") / "voc")
    found = objects.load(str(root))
    return root, found, {split: contents(found, split) for split in SPLITS}


def test_splits_are_chosen_by_a_hash_and_hold_every_class(loaded):
    root, found, splits = loaded
    assert sum(map(len, splits.values())) == 42 and min(map(len, splits.values())) >= 2
    for split, images in splits.items():
        assert {int(label) for things in images.values() for label in things["classes"]} == {0, 1}
        assert [found.origin(split, row)[-4:] for row in range(2)] == [".png"] * 2
    assert "Chosen by a hash: validation and test, about 10 % each." in found.remarks
    for number in range(40, 60):
        write_voc(root, f"{number}", [("cat", (1, 1, 4, 5), 0)])
    after = contents(objects.load(str(root)))
    assert len(splits["train"].keys() - after) <= 2


def test_boxes_are_padded_and_numbered(loaded):
    _, found, splits = loaded
    assert found.classes == ["cat", "dog"] and found.max_objects == 8
    counts = []
    for things in (things for images in splits.values() for things in images.values()):
        counts.append(len(things["boxes"]))
        assert things["boxes"].tolist() == [[0, 0, 4, 5], [2, 1, 8, 6]][: counts[-1]]
        assert things["classes"].tolist() == [0, 1][: counts[-1]]
        assert things["kind"].tolist() == [1, 2][: counts[-1]]
    assert [counts.count(number) for number in range(3)] == [2, 26, 14]
    trained = sum(len(things["boxes"]) for things in splits["train"].values())
    assert len(found.train_boxes) == trained
    # Images of 8 x 10 pixels are enlarged to 32 x 32, so boxes grow by a factor of 3.2.
    assert found.image_size == (32, 32)
    np.testing.assert_allclose(np.unique(found.train_boxes[:, 2]), [12.8, 25.6], rtol=1e-6)


def test_classes_of_a_finished_network_keep_their_numbers(loaded):
    found = loaded[1].renumbered(["dog", "ant"])
    assert [*found.classes] == ["dog", "ant", "cat"]
    names = np.array(loaded[1].classes)[loaded[1].train_classes]
    np.testing.assert_array_equal(np.array(found.classes)[found.train_classes], names)
    assert len(names) == len(found.train_boxes)
    for _, things in found.train.as_numpy_iterator():
        count = int(np.sum(things["kind"] > 0))
        assert things["classes"].tolist() == [2, 0][:count] + [0] * (8 - count)


@pytest.mark.parametrize(
    ("median", "size"),
    [
        ((480, 640), (480, 640)),
        ((1080, 1920), (352, 640)),
        ((50, 99), (64, 96)),
        ((9, 9), (32, 32)),
    ],
)
def test_size_for_a_network(median, size):
    assert objects._size(np.array(median)) == size


def test_a_class_without_training_objects_is_a_fault_and_equal_images_are_named(tree):
    lists = tree / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    write_voc(tree, "odd", [("emu", (1, 1, 4, 5), 0)])
    (tree / "JPEGImages" / "39.png").write_bytes((tree / "JPEGImages" / "2.png").read_bytes())
    names = {"train": range(2, 20), "val": range(20, 30), "test": [*range(30, 40), "odd"]}
    for split, numbers in names.items():
        (lists / f"{split}.txt").write_text("\n".join(map(str, numbers)))
    with pytest.raises(BadData, match="class 'emu': expected at least one training object"):
        objects.load(str(tree))
    found = objects.load(str(tree), skip_bad=True)
    assert found.classes == ["cat", "dog"] and len(found.test) == 11 and len(found.train) == 18
    assert "Not read: 4 images that no list names." in found.remarks
    remark = "In test, 1 of 11 different images is also in train, such as 'JPEGImages/39.png'."
    assert remark in found.remarks


@pytest.mark.parametrize(
    ("options", "message"),
    [({"format": "pascal"}, "`format` must be one of voc"), ({"image_size": (0, 9)}, "positive")],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        objects.load("digits", **options)


@pytest.mark.parametrize("is_upright", [True, False])
def test_a_photograph_in_all_orientations_has_the_same_boxes(is_upright, tmp_path):
    upright = np.zeros((8, 10), np.uint8)
    upright[2:7, 1:4] = 255
    images = []
    for orientation in range(1, 9):
        stored = Image.fromarray(upright)
        if method := BACK.get(orientation):
            stored = stored.transpose(method)
        tags, path = Image.Exif(), tmp_path / f"{orientation}.png"
        tags[0x0112] = orientation
        stored.save(path, exif=tags)
        mask = np.asarray(stored) > 0
        # Only lying images say by their size that they are described as they are stored.
        if is_upright or orientation < 5:
            mask = upright > 0
        box = object_masks.bounds(mask[None])[0].tolist()
        for declared in (mask.shape, None):
            encoded = object_masks.encoded(mask)
            things = [
                Annotation("", "cat", box, mask=encoded),
                Annotation("", "cat", None, mask=encoded),
            ]
            if declared or is_upright or orientation < 5:
                images.append(AnnotatedImage(str(path), "", "", (*things,), declared))
            else:  # The size of the masks says it, too.
                images.append(AnnotatedImage(str(path), "", "", (things[1],)))
    found, findings = checked(images, None, masks=True)
    assert not findings
    for image in found:
        assert image.size == (8, 10)
        for one in image.objects:
            assert one.box.tolist() == [1, 2, 4, 7]
            mask = object_masks.unpacked(tf.constant([one.mask]))[0].numpy()
            np.testing.assert_array_equal(object_masks.pasted(mask, one.box, 8, 10), upright > 0)


def test_data_without_masks_is_refused_if_they_are_needed(tree):
    with pytest.raises(BadData, match=r"object 1: expected a mask .* Received: no mask"):
        objects.load(str(tree), masks=True)


def test_folders_without_annotations_or_with_two_kinds_are_refused(tree, tmp_path):
    (tmp_path / "empty").mkdir()
    known = r"expected annotations in one format \(voc, coco, yolo, csv, masks\)\. Received: "
    with pytest.raises(BadData, match=rf"{known}no such files"):
        objects.load(str(tmp_path / "empty"))
    (tree / "boxes.csv").write_text("path,xmin,ymin,xmax,ymax,label\n")
    with pytest.raises(
        BadData, match=rf"{known}files of voc and csv\. Fix: choose one with --format"
    ):
        objects.load(str(tree))
    assert len(objects.load(str(tree), format="voc").test) > 1
    with pytest.raises(BadData, match=r"in one format \(yolo\)\. Received: no such files"):
        objects.load(str(tree / "boxes.csv"), format="yolo")
