"""Prompts without answers: user files or a built-in sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from data import example_sets, preferences, python_docs
from data.dialogues import Wrong, require_text
from data.preferences import prompt_of, transcript, turns_of
from data.sources import Evaluated, Fault, Finding, empty_splits, reported
from data.splits import Splits
from data.tables import json_values
from data.text_files import not_utf8, read_text

SUFFIXES = (".txt", *preferences.SUFFIXES)
LAYOUT = (
    'an object with "prompt" (a text, a transcript, or messages), or a preference, with "chosen" '
    'and "rejected", "prompt" and "ranked", or "instruction", "response1" and "response2"'
)
"""The layout of JSON, for messages."""


@dataclass(frozen=True, kw_only=True)
class Prompts(Splits):
    """Prompts; each split is a dataset of texts `()`: one turn of a user, or a transcript."""

    def prompts(self, split: str) -> list[bytes]:
        """Returns the prompts of a split."""
        return [*self.split(split).as_numpy_iterator()]


def load(data: str, *, skip_bad: bool = False, evaluated: Evaluated | None = None) -> Prompts:
    """Loads, checks and splits the prompts that `data` names.

    A .txt file has a prompt per line. A .jsonl file has an object per line, a .json file a list of
    them; both may be compressed (.gz). An object has `prompt`, one turn, a transcript or messages,
    or it is a preference, as `data.preferences` reads it, whose answers are left out. Folders are
    read, and splits are chosen, as there: a prompt is in the same split in all stages. Prompts that
    repeat another one are left out.

    Args:
        data: `python_docs` (questions about sections of the Python reference), or the path of a
            file or folder.
        skip_bad: Whether to skip and count bad prompts instead of raising.
        evaluated: As in `data.splits.dealt`.
    """
    if data == "python_docs":
        made = []
        for turns, *_ in python_docs.preferences():
            roles = [(("user", "assistant")[n % 2], turn) for n, turn in enumerate(turns)]
            made.append(("", "", (turns[0], transcript(roles))))
        return _divided(data, {"": made}, [], skip_bad, evaluated)
    sets, findings = example_sets.read(data, "prompts", SUFFIXES, evaluated, _from_file)
    return _divided(data, sets, findings, skip_bad, evaluated)


def _divided(
    data: str,
    sets: example_sets.Sets,
    findings: Sequence[Finding],
    skip_bad: bool,
    evaluated: Evaluated | None,
) -> Prompts:
    """Splits prompts, which are pairs of the first turn and the whole prompt."""
    kept, remarks = example_sets.divided(sets, lambda one: one[0], "first turns", evaluated)
    found = {
        split: {text: where for _, where, (_, text) in reversed(some)}
        for split, some in kept.items()
    }
    repeated = sum(map(len, kept.values())) - sum(map(len, found.values()))
    if repeated:
        remarks.append(f"Prompts that repeat another one, left out: {repeated:,}.")
    empty = empty_splits({split: len(some) for split, some in found.items()}, evaluated)
    said = reported(data, [*findings, *remarks, *empty], skip_bad)
    splits = {
        split: tf.data.Dataset.from_tensor_slices(np.array([*reversed(some)], object))
        for split, some in found.items()
    }
    origins = {split: [*reversed(some.values())] for split, some in found.items()}
    return Prompts(**said | splits, origins={} if data in example_sets.BUILT_IN else origins)


def _from_file(path: Path, folder: str) -> tuple[list[tuple[str, tuple[str, str]]], list[Finding]]:
    """Returns the location, first turn and text of each good prompt, and the findings."""
    if path.suffix.lower() == ".txt":
        lines = enumerate(read_text(path).splitlines(), 1)
        values: list[tuple[str, Any]] = [
            (f"{path.name} line {number}", {"prompt": line}) for number, line in lines if line
        ]
        findings: list[Finding] = []
    else:
        values, findings = json_values(path, LAYOUT)
    if not values and not findings:
        findings.append(Fault(path.name, "an empty file", "prompts", examples=0))
    good: list[tuple[str, tuple[str, str]]] = []
    for where, value in values:
        where = f"{folder}{where}"
        try:
            one = _from_json(value)
        except Wrong as error:
            findings.append(Fault(where, *error.args))
            continue
        fault = not_utf8(one[1], where)
        if fault:
            findings.append(fault)
        else:
            good.append((where, one))
    return good, findings


def _from_json(value: Any) -> tuple[str, str]:
    if not isinstance(value, dict):
        raise Wrong(f"{value!r:.40}", LAYOUT)
    if {"chosen", "ranked", "response1"} & value.keys():
        try:
            one = preferences.from_json(value)
        except preferences.Tie as tie:
            return _from_json({"prompt": tie.args[0]})
        return one.prompt[0][1], one.transcript
    if "prompt" not in value:
        raise Wrong(f"an object with {', '.join(map(repr, value)) or 'nothing in it'}", LAYOUT)
    if not isinstance(value["prompt"], list):
        require_text(value["prompt"], "'prompt'")
    turns = prompt_of(turns_of(value["prompt"], "prompt"))
    # A lone turn stays a plain text, for networks that continue texts.
    return turns[0][1], turns[0][1] if len(turns) == 1 else transcript(turns)
