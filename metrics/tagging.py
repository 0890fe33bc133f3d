"""What taggers of words are measured by: accuracy while they train, entities in the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

from metrics.classification import Evaluation


@keras.saving.register_keras_serializable(package="hornbook")
class TagAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Share of the labels that a network tells; a label of -1 counts for nothing.

    Example:
        >>> accuracy = TagAccuracy()
        >>> accuracy.update_state([[1, -1, 0]], [[[0.0, 1], [1, 0], [0, 1]]])
        >>> float(accuracy.result())
        0.5
    """

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the labels of a batch, int32 `(rows, tokens)`; `sample_weight` is not used."""
        real = ops.convert_to_tensor(y_true) >= 0
        return super().update_state(y_true, y_pred, ops.cast(real, "float32"))


@dataclass(frozen=True)
class Tagging:
    """What a network says of the words of tagged sentences.

    Entities are read off the tags as the shared task's program `conlleval` does, which mends
    nothing: `I-` after another type begins an entity. Found is one whose type, first and last word
    are all right.

    Reference:
        Tjong Kim Sang & De Meulder, Introduction to the CoNLL-2003 Shared Task, 2003, section 2.4.
        https://aclanthology.org/W03-0419

    Args:
        words: All words, one sentence after the other.
        lengths: Words of each sentence `(sentences,)`.
        tags: Name of each tag.
    """

    words: Evaluation
    lengths: np.ndarray
    tags: Sequence[str]

    @cached_property
    def true(self) -> list[list[str]]:
        """The true tags of each sentence."""
        return self._by_sentence(self.words.labels)

    @cached_property
    def predicted(self) -> list[list[str]]:
        """The tags of each sentence that the network says."""
        return self._by_sentence(self.words.predictions)

    def _by_sentence(self, numbers: np.ndarray) -> list[list[str]]:
        names = np.array(self.tags, dtype=object)[numbers]
        return [list(part) for part in np.split(names, np.cumsum(self.lengths)[:-1])]

    def position(self, word: int) -> tuple[int, int]:
        """Returns sentence, and place in it, of one of all words."""
        ends = np.cumsum(self.lengths)
        sentence = int(np.searchsorted(ends, word, side="right"))
        return sentence, int(word - ends[sentence] + self.lengths[sentence])

    @property
    def scores(self) -> dict[str, float]:
        """F1, precision and recall over the entities of all types, then accuracy and loss of words.

        What nothing is divided by is 0.
        """
        precision, recall, f1, _ = precision_recall_fscore_support(
            self.true, self.predicted, average="micro", zero_division=0
        )
        entities = {"f1": float(f1), "precision": float(precision), "recall": float(recall)}
        return entities | {name: self.words.scores[name] for name in ("accuracy", "loss")}

    @property
    def by_type(self) -> list[tuple[Any, ...]]:
        """A heading, a row for each type of entities, and the mean over types."""
        rows: list[tuple[Any, ...]] = [("type", "precision", "recall", "F1", "entities")]
        if not get_entities(self.true) + get_entities(self.predicted):
            return rows
        report = classification_report(self.true, self.predicted, output_dict=True, zero_division=0)
        names = {"micro avg": "all", "macro avg": "mean of the types"}
        return rows + [
            (
                names.get(name, name),
                *(f"{found[key]:.3f}" for key in ("precision", "recall", "f1-score")),
                int(found["support"]),
            )
            for name, found in report.items()
            if name != "weighted avg"
        ]


def marked(words: Sequence[str], tags: Sequence[str]) -> list[tuple[str, str]]:
    """Cuts a sentence into entities, each with its type, and what stands between, with "".

    Args:
        words: The words.
        tags: Their tags, in the scheme BIO.

    Example:
        >>> marked(["In", "New", "York", "!"], ["O", "B-city", "I-city", "O"])
        [('In ', ''), ('New York', 'city'), (' !', '')]
    """
    pieces: list[tuple[str, str]] = []
    end = 0
    for kind, first, last in get_entities(list(tags)):
        space = " " if end else ""
        between = "".join(f"{word} " for word in words[end:first])
        pieces += [(space + between, ""), (" ".join(words[first : last + 1]), kind)]
        end = last + 1
    rest = " ".join(words[end:])
    pieces.append((f" {rest}" if end and rest else rest, ""))
    return [piece for piece in pieces if piece[0]]
