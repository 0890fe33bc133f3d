"""Augmentation of batches of training images by pure functions of images, labels and seed."""

from collections.abc import Callable

import keras
import tensorflow as tf

AUGMENTATIONS = ("none", "light", "randaugment", "mixup", "cutmix")
GROUP = 8
"""Images that share operations in `randaugment`; 1 is several times slower on small images."""

Augmentation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def augmentation(name: str, input_shape: tuple[int, int, int]) -> Augmentation:
    """Builds `augment(images, labels, seed) -> (images, labels)`, a pure function.

    - `none` changes nothing.
    - `light` shifts each image by up to 8 % of its sides, rotates it by up to 10 degrees, scales it
      by up to 10 %, fills the border from the edge and changes the contrast by up to 20 %. It
      mirrors half of the color images left to right. It never mirrors grayscale images, because
      they may show digits or letters.
    - `randaugment` applies two of eleven operations at strength 0.3. The operations are drawn for
      every 8 images, their amounts for each image.
    - `mixup` blends each image and its label with another one of the batch, weight
      ~ Beta(0.2, 0.2).
    - `cutmix` pastes a box of another image of the batch into each image and mixes the labels in
      proportion to the areas.

    Reference:
        Cubuk et al., RandAugment, 2020. https://arxiv.org/abs/1909.13719
        Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018, eq. 1.
        https://arxiv.org/abs/1710.09412
        Yun et al., CutMix, 2019, eq. 1. https://arxiv.org/abs/1905.04899

    Args:
        name: One of `AUGMENTATIONS`.
        input_shape: `(height, width, channels)` of an image, channels 1 or 3.

    Returns:
        A function of images float32 `(batch, height, width, channels)` in [0, 1], one-hot labels
        float32 `(batch, classes)` and seed int32 `(2,)`. Images stay in [0, 1], labels sum to 1.
    """
    # Layers compute in float32 even with mixed precision, because 16 bits would lose gray levels.
    match name:
        case "none":
            return lambda images, labels, seed: (images, labels)
        case "light":
            return lambda images, labels, seed: (_light(images, seed), labels)
        case "randaugment":
            operations = _operations(input_shape)
            return lambda images, labels, seed: (_rand_augment(operations, images, seed), labels)
        case "mixup":
            return _mixing(keras.layers.MixUp(alpha=0.2, dtype="float32"))
        case "cutmix":
            return _mixing(keras.layers.CutMix(factor=(1.0, 1.0), dtype="float32"))
    raise ValueError(f"`name` must be one of {', '.join(AUGMENTATIONS)}. Received: name={name!r}")


def _pure(layer: keras.layers.Layer, inputs, seed: tf.Tensor):
    """Calls a layer with random generators seeded by `seed`, and leaves their states unchanged."""
    # The only variables of such a layer are the states of its generators.
    generators = layer.variables
    seeds = tf.random.split(seed, num=len(generators)) if generators else []
    states = [(state, seeds[i]) for i, state in enumerate(generators)]
    with keras.StatelessScope(state_mapping=states):
        return layer(inputs, training=True)


def _mixing(layer: keras.layers.Layer) -> Augmentation:
    def mix(images, labels, seed):
        mixed = _pure(layer, {"images": images, "labels": labels}, seed)
        return tf.clip_by_value(mixed["images"], 0.0, 1.0), mixed["labels"]

    return mix


def _light(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Augments with a single interpolation; Keras' layers would interpolate three times."""
    count, height, width, channels = tf.unstack(tf.shape(images))
    draws = tf.random.stateless_uniform((7, count), seed, -1.0, 1.0)
    angle = draws[0] * (10 / 180 * 3.14159265)
    scale_x, scale_y = 1 + 0.1 * draws[1], 1 + 0.1 * draws[2]
    mirror = tf.where((channels == 3) & (draws[3] > 0), -1.0, 1.0)
    middle_x, middle_y = tf.cast(width - 1, tf.float32) / 2, tf.cast(height - 1, tf.float32) / 2
    shift_x = 0.08 * draws[4] * tf.cast(width, tf.float32)
    shift_y = 0.08 * draws[5] * tf.cast(height, tf.float32)
    a0, a1 = mirror * scale_x * tf.cos(angle), -mirror * scale_x * tf.sin(angle)
    b0, b1 = scale_y * tf.sin(angle), scale_y * tf.cos(angle)
    # Pixel (x, y) of the result is pixel (a0 x + a1 y + a2, b0 x + b1 y + b2) of the image.
    a2 = middle_x + shift_x - a0 * middle_x - a1 * middle_y
    b2 = middle_y + shift_y - b0 * middle_x - b1 * middle_y
    transforms = tf.stack([a0, a1, a2, b0, b1, b2, tf.zeros(count), tf.zeros(count)], axis=1)
    moved = keras.ops.image.affine_transform(images, transforms, fill_mode="nearest")
    contrast = tf.reshape(1 + 0.2 * draws[6], (-1, 1, 1, 1))
    mean = tf.reduce_mean(moved, axis=(1, 2), keepdims=True)
    return tf.clip_by_value((moved - mean) * contrast + mean, 0.0, 1.0)


def _operations(input_shape: tuple[int, int, int]) -> list[keras.layers.Layer]:
    """Lists the layers that `keras.layers.RandAugment` applies, with rotations of 30 degrees.

    That layer computes all eleven twice for the whole batch and keeps two. Computing only those two
    takes a tenth of the time.
    """
    strength, levels = 0.3, {"value_range": (0, 1), "dtype": "float32"}
    layers = [
        keras.layers.RandomShear(strength, strength, dtype="float32"),
        keras.layers.RandomTranslation(strength, strength, dtype="float32"),
        keras.layers.RandomRotation(30 / 360, dtype="float32"),
        keras.layers.RandomBrightness(strength, **levels),
        keras.layers.RandomColorDegeneration(strength, **levels),
        keras.layers.RandomContrast(strength, **levels),
        keras.layers.RandomSharpness(strength, **levels),
        keras.layers.RandomPosterization(2, **levels),
        keras.layers.Solarization(strength, strength, **levels),
        keras.layers.AutoContrast(**levels),
        keras.layers.Equalization(**levels),
    ]
    for layer in layers:
        layer.build((None, *input_shape))
    return layers


def _rand_augment(
    operations: list[keras.layers.Layer], images: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    def changed(group_and_number):
        group, number = group_and_number
        for draw in (2 * number, 2 * number + 1):
            draw_seed = tf.random.fold_in(seed, draw)
            choice = tf.random.stateless_uniform((), draw_seed, 0, len(operations), tf.int32)
            branches = [
                # The default arguments bind the layer and the group of this turn.
                lambda layer=layer, group=group, draw_seed=draw_seed: tf.ensure_shape(
                    _pure(layer, group, draw_seed), group.shape
                )
                for layer in operations
            ]
            group = tf.clip_by_value(tf.switch_case(choice, branches), 0.0, 1.0)
        return group

    count, shape = tf.shape(images)[0], images.shape
    groups = tf.reshape(
        tf.pad(images, [(0, -count % GROUP), (0, 0), (0, 0), (0, 0)]), (-1, GROUP, *shape[1:])
    )
    numbered = (groups, tf.range(tf.shape(groups)[0]))
    augmented = tf.map_fn(changed, numbered, fn_output_signature=tf.float32)
    return tf.ensure_shape(tf.reshape(augmented, (-1, *shape[1:]))[:count], shape)
