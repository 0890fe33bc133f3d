from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from data import token_rows
from data.dialogue_rows import arrange, fitting
from data.dialogues import Dialogue, Dialogues, padded
from data.sources import SPLITS
from preprocessing.byte_tokens import Bytes
from preprocessing.turns import TurnTokens

TOKENS = TurnTokens(Bytes())
END, USER, ASSISTANT, SYSTEM = 256, 257, 258, 259
LENGTH = 24


def rows_of(*dialogues: Dialogue, length=LENGTH, split="train", **options):
    """Rows without their padding, and their targets."""
    short = (Dialogue(("hi", "ho")),)
    splits: dict[str, Any] = dict.fromkeys(SPLITS, short) | {split: dialogues}
    data = Dialogues(**splits)
    arranged = arrange(data, TOKENS, length, **options)
    pairs = [(a.numpy(), b.numpy()) for a, b, _ in arranged.split(split)]
    assert all(row.shape == marks.shape == (length + 1,) for row, marks in pairs)
    assert not any(marks[row < 0].any() for row, marks in pairs)
    return [(row[row >= 0].tolist(), marks[row >= 0].tolist()) for row, marks in pairs]


def said(role: int, text: str) -> list[int]:
    return [role, *text.encode(), END]


def random_dialogues(count=60):
    random = np.random.default_rng(0)
    return [
        Dialogue(
            tuple(
                "".join(map(chr, random.integers(97, 123, size)))
                for size in random.integers(1, 9, random.integers(2, 9))
            ),
            "s" * int(random.integers(0, 3)),
        )
        for _ in range(count)
    ]


def test_a_dialogue_that_fits_is_one_row_in_which_replies_are_predicted():
    ((row, marks),) = rows_of(Dialogue(("a", "bc", "d", "e"), "S"))
    first, second = said(USER, "a") + said(ASSISTANT, "bc"), said(USER, "d") + said(ASSISTANT, "e")
    assert row == [END, *said(SYSTEM, "S"), *first, *second]
    expected = [0] * 4 + [0] * 3 + [0, 1, 1, 1] + [0] * 3 + [0, 1, 1]
    assert marks == [bool(mark) for mark in expected]


def test_every_turn_is_predicted_on_request_in_training_alone():
    dialogue = Dialogue(("a", "bc", "d"))
    ((row, marks),) = rows_of(dialogue, every_turn=True)
    assert len(row) == 1 + 3 + 4 + 3
    assert marks == [bool(mark) for mark in [0, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1]]
    ((row, marks),) = rows_of(dialogue, every_turn=True, split="test")
    assert row == [END, *said(USER, "a"), *said(ASSISTANT, "bc")] and sum(marks) == 3


def test_the_runs_system_text_is_for_dialogues_that_have_none():
    (own, _), (other, _) = rows_of(Dialogue(("a", "b"), "S"), Dialogue(("a", "b")), system="T")
    assert own[1:4] == said(SYSTEM, "S") and other[1:4] == said(SYSTEM, "T")


def replies_in(rows) -> list[tuple[list[int], list[int]]]:
    """What comes before each reply in its row, and the reply."""
    found = []
    for row, marks in rows:
        edges = np.flatnonzero(np.diff([0, *marks, 0])).tolist()
        found += [
            (row[:begin], row[begin:end])
            for begin, end in zip(edges[::2], edges[1::2], strict=True)
        ]
    return found


@pytest.mark.parametrize("length", [24, 40])
def test_replies_follow_what_the_export_reads_before_them(length):
    past, systems, replies = [], [], []
    for dialogue in random_dialogues():
        for number in range(1, len(dialogue.turns), 2):
            past.append(dialogue.turns[:number])
            systems.append(dialogue.system)
            replies.append([*dialogue.turns[number].encode(), END])
    rooms = [length - len(reply) for reply in replies]
    prompts, dropped = TOKENS.prompts(
        tf.constant(padded(past)), tf.constant(systems), tf.constant(rooms)
    )
    before = [[END, *row[row >= 0].tolist()] for row in prompts.numpy()]
    found = replies_in(rows_of(*random_dialogues(), length=length))
    assert found == list(zip(before, replies, strict=True))
    assert dropped.numpy().any() and not dropped.numpy().all()


@pytest.mark.parametrize("every_turn", [False, True])
def test_each_token_is_predicted_exactly_once(every_turn):
    dialogues = [*random_dialogues(20), Dialogue(("q" * 70, "r" * 90, "s", "t" * 50), "u" * 40)]
    dialogues.append(Dialogue(("a", "b", "c", "d" * 9, "e", "f"), first_reply=3))
    marked = [
        (token, mark)
        for row, marks in rows_of(*dialogues, every_turn=every_turn)
        for token, mark in zip(row, marks, strict=True)
    ]
    turns = [turn for one in dialogues for turn in (one.turns if every_turn else one.replies)]
    expected = [token for turn in turns for token in (*turn.encode(), END)]
    assert [token for token, mark in marked if mark] == expected


def test_a_long_reply_continues_in_rows_that_overlap_by_half():
    rows = rows_of(Dialogue(("x" * 30, "0123456789" * 3)), length=16)
    first, *others = ["".join(map(chr, row)) for row, _ in rows]
    # A half of the row is the end token and what remains of the last turn.
    assert first == f"{chr(END)}{chr(USER)}{'x' * 5}{chr(END)}{chr(ASSISTANT)}01234567"
    assert others == ["01234567890123456", "90123456789012345", f"890123456789{chr(END)}"]
    for (row, _), (following, marks) in pairwise(rows):
        assert following[:8] == row[-8:] and not any(marks[:8]) and all(marks[8:])


