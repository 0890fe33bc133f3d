"""Prompts with answers in order of preference: user files or a built-in sample."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from data import example_sets, python_docs
from data.dialogues import ROLES, Wrong, require_text
from data.sources import (
    Evaluated,
    Fault,
    Finding,
    empty_splits,
    reported,
    stable_order,
)
from data.splits import Splits
from data.tables import json_values
from data.text_files import not_utf8
from preprocessing.answers import SPEAKERS

SUFFIXES = (".jsonl", ".json", ".gz")
LAYOUT = (
    'an object with "chosen" and "rejected" (transcripts, or with "prompt" answers), with "prompt" '
    'and "ranked" (answers, the best first), or with "instruction", "response1", "response2" and '
    '"label" (0, 1 or 2)'
)
"""The layout of JSON, for messages."""
_SPEAKER = re.compile("(" + "|".join(SPEAKERS.values()) + ")")
_ROLE = {speaker: role for role, speaker in SPEAKERS.items()}

Turn = tuple[str, str]
"""Role, `user` or `assistant`, and text."""


class Preference(NamedTuple):
    """A prompt with answers.

    Args:
        prompt: The turns before the answers; the user has the last.
        answers: At least two different texts, the best first.
    """

    prompt: tuple[Turn, ...]
    answers: tuple[str, ...]

    @property
    def transcript(self) -> str:
        """The prompt as one text."""
        return transcript(self.prompt)


def transcript(turns: Sequence[Turn]) -> str:
    """Returns turns as one text, each behind its speaker.

    Example:
        >>> transcript([("user", "Hi")])
        '\\n\\nHuman: Hi'
    """
    return "".join(f"{SPEAKERS[role]} {text}" for role, text in turns)


@dataclass(frozen=True, kw_only=True)
class Preferences(Splits):
    """Ranked answers; each split is a dataset of `(prompt (), answers (answers,))`, strings.

    The answers are in order, the best first, and "" follows the last.

    Args:
        sets: For each split, the name of the data set of each prompt; "" if there is only one.
    """

    sets: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def texts(self) -> list[str]:
        """Returns the training prompts and answers, to learn a vocabulary from."""
        return [
            text.decode()
            for prompt, answers in self.train.as_numpy_iterator()
            for text in (prompt, *answers)
        ]

    def best(self, split: str) -> tf.data.Dataset:
        """Returns the prompts of a split with their best answers, strings `(2,)`."""
        return self.split(split).map(lambda prompt, answers: tf.stack([prompt, answers[0]]))

    def prompts(self, split: str, count: int) -> list[bytes]:
        """Returns at most `count` prompts of a split, evenly over all of them."""
        every = [prompt for prompt, _ in self.split(split).as_numpy_iterator()]
        return every[:: max(1, -(-len(every) // count))]

    def lengths(self, split: str) -> np.ndarray:
        """Returns the lengths of the answers in bytes, 0 after the last, `(n, answers)`."""
        rows = self.split(split).as_numpy_iterator()
        return np.array([[len(answer) for answer in answers] for _, answers in rows])

    def table(self, split: str, count: int) -> dict[str, list[bytes]]:
        """Returns the answers to the first prompts of a split, at most so many, by column."""
        rows = [
            (prompt, answer)
            for prompt, answers in self.first(split, count)
            for answer in answers
            if answer
        ]
        prompts, answers = zip(*rows[:count], strict=True)
        return {"prompt": list(prompts), "response": list(answers)}


class Tie(Exception):
    """Two answers to a prompt, which is the argument, of which none is better."""


def load(
    data: str,
    *,
    skip_bad: bool = False,
    half: str = "both",
    evaluated: Evaluated | None = None,
) -> Preferences:
    """Loads, checks and splits the preferences that `data` names.

    A .jsonl file has an object per line, a .json file a list of them; both may be compressed
    (.gz). An object has `chosen` and `rejected`, two whole transcripts (turns that begin with
    `Human:` and `Assistant:` after a blank line) or lists of messages; or these two as answers to
    `prompt`, which is one turn, a transcript or a list of messages; or `prompt` and `ranked`, a
    list of answers, the best first; or `instruction`, optionally `input`, `response1`, `response2`
    and `label`, the number of the better answer or 0 for a tie.

    A folder contains such files with train, dev and test in their names, or a single one of any
    name. If it has sub-folders with such files, each is a data set, and all are mixed. Splits that
    the data does not have are chosen by a hash of the first turn of the prompt. First turns that
    are in two splits that the data has are named.

    Reference:
        Bai et al., Training a Helpful and Harmless Assistant with Reinforcement Learning from Human
        Feedback, 2022, for the transcripts. https://arxiv.org/abs/2204.05862

    Args:
        data: `python_docs` (questions about sections of the Python reference; the words of the
            rejected answers are shuffled), or the path of a file or folder.
        skip_bad: Whether to skip and count bad preferences instead of raising.
        half: Which of the training prompts to keep, by a hash of the first turn: `both` halves,
            the `first` or the `second`.
        evaluated: As in `data.splits.dealt`.
    """
    if data == "python_docs":
        made = []
        for turns, *answers in python_docs.preferences():
            prompt = [(("user", "assistant")[n % 2], turn) for n, turn in enumerate(turns)]
            made.append(("", "", Preference(tuple(prompt), tuple(answers))))
        return _divided(data, {"": made}, [], skip_bad, half, evaluated)
    sets, findings = example_sets.read(data, "preferences", SUFFIXES, evaluated, _from_file)
    return _divided(data, sets, findings, skip_bad, half, evaluated)


def _divided(
    data: str,
    sets: example_sets.Sets,
    findings: Sequence[Finding],
    skip_bad: bool,
    half: str,
    evaluated: Evaluated | None,
) -> Preferences:
    """Splits the preferences of each set, which come with their split and where they are."""
    kept, remarks = example_sets.divided(
        sets, lambda one: one.prompt[0][1], "first turns", evaluated
    )
    findings = [*findings, *remarks]
    if half != "both" and not evaluated:
        whole, odd = kept["train"], half == "second"
        kept["train"] = [one for one in whole if stable_order(one[2].prompt[0][1]) % 2 == odd]
        findings.append(f"Training prompts in the {half} half: {len(kept['train']):,}.")
    findings += empty_splits({split: len(some) for split, some in kept.items()}, evaluated)
    said = reported(data, findings, skip_bad)
    widest = max(len(one.answers) for some in kept.values() for *_, one in some)
    return Preferences(
        **said,
        **{split: _dataset([one for *_, one in some], widest) for split, some in kept.items()},
        sets={split: [name for name, *_ in some] for split, some in kept.items()},
        origins={
            split: [where for _, where, _ in some]
            for split, some in kept.items()
            if data not in example_sets.BUILT_IN
        },
    )


def _dataset(some: Sequence[Preference], widest: int) -> tf.data.Dataset:
    answers = [[*one.answers, *[""] * (widest - len(one.answers))] for one in some]
    prompts = [one.transcript for one in some]
    return tf.data.Dataset.from_tensor_slices(
        (np.array(prompts, object), np.array(answers, object))
    )


def _from_file(path: Path, folder: str) -> tuple[list[tuple[str, Preference]], list[Finding]]:
    """Returns the location of each good preference and the preference, and the findings."""
    values, findings = json_values(path, LAYOUT)
    if not values and not findings:
        findings.append(Fault(path.name, "an empty file", "preferences", examples=0))
    good: list[tuple[str, Preference]] = []
    ties = 0
    seen: dict[tuple[str, str, str], str] = {}
    for where, value in values:
        where = f"{folder}{where}"
        try:
            one = from_json(value)
            _require_new(one, seen, where)
        except Wrong as error:
            findings.append(Fault(where, *error.args))
        except Tie:
            ties += 1
        else:
            fault = not_utf8("\n".join((one.transcript, *one.answers)), where)
            if fault:
                findings.append(fault)
            else:
                good.append((where, one))
    if ties:
        findings.append(f"Ties, which say nothing and are left out: {ties:,}.")
    return good, findings


def _require_new(one: Preference, seen: dict[tuple[str, str, str], str], where: str) -> None:
    """Raises if a pair is also there the other way round."""
    prompt = one.transcript
    for better, worse in combinations(one.answers, 2):
        if other := seen.get((prompt, worse, better)):
            received = f"the pair of {other} the other way round"
            raise Wrong(received, "each pair in one order", "remove one of the two")
    seen.update({(prompt, *pair): where for pair in combinations(one.answers, 2)})


def from_json(value: Any) -> Preference:
    """Reads a preference in one of the forms of `LAYOUT`; raises `Wrong` or `Tie`."""
    if not isinstance(value, dict):
        raise Wrong(f"{value!r:.40}", LAYOUT)
    if {"instruction", "response1", "response2", "label"} <= value.keys():
        return _from_label(value)
    if "prompt" in value and "ranked" in value:
        ranked = value["ranked"]
        if not isinstance(ranked, list) or len(ranked) < 2:
            raise Wrong(f"{ranked!r:.40} as 'ranked'", "a list of at least two answers")
        return _preference(turns_of(value["prompt"], "prompt"), ranked)
    if not {"chosen", "rejected"} <= value.keys():
        raise Wrong(f"an object with {', '.join(map(repr, value)) or 'nothing in it'}", LAYOUT)
    if "prompt" in value:
        prompt = turns_of(value["prompt"], "prompt")
        answers = [_answer(value[name], name, prompt) for name in ("chosen", "rejected")]
        return _preference(prompt, answers)
    chosen, rejected = (_transcript(value[name], name) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise Wrong("two different prompts", "the same prompt in 'chosen' and 'rejected'")
    return _preference(chosen[:-1], [chosen[-1][1], rejected[-1][1]])


def _from_label(value: dict[str, Any]) -> Preference:
    texts = [value["instruction"], value.get("input", "")]
    for text in texts:
        require_text(text, "the prompt")
    label = value["label"]
    if label not in (0, 1, 2):
        raise Wrong(f"the label {label!r}", "0 for a tie, 1 or 2")
    answers = [value["response1"], value["response2"]]
    prompt = "\n\n".join(text.strip() for text in texts if text.strip())
    if label == 0:
        raise Tie(prompt)
    return _preference([("user", prompt)], answers if label == 1 else answers[::-1])


def _preference(prompt: Sequence[Turn], answers: Sequence[Any]) -> Preference:
    for number, answer in enumerate(answers, 1):
        require_text(answer, f"answer {number}")
    stripped = tuple(answer.strip() for answer in answers)
    if "" in stripped:
        received = f"answer {stripped.index('') + 1} of {len(stripped)} is empty"
        raise Wrong(received, "answers with a text", "write or remove it")
    if len({*stripped}) < len(stripped):
        raise Wrong("two equal answers", "different answers", "remove it")
    return Preference(prompt_of(prompt), stripped)


def prompt_of(prompt: Sequence[Turn]) -> tuple[Turn, ...]:
    """Returns the turns of a prompt as `joined` does; raises `Wrong` if they are none."""
    turns = joined(prompt)
    if not turns:
        raise Wrong("an empty prompt", "a prompt with a text")
    for _, text in turns:
        if found := _SPEAKER.search(text):
            received = f"{found[0].strip()} after a blank line within a turn"
            raise Wrong(received, "turns without it", "write it in another way")
    if turns[-1][0] != "user":
        raise Wrong("a prompt that ends with the assistant", "a prompt that ends with the user")
    return turns


def joined(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Joins turns of one role in a row, and leaves out empty ones, so that the roles alternate."""
    found: list[Turn] = []
    for role, text in turns:
        if found and found[-1][0] == role and text:
            found[-1] = (role, f"{found[-1][1]}\n\n{text}")
        elif text:
            found.append((role, text))
    return tuple(found)


