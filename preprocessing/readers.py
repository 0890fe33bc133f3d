"""Readers of texts, words and questions: how they are split, and the features of the network."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from preprocessing.tokens import (
    BytePairs,
    Characters,
    WordPieces,
    compact,
    encode_gpt,
    first_order,
    labels_of_spans,
    packed_gpt,
    trimmed,
    words_with_offsets,
)
from preprocessing.windows import overlapping, sizes

WORD_MEANINGS = {
    "words": 'the words, punctuation marks and Chinese characters of the text; "" after the last',
    "starts": "offset in bytes at which each word begins in the text; -1 after the last word",
    "ends": "offset in bytes after each word; -1 after the last word",
}
"""Meanings of the other outputs of `WordReader.read_texts`."""

_once = partial(tf.function, autograph=False, reduce_retracing=True)
"""Makes a graph of a function once. The data of a run, its evaluation and its export then call it;
building its hundreds of operations again for each would take half a second."""

ContextOfWords = tuple[tf.Tensor, dict[str, tf.Tensor]]


@dataclass(frozen=True)
class Reader:
    """Reads texts for one kind of network.

    Args:
        tokens: Splits texts.
        read: From texts `(n, 1)`, or `(n, 2)` for pairs, and whether all rows get the full length,
            to the features of the network, and the index of the text of each row, int64 `(rows,)`.
        length: Maximum number of tokens of a row.
        windows: Whether a long text has several rows. Otherwise it is truncated.
    """

    tokens: WordPieces | BytePairs | Characters
    read: Callable[[tf.Tensor, bool], tuple[dict[str, tf.Tensor], tf.Tensor]]
    length: int
    windows: bool = False

    def encode(self, texts: tf.Tensor, fixed: bool) -> dict[str, tf.Tensor]:
        """Returns only the features; arguments as of `read`."""
        return self.read(texts, fixed)[0]

    def read_columns(
        self, columns: Iterable[tf.Tensor], fixed: bool = False
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Does what `read` does to texts in columns `(n,)`: the texts, and the seconds of pairs."""
        return self.read(tf.stack([*columns], axis=1), fixed)

    @cached_property
    def sizes(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Counts the tokens of whole texts, from `(n, 1)` or `(n, 2)` to int64 `(n,)`."""
        return _once(lambda texts: sizes(texts, _split(self.tokens), self.tokens.specials))

    def labeled(
        self, texts: tf.Tensor, labels: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Encodes texts at full length for training; each row has the label of its text."""
        features, example = self.read(texts, True)
        return compact(features), tf.gather(labels, example)

    def row_counts(self, texts: tf.data.Dataset) -> np.ndarray | None:
        """Counts the rows of each text, int `(n,)`; None if each has one.

        Args:
            texts: Strings `(1,)` one by one.
        """
        if not self.windows:
            return None
        chunks = (self.read(some, False)[1] for some in texts.batch(256))
        return np.concatenate([np.bincount(example) for example in chunks])

    @property
    def signature_name(self) -> str:
        """Name of the signature that takes features."""
        return "from_characters" if isinstance(self.tokens, Characters) else "from_tokens"

    def sample(self, table: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Encodes real texts at full length, for the signature that takes features.

        Args:
            table: Texts `(n,)` by column.

        Returns:
            What `serving.signature.tensors` takes: `inputs`, a spec by name of the feature for any
            number of rows, `examples`, and `preprocess`, which returns features by name.
        """
        features, _ = self.read_columns(table.values(), True)
        return _sample({name: value[:4] for name, value in features.items()})

    @property
    def longer(self) -> str:
        """Says what happens to texts that are longer than a row; empty if they are truncated."""
        return "they are read in overlapping windows" if self.windows else ""

    def first_row(self, texts: np.ndarray) -> tuple[dict[str, tf.Tensor], list[str]]:
        """Encodes one text, or pair, and returns its first row, and the tokens of it in words."""
        rows = first_order(self.encode(tf.constant([texts]), True))
        features = trimmed({name: value[:1] for name, value in rows.items()})
        return features, self._names(features)

    def _names(self, features: dict[str, tf.Tensor]) -> list[str]:
        if isinstance(self.tokens, Characters):
            return self.tokens.names(np.asarray(features["characters"][0]))
        return [self.tokens.tokenizer.id_to_token(i) for i in np.asarray(features["token_ids"][0])]

    def weighted(
        self, texts: Sequence[bytes], names: Sequence[str], weights: Sequence[float]
    ) -> list[tuple[str, float]]:
        """Splits texts into words with the weights of their tokens, and gaps with the weight 0.

        Args:
            texts: A text, or the two of a pair.
            names: What `first_row` returns for them. Tokens may be missing at the end of a text.
            weights: Weight of each token.
        """
        of_texts: list[list[float]] = [[]]
        for name, weight in zip(names, weights, strict=True):
            if name in ("[SEP]", "</S>"):
                of_texts.append([])
            elif name not in ("[CLS]", "<S>"):
                of_texts[-1].append(weight)
        pieces: list[tuple[bytes, float]] = []
        for text, left in zip(texts, of_texts, strict=False):
            words, begins, ends = words_with_offsets(tf.constant([text]))
            counts = np.ones(len(words[0]), int)
            if isinstance(self.tokens, WordPieces):
                counts = self.tokens.pieces(words)[0].row_lengths().numpy()
            last, token = 0, 0
            for begin, end, count in zip(
                begins[0].numpy(), ends[0].numpy(), counts.tolist(), strict=True
            ):
                weight = float(sum(left[token : token + count]))
                pieces += [(text[last:begin], 0.0), (text[begin:end], weight)]
                last, token = end, token + count
            pieces += [(text[last:], 0.0), (b" | ", 0.0)]
        return [(piece.decode(errors="replace"), weight) for piece, weight in pieces[:-1] if piece]


def text_reader(
    family: str,
    texts: Iterable[str] | tf.data.Dataset,
    *,
    preset: str,
    length: int,
    vocabulary_size: int,
    kind: str = "pieces",
    both_orders: bool = False,
    windows: bool = False,
) -> Reader:
    """Makes the reader of a network that classifies texts or pairs of texts.

    Args:
        family: `elmo` reads characters, `gpt` the tokens of GPT, all others word pieces.
        texts: Texts to learn a vocabulary from, if there is no preset.
        preset: Name or folder of a pretrained network whose tokenizer to use, or `none`.
        length: Maximum number of tokens of a row.
        vocabulary_size: Maximum number of tokens of a vocabulary that is learned.
        kind: What it holds, as in `preprocessing.vocabulary.learned_vocabulary`.
        both_orders: Whether pairs are read in both orders.
        windows: Whether single texts that are longer than a row are read in overlapping rows.
    """
    tokens: Any
    if family == "elmo":
        tokens = Characters()
    elif family == "gpt" and preset != "none" and not WordPieces.are_in(preset):
        tokens = BytePairs.from_preset(preset)
    else:
        tokens = _word_pieces(texts, preset, vocabulary_size, True, kind)
    if family == "gpt":
        encode = partial(encode_gpt, tokens)
        packed = partial(packed_gpt, tokens)
    else:
        encode = tokens.encode
        packed = tokens.packed

    def in_one_row(texts, fixed):
        orders = {"both_orders": True} if both_orders and texts.shape[1] == 2 else {}
        return encode(texts, length, fixed=fixed, **orders), tf.range(tf.shape(texts, tf.int64)[0])

    def in_windows(texts, fixed):
        cut, example = overlapping(texts, _split(tokens), length, tokens.specials)
        return packed(cut, length if fixed else None), example

    return Reader(tokens, _once(in_windows if windows else in_one_row), length, windows)


def _split(tokens: WordPieces | BytePairs | Characters) -> Callable[[tf.Tensor], tf.RaggedTensor]:
    return tokens.words if isinstance(tokens, Characters) else tokens.ids


def _word_pieces(
    texts: Iterable[str] | tf.data.Dataset, preset: str, size: int, lowercase: bool, kind: str
) -> WordPieces:
    if preset == "none":
        return WordPieces.learned(texts, size, lowercase, kind)
    return WordPieces.from_preset(preset)


def _sample(features: dict[str, tf.Tensor]) -> dict[str, Any]:
    return {
        "inputs": {
            name: tf.TensorSpec((None, *value.shape[1:]), value.dtype)
            for name, value in features.items()
        },
        "examples": {name: value.numpy() for name, value in features.items()},
        "preprocess": dict,
    }


@dataclass(frozen=True)
class WordReader:
    """Reads sentences word by word for one kind of network that predicts the tag of each word.

    Args:
        tokens: Splits words.
        encode: From words `(n, (words))`, and whether all rows get the full length, to the features
            of the network and the positions of the words, as `WordPieces.encode_words`.
        length: Maximum number of tokens of a row.
    """

    tokens: WordPieces | Characters
    encode: Callable[[tf.RaggedTensor, bool], tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]]
    length: int
    longer: ClassVar[str] = "they are read in overlapping rows"
    """Says what happens to sentences that are longer than a row."""

    @cached_property
    def sizes(self) -> Callable[[tf.RaggedTensor], tf.Tensor]:
        """Counts the tokens of whole sentences, from `(n, (words))` to int64 `(n,)`."""
        return _once(lambda words: _tokens_of(words, self.tokens) + self.tokens.specials[0])

    @property
    def signature_name(self) -> str:
        """Name of the signature that takes features."""
        return "from_characters" if isinstance(self.tokens, Characters) else "from_tokens"

    @property
    def inputs(self) -> dict[str, tf.TensorSpec]:
        """The features of any number of rows of any length, by name."""
        features, _ = self.encode(tf.ragged.constant([["word"]]), False)
        return {
            name: tf.TensorSpec((None, None, *value.shape[2:]), value.dtype)
            for name, value in features.items()
        }

    def read_texts(self, texts: tf.Tensor) -> tuple[dict[str, tf.Tensor], ContextOfWords]:
        """Splits texts `(n,)` into words as `words_with_offsets` does, and encodes them.

        Returns:
            Features, `first_piece` as in `WordPieces.encode_words`, and the words with their
            offsets by the names of `WORD_MEANINGS`, `(n, words)` each.
        """
        words, starts, ends = words_with_offsets(texts)
        features, positions = self.encode(words, False)
        offsets = {
            "words": words.to_tensor(""),
            "starts": starts.to_tensor(-1),
            "ends": ends.to_tensor(-1),
        }
        return features, (positions["first_piece"], offsets)

    def read_words(self, words: tf.Tensor) -> tuple[dict[str, tf.Tensor], ContextOfWords]:
        """Encodes words `(n, words)`, rows padded with ""; a "" before the last word is a word.

        Returns:
            Features, `first_piece` `(n, words)` as in `WordPieces.encode_words`, and an empty dict.
        """
        features, positions = self.encode(tf.RaggedTensor.from_tensor(words, padding=""), False)
        missing = tf.shape(words)[1] - tf.shape(positions["first_piece"])[1]
        padding = [[0, 0], [0, missing]]
        return features, (tf.pad(positions["first_piece"], padding, constant_values=-1), {})


def word_reader(
    family: str,
    words: tf.data.Dataset,
    *,
    preset: str,
    length: int,
    vocabulary_size: int,
    kind: str = "pieces",
    lowercase: bool = False,
) -> WordReader:
    """Makes the reader of a network that predicts the tag of each word.

    Args:
        family: `elmo` reads characters, all others word pieces.
        words: Words to learn a vocabulary from, if there is no preset.
        preset: Name or folder of a pretrained network whose tokenizer to use, or `none`.
        length: Maximum number of tokens of a row.
        vocabulary_size: Maximum number of tokens of a vocabulary that is learned.
        kind: What it holds, as in `preprocessing.vocabulary.learned_vocabulary`.
        lowercase: Whether a vocabulary that is learned is in lower case.
    """
    if family == "elmo":
        characters = Characters()
        return WordReader(
            characters,
            _once(lambda words, fixed: characters.encode_rows(words, length, fixed=fixed)),
            length,
        )
    pieces = _word_pieces(words, preset, vocabulary_size, lowercase, kind)
    return WordReader(
        pieces, _once(lambda words, fixed: pieces.encode_words(words, length, fixed=fixed)), length
    )


def _tokens_of(words: tf.RaggedTensor, tokens: WordPieces | Characters) -> tf.Tensor:
    """Counts the tokens of sentences `(n, (words))`, of each word at least one."""
    counts = tf.maximum(_split(tokens)(words.values).row_lengths(), 1)
    return tf.reduce_sum(words.with_values(counts), axis=1)


@dataclass(frozen=True)
class QuestionReader:
    """Reads questions about documents, in as many rows as each document needs.

    Args:
        tokens: Splits questions and documents.
        length: Tokens per row, special tokens included.
        stride: Tokens of the document that consecutive rows share.
        question_length: Maximum number of tokens of a question; longer ones are truncated.
    """

    tokens: WordPieces
    length: int
    stride: int
    question_length: int
    longer: ClassVar[str] = ""

    @cached_property
    def sizes(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Counts the tokens of whole questions, from `(n,)` to int64 `(n,)`."""
        return _once(lambda questions: self.tokens.ids(questions).row_lengths())

    @cached_property
    def encode(
        self,
    ) -> Callable[[tf.Tensor, tf.Tensor, bool], tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]]:
        """From questions, documents and whether all rows get the full length, to features and
        offsets as from `WordPieces.windows`."""
        sizes = self.length, self.stride, self.question_length
        return _once(
            lambda questions, documents, fixed: self.tokens.windows(
                questions, documents, *sizes, fixed
            )
        )

    def labeled(
        self, questions: dict[str, tf.Tensor], seed: int
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Encodes questions with their answers for training.

        If a question has an answer, only a fraction of the rows without it, `answerless_rows`, is
        kept.

        Args:
            questions: `question` and `document` `(n,)`; `begin` and `end`, bytes of the answer in
                the document, -1 for no answer; `number`, which differs from question to question;
                and `answerless_rows`, a share in [0, 1].
            seed: Decides, with `number`, which rows are kept.

        Returns:
            Features `(rows, length)`, and labels `start` and `end` int32 `(rows,)`: the first and
            the last token of the answer, 0 (`[CLS]`) in rows without the whole answer.
        """
        features, offsets = self.encode(questions["question"], questions["document"], True)
        start, end = labels_of_spans(offsets, questions["begin"], questions["end"])
        has_answer, share = (
            tf.gather(column, offsets["example"])
            for column in (questions["begin"] >= 0, questions["answerless_rows"])
        )
        drawn = tf.random.stateless_uniform(tf.shape(start), [seed, questions["number"][0]])
        kept = (start > 0) | ~has_answer | (drawn < share)
        rows = (features, {"start": start, "end": end})
        return tf.nest.map_structure(lambda part: tf.boolean_mask(part, kept), rows)

    def sample(self, table: Mapping[str, Any], rows: int = 4) -> dict[str, Any]:
        """Encodes real questions at full length, for the signature that takes features.

        Args:
            table: `question` and `document`, texts `(n,)`.
            rows: Maximum number of rows.

        Returns:
            What `serving.signature.tensors` takes: `inputs`, a spec by name of the feature for any
            number of rows, `examples`, and `preprocess`, which returns features by name.
        """
        question, document = tf.constant(table["question"]), tf.constant(table["document"])
        features, _ = self.encode(question, document, True)
        return _sample({name: value[:rows] for name, value in features.items()})


def question_reader(
    texts: Iterable[str],
    *,
    preset: str,
    length: int,
    vocabulary_size: int,
    stride: int,
    question_length: int,
) -> QuestionReader:
    """Makes the reader of a network that finds answers in documents.

    Args:
        texts: Texts to learn a vocabulary from, if there is no preset.
        preset: Name or folder of a pretrained network whose tokenizer to use, or `none`.
        length: Maximum number of tokens of a row.
        vocabulary_size: Maximum number of word pieces of a vocabulary that is learned.
        stride: As in `QuestionReader`.
        question_length: As in `QuestionReader`.
    """
    pieces = _word_pieces(texts, preset, vocabulary_size, True, "pieces")
    return QuestionReader(pieces, length, stride, question_length)
