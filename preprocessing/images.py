"""Encoded images as pixels, with TensorFlow operations only."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing import exif

Decoder = Callable[[tf.Tensor], tf.Tensor]

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WebP")
"""The formats that are decoded."""
UNKNOWN = "an unknown format"
_LISTED = "JPEG, PNG, BMP, GIF or WebP"

_MARKS = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("BMP", b"BM"),
    ("GIF", b"GIF87a"),
    ("GIF", b"GIF89a"),
    ("animated WebP", b"RIFF????WEBPVP8X????\x02"),
    ("WebP", b"RIFF????WEBPVP8"),
    ("TIFF", b"II*\0"),
    ("TIFF", b"MM\0*"),
    *(("HEIC", b"????ftyp" + brand) for brand in (b"hei", b"hev", b"mif1", b"msf1")),
    ("AVIF", b"????ftypavi"),
    ("a video (MP4, MOV)", b"????ftyp"),
    ("JPEG XL", b"\xff\x0a"),
    ("JPEG XL", b"\0\0\0\x0cJXL "),
    ("JPEG 2000", b"\0\0\0\x0cjP  "),
    ("PDF", b"%PDF"),
    (UNKNOWN, b""),
)
"""First bytes of files. A question mark matches any byte. The first match decides."""
_NAMES, _FIRST_BYTES = zip(*_MARKS, strict=True)
_HEAD = 21
_PATTERNS = np.array([list(mark.ljust(_HEAD, b"?")) for mark in _FIRST_BYTES], np.uint8)
_MASKS = np.where(np.equal(_PATTERNS, ord("?")), 0, 0xFF).astype(np.uint8)
_MASKS[_NAMES.index("animated WebP"), 20] = 0x02  # One flag among others in that byte.


def kind(image_bytes: tf.Tensor) -> tf.Tensor:
    """Names the format of files by their first bytes.

    Args:
        image_bytes: The content of the files, strings of any shape.

    Returns:
        Strings of the same shape: one of `FORMATS`, or the name of a format that is not decoded,
        such as `HEIC`, or `UNKNOWN`.

    Example:
        >>> kind(tf.constant([b"GIF89a...", b"MM\\0*...", b"hello"])).numpy().tolist()
        [b'GIF', b'TIFF', b'an unknown format']
    """
    head = tf.io.decode_raw(image_bytes, tf.uint8, fixed_length=_HEAD)  # Ends with zeros.
    bits = tf.bitwise.bitwise_and(head[..., None, :], _MASKS)
    fits = tf.reduce_all(bits == _PATTERNS & _MASKS, axis=-1)  # (..., marks)
    return tf.gather(tf.constant(_NAMES), tf.argmax(fits, axis=-1))


def decode(image_bytes: tf.Tensor, input_shape: tuple[int, int, int]) -> tf.Tensor:
    """Decodes one JPEG, PNG, BMP, GIF or WebP image to the input shape of a network.

    It decodes the first frame of a GIF (transparent pixels are black, as in TensorFlow) and the
    upper 8 bits of 16-bit PNG. Transparent pixels of PNG and WebP are blended with white, as in an
    image viewer; the alpha channel of BMP is ignored. Grayscale is 0.299 R + 0.587 G + 0.114 B.
    JPEG, PNG and WebP are turned upright by their EXIF orientation.

    The image is resized by bilinear interpolation, with antialiasing when it shrinks. This may
    change the aspect ratio.

    Args:
        image_bytes: The encoded image, string `()`.
        input_shape: `(height, width, channels)`, channels 1 or 3.

    Returns:
        uint8 `(height, width, channels)`.
    """
    return _fitted(decoded(image_bytes), input_shape)


def _fitted(pixels: tf.Tensor, input_shape: tuple[int, int, int]) -> tf.Tensor:
    """Turns the pixels of an image into the input shape of a network."""
    height, width, channels = input_shape
    pixels = with_channels(pixels, channels)
    size = tf.shape(pixels)[:2]

    def resized():
        # Antialiasing is slow, and has no effect unless the image shrinks.
        smooth = tf.cond(
            tf.reduce_any(size > (height, width)),
            lambda: tf.image.resize(pixels, (height, width), antialias=True),
            lambda: tf.image.resize(pixels, (height, width)),
        )
        return _rounded(smooth)

    fitting = tf.cond(tf.reduce_all(size == (height, width)), lambda: pixels, resized)
    return tf.ensure_shape(fitting, input_shape)


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def decoded(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decodes to upright uint8 `(height, width, 1 to 4)`: gray, gray + alpha, RGB or RGB + alpha.

    A decoder gets only formats that it is known to survive. `tf.io.decode_image` also decodes JPEG
    XL, and writes beyond its memory at an animated WebP without alpha: it allocates 3 bytes per
    pixel and fills 4.
    """

    def refused():
        message = f"`image_bytes` must hold a {_LISTED} image. Received:"
        with tf.control_dependencies([tf.debugging.Assert(False, [message, name])]):
            return tf.zeros((1, 1, 1), tf.uint8)

    name = kind(image_bytes)
    pixels = _by_format(name, lambda decoder: decoder(image_bytes), refused)
    return _upright(pixels, image_bytes, name)


