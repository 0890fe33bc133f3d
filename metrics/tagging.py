"""Scores of taggers: accuracy of tags during training, F1 of entities at the end."""

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
    """Share of the labels that are predicted correctly; labels of -1 are ignored.

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
    """Predicted and true tags of sentences.

    Entities are read from the tags as in the shared task's program `conlleval`: an `I-` tag after
    another type begins a new entity. A predicted entity is correct if its type, first word and last
    word are correct.

    Reference:
        Tjong Kim Sang & De Meulder, Introduction to the CoNLL-2003 Shared Task, 2003, section 2.4.
        https://aclanthology.org/W03-0419

    Args:
        words: Labels and probabilities of all words, one sentence after the other.
        lengths: Number of words in each sentence `(sentences,)`.
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
        """The predicted tags of each sentence."""
        return self._by_sentence(self.words.predictions)

    def _by_sentence(self, numbers: np.ndarray) -> list[list[str]]:
        names = np.array(self.tags, dtype=object)[numbers]
        return [list(part) for part in np.split(names, np.cumsum(self.lengths)[:-1])]

    def position(self, word: int) -> tuple[int, int]:
        """Returns the index of the sentence of a word, and its index in that sentence."""
        ends = np.cumsum(self.lengths)
        sentence = int(np.searchsorted(ends, word, side="right"))
        return sentence, int(word - ends[sentence] + self.lengths[sentence])

    @property
    def scores(self) -> dict[str, float]:
        """F1, precision and recall over the entities of all types, then accuracy and loss of words.

        Scores with a denominator of 0 are 0.
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
                *(f"{scores[key]:.3f}" for key in ("precision", "recall", "f1-score")),
                int(scores["support"]),
            )
            for name, scores in report.items()
            if name != "weighted avg"
        ]


def marked(words: Sequence[str], tags: Sequence[str]) -> list[tuple[str, str]]:
    """Cuts a sentence into entities with their types, and the text between them with "".

    Args:
        words: The words.
        tags: Their tags in the BIO scheme.

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
