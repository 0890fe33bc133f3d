"""Sections of a report that show to which parts of a text a network attends."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from runs.pictures import heat_map
from runs.report import Picture, Section, Shaded

Weights = Callable[[dict[str, Any]], Any]
"""From the features of one text to the attention weights of its tokens."""


def maps(figures: Iterable[Figure]) -> list[Section]:
    """Returns a section for each test text, with a heat map of its attention weights."""
    return [Picture(f"Attention in test text {n}", one) for n, one in enumerate(figures, 1)]


def between_tokens(texts: Sequence[Any], reader: Any, weights: Weights) -> list[Section]:
    """Shows for each token how much it attends to each token of the same text.

    Args:
        texts: Test texts.
        reader: Has `first_row`, from a text to features and the names of its tokens.
        weights: From features to weights `(tokens, tokens)`.
    """
    rows = map(reader.first_row, texts)
    return maps(heat_map(np.array(weights(features)), names, names) for features, names in rows)


def of_words(texts: Sequence[Any], reader: Any, weights: Weights) -> list[Section]:
    """Shades the words of texts by the weights that they have in an attention pooling.

    Args:
        texts: Test texts.
        reader: As in `between_tokens`; it also has `weighted`, from a text, the names and the
            weights to pieces of the text with weights.
        weights: From features to weights `(1, tokens)`.
    """
    shaded = []
    for text in texts:
        features, names = reader.first_row(text)
        shaded.append(reader.weighted(text, names, np.array(weights(features))[0]))
    return [Shaded("Attention in test texts", shaded)]
