"""Answers behind their prompts as rows of tokens, with operations of TensorFlow.

A prompt is one turn of the user, or a transcript whose turns begin with `SPEAKERS`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import tensorflow as tf

from preprocessing.byte_tokens import as_features
from preprocessing.tokenizers import of_run, tokenizer
from preprocessing.turns import TurnTokens, lengths, turn_tokens
from preprocessing.windows import slices
from preprocessing.word_pieces import WordPieces

SPEAKERS = {"user": "\n\nHuman:", "assistant": "\n\nAssistant:"}
"""Beginning of a turn of each role in a transcript.

Reference:
    Bai et al., Training a Helpful and Harmless Assistant, 2022. https://arxiv.org/abs/2204.05862
"""
MANY = 2**20
"""Number of tokens that no row has."""


def turns_of(prompts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Splits prompts `(n,)` into turns, the oldest first.

    A prompt that begins with no role begins with a turn of the user. Turns of one role in a row are
    joined by a blank line, and empty ones are left out, as in training.

    Returns:
        Texts `(n, (turns))`, and their roles, int64 of the same shape: 0 is the user's, 1 the
        assistant's.

    Example:
        >>> texts, roles = turns_of(tf.constant(["Hi", "Human: a\\n\\nAssistant: b\\n\\nHuman: c"]))
        >>> texts.to_list(), roles.to_list()
        ([[b'Hi'], [b'a', b'b', b'c']], [[0], [0, 1, 0]])
    """
    user, assistant = SPEAKERS.values()
    prompts = tf.strings.join(["\n\n", tf.strings.strip(prompts)])
    has_role = tf.strings.regex_full_match(prompts, "\n\n(Human|Assistant):(?s:.*)")
    prompts = tf.where(has_role, prompts, tf.strings.join([user, prompts]))
    split = tf.strings.split(tf.strings.split(prompts, user), assistant)
    # What is behind Human: is the user's, up to the first Assistant:.
    roles = tf.cast(tf.ragged.range(split.values.row_lengths()) > 0, tf.int64)
    texts, roles = split.merge_dims(1, 2), split.with_values(roles).merge_dims(1, 2)
    texts = texts.with_values(tf.strings.strip(texts.values))
    is_turn = texts.with_values(texts.values != "")
    texts, roles = (tf.ragged.boolean_mask(each, is_turn) for each in (texts, roles))

    sides = 2 * texts.value_rowids() + roles.values  # A number for each role of each row.
    padded = tf.concat([[-1], sides], axis=0)
    begins = padded[1:] != padded[:-1]
    number = tf.cumsum(tf.cast(begins, tf.int32)) - 1
    count = tf.reduce_sum(tf.cast(begins, tf.int32))
    joined = tf.strings.unsorted_segment_join(texts.values, number, count, separator="\n\n")
    rows = tf.boolean_mask(texts.value_rowids(), begins)
    return tuple(
        tf.RaggedTensor.from_value_rowids(values, rows, texts.nrows())
        for values in (joined, tf.boolean_mask(roles.values, begins))
    )


@dataclass(frozen=True)
class PromptReader:
    """Reads prompts for a network that replies.

    A prompt that is too long loses its oldest turns, and a turn that is too long its beginning.

    Args:
        tokens: Splits texts.
        length: Maximum number of tokens of a prompt, the system text included.
        system: System text of all prompts.
        most_system: As in `TurnTokens.prompts`.
    """

    tokens: TurnTokens
    length: int
    system: str = ""
    most_system: int | None = None
    longer: ClassVar[str] = "they lose their oldest turns"
    """Says what happens to prompts that are longer."""

    def sizes(self, prompts: tf.Tensor) -> tf.Tensor:
        """Counts the tokens of whole prompts `(n,)`, int32 `(n,)`."""
        return lengths(replace(self, length=MANY).encode(prompts))

    def encode(self, prompts: tf.Tensor) -> tf.Tensor:
        """Encodes prompts `(n,)` as int32 `(n, tokens)`, -1 in padding."""
        turns, rows = turns_of(prompts)[0].to_tensor(""), tf.shape(prompts)[:1]
        system, room = tf.fill(rows, self.system), tf.fill(rows, self.length)
        return self.tokens.prompts(turns, system, room, self.most_system)[0]


