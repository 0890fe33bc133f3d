import keras
import pytest

from models.detectors import detector
from models.trunks import trunk
from tests.models.blueprint import blueprint, count

UNITS = 1024 + 1
"""Weights of an output of the head, with its bias."""


def published(name: str) -> keras.Model:
    """Builds a network with the sizes of torchvision's, without values for its weights."""
    return blueprint(
        lambda: detector(
            name, trunk("resnet50", (320, 320, 3), norm="batch"), 90, anchor_sizes=ANCHORS
        )
    )


ANCHORS = ((32,), (64,), (128,), (256,), (512,))


@pytest.mark.parametrize(
    ("name", "theirs", "of_background"),
    [
        # torchvision also moves the box of the background, and draws its mask.
        ("faster_rcnn_fpn", 41_808_406, 4 * UNITS),
        ("mask_rcnn", 44_454_513, 4 * UNITS + 256 + 1),
    ],
)
def test_parameters_are_those_of_torchvision_less_what_it_does_with_background(
    name, theirs, of_background
):
    assert count(published(name).trainable_weights) == theirs - of_background
