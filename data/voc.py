"""Objects in images as PASCAL VOC describes them: an .xml file for each image."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from data.annotations import (
    DIFFICULT,
    OBJECT,
    Annotated,
    AnnotatedImage,
    Annotation,
    declared_size,
    images_in,
    listed_splits,
    split_folders,
    without_annotation,
)
from data.labeled_files import files_below
from data.sources import Evaluated, Fault, Finding

_ZERO = re.compile(rb"<[xy]min>\s*0+(\.0*)?\s*<")


def is_format(root: Path) -> bool:
    """Whether a folder has .xml files where VOC has them."""
    return root.is_dir() and bool(_folders(root, None)[0])


def read(root: Path, evaluated: Evaluated | None) -> Annotated:
    """Reads Annotations/*.xml and JPEGImages/, or images beside .xml files.

    The lists ImageSets/Main/{train,val,test,trainval}.txt give the splits in the first form. The
    second may have a sub-folder for each split. VOC counts pixels from 1, and xmax is the last one
    inside, so 1 is subtracted from xmin and ymin. Data in which one of these is 0 counts from 0.

    Args:
        root: The folder.
        evaluated: As in `data.splits.dealt`.
    """
    folders, findings = _folders(root, evaluated)
    splits, said = listed_splits(root / "ImageSets" / "Main", evaluated)
    findings += said
    first = _first_pixel(root)
    images: list[AnnotatedImage] = []
    left = 0
    for split, folder in folders.items():
        beside = root / "JPEGImages"
        beside = beside if folder.name == "Annotations" and beside.is_dir() else folder
        pictures = images_in(beside)
        tables = {path.stem: path for path in folder.glob("*.xml")}
        names = sorted({*tables, *pictures, *splits})
        for name in names:
            if splits and name not in splits:
                left += 1
            elif name not in tables:
                received = "an image" if name in pictures else "a name in a list"
                fix = f"add {name}.xml, empty if the image shows no object"
                shown = pictures[name].name if name in pictures else name
                findings.append(without_annotation(shown, received, fix))
            else:
                path = tables[name]
                picture = pictures.get(name, beside / f"{name}.jpg")
                found = _image(root, path, picture, splits.get(name, split), first)
                if isinstance(found, Fault):
                    findings.append(found)
                else:
                    images.append(found[0])
                    findings += found[1]
    if left:
        some = "1 image" if left == 1 else f"{left:,} images"
        findings.append(f"Not read: {some} that no list names.")
    origin = "0, because an xmin or ymin is 0" if first == 0 else "1, as in VOC"
    return Annotated(images, [*findings, f"Pixels of the boxes are counted from {origin}."])


def _folders(root: Path, evaluated: Evaluated | None) -> tuple[dict[str, Path], list[Finding]]:
    if (root / "Annotations").is_dir():
        return {"": root / "Annotations"}, []
    return split_folders(root, lambda folder: any(folder.glob("*.xml")), evaluated)


def _first_pixel(root: Path) -> int:
    """Returns the number of the first pixel in all the .xml files, those not read included."""
    paths = (path for path in files_below(root) if path.suffix == ".xml")
    return 0 if any(_ZERO.search(path.read_bytes()) for path in paths) else 1


def _image(
    root: Path, path: Path, picture: Path, split: str, first: int
) -> tuple[AnnotatedImage, list[Finding]] | Fault:
    """Reads one .xml file; returns the image with the faults of its objects."""
    where, shown = (one.relative_to(root).as_posix() for one in (path, picture))
    content = path.read_bytes()
    if not content.strip():
        return AnnotatedImage(str(picture), shown, split), []
    try:
        tree = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError) as error:
        return Fault(where, f"invalid XML ({error})", "an annotation in VOC's format")
    objects, faults = [], list[Finding]()
    for number, node in enumerate(tree.iter("object"), 1):
        at = f"{where} object {number}"
        name = (node.findtext("name") or "").strip()
        texts = [node.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            xmin, ymin, xmax, ymax = (float(text or "") for text in texts)
        except ValueError:
            faults.append(Fault(at, f"the sides {texts}", "four numbers in bndbox"))
            continue
        if not name:
            faults.append(Fault(at, "no name", "the name of a class"))
            continue
        kind = DIFFICULT if (node.findtext("difficult") or "").strip() == "1" else OBJECT
        objects.append(Annotation(at, name, (xmin, ymin, xmax, ymax), kind))
    size = declared_size(tree.findtext("size/height"), tree.findtext("size/width"))
    image = AnnotatedImage(str(picture), shown, split, tuple(objects), size, first=first)
    return image, faults
