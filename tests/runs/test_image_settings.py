from dataclasses import dataclass
from pathlib import Path

import pytest

from runs.image_settings import ImageSettings


@dataclass(frozen=True)
class Config(ImageSettings):
    data: str = "digits"
    model: str = "plain"
    out: Path = Path("out")

    def __post_init__(self):
        super().__post_init__()
        self.require_network(
            ("plain", "deep", "wide"), ("deep",), ("wide",), norm=("plain", "wide")
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "huge"}, "`model` must be one of plain, deep, wide"),
        (
            {"preset": "nothing"},
            "`preset` must be the folder of a finished run, imagenet, a .safetensors file or none. "
            "Received: preset=",
        ),
        ({"preset": "imagenet"}, "`preset` is for the models deep"),
        ({"freeze": True, "model": "deep"}, "`freeze` needs a preset"),
        ({"model": "deep", "norm": "group"}, "`norm` is for the models plain, wide"),
        ({"model": "deep", "preset": "imagenet", "channels": 1}, "`channels` are fixed"),
        ({"image_size": (0, 8)}, "`image_size` must be at least 1"),
    ],
)
def test_a_bad_setting_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_a_pretrained_network_is_trained_more_briefly_and_carefully():
    new, tuned = Config(), Config(model="deep", preset="imagenet")
    assert (new.warmup_epochs, tuned.epochs, tuned.warmup_epochs) == (0.0, 10, 0.5)
    assert tuned.rate() == pytest.approx(new.rate() / 10)
    assert Config(model="deep", preset="imagenet", freeze=True).rate() == new.rate()
    assert new.advice and not tuned.advice


def test_only_layers_that_differ_from_the_paper_are_passed_on():
    assert Config().replaced == {}
    assert Config(norm="group", pool="lp").replaced == {"norm": "group", "pool": "lp"}
