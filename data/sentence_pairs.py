"""The examples of BERT's pretraining: documents as piece ids, arranged as pairs of segments."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data.plain_text import Document, PlainTexts, chunks, sample_lines
from data.sources import SPLITS, BadData, Fault, watched
from data.splits import Splits
from preprocessing.hidden_words import MASK, hidden_once
from preprocessing.tokens import SPECIAL_TOKENS, WordPieces, words_with_offsets

SHORT_ROWS = 0.1
"""Share of the rows that are shorter than `length`, so that BERT also learns from short texts."""

_SENTENCE_ENDS = ". ! ? \u3002 \uff01 \uff1f"

AROUND = 20
"""Maximum number of words shown on each side of a gap."""


class PieceDocument(NamedTuple):
    """A document as word pieces.

    Args:
        ids: The pieces of all its lines, int32 `(pieces,)`.
        ends: Index after the last piece of each sentence, ascending. The last one is the number of
            pieces.
    """

    ids: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True, kw_only=True)
class SentencePairs(Splits):
    """Rows for BERT's pretraining.

    A row of `train` is features and whether the second segment continues the first one. In
    `validation` and `test` words are hidden already, always the same ones, so that scores can be
    compared: a row is features, labels by output, and weights by output.

    Args:
        pieces: The tokenizer.
        documents: The pieces of the training documents, int32 `(pieces,)` each.
    """

    pieces: WordPieces
    documents: Sequence[np.ndarray]


def arrange(texts: PlainTexts, pieces: WordPieces, length: int, seed: int) -> SentencePairs:
    """Arranges all splits as rows of two segments.

    Args:
        texts: The documents.
        pieces: The tokenizer.
        length: Tokens per row, special tokens included; at least 5.
        seed: Seed of the choice of segments in the training split.
    """
    documents = {split: piece_documents(pieces, texts.split(split)) for split in SPLITS}
    rows = {}
    for number, split in reversed([*enumerate(SPLITS)]):  # Evaluated data has only the test split.
        chosen = seed if split == "train" else number
        features, continues = sentence_pairs(documents[split], pieces, length, chosen)
        if not len(continues):
            raise ValueError(
                f"The {split} split must have a document of at least two words. Received: none."
            )
        rows[split] = tf.data.Dataset.from_tensor_slices((features, continues))
    for split in ("validation", "test"):
        rows[split] = hidden_once(pieces, rows[split], seed=0)
    training = [document.ids for document in documents["train"]]
    return SentencePairs(**rows, pieces=pieces, documents=training)


def read_vocabulary(path: str | Path) -> list[str]:
    """Reads a vocabulary of word pieces in BERT's format: one piece per line.

    Args:
        path: A text file such as vocab.txt. It must contain the five special tokens.
    """
    path = Path(path)
    if not path.is_file():
        expected = "a file with one word piece per line"
        raise BadData(str(path), [Fault(path.name, "no such file", expected, skippable=False)])
    lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    pieces = [line.rstrip("\r") for line in lines]
    while pieces and not pieces[-1]:
        pieces.pop()
    faults = [
        Fault(path.name, f"no line {token}", "all five special tokens", skippable=False)
        for token in SPECIAL_TOKENS
        if token not in pieces
    ]
    faults += [
        Fault(path.name, f"{count} lines {piece!r}", "each piece only once", skippable=False)
        for piece, count in Counter(pieces).items()
        if count > 1
    ]
    if faults:
        raise BadData(str(path), faults)
    return pieces


def piece_documents(pieces: WordPieces, documents: Sequence[Document]) -> list[PieceDocument]:
    """Splits documents into pieces; leaves out documents without any.

    A sentence ends at the end of a line and after a full stop, exclamation or question mark.
    """
    ids, counts = [], []
    for chunk in chunks(documents):
        lines = pieces.ids(tf.constant(chunk))
        ids.append(lines.values.numpy())
        counts.append(lines.row_lengths().numpy())
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
    """Arranges documents as rows `[CLS] first [SEP] second [SEP]`.

    In half of the rows, at random, the second segment continues the first one. In the other half it
    comes from another document, or, if there is only one, from elsewhere in that document. The
    pieces that it replaces begin the next row. The second segment begins at a sentence, if a
    sentence begins within the row. Rows are full, except at the end of a document and in 10 % of
    the rows, which get a random length.

    Reference:
        Devlin et al., BERT, 2019, section 3.1 and appendix A.2. https://arxiv.org/abs/1810.04805

    Args:
        documents: From `piece_documents`.
        pieces: The tokenizer that split them.
        length: Tokens per row, special tokens included; at least 5.
        seed: Seed of the choice of segments.

    Returns:
        Features int32 `(rows, length)`, as from `WordPieces.encode` for pairs; and int32 `(rows,)`,
        1 if the second segment continues the first one, else 0.
    """
    random = np.random.default_rng(seed)
    room = length - 3
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    continues: list[bool] = []
    ids = [document.ids for document in documents]
    shown = watched(ids, sum(map(len, ids)), "Arranging rows")
    for number, (document, _) in enumerate(zip(documents, shown, strict=True)):
        begin = 0
        # A segment has at least one piece.
        while begin + 2 <= len(document.ids):
            size = random.integers(2, room + 1) if random.random() < SHORT_ROWS else room
            end = min(begin + int(size), len(document.ids))
            cut, at_sentence = _cut(document, begin, end, random)
            other = None
            if random.random() < 0.5:
                taken = _Taken(number, begin, end, end - cut, at_sentence)
                other = _elsewhere(documents, taken, random)
            second = document.ids[cut:end] if other is None else other
            rows.append((document.ids[begin:cut], second))
            continues.append(other is None)
            begin = end if other is None else cut
    return _packed(rows, pieces, length), np.array(continues, "int32")


class _Taken(NamedTuple):
    """The part of a document that a row is taken from, and the requirements on its other segment.

    Args:
        number: Index of the document.
        begin: First piece of the row.
        end: Index after its last piece.
        size: Pieces of the segment from elsewhere.
        at_sentence: Whether that segment begins at a sentence.
    """

    number: int
    begin: int
    end: int
    size: int
    at_sentence: bool


def _cut(
    document: PieceDocument, begin: int, end: int, random: np.random.Generator
) -> tuple[int, bool]:
    """Chooses where the second segment begins: at a sentence if possible, else anywhere."""
    first = np.searchsorted(document.ends, begin, side="right")
    last = np.searchsorted(document.ends, end, side="left")
    if first < last:
        return int(document.ends[random.integers(first, last)]), True
    return int(random.integers(begin + 1, end)), False


def _elsewhere(
    documents: Sequence[PieceDocument], taken: _Taken, random: np.random.Generator
) -> np.ndarray | None:
    """Takes pieces from another document; if there is only one, from elsewhere in it or None."""
    number = taken.number
    if len(documents) > 1:
        number = int(random.integers(len(documents) - 1))
        number += number >= taken.number
    ids, ends = documents[number]

    def starts_before(position: int) -> int:
        """Counts the positions where a segment may begin: those of sentences, or all."""
        if taken.at_sentence:
            return int(position > 0) + int(np.searchsorted(ends[:-1], position))
        return min(max(position, 0), len(ids))

    # Prefer starts with enough pieces after them: short segments would reveal a random second one.
    long, total = starts_before(len(ids) - taken.size + 1), starts_before(len(ids))
    before, behind = long, long
    if number == taken.number:
        before = starts_before(taken.begin - taken.size + 1)
        behind = starts_before(taken.end)
    if count := before + max(0, long - behind):
        chosen = int(random.integers(count))
        chosen += (behind - before) * (chosen >= before)
    elif number == taken.number and behind == total:
        return None
    else:
        chosen = behind
    start = chosen and int(ends[chosen - 1] if taken.at_sentence else chosen)
    return ids[start : start + taken.size]


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


def with_gaps(
    pieces: WordPieces, documents: Sequence[Document], length: int, seed: int
) -> list[tuple[str, str]]:
    """Replaces a random word by `[MASK]` in some lines of documents; returns texts and words.

    Lines without a word that is a single piece are left out. If all are, `[MASK]` alone remains,
    with "" as its word.

    Args:
        pieces: The tokenizer.
        documents: Where the lines come from.
        length: Maximum number of tokens of a text, special tokens included.
        seed: Seed of the choice of words.
    """
    random = np.random.default_rng(seed)
    gaps = [with_gap(pieces, line, length, random) for line in sample_lines(documents)]
    return [gap for gap in gaps if gap] or [(MASK, "")]


def with_gap(
    pieces: WordPieces, line: str, length: int, random: np.random.Generator
) -> tuple[str, str] | None:
    """Replaces a random word that is a single piece by `[MASK]`; returns text and word.

    The text is truncated to some words around the gap. None if no word is a single piece.

    Args:
        pieces: The tokenizer.
        line: The text.
        length: Maximum number of tokens of the text, special tokens included.
        random: Generator that chooses the word.
    """
    words, begins, ends = (part[0] for part in words_with_offsets(tf.constant([line])))
    split = pieces.ids(words)
    counts, ids = split.row_lengths().numpy(), split.to_tensor(shape=(None, 1))[:, 0].numpy()
    names = [word.decode() for word in words.numpy()]
    known = (counts == 1) & (ids != pieces.unknown_id)
    able = [i for i, name in enumerate(names) if name.isalpha() and known[i]]
    if not able:
        return None
    chosen = int(random.choice(able))
    begin, end = int(begins[chosen]), int(ends[chosen])
    # Half of the tokens other than [CLS], the gap and [SEP] on either side.
    before = np.cumsum(counts[:chosen][::-1][:AROUND]) <= (length - 3) // 2
    behind = np.cumsum(counts[chosen + 1 :][:AROUND]) <= (length - 3) // 2
    first, last = chosen - int(before.sum()), chosen + int(behind.sum())
    text = line.encode()
    shown = text[int(begins[first]) : begin] + MASK.encode() + text[end : int(ends[last])]
    return shown.decode(), names[chosen]
