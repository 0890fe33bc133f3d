"""Augmentation of batches of training images by pure functions of images, labels and seed."""

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import keras
import tensorflow as tf

AugmentationName = Literal[
    "none", "light", "randaugment", "augmix", "gridmask", "mixup", "cutmix", "fourier_mix"
]
AUGMENTATIONS = get_args(AugmentationName)
GROUP = 8
"""Images that share operations in `randaugment` and `augmix`; 1 is several times slower on small
images."""
CHAINS = 3
"""Chains of operations that `augmix` blends; each has 1 to 3 operations."""

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
    - `augmix` blends each image with a blend of three chains of one to three of these operations.
      Each image has its own weights ~ Dirichlet(1, 1, 1) and its own share ~ Beta(1, 1) of them.
    - `gridmask` makes a grid of black squares in four of five images. Their distance is 0.4 to 1
      times the shorter side of the image, their side 0.4 times the distance.
    - `mixup` blends each image and its label with another one of the batch, weight
      ~ Beta(0.2, 0.2).
    - `cutmix` pastes a box of another image of the batch into each image and mixes the labels in
      proportion to the areas.
    - `fourier_mix` does the same with an area of any shape: the pixels where low-frequency noise
      is largest. Its share ~ Beta(1, 1). Amplitudes fall with the third power of the frequency.

    Reference:
        Cubuk et al., RandAugment, 2020. https://arxiv.org/abs/1909.13719
        Hendrycks et al., AugMix, 2020, algorithm 1. https://arxiv.org/abs/1912.02781
        Chen et al., GridMask Data Augmentation, 2020, section 3.2.
        https://arxiv.org/abs/2001.04086
        Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018, eq. 1.
        https://arxiv.org/abs/1710.09412
        Yun et al., CutMix, 2019, eq. 1. https://arxiv.org/abs/1905.04899
        Harris et al., FMix: Enhancing Mixed Sample Data Augmentation, 2020, section 4.
        https://arxiv.org/abs/2002.12047

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
        case "randaugment" | "augmix":
            change = partial(
                _rand_augment if name == "randaugment" else _augmix, _operations(input_shape)
            )
            return lambda images, labels, seed: (_by_groups(change, images, seed), labels)
        case "gridmask":
            return lambda images, labels, seed: (_grid_mask(images, seed), labels)
        case "fourier_mix":
            return _fourier_mix
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


def _by_groups(
    change: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor],
    images: tf.Tensor,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Changes `GROUP` images at a time.

    Args:
        change: From images `(GROUP, height, width, channels)`, the number of the group and the seed
            to the changed images.
        images: `(batch, height, width, channels)`.
        seed: int32 `(2,)`.
    """
    count, shape = tf.shape(images)[0], images.shape
    groups = tf.reshape(
        tf.pad(images, [(0, -count % GROUP), (0, 0), (0, 0), (0, 0)]), (-1, GROUP, *shape[1:])
    )
    changed = tf.map_fn(
        lambda numbered: change(numbered[0], numbered[1], seed),
        (groups, tf.range(tf.shape(groups)[0])),
        fn_output_signature=tf.float32,
    )
    return tf.ensure_shape(tf.reshape(changed, (-1, *shape[1:]))[:count], shape)


def _drawn(operations: list[keras.layers.Layer], images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Applies one operation, drawn for all images together."""
    choice = tf.random.stateless_uniform((), seed, 0, len(operations), tf.int32)
    branches = [
        # The default argument binds the layer of this turn.
        lambda layer=layer: tf.ensure_shape(_pure(layer, images, seed), images.shape)
        for layer in operations
    ]
    return tf.clip_by_value(tf.switch_case(choice, branches), 0.0, 1.0)


