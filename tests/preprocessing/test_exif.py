"""Orientation against Pillow, which turns images as EXIF says, and on broken files."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from preprocessing import exif
from preprocessing.images import decode, decode_batch, decoded, kind

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
UPRIGHT = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: np.rot90(PIXELS, -1),
    7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PIXELS),
}


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def found(image_bytes):
    return exif.orientation(image_bytes, kind(image_bytes))


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def upright(image_bytes):
    return decoded(image_bytes)


def encoded(orientation, form, **options):
    tags = Image.Exif()
    tags[0x010F] = "a maker, before it"
    tags[0x0112] = orientation
    tags[0x0132] = "2024:02:03 04:05:06"
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, form, exif=tags, **options)
    return buffer.getvalue()


def turned_by_pillow(image_bytes):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(image_bytes))))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_images_are_turned_as_pillow_turns_them(form, options, orientation):
    content = encoded(orientation, form, **options)
    pixels = upright(content)
    np.testing.assert_array_equal(pixels, UPRIGHT[orientation])
    np.testing.assert_array_equal(pixels, turned_by_pillow(content))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_turned_as_pillow_turns_it(orientation):
    content = encoded(orientation, "JPEG", quality=95)
    stored = tf.io.decode_jpeg(content, dct_method="INTEGER_ACCURATE").numpy()
    tags = Image.Exif()
    tags[0x0112] = orientation
    beside = io.BytesIO()
    Image.fromarray(stored).save(beside, "PNG", exif=tags)
    np.testing.assert_array_equal(upright(content), turned_by_pillow(beside.getvalue()))


def test_image_is_turned_before_it_is_resized():
    content = encoded(6, "PNG")
    resized = decode(tf.constant(content), (7, 5, 3))
    np.testing.assert_array_equal(resized, UPRIGHT[6])


def test_batch_of_a_server_is_turned():
    batch = tf.constant([encoded(orientation, "PNG") for orientation in (5, 6, 7, 8)])
    floats = tf.function(lambda batch: decode_batch(batch, (7, 5, 3)))(batch)
    expected = np.stack([UPRIGHT[orientation] for orientation in (5, 6, 7, 8)])
    np.testing.assert_allclose(floats, expected / 255, atol=1e-6)


def directory(order, orientation, *, kind=3, count=1, entries=1):
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    entry = struct.pack(order + "HHIHH", 0x0112, kind, count, orientation, 0)
    return head + struct.pack(order + "H", entries) + entry + bytes(4)


def jpeg(*segments):
    whole = encoded(1, "JPEG")
    assert whole[2:4] == b"\xff\xe0"
    own = 4 + struct.unpack_from(">H", whole, 4)[0]
    end = own + 2 + struct.unpack_from(">H", whole, own + 2)[0]
    return whole[:own] + b"".join(segments) + whole[end:]


def segment(content, marker=0xE1):
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def png(*, before=b"", after=b""):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    whole = buffer.getvalue()
    return whole[:33] + before + whole[33:-12] + after + whole[-12:]


def chunk(content, name=b"eXIf"):
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


PREFIX = b"Exif\0\0"
SIX = directory("<", 6)


@pytest.mark.parametrize(
    "content",
    [
        jpeg(segment(PREFIX + SIX)),
        jpeg(segment(PREFIX + directory(">", 6))),
        jpeg(segment(b"http://ns.adobe.com/xap/1.0/\0<x/>"), segment(PREFIX + SIX)),
        jpeg(b"\xff\xff", segment(PREFIX + SIX)),
        jpeg(segment(b"odd", 0xFE), segment(PREFIX + SIX)),
        png(before=chunk(SIX)),
        png(before=chunk(PREFIX + SIX)),
        png(before=chunk(b"x", b"tEXt") * 500, after=chunk(SIX)),
    ],
)
def test_exif_is_found_where_programs_put_it(content):
    assert found(content) == 6
    assert upright(content).shape == turned_by_pillow(content).shape == (7, 5, 3)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*\0",
        b"II",
        SIX[:16],
        b"XX" + SIX[2:],
        b"II*\0\xff\xff\xff\xff" + SIX[8:],
        b"II*\0\0\0\0\0",
        directory("<", 0),
        directory("<", 9),
        directory("<", 65535),
        directory("<", 6, kind=2),
        directory("<", 6, count=0),
        directory("<", 6, count=2**32 - 1),
        directory("<", 6, entries=0),
        SIX.replace(b"\x12\x01", b"\x13\x01"),
    ],
)
def test_broken_exif_counts_as_upright(block):
    for content in (png(before=chunk(block)), jpeg(segment(PREFIX + block))):
        assert found(content) == 1
        assert upright(content).shape == (5, 7, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe1",
        b"\xff\xd8\xff\xe1\0\0Exif\0\0" + SIX,
        b"\xff\xd8" + b"\xff" * 9999,
        b"\xff\xd8" + b"\xff\xe0\0\x02" * 9999,
        b"\xff\xd8\xff\xe1\xff\xffExif\0\0",
        b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffeXIf",
        b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffeXIe" + SIX,
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0none\0\0\0\0" * 9999,
        b"RIFF\0\0\0\0WEBPVP8X" + b"\xff" * 99,
        b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\x08",
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x08" + bytes(9) + b"EXIF\xff\xff\xff\xff",
        b"BM" + bytes(99),
    ],
)
def test_hostile_parts_neither_fail_nor_hang(content):
    assert found(content) == 1


def test_exif_of_a_webp_that_does_not_announce_it_is_ignored_as_by_pillow():
    content = encoded(6, "WEBP", lossless=True)
    assert found(content) == 6 and content[20] == 0x08
    silent = content[:20] + b"\0" + content[21:]
    assert found(silent) == 1
    np.testing.assert_array_equal(turned_by_pillow(silent), PIXELS)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_any_changed_or_missing_bytes_give_an_orientation(form):
    rng = random.Random(0)
    whole = encoded(6, form, lossless=True)
    for _ in range(150):
        content = bytearray(whole[: rng.randint(0, 2 * len(whole))])
        for _ in range(rng.randint(0, 4)):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
        assert 1 <= found(bytes(content)) <= 8
