"""Images with boxes at one fixed size: resized with their aspect kept, padded, augmented."""

from collections.abc import Callable

import tensorflow as tf

from preprocessing.images import as_floats, decode_many, decoded, with_channels

AUGMENTATIONS = ("none", "light", "large")
SCALES = {"light": (0.8, 1.25), "large": (0.1, 2.0)}
"""Minimum and maximum factor by which an augmented image is enlarged."""
LEAST_VISIBLE = 0.2
"""A cropped object of which less is visible becomes a region to ignore."""
CROWD = 3
"""Kind of a region to ignore, as in `data.objects.Objects`."""

Features = dict[str, tf.Tensor]
Paste = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def fitted(
    image_bytes: tf.Tensor, image_size: tuple[int, int], sides: tuple[int, int] | None = None
) -> Features:
    """Decodes an image upright, and resizes it to fit a size, padded right and below with black.

    The resizing keeps the aspect ratio exactly, with antialiasing when the image shrinks.

    Args:
        image_bytes: The encoded image, string `()`; see `preprocessing.images.decode`.
        image_size: `(height, width)` in pixels.
        sides: Maximum lengths of the shortest and of the longest side, in pixels. None: none.

    Returns:
        `pixels` uint8 `(height, width, 3)`; `scale` float32 `()`, by which coordinates in the
        upright image are multiplied; `true_size` int32 `(2,)`, the height and width without
        padding; `upright_size` int32 `(2,)`, those of the upright image.
    """
    return _fitted(decoded(image_bytes), image_size, sides)


def fitted_batch(
    image_bytes: tf.Tensor, image_size: tuple[int, int], sides: tuple[int, int] | None = None
) -> Features:
    """Does what `fitted` does for a batch of images, for a server.

    Args:
        image_bytes: The encoded images, string `(n,)`; see `preprocessing.images.decode_many`.
        image_size: `(height, width)` in pixels.
        sides: As in `fitted`.

    Returns:
        As `fitted`, with a first dimension of n, and pixels float32 in [0, 1].
    """
    return with_floats(decode_many(image_bytes, lambda pixels: _fitted(pixels, image_size, sides)))


def with_floats(image: Features) -> Features:
    """Scales the pixels to float32 in [0, 1], the input of networks."""
    return {**image, "pixels": as_floats(image["pixels"])}


def _fitted(
    pixels: tf.Tensor, image_size: tuple[int, int], sides: tuple[int, int] | None
) -> Features:
    pixels = with_channels(pixels, 3)
    size = tf.cast(tf.shape(pixels)[:2], tf.float32)
    scale = tf.reduce_min(tf.constant(image_size, tf.float32) / size)
    if sides:
        scale = tf.minimum(scale, tf.reduce_min(tf.constant(sides, tf.float32) / tf.sort(size)))
    true_size = _true_size(size * scale, image_size)
    return {
        "pixels": tf.cast(tf.round(_resized(pixels, image_size, scale, tf.zeros(2))), tf.uint8),
        "scale": scale,
        "true_size": true_size,
        "upright_size": tf.cast(size, tf.int32),
    }


def prepared(
    image_bytes: tf.Tensor,
    objects: Features,
    image_size: tuple[int, int],
    sides: tuple[int, int] | None = None,
) -> tuple[Features, Features]:
    """Prepares an example of `data.objects.Objects` for a network.

    Args:
        image_bytes: The encoded image, string `()`.
        objects: Its objects, boxes in pixels of the upright image, and `proposals`, if there are.
        image_size: `(height, width)` in pixels.
        sides: As in `fitted`.

    Returns:
        What `fitted` returns and the proposals, and the objects with their boxes in its pixels.
    """
    image = fitted(image_bytes, image_size, sides)
    if "proposals" in objects:
        image["proposals"] = objects["proposals"] * image["scale"]
        objects = {name: rows for name, rows in objects.items() if name != "proposals"}
    limit = _sides(image["true_size"])
    boxes = tf.clip_by_value(objects["boxes"] * image["scale"], 0.0, limit)
    return image, {**objects, "boxes": boxes}