def _chain(operations, images: tf.Tensor, first: tf.Tensor, length: tf.Tensor, seed: tf.Tensor):
    """Applies some operations one after the other; the draws are numbered from `first` on."""
    # A loop holds each operation once in the graph, which is what takes time to build.
    _, changed = tf.while_loop(
        lambda draw, _: draw < first + length,
        lambda draw, one: (draw + 1, _drawn(operations, one, tf.random.fold_in(seed, draw))),
        (first, images),
    )
    return changed


def _rand_augment(
    operations: list[keras.layers.Layer], images: tf.Tensor, number: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    return _chain(operations, images, 2 * number, 2, seed)


def _augmix(
    operations: list[keras.layers.Layer], images: tf.Tensor, number: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    chain_seed, *seeds = tf.unstack(tf.random.split(tf.random.fold_in(seed, number), 4))
    lengths = tf.random.stateless_uniform((CHAINS,), seeds[0], 1, 4, tf.int32)
    chains = tf.map_fn(
        lambda chain: _chain(operations, images, 3 * chain, lengths[chain], chain_seed),
        tf.range(CHAINS),
        fn_output_signature=tf.float32,
    )
    # Exponential draws, divided by their sum, are distributed as Dirichlet(1, ..., 1).
    draws = tf.random.stateless_gamma((CHAINS, GROUP, 1, 1, 1), seeds[1], 1.0)
    blend = tf.reduce_sum(chains * draws / tf.reduce_sum(draws, axis=0), axis=0)
    share = tf.random.stateless_uniform((GROUP, 1, 1, 1), seeds[2])
    return tf.clip_by_value((1 - share) * images + share * blend, 0.0, 1.0)


def _grid_mask(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    count, height, width, _ = tf.unstack(tf.shape(images))
    draws = tf.random.stateless_uniform((4, count, 1), seed)
    unit = (0.4 + 0.6 * draws[0]) * tf.cast(tf.minimum(height, width), tf.float32)

    def is_masked(size, offset):  # (batch, size)
        pixels = tf.range(size, dtype=tf.float32)
        return tf.math.floormod(pixels + offset * unit, unit) < 0.4 * unit

    masked = is_masked(height, draws[1])[:, :, None] & is_masked(width, draws[2])[:, None]
    masked &= draws[3][:, None] < 0.8
    return tf.where(masked[..., None], 0.0, images)


def _fourier_mix(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    count, height, width, _ = tf.unstack(tf.shape(images))
    seeds = tf.random.split(seed, 3)
    # Cycles per pixel, as `numpy.fft.fftfreq` and `rfftfreq` give them.
    rows = tf.cast((tf.range(height) + height // 2) % height - height // 2, tf.float32)
    rows /= tf.cast(height, tf.float32)
    columns = tf.range(width // 2 + 1, dtype=tf.float32) / tf.cast(width, tf.float32)
    frequency = tf.sqrt(rows[:, None] ** 2 + columns**2)
    amplitude = 1 / tf.maximum(frequency, 1 / tf.cast(tf.maximum(height, width), tf.float32)) ** 3
    noise = tf.random.stateless_normal((2, count, height, width // 2 + 1), seeds[0])
    spectrum = tf.complex(noise[0] * amplitude, noise[1] * amplitude)
    levels = tf.reshape(tf.signal.irfft2d(spectrum, [height, width]), [count, -1])
    share = tf.random.stateless_uniform((count, 1), seeds[1])
    pixels = tf.cast(height * width, tf.float32)
    # The rank of each pixel, 0 for the largest.
    ranks = tf.argsort(tf.argsort(levels, direction="DESCENDING"))
    mask = tf.cast(tf.cast(ranks, tf.float32) < tf.round(share * pixels), tf.float32)
    partner = tf.argsort(tf.random.stateless_uniform([count], seeds[2]))
    kept, area = tf.reduce_mean(mask, axis=1)[:, None], tf.reshape(mask, [count, height, width, 1])
    return (
        area * images + (1 - area) * tf.gather(images, partner),
        kept * labels + (1 - kept) * tf.gather(labels, partner),
    )
