"""Decoding against Pillow, for every format, mode and number of channels."""

import dataclasses
import io
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from benchmarks import image_fuzzer
from preprocessing.images import FORMATS, UNKNOWN, as_floats, decode, decode_batch, kind

HEIGHT, WIDTH = 30, 40


def smooth_image() -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(levels).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def with_alpha(image: Image.Image) -> Image.Image:
    ramp = np.linspace(0, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8)
    result = image.copy()
    result.putalpha(Image.fromarray(ramp))
    return result


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animated(**options) -> bytes:
    return encoded(COLOR, "WEBP", save_all=True, append_images=[GRAY.convert("RGB")], **options)


COLOR = smooth_image()
GRAY = COLOR.convert("L")
CASES = {
    "jpeg": encoded(COLOR, "JPEG", quality=95),
    "jpeg-progressive": encoded(COLOR, "JPEG", progressive=True),
    "jpeg-gray": encoded(GRAY, "JPEG"),
    "jpeg-cmyk": encoded(COLOR.convert("CMYK"), "JPEG", quality=95),
    "png": encoded(COLOR, "PNG"),
    "png-gray": encoded(GRAY, "PNG"),
    "png-gray-alpha": encoded(with_alpha(GRAY), "PNG"),
    "png-alpha": encoded(with_alpha(COLOR), "PNG"),
    "png-palette": encoded(COLOR.quantize(16), "PNG"),
    "png-palette-transparency": encoded(COLOR.quantize(16), "PNG", transparency=3),
    "png-1-bit": encoded(COLOR.convert("1"), "PNG"),
    "bmp": encoded(COLOR, "BMP"),
    "bmp-gray": encoded(GRAY, "BMP"),
    "bmp-palette": encoded(COLOR.quantize(16), "BMP"),
    "gif": encoded(COLOR.quantize(64), "GIF"),
    "gif-two-frames": encoded(
        COLOR.quantize(64), "GIF", save_all=True, append_images=[GRAY.quantize(9)]
    ),
    "webp": encoded(COLOR, "WEBP", lossless=True),
}


def pillow_levels(image_bytes: bytes, mode: str) -> np.ndarray:
    """What a viewer shows on a white page."""
    image = Image.open(io.BytesIO(image_bytes)).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(page, image).convert(mode), np.int32)


@pytest.mark.parametrize("image_bytes", CASES.values(), ids=CASES)
def test_color_equals_pillow(image_bytes):
    decoded = decode(tf.constant(image_bytes), (HEIGHT, WIDTH, 3)).numpy()
    assert decoded.shape == (HEIGHT, WIDTH, 3) and decoded.dtype == np.uint8
    assert np.abs(decoded - pillow_levels(image_bytes, "RGB")).max() <= 2


@pytest.mark.parametrize("image_bytes", CASES.values(), ids=CASES)
def test_gray_equals_pillow(image_bytes):
    decoded = decode(tf.constant(image_bytes), (HEIGHT, WIDTH, 1)).numpy()
    assert decoded.shape == (HEIGHT, WIDTH, 1)
    assert np.abs(decoded[..., 0] - pillow_levels(image_bytes, "L")).max() <= 2


def test_16_bit_png_keeps_its_upper_8_bits():
    levels = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 54).astype(np.uint16)
    png = encoded(Image.fromarray(levels), "PNG")
    decoded = decode(tf.constant(png), (HEIGHT, WIDTH, 1)).numpy()
    np.testing.assert_array_equal(decoded[..., 0], levels >> 8)


def test_alpha_of_bmp_is_dropped():
    transparent = Image.fromarray(
        np.dstack([np.asarray(COLOR), np.zeros((HEIGHT, WIDTH), np.uint8)])
    )
    decoded = decode(tf.constant(encoded(transparent, "BMP")), (HEIGHT, WIDTH, 3))
    np.testing.assert_array_equal(decoded, np.asarray(COLOR))


@pytest.mark.parametrize("size", [(15, 20), (7, 33), (60, 80)], ids=["half", "uneven", "double"])
def test_resizing_equals_pillow_bilinear(size):
    decoded = decode(tf.constant(CASES["png"]), (*size, 3)).numpy()
    resized = COLOR.resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.abs(decoded - np.asarray(resized, np.int32)).max() <= 1


def test_batch_is_scaled_to_1_and_keeps_its_order():
    encoded = tf.constant([CASES[name] for name in ("png", "jpeg-gray", "bmp")])
    floats = decode_batch(encoded, (12, 16, 3))
    assert floats.dtype == tf.float32
    each = [decode(image_bytes, (12, 16, 3)) for image_bytes in encoded]
    np.testing.assert_array_equal(floats, as_floats(tf.stack(each)))
    assert float(tf.reduce_max(floats)) <= 1.0


