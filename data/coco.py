"""Objects in images as COCO describes them: a .json file for each split, and images."""

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.annotations import (
    CROWD,
    IMAGE_SUFFIXES,
    OBJECT,
    Annotated,
    AnnotatedImage,
    Annotation,
)
from data.labeled_files import files_below
from data.sources import (
    SPLITS,
    BadData,
    Evaluated,
    Fault,
    Finding,
    is_hidden,
    listed,
    split_named,
    splits_to_read,
)
from data.text_files import given_by, read_text


def is_format(root: Path) -> bool:
    """Whether there are .json files with images and annotations."""
    return any(b'"annotations"' in path.read_bytes() for path in _tables(root))


def read(root: Path, evaluated: Evaluated | None) -> Annotated:
    """Reads a .json file, or one for each split, and the images that they name.

    The split is in the name of a file (instances_train2017.json) or of its folder
    (train/_annotations.coco.json). Files with captions alone are not read. If there are
    files instances_*.json, others are not read either. An image is looked for by its path relative
    to the file, and then by its name in all folders.
    Polygons and run lengths, compressed or not, are masks.

    Args:
        root: The folder or the file.
        evaluated: As in `data.splits.dealt`.
    """
    tables = {path: _content(path) for path in _tables(root)}
    tables = {path: content for path, content in tables.items() if _has_boxes(content)}
    instances = {path for path in tables if path.name.startswith("instances")} or {*tables}
    tables = {path: tables[path] for path in tables if path in instances}
    folder = root if root.is_dir() else root.parent
    files, findings = _splits(root, [*tables], evaluated)
    found = defaultdict(list)
    for path in files_below(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            found[path.name].append(path)
    images: list[AnnotatedImage] = []
    names: dict[str, None] = {}
    for split, path in files.items():
        try:
            some, faults, classes = _read_table(folder, path, tables[path], split, found)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            received = f"an entry without the usual content ({type(error).__name__}: {error})"
            fault = Fault(path.name, received, "lists of images and so on", skippable=False)
            raise BadData(str(root), [fault]) from error
        images += some
        findings += faults
        names |= dict.fromkeys(classes)
    read_ = {image.path for image in images}
    left = sum(str(path) not in read_ for some in found.values() for path in some)
    if left and not evaluated:
        some_images = "1 image" if left == 1 else f"{left:,} images"
        findings.append(f"Not read: {some_images} that no .json file lists.")
    return Annotated(images, findings, tuple(names))


def _tables(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() == ".json" else []
    folders = [root, *(one for one in sorted(root.iterdir()) if one.is_dir())]
    return [
        path
        for folder in folders
        for path in sorted(folder.glob("*.json"))
        if not is_hidden(path.name)
    ]


def _content(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        where, received = f"{path.name} line {error.lineno}", f"invalid JSON ({error.msg})"
        fault = Fault(where, received, "COCO's JSON", skippable=False)
        raise BadData(str(path), [fault]) from error


def _has_boxes(content: Any) -> bool:
    """Whether a .json file is one of COCO with objects; one with captions has no categories."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= {*content}


def _splits(
    root: Path, tables: list[Path], evaluated: Evaluated | None
) -> tuple[dict[str, Path], list[Finding]]:
    """Finds the file of each split; a single file holds all, unless its name is of a split."""
    named = {
        path: split_named(path.stem, word=True) or split_named(path.parent.name) for path in tables
    }
    if len(tables) == 1 and (root.is_file() or not named[tables[0]]):
        return {"": tables[0]}, []
    unnamed = [path.name for path, split in named.items() if not split]
    if unnamed or not tables:
        received = listed(unnamed) or "no such file"
        expected = "one .json file, or files with train, val and test in their names"
        raise BadData(str(root), [Fault(str(root), received, expected, skippable=False)])
    chosen: dict[str, Path] = {}
    for path, split in named.items():
        if split in chosen:
            received = f"both {chosen[split].name} and {path.name}"
            fault = Fault(f"the {split} split", received, "one file per split", skippable=False)
            raise BadData(str(root), [fault])
        chosen[split] = path
    read_ = splits_to_read(chosen, evaluated)
    files = {split: chosen[split] for split in SPLITS if split in chosen and split in read_}
    left = [path.name for split, path in chosen.items() if split not in read_]
    remarks: list[Finding] = [given_by(files)]
    return files, [*remarks, f"Not read: {listed(left)}."] if left else remarks


def _read_table(
    folder: Path, path: Path, content: dict[str, Any], split: str, found: Mapping[str, list[Path]]
) -> tuple[list[AnnotatedImage], list[Finding], list[str]]:
    """Reads the content of one file.

    Args:
        folder: The folder of the data.
        path: The file.
        content: Its content.
        split: Its split.
        found: The paths of all images by their names.

    Returns:
        The images, the findings, and the classes in the order of their ids.
    """
    categories = sorted(content["categories"], key=lambda one: one["id"])
    names = {one["id"]: str(one["name"]) for one in categories}
    annotations = content["annotations"]
    if annotations and all(one.get("iscrowd") == 1 for one in annotations):
        received = "iscrowd 1 in every annotation"
        fix = "set iscrowd to 0 where an annotation is a single object"
        fault = Fault(path.name, received, "single objects", fix, skippable=False)
        return [], [fault], [*names.values()]
    things: dict[Any, list[Annotation]] = defaultdict(list)
    findings: list[Finding] = []
    known = {one["id"] for one in content["images"]}
    for number, one in enumerate(annotations, 1):
        where = f"{path.name} annotation {one.get('id', number)}"
        if one.get("image_id") not in known:
            received = f"image_id {one.get('image_id')!r}"
            findings.append(Fault(where, received, "the id of one of the images"))
        elif one.get("category_id") not in names:
            ids = listed([f"{key} {name}" for key, name in names.items()])
            expected = f"a category_id that the file declares ({ids})"
            findings.append(Fault(where, f"{one.get('category_id')!r}", expected))
        else:
            thing = _annotation(where, one, names[one["category_id"]])
            if isinstance(thing, Fault):
                findings.append(thing)
            else:
                things[one["image_id"]].append(thing)
    images: list[AnnotatedImage] = []
    seen: set[str] = set()
    for one in content["images"]:
        name = str(one["file_name"]).replace("\\", "/")
        if name in seen:
            where = f"{path.name} image {name}"
            findings.append(Fault(where, "an image that is listed twice", "each image once"))
            continue
        seen.add(name)
        size = one.get("height"), one.get("width")
        declared = (int(size[0]), int(size[1])) if size[0] and size[1] else None
        picture = _picture(path, name, split, found)
        objects = tuple(things.get(one["id"], ()))
        where = Path(os.path.relpath(picture, folder)).as_posix()
        images.append(AnnotatedImage(str(picture), where, split, objects, declared))
    return images, findings, [*names.values()]


def _annotation(where: str, one: dict[str, Any], label: str) -> Annotation | Fault:
    """Reads one annotation: its bbox is x, y, width and height."""
    mask = one.get("segmentation") or None
    box = one.get("bbox") or None
    if box is None and mask is None:
        return Fault(where, "neither bbox nor segmentation", "a box or a mask")
    kind = CROWD if one.get("iscrowd") else OBJECT
    if box is None:
        return Annotation(where, label, None, kind, mask)
    try:
        x, y, width, height = (float(side) for side in box)
    except (TypeError, ValueError):
        return Fault(where, f"the bbox {box}", "x, y, width and height")
    return Annotation(where, label, (x, y, x + width, y + height), kind, mask)


def _picture(path: Path, name: str, split: str, found: Mapping[str, list[Path]]) -> Path:
    """Finds an image: by its path from the file, then by its name, preferably in the split."""
    beside = path.parent / name
    if beside.is_file():
        return beside
    paths = [one for one in found.get(Path(name).name, ()) if one.as_posix().endswith(f"/{name}")]
    in_split = [one for one in paths if split_named(one.parent.name, word=True) == split]
    return (in_split or paths or [beside])[0]
