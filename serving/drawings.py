"""Pictures of images with the objects that a model found in them."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.answering import Outcome
from serving.examples import Example

COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")
"""Colors of the classes, in the order in which they are met."""
LEAST_SCORE = 0.5
"""Objects with a lower score are not drawn, unless the model card knows a threshold."""
THRESHOLDS = "Score thresholds, by the F1 on validation images"
"""Table of the model card with the `threshold` of each `class`."""
Row = Mapping[str, Any]


def thresholds_of(card: Any) -> Callable[[str], float]:
    """Returns a function from the name of a class to the lowest score with which it is drawn.

    Args:
        card: The model card; may have any content.
    """
    try:
        known = {str(row["class"]): float(row["threshold"]) for row in card[THRESHOLDS]}
    except (KeyError, TypeError, ValueError):
        known = {}
    return lambda name: known.get(name, LEAST_SCORE)


def drawn(
    outcomes: Iterable[tuple[Example, Outcome]],
    folder: Path,
    rows_of: Callable[[Mapping[str, Any]], Sequence[Row] | None],
    card: Any = None,
) -> Iterator[tuple[Example, Outcome]]:
    """Passes outcomes on, and writes a PNG file for each image that has an answer.

    A file has the name of the image; with a number if there is one of that name from this call.

    Args:
        outcomes: Images and what was found in them.
        folder: Where to write; it is made.
        rows_of: From an answer to a row for each object, with `boxes`, and perhaps `classes`,
            `scores` and `mask_bytes`; None if the answer has no objects.
        card: The model card, for `thresholds_of`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    colors: dict[str, str] = {}
    names: dict[str, int] = {}
    least_score = thresholds_of(card)
    for example, outcome in outcomes:
        rows = None if isinstance(outcome, str) else rows_of(outcome)
        if rows is None and not isinstance(outcome, str):
            raise ValueError("`--pictures` is for models that find objects, with `boxes`.")
        image = next((value for value in example.inputs.values() if isinstance(value, bytes)), None)
        if rows is not None and image is not None:
            name = Path(example.file).stem
            count = names[name] = names.get(name, 0) + 1
            path = folder / f"{name}{f'_{count}' if count > 1 else ''}.png"
            draw(image, rows, path, colors, least_score)
        yield example, outcome


def draw(
    image_bytes: bytes,
    rows: Sequence[Row],
    path: Path,
    colors: dict[str, str],
    least_score: Callable[[str], float],
) -> None:
    """Writes an image with boxes, and the outlines of masks if there are some.

    Args:
        image_bytes: The encoded image; it is turned upright.
        rows: The objects; those with a score below that of their class are left out.
        path: The PNG file to write.
        colors: The color of each class so far, by its name; new ones are added.
        least_score: From `thresholds_of`.
    """
    from PIL import Image, ImageDraw, ImageOps

    with Image.open(io.BytesIO(image_bytes)) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    canvas = ImageDraw.Draw(image)
    width = max(1, round(max(image.size) / 400))
    for row in rows:
        label = row.get("classes", b"")
        label = label.decode(errors="replace") if isinstance(label, bytes) else str(label)
        if float(row.get("scores", 1.0)) < least_score(label):
            continue
        color = colors.setdefault(label, COLORS[len(colors) % len(COLORS)])
        if row.get("mask_bytes"):
            with Image.open(io.BytesIO(row["mask_bytes"])) as opened:
                mask = opened.point(lambda level: level // 3)
            image.paste(Image.new("RGB", image.size, color), mask=mask.convert("L"))
            canvas = ImageDraw.Draw(image)
        corners = [float(x) for x in np.asarray(row["boxes"])]
        canvas.rectangle(corners, outline=color, width=width)
        text = f"{label} {float(row['scores']):.2f}" if "scores" in row else label
        canvas.text((corners[0] + width, corners[1] + width), text, fill=color)
    temporary = path.with_name(f".{path.name}")
    image.save(temporary, "PNG")
    temporary.replace(path)
