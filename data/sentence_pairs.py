"""What BERT is pretrained on: documents as arrays of numbers, laid out as pairs of segments."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data.plain_text import Document, chunks
from data.sources import BadData, Fault, watched
from preprocessing.hidden_words import MASK
from preprocessing.tokens import SPECIAL_TOKENS, WordPieces, words_with_offsets

SHORT_ROWS = 0.1
"""Share of the pairs that are made shorter than a row, so that short texts are known too."""

_SENTENCE_ENDS = ". ! ? \u3002 \uff01 \uff1f"

AROUND = 20
"""Words that are shown on each side of a gap."""


class PieceDocument(NamedTuple):
    """A document in pieces of words.

    Args:
        ids: Its lines one after the other, int32 `(pieces,)`.
        ends: The places behind its sentences, ascending; the last is the number of pieces.
    """

    ids: np.ndarray
    ends: np.ndarray


def read_vocabulary(path: str | Path) -> list[str]:
    """Reads a vocabulary of word pieces as BERT's are published: a piece a line.

    Args:
        path: A text file such as vocab.txt, with the five special tokens among its lines.
    """
    path = Path(path)
    if not path.is_file():
        fault = Fault(path.name, "no such file", "a file with a word piece a line", skippable=False)
        raise BadData(str(path), [fault])
    lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    pieces = [line.rstrip("\r") for line in lines]
    while pieces and not pieces[-1]:
        pieces.pop()
    faults = [
        Fault(path.name, f"no line {token}", "all special tokens", skippable=False)
        for token in SPECIAL_TOKENS
        if token not in pieces
    ]
    faults += [
        Fault(path.name, f"{count} lines {piece!r}", "each piece once", skippable=False)
        for piece, count in Counter(pieces).items()
        if count > 1
    ]
    if faults:
        raise BadData(str(path), faults)
    return pieces


def piece_documents(pieces: WordPieces, documents: Sequence[Document]) -> list[PieceDocument]:
    """Splits documents into pieces; those without any are left out.

    A sentence ends at the end of a line and behind a full stop, exclamation or question mark.
    """
    ids, counts = [], []
    for chunk in chunks(documents):
        found = pieces.ids(tf.constant(chunk))
        ids.append(found.values.numpy())
        counts.append(found.row_lengths().numpy())
    line = np.concatenate(ids)
    line_ends = np.cumsum(np.concatenate(counts))
    marks = np.unique(pieces.ids(tf.constant([_SENTENCE_ENDS])).values)
    is_last = np.isin(line, marks[marks != pieces.unknown_id])
    is_last[line_ends[line_ends > 0] - 1] = True
    edges = [0, *line_ends[np.cumsum([len(document) for document in documents]) - 1]]
    return [
        PieceDocument(line[begin:end], np.flatnonzero(is_last[begin:end]) + 1)
        for begin, end in pairwise(edges)
        if end > begin
    ]


def sentence_pairs(
    documents: Sequence[PieceDocument], pieces: WordPieces, length: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Lays documents out as `[CLS] first [SEP] second [SEP]`.

    Of every other row the second segment goes on where the first one ends; of the others it comes
    from another document, or, if there is only one, from another place of it. It begins with a
    sentence, if one begins within the row. Rows are full, but at the end of a document and in 10 %
    of the rows, whose length is drawn. What a foreign segment takes the place of comes next.

    Reference:
        Devlin et al., BERT, 2019, section 3.1 and appendix A.2. https://arxiv.org/abs/1810.04805

    Args:
        documents: From `piece_documents`.
        pieces: What split them.
        length: Tokens of a row, special tokens included; at least 5.
        seed: Decides where segments end, and on the foreign ones.

    Returns:
        Features int32 `(rows, length)`, as `WordPieces.encode` makes them of pairs; and 1 where the
        second segment goes on from the first, else 0, int32 `(rows,)`.
    """
    random = np.random.default_rng(seed)
    room = length - 3
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    goes_on: list[bool] = []
    ids = [document.ids for document in documents]
    shown = watched(ids, sum(map(len, ids)), "Laying out rows")
    for number, (document, _) in enumerate(zip(documents, shown, strict=True)):
        begin = 0
        # A segment has at least one piece.
        while begin + 2 <= len(document.ids):
            size = random.integers(2, room + 1) if random.random() < SHORT_ROWS else room
            end = min(begin + int(size), len(document.ids))
            cut, at_sentence = _cut(document, begin, end, random)
            foreign = None
            if random.random() < 0.5:
                taken = _Taken(number, begin, end, end - cut, at_sentence)
                foreign = _elsewhere(documents, taken, random)
            second = document.ids[cut:end] if foreign is None else foreign
            rows.append((document.ids[begin:cut], second))
            goes_on.append(foreign is None)
            begin = end if foreign is None else cut
    return _packed(rows, pieces, length), np.array(goes_on, "int32")


