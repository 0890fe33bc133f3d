"""How a network reads texts: the way to split them, and the features that it takes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.tokens import BytePairs, Characters, WordPieces, encode_gpt


@dataclass(frozen=True)
class Reader:
    """Reads texts for one kind of network.

    Args:
        tokens: Splits texts.
        encode: From texts `(n, 1)`, or `(n, 2)` for pairs, and whether all rows get the full
            length, to the features of the network.
    """

    tokens: WordPieces | BytePairs | Characters
    encode: Callable[[tf.Tensor, bool], dict[str, tf.Tensor]]

    @property
    def signature_name(self) -> str:
        """Name of the signature that takes features."""
        return "from_characters" if isinstance(self.tokens, Characters) else "from_tokens"

    def sample(self, table: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Encodes real texts at full length, for the signature that takes features.

        Args:
            table: Texts `(n,)` by column.

        Returns:
            `inputs`, a spec by name of the feature for any number of rows, and `examples`.
        """
        features = self.encode(tf.stack(list(table.values()), axis=1), True)
        return {
            "inputs": {
                name: tf.TensorSpec((None, *value.shape[1:]), value.dtype)
                for name, value in features.items()
            },
            "examples": {name: value.numpy() for name, value in features.items()},
        }

    def names(self, features: dict[str, tf.Tensor]) -> list[str]:
        """Returns the tokens of the first text of a batch in words."""
        if isinstance(self.tokens, Characters):
            return self.tokens.names(np.asarray(features["characters"][0]))
        return [self.tokens.tokenizer.id_to_token(i) for i in np.asarray(features["token_ids"][0])]


def text_reader(
    family: str,
    texts: Iterable[str] | tf.data.Dataset,
    *,
    preset: str,
    length: int,
    vocabulary_size: int,
    symmetric: bool = False,
) -> Reader:
    """Makes the reader of a network that classifies texts or pairs of texts.

    Args:
        family: `elmo` reads characters, `gpt` the tokens of GPT, all others word pieces.
        texts: Texts to learn a vocabulary from, if there is no preset.
        preset: Name or folder of a pretrained network whose tokenizer to use, or `none`.
        length: Maximum number of tokens of a row.
        vocabulary_size: Maximum number of word pieces of a vocabulary that is learned.
        symmetric: Whether pairs are read in both orders.
    """
    if family == "elmo":
        characters = Characters()
        return Reader(characters, lambda texts, fixed: characters.encode(texts, length, fixed))
    pieces: WordPieces | BytePairs
    if preset == "none":
        pieces = WordPieces.learned(texts, vocabulary_size)
    else:
        pieces = (BytePairs if family == "gpt" else WordPieces).from_preset(preset)
    if family == "gpt":
        return Reader(pieces, partial(_encode_gpt, pieces, length, symmetric))
    encode = pieces.encode_both_orders if symmetric else pieces.encode
    return Reader(pieces, lambda texts, fixed: encode(texts, length, fixed))


def _encode_gpt(pieces, length: int, symmetric: bool, texts: tf.Tensor, fixed: bool):
    return encode_gpt(pieces, texts, length, symmetric, fixed)
