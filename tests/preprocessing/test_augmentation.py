"""Every augmentation is a pure function that keeps images in range and labels whole."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from preprocessing.augmentation import AUGMENTATIONS, _operations, augmentation

SHAPES = pytest.mark.parametrize("input_shape", [(12, 16, 1), (12, 16, 3)], ids=["gray", "color"])
CHANGING = AUGMENTATIONS[1:]


def batch(input_shape, count=10):
    levels = np.random.default_rng(0).random((count, *input_shape), np.float32)
    return tf.constant(levels), tf.one_hot(tf.range(count) % 3, 3)


@functools.cache
def traced(name, input_shape):
    return tf.function(augmentation(name, input_shape))


def augmented(name, input_shape, seed=(1, 2)):
    after = traced(name, input_shape)(*batch(input_shape), tf.constant(seed))
    return [tensor.numpy() for tensor in after]


def test_none_changes_nothing():
    for before, after in zip(batch((12, 16, 1)), augmented("none", (12, 16, 1)), strict=True):
        np.testing.assert_array_equal(before, after)


@SHAPES
@pytest.mark.parametrize("name", CHANGING)
def test_seed_alone_decides(name, input_shape):
    images, labels = augmented(name, input_shape)
    same_images, same_labels = augmented(name, input_shape)
    other_images, _ = augmented(name, input_shape, seed=(1, 3))
    np.testing.assert_array_equal(images, same_images)
    np.testing.assert_array_equal(labels, same_labels)
    assert not np.array_equal(images, other_images)


@SHAPES
@pytest.mark.parametrize("name", CHANGING)
def test_images_stay_in_range_and_labels_sum_to_1(name, input_shape):
    images, labels = augmented(name, input_shape)
    assert images.shape == (10, *input_shape) and images.dtype == np.float32
    assert images.min() >= 0.0 and images.max() <= 1.0
    np.testing.assert_allclose(labels.sum(axis=1), 1.0, atol=1e-6)
    mixes = not np.array_equal(labels, batch(input_shape)[1])
    assert mixes == (name in ("mixup", "cutmix", "fourier_mix"))


@pytest.mark.parametrize("name", CHANGING)
def test_parallel_maps_give_the_same_bits_twice(name):
    images, labels = batch((12, 16, 1))

    def run():
        seeds = tf.data.Dataset.range(12)
        return seeds.map(
            lambda i: traced(name, (12, 16, 1))(
                images, labels, tf.stack([tf.cast(i, tf.int32), 3])
            ),
            num_parallel_calls=8,
        ).as_numpy_iterator()

    for first, second in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("name", CHANGING)
def test_mixed_precision_of_the_model_changes_nothing(name):
    expected, _ = augmented(name, (12, 16, 3))
    keras.config.set_dtype_policy("mixed_bfloat16")
    augment = tf.function(augmentation(name, (12, 16, 3)))
    after, _ = augment(*batch((12, 16, 3)), tf.constant((1, 2)))
    np.testing.assert_array_equal(after, expected)


def test_light_mirrors_color_images_and_never_gray_ones():
    def mirrored(channels):
        # Bright on the left half only.
        images = np.zeros((64, 20, 20, channels), np.float32)
        images[:, :, :10] = 1.0
        labels = tf.zeros((64, 2))
        after, _ = augmentation("light", (20, 20, channels))(images, labels, tf.constant([0, 0]))
        left, right = np.split(after.numpy().mean(axis=(1, 3)), 2, axis=1)
        return int((right.mean(axis=1) > left.mean(axis=1)).sum())

    assert mirrored(channels=1) == 0
    assert 20 <= mirrored(channels=3) <= 44


def test_light_moves_no_further_than_it_says():
    image = np.zeros((1, 101, 101, 1), np.float32)
    image[0, 50, 50] = 1.0
    images = tf.repeat(tf.constant(image), 64, axis=0)
    after, _ = augmentation("light", (101, 101, 1))(images, tf.zeros((64, 2)), tf.constant([0, 0]))
    peaks = np.array([np.unravel_index(np.argmax(a), a.shape)[:2] for a in after.numpy()]) - 50
    # 8 % of 101 pixels, scaled by up to 1 / 0.9 and rounded up.
    assert 5 < np.abs(peaks).max() <= 10


def test_randaugment_draws_operations_for_every_8_images():
    images = tf.repeat(batch((12, 16, 3), count=1)[0], 64, axis=0)
    augment = augmentation("randaugment", (12, 16, 3))
    after, _ = augment(images, tf.zeros((64, 2)), tf.constant([0, 1]))
    groups = after.numpy().reshape(8, 8, -1)
    assert len({group.tobytes() for group in groups}) == 8


def test_randaugment_turns_by_30_degrees_at_the_most():
    (turn,) = (layer for layer in _operations((32, 32, 1)) if "rotation" in layer.name)
    assert turn.factor == pytest.approx((-30 / 360, 30 / 360))


def test_cutmix_replaces_any_share_of_an_image_alike():
    # With alpha = 1 the share that stays is uniform: a quarter of the draws are in each quarter.
    images, labels = tf.zeros((2, 32, 32, 1)), tf.one_hot([0, 1], 2)
    augment = tf.function(augmentation("cutmix", (32, 32, 1)))
    draws = [augment(images, labels, tf.constant([1, seed]))[1][0] for seed in range(200)]
    shares = np.array([draw.numpy()[0] for draw in draws if draw.numpy()[0] < 1])
    counts, _ = np.histogram(shares, bins=4, range=(0, 1))
    assert counts.min() > 0.12 * counts.sum()


def test_augmix_blends_each_image_of_a_group_in_its_own_way():
    images = tf.repeat(batch((12, 16, 3), count=1)[0], 16, axis=0)
    after, _ = traced("augmix", (12, 16, 3))(images, tf.zeros((16, 2)), tf.constant([0, 1]))
    assert len({image.tobytes() for image in after.numpy()}) == 16
    # The share that the chains get is uniform, so the image itself never vanishes from its blend.
    correlations = [
        np.corrcoef(image.ravel(), images[0].numpy().ravel())[0, 1] for image in after.numpy()
    ]
    assert min(correlations) > 0 and max(correlations) > 0.9


def test_gridmask_blackens_squares_in_four_of_five_images():
    images = tf.ones((200, 40, 60, 3))
    after, _ = augmentation("gridmask", (40, 60, 3))(images, tf.zeros((200, 2)), [0, 1])
    dark = 1 - after.numpy()
    masked = dark.reshape(200, -1).any(axis=1)
    assert 145 <= masked.sum() <= 175
    # The masked pixels are those of some rows in some columns, 0.4 of either.
    rows, columns = dark.max(axis=(2, 3))[masked], dark.max(axis=(1, 3))[masked]
    np.testing.assert_array_equal(dark[masked, :, :, 0], rows[:, :, None] * columns[:, None])
    assert dark[masked].mean() == pytest.approx(0.16, abs=0.02)


def test_fourier_mix_mixes_labels_in_proportion_to_the_areas():
    values = np.linspace(0, 1, 64, dtype="float32")
    images = tf.constant(np.tile(values[:, None, None, None], (1, 24, 31, 3)))
    after, labels = augmentation("fourier_mix", (24, 31, 3))(images, tf.eye(64), [0, 1])
    np.testing.assert_allclose(
        after.numpy().mean(axis=(1, 2, 3)), labels.numpy() @ values, atol=1e-5
    )
    own = np.diag(labels)
    counts, _ = np.histogram(own, bins=4, range=(0, 1))
    assert counts.min() > 7
    # Areas are connected: of neighboring pixels most come from the same image.
    assert (np.diff(after.numpy(), axis=2) == 0).mean() > 0.9


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"none, light, randaugment, .*fourier_mix.*'strong'"):
        augmentation("strong", (12, 16, 3))
