"""Boxes of TensorFlow Datasets: flags, labels of other names or none, other axes."""

import numpy as np
import pytest

from data import objects, tfds_objects
from data.sources import BadData, Evaluated
from tests.data.annotated import encoded_image


@pytest.fixture
def stored(store):
    """A function that stores a data set with 10 images; returns its boxes in pixels."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def write(key="objects", label="label", **flags):
        thing = {"bbox": tfds.features.BBoxFeature()}
        if label:
            thing[label] = tfds.features.ClassLabel(names=["cat", "dog"])
            thing["pose"] = tfds.features.ClassLabel(names=["left"])
        thing |= dict.fromkeys(flags, np.bool_)
        features = {
            "image": tfds.features.Image(shape=(8, 10, 3)),
            key: tfds.features.Sequence(thing),
            "all": tfds.features.Sequence(tfds.features.ClassLabel(names=["cat", "dog"])),
        }
        rows = []
        for number in range(10):
            box = tfds.features.BBox(ymin=1 / 8, xmin=2 / 10, ymax=3 / 8, xmax=6 / 10)
            one = {"bbox": box, label: number % 2, "pose": 0} if label else {"bbox": box}
            one |= {flag: value for flag, value in flags.items()}
            pixels = tf.io.decode_png(encoded_image(number)).numpy()
            rows.append({"image": pixels, key: [one] * (number % 3), "all": [0]})
        hidden = [{**row, key: []} for row in rows]
        store(features, train=rows, validation=rows[:4], test=hidden)

    return write


def test_boxes_and_flags_are_read_and_a_split_without_boxes_is_not(stored):
    stored(is_crowd=False, is_difficult=True)
    found = objects.load("tfds:tiny")
    assert [len(found.split(split)) for split in ("train", "validation", "test")] == [9, 4, 1]
    assert "Splits that are not read: test." in found.remarks
    for number, (image, things) in enumerate(found.validation.as_numpy_iterator()):
        count = number % 3
        expected = np.reshape([[2, 1, 6, 3]] * count, (-1, 4))
        np.testing.assert_allclose(things["boxes"][:count], expected, atol=1e-5)
        assert things["kind"].tolist() == [2] * count + [0] * (8 - count)
        assert things["classes"][:count].tolist() == [number % 2] * count
        assert image[1:4] == b"PNG"
    evaluated = objects.load("tfds:tiny", evaluated=Evaluated(("dog", "cat")))
    assert len(evaluated.test) == 4 and evaluated.train is None
    with pytest.raises(BadData, match="expected data with masks"):
        objects.load("tfds:tiny", masks=True)


def test_crowds_other_names_and_other_axes(stored, monkeypatch):
    stored("faces", "type", is_crowd=True)
    monkeypatch.setattr(tfds_objects, "FROM_BOTTOM", ("tiny",))
    monkeypatch.setattr(tfds_objects, "COUNTED_FROM_1", ("tiny",))
    read, _ = tfds_objects.read("tiny", False, None)
    assert read.classes == ("cat", "dog")
    one = read.images[1].annotations[0]
    np.testing.assert_allclose(one.box, [0.2, 5 / 8, 0.6, 7 / 8], atol=1e-6)
    assert one.kind == 3 and one.where == "validation row 1 object 0" and read.images[1].first == 1


def test_boxes_without_labels_are_one_class(stored):
    stored(label="")
    read, encoded = tfds_objects.read("tiny", False, None)
    assert read.classes == ("object",) and len(encoded["train"]) == 9


def test_data_without_boxes_is_refused(shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    with pytest.raises(BadData, match="expected an image and a sequence with boxes"):
        objects.load("tfds:fashion_mnist")