def _by_format(name: tf.Tensor, read: Callable[[Decoder], Any], refused: Callable[[], Any]) -> Any:
    """Calls `read` with the decoder of a format, or `refused` if there is none."""
    is_known = tf.reduce_any(name == FORMATS)
    decoders = ((name == "JPEG", _jpeg), (name == "BMP", _bmp), (is_known, _other))
    return tf.case([(fits, partial(read, decoder)) for fits, decoder in decoders], refused)


def _upright(pixels: tf.Tensor, image_bytes: tf.Tensor, name: tf.Tensor) -> tf.Tensor:
    pixels = exif.turned(pixels, exif.orientation(image_bytes, name))
    return tf.ensure_shape(pixels, (None, None, None))


def _jpeg(image_bytes: tf.Tensor) -> tf.Tensor:
    # The accurate transform gives the same levels as other programs.
    return tf.io.decode_jpeg(image_bytes, dct_method="INTEGER_ACCURATE")


def _bmp(image_bytes: tf.Tensor) -> tf.Tensor:
    pixels = tf.io.decode_bmp(image_bytes)
    header = tf.cast(tf.io.decode_raw(image_bytes, tf.uint8, fixed_length=54), tf.int32)
    return tf.cond(
        header[28] == 8,
        lambda: _from_palette(image_bytes, header, pixels),
        lambda: pixels[..., :3],
    )


