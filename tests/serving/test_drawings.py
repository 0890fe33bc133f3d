import io

import numpy as np
import pytest
from PIL import Image

from serving.drawings import COLORS, THRESHOLDS, drawn, thresholds_of
from serving.examples import Example
from serving.predict import counted_rows


def png(pixels, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def found(box, score=0.9, **more):
    return {
        "boxes": np.float32([box]),
        "classes": np.array([b"cat"], object),
        "scores": np.float32([score]),
        "num_detections": np.int32(1),
        **{name: np.array([value], object) for name, value in more.items()},
    }


def color(name: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(name[1:]))


def test_boxes_and_masks_are_drawn_on_the_upright_image(tmp_path):
    gray = np.full((40, 60, 3), 90, np.uint8)
    tags = Image.Exif()
    tags[0x0112] = 6  # To be turned by a quarter.
    mask = np.zeros((60, 40), np.uint8)
    mask[30:50, 5:30] = 255
    images = [Example("a", {"image_bytes": png(gray, exif=tags)}, file="x/a.png")]
    images.append(Example("a", {"image_bytes": png(gray)}, file="y/a.png"))
    images.append(Example("b", {"image_bytes": b""}, file="b.png"))
    answers = [found([5, 30, 30, 50], mask_bytes=png(mask)), found([1, 1, 9, 9], 0.3), "damaged"]
    outcomes = list(zip(images, answers, strict=True))
    assert list(drawn(outcomes, tmp_path / "out", counted_rows)) == outcomes
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "a_2.png"}
    picture = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert picture.shape == (60, 40, 3)
    assert tuple(picture[50, 20]) == color(COLORS[0])  # the lower edge of the box
    assert (picture[10, 20] == 90).all() and (picture[45, 25] != 90).any()  # outside, in the mask
    # Objects of a low score are left out.
    assert (np.asarray(Image.open(tmp_path / "out/a_2.png")) == 90).all()


def test_the_threshold_of_a_class_is_that_of_the_model_card(tmp_path):
    image = png(np.full((40, 60, 3), 90, np.uint8))
    card = {THRESHOLDS: [{"class": "cat", "threshold": "0.250"}]}
    outcomes = [(Example("a", {"image_bytes": image}, file="a.png"), found([1, 1, 9, 9], 0.3))]
    list(drawn(outcomes, tmp_path, counted_rows, card))
    assert (np.asarray(Image.open(tmp_path / "a.png")) != 90).any()
    least = thresholds_of(card)
    assert (least("cat"), least("dog")) == (0.25, 0.5)
    for odd in (None, {}, {THRESHOLDS: 3}, {THRESHOLDS: [{"class": "cat"}]}):
        assert thresholds_of(odd)("cat") == 0.5


def test_models_that_find_no_objects_are_refused(tmp_path):
    outcome = (Example("a", {"image_bytes": b""}), {"scores": np.float32([0.5])})
    with pytest.raises(ValueError, match="`--pictures` is for models that find objects"):
        list(drawn([outcome], tmp_path, counted_rows))
