"""How a run reads its texts, said at its start and in its report."""

from typing import Any

import numpy as np
import tensorflow as tf

from data import word_vectors as vectors_of
from runs.run import Run

MOST_BATCHES = 500
"""Number of batches whose padding is counted."""
MOST_COUNTED = 10_000
"""Number of texts whose tokens are counted."""


def word_vectors(run: Run, tokens: Any) -> np.ndarray | None:
    """Returns the vectors that the embeddings begin with, None for random ones.

    Args:
        run: What `start` returned; its settings name the file.
        tokens: Has the `vocabulary`, the tokens by their number.
    """
    config: Any = run.config
    if config.embeddings is None or config.continued:
        return None
    found = vectors_of.load(config.embeddings, tokens.vocabulary, config.seed)
    said(run, "word vectors", found.counted(config.embeddings))
    return found.values


def said(run: Run, name: str, text: str) -> None:
    """Prints a sentence and adds it to the facts of the report."""
    run.facts[name] = text
    print(text, flush=True)


def part(run: Run, what: str, done: int, total: int, scores: str) -> None:
    """Says which scores are those of a part of the test examples; nothing if it is all of them.

    Args:
        run: What `start` returned.
        what: What the network wrote for the examples, in the plural.
        done: Number of test examples for which it did.
        total: Number of test examples.
        scores: Names of the scores.
    """
    if done < total:
        text = f"The network wrote {what} for {done:,} of {total:,} test examples, evenly spread: "
        said(run, f"part with {what}", f"{text}{scores} are of these.")


def padding(run: Run, batches: tf.data.Dataset) -> float:
    """Says which share of the tokens of training batches is padding, in a run that trains.

    Args:
        run: What `start` returned.
        batches: Batches for training, of which the first `MOST_BATCHES` are counted. Their features
            have a `padding_mask`, 0 in padding, or names that end with `_ids`: tokens, -1 in
            padding.

    Returns:
        The mean number of other tokens per row; 0 in a run that does not train.
    """
    if run.config.EVALUATES:
        return 0.0
    real = total = rows = 0
    for features, *_ in batches.take(MOST_BATCHES):
        masks = [ids >= 0 for name, ids in features.items() if name.endswith("_ids")]
        if "padding_mask" in features:
            masks = [features["padding_mask"]]
        rows += len(masks[0])
        for mask in masks:
            real += int(np.count_nonzero(mask))
            total += int(tf.size(mask))
    said(run, "padding", f"Padding is {1 - real / total:.1%} of the tokens of training batches.")
    return real / rows


def lengths(
    run: Run, texts: tf.data.Dataset, reader: Any, what: str, length: int | None = None
) -> None:
    """Says which fraction of the training texts is longer than a row, and what happens to them.

    If the run evaluates other data, these are the evaluated texts.

    Args:
        run: What `start` returned.
        texts: The training texts one by one; only the first `MOST_COUNTED` are counted.
        reader: Has `sizes`, a function from a batch of them to the number of tokens of each; and
            `longer`, what becomes of longer texts. Empty: their last tokens are truncated.
        what: Name of a text in the plural.
        length: Maximum number of tokens of a text. None: `length` of the reader.
    """
    length = reader.length if length is None else length
    batches = texts.take(MOST_COUNTED).ragged_batch(256)
    counts = np.concatenate([reader.sizes(batch) for batch in batches])
    total, many = len(counts), int((counts > length).sum())
    kind = "evaluated" if run.is_foreign else "training"
    of = f"the {'' if total < MOST_COUNTED else 'first '}{total:,} {kind} {what}"
    if not many:
        return said(run, f"long {what}", f"None of {of} is longer than {length} tokens.")
    cut = np.maximum(counts - length, 0).sum() / counts.sum()
    becomes = reader.longer or f"{cut:.1%} of all tokens are truncated"
    are = "is" if many == 1 else "are"
    text = f"{many:,} of {of} ({many / total:.1%}) {are} longer than {length} tokens: {becomes}."
    return said(run, f"long {what}", text)
