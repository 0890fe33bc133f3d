"""Dialogues as tokens: each turn between the token of its role and the end token."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from preprocessing.byte_tokens import PADDING, Bytes, as_features

ROLES = ("user", "assistant", "system")
"""Roles in the order of their tokens, which follow those of the vocabulary."""


@dataclass(frozen=True)
class TurnTokens:
    """Encodes dialogues: `end, system, text, end, user, text, end, assistant, text, end, ...`.

    The roles have tokens of their own, which no text is encoded as. So a text in which a role or a
    special token is spelled out remains a text.

    Args:
        tokens: Encodes and decodes the texts. `encode` returns int32 `(n, tokens)`, -1 in padding,
            of the last tokens only if `most` is given; `sizes` counts them; `decode` leaves out
            what is -1.
    """

    tokens: Bytes

    @property
    def vocabulary_size(self) -> int:
        """Number of different tokens, roles included."""
        return self.tokens.vocabulary_size + len(ROLES)

    @property
    def begin_id(self) -> int | None:
        """The token before a dialogue."""
        return self.tokens.begin_id

    @property
    def end_id(self) -> int:
        """The token that begins a dialogue and ends each turn."""
        return self.tokens.end_id

    @property
    def meaning(self) -> str:
        """Says which tokens there are, for clients."""
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

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of each token; roles have none."""
        return (*self.tokens.pieces, *[b""] * len(ROLES))

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
        A system text loses its end if it is longer than half of the room, or than `most`. The token
        of the assistant comes last; the end token at the beginning is left to
        `models.writing.continuing`.

        Args:
            turns: Texts `(n, turns)`, the oldest first. Empty ones are skipped; if all are, the
                last turn is empty.
            system: System texts `(n,)`, "" for none.
            room: Maximum number of tokens of each row, int32 `(n,)`. Of fewer than 3 there may be
                up to 3.
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

        first = self.tokens.encode(system)  # (n, tokens)
        fitting = tf.maximum(room // 2 - 2, 0)
        fitting = fitting if most is None else tf.minimum(fitting, most)
        kept = tf.minimum(lengths(first), fitting)
        lost = lengths(first) - kept
        first = tf.where(tf.range(tf.shape(first)[1]) < kept[:, None], first, PADDING)
        first = self._spoken(first, tf.fill((rows,), self.role_id("system")))
        first = tf.where(kept[:, None] > 0, first, PADDING)
        room = tf.maximum(room - 1 - lengths(first), 2)

        # Only the turns that are kept are encoded, and only the end of each: a dialogue may have
        # thousands of turns, and one of them may be a book.
        sizes = tf.where(is_turn, self.tokens.sizes(turns) + 2, 0)  # (n, turns)
        fits = tf.cumsum(sizes, axis=1, reverse=True) <= room[:, None]
        is_kept = is_turn & (fits | (after == 0))
        sizes_kept = tf.minimum(tf.where(is_kept, sizes, 0), room[:, None])
        lost += tf.reduce_sum(sizes - sizes_kept, axis=1)
        ends = tf.broadcast_to(room[:, None] - 2, (rows, columns))
        roles = tf.where(after % 2 == 0, self.role_id("user"), self.role_id("assistant"))
        roles = tf.broadcast_to(roles, (rows, columns))
        turns, ends, roles = (tf.boolean_mask(each, is_kept) for each in (turns, ends, roles))
        past = self._spoken(self.tokens.encode(turns, ends), roles)  # (turns kept, tokens)

        past = _ragged(past, tf.reduce_sum(sizes_kept, axis=1))
        last = tf.fill((rows, 1), self.role_id("assistant"))
        parts = [_ragged(first, lengths(first)), past, _ragged(last, lengths(last))]
        return tf.concat(parts, axis=1).to_tensor(PADDING), lost

    def _spoken(self, ids: tf.Tensor, roles: tf.Tensor) -> tf.Tensor:
        """Puts texts `(n, tokens)` between a role and an end token."""
        ends = tf.fill(tf.shape(roles), self.end_id)
        return tf.concat([roles[:, None], ids, ends[:, None]], axis=1)


def labeled(
    rows: tf.Tensor, targets: tf.Tensor, trim: bool = True
) -> tuple[dict[str, tf.Tensor], ...]:
    """Returns features, labels and weights for predicting some tokens of rows.

    Args:
        rows: int32 `(n, tokens + 1)`, -1 in padding.
        targets: 1 at the tokens to predict, 0 at others, `(n, tokens + 1)`.
        trim: Whether to remove the columns that are only padding.

    Returns:
        The features, from `byte_tokens.as_features`; the labels `logits`, int32 `(n, tokens)`; and
        their weights.
    """
    if trim:
        longest = tf.reduce_max(lengths(rows))
        rows, targets = rows[:, :longest], targets[:, :longest]
    labels = {"logits": tf.maximum(rows[:, 1:], 0)}
    return as_features(rows[:, :-1]), labels, {"logits": tf.cast(targets[:, 1:], tf.float32)}


def lengths(rows: tf.Tensor) -> tf.Tensor:
    """Counts the tokens of each row, int32 `(...)`.

    Args:
        rows: int32 `(..., tokens)`, -1 in padding.
    """
    return tf.reduce_sum(tf.cast(rows >= 0, tf.int32), axis=-1)


def _ragged(tokens: tf.Tensor, sizes: tf.Tensor) -> tf.RaggedTensor:
    """Returns rows of some sizes with all tokens in their order, without the padding."""
    return tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(tokens, tokens >= 0), sizes, validate=False
    )
