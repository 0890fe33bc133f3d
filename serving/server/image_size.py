"""The number of pixels of an encoded image, read from its header like TensorFlow does.

It is as lenient as the decoders: files that TensorFlow would decode must not count as none.
"""

import struct
from collections.abc import Callable

MOST_STEPS = 2**16
"""Maximum number of parts of a file that are read; a file with more before its size is endless."""
MOST_BLOCKS = 2**20
"""Blocks of a frame of a GIF that are looked at: 256 MiB of them, as programs write them."""
ENDLESS = (2**31, 2**31)

_PNG = b"\x89PNG\r\n\x1a\n"
_JXL_BOXES = b"\0\0\0\x0cJXL \r\n\x87\n"
_JXL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def image_size(content: bytes) -> tuple[int, int]:
    """Returns height and width of an image file; (0, 0) of what is none, or has no size in it.

    The frames of an animation count as if they lay below each other.

    Example:
        >>> image_size(b"GIF89a" + bytes([0, 0, 0, 0, 0, 0, 0, 44, 0, 0, 0, 0, 3, 0, 2, 0, 0]))
        (2, 3)
    """
    # Two bytes distinguish the formats, so texts cost next to nothing.
    reader = _READERS.get(content[:2])
    if reader is None:
        return 0, 0
    try:
        return reader(content)
    except (struct.error, IndexError):
        return 0, 0


def _png(content: bytes) -> tuple[int, int]:
    if not content.startswith(_PNG):
        return 0, 0
    at = len(_PNG)
    for _ in range(MOST_STEPS):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", content, at + 8)
            return height, width
        # Unknown chunks may precede it.
        at += 12 + length
    return ENDLESS


def _gif(content: bytes) -> tuple[int, int]:
    if content[:6] not in (b"GIF87a", b"GIF89a"):
        return 0, 0
    at = 13 + _color_table(content[10])
    frames = tallest = widest = 0
    try:
        for _ in range(MOST_STEPS):
            if content[at] == 0x2C:
                width, height, flags = struct.unpack_from("<HHB", content, at + 5)
                # Not the screen's size: a frame may be larger, and memory is allocated for frames.
                frames, tallest, widest = frames + 1, max(tallest, height), max(widest, width)
                at = _after_blocks(content, at + 11 + _color_table(flags))
            elif content[at] == 0x21:
                at = _after_blocks(content, at + 2)
            else:
                return frames * tallest, widest
    except IndexError:
        return frames * tallest, widest
    except OverflowError:
        pass
    return ENDLESS


def _color_table(flags: int) -> int:
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0


def _after_blocks(content: bytes, at: int) -> int:
    for _ in range(MOST_BLOCKS):
        if not content[at]:
            return at + 1
        at += 1 + content[at]
    raise OverflowError("More blocks than are looked at")


def _bmp(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", content, 18)
    # A pixel takes a byte at least, else it is not decoded: a text, such as "BMW ...".
    return (abs(height), abs(width)) if abs(height * width) <= len(content) else (0, 0)


def _jpeg(content: bytes) -> tuple[int, int]:
    at = 2
    for _ in range(MOST_STEPS):
        # Bytes before the next marker are skipped.
        at = content.find(b"\xff", at)
        while at >= 0 and content[at] == 0xFF:
            at += 1
        if at < 0 or content[at] in (0xD8, 0xD9, 0xDA):
            return 0, 0
        marker = content[at]
        at += 1
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD7:
            continue
        # Start of frame, but for the tables among its numbers.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, at + 3)
            return height, width
        at += struct.unpack_from(">H", content, at)[0]
    return ENDLESS


def _webp(content: bytes) -> tuple[int, int]:
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return 0, 0
    kind = content[12:16]
    if kind == b"VP8X":
        (width,) = struct.unpack("<I", content[24:27] + b"\0")
        (height,) = struct.unpack("<I", content[27:30] + b"\0")
        return (height + 1) * max(1, content.count(b"ANMF")), width + 1
    # The head of the one chunk may be left out.
    at = 20 if kind in (b"VP8 ", b"VP8L") else 12
    if content[at] == 0x2F:
        (bits,) = struct.unpack_from("<I", content, at + 1)
        return (bits >> 14) % 2**14 + 1, bits % 2**14 + 1
    width, height = struct.unpack_from("<HH", content, at + 6)
    return height % 2**14, width % 2**14


def _jpeg_xl_boxes(content: bytes) -> tuple[int, int]:
    if not content.startswith(_JXL_BOXES):
        return 0, 0
    at, stream = 0, b""
    for _ in range(MOST_STEPS):
        if len(stream) >= 16 or at >= len(content):
            return _jpeg_xl(stream)
        size, kind = struct.unpack_from(">I4s", content, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, at + 8)
            head = 16
        end = at + size if size else len(content)
        if end < at + head:
            return 0, 0
        if kind in (b"jxlc", b"jxlp"):
            begin = at + head + (4 if kind == b"jxlp" else 0)
            stream += content[begin : min(end, begin + 16)]
        at = end
    return ENDLESS


def _jpeg_xl(content: bytes) -> tuple[int, int]:
    if len(content) < 12:
        return 0, 0
    bits = int.from_bytes(content[2:12], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits % 2**count
        bits >>= count
        return value

    is_small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if is_small else take((9, 13, 18, 30)[take(2)]) + 1

    height, ratio = side(), take(3)
    if ratio:
        across, down = _JXL_RATIOS[ratio]
        return height, height * across // down
    return height, side()


_READERS: dict[bytes, Callable[[bytes], tuple[int, int]]] = {
    b"\x89P": _png,
    b"GI": _gif,
    b"BM": _bmp,
    b"\xff\xd8": _jpeg,
    b"RI": _webp,
    b"\xff\x0a": _jpeg_xl,
    b"\0\0": _jpeg_xl_boxes,
}