def _other(image_bytes: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(image_bytes, expand_animations=False)


def _from_palette(image_bytes: tf.Tensor, header: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Looks up the colors of an 8-bit BMP, because TensorFlow only decodes their indices.

    Reference: Microsoft, BITMAPINFOHEADER. The palette follows that header, four bytes (B, G, R,
    0) per color; a count of 0 means 256 colors.
    """
    start = 14 + header[14] + 256 * header[15]
    colors = header[46] + 256 * header[47]
    colors = tf.where(colors == 0, 256, colors)
    # An index beyond the end would quote the file, which is not text: Python fails to raise it.
    start = tf.minimum(start, tf.strings.length(image_bytes))
    palette = tf.io.decode_raw(tf.strings.substr(image_bytes, start, 4 * colors), tf.uint8)
    return tf.gather(tf.reshape(palette, (-1, 4))[:, 2::-1], tf.cast(indices[..., 0], tf.int32))


def with_channels(pixels: tf.Tensor, channels: int) -> tf.Tensor:
    """Turns uint8 pixels with 1 to 4 channels into uint8 pixels with 1 or 3."""

    def on_white():
        alpha = tf.cast(pixels[..., -1:], tf.float32) / 255.0
        return _rounded(tf.cast(pixels[..., :-1], tf.float32) * alpha + 255.0 * (1.0 - alpha))

    opaque = tf.cond(tf.shape(pixels)[-1] % 2 == 0, on_white, lambda: pixels)
    is_gray = tf.shape(opaque)[-1] == 1
    if channels == 3:
        return tf.cond(is_gray, lambda: tf.repeat(opaque, 3, axis=-1), lambda: opaque)
    luma = tf.constant([[0.299], [0.587], [0.114]])
    return tf.cond(
        is_gray,
        lambda: opaque,
        lambda: _rounded(tf.tensordot(tf.cast(opaque, tf.float32), luma, 1)),
    )


def _rounded(levels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(levels), tf.uint8)


def decode_batch(image_bytes: tf.Tensor, input_shape: tuple[int, int, int]) -> tf.Tensor:
    """Decodes a batch of images in parallel, for a server, as `decode_many` does.

    Args:
        image_bytes: The encoded images, string `(n,)`.
        input_shape: `(height, width, channels)`, channels 1 or 3.

    Returns:
        float32 `(n, height, width, channels)` in [0, 1].
    """
    return as_floats(decode_many(image_bytes, partial(_fitted, input_shape=input_shape)))


def decode_many(image_bytes: tf.Tensor, fit: Callable[[tf.Tensor], Any]) -> Any:
    """Decodes a batch of images in parallel, for a server.

    Fails with an InvalidArgumentError that lists the indices and the formats of all undecodable
    images. In a graph only a dataset can catch errors. It costs 1 to 2 ms per call, so for a
    single image, as in most requests, the dataset contains only the decoder.

    Args:
        image_bytes: The encoded images, string `(n,)`.
        fit: From the pixels of an image, as `decoded` returns them, to a nest of tensors of the
            same shapes for all images.

    Returns:
        The nest, with a first dimension of n.
    """
    images, bad = tf.cond(
        tf.size(image_bytes) == 1,
        lambda: _one(image_bytes, fit),
        lambda: _several(image_bytes, fit),
    )
    message = f"`image_bytes` must hold {_LISTED} images. Undecodable indices:"

    def received():
        kinds = kind(tf.gather(image_bytes, bad))
        is_damaged = tf.reduce_any(kinds[:, None] == FORMATS, axis=1)
        each = [tf.strings.as_string(bad), tf.where(is_damaged, "a damaged " + kinds, kinds)]
        return "Received: " + tf.strings.reduce_join(tf.strings.join(each, ": "), separator=", ")

    is_good = tf.size(bad) == 0
    facts = [message, bad, tf.cond(is_good, lambda: "", received)]
    with tf.control_dependencies([tf.debugging.Assert(is_good, facts, 1000)]):
        return tf.nest.map_structure(tf.identity, images)


def _one(image_bytes: tf.Tensor, fit: Callable[[tf.Tensor], Any]) -> tuple[Any, tf.Tensor]:
    """Decodes a batch of one image; returns what `_several` returns."""
    encoded = tf.gather(image_bytes, 0)
    name = kind(encoded)
    nothing = (tf.constant(False), tf.zeros((1, 1, 1), tf.uint8))

    def attempt(decoder):
        @tf.autograph.experimental.do_not_convert
        def attempted(content):
            return True, decoder(content)

        # Operations are slower inside a dataset, so it holds only the one that may fail.
        dataset = (
            tf.data.Dataset.from_tensors(encoded)
            .map(attempted)
            .ignore_errors()
            .concatenate(tf.data.Dataset.from_tensors(nothing))
        )
        return dataset.take(1).get_single_element()

    is_good, pixels = _by_format(name, attempt, lambda: nothing)
    fitted = fit(_upright(pixels, encoded, name))
    images = tf.nest.map_structure(lambda one: one[None], fitted)
    return images, tf.boolean_mask(tf.zeros(1, tf.int64), ~is_good[None])


def _several(image_bytes: tf.Tensor, fit: Callable[[tf.Tensor], Any]) -> tuple[Any, tf.Tensor]:
    """Decodes images in parallel.

    Returns:
        A nest of those that can be decoded, and the indices of the others, int64.
    """

    @tf.autograph.experimental.do_not_convert
    def numbered(index, encoded):
        return index, fit(decoded(encoded))

    # One additional blank image, so that the batch is not empty if all images are bad.
    blank = (tf.constant(-1, tf.int64), fit(tf.zeros((1, 1, 1), tf.uint8)))
    good = (
        tf.data.Dataset.from_tensor_slices(image_bytes)
        .enumerate()
        .map(numbered, num_parallel_calls=tf.data.AUTOTUNE)
        .ignore_errors()
        .concatenate(tf.data.Dataset.from_tensors(blank))
    )
    count = tf.size(image_bytes, out_type=tf.int64)
    indices, images = good.batch(count + 1).get_single_element()
    images = tf.nest.map_structure(lambda one: one[:-1], images)
    return images, tf.sets.difference(tf.range(count)[None], indices[None, :-1]).values


def as_floats(images: tf.Tensor) -> tf.Tensor:
    """Scales uint8 levels 0 to 255 to float32 in [0, 1], the input of networks."""
    return tf.cast(images, tf.float32) / 255.0
