from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from runs.settings import Settings


@dataclass(frozen=True)
class Config(Settings):
    data: str = "digits"
    model: str = "small"
    epochs: int = 3
    out: Path = Path("out")
    size: tuple[int, int] | None = None
    share: float = 0.5
    kind: Literal["round", "square"] | None = None
    depth: int = 4

    def __post_init__(self):
        super().__post_init__()
        self.require_one_of(("small", "large"), "model")
        self.require_least(1, "size")
        self.require_share("share")
        self.require_only(("large",), "depth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "huge"}, "`model` must be one of small, large. Received: model='huge'"),
        ({"size": (3, 0)}, r"`size` must be at least 1. Received: size=\(3, 0\)"),
        ({"share": 1.0}, r"`share` must be in \[0, 1\). Received: share=1.0"),
        ({"share": float("nan")}, "`share` must be in"),
        ({"kind": "oval"}, "`kind` must be one of round, square, None. Received: kind='oval'"),
        ({"optimizer": "adamax"}, "`optimizer` must be one of sgd, momentum"),
        ({"weight_decay": float("inf")}, "`weight_decay` must be at least 0"),
        ({"seed": 2**31}, r"`seed` must be below 2\*\*31"),
        ({"warmup_epochs": 3.0}, "`warmup_epochs` must be below the number of epochs, 3"),
        ({"clip_norm": float("inf")}, "`clip_norm` must be above 0"),
        ({"average": 0.0}, "`average` must be above 0 and below 1"),
        ({"keep": "last", "monitor": "val_loss"}, "`monitor` has no use with keep='last'"),
        (
            {"accumulate": 2, "jit_compile": True, "strategy": "mirrored"},
            "`accumulate` must be 1 with jit_compile and a strategy",
        ),
        ({"depth": 5}, "`depth` is for the models large. Received: model='small', depth=5"),
    ],
)
def test_a_bad_setting_is_refused_by_its_name(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_settings_at_their_edges_are_taken():
    Config(size=(1, 1), share=0.0, kind="round", seed=2**31 - 1, warmup_epochs=2.9, patience=0)
    Config(model="large", depth=5, learning_rate=0.0, weight_decay=0.0, average=0.999)


def test_settings_are_saved_as_json_values():
    saved = Config(size=(2, 3)).saved
    assert saved["size"] == [2, 3] and saved["out"] == "out" and saved["average"] is None
