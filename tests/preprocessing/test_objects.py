"""Fitting images with boxes to a size, and augmenting both."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from preprocessing import objects

SIDE = 112


def png(pixels):
    return tf.io.encode_png(np.asarray(pixels, np.uint8))


def smooth(height, width):
    """Returns an image without edges, which all good ways of resizing shrink to the same."""
    y, x = np.mgrid[:height, :width]
    levels = [127 + 100 * np.sin(x / 40), 127 + 100 * np.cos(y / 30), 255 * x / width]
    return np.stack(levels, axis=-1).round().astype(np.uint8)


def test_an_image_of_the_right_size_is_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    image = objects.fitted(png(pixels), (24, 32))
    np.testing.assert_array_equal(image["pixels"], pixels)
    assert float(image["scale"]) == 1 and image["true_size"].numpy().tolist() == [24, 32]


@pytest.mark.parametrize(
    ("size", "true_size"),
    [((120, 90), (64, 48)), ((48, 200), (19, 80)), ((16, 16), (64, 64)), ((1, 300), (1, 80))],
)
def test_the_aspect_is_kept_and_the_rest_is_black(size, true_size):
    pixels = smooth(*size)
    image = objects.fitted(png(pixels), (64, 80))
    assert image["pixels"].shape == (64, 80, 3) and image["pixels"].dtype == tf.uint8
    assert image["true_size"].numpy().tolist() == list(true_size)
    scale = float(image["scale"])
    assert scale == pytest.approx(min(64 / size[0], 80 / size[1]))
    found = image["pixels"].numpy()
    height, width = true_size
    assert not found[height:].any() and not found[:, width:].any()
    if size[0] > 1:
        expected = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        assert np.abs(found[:height, :width] - np.asarray(expected, int)).max() <= 4


@pytest.mark.parametrize(
    ("sides", "true_size"),
    [((45, 200), (60, 45)), ((80, 90), (90, 68)), ((300, 300), (128, 96)), (None, (128, 96))],
)
def test_the_shortest_and_the_longest_side_have_limits(sides, true_size):
    image = objects.fitted(png(smooth(120, 90)), (128, 128), sides)
    assert tuple(image["true_size"].numpy()) == true_size
    assert image["pixels"].shape == (128, 128, 3)
    assert float(image["scale"]) == pytest.approx(true_size[0] / 120)


def test_photographs_are_turned_upright_before_they_are_fitted():
    pixels, tags = smooth(40, 60), Image.Exif()
    tags[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=tags)
    image = objects.fitted(file.getvalue(), (60, 60))
    assert image["true_size"].numpy().tolist() == [60, 40]
    np.testing.assert_array_equal(image["pixels"][:, :40], np.rot90(pixels, -1))


def test_fitting_is_the_same_in_data_eagerly_and_in_an_exported_graph(tmp_path):
    encoded = [png(smooth(50, 70)), png(smooth(90, 30)[..., :1])]
    eager = [objects.fitted(one, (32, 48)) for one in encoded]
    dataset = tf.data.Dataset.from_tensor_slices(encoded)
    mapped = list(dataset.map(lambda one: objects.fitted(one, (32, 48))))
    module = tf.Module()
    module.fit = tf.function(
        lambda one: objects.fitted(one, (32, 48)), input_signature=[tf.TensorSpec((), tf.string)]
    )
    tf.saved_model.save(module, str(tmp_path / "exported"))
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    for one, image, other in zip(encoded, eager, mapped, strict=True):
        exported = loaded.fit(one)
        for name, values in image.items():
            np.testing.assert_array_equal(values, other[name])
            np.testing.assert_array_equal(values, exported[name])


def padded(boxes, kinds=None, masks=None):
    """Returns a dict of objects like those of `data.objects`, padded to 4."""
    count = len(boxes)
    things = {
        "boxes": np.float32(boxes),
        "classes": np.arange(1, count + 1, dtype=np.int32),
        "kind": np.int32(kinds or [1] * count),
    }
    if masks is not None:
        things["masks"] = np.uint8(masks)
    return {
        name: tf.constant(np.pad(rows, [(0, 4 - count), *[(0, 0)] * (rows.ndim - 1)]))
        for name, rows in things.items()
    }


def test_boxes_follow_the_image_and_return():
    things = {
        **padded([[10, 20, 50, 80], [0, 0, 90, 120]]),
        "proposals": tf.constant([[2.0, 4.0, 6.0, 8.0]]),
    }
    image, fitted = objects.prepared(png(smooth(120, 90)), things, (60, 60))
    assert fitted["boxes"].numpy().tolist()[:2] == [[5, 10, 25, 40], [0, 0, 45, 60]]
    assert image["proposals"].numpy().tolist() == [[1, 2, 3, 4]] and "proposals" not in fitted
    back = objects.in_upright_image(fitted["boxes"][None], image["scale"][None])
    np.testing.assert_allclose(back[0], things["boxes"], atol=1e-4)
    assert fitted["kind"].numpy().tolist() == [1, 1, 0, 0]


def painted(box, size=(96, 128), true_size=(96, 112)):
    """Returns a batch of one black image with a white rectangle, and its object with a mask."""
    xmin, ymin, xmax, ymax = box
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[ymin:ymax, xmin:xmax] = 255
    image = {
        "pixels": tf.constant(pixels),
        "scale": tf.constant(0.5),
        "true_size": tf.constant(true_size),
        "proposals": tf.constant([box, (0, 0, 0, 0)], tf.float32),
    }
    mask = np.zeros((1, SIDE, SIDE))
    mask[0, : SIDE // 2, : SIDE // 4] = 1  # The left quarter of the upper half.
    batch = (image, padded([box], masks=mask))
    return tf.nest.map_structure(lambda rows: rows[None], batch)


def bounds(pixels):
    rows, columns = np.nonzero(pixels.max(axis=-1) > 100)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize("name", ["light", "large"])
def test_the_augmented_box_is_that_of_the_painted_pixels(name):
    augment = tf.function(objects.augmentation(name, vertical_flip=True))
    seen, factors, is_mirrored = 0, [], set()
    for seed in range(80):
        image, things = augment(*painted((24, 20, 90, 70)), tf.constant([seed, 3]))
        box, kind = things["boxes"][0, 0].numpy(), int(things["kind"][0, 0])
        factor = float(image["scale"][0]) / 0.5
        factors.append(factor)
        height, width = image["true_size"][0].numpy()
        pixels = image["pixels"][0].numpy()
        assert not pixels[height:].any() and not pixels[:, width:].any()
        assert np.all(box <= [width, height] * 2)
        assert things["kind"][0, 1:].numpy().tolist() == [0, 0, 0]
        proposal, padding = image["proposals"][0].numpy()
        assert np.all(padding[2:] == padding[:2])
        if kind == 0:
            assert pixels.max() < 100 and not box.any()
            continue
        share = np.prod(box[2:] - box[:2]) / (66 * 50 * factor**2)
        assert kind == (1 if share >= 0.2 else 3)
        if min(box[2:] - box[:2]) < 2:
            continue
        seen += 1
        assert np.abs(bounds(pixels) - box).max() <= 1
        np.testing.assert_array_equal(proposal, box)
        if share > 0.999:
            mask = things["masks"][0, 0].numpy()
            is_right, is_low = mask[:, SIDE // 2 :].any(), mask[SIDE // 2 :].any()
            assert mask.sum() == SIDE * SIDE // 8
            is_mirrored.add((bool(is_right), bool(is_low)))
    low, high = objects.SCALES[name]
    assert low <= min(factors) < low + 0.1 and high - 0.1 < max(factors) <= high
    assert seen > 60 and len(is_mirrored) == 4


def test_masks_are_cut_to_what_remains_of_the_box():
    image, things = painted((0, 0, 112, 96))
    augment = objects.augmentation("large")
    found = [augment(image, things, tf.constant([seed, 0])) for seed in range(30)]
    cropped = [one for one in found if float(one[0]["scale"][0]) > 0.8]
    assert cropped
    for picture, changed in cropped:
        factor = float(picture["scale"][0]) / 0.5
        xmin, ymin, xmax, ymax = changed["boxes"][0, 0].numpy()
        shares = (xmax - xmin) * (ymax - ymin) / (112 * 96 * factor**2)
        assert shares < 1
        # The mask covers an eighth of the box before the crop, in one corner of the image.
        covered = float(tf.reduce_mean(tf.cast(changed["masks"][0, 0], tf.float32))) * shares
        assert covered <= 1 / 8 + 0.01


def test_what_is_less_than_a_fifth_visible_is_ignored():
    things = padded([[0, 0, 10, 10], [0, 0, 9, 10], [2, 0, 12, 10], [20, 0, 30, 10]], [1, 1, 2, 3])
    crop = objects._cropped(
        things, tf.constant(2.0), tf.constant([0.0, 18.0]), tf.constant([40, 50])
    )
    assert crop["kind"].numpy().tolist() == [3, 0, 2, 3]
    assert crop["boxes"].numpy().tolist() == [
        [0, 0, 2, 20],
        [0] * 4,
        [0, 0, 6, 20],
        [22, 0, 42, 20],
    ]
    assert crop["classes"].numpy().tolist() == [1, 0, 3, 4]


def test_crowds_stay_crowds_and_padding_stays_padding():
    image, things = painted((24, 20, 90, 70))
    things["kind"] = tf.constant([[3, 0, 0, 0]])
    _, changed = objects.augmentation("light")(image, things, tf.constant([1, 1]))
    assert changed["kind"].numpy().tolist() == [[3, 0, 0, 0]]
    assert not changed["boxes"][0, 1:].numpy().any()


def test_augmentation_depends_on_the_seed_alone_and_none_changes_nothing():
    batch = painted((24, 20, 90, 70))
    augment = objects.augmentation("light")
    first, again, other = (augment(*batch, tf.constant([seed, 1])) for seed in (1, 1, 2))
    flat = [tf.nest.flatten(result) for result in (first, again, other)]
    for one, same in zip(flat[0], flat[1], strict=True):
        np.testing.assert_array_equal(one, same)
    assert not np.array_equal(first[0]["pixels"], other[0]["pixels"])
    assert objects.augmentation("none")(*batch, tf.constant([1, 1])) == batch
    with pytest.raises(ValueError, match="`name` must be one of none, light, large"):
        objects.augmentation("heavy")


def test_colors_change_by_at_most_a_fifth_in_each_way():
    pixels = np.full((8, 8, 3), (100, 150, 50), np.float32)
    inside = np.ones((8, 8, 1), np.float32)
    same = objects._recolored(pixels, inside, tf.constant([0.5, 0.5, 0.5]), 255.0)
    np.testing.assert_allclose(same, pixels, rtol=1e-5)
    brighter = objects._recolored(pixels, inside, tf.constant([1.0, 0.5, 0.5]), 255.0)
    np.testing.assert_allclose(brighter, pixels * 1.2, rtol=1e-5)
    grayer = objects._recolored(pixels, inside, tf.constant([0.5, 0.5, 0.0]), 255.0)
    np.testing.assert_allclose(grayer, pixels * 0.8 + 0.2 * 123.65, rtol=1e-5)
