"""What language models are pretrained on: pairs of segments with words hidden, and words in a row.

Documents become arrays of numbers once; what is hidden from BERT is drawn anew for each batch.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from data.plain_text import Document
from data.sources import BadData, Fault, watched
from data.tokens import SPECIAL_TOKENS, Characters, WordPieces, words_with_offsets

SHORT_ROWS = 0.1
"""Share of the pairs that are made shorter than a row, so that short texts are known too."""

HIDDEN = 0.15
"""Share of the pieces that BERT has to tell; of these 80 % become [MASK], 10 % any piece."""

CHUNK = 1024
"""Lines that are split at once."""

_SENTENCE_ENDS = ". ! ? \u3002 \uff01 \uff1f"

PADDING, BEGIN, END = 0, 1, 2
"""Numbers of what is no word: padding, and what ELMo reads at both ends of a line."""

NUM_MARKS = 3


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
    for chunk in _chunks(documents):
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


def _chunks(documents: Sequence[Document]) -> Iterator[list[str]]:
    lines = [line for document in documents for line in document]
    chunks = [lines[place : place + CHUNK] for place in range(0, len(lines), CHUNK)]
    yield from watched(chunks, len(lines), "Splitting lines")


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
    for number, document in enumerate(documents):
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
    starts = np.append(0, ends[:-1]) if taken.at_sentence else np.arange(len(ids))
    if number == taken.number:
        starts = starts[(starts >= taken.end) | (starts + taken.wanted <= taken.begin)]
        if not len(starts):
            return None
    # Where enough follows: else short segments would tell which are foreign.
    long = starts[starts + taken.wanted <= len(ids)]
    start = int(random.choice(long if len(long) else starts[:1]))
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


class WordHider:
    """Hides words from BERT, which has to tell them.

    Of 15 % of the pieces, never of special tokens or padding, 80 % become `[MASK]`, 10 % any piece
    and 10 % stay as they are. Operations of TensorFlow alone, and a pure function of the seed.

    Reference:
        Devlin et al., BERT, 2019, section 3.1 and appendix A.1. https://arxiv.org/abs/1810.04805

    Args:
        pieces: What splits the texts.
    """

    def __init__(self, pieces: WordPieces):
        special = [pieces.pad_id, pieces.unknown_id, pieces.start_id, pieces.end_id, pieces.mask_id]
        self.mask_id = pieces.mask_id
        self._is_special = np.isin(np.arange(pieces.vocabulary_size), special)
        self._ordinary = np.flatnonzero(~self._is_special).astype("int32")

    def hide(
        self, features: Mapping[str, tf.Tensor], seed: Any
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """Hides words of a batch.

        Args:
            features: From `sentence_pairs`, `(n, length)`.
            seed: Two whole numbers.

        Returns:
            The features, with `mask_positions` int32 `(n, predictions)`, where predictions is 15 %
            of the length; the pieces that stood there, int32 `(n, predictions)`; and their weights,
            float32: 1, or 0 where a row has fewer, with position and piece 0.
        """
        ids = tf.convert_to_tensor(features["token_ids"])
        order_seed, fate_seed, piece_seed = tf.unstack(tf.random.split(seed, 3))
        is_word = (features["padding_mask"] > 0) & ~tf.gather(self._is_special, ids)
        noise = tf.random.stateless_uniform(tf.shape(ids), order_seed)
        _, positions = tf.math.top_k(tf.where(is_word, noise, -1.0), _share(_width(ids)))
        num_words = tf.reduce_sum(tf.cast(is_word, tf.int32), 1)
        counts = tf.minimum(_share(num_words), num_words)
        chosen = tf.range(tf.shape(positions)[1])[None] < counts[:, None]
        # Elsewhere [CLS] is put in its own place.
        positions = tf.where(chosen, positions, 0)
        true = tf.gather(ids, positions, batch_dims=1)
        fate = tf.random.stateless_uniform(tf.shape(positions), fate_seed)
        drawn = tf.random.stateless_uniform(
            tf.shape(positions), piece_seed, 0, len(self._ordinary), tf.int32
        )
        put = tf.where(fate < 0.9, tf.gather(self._ordinary, drawn), true)
        put = tf.where(chosen, tf.where(fate < 0.8, self.mask_id, put), true)
        rows = tf.broadcast_to(tf.range(tf.shape(ids)[0])[:, None], tf.shape(positions))
        ids = tf.tensor_scatter_nd_update(ids, tf.stack([rows, positions], 2), put)
        hidden = {**features, "token_ids": ids, "mask_positions": positions}
        return hidden, tf.where(chosen, true, 0), tf.cast(chosen, tf.float32)


def _width(ids: tf.Tensor) -> Any:
    """The number of columns, known before the graph runs if it can be."""
    return tf.shape(ids)[1] if ids.shape[1] is None else ids.shape[1]


def _share(count: Any) -> Any:
    """15 %, at least 1; a number for a number."""
    if isinstance(count, int):
        return max(1, round(HIDDEN * count))
    rounded = tf.cast(tf.round(HIDDEN * tf.cast(count, tf.float32)), tf.int32)
    return tf.maximum(rounded, 1)


@dataclass(frozen=True)
class SpelledWords:
    """The words of a text as numbers, and as the characters that ELMo reads.

    Number 0 is padding, 1 and 2 are the begin and the end of a line; words follow, those that are
    commonest in training first. The first `vocabulary_size` numbers are what ELMo tells words by:
    there 0 stands for all other words.

    Args:
        names: The words in UTF-8, from number 3 on.
        characters: int32 `(3 + words, 50)`, from `Characters`.
        vocabulary_size: Numbers that ELMo tells apart.
    """

    names: tuple[bytes, ...]
    characters: tf.Tensor
    vocabulary_size: int

    @property
    def vocabulary(self) -> list[str]:
        """The name of each number below `vocabulary_size`."""
        named = self.names[: self.vocabulary_size - NUM_MARKS]
        return ["<unk>", "<S>", "</S>", *(name.decode() for name in named)]

    def spell(self, rows: tf.Tensor) -> tf.Tensor:
        """Spells numbers int32 `(n, words)`; int32 `(n, words, 50)`."""
        return tf.gather(self.characters, rows)

    def targets(self, rows: Any) -> dict[str, tuple[Any, Any]]:
        """Says what is to be told by the words of rows.

        Args:
            rows: Numbers int32 `(n, words + 2)` from `word_rows`.

        Returns:
            `forward`, the next words, and `backward`, the words before: numbers below
            `vocabulary_size` int32 `(n, words)` and their weights float32, 0 where there is no such
            word. The begin of a line after an end is no news, nor is the end before a begin.
        """
        before, words, after = rows[:, :-2], rows[:, 1:-1], rows[:, 2:]

        def told(neighbours, no_news):
            counts = (words != PADDING) & (neighbours != PADDING) & (neighbours != no_news)
            return self.known(neighbours), tf.cast(counts, tf.float32)

        return {"forward": told(after, BEGIN), "backward": told(before, END)}

    def known(self, numbers: Any) -> tf.Tensor:
        """Makes 0 of the words that are not in the vocabulary."""
        return tf.where(numbers < self.vocabulary_size, numbers, PADDING)


def spelled_documents(
    splits: Mapping[str, Sequence[Document]], vocabulary_size: int
) -> tuple[SpelledWords, dict[str, list[np.ndarray]]]:
    """Splits documents into words and numbers these.

    Args:
        splits: Documents; those of `train` come first, and the vocabulary is counted in them.
        vocabulary_size: Most numbers that ELMo tells apart, marks included.

    Returns:
        The words, and of each split its documents, int32 `(words,)`: each line between 1 and 2.
    """
    numbers: dict[bytes, int] = {}
    found = {split: _numbered(documents, numbers) for split, documents in splits.items()}
    in_training = np.concatenate(found["train"])
    counts = np.bincount(in_training, minlength=NUM_MARKS + len(numbers))[NUM_MARKS:]
    order = np.argsort(-counts, kind="stable")
    renumbered = np.arange(NUM_MARKS + len(numbers), dtype="int32")
    renumbered[order + NUM_MARKS] = np.arange(len(order)) + NUM_MARKS
    unsorted = list(numbers)
    names = tuple(unsorted[place] for place in order)
    known = min(vocabulary_size, NUM_MARKS + int((counts > 0).sum()))
    documents = {
        split: [renumbered[document] for document in some] for split, some in found.items()
    }
    return SpelledWords(names, _spelled(names), known), documents


def _numbered(documents: Sequence[Document], numbers: dict[bytes, int]) -> list[np.ndarray]:
    """Splits the lines of documents into words, and numbers those that are new."""
    flat, counts = [], []
    for chunk in _chunks(documents):
        words, _, _ = words_with_offsets(tf.constant(chunk))
        found = [
            numbers.setdefault(word, NUM_MARKS + len(numbers)) for word in words.values.numpy()
        ]
        inner = words.with_values(tf.constant(found, tf.int32))
        edges = tf.ones((len(chunk), 1), tf.int32)
        lines = tf.concat([BEGIN * edges, inner, END * edges], 1)
        flat.append(lines.values.numpy())
        counts.append(lines.row_lengths().numpy())
    line_ends = np.cumsum(np.concatenate(counts))
    last_lines = np.cumsum([len(document) for document in documents]) - 1
    return np.split(np.concatenate(flat), line_ends[last_lines[:-1]])


def _spelled(names: Sequence[bytes]) -> tf.Tensor:
    flat = tf.constant(list(names), tf.string, (len(names),))
    line = tf.RaggedTensor.from_row_lengths(flat, [len(names)])
    spelled = Characters().encode_words(line)[0]  # begin, words, end
    return tf.concat([tf.zeros_like(spelled[:1]), spelled[:1], spelled[-1:], spelled[1:-1]], 0)


def word_rows(documents: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Cuts documents into rows of words that follow each other.

    Args:
        documents: From `spelled_documents`.
        length: Words of a row, begins and ends of lines included; at least 1.

    Returns:
        int32 `(rows, length + 2)`: before and after the words of a row one that is only to be
        told; 0 outside of the document.
    """
    rows = []
    for document in documents:
        count = -(-len(document) // length)
        padded = np.pad(document, (1, count * length - len(document) + 1))
        windows = np.lib.stride_tricks.sliding_window_view(padded, length + 2)
        rows.append(windows[::length])
    return np.concatenate(rows)