def _transcript(value: Any, name: str) -> list[Turn]:
    """Returns the turns of a whole transcript, the last of which is the answer."""
    turns = turns_of(value, name, whole=True)
    if not turns or turns[-1][0] != "assistant":
        received = f"a transcript in {name!r} that ends with the user" if turns else "no turns"
        raise Wrong(received, "a transcript that ends with the assistant")
    return turns


def _answer(value: Any, name: str, prompt: Sequence[Turn]) -> Any:
    """Returns an answer; as messages it may come behind those of the prompt."""
    if not isinstance(value, list):
        return value
    *before, (_, answer) = _transcript(value, name)
    if before and joined(before) != joined(prompt):
        received = f"turns before the answer in {name!r} that are not those of the prompt"
        raise Wrong(received, "the answer, alone or after the prompt")
    return answer


def turns_of(value: Any, name: str, whole: bool = False) -> list[Turn]:
    """Returns the turns of a transcript or of messages; `whole` refuses a text without roles."""
    if isinstance(value, list):
        return [_message(one, number) for number, one in enumerate(value, 1)]
    require_text(value, f"'{name}'")
    text = value if _SPEAKER.match(value) else f"\n\n{value.strip()}"
    before, *rest = _SPEAKER.split(text)
    if not rest and not whole:
        return [("user", before.strip())]
    if before.strip():
        received = f"a turn without a role, {before.strip():.40}, in {name!r}"
        expected = "turns that begin with Human: or Assistant: after a blank line"
        raise Wrong(received, expected, "write whose turn it is")
    return [
        (_ROLE[speaker], text.strip()) for speaker, text in zip(rest[::2], rest[1::2], strict=True)
    ]


def _message(message: Any, number: int) -> Turn:
    if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
        raise Wrong(f"another layout in turn {number}", 'turns with "role" and "content"')
    name, text = message["role"], message["content"]
    role = ROLES.get(name) if isinstance(name, str) else None
    if role not in SPEAKERS:
        fix = "write a system text into the first turn of the user"
        raise Wrong(f"the role {name!r} in turn {number}", "user or assistant", fix)
    require_text(text, f"turn {number}")
    return role, text.strip()
