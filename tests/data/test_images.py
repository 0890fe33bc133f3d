"""Images from the built-in sample, TensorFlow Datasets, folders and CSVs, good and bad."""

import collections
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import images
from data.sources import SPLITS, BadData, Evaluated
from preprocessing.images import decode


def contents(found):
    return {
        split: dict(
            getattr(found, split).map(lambda data, label: (data, label)).as_numpy_iterator()
        )
        for split in SPLITS
    }


def test_digits_are_split_once_and_for_all():
    digits = images.load("digits")
    assert [len(getattr(digits, split)) for split in SPLITS] == [1257, 270, 270]
    assert digits.input_shape == (28, 28, 1) and digits.classes == tuple("0123456789")
    counts = collections.Counter(int(label) for _, label in digits.test)
    assert set(counts.values()) == {27}
    everything = [
        data for split in SPLITS for data, _ in getattr(digits, split).as_numpy_iterator()
    ]
    assert len(set(everything)) == 1797
    assert [int(label) for _, label in digits.test.take(8)] == [4, 7, 1, 1, 8, 6, 3, 5]


def test_digits_keep_the_levels_of_scikit_learn():
    from sklearn.datasets import load_digits

    known = {
        np.round(levels * 255 / 16).astype(np.uint8).tobytes() for levels in load_digits().data
    }
    for data, _ in images.load("digits").validation.take(5):
        assert decode(data, (8, 8, 1)).numpy().tobytes() in known


@pytest.mark.slow
def test_fashion_mnist_comes_from_tfds_encoded(shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    fashion = images.load("tfds:fashion_mnist")
    assert [len(getattr(fashion, split)) for split in SPLITS] == [54_000, 6_000, 10_000]
    assert fashion.input_shape == (28, 28, 1) and "Sneaker" in fashion.classes
    data, label = next(iter(fashion.train))
    assert data.dtype == tf.string and label.dtype == tf.int32
    assert decode(data, fashion.input_shape).shape == (28, 28, 1)


def test_tfds_test_images_without_labels_are_put_aside_and_large_ones_shrink(store):
    import tensorflow_datasets as tfds

    rows = [{"image": np.full((300, 30, 3), i, np.uint8), "label": i % 2} for i in range(30)]
    features = {
        "image": tfds.features.Image(shape=(300, 30, 3)),
        "label": tfds.features.ClassLabel(names=["even", "odd"]),
    }
    withheld = [{**row, "label": -1} for row in rows]
    store(features, train=rows, valid=rows[:4], test=withheld)
    found = images.load("tfds:tiny")
    labels = [[int(label) for _, label in part] for part in (found.train, found.test)]
    assert [len(part) for part in labels] == [27, 3] and set(labels[1]) == {0, 1}
    assert len(found.validation) == 4 and found.input_shape == (224, 224, 3)
    assert found.remarks == (
        "Splits: train from train, validation from valid.",
        "Cut from the end of train: test, 10 %.",
        "Splits that are not read: test.",
    )


def test_tfds_images_without_a_label_are_named_or_left_out(store):
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(4, 4, 1)),
        "label": tfds.features.ClassLabel(names=["even", "odd"]),
    }
    rows = [
        {"image": np.full((4, 4, 1), i, np.uint8), "label": -1 if i == 3 else i % 2}
        for i in range(6)
    ]
    store(features, train=rows, validation=rows, test=rows)
    for evaluated in (None, Evaluated(("odd", "even"))):
        with pytest.raises(BadData, match=r"test row 3: .*even, odd\. Received: no label \(-1\)"):
            images.load("tfds:tiny", evaluated=evaluated)
        found = images.load("tfds:tiny", evaluated=evaluated, skip_bad=True)
        labels = [found.classes[label] for _, label in found.test]
        assert labels == ["even", "odd", "even", "even", "odd"]
        assert found.skipped == (1 if evaluated else 3)
    with pytest.raises(BadData, match=r"the data: .* Received: no usable example"):
        images.load("tfds:tiny", evaluated=Evaluated(("prime",)), skip_bad=True)


def test_tfds_without_images_is_refused(shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    with pytest.raises(BadData, match="expected one feature with images and one with classes"):
        images.load("tfds:trec")


def test_folder_gives_every_image_once_with_its_class(folder):
    found = images.load(str(folder))
    assert found.classes == ("cat", "dog") and found.input_shape == (8, 9, 3)
    together = {data: label for split in contents(found).values() for data, label in split.items()}
    assert together == {
        path.read_bytes(): ("cat", "dog").index(path.parent.name) for path in folder.rglob("*.png")
    }
    assert sum(len(getattr(found, split)) for split in SPLITS) == 100 and found.skipped == 0


def test_each_image_has_its_file(folder):
    for data in (folder, folder / "all.csv"):
        rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in folder.rglob("*.png")]
        (folder / "all.csv").write_text("\n".join(rows))
        found = images.load(str(data))
        for split in SPLITS:
            for number, (image, _) in enumerate(getattr(found, split).as_numpy_iterator()):
                where = found.origin(split, number)
                if data != folder:
                    line, _, where = where.removesuffix(")").partition(" (")
                    assert rows[int(line.removeprefix("all.csv line ")) - 1].startswith(where)
                assert (folder / where).read_bytes() == image
    assert images.load("digits").origin("test", 0) == ""


def test_adding_files_moves_none_of_another_class_and_few_of_a_small_one(folder, draw):
    before = contents(images.load(str(folder)))
    for i in range(100, 160):
        draw(folder / "dog" / f"new{i}.png", seed=i)
    after = contents(images.load(str(folder)))
    moved = [label for split in SPLITS for _, label in before[split].items() - after[split].items()]
    assert set(moved) <= {1} and len(moved) <= 4
    kept = [data for data in after["train"] if data in before["train"]]
    assert kept == [data for data in before["train"] if data in after["train"]]