def in_upright_image(boxes: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Returns boxes in pixels of a fitted image to those of the upright image.

    Args:
        boxes: float32 `(..., boxes, 4)` in pixels of the fitted image.
        scale: float32 `(...)`, from `fitted`.

    Returns:
        float32 `(..., boxes, 4)` in pixels of the upright image.
    """
    return boxes / scale[..., None, None]


def as_files(
    masks: tf.Tensor, boxes: tf.Tensor, sizes: tf.Tensor, count: tf.Tensor, paste: Paste
) -> tf.Tensor:
    """Returns masks of objects as PNG files of the size of their images, one at a time.

    Args:
        masks: Probabilities float32 `(images, objects, side, side)`.
        boxes: float32 `(images, objects, 4)` in pixels of the upright images.
        sizes: Height and width of each upright image, int32 `(images, 2)`.
        count: Number of objects in each image, int32 `(images,)`.
        paste: From a mask `(side, side)`, a box `(4,)`, height and width to bool `(height, width)`.

    Returns:
        string `(images, objects)`: levels of 0 and 255, "" beyond the count.
    """
    most = tf.shape(masks)[1]

    def file(row):
        image, place = row // most, row % most

        def drawn():
            height, width = tf.unstack(sizes[image])
            inside = paste(masks[image, place], boxes[image, place], height, width)
            return tf.io.encode_png(255 * tf.cast(inside, tf.uint8)[..., None])

        return tf.cond(place < count[image], drawn, lambda: "")

    rows = tf.range(tf.size(count) * most)
    spec = tf.TensorSpec((), tf.string)
    files = tf.map_fn(file, rows, fn_output_signature=spec, parallel_iterations=1)
    return tf.reshape(files, (tf.size(count), most))


def augmentation(
    name: str, vertical_flip: bool = False
) -> Callable[[Features, Features, tf.Tensor], tuple[Features, Features]]:
    """Builds `augment(images, objects, seed) -> (images, objects)` for batches, a pure function.

    - `none` changes nothing but the vertical flip, if there is one.
    - `light` mirrors half of the images left to right, enlarges by 0.8 to 1.25, and changes
      brightness, contrast and saturation by up to 20 %.
    - `large` does the same, enlarging by 0.1 to 2, as in large-scale jittering.

    Images that become larger are cropped at random, others are padded right and below. Boxes,
    masks, crowds and proposals follow. An object less than 20 % visible becomes a crowd, which is
    ignored; one outside the crop becomes padding.

    Reference:
        Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance
        Segmentation, 2021, section 3. https://arxiv.org/abs/2012.07177

    Args:
        name: One of `AUGMENTATIONS`.
        vertical_flip: Whether to turn half of the images upside down as well.

    Returns:
        A function of the batched results of `prepared`, with pixels as they are or from
        `with_floats`, and a seed, int32 `(2,)`.
    """
    if name not in AUGMENTATIONS:
        known = ", ".join(AUGMENTATIONS)
        raise ValueError(f"`name` must be one of {known}. Received: name={name!r}")

    def augment(images, objects, seed):
        if name == "none" and not vertical_flip:
            return images, objects
        count = tf.shape(images["scale"])[0]
        seeds = tf.random.split(seed, count)
        return tf.map_fn(
            lambda one: _augmented(*one, name, vertical_flip),
            (images, objects, seeds),
            fn_output_signature=tf.nest.map_structure(
                lambda rows: tf.TensorSpec(rows.shape[1:], rows.dtype), (images, objects)
            ),
        )

    return augment


def _augmented(
    image: Features, objects: Features, seed: tf.Tensor, name: str, vertical_flip: bool
) -> tuple[Features, Features]:
    """Augments one image."""
    height, width, _ = image["pixels"].shape
    draws = tf.random.stateless_uniform((8,), seed)
    does_mirror = [
        tf.constant(vertical_flip) & (draws[0] < 0.5),
        tf.constant(name != "none") & (draws[1] < 0.5),
    ]
    image, objects = _mirrored(image, objects, does_mirror)
    if name == "none":
        return image, objects
    least, most = SCALES[name]
    factor = least + (most - least) * draws[2]
    old_size = tf.cast(image["true_size"], tf.float32)
    new_size = old_size * factor
    spare = tf.maximum(new_size - (height, width), 0.0)
    offset = tf.round(draws[3:5] * spare)  # (y, x)
    true_size = _true_size(new_size - offset, (height, width))
    pixels = _resized(image["pixels"], (height, width), factor, -offset)
    is_float = image["pixels"].dtype.is_floating
    inside = _inside(true_size, (height, width))
    pixels = _recolored(pixels, inside, draws[5:], 1.0 if is_float else 255.0)
    moved = {
        **image,
        "pixels": pixels if is_float else tf.cast(tf.round(pixels), tf.uint8),
        "scale": image["scale"] * factor,
        "true_size": true_size,
    }
    if "proposals" in image:
        boxes = image["proposals"] * factor - _sides(offset)
        moved["proposals"] = tf.clip_by_value(boxes, 0.0, _sides(true_size))
    return moved, _cropped(objects, factor, offset, true_size)


def _mirrored(
    image: Features, objects: Features, does_mirror: list[tf.Tensor]
) -> tuple[Features, Features]:
    """Mirrors an image within its true size.

    Args:
        image: The image.
        objects: Its objects.
        does_mirror: Whether to exchange top and bottom, and left and right; bool `()`.
    """
    pixels, boxes = image["pixels"], objects["boxes"]
    masks, proposals = objects.get("masks"), image.get("proposals")
    for axis, does in enumerate(does_mirror):
        length = image["true_size"][axis]
        # The padding remains at the end.
        reversed_ = tf.roll(tf.reverse(pixels, [axis]), length - tf.shape(pixels)[axis], axis)
        pixels = tf.where(does, reversed_, pixels)
        boxes = tf.where(does, _mirrored_boxes(boxes, axis, length), boxes)
        if proposals is not None:
            proposals = tf.where(does, _mirrored_boxes(proposals, axis, length), proposals)
        if masks is not None:
            masks = tf.where(does, tf.reverse(masks, [axis + 1]), masks)
    boxes = tf.where(objects["kind"][:, None] > 0, boxes, 0.0)
    objects = {**objects, "boxes": boxes} | ({} if masks is None else {"masks": masks})
    image = {**image, "pixels": pixels} | ({} if proposals is None else {"proposals": proposals})
    return image, objects


def _mirrored_boxes(boxes: tf.Tensor, axis: int, length: tf.Tensor) -> tf.Tensor:
    """Exchanges top and bottom (axis 0), or left and right, of an image of this length."""
    low, high = (1, 3) if axis == 0 else (0, 2)
    sides, side = tf.unstack(boxes, axis=-1), tf.cast(length, tf.float32)
    sides[low], sides[high] = side - sides[high], side - sides[low]
    return tf.stack(sides, axis=-1)


def _cropped(
    objects: Features, factor: tf.Tensor, offset: tf.Tensor, true_size: tf.Tensor
) -> Features:
    """Scales, moves and clips objects.

    Args:
        objects: The objects of one image.
        factor: Enlargement, float32 `()`.
        offset: y and x of the first pixel that remains, float32 `(2,)`.
        true_size: Height and width that remain, int32 `(2,)`.
    """
    moved = objects["boxes"] * factor - _sides(offset)
    boxes = tf.clip_by_value(moved, 0.0, _sides(true_size))
    whole, seen = _area(moved), _area(boxes)
    visible = tf.math.divide_no_nan(seen, whole)
    kind = tf.where((objects["kind"] > 0) & (visible < LEAST_VISIBLE), CROWD, objects["kind"])
    kind = tf.where(seen > 0, kind, 0)
    is_there = kind > 0
    changed = {
        "boxes": tf.where(is_there[:, None], boxes, 0.0),
        "classes": tf.where(is_there, objects["classes"], 0),
        "kind": kind,
    }
    if "masks" in objects:
        changed["masks"] = _cropped_masks(objects["masks"], moved, boxes, is_there)
    return {**objects, **changed}


def _cropped_masks(
    masks: tf.Tensor, whole: tf.Tensor, boxes: tf.Tensor, is_there: tf.Tensor
) -> tf.Tensor:
    """Cuts masks `(objects, side, side)`, which were cut to whole boxes, to the clipped boxes."""
    side = masks.shape[1]
    centers = (tf.range(side, dtype=tf.float32) + 0.5) / side
    for axis, (low, high) in enumerate([(1, 3), (0, 2)], start=1):
        positions = boxes[:, low, None] + centers * (boxes[:, high] - boxes[:, low])[:, None]
        length = (whole[:, high] - whole[:, low])[:, None]
        cells = side * tf.math.divide_no_nan(positions - whole[:, low, None], length)
        cells = tf.clip_by_value(tf.cast(cells, tf.int32), 0, side - 1)  # (objects, side)
        masks = tf.gather(masks, cells, axis=axis, batch_dims=1)
    return tf.where(is_there[:, None, None], masks, 0)


def _resized(
    pixels: tf.Tensor, image_size: tuple[int, int], scale: tf.Tensor, shift: tf.Tensor
) -> tf.Tensor:
    """Scales and moves an image.

    Args:
        pixels: `(height, width, channels)`.
        image_size: `(height, width)` of the result.
        scale: float32 `()`: x in the image becomes `scale * x + shift`.
        shift: y and x, float32 `(2,)`, in pixels of the result.

    Returns:
        float32 `(*image_size, channels)`, 0 where the image does not reach.
    """
    resized = tf.raw_ops.ScaleAndTranslate(
        images=pixels[None],
        size=image_size,
        scale=tf.stack([scale, scale]),
        translation=shift,
        kernel_type="triangle",
        antialias=True,
    )
    return tf.ensure_shape(resized[0], (*image_size, 3))


def _true_size(size: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Returns the number of rows and columns of pixels whose centers are in an image, at least 1.

    Args:
        size: Height and width of the image after resizing, float32 `(2,)`.
        image_size: Height and width in which it is.
    """
    return tf.clip_by_value(tf.cast(tf.round(size), tf.int32), 1, image_size)


def _inside(true_size: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Returns 1 for the pixels of the image and 0 for the padding, float32 `(height, width, 1)`."""
    rows, columns = (tf.range(side) < true_size[axis] for axis, side in enumerate(image_size))
    return tf.cast(rows[:, None, None] & columns[:, None], tf.float32)


def _sides(size: tf.Tensor) -> tf.Tensor:
    """Returns `(x, y, x, y)` float32 for a `(y, x)`."""
    return tf.tile(tf.cast(size[::-1], tf.float32), [2])


def _area(boxes: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), axis=-1)


def _recolored(pixels: tf.Tensor, inside: tf.Tensor, draws: tf.Tensor, largest: float) -> tf.Tensor:
    """Changes brightness, contrast and saturation by up to 20 %, by draws in [0, 1).

    Args:
        pixels: `(height, width, 3)`, float32.
        inside: 1 in the image and 0 in the padding, `(height, width, 1)`.
        draws: float32 `(3,)`.
        largest: The level of white.
    """
    brightness, contrast, saturation = tf.unstack(0.8 + 0.4 * draws)
    gray = tf.tensordot(pixels, tf.constant([[0.299], [0.587], [0.114]]), 1) * inside
    colored = gray + saturation * (pixels - gray)
    mean = tf.reduce_sum(gray) / tf.reduce_sum(inside)
    changed = brightness * (mean + contrast * (colored - mean))
    return tf.clip_by_value(changed, 0.0, largest) * inside
