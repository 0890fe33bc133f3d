"""Dialogues as tokens: each turn between the tokens of its role and of its end."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.byte_pair_files import SPACE, preset_folder
from preprocessing.byte_pairs import PretrainedBytePairs
from preprocessing.byte_tokens import PADDING, Tokens, as_features
from preprocessing.chat_formats import ChatFormat, chat_format
from preprocessing.sentence_pieces import without_padding

ROLES = ("user", "assistant", "system")
"""Roles in the order of their tokens, which follow those of the vocabulary."""


class TurnTokens:
    """Encodes dialogues: `end, system, text, end, user, text, end, assistant, text, end, ...`.

    The roles have tokens of their own, which no text is encoded as. So a text in which a role or a
    special token is spelled out remains a text. The tokens of a preset are put around the turns as
    its format says.

    Args:
        tokens: Encodes and decodes the texts.
        chat: The format of a preset. None: the roles get new tokens.
    """

    def __init__(self, tokens: Tokens, chat: ChatFormat | None = None):
        self.tokens = tokens
        self._chat = chat
        if chat is None or not isinstance(tokens, PretrainedBytePairs):
            self.pieces = (*tokens.pieces, *[b""] * len(ROLES))
            self.begin_id: int | None = tokens.begin_id
            self.openings: list[tuple[int, ...]] = [(self.role_id(role),) for role in ROLES]
            self.tail: tuple[int, ...] = (tokens.end_id,)
            self.leads, self.default_system = [""] * len(ROLES), ""
        else:
            self.pieces = tokens.pieces
            self.begin_id = tokens.file.specials[chat.begin] if chat.begin else None
            self.openings = [_ids(tokens, chat.before, role) for role in ROLES]
            self.leads = [chat.lead.format(role=role) for role in ROLES]
            self.tail, self.default_system = _ids(tokens, chat.after), chat.system
        self._lead_ids = tokens.encode(tf.constant(self.leads)).numpy()
        self.lead_sizes = np.sum(self._lead_ids >= 0, axis=1, dtype="int32")
        opened = [len(opening) for opening in self.openings]
        self._around = np.array(opened, "int32") + len(self.tail)

    @property
    def vocabulary_size(self) -> int:
        """Number of different tokens, roles included."""
        return len(self.pieces)

    @property
    def end_id(self) -> int:
        """The token that ends each turn."""
        return self.tail[0]

    @property
    def meaning(self) -> str:
        """Says which tokens there are, for clients."""
        if self._chat is not None:
            return f"{self.tokens.meaning}; {self.end_id} ends each turn"
        roles = ", ".join(f"{self.role_id(role)} {role}" for role in ROLES)
        return (
            f"tokens of texts, below {self.tokens.vocabulary_size}; {self.end_id} begins a "
            "dialogue, which `generate_from_tokens` adds, and ends each turn; each turn begins "
            f"with its role: {roles}; -1 in padding"
        )

    @property
    def resources(self) -> tuple[Any, ...]:
        """What an export must track for the tokenizer, such as lookup tables."""
        return self.tokens.resources

    def role_id(self, role: str) -> int:
        return self.tokens.vocabulary_size + ROLES.index(role)

    def led(self, text: str, role: str) -> str:
        """Returns the text of a turn as it is encoded."""
        text = text.strip() if self._chat and self._chat.strips else text
        return self.leads[ROLES.index(role)] + text

    def decode(self, token_ids: tf.Tensor, num_bytes: tf.Tensor | None = None) -> tf.Tensor:
        """Decodes replies as the tokenizer of their texts does, without the tokens of roles.

        Args:
            token_ids: int32 `(n, tokens)`, -1 in padding.
            num_bytes: How many bytes of each text are kept, int32 `(n,)`; -1 or None: all.
        """
        is_text = token_ids < self.tokens.vocabulary_size
        return self.tokens.decode(tf.where(is_text, token_ids, PADDING), num_bytes)

    def prompts(
        self, turns: tf.Tensor, system: tf.Tensor, room: tf.Tensor, most: int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes what comes before replies: the system text and as many past turns as fit.

        The last turn is the user's. Before it, the assistant's and the user's alternate. The
        oldest turns are dropped whole. If the last turn alone is too long, it loses its beginning.
        A system text loses its end if it is longer than half of the room, or than `most`. What is
        before a reply of the assistant comes last; the token that begins a dialogue is left to
        `models.writing.continuing`.

        Args:
            turns: Texts `(n, turns)`, the oldest first. Empty ones are skipped; if all are, the
                last turn is empty.
            system: System texts `(n,)`, "" for that of the format, if it has one.
            room: Maximum number of tokens of each row, int32 `(n,)`. There may be more if it is
                less than what is around an empty turn, 3 without a format.
            most: Maximum number of tokens of a system text, without its role and end. None: only
                the room counts.

        Returns:
            int32 `(n, tokens)`, padded with -1, and the number of tokens that each row lost, int32
            `(n,)`. Those of the roles and ends of the turns that were dropped count.
        """
        turns = tf.pad(turns, [[0, 0], [1, 0]], constant_values="")
        order = tf.argsort(tf.cast(turns != "", tf.int32), stable=True)
        turns = tf.gather(turns, order, batch_dims=1)  # Those that are empty come first.
        rows, columns = tf.shape(turns)[0], tf.shape(turns)[1]
        after = tf.range(columns - 1, -1, -1)  # Number of turns after each.
        is_turn = (turns != "") | (after == 0)  # (n, turns)
        roles = tf.broadcast_to(after % 2, (rows, columns))  # The last is the user's.

        first, lost = self._system(system, room, most)
        reply = (*self.openings[1], *self._lead_ids[1, : self.lead_sizes[1]].tolist())
        least = self._around[0] + self.lead_sizes[0]
        room = tf.maximum(room - len(reply) - lengths(first), least)[:, None]

        # All turns are counted, but only those that are kept are padded to one length, and only the
        # end of each: a dialogue may have thousands of turns, and one of them may be a book.
        texts = self._led(turns, roles)
        sizes = tf.where(is_turn, self.tokens.sizes(texts) + tf.gather(self._around, roles), 0)
        fits = tf.cumsum(sizes, axis=1, reverse=True) <= room
        is_kept = is_turn & (fits | (after == 0))
        sizes_kept = tf.minimum(tf.where(is_kept, sizes, 0), room)
        lost += tf.reduce_sum(sizes - sizes_kept, axis=1)
        most_of_each = tf.broadcast_to(room, (rows, columns))
        past = self._written(
            *(tf.boolean_mask(each, is_kept) for each in (texts, roles, sizes, most_of_each))
        )
        past = tf.RaggedTensor.from_row_lengths(
            past.values, tf.reduce_sum(sizes_kept, axis=1), validate=False
        )
        parts = [_ragged(first), past, _repeated(reply, rows)]
        return tf.concat(parts, axis=1).to_tensor(PADDING), lost

    def pair(self, past: tf.Tensor, replies: tf.Tensor) -> dict[str, np.ndarray]:
        """Returns what a network with an encoder reads of replies `(n,)`, as `labeled_pairs` does.

        Args:
            past: From `prompts`.
            replies: The texts of the replies.
        """
        role = self.role_id("assistant")
        sources = tf.pad(past, [[0, 0], [1, 0]], constant_values=self.end_id)
        targets = tf.pad(self.tokens.encode(replies), [[0, 0], [1, 0]], constant_values=role)
        return {"source_ids": sources.numpy(), "target_ids": targets.numpy()}

    def answered(self, turns: tf.Tensor, answers: tf.Tensor, length: int) -> tf.Tensor:
        """Encodes dialogues with the answer to the last turn, and the end token after it.

        The oldest turns are dropped, as in `prompts`. An answer that does not fit with an empty
        turn before it loses its beginning.

        Args:
            turns: As in `prompts`.
            answers: Texts `(n,)`.
            length: Maximum number of tokens of each row.

        Returns:
            int32 `(n, tokens)`, padded with -1.
        """
        rows = tf.size(answers)
        begin = () if self.begin_id is None else (self.begin_id,)
        around = self._around[0] + self.lead_sizes[0] + len(self.openings[1]) + self.lead_sizes[1]
        room = length - len(begin) - 1  # The end token comes last.
        answer = self.tokens.encode(answers, tf.fill([rows], room - around))
        system = tf.fill([rows], "")
        past, _ = self.prompts(turns, system, room - lengths(answer))
        parts = [_repeated(begin, rows), _ragged(past), _ragged(answer)]
        return tf.concat([*parts, _repeated((self.end_id,), rows)], axis=1).to_tensor(PADDING)

    def _led(self, texts: tf.Tensor, roles: tf.Tensor | int) -> tf.Tensor:
        """Returns the texts of turns as they are encoded."""
        if self._chat and self._chat.strips:
            space = rf"[{SPACE}\x1c-\x1f]+"
            texts = tf.strings.regex_replace(texts, f"^{space}|{space}$", "")
        return tf.gather(tf.constant(self.leads), roles) + texts

    def _system(
        self, texts: tf.Tensor, room: tf.Tensor, most: int | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes system texts as int32 `(n, tokens)`, and counts what they lose."""
        texts = tf.where(texts == "", self.default_system, texts)
        number, lead = ROLES.index("system"), self.lead_sizes[ROLES.index("system")]
        ids = self.tokens.encode(self._led(texts, number))
        sizes = lengths(ids) - lead
        fitting = tf.maximum(room // 2 - self._around[number] - lead, 0)
        fitting = fitting if most is None else tf.minimum(fitting, most)
        kept = tf.minimum(sizes, fitting)
        ids = tf.where(tf.range(tf.shape(ids)[1]) < (kept + lead)[:, None], ids, PADDING)
        count = tf.shape(ids)[0]
        around = [_repeated(part, count) for part in (self.openings[number], self.tail)]
        whole = tf.concat([around[0], _ragged(ids), around[1]], axis=1).to_tensor(PADDING)
        return tf.where(kept[:, None] > 0, whole, PADDING), sizes - kept

    def _written(
        self, texts: tf.Tensor, roles: tf.Tensor, sizes: tf.Tensor, most: tf.Tensor
    ) -> tf.RaggedTensor:
        """Encodes turns with what is around them, int32 `(turns, (tokens))`.

        Args:
            texts: Texts from `_led` `(turns,)`.
            roles: Indices of the roles `(turns,)`.
            sizes: Number of tokens of each turn with what is around it, `(turns,)`.
            most: Maximum of `sizes`; of a longer turn only the end is kept, `(turns,)`.
        """
        ids = self.tokens.encode(texts, most - tf.gather(self._around, roles))
        # A turn that lost its beginning still has what is before it.
        numbers = tf.range(tf.shape(ids)[1])
        is_lead = (numbers < tf.gather(self.lead_sizes, roles)[:, None]) & (sizes > most)[:, None]
        more = tf.maximum(tf.shape(ids)[1] - self._lead_ids.shape[1], 0)
        leads = tf.pad(self._lead_ids, [[0, 0], [0, more]], constant_values=PADDING)
        ids = tf.where(is_lead, tf.gather(leads, roles)[:, : tf.shape(ids)[1]], ids)
        widest = max(map(len, self.openings))
        padded = [[*one, *[PADDING] * (widest - len(one))] for one in self.openings]
        openings = tf.gather(tf.constant(padded, tf.int32, (len(ROLES), widest)), roles)
        tails = _repeated(self.tail, tf.size(roles))
        return tf.concat([_ragged(openings), _ragged(ids), tails], axis=1)


def turn_tokens(tokens: Tokens, preset: str) -> TurnTokens:
    """Returns how dialogues are encoded: in the format of a preset, or with tokens for the roles.

    Args:
        tokens: The tokenizer.
        preset: The preset that it is of, for messages.
    """
    if isinstance(tokens, PretrainedBytePairs):
        return TurnTokens(tokens, chat_format(tokens.file, preset_folder(preset)))
    return TurnTokens(tokens)


def _ids(tokens: PretrainedBytePairs, parts: tuple[str, ...], role: str = "") -> tuple[int, ...]:
    """Encodes special tokens and texts."""
    found: list[int] = []
    for part in parts:
        if part in tokens.file.specials:
            found.append(tokens.file.specials[part])
        else:
            found += tokens.encode(tf.constant([part.format(role=role)])).numpy()[0].tolist()
    return tuple(found)


def labeled(
    rows: tf.Tensor, targets: tf.Tensor, texts: tf.Tensor, trim: bool = True
) -> tuple[dict[str, tf.Tensor], ...]:
    """Returns features, labels and weights for predicting some tokens of rows.

    Args:
        rows: int32 `(n, tokens + 1)`, -1 in padding.
        targets: 1 at the tokens to predict, 0 at others, `(n, tokens + 1)`.
        texts: Number in its row, from 1, of the text of each token, 0 in padding, int32
            `(n, tokens + 1)`.
        trim: Whether to remove the columns that are only padding.

    Returns:
        The features, from `byte_tokens.as_features`, but with these numbers as `padding_mask`; the
        labels `logits`, int32 `(n, tokens)`; and their weights.
    """
    if trim:
        longest = tf.reduce_max(lengths(rows))
        rows, targets, texts = (one[:, :longest] for one in (rows, targets, texts))
    labels = {"logits": tf.maximum(rows[:, 1:], 0)}
    features = as_features(rows[:, :-1]) | {"padding_mask": texts[:, :-1]}
    return features, labels, {"logits": tf.cast(targets[:, 1:], tf.float32)}


def labeled_pairs(
    pairs: dict[str, tf.Tensor], targets: tf.Tensor, trim: bool = True
) -> tuple[dict[str, tf.Tensor], ...]:
    """Returns features, labels and weights for predicting some tokens of replies.

    Args:
        pairs: `source_ids`, what is before each reply, and `target_ids`, its role and the reply,
            int32 `(n, tokens + 1)`, -1 in padding.
        targets: 1 at the tokens of `target_ids` to predict, 0 at others, `(n, tokens + 1)`.
        trim: Whether to remove the columns that are only padding.

    Returns:
        `source_ids`, and `target_ids`, of which each token is read to predict the next; the labels
        `logits`, int32 `(n, tokens)`; and their weights.
    """
    sources, replies = pairs["source_ids"], pairs["target_ids"]
    if trim:
        sources, replies = without_padding(sources), without_padding(replies)
        targets = targets[:, : tf.shape(replies)[1]]
    features = {"source_ids": sources, "target_ids": replies[:, :-1]}
    labels = {"logits": tf.maximum(replies[:, 1:], 0)}
    return features, labels, {"logits": tf.cast(targets[:, 1:], tf.float32)}


def lengths(rows: tf.Tensor) -> tf.Tensor:
    """Counts the tokens of each row, int32 `(...)`.

    Args:
        rows: int32 `(..., tokens)`, -1 in padding.
    """
    return tf.reduce_sum(tf.cast(rows >= 0, tf.int32), axis=-1)


def _repeated(ids: Sequence[int], count: tf.Tensor) -> tf.RaggedTensor:
    """Returns a number of equal rows."""
    return _ragged(tf.tile(tf.constant([*ids], tf.int32)[None], [count, 1]))


def _ragged(tokens: tf.Tensor) -> tf.RaggedTensor:
    """Returns rows without their padding."""
    return tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(tokens, tokens >= 0), lengths(tokens), validate=False
    )