def test_classes_are_mixed_in_the_order(folder):
    labels = [int(label) for _, label in images.load(str(folder)).train]
    assert 20 < np.abs(np.diff(labels)).sum() < 60


def test_given_splits_are_kept_and_a_missing_one_is_cut_from_train(folder, tmp_path, draw):
    root = tmp_path / "split"
    shutil.copytree(folder, root / "train")
    for i, label in enumerate(("cat", "dog")):
        draw(root / "test" / label / "extra.png", seed=1000 + i)
    found = images.load(str(root))
    assert len(found.test) == 2 and found.classes == ("cat", "dog")
    assert len(found.train) + len(found.validation) == 100 and len(found.validation) > 2
    draw(root / "val" / "cat" / "one.png", seed=2000)
    found = images.load(str(root))
    assert [len(getattr(found, split)) for split in SPLITS] == [100, 1, 2]


def test_csv_with_and_without_header_and_split(folder):
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in folder.rglob("*.png")]
    plain = folder / "plain.csv"
    plain.write_text("\n".join(rows))
    headed = folder / "headed.csv"
    splits = ["train", "test", "val", "train"]
    lines = [f"{splits[i % 4]},{','.join(reversed(row.split(',')))}" for i, row in enumerate(rows)]
    headed.write_text("\n".join(["split,label,filename", *lines]))
    assert contents(images.load(str(plain))) == contents(images.load(str(folder)))
    found = images.load(str(headed))
    assert [len(getattr(found, split)) for split in SPLITS] == [50, 25, 25]


@pytest.mark.parametrize(
    ("sizes", "mode", "expected"),
    [
        ([(8, 8), (8, 8)], "L", (8, 8, 1)),
        ([(8, 8), (8, 9)], "RGB", (224, 224, 3)),
        ([(230, 8), (230, 8)], "RGB", (224, 224, 3)),
    ],
    ids=["same-small-gray", "mixed", "same-large"],
)
def test_default_input_shape(tmp_path, sizes, mode, expected, draw):
    for i in range(60):
        draw(tmp_path / str(i % 2) / f"{i}.png", seed=i, size=sizes[i % 2], mode=mode)
    assert images.load(str(tmp_path)).input_shape == expected
    found = images.load(str(tmp_path), image_size=(5, 6), channels=3)
    assert found.input_shape == (5, 6, 3)


def test_own_size_is_that_of_the_upright_images(tmp_path, draw):
    tags = Image.Exif()
    tags[0x0112] = 6
    for i in range(60):
        path = tmp_path / str(i % 2) / f"{i}.{'jpg' if i % 3 else 'png'}"
        draw(path, seed=i, size=(8, 20))
        image = Image.open(path)
        image.save(path, exif=tags)
    found = images.load(str(tmp_path))
    assert found.input_shape == (20, 8, 3)
    for data, _ in found.test:
        assert decode(data, found.input_shape).shape == (20, 8, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "`channels` must be 1, 3"),
        ({"image_size": (0, 9)}, "`image_size` must be"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        images.load("digits", **options)


def test_real_photographs_load_from_a_csv(shared_data, tmp_path):
    photos = sorted((shared_data / "bccd" / "JPEGImages").glob("*.jpg"))[:60]
    table = tmp_path / "cells.csv"
    table.write_text("\n".join(f"{path},{i % 2}" for i, path in enumerate(photos)))
    found = images.load(str(table), image_size=(60, 80))
    assert found.input_shape == (60, 80, 3) and found.skipped == 0
    data, _ = next(iter(found.validation))
    shown = Image.open(
        tf.io.gfile.GFile(next(str(p) for p in photos if p.read_bytes() == data), "rb")
    )
    resized = np.asarray(shown.convert("RGB").resize((80, 60), Image.Resampling.BILINEAR), int)
    assert np.abs(decode(data, (60, 80, 3)).numpy() - resized).max() <= 2


def test_images_that_tensorflow_does_not_decode_are_named(folder):
    heic = b"\0\0\0\x18ftypheic"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "cat" / "kitten.tif")
    for i in range(3):
        (folder / "dog" / f"{i}.HEIC").write_bytes(heic + bytes([i]))
    (folder / "dog" / "phone.jpg").write_bytes(heic + bytes(9))
    (folder / "dog" / "moving.webp").write_bytes(b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02")
    (folder / "dog" / "nothing.heic").write_bytes(b"")
    with pytest.raises(BadData) as caught:
        images.load(str(folder))
    found = str(caught.value).replace("expected a complete JPEG, PNG, BMP, GIF or WebP image. ", "")
    assert "5 problems" in found
    for line in (
        "cat/kitten.tif: Received: TIFF. Fix: convert it (`magick mogrify -format jpg *.tif`)",
        "dog/0.HEIC and 2 more with .heic: Received: HEIC. Fix: convert each "
        "(`magick mogrify -format jpg *.heic`) and remove the original.",
        "dog/phone.jpg: Received: HEIC. Fix: convert it.",
        "dog/moving.webp: Received: animated WebP. Fix: convert it.",
        "dog/nothing.heic: Received: an empty file.",
    ):
        assert line in found
    assert images.load(str(folder), skip_bad=True).skipped == 7


def test_all_suffixes_of_jpeg_are_read(folder, draw):
    for name in ("a.jfif", "b.jpe"):
        draw(folder / "cat" / "photo.jpg", seed=len(name))
        (folder / "cat" / "photo.jpg").rename(folder / "cat" / name)
    found = images.load(str(folder))
    assert sum(len(getattr(found, split)) for split in SPLITS) == 102
