"""Texts that networks write as pieces or characters of a vocabulary that is learned from texts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import tensorflow as tf

from preprocessing.byte_tokens import joined, latest, valid_utf8
from preprocessing.piece_models import SPACE, PieceModel, trained


@dataclass(frozen=True)
class TextPieces(PieceModel):
    """Encodes texts as pieces, letter for letter; the end token begins and ends a text.

    White space and characters remain as they are. Bytes that are not UTF-8 become U+FFFD.

    Example:
        >>> pieces = TextPieces.learned(["a rose is a rose"] * 9, "pieces", 300)
        >>> ids = pieces.encode(tf.constant(["  a\\nrose", "né"]))
        >>> [text.decode() for text in pieces.decode(ids).numpy()]
        ['  a\\nrose', 'né']
    """

    @classmethod
    def learned(
        cls, texts: Iterable[str], kind: Literal["pieces", "characters"], size: int
    ) -> "TextPieces":
        """Learns a vocabulary.

        Args:
            texts: At least one that is not empty.
            kind: Whether the most frequent pieces are learned, of one word or of white space, or
                all characters.
            size: Maximum number of pieces; of characters there is none.
        """
        from sentencepiece import sentencepiece_model_pb2

        options: dict[str, dict[str, Any]] = {
            "pieces": {"allow_whitespace_only_pieces": True},
            "characters": {
                "model_type": "char",
                "use_all_vocab": True,
                "character_coverage": 1.0,
            },
        }
        written = trained(
            texts,
            size,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            **options[kind],
        )
        # With spaces as they are, the sign that SentencePiece writes for them is a character.
        model = sentencepiece_model_pb2.ModelProto.FromString(written)
        model.normalizer_spec.escape_whitespaces = False
        for piece in model.pieces:
            piece.piece = piece.piece.replace(SPACE, " ")
        return cls(model.SerializeToString())

    @property
    def begin_id(self) -> int:
        """The token before each text."""
        return self.end_id

    @property
    def meaning(self) -> str:
        """Says which tokens there are, for clients."""
        return (
            f"pieces of the vocabulary of the run, 0 to {self.vocabulary_size - 1}, {self.end_id} "
            "at the end of a text, -1 in padding"
        )

    def sizes(self, texts: tf.Tensor) -> tf.Tensor:
        """Counts the tokens of texts `(...)`, int32 `(...)`."""
        counts = self.ids(valid_utf8(tf.reshape(texts, [-1]))).row_lengths()
        return tf.reshape(tf.cast(counts, tf.int32), tf.shape(texts))

    def encode(self, texts: tf.Tensor, most: tf.Tensor | None = None) -> tf.Tensor:
        """Encodes texts `(n,)` as int32 `(n, tokens)`, -1 in padding, as `Bytes.encode`."""
        return latest(self.ids(valid_utf8(texts)), most)

    def decode(self, token_ids: tf.Tensor, num_bytes: tf.Tensor | None = None) -> tf.Tensor:
        """Decodes int32 `(n, tokens)`, -1 in padding, as valid UTF-8 `(n,)`, as `Bytes.decode`."""
        return joined(self.pieces, token_ids, num_bytes)