class _Taken(NamedTuple):
    """Where a row comes from, and how many pieces are wanted from elsewhere, beginning how."""

    number: int
    begin: int
    end: int
    wanted: int
    at_sentence: bool


def _cut(
    document: PieceDocument, begin: int, end: int, random: np.random.Generator
) -> tuple[int, bool]:
    """Chooses where the second segment begins: at a sentence if there is one, else anywhere."""
    first = np.searchsorted(document.ends, begin, side="right")
    last = np.searchsorted(document.ends, end, side="left")
    if first < last:
        return int(document.ends[random.integers(first, last)]), True
    return int(random.integers(begin + 1, end)), False


def _elsewhere(
    documents: Sequence[PieceDocument], taken: _Taken, random: np.random.Generator
) -> np.ndarray | None:
    """Takes pieces from another document; of a single one from another place, if it has one."""
    number = taken.number
    if len(documents) > 1:
        number = int(random.integers(len(documents) - 1))
        number += number >= taken.number
    ids, ends = documents[number]

    def starts_before(place: int) -> int:
        """Counts the places where a segment may begin: sentences, or all."""
        if taken.at_sentence:
            return int(place > 0) + int(np.searchsorted(ends[:-1], place))
        return min(max(place, 0), len(ids))

    # Where enough follows: else short segments would tell which are foreign.
    long, total = starts_before(len(ids) - taken.wanted + 1), starts_before(len(ids))
    before, behind = long, long
    if number == taken.number:
        before = starts_before(taken.begin - taken.wanted + 1)
        behind = starts_before(taken.end)
    if count := before + max(0, long - behind):
        chosen = int(random.integers(count))
        chosen += (behind - before) * (chosen >= before)
    elif number == taken.number and behind == total:
        return None
    else:
        chosen = behind
    start = chosen and int(ends[chosen - 1] if taken.at_sentence else chosen)
    return ids[start : start + taken.wanted]


def _packed(
    rows: Sequence[tuple[np.ndarray, np.ndarray]], pieces: WordPieces, length: int
) -> dict[str, np.ndarray]:
    shape = (len(rows), length)
    token_ids = np.full(shape, pieces.pad_id, "int32")
    segment_ids, padding_mask = np.zeros(shape, "int32"), np.zeros(shape, "int32")
    for row, (first, second) in enumerate(rows):
        line = np.concatenate(
            [[pieces.start_id], first, [pieces.end_id], second, [pieces.end_id]], dtype="int32"
        )
        token_ids[row, : len(line)] = line
        segment_ids[row, len(first) + 2 : len(line)] = 1
        padding_mask[row, : len(line)] = 1
    return {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}


def with_gap(
    pieces: WordPieces, line: str, length: int, random: np.random.Generator
) -> tuple[str, str] | None:
    """Puts a gap in the place of a word that is a single piece, and shows some words around it.

    Args:
        pieces: What splits the line.
        line: The text.
        length: Tokens of a row, special tokens included, that the words have to fit in.
        random: Chooses the word.
    """
    words, begins, ends = (part[0] for part in words_with_offsets(tf.constant([line])))
    found = pieces.ids(words)
    counts, ids = found.row_lengths().numpy(), found.to_tensor(shape=(None, 1))[:, 0].numpy()
    names = [word.decode() for word in words.numpy()]
    known = (counts == 1) & (ids != pieces.unknown_id)
    able = [i for i, name in enumerate(names) if name.isalpha() and known[i]]
    if not able:
        return None
    chosen = int(random.choice(able))
    begin, end = int(begins[chosen]), int(ends[chosen])
    # Beside [CLS], the gap and [SEP], half of the room on either side.
    before = np.cumsum(counts[:chosen][::-1][:AROUND]) <= (length - 3) // 2
    behind = np.cumsum(counts[chosen + 1 :][:AROUND]) <= (length - 3) // 2
    first, last = chosen - int(before.sum()), chosen + int(behind.sum())
    text = line.encode()
    shown = text[int(begins[first]) : begin] + MASK.encode() + text[end : int(ends[last])]
    return shown.decode(), names[chosen]