def pairs_of(*dialogues: Dialogue, split="train", **options):
    """The sources and targets of pairs without their padding, and which targets are predicted."""
    data = Dialogues(train=dialogues, validation=dialogues, test=dialogues)
    arranged = arrange(data, TOKENS, paired=True, **{"length": LENGTH, **options})
    found = []
    for pair, marks in arranged.split(split).as_numpy_iterator():
        source, target = (pair[name][pair[name] >= 0] for name in ("source_ids", "target_ids"))
        assert not marks[len(target) :].any()
        found.append((source.tolist(), target.tolist(), marks[: len(target)].tolist()))
    return found


@pytest.mark.parametrize("length", [24, 40])
def test_pairs_have_what_rows_have_before_each_reply(length):
    dialogues = random_dialogues()
    expected = replies_in(rows_of(*dialogues, length=length))
    found = pairs_of(*dialogues, length=length)
    assert [(source, target[1:]) for source, target, _ in found] == expected
    for _, target, marks in found:
        assert target[0] == ASSISTANT and marks == [False] + [True] * (len(target) - 1)


def test_every_turn_but_the_first_is_a_pair_on_request_in_training_alone():
    dialogue = Dialogue(("a", "bc", "d"), "S")
    past = [END, *said(SYSTEM, "S"), *said(USER, "a")]
    answer = ([*past, ASSISTANT], said(ASSISTANT, "bc"), [False, True, True, True])
    after = ([*past, *said(ASSISTANT, "bc"), USER], said(USER, "d"), [False, True, True])
    assert pairs_of(dialogue, every_turn=True) == [answer, after]
    assert pairs_of(dialogue, every_turn=True, split="test") == pairs_of(dialogue) == [answer]


def test_each_token_of_a_long_reply_is_predicted_in_one_pair_with_the_same_source():
    long = "0123456789" * 9
    pairs = pairs_of(Dialogue(("q" * 70, long), "u" * 40))
    ((source, *_), *others) = pairs
    assert len(pairs) > 5 and all(other == source for other, *_ in others)
    # A half of the row is the end token, the system text and what remains of the last turn.
    assert source == [END, *said(SYSTEM, "u" * 9)[:-1], END, *said(USER, ""), ASSISTANT]
    predicted = [
        token
        for _, target, marks in pairs
        for token, mark in zip(target, marks, strict=True)
        if mark
    ]
    assert predicted == [*long.encode(), END]
    for (_, target, _), (_, following, marks) in pairwise(pairs):
        assert following[:12] == target[-12:] and not any(marks[:12])


def test_streams_hold_whole_dialogues_and_mark_their_replies():
    dialogue = Dialogue(("q" * 70, "r" * 90, "s", "té"), "u" * 40)
    data = Dialogues(train=(dialogue,), validation=(dialogue,), test=(dialogue, dialogue))
    arranged = arrange(data, TOKENS, LENGTH)
    stream, replies = arranged.streams["test"], arranged.replies["test"]
    assert len(stream) == len(replies) == 2 * (1 + 42 + 72 + 92 + 3 + 5)
    assert replies.sum() == 2 * (91 + 4) and arranged.num_bytes["test"] == 2 * (90 + 3)
    assert arranged.num_words["test"] == 2 * (1 + 1)
    marks = np.concatenate([marks.numpy() for _, marks, _ in arranged.test])
    assert marks.sum() == replies.sum()
    assert stream[replies].tolist()[:91] == [*b"r" * 90, END]


def test_many_texts_are_encoded_in_chunks(monkeypatch):
    dialogues = random_dialogues(9)
    expected = rows_of(*dialogues)
    monkeypatch.setattr(token_rows, "CHUNK", 5)
    assert rows_of(*dialogues) == expected


def test_packed_rows_hold_the_same_texts_with_a_number_each():
    dialogues = tuple(random_dialogues())
    data = Dialogues(train=dialogues, validation=dialogues, test=dialogues)
    found = []
    rows = list(arrange(data, TOKENS, 100, packed=True).test.as_numpy_iterator())
    for row, marks, texts in rows:
        np.testing.assert_array_equal(texts > 0, row >= 0)
        assert set(np.diff(texts[texts > 0])) <= {0, 1}
        found += [
            (row[texts == number].tolist(), marks[texts == number].tolist())
            for number in range(1, texts.max() + 1)
        ]
    assert sorted(found) == sorted(rows_of(*dialogues, length=100))
    # Without packing a row is a dialogue, of which few are long.
    assert len(rows) < 0.6 * len(found)
    assert np.mean([row[:-1] < 0 for row, *_ in rows]) < 0.05


def test_rows_that_fit_together_are_put_together():
    sizes = np.random.default_rng(0).integers(1, 33, 500).tolist()
    groups = fitting(sizes, 64)
    assert sorted(index for group in groups for index in group) == list(range(500))
    totals = [sum(sizes[index] for index in group) for group in groups]
    assert max(totals) <= 64 and len(groups) <= 1.02 * -(-sum(sizes) // 64) + 1
    assert fitting([], 64) == []
