"""What damaged picture files do to the decoding graph: any that ends the process is a crash.

Small files of every format, whole and changed at random from a seed, are decoded in a process of
their own. The file at which it crashes or takes too long is kept, and the next process continues
after it; memory may have been damaged by an earlier file. Files as large as a server refuses
are not decoded.

Example:

    python -m benchmarks.image_fuzzer --files 100000
"""

import collections
import io
import multiprocessing
import os
import random
import struct
import sys
import time
import zlib
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tyro
from PIL import Image

from benchmarks.serving_hostile import mutated
from preprocessing.images import decode
from serving.server.image_size import image_size

MOST_PIXELS = 2**22
"""Larger images are not decoded; a server has such a bound, too."""
MOST_CRASHES = 20
SHAPE = (16, 16, 3)


@dataclass(frozen=True)
class Config:
    files: int = 20_000
    """Files to decode."""
    seed: int = 0
    """Seeds the changes."""
    bare: bool = False
    """Call only tf.io.decode_image, without the checks of the graph: shows that crashes are
    found."""
    seconds: float = 60.0
    """The longest that one file may take; loading TensorFlow counts as part of the first."""
    out: Path = Path("saved_models/image_fuzzer")
    """Folder for the files that crash."""


def whole_files() -> list[bytes]:
    """Small pictures of each format and mode."""
    levels = np.random.default_rng(0).integers(0, 256, (9, 13, 4), np.uint8)
    color, clear = Image.fromarray(levels[..., :3]), Image.fromarray(levels)
    gray, deep = color.convert("L"), Image.fromarray(levels[..., 0].astype(np.uint16) * 200)
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "a maker", 6
    pair = {"save_all": True, "append_images": [color.transpose(Image.Transpose.ROTATE_180)]}
    chosen = [
        *((image, "JPEG", {}) for image in (color, gray, color.convert("CMYK"))),
        *((color, "JPEG", options) for options in ({"progressive": True}, {"exif": tags})),
        *((image, "PNG", {}) for image in (color, clear, gray, deep, color.quantize(9))),
        *((image, "PNG", {"exif": tags}) for image in (gray.convert("LA"), gray.convert("1"))),
        *((image, "BMP", {}) for image in (color, clear, gray, color.quantize(9))),
        *((color.quantize(9), "GIF", options) for options in ({}, {"interlace": 1}, pair)),
        *((image, "WEBP", {"lossless": True}) for image in (color, clear)),
        *((color, "WEBP", options) for options in ({"quality": 50}, {"exif": tags}, pair)),
        *((clear, "WEBP", options) for options in ({"quality": 50, "exif": tags}, pair)),
    ]
    files = []
    for image, name, options in chosen:
        buffer = io.BytesIO()
        image.save(buffer, name, **options)
        files.append(buffer.getvalue())
    return files


def with_checksums(png: bytes) -> bytes:
    """Corrects the checksums of a PNG, without which a change gets no further than to them."""
    content, at = bytearray(png), 8
    while at + 12 <= len(content):
        end = at + 8 + struct.unpack_from(">I", content, at)[0]
        if end + 4 > len(content):
            break
        struct.pack_into(">I", content, end, zlib.crc32(content[at + 4 : end]))
        at = end + 4
    return bytes(content)


def changed_file(files: list[bytes], seed: int, index: int) -> bytes:
    """Makes the file of an index: first each whole one, then changed ones."""
    if index < len(files):
        return files[index]
    rng = random.Random(f"{seed}/{index}")
    content = mutated(rng, rng.choice(files))
    return with_checksums(content) if content[:4] == b"\x89PNG" else content


def decode_all(config: Config, first: int, results: Connection) -> None:
    """Decodes in this process; sends what became of each file once that is known."""
    files = whole_files()

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def pixels(content):
        if config.bare:
            return tf.io.decode_image(content, expand_animations=False)
        return decode(content, SHAPE)

    for index in range(first, config.files):
        content = changed_file(files, config.seed, index)
        height, width = image_size(content)
        if height * width > MOST_PIXELS:
            results.send("too large")
            continue
        try:
            pixels(tf.constant(content))
            results.send("decoded")
        except tf.errors.InvalidArgumentError:
            results.send("refused")
        except tf.errors.OpError as error:
            results.send(type(error).__name__)


def outcomes(config: Config, first: int, counts: collections.Counter[str]) -> tuple[int, str]:
    """Runs a process from one file on; returns where it ended, and why if that was too early."""
    context = multiprocessing.get_context("spawn")
    results, sent = context.Pipe(duplex=False)
    process = context.Process(target=decode_all, args=(config, first, sent))
    process.start()
    sent.close()
    index, why = first, ""
    try:
        while results.poll(config.seconds):
            counts[results.recv()] += 1
            index += 1
        why = f"no answer in {config.seconds:.0f} s"
    except EOFError:
        process.join()
        why = f"exit status {process.exitcode}" if process.exitcode else ""
    process.kill()
    process.join()
    return index, why


def main(config: Config) -> int:
    """Returns the number of files that crash."""
    # The C library checks the heap at each call, so that a damage shows where it is done.
    os.environ |= {"MALLOC_CHECK_": "3", "LD_PRELOAD": "libc_malloc_debug.so.0"}
    counts: collections.Counter[str] = collections.Counter()
    crashes = index = 0
    begin = time.monotonic()
    while index < config.files and crashes < MOST_CRASHES:
        index, why = outcomes(config, index, counts)
        if why:
            config.out.mkdir(parents=True, exist_ok=True)
            path = config.out / f"{config.seed}-{index}"
            path.write_bytes(changed_file(whole_files(), config.seed, index))
            print(f"{path}: {why}", flush=True)
            crashes, index = crashes + 1, index + 1
    found = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    print(f"{index} files in {time.monotonic() - begin:.0f} s: {found}, {crashes} crashes")
    return crashes


if __name__ == "__main__":
    sys.exit(min(main(tyro.cli(Config, description=__doc__)), 1))
