"""Objects in images as YOLO describes them: a .txt file for each image, in shares of its size."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from data.annotations import (
    IMAGE_SUFFIXES,
    Annotated,
    AnnotatedImage,
    Annotation,
    without_annotation,
)
from data.labeled_files import files_below
from data.sources import BadData, Evaluated, Fault, Finding, listed, split_named, splits_to_read
from data.text_files import read_text


def is_format(root: Path) -> bool:
    """Whether there are names of classes and a folder named labels."""
    folders = (folder for pattern in ("labels", "*/labels") for folder in root.glob(pattern))
    return root.is_dir() and _table(root) is not None and any(folders)


def read(root: Path, evaluated: Evaluated | None) -> Annotated:
    """Reads data.yaml or classes.txt, `images/**` and `labels/**`.

    The split is the name of a folder, such as train in images/train/ or train/images/. Each line of
    a file in labels/ is `class cx cy w h`, or a polygon `class x1 y1 x2 y2 ...`, in shares of the
    width and height. A class is a number from 0. data.yaml has a list or dict of names, classes.txt
    a name per line. An image with an empty file has no objects.

    Args:
        root: The folder.
        evaluated: As in `data.splits.dealt`.
    """
    names = _names(root)
    known = listed([f"{number} {name}" for number, name in names.items()])
    found = dict(_below(root, "labels", (".txt",)))
    texts = {key: path for key, path in found.items() if path != _table(root)}
    pictures = dict(_below(root, "images", IMAGE_SUFFIXES))
    wanted = splits_to_read(map(_split, pictures), evaluated)
    images: list[AnnotatedImage] = []
    findings: list[Finding] = []
    left = 0
    for key, picture in pictures.items():
        where, split = picture.relative_to(root).as_posix(), _split(key)
        if split not in wanted:
            left += 1
        elif key not in texts:
            fix = f"add {key.name}.txt to the labels, empty if the image shows no object"
            findings.append(without_annotation(where, "an image", fix))
        else:
            things, faults = _things(root, texts[key], names, known)
            findings += faults
            images.append(AnnotatedImage(str(picture), where, split, tuple(things), relative=True))
    findings += [
        Fault(texts[key].relative_to(root).as_posix(), "labels without image", "an image for them")
        for key in texts
        if key not in pictures and _split(key) in wanted
    ]
    if left:
        findings.append(f"Not read: {left:,} images of other splits.")
    return Annotated(images, findings, tuple(names.values()))


def _below(root: Path, kind: str, suffixes: tuple[str, ...]) -> Iterator[tuple[Path, Path]]:
    """Yields the files below folders of a name; the key of each is its path without that name."""
    for path in files_below(root):
        parts = path.relative_to(root).parts
        if kind in parts[:-1] and path.suffix.lower() in suffixes:
            at = parts.index(kind)
            yield Path(*parts[:at], *parts[at + 1 : -1], path.stem), path


def _split(key: Path) -> str:
    """Returns the split that a folder of an image is named after."""
    named = (split_named(part, word=True) for part in key.parts[:-1])
    return next((split for split in named if split), "")


def _table(root: Path) -> Path | None:
    """Finds the file with the names of the classes."""
    names = ("data.yaml", "data.yml", "classes.txt", "labels/classes.txt")
    return next((root / name for name in names if (root / name).is_file()), None)


def _names(root: Path) -> dict[int, str]:
    """Reads the names of the classes by their numbers."""
    path = _table(root)
    expected = "data.yaml with a list or dict of names, or classes.txt with a name per line"
    if path is None:
        raise BadData(str(root), [Fault(str(root), "no such file", expected, skippable=False)])
    if path.suffix == ".txt":
        lines = [line.strip() for line in read_text(path).split("\n")]
        return dict(enumerate(line for line in lines if line))
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        fault = Fault(path.name, f"invalid YAML ({error})", expected, skippable=False)
        raise BadData(str(root), [fault]) from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(key, int) for key in names):
        fault = Fault(path.name, f"the names {names!r}", expected, skippable=False)
        raise BadData(str(root), [fault])
    return {number: str(name) for number, name in sorted(names.items())}


def _things(
    root: Path, path: Path, names: dict[int, str], known: str
) -> tuple[list[Annotation], list[Finding]]:
    """Reads the objects of one file; returns the faults of its lines, too."""
    things: list[Annotation] = []
    faults: list[Finding] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        where = f"{path.relative_to(root).as_posix()} line {number}"
        if not line.strip():
            continue
        try:
            label, *values = (float(word) for word in line.split())
        except ValueError:
            faults.append(Fault(where, f"{line[:40]!r}", "numbers only"))
            continue
        if label not in names:
            faults.append(Fault(where, f"class {label:g}", f"a class of the data ({known})"))
        elif len(values) == 4:
            (x, y), (width, height) = values[:2], values[2:]
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            things.append(Annotation(where, names[int(label)], box))
        elif len(values) >= 6 and len(values) % 2 == 0:
            xs, ys = values[::2], values[1::2]
            box = (min(xs), min(ys), max(xs), max(ys))
            things.append(Annotation(where, names[int(label)], box, mask=[values]))
        else:
            received = f"{len(values) + 1} numbers"
            faults.append(Fault(where, received, "class cx cy w h, or a class and a polygon"))
    return things, faults
