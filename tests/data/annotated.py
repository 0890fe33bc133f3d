"""Writes small data sets of images with objects."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

SIDES = ("xmin", "ymin", "xmax", "ymax")


def encoded_image(seed: int, size: tuple[int, int] = (8, 10)) -> bytes:
    """Returns a PNG that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return tf.io.encode_png(pixels).numpy()


def write_voc(
    root: Path,
    name: str,
    things: Sequence[tuple[str, Sequence[float | str], int]],
    size: tuple[int, int] | None = (8, 10),
) -> None:
    """Adds an image to a folder in VOC's layout.

    Args:
        root: The folder.
        name: Name of the image.
        things: The class, the four sides and the `difficult` of each object.
        size: Declared `(height, width)`; None for none. The image has 8 x 10 pixels.
    """
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "JPEGImages" / f"{name}.png").write_bytes(encoded_image(zlib.crc32(name.encode())))
    lines = ["<annotation>"]
    if size:
        lines.append(f"<size><width>{size[1]}</width><height>{size[0]}</height></size>")
    for label, sides, difficult in things:
        box = "".join(f"<{side}>{value}</{side}>" for side, value in zip(SIDES, sides, strict=True))
        lines.append(f"<object><name>{label}</name><difficult>{difficult}</difficult>")
        lines.append(f"<bndbox>{box}</bndbox></object>")
    (root / "Annotations" / f"{name}.xml").write_text("\n".join([*lines, "</annotation>"]))