def test_batch_names_all_undecodable_images_and_the_process_lives():
    decode = tf.function(
        lambda batch: decode_batch(batch, (12, 16, 1)),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    good = CASES["png"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Undecodable indices.*\[1 3\]"):
        decode(tf.constant([good, b"text", good, good[:99]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[0\]"):
        decode(tf.constant([b""]))
    damaged_inside = good[:60] + bytes([good[60] ^ 255]) + good[61:]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[1\]"):
        decode(tf.constant([good, damaged_inside]))
    assert decode(tf.constant([good])).shape == (1, 12, 16, 1)
    assert decode(tf.constant([], tf.string)).shape == (0, 12, 16, 1)
    received = "Received: 1: a damaged PNG, 2: an unknown format, 3: HEIC"
    with pytest.raises(tf.errors.InvalidArgumentError, match=received):
        decode(tf.constant([good, good[:99], b"text", b"\0\0\0\x18ftypheic"]))


@pytest.fixture(scope="module")
def graph():
    """`decode_batch` as it is in an export."""
    return tf.function(
        lambda batch: decode_batch(batch, (12, 16, 3)),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


@pytest.mark.parametrize("image_bytes", CASES.values(), ids=CASES)
def test_an_image_alone_has_the_pixels_that_it_has_among_others(image_bytes, graph):
    alone = graph(tf.constant([image_bytes]))
    assert alone.shape == (1, 12, 16, 3)
    np.testing.assert_array_equal(alone, graph(tf.constant([image_bytes, CASES["png"]]))[:1])
    # A graph multiplies by 1 / 255, which rounds differently from a division.
    levels = as_floats(decode(tf.constant(image_bytes), (12, 16, 3)))
    np.testing.assert_allclose(alone[0], levels, atol=1e-7)


DAMAGED = {
    "PNG": CASES["png"][:60] + bytes([CASES["png"][60] ^ 255]) + CASES["png"][61:],
    "JPEG": CASES["jpeg"][:99],
    "BMP": CASES["bmp-palette"][:60],
    "GIF": CASES["gif"][:40],
    "WebP": CASES["webp"][:40],
}


@pytest.mark.parametrize("name", [*DAMAGED, "HEIC", UNKNOWN])
def test_an_undecodable_image_alone_is_named_as_among_others(name, graph):
    bad = {**DAMAGED, "HEIC": b"\0\0\0\x18ftypheic", UNKNOWN: b""}[name]
    said = f"a damaged {name}" if name in DAMAGED else name
    messages = []
    for batch in ([bad], [bad, CASES["png"]]):
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            graph(tf.constant(batch))
        (line,) = re.findall(r"assertion failed: .*?Received: [^\]]*\]", caught.value.message)
        messages.append(line)
    assert messages[0] == messages[1] and f"[0] [Received: 0: {said}]" in messages[0]


@pytest.mark.parametrize("size", [2, 40, 53, 60])
def test_bmp_that_ends_early_is_refused_in_words(size):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.constant(CASES["bmp-gray"][:size]), (12, 16, 3))


def test_bmp_whose_palette_would_lie_beyond_its_end_is_refused_in_words():
    far = CASES["bmp-gray"][:14] + b"\xff\xff" + CASES["bmp-gray"][16:]
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.constant(far), (12, 16, 3))


@pytest.mark.parametrize("flags", [0x02, 0x12, 0x3E, 0xFF])
def test_animated_webp_meets_no_decoder(flags):
    whole = animated()
    assert whole[12:16] == b"VP8X"
    marked = whole[:20] + bytes([flags]) + whole[21:]
    for content in (marked, marked[:21]):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)Received:.*animated WebP"):
            decode(tf.constant(content), (12, 16, 3))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Received: 1: animated WebP"):
        decode_batch(tf.constant([CASES["png"], marked]), (12, 16, 3))


@pytest.mark.slow
def test_process_that_gets_an_animated_webp_lives(tmp_path):
    """TensorFlow's own decoder writes beyond its memory, which ends the process."""
    (tmp_path / "animated.webp").write_bytes(animated())
    program = """
import sys, tensorflow as tf
from benchmarks import image_fuzzer
from preprocessing.images import decode_batch
batch = tf.constant([open(sys.argv[1], "rb").read()])
decode = tf.function(lambda batch: decode_batch(batch, (12, 16, 3)))
refused = 0
for _ in range(500):
    try:
        decode(batch)
    except tf.errors.InvalidArgumentError:
        refused += 1
print(refused)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "animated.webp")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == "500\n"


@pytest.mark.slow
def test_fuzzer_ends_the_decoder_alone_but_not_the_graph(tmp_path, monkeypatch):
    for name in ("LD_PRELOAD", "MALLOC_CHECK_"):
        monkeypatch.setenv(name, "")  # The fuzzer sets them; they go at the end of the test.
    few = image_fuzzer.Config(files=300, out=tmp_path)
    assert image_fuzzer.main(few) == 0
    assert image_fuzzer.main(dataclasses.replace(few, bare=True, files=60)) > 0
    assert list(tmp_path.iterdir())


def saved(kind: str) -> bytes:
    return encoded(COLOR, kind)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        *((CASES[name], name.split("-")[0]) for name in CASES),
        (animated(), "animated WebP"),
        (saved("AVIF"), "AVIF"),
        (saved("TIFF"), "TIFF"),
        (saved("JPEG2000"), "JPEG 2000"),
        (saved("PDF"), "PDF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1", "HEIC"),
        (b"\0\0\0\x18ftypisom", "a video (MP4, MOV)"),
        (b"\xff\x0a" + bytes(9), "JPEG XL"),
        (b"RIFF\0\0\0\0\xff\x0a" + bytes(9), UNKNOWN),
        (b"RIFF\0\0\0\0WAVEfmt ", UNKNOWN),
        (b"GIF88a" + bytes(99), UNKNOWN),
        (b"\x89PNG", UNKNOWN),
        (b"text", UNKNOWN),
        (b"", UNKNOWN),
    ],
)
def test_formats_are_told_apart_and_only_the_known_ones_decoded(content, name):
    found = kind(tf.constant(content)).numpy().decode()
    assert found == {known.lower(): known for known in FORMATS}.get(name, name)
    if found not in FORMATS:
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=f"(?s)must hold.*Received:.*{re.escape(found)}"
        ):
            decode(tf.constant(content), (12, 16, 3))
