"""Tokenizers."""

import pytest

from tests.preprocessing.hard_texts import vocabulary


@pytest.fixture(scope="session")
def uncased():
    """Splits the hard texts, capitals or not."""
    import keras_hub

    from preprocessing.tokens import WordPieces

    return WordPieces(keras_hub.models.BertTokenizer(vocabulary(), lowercase=True))


@pytest.fixture(scope="session")
def tiny():
    """Knows the letters a to h, ids 5 to 12, and b and c within words, 13 and 14."""
    import keras_hub

    from preprocessing.tokens import WordPieces

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "##b", "##c"]
    return WordPieces(keras_hub.models.BertTokenizer(pieces))
