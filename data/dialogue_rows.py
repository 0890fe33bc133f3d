"""Dialogues as rows of tokens, with marks on those that a network learns to predict."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from data import token_rows
from data.dialogues import Dialogue, Dialogues
from data.sources import SPLITS
from data.splits import Splits
from preprocessing.byte_tokens import PADDING, Bytes
from preprocessing.turns import ROLES, TurnTokens

LEAST_LENGTH = 16
"""Minimum number of tokens per row."""


class Frame(NamedTuple):
    """Number of tokens around a turn.

    Args:
        heads: Tokens before the texts of the user's and the assistant's turns.
        tail: Tokens after each text; the first of them is predicted.
    """

    heads: tuple[int, int] = (1, 1)
    tail: int = 1


OF_ROLES = Frame()
"""A role before each turn, and an end after it."""
Marked = tuple[np.ndarray, np.ndarray]
"""Tokens, int32 `(tokens,)`, and whether each is predicted, bool `(tokens,)`."""


@dataclass(frozen=True, kw_only=True)
class DialogueRows(Splits):
    """Rows of tokens: each split is a dataset of what `arrange` returns.

    Args:
        streams: Each split as `TurnTokens` of bytes, one dialogue after the other, int32
            `(tokens,)`, for predictors that count them, regardless of the tokens of the network.
        replies: Whether each token of `streams` belongs to a reply or ends it, bool `(tokens,)`.
        num_bytes: Number of bytes of the replies of each split, in UTF-8.
        num_words: Number of their words, which white space separates.
    """

    streams: Mapping[str, np.ndarray]
    replies: Mapping[str, np.ndarray]
    num_bytes: Mapping[str, int]
    num_words: Mapping[str, int]


def arrange(
    dialogues: Dialogues,
    tokens: TurnTokens,
    length: int,
    *,
    system: str = "",
    most_system: int | None = None,
    every_turn: bool = False,
    packed: bool = False,
    paired: bool = False,
) -> DialogueRows:
    """Cuts all splits into rows, as `dialogue_rows` does it, or into pairs, as `reply_pairs` does.

    Args:
        dialogues: The dialogues.
        tokens: The tokenizer.
        length: Tokens that the network reads of each row; at least `LEAST_LENGTH`.
        system: System text of the dialogues that have none of their own; "" for that of the
            tokenizer, if it has one.
        most_system: Maximum number of tokens of a system text, without its role and end; a longer
            one loses its end. None: only half of the row is the limit.
        every_turn: Whether all turns of the training dialogues are predicted. Otherwise, and in
            the other splits, only replies are.
        packed: Whether a row holds as many of these rows as fit, for networks that keep them apart.
        paired: Whether there are pairs, for networks that read the past turns with an encoder.

    Returns:
        Rows, int32 `(length + 1,)`, -1 in padding; their targets, bool `(length + 1,)`; and which
        text of the row each token is of, from 1, 0 in padding, int32 `(length + 1,)`. Of pairs:
        `source_ids` and `target_ids`, int32 `(length + 1,)`, in a dict, and the targets.
    """
    rows, streams, replies, num_bytes, num_words = {}, {}, {}, {}, {}
    heads = [len(one) + size for one, size in zip(tokens.openings, tokens.lead_sizes, strict=True)]
    frame = Frame((heads[0], heads[1]), len(tokens.tail))
    for split in SPLITS:
        found = dialogues.split(split)
        every = every_turn and split == "train"
        encoded = _encoded(found, tokens, system, most_system)
        if paired:
            pairs = [
                pair
                for one, parts in zip(found, encoded, strict=True)
                for pair in reply_pairs(*parts, length, every, frame, one.first_reply)
            ]
            sides = zip(*pairs, strict=True)
            (sources, *_), (targets, marks, _) = (
                _padded([[one] for one in side], length + 1) for side in sides
            )
            arrays: Any = ({"source_ids": sources, "target_ids": targets}, marks)
        else:
            marked = [
                row
                for one, parts in zip(found, encoded, strict=True)
                for row in dialogue_rows(*parts, length, every, frame, one.first_reply)
            ]
            groups = [[row] for row in marked]
            if packed:
                sizes = [len(row) for row, _ in marked]
                groups = [[marked[i] for i in group] for group in fitting(sizes, length + 1)]
            arrays = _padded(groups, length + 1)
        rows[split] = tf.data.Dataset.from_tensor_slices(arrays)
        whole = [
            _joined([beginning, *turns], range(one.first_reply + 1, len(turns) + 1, 2), OF_ROLES)
            for one, (beginning, turns) in zip(
                found, _encoded(found, TurnTokens(Bytes()), system, most_system), strict=True
            )
        ]
        streams[split], replies[split] = map(np.concatenate, zip(*whole, strict=True))
        texts = [reply for one in found for reply in one.replies]
        num_bytes[split] = sum(len(text.encode()) for text in texts)
        num_words[split] = sum(len(text.split()) for text in texts)
    return DialogueRows(
        **rows, streams=streams, replies=replies, num_bytes=num_bytes, num_words=num_words
    )


def dialogue_rows(
    beginning: np.ndarray,
    turns: Sequence[np.ndarray],
    length: int,
    every_turn: bool = False,
    frame: Frame = OF_ROLES,
    first_reply: int = 1,
) -> Iterator[Marked]:
    """Yields rows in which each reply follows the system text and as many past turns as fit.

    Replies that follow the same past turns share a row. If the last turn before a reply does not
    fit, it loses its beginning, but only down to half of the row. A reply that is longer than the
    rest of the row continues in further rows, which repeat `length // 2` tokens of the one before.
    A system text longer than half of the row loses its end.

    Each token of a reply, and the end token after it, is predicted in exactly one row.

    Args:
        beginning: The token that begins a dialogue, and the system text with its role and its end
            token, if any.
        turns: Each turn with its role and its end token; the user has the first.
        length: Number of tokens that a full row predicts; at least `LEAST_LENGTH`.
        every_turn: Whether the user's turns are predicted, too, and all of the assistant's.
        frame: Number of tokens of a role and of the end.
        first_reply: As of `Dialogue`.

    Yields:
        At most `length + 1` tokens each, and which of them are predicted.
    """
    together = list[Past]()  # With the same first turn.

    def shared() -> Iterator[Marked]:
        if together:
            first, last = together[0].first, together[-1]
            numbers = [one.number - first + 1 for one in together]
            yield _joined([*last.parts, turns[last.number]], numbers, frame, first)

    for past in _pasts(beginning, turns, length, every_turn, frame, first_reply):
        if together and (past.is_cut or past.first != together[0].first):
            yield from shared()
            together = []
        if past.is_cut:
            parts = [*past.parts, turns[past.number]]
            marked = _joined(parts, [len(past.parts)], frame, past.first)
            yield from _windows(*marked, length)
        else:
            together.append(past)
    yield from shared()


def reply_pairs(
    beginning: np.ndarray,
    turns: Sequence[np.ndarray],
    length: int,
    every_turn: bool = False,
    frame: Frame = OF_ROLES,
    first_reply: int = 1,
) -> Iterator[tuple[Marked, Marked]]:
    """Yields pairs: what `dialogue_rows` has before each reply, its role included, and the reply.

    A reply of more than `length + 1` tokens is cut into pairs with the same source, which repeat
    `length // 2` tokens of the one before. The first turn of a dialogue, which has no past, is in
    no pair.

    Args:
        beginning: As of `dialogue_rows`, and so are the others.

    Yields:
        The source, of which nothing is predicted, and the role and the reply, at most `length + 1`
        tokens each.
    """
    for past in _pasts(beginning, turns, length, every_turn, frame, first_reply):
        if not past.number:
            continue
        reply = turns[past.number]
        head = frame.heads[past.number % 2]
        source = np.concatenate([*past.parts, reply[:head]])
        for window in _windows(*_joined([reply], [0], frame, past.number + 1), length):
            yield (source, np.zeros(len(source), bool)), window


class Past(NamedTuple):
    """What is before a turn that is predicted.

    Args:
        number: Number of the turn in its dialogue.
        parts: The beginning, and as many of the turns before it as fit.
        is_cut: Whether the last of them, or the turn itself, does not fit as a whole.
    """

    number: int
    parts: list[np.ndarray]
    is_cut: bool

    @property
    def first(self) -> int:
        """Number of the first turn of the parts."""
        return self.number + 1 - len(self.parts)


def _pasts(
    beginning: np.ndarray,
    turns: Sequence[np.ndarray],
    length: int,
    every_turn: bool,
    frame: Frame,
    first_reply: int,
) -> Iterator[Past]:
    """Yields what is before each turn that is predicted, with arguments of `dialogue_rows`."""
    if len(beginning) > length // 2:
        beginning = np.append(beginning[: length // 2 - frame.tail], beginning[-frame.tail :])
    room = length + 1 - len(beginning)
    for number in range(0, len(turns)) if every_turn else range(first_reply, len(turns), 2):
        # Of a very long dialogue only the latest turns can fit.
        latest = turns[max(0, number - length) : number + 1]
        sizes = np.cumsum([len(turn) for turn in reversed(latest)])
        fitting = int(np.sum(sizes <= room))  # Turns up to this one that fit.
        if fitting > 1 or (fitting == 1 and number == 0):
            yield Past(number, [beginning, *turns[number + 1 - fitting : number]], False)
            continue
        parts = [beginning]
        if number:
            head, before = frame.heads[(number - 1) % 2], turns[number - 1]
            least = head + frame.tail
            kept = max(room - len(turns[number]), length // 2 - len(beginning), least)
            parts.append(np.append(before[:head], before[head:][head - kept :]))
        yield Past(number, parts, True)


def _encoded(
    dialogues: Sequence[Dialogue], tokens: TurnTokens, system: str, most_system: int | None
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yields what `dialogue_rows` reads of each dialogue."""
    texts = [
        tokens.led(text, role)
        for one in dialogues
        for role, text in (
            ("system", one.system or system or tokens.default_system),
            *((ROLES[number % 2], turn) for number, turn in enumerate(one.turns)),
        )
    ]
    remaining = token_rows.encoded(texts, tokens.tokens)

    def turn(role: int, text: np.ndarray) -> np.ndarray:
        return np.concatenate([tokens.openings[role], text, tokens.tail]).astype("int32")

    begin = np.array([] if tokens.begin_id is None else [tokens.begin_id], "int32")
    number_of_system = ROLES.index("system")
    lead = tokens.lead_sizes[number_of_system]
    for one in dialogues:
        first = next(remaining)
        first = first if most_system is None else first[: lead + most_system]
        system_turn = turn(number_of_system, first) if len(first) > lead else begin[:0]
        turns = [turn(number % 2, next(remaining)) for number in range(len(one.turns))]
        yield np.append(begin, system_turn), turns


