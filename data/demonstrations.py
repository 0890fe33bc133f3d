"""Dialogues whose replies show how to answer: user files or a built-in sample."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data import dialogues, example_sets, preferences, python_docs
from data.dialogues import Dialogue, Dialogues, Wrong, require_text
from data.preferences import SUFFIXES, Turn, prompt_of, turns_of
from data.sources import Evaluated, Fault, Finding, empty_splits, reported
from data.tables import json_values
from data.text_files import not_utf8

ANSWERS = ("completion", "answer", "response", "output")
"""Names of the field with the answer to a prompt."""
LAYOUT = (
    'an object with "prompt" or "instruction" (and "input"), and "completion", "answer", '
    f'"response" or "output"; {dialogues.LAYOUT.removeprefix("an object ")}; or a preference, with '
    '"chosen" and "rejected", "prompt" and "ranked", or "instruction", "response1", "response2" '
    'and "label"'
)
"""The layout of JSON, for messages."""


def load(data: str, *, skip_bad: bool = False, evaluated: Evaluated | None = None) -> Dialogues:
    """Loads, checks and splits the demonstrations that `data` names.

    A .jsonl file has an object per line, a .json file a list of them; both may be compressed
    (.gz). An object has `prompt` (one turn, a transcript, or messages) or `instruction`, optionally
    `input`, and the answer as `completion`, `answer`, `response` or `output`; or a dialogue that
    ends with the assistant, as `data.dialogues` reads it; or it is a preference, as
    `data.preferences` reads it, whose best answer is the demonstration: of a prompt's own replies
    none is one to learn. Folders are read, and splits are chosen, as there: a prompt is in the same
    split in all stages.

    Args:
        data: `python_docs` (questions about sections of the Python reference, answered by their
            first sentences), or the path of a file or folder.
        skip_bad: Whether to skip and count bad demonstrations instead of raising.
        evaluated: As in `data.splits.dealt`.
    """
    if data == "python_docs":
        made = [
            ("", "", Dialogue((*turns, chosen), first_reply=len(turns)))
            for turns, chosen, _ in python_docs.preferences()
        ]
        return _divided(data, {"": made}, [], skip_bad, evaluated)
    sets, findings = example_sets.read(data, "demonstrations", SUFFIXES, evaluated, _from_file)
    return _divided(data, sets, findings, skip_bad, evaluated)


def _divided(
    data: str,
    sets: example_sets.Sets,
    findings: Sequence[Finding],
    skip_bad: bool,
    evaluated: Evaluated | None,
) -> Dialogues:
    kept, remarks = example_sets.divided(sets, lambda one: one.turns[0], "first turns", evaluated)
    empty = empty_splits({split: len(some) for split, some in kept.items()}, evaluated)
    said = reported(data, [*findings, *remarks, *empty], skip_bad)
    splits = {split: tuple(one for *_, one in some) for split, some in kept.items()}
    origins = {split: [where for _, where, _ in some] for split, some in kept.items()}
    return Dialogues(**said | splits, origins={} if data in example_sets.BUILT_IN else origins)


def _from_file(path: Path, folder: str) -> tuple[list[tuple[str, Dialogue]], list[Finding]]:
    """Returns the location of each good demonstration and the dialogue, and the findings."""
    values, findings = json_values(path, LAYOUT)
    if not values and not findings:
        findings.append(Fault(path.name, "an empty file", "demonstrations", examples=0))
    good: list[tuple[str, Dialogue]] = []
    ties = 0
    for where, value in values:
        where = f"{folder}{where}"
        try:
            one = _from_json(value)
        except Wrong as error:
            findings.append(Fault(where, *error.args))
        except preferences.Tie:
            ties += 1
        else:
            fault = not_utf8(one.content, where)
            if fault:
                findings.append(fault)
            else:
                good.append((where, one))
    if ties:
        findings.append(f"Ties, of which no answer is better, left out: {ties:,}.")
    return good, findings


def _from_json(value: Any) -> Dialogue:
    if not isinstance(value, dict):
        raise Wrong(f"{value!r:.40}", LAYOUT)
    if {"messages", "conversations", "turns"} & value.keys():
        one = dialogues.from_json(value)
        if len(one.turns) % 2:
            received, expected = "a dialogue that ends with the user", "one that ends with a reply"
            raise Wrong(received, expected, "remove its last turn")
        return one
    if {"chosen", "ranked", "response1"} & value.keys():
        best = preferences.from_json(value)
        return _dialogue(best.prompt, best.answers[0])
    names = [name for name in ANSWERS if name in value]
    if len(names) != 1 or not {"prompt", "instruction"} & value.keys():
        raise Wrong(f"an object with {', '.join(map(repr, value)) or 'nothing in it'}", LAYOUT)
    require_text(value[names[0]], f"{names[0]!r}")
    if "prompt" in value:
        prompt = turns_of(value["prompt"], "prompt")
    else:
        texts = [value["instruction"], value.get("input") or ""]
        for text in texts:
            require_text(text, "the prompt")
        prompt = [("user", "\n\n".join(text.strip() for text in texts if text.strip()))]
    if not value[names[0]].strip():
        raise Wrong("an empty answer", "an answer with a text", "write or remove it")
    return _dialogue(prompt, value[names[0]].strip())


def _dialogue(prompt: Sequence[Turn], answer: str) -> Dialogue:
    turns = prompt_of(prompt)
    if turns[0][0] != "user":
        received, expected = "a dialogue that the assistant begins", "one that the user begins"
        raise Wrong(received, expected, "remove that turn")
    return Dialogue((*(text for _, text in turns), answer), first_reply=len(turns))