@dataclass(frozen=True)
class AnswerReader:
    """Reads prompts with an answer as `prompt, answer, end`, for one kind of network.

    A row that is too long loses its oldest turns (with word pieces the oldest tokens) and never
    the end of its answer.

    Args:
        tokens: Splits texts.
        length: Maximum number of tokens of a row.
    """

    tokens: WordPieces | TurnTokens
    length: int
    longer: ClassVar[str] = "they lose their oldest turns"
    """Says what happens to texts that are longer than a row."""

    def sizes(self, texts: tf.Tensor) -> tf.Tensor:
        """Counts the tokens of whole rows, from prompts with an answer `(n, 2)` to int32 `(n,)`."""
        rows = AnswerReader(self.tokens, MANY).encode(texts[:, 0], texts[:, 1], False)
        return tf.reduce_sum(rows["padding_mask"], axis=1)

    def encode(self, prompts: tf.Tensor, answers: tf.Tensor, fixed: bool) -> dict[str, tf.Tensor]:
        """Encodes prompts with one answer each.

        Args:
            prompts: Texts `(n,)`.
            answers: Texts `(n,)`.
            fixed: Whether all rows have `length` tokens. Otherwise they are as long as the longest.

        Returns:
            The features of the network, int32 `(n, tokens)` each.
        """
        if isinstance(self.tokens, WordPieces):
            return _pieces(self.tokens, prompts, answers, self.length, fixed)
        return _turns(self.tokens, prompts, answers, self.length, fixed)

    def labeled(self, prompts: tf.Tensor, answers: tf.Tensor) -> tuple[Any, tf.Tensor]:
        """Encodes prompts with several answers at full length for training.

        Args:
            prompts: Texts `(n,)`.
            answers: Texts `(n, answers)`, the best first, and "" after the last.

        Returns:
            Features, int32 `(n, answers, length)`, and whether there is an answer, float32
            `(n, answers)`.
        """
        count = answers.shape[1]
        features = self.encode(tf.repeat(prompts, count), tf.reshape(answers, [-1]), True)
        shape = (-1, count, self.length)
        rows = {name: tf.reshape(value, shape) for name, value in features.items()}
        return rows, tf.cast(answers != "", tf.float32)


def answer_reader(
    family: str, texts: Iterable[str], *, preset: str, length: int, vocabulary_size: int
) -> AnswerReader:
    """Makes the reader of a network that rates answers.

    Args:
        family: `bert` reads word pieces, all others pieces of text and the roles of the turns.
        texts: Texts to learn a vocabulary from, if there is no preset.
        preset: Name or folder of a pretrained network whose tokenizer to use, folder of the
            tokenizer of a run, or `none`.
        length: Maximum number of tokens of a row.
        vocabulary_size: Maximum number of tokens of a vocabulary that is learned.
    """
    folder = None if preset == "none" else preset
    tokens: Any
    if family != "bert" and folder:
        is_of_run = Path(folder).is_dir() and not (Path(folder) / "config.json").is_file()
        tokens = turn_tokens(of_run(folder) if is_of_run else tokenizer(folder), folder)
    elif family != "bert":
        tokens = TurnTokens(tokenizer(None, "pieces", vocabulary_size, texts))
    elif folder:
        tokens = WordPieces.from_preset(folder)
    else:
        tokens = WordPieces.learned(texts, vocabulary_size)
    return AnswerReader(tokens, length)


def _pieces(
    tokens: WordPieces, prompts: tf.Tensor, answers: tf.Tensor, length: int, fixed: bool
) -> dict[str, tf.Tensor]:
    """Encodes `[CLS] transcript [SEP] answer [SEP]`; a lone turn becomes a transcript."""
    texts, roles = turns_of(prompts)
    speakers = tf.gather(tf.constant([f"{one} " for one in SPEAKERS.values()]), roles)
    prompts = tf.strings.reduce_join(tf.strings.join([speakers, texts]), axis=1)
    past, answer = tokens.ids(prompts), tokens.ids(answers)
    room = length - tokens.specials[1]
    kept = tf.minimum(answer.row_lengths(), room)
    parts = [_last(past, room - kept), _last(answer, kept)]
    return tokens.packed(parts, length if fixed else None)


def _turns(
    tokens: TurnTokens, prompts: tf.Tensor, answers: tf.Tensor, length: int, fixed: bool
) -> dict[str, tf.Tensor]:
    texts, _ = turns_of(prompts)  # Their roles alternate, and the last is the user's.
    rows = tokens.answered(texts.to_tensor(""), tf.strings.strip(answers), length)
    if fixed:
        missing = length - tf.shape(rows)[1]
        rows = tf.pad(rows, [[0, 0], [0, missing]], constant_values=-1)
        rows = tf.ensure_shape(rows, (None, length))
    return as_features(rows)


def _last(line: tf.RaggedTensor, most: tf.Tensor) -> tf.RaggedTensor:
    """Returns at most so many pieces of each row `(n, (pieces))`, the last ones."""
    ends = line.row_lengths()
    return slices(line, tf.range(line.nrows()), tf.maximum(ends - most, 0), ends)
