"""What the test file of each app gives for the tests that hold for all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BAD: dict[str, Any] = {
    "model": "no_such_network",
    "epochs": -1,
    "batch_size": 0,
    "optimizer": "no_such_optimizer",
    "learning_rate": -0.1,
    "schedule": "no_such_schedule",
    "warmup_epochs": -1.0,
    "weight_decay": -1.0,
    "clip_norm": 0.0,
    "accumulate": 0,
    "average": 1.0,
    "keep": "no_such_epoch",
    "patience": -2,
    "seed": -1,
    "precision": "float8",
    "strategy": "no_such_strategy",
    "checkpoint_every": 0,
    "vocabulary_size": 0,
    "length": 0,
    "dropout": 1.5,
    "layer_decay": 7.0,
    "layers": 0,
    "units": 0,
    "label_smoothing": 2.0,
    "class_weight": "no_such_weight",
    "tokens": "no_such_tokens",
    "word_dropout": 1.5,
    "cell": "no_such_cell",
    "attention": "no_such_attention",
    "luong_score": "no_such_score",
}
"""A bad value of each setting that several apps have."""

ANY: tuple[str, ...] = (
    *("data", "out", "skip_bad", "monitor", "jit_compile", "resume", "preset", "lowercase"),
    *("bidirectional", "layer_normalization", "freeze", "embeddings", "tensorboard"),
    *("group", "compile_export", "check"),
)
"""Settings of several apps that are free, such as flags and names; the network may ignore them."""


@dataclass(frozen=True)
class Small:
    """A run of an app that takes seconds, and what it must leave.

    Args:
        write: Writes small user files into an empty folder and returns the value of `data`; a small
            data set that a network of seconds learns better than chance.
        settings: Settings by name, except `data` and `out`. At least two epochs of several steps.
        beats: Name of a score and the value that it must exceed; negative names a score that must
            stay below, such as ("-perplexity", 50).
        sections: Titles of the sections of the report between the learning curves and the run.
        few: The path and the content of a file with one or two examples, of one class if there are
            classes; data to evaluate the network on. If the path has a folder, that is a class. Or
            a function such as `write`, where one file is not enough.
        odd: Odd inputs of `serving_default`, each a dict by name, that are answered without
            touching the answers to their neighbors.
        bad: A bad value of each setting that this app alone has.
        free: Settings that this app alone has and for which any value is good.
        ignored: Settings that a network ignores, each behind the network (and its preset), such as
            {"model": "mlp", "pool": "lp"}.
        files: Files of the run that other apps do not write.
        module: Module with `main` and `Config`, if it is not that of the app.
    """

    write: Callable[[Path], str]
    settings: Mapping[str, Any]
    beats: tuple[str, float]
    sections: Sequence[str]
    few: tuple[str, str | bytes] | Callable[[Path], str]
    odd: Sequence[Mapping[str, Any]]
    bad: Mapping[str, Any] = field(default_factory=dict)
    free: Sequence[str] = ()
    ignored: Sequence[Mapping[str, Any]] = ()
    files: Sequence[str] = ()
    module: str = ""
