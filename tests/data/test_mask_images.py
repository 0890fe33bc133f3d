"""Masks as images: one for each object or one for all, lists of splits, classes, odd files."""

import numpy as np
import pytest
import tensorflow as tf

from data import mask_images, object_masks, objects
from data.sources import BadData, Evaluated, Fault
from tests.data.annotated import encoded_image


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if np.ndim(pixels) == 2:
        pixels = np.asarray(pixels)[..., None]
    path.write_bytes(tf.io.encode_png(pixels).numpy())


def square(left, top, level=255, size=(8, 10), kind=np.uint8):
    pixels = np.zeros(size, kind)
    pixels[top : top + 3, left : left + 4] = level
    return pixels


def add(folder, name, squares, seed):
    """Adds an image with a mask for each square."""
    (folder / name / "images").mkdir(parents=True)
    (folder / name / "masks").mkdir()
    (folder / name / "images" / f"{name}.png").write_bytes(encoded_image(seed))
    for number, corner in enumerate(squares):
        save(folder / name / "masks" / f"{number}.png", square(*corner))


@pytest.fixture
def tree(tmp_path):
    for number in range(10):
        squares = [(number % 5, 1), (number % 6, 5)][: 1 + number % 2]
        add(tmp_path / "stage1_train", f"id{number}", squares, number)
    return tmp_path


def test_a_mask_for_each_object(tree):
    found = objects.load(str(tree), masks=True)
    assert found.classes == ["object"] and found.has_masks
    splits = [found.split(split) for split in ("train", "validation", "test")]
    assert sum(map(len, splits)) == 10
    for split in splits:
        for _, things in split.as_numpy_iterator():
            for box, kind, mask in zip(
                *(things[k] for k in ("boxes", "kind", "masks")), strict=True
            ):
                if kind:
                    assert (box[2:] - box[:2]).tolist() == [4, 3]
                    expected = square(*box[:2].astype(int), level=1)
                    np.testing.assert_array_equal(object_masks.pasted(mask, box, 8, 10), expected)
    assert not objects.load(str(tree)).has_masks


def test_lists_name_the_splits(tree):
    for split, numbers in {"train": range(5), "val": [5, 6], "test": [7, 8]}.items():
        (tree / f"{split}.txt").write_text("\n".join(f"id{number}" for number in numbers))
    read = mask_images.read(tree, None)
    assert [image.split for image in read.images] == ["train"] * 5 + ["validation"] * 2 + [
        "test"
    ] * 2
    assert "Not read: 1 image of no split." in read.findings
    assert len(mask_images.read(tree, Evaluated()).images) == 2


def write_numbers(root, kind):
    """Writes one mask in each split, with the objects 7 and the highest number of its kind."""
    most = int(np.iinfo(kind).max)
    for split in ("train", "val", "test"):
        (root / split / "images").mkdir(parents=True)
        (root / split / "images" / "a.png").write_bytes(encoded_image(len(split)))
        pixels = square(1, 1, 7, kind=kind) + square(5, 5, most, kind=kind)
        save(root / split / "masks" / "a.png", pixels)
    return [f"test/masks/a.png instance {number}" for number in (7, most)]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_pixels_of_one_mask_are_the_numbers_of_all_objects(kind, tmp_path):
    expected = write_numbers(tmp_path, kind)
    read = mask_images.read(tmp_path, None)
    assert [image.split for image in read.images] == ["test", "train", "validation"]
    assert [one.where for one in read.images[0].annotations] == expected


def test_a_table_names_the_class_of_each_number(tmp_path):
    write_numbers(tmp_path, np.uint16)
    rows = ["path,instance,label"]
    for split in ("train", "val", "test"):
        rows += [f"{split}/masks/a.png,7,cat", f"{split}/masks/a.png,65535,dog"]
    (tmp_path / "classes.csv").write_text("\n".join(rows))
    found = objects.load(str(tmp_path), masks=True)
    _, things = next(iter(found.test))
    assert things["boxes"][:2].numpy().tolist() == [[1, 1, 5, 4], [5, 5, 9, 8]]
    assert found.classes == ["cat", "dog"] and things["classes"][:2].numpy().tolist() == [0, 1]
    (tmp_path / "classes.csv").write_text("\n".join(rows[:-1]))
    (fault,) = (one for one in mask_images.read(tmp_path, None).findings if isinstance(one, Fault))
    assert (fault.where, fault.received) == ("test/masks/a.png instance 65535", "no class")


def test_odd_masks_are_named(tree):
    folder = tree / "stage1_train" / "id3" / "masks"
    save(folder / "empty.png", np.zeros((8, 10, 1), np.uint8))
    save(folder / "small.png", square(0, 0, size=(8, 9)))
    (folder / "text.png").write_text("mask")
    save(folder / "color.png", np.stack([square(1, 1), square(1, 1, 0), square(1, 1, 0)], axis=-1))
    with pytest.raises(BadData) as caught:
        objects.load(str(tree))
    where = "stage1_train/id3/masks/"
    assert {fault.where: fault.received for fault in caught.value.faults} == {
        f"{where}empty.png": "an empty mask",
        f"{where}small.png": "a mask of 9 x 8 pixels",
        f"{where}text.png": "a file that is not a PNG image",
    }
    assert objects.load(str(tree), skip_bad=True).skipped == 3


def test_images_and_masks_without_each_other_are_named(tmp_path):
    for name in "abc":
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{name}.png").write_bytes(encoded_image(ord(name)))
        save(tmp_path / "masks" / f"{name}.png", square(1, 1, 9))
    (tmp_path / "images" / "a.png").unlink()
    (tmp_path / "masks" / "b.png").unlink()
    with pytest.raises(BadData) as caught:
        objects.load(str(tmp_path))
    seen = {fault.where: fault.received for fault in caught.value.faults if fault.skippable}
    assert seen == {
        "masks/a.png": "a mask without image",
        "images/b.png": "an image without annotation",
    }


def test_nuclei_survive_the_way_through_their_boxes(shared_data):
    folders = sorted((shared_data / "dsb2018_nuclei_subset" / "stage1_train").iterdir())[:3]
    shares = []
    for path in (path for folder in folders for path in (folder / "masks").glob("*.png")):
        whole = tf.io.decode_png(path.read_bytes(), 1).numpy()[..., 0] > 0
        box = object_masks.bounds(whole[None])[0]
        pasted = object_masks.pasted(object_masks.cut(whole, box), box, *whole.shape)
        shares.append((pasted & whole).sum() / (pasted | whole).sum())
    assert len(shares) > 50 and min(shares) >= 0.98 and np.mean(shares) > 0.999


@pytest.mark.slow
def test_nuclei_are_loaded(shared_data):
    found = objects.load(str(shared_data / "dsb2018_nuclei_subset"), masks=True)
    assert sum(len(found.split(split)) for split in ("train", "test")) == 128
    assert len(found.validation) == 32 and found.skipped == 0
    assert found.max_objects == 120
