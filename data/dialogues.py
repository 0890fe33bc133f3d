"""Dialogues of a user and an assistant: user files or a built-in sample."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data import python_docs
from data.sources import BadData, Evaluated, Fault, Finding, empty_splits, existing, reported
from data.splits import Splits, dealt, shared
from data.tables import json_values
from data.text_files import not_utf8, read_text, required_split_files

BUILT_IN = ("python_docs",)
SUFFIXES = (".txt", ".jsonl", ".json")
END_OF_TURN = "__eou__"
"""Ends a turn in files with a dialogue per line."""
ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt"), "assistant"),
    "system": "system",
}
"""The role that each name in a file stands for."""
FIELDS = {"messages": ("role", "content"), "conversations": ("from", "value")}
"""Lists of turns in JSON, and the fields of a turn that hold its role and its text."""
LAYOUT = (
    'an object with "messages" (of "role" and "content"), "conversations" (of "from" and "value") '
    'or "turns" (texts)'
)
"""The layout of JSON, for messages."""


@dataclass(frozen=True)
class Dialogue:
    """A dialogue in which a user and an assistant take turns.

    Args:
        turns: The texts, at least two; the user has the first.
        system: Text that tells the assistant how to behave, or "".
        first_reply: Index of the first of the assistant's turns that is one to learn; those before
            it are only read.
    """

    turns: tuple[str, ...]
    system: str = ""
    first_reply: int = 1

    @property
    def replies(self) -> tuple[str, ...]:
        """The assistant's turns, from `first_reply` on."""
        return self.turns[self.first_reply :: 2]

    @property
    def content(self) -> str:
        """The whole dialogue as one text, a line for each turn."""
        return "\n".join((self.system, *self.turns) if self.system else self.turns)