def _joined(
    parts: Sequence[np.ndarray], predicted: Collection[int], frame: Frame, first: int = 0
) -> Marked:
    """Joins parts, and marks the texts and ends of those that are predicted.

    Args:
        parts: The beginning and the turns.
        predicted: Indices of the parts that are predicted.
        frame: Number of tokens around each turn.
        first: Number of the first turn.
    """
    marks = []
    for i, part in enumerate(parts):
        numbers = np.arange(len(part))
        is_text = (numbers >= frame.heads[(first + i - 1) % 2]) & (
            numbers <= len(part) - frame.tail
        )
        marks.append(is_text & (i in predicted))
    return np.concatenate(parts), np.concatenate(marks)


def _windows(row: np.ndarray, marks: np.ndarray, length: int) -> Iterator[Marked]:
    """Cuts a row into windows of at most `length + 1` tokens that overlap by `length // 2`."""
    repeated = length // 2
    for begin in range(0, max(1, len(row) - repeated), length + 1 - repeated):
        window = marks[begin : begin + length + 1].copy()
        if begin:
            window[:repeated] = False
        yield row[begin : begin + length + 1], window


def fitting(sizes: Sequence[int], width: int) -> list[list[int]]:
    """Puts rows into as few groups as the rule of the best fit finds, the longest rows first.

    Args:
        sizes: Number of tokens of each row, at most `width`.
        width: Maximum number of tokens of a group.

    Returns:
        The indices of the rows of each group.

    Example:
        >>> fitting([2, 5, 4, 1, 3], 6)
        [[1, 3], [2, 0], [4]]
    """
    groups, with_room = list[list[int]](), [list[list[int]]() for _ in range(width + 1)]
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        size = sizes[index]
        room = next((room for room in range(size, width + 1) if with_room[room]), None)
        if room is None:
            room, group = width, list[int]()
            groups.append(group)
        else:
            group = with_room[room].pop()
        group.append(index)
        with_room[room - size].append(group)
    return groups


def _padded(groups: Sequence[Sequence[Marked]], width: int) -> tuple[np.ndarray, ...]:
    ids = np.full((len(groups), width), PADDING, "int32")
    marks = np.zeros((len(groups), width), bool)
    texts = np.zeros((len(groups), width), "int32")
    for number, group in enumerate(groups):
        begin = 0
        for text, (row, predicted) in enumerate(group, 1):
            part = np.s_[number, begin : begin + len(row)]
            ids[part], marks[part], texts[part] = row, predicted, text
            begin += len(row)
    return ids, marks, texts
