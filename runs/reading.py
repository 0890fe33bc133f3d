"""How a run reads its texts, said at its start and in its report."""

from typing import Any

import numpy as np

from data import word_vectors as vectors_of
from runs.run import Run


def word_vectors(run: Run, tokens: Any) -> np.ndarray | None:
    """Returns the vectors that the embeddings begin with, None for random ones.

    Args:
        run: What `start` returned; its settings name the file.
        tokens: Has the `vocabulary`, the tokens by their number.
    """
    config: Any = run.config
    if config.embeddings is None:
        return None
    found = vectors_of.load(config.embeddings, tokens.vocabulary, config.seed)
    said(run, "word vectors", found.counted(config.embeddings))
    return found.values


def said(run: Run, name: str, text: str) -> None:
    """Prints a sentence, and notes it for the report."""
    run.facts[name] = text
    print(text, flush=True)