@dataclass(frozen=True, kw_only=True)
class Dialogues(Splits):
    """Dialogues in the order of the data; each split is a tuple of `Dialogue`."""

    def answered(self, split: str, count: int) -> list[tuple[tuple[str, ...], str, str]]:
        """Returns at most `count` replies of a split, evenly over all of them.

        Returns:
            For each reply, the turns before it, the system text and the reply.
        """
        # The turns before each reply, over all replies, grow with the square of their number.
        every = [
            (one, number)
            for one in self.split(split)
            for number in range(one.first_reply, len(one.turns), 2)
        ]
        # An odd number of steps, because dialogues often have an even number of replies.
        chosen = every[:: -(-len(every) // count) | 1]
        return [(one.turns[:number], one.system, one.turns[number]) for one, number in chosen]


class Wrong(Exception):
    """An example that cannot be used: what was received, what was expected, and the fix."""


def load(data: str, *, skip_bad: bool = False, evaluated: Evaluated | None = None) -> Dialogues:
    """Loads, checks and splits the dialogues that `data` names.

    A text file has a dialogue per line, with `__eou__` between the turns and optionally after the
    last one; or, if it contains no `__eou__`, a turn per line and blank lines between dialogues.
    The speakers take turns, and the first one is the user. A .jsonl file has an object per line, a
    .json file a list of them: `messages` of `role` and `content`, `conversations` of `from` and
    `value`, or `turns`, texts of which the user has the first. A system text may come first. A
    folder contains such files with train, dev and test in their names, or others of `SPLIT_NAMES`;
    if no name contains train, the only file without a split is the training set. If the data has no
    splits, a hash of the dialogue decides, so that adding dialogues never moves old ones.

    Reference:
        Li et al., DailyDialog: A Manually Labelled Multi-turn Dialogue Dataset, 2017, for
        `__eou__`. https://arxiv.org/abs/1710.03957

    Args:
        data: `python_docs` (questions about sections of the Python reference, answered by their
            first sentences; `./python_docs` for a folder of that name), or the path of a file or
            folder.
        skip_bad: Whether to skip and count bad dialogues instead of raising.
        evaluated: As in `data.splits.dealt`.

    Example:
        >>> load("python_docs").train[0].turns[0]
        'What does the reference say about Special method names?'
    """
    if data == "python_docs":
        made = [Dialogue(turns) for turns in python_docs.dialogues()]
        return _divided(data, [("", "", dialogue) for dialogue in made], [], skip_bad, evaluated)
    expected = "a .txt, .jsonl or .json file, a folder with such files"
    if data.startswith("tfds:"):
        received = "a dataset of TensorFlow Datasets"
        fix = "write its dialogues to a .jsonl file"
        raise BadData(data, [Fault(data, received, expected, fix, skippable=False)])
    path = existing(data, expected, BUILT_IN, tfds=False)
    files, findings = required_split_files(path, "dialogues", SUFFIXES, evaluated)
    dialogues: list[tuple[str, str, Dialogue]] = []
    for split, file in files.items():
        good, wrong = _from_file(file)
        dialogues += [(split, where, dialogue) for where, dialogue in good]
        findings += wrong
    return _divided(data, dialogues, findings, skip_bad, evaluated)


def _divided(
    data: str,
    dialogues: Sequence[tuple[str, str, Dialogue]],
    findings: Sequence[Finding],
    skip_bad: bool,
    evaluated: Evaluated | None,
) -> Dialogues:
    """Splits dialogues, which come with their split (empty if unknown) and where they are."""
    named = ((split, one.content, (where, one)) for split, where, one in dialogues)
    splits, remarks = dealt(named, evaluated)
    kept = {split: tuple(one for _, one in some) for split, some in splits.items()}
    contents = {split: {one.content: one.turns[0] for one in some} for split, some in kept.items()}
    every = [one for some in kept.values() for one in some]
    remarks.append(
        f"Replies: {sum(len(one.replies) for one in every):,}, of "
        f"{sum(len(one.turns) for one in every):,} turns."
    )
    repeated = len(every) - len({one.content for one in every})
    if repeated:
        remarks.append(f"Dialogues that repeat another one: {repeated:,}.")
    remarks += shared(contents, "dialogues")
    empty = empty_splits({split: len(some) for split, some in kept.items()}, evaluated)
    said = reported(data, [*findings, *remarks, *empty], skip_bad)
    origins = {split: [where for where, _ in some] for split, some in splits.items()}
    return Dialogues(**said | kept, origins={} if data in BUILT_IN else origins)


def _from_file(path: Path) -> tuple[list[tuple[str, Dialogue]], list[Finding]]:
    """Returns the location of each good dialogue and the dialogue, and the faults of others."""
    if path.suffix.lower() in (".json", ".jsonl"):
        values, findings = json_values(path, LAYOUT)
        read: Callable[[Any], Dialogue] = from_json
    else:
        values, findings, read = list(_from_text(path)), [], _from_turns
    if not values and not findings:
        findings.append(Fault(path.name, "an empty file", "dialogues", examples=0))
    good = []
    for where, value in values:
        try:
            dialogue = read(value)
        except Wrong as error:
            findings.append(Fault(where, *error.args))
            continue
        fault = not_utf8(dialogue.content, where)
        if fault:
            findings.append(fault)
        else:
            good.append((where, dialogue))
    return good, findings


def _from_text(path: Path) -> Iterable[tuple[str, list[str]]]:
    """Yields the location and the turns of each dialogue in a text file."""
    text = read_text(path)
    lines = enumerate(text.split("\n"), 1)
    if END_OF_TURN in text:
        for number, line in lines:
            if line.strip():
                line = re.sub(rf"{END_OF_TURN}\s*$", "", line)
                yield f"{path.name} line {number}", line.split(END_OF_TURN)
        return
    turns: list[str] = []
    begin = 1
    for number, line in (*lines, (0, "")):
        if line.strip():
            begin = begin if turns else number
            turns.append(line)
        elif turns:
            yield f"{path.name} line {begin}", turns
            turns = []


def from_json(value: Any) -> Dialogue:
    """Reads a dialogue in one of the forms of `LAYOUT`; raises `Wrong`."""
    if not isinstance(value, dict):
        raise Wrong(f"{_kind(value)}", LAYOUT)
    for name, fields in FIELDS.items():
        if name in value:
            return _from_messages(_listed(value, name), *fields)
    if "turns" not in value:
        raise Wrong(f"an object with {', '.join(map(repr, value)) or 'nothing in it'}", LAYOUT)
    turns = _listed(value, "turns")
    system = value.get("system", "")
    for number, turn in enumerate(turns, 1):
        require_text(turn, f"turn {number}")
    require_text(system, "`system`")
    return _from_turns(turns, system)


def _from_messages(messages: list[Any], role_field: str, text_field: str) -> Dialogue:
    """Reads turns with a role each, the system text first if there is one."""
    system, turns, last = "", [], ""
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not {role_field, text_field} <= message.keys():
            expected = f'turns with "{role_field}" and "{text_field}"'
            raise Wrong(f"another layout in turn {number}", expected)
        name, text = message[role_field], message[text_field]
        role = ROLES.get(name) if isinstance(name, str) else None
        if role is None:
            raise Wrong(f"the role {name!r} in turn {number}", f"one of {', '.join(ROLES)}")
        require_text(text, f"turn {number}")
        if role == "system":
            if number > 1:
                raise Wrong(f"a system text in turn {number}", "a system text at the beginning")
            system = text
        elif not last and role == "assistant":
            expected = "a dialogue that the user begins"
            raise Wrong("a dialogue that the assistant begins", expected, "remove that turn")
        elif role == last:
            received = f"two turns of the {role} in a row, turns {number - 1} and {number}"
            raise Wrong(received, "a user and an assistant who take turns", "join them")
        else:
            turns.append(text)
            last = role
    return _from_turns(turns, system)


def _from_turns(turns: Sequence[str], system: str = "") -> Dialogue:
    stripped = [turn.strip() for turn in turns]
    if "" in stripped:
        number = stripped.index("") + 1
        received = f"turn {number} of {len(turns)} is empty"
        raise Wrong(received, "turns with a text", "write or remove it")
    if len(stripped) < 2:
        raise Wrong("one turn only" if stripped else "no turns", "at least two turns", "remove it")
    return Dialogue(tuple(stripped), system.strip())


def _listed(value: dict[str, Any], name: str) -> list[Any]:
    if not isinstance(value[name], list):
        raise Wrong(f"{_kind(value[name])} as {name!r}", f"a list as {name!r}")
    return value[name]


def require_text(text: Any, where: str) -> None:
    """Raises `Wrong` for a value that is not a text."""
    if not isinstance(text, str):
        raise Wrong(f"{_kind(text)} in {where}", "a text")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", type(None): "null"}
    return kinds.get(type(value), f"{value!r:.40}")


def padded(rows: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns turns of several dialogues in an array `(n, turns)`, "" where there are fewer."""
    widest = max(map(len, rows))
    return np.array([[*row, *[""] * (widest - len(row))] for row in rows], object)


def as_lines(turns: Sequence[str]) -> str:
    """Returns turns as lines, each with its speaker; the user has the first and the last.

    Example:
        >>> as_lines(["Hello!"])
        'user: Hello!'
    """
    return "\n".join(
        f"{'assistant' if number % 2 else 'user'}: {turn}" for number, turn in enumerate(turns)
    )
