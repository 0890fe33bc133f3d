"""Dialogues as rows of tokens, with marks on those that a network learns to predict."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from data import token_rows
from data.dialogues import Dialogue, Dialogues
from data.sources import SPLITS
from data.splits import Splits
from preprocessing.byte_tokens import PADDING
from preprocessing.turns import TurnTokens

LEAST_LENGTH = 16
"""Minimum number of tokens per row."""
Marked = tuple[np.ndarray, np.ndarray]
"""Tokens, int32 `(tokens,)`, and whether each is predicted, bool `(tokens,)`."""


@dataclass(frozen=True, kw_only=True)
class DialogueRows(Splits):
    """Rows of tokens: each split is a dataset of pairs of a row and its targets, from `arrange`.

    Args:
        streams: The tokens of each split, one dialogue after the other, int32 `(tokens,)`.
        replies: Whether each token of `streams` belongs to a reply or ends it, bool `(tokens,)`.
        num_bytes: Number of bytes of the replies of each split, in UTF-8.
    """

    streams: Mapping[str, np.ndarray]
    replies: Mapping[str, np.ndarray]
    num_bytes: Mapping[str, int]


def arrange(
    dialogues: Dialogues,
    tokens: TurnTokens,
    length: int,
    *,
    system: str = "",
    most_system: int | None = None,
    every_turn: bool = False,
) -> DialogueRows:
    """Cuts all splits into rows, as `dialogue_rows` does it.

    Args:
        dialogues: The dialogues.
        tokens: The tokenizer.
        length: Tokens that the network reads of each row; at least `LEAST_LENGTH`.
        system: System text of the dialogues that have none of their own; "" for none.
        most_system: Maximum number of tokens of a system text, without its role and end; a longer
            one loses its end. None: only half of the row is the limit.
        every_turn: Whether all turns of the training dialogues are predicted. Otherwise, and in
            the other splits, only replies are.

    Returns:
        Rows, int32 `(length + 1,)`, -1 in padding, and their targets, bool `(length + 1,)`.
    """
    rows, streams, replies, num_bytes = {}, {}, {}, {}
    for split in SPLITS:
        found = dialogues.split(split)
        encoded = list(_encoded(found, tokens, system, most_system))
        every = every_turn and split == "train"
        marked = [row for one in encoded for row in dialogue_rows(*one, length, every)]
        rows[split] = tf.data.Dataset.from_tensor_slices(_padded(marked, length + 1))
        whole = [
            _joined([beginning, *turns], range(2, len(turns) + 1, 2))
            for beginning, turns in encoded
        ]
        streams[split], replies[split] = map(np.concatenate, zip(*whole, strict=True))
        num_bytes[split] = sum(len(reply.encode()) for one in found for reply in one.replies)
    return DialogueRows(**rows, streams=streams, replies=replies, num_bytes=num_bytes)


def dialogue_rows(
    beginning: np.ndarray, turns: Sequence[np.ndarray], length: int, every_turn: bool = False
) -> Iterator[Marked]:
    """Yields rows in which each reply follows the system text and as many past turns as fit.

    Replies that follow the same past turns share a row. If the last turn before a reply does not
    fit, it loses its beginning, but only down to half of the row. A reply that is longer than the
    rest of the row continues in further rows, which repeat `length // 2` tokens of the one before.
    A system text longer than half of the row loses its end.

    Each token of a reply, and the end token after it, is predicted in exactly one row.

    Args:
        beginning: The end token, and the system text with its role and its end token, if any.
        turns: Each turn with its role and its end token; the user has the first.
        length: Number of tokens that a full row predicts; at least `LEAST_LENGTH`.
        every_turn: Whether the user's turns are predicted, too.

    Yields:
        At most `length + 1` tokens each, and which of them are predicted.
    """
    if len(beginning) > length // 2:
        beginning = np.append(beginning[: length // 2 - 1], beginning[-1])
    room = length + 1 - len(beginning)
    first, together = 0, list[int]()

    def shared() -> Iterator[Marked]:
        if together:
            past = [beginning, *turns[first : together[-1] + 1]]
            yield _joined(past, [number - first + 1 for number in together])

    for number in range(0, len(turns)) if every_turn else range(1, len(turns), 2):
        # Of a very long dialogue only the latest turns can fit.
        latest = turns[max(0, number - length) : number + 1]
        sizes = np.cumsum([len(turn) for turn in reversed(latest)])
        fitting = int(np.sum(sizes <= room))  # Turns up to this one that fit.
        if fitting > 1 or (fitting == 1 and number == 0):
            if number + 1 - fitting != first:
                yield from shared()
                first, together = number + 1 - fitting, []
            together.append(number)
            continue
        yield from shared()
        first, together = number, []
        past = [beginning]
        if number:
            kept = max(room - len(turns[number]), length // 2 - len(beginning), 2)
            before = turns[number - 1]
            past.append(np.append(before[:1], before[1:][1 - kept :]))
        yield from _windows(*_joined([*past, turns[number]], [len(past)]), length)
    yield from shared()


def _encoded(
    dialogues: Sequence[Dialogue], tokens: TurnTokens, system: str, most_system: int | None
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yields what `dialogue_rows` reads of each dialogue."""
    texts = [text for one in dialogues for text in (one.system or system, *one.turns)]
    remaining = token_rows.encoded(texts, tokens.tokens)

    def turn(role: str, text: np.ndarray) -> np.ndarray:
        return np.concatenate([[tokens.role_id(role)], text, [tokens.end_id]]).astype("int32")

    for one in dialogues:
        first = next(remaining)[:most_system]
        beginning = np.array([tokens.end_id], "int32")
        if len(first):
            beginning = np.append(beginning, turn("system", first))
        roles = ("user", "assistant")
        yield (
            beginning,
            [turn(roles[number % 2], next(remaining)) for number in range(len(one.turns))],
        )


def _joined(parts: Sequence[np.ndarray], predicted: Collection[int]) -> Marked:
    """Joins parts, and marks the tokens after the role in those that are predicted."""
    marks = [
        np.arange(len(part)) > (0 if i in predicted else len(part)) for i, part in enumerate(parts)
    ]
    return np.concatenate(parts), np.concatenate(marks)


def _windows(row: np.ndarray, marks: np.ndarray, length: int) -> Iterator[Marked]:
    """Cuts a row into windows of at most `length + 1` tokens that overlap by `length // 2`."""
    repeated = length // 2
    for begin in range(0, max(1, len(row) - repeated), length + 1 - repeated):
        window = marks[begin : begin + length + 1].copy()
        if begin:
            window[:repeated] = False
        yield row[begin : begin + length + 1], window


def _padded(rows: Sequence[Marked], width: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.full((len(rows), width), PADDING, "int32")
    marks = np.zeros((len(rows), width), bool)
    for number, (row, predicted) in enumerate(rows):
        ids[number, : len(row)], marks[number, : len(row)] = row, predicted
    return ids, marks
