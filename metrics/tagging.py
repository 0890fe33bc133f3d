"""Taggers: the most probable tag of each word, accuracy of tags and F1 of entities."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

from metrics.classification import Evaluation, without_hits
from metrics.intervals import bounds

IGNORED = -1
"""Label of a token that has no tag, such as the second piece of a word."""
MEANINGS = {
    "tags": "tag of each word: O outside of entities, B-... at the first word of an entity, I-... "
    'at its other words; "" after the last word',
    "scores": "probability of the tag of each word; 0 after the last word",
    "segment_ids": "0",
    "logits": "log-probabilities of all tags at each token up to a constant; the tag of a word is "
    "predicted at its first token",
}
"""Meanings of the outputs of `best_tags` and of a network."""
HEADING = ("type", "precision", "recall", "F1", "test entities")
"""Columns of `Tagging.by_type`."""
MISTAKE = ("word", "true", "predicted", "confidence", "sentence")
"""Columns of `Tagging.mistake`."""


@keras.saving.register_keras_serializable(package="hornbook")
class TagAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Fraction of the labels that are predicted correctly; labels of -1 are ignored.

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


@keras.saving.register_keras_serializable(package="hornbook")
class EntityF1(keras.metrics.Metric):
    """F1 of the entities of all types, `2 correct / (true + predicted)`; labels of -1 are ignored.

    Entities are read as in `Tagging`, but in the rows of a batch: an entity that spans several
    rows counts in each of them. 0 if there is no entity.

    Reference:
        Tjong Kim Sang & De Meulder, Introduction to the CoNLL-2003 Shared Task, 2003, section 2.4.
        https://aclanthology.org/W03-0419

    Args:
        tags: Name of each tag in the BIO scheme; `O` is the first.

    Example:
        >>> f1 = EntityF1(["O", "B-city", "I-city"])
        >>> f1.update_state([[1, -1, 2, 0, 1]], np.eye(3)[[[1, 0, 2, 0, 0]]])
        >>> round(float(f1.result()), 3)
        0.667
    """

    def __init__(self, tags: Sequence[str], name: str = "f1", **kwargs):
        if not tags or tags[0] != "O":
            raise ValueError(f"`tags` must begin with O. Received: tags={tags!r}")
        super().__init__(name=name, **kwargs)
        self.tags = tuple(tags)
        types = sorted({tag[2:] for tag in tags})  # The empty one of O is the first.
        self._type_numbers = [types.index(tag[2:]) for tag in tags]
        self._is_begin = [tag.startswith("B-") for tag in tags]
        self.num_true = self.add_weight(shape=(), initializer="zeros", name="num_true")
        self.num_predicted = self.add_weight(shape=(), initializer="zeros", name="num_predicted")
        self.num_correct = self.add_weight(shape=(), initializer="zeros", name="num_correct")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the entities of a batch.

        Args:
            y_true: Labels `(rows, tokens)`.
            y_pred: Logits or probabilities `(rows, tokens, tags)`.
            sample_weight: Not used.
        """
        # An O before each row keeps the entities of two rows apart.
        labels, predictions = (
            tf.reshape(tf.pad(tags, [[0, 0], [1, 0]]), [-1])
            for tags in (tf.cast(y_true, tf.int32), tf.argmax(y_pred, -1, tf.int32))
        )
        is_word = labels >= 0
        position = tf.cumsum(tf.cast(is_word, tf.int32)) - 1

        def without_ignored(tags):  # The words move to the front; O fills the rest.
            tags = tf.where(is_word, tags, 0)
            return tf.math.unsorted_segment_sum(tags, position, tf.size(tags))

        true = self._entities(without_ignored(labels))
        predicted = self._entities(without_ignored(predictions))
        same = [a == b for a, b in zip(true, predicted, strict=True)]
        correct = true[0] & tf.reduce_all(same, axis=0)
        for total, found in (
            (self.num_true, true[0]),
            (self.num_predicted, predicted[0]),
            (self.num_correct, correct),
        ):
            total.assign_add(tf.reduce_sum(tf.cast(found, total.dtype)))

    def result(self):
        return ops.divide_no_nan(2 * self.num_correct, self.num_true + self.num_predicted)

    def get_config(self):
        return {**super().get_config(), "tags": self.tags}

    def _entities(self, tags: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns for each word `(n,)` whether an entity begins there, its type and its length."""
        types = tf.gather(tf.constant(self._type_numbers), tags)
        before = tf.pad(types[:-1], [[1, 0]])
        begins = (types > 0) & (tf.gather(tf.constant(self._is_begin), tags) | (types != before))
        number = tf.cumsum(tf.cast(begins, tf.int32))
        inside = tf.cast(types > 0, tf.int32)
        lengths = tf.math.unsorted_segment_sum(inside, number, tf.size(tags) + 1)
        return begins, types, tf.gather(lengths, number)


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

    @property
    def with_entities(self) -> list[int]:
        """Indices of the sentences with an entity, true or predicted."""
        both = enumerate(zip(self.true, self.predicted, strict=True))
        return [index for index, (true, predicted) in both if {*true, *predicted} - {"O"}]

    def position(self, word: int) -> tuple[int, int]:
        """Returns the index of the sentence of a word, and its index in that sentence."""
        ends = np.cumsum(self.lengths)
        sentence = int(np.searchsorted(ends, word, side="right"))
        return sentence, int(word - ends[sentence] + self.lengths[sentence])

    def mistake(self, word: int, sentence: np.ndarray) -> tuple[str, ...]:
        """Returns a word, its true and predicted tag, the confidence, and the words around it.

        Args:
            word: Index of the word among those of all sentences.
            sentence: The words of its sentence, of which 20 on each side are shown.
        """
        _, i = self.position(word)
        around = joined(sentence[max(0, i - 20) : i + 20])
        return (joined(sentence[[i]]), *self.words.row(word, self.tags), around)

    def marked(
        self, indices: Iterable[int], sentences: Iterable[Sequence[bytes]]
    ) -> list[list[tuple[str, str]]]:
        """Marks the entities of sentences, first the true ones, then the predicted ones.

        Args:
            indices: Indices of the sentences.
            sentences: Their words.
        """
        texts = []
        for index, words in zip(indices, sentences, strict=True):
            texts.append([("True: ", ""), *marked(words, self.true[index])])
            texts.append([("Predicted: ", ""), *marked(words, self.predicted[index])])
        return texts

    @property
    def scores(self) -> dict[str, float]:
        """F1, precision and recall over the entities of all types, then accuracy and loss of words.

        Scores with a denominator of 0 are 0. The interval of F1 is by sentence.
        """
        precision, recall, f1, _ = precision_recall_fscore_support(
            self.true, self.predicted, average="micro", zero_division=0
        )
        return {
            "f1": float(f1),
            **bounds("f1", *self._f1_by_sentence),
            "precision": float(precision),
            "recall": float(recall),
            "accuracy": float((self.words.predictions == self.words.labels).mean()),
            "loss": float(self.words.losses.mean()),
        }

    @property
    def f1(self) -> float:
        """F1 of the entities of all types, without the other scores, which take longer."""
        parts, wholes = self._f1_by_sentence
        return float(parts.sum() / max(wholes.sum(), 1))

    @property
    def _f1_by_sentence(self) -> tuple[np.ndarray, np.ndarray]:
        """Contribution of each sentence to F1's numerator and denominator, see `EntityF1`."""
        pairs = [
            (set(get_entities(true)), set(get_entities(predicted)))
            for true, predicted in zip(self.true, self.predicted, strict=True)
        ]
        correct = [2 * len(true & predicted) for true, predicted in pairs]
        return np.array(correct), np.array([len(true) + len(found) for true, found in pairs])

    @property
    def warnings(self) -> list[str]:
        """Names the types that have entities, but none that is found."""
        true, found = (set(get_entities(tags)) for tags in (self.true, self.predicted))
        missed = {kind for kind, *_ in true} - {kind for kind, *_ in true & found}
        return without_hits("Types", sorted(missed))

    @property
    def by_type(self) -> list[tuple[Any, ...]]:
        """A row of `HEADING` for each type of entities, for all types and for their mean."""
        if not get_entities(self.true) + get_entities(self.predicted):
            return []
        report = classification_report(self.true, self.predicted, output_dict=True, zero_division=0)
        names = {"micro avg": "all", "macro avg": "mean of the types"}
        return [
            (
                names.get(name, name),
                *(f"{scores[key]:.3f}" for key in ("precision", "recall", "f1-score")),
                int(scores["support"]),
            )
            for name, scores in report.items()
            if name != "weighted avg"
        ]


def frequencies(batches: tf.data.Dataset, num_tags: int) -> np.ndarray:
    """Computes the frequency of each tag, with one added to each count so that none is 0.

    Args:
        batches: `(features, labels)`, labels int32 `(rows, tokens)`; -1 is ignored.
        num_tags: Number of tags.

    Returns:
        Share of each tag among the labels `(num_tags,)`.
    """
    counts = np.ones(num_tags, np.int64)
    for _, labels in batches.as_numpy_iterator():
        counts += np.bincount(labels[labels >= 0], minlength=num_tags)
    return counts / counts.sum()


def best_tags(tags: Sequence[str], logits: tf.Tensor, is_word: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the most probable tag of each word and its probability, for serving.

    Args:
        tags: Name of each tag.
        logits: `(n, words, tags)`.
        is_word: False in padding, bool `(n, words)`.
    """
    probabilities = tf.nn.softmax(logits)
    names = tf.gather(tf.constant(tags), tf.argmax(probabilities, axis=-1))
    return {
        "tags": tf.where(is_word, names, ""),
        "scores": tf.where(is_word, tf.reduce_max(probabilities, axis=-1), 0.0),
    }


def joined(words: Iterable[bytes]) -> str:
    """Returns words, in UTF-8, as a text."""
    return b" ".join(words).decode(errors="replace")


def marked(words: Sequence[bytes], tags: Sequence[str]) -> list[tuple[str, str]]:
    """Cuts a sentence into entities with their types, and the text between them with "".

    Args:
        words: The words, in UTF-8.
        tags: Their tags in the BIO scheme.

    Example:
        >>> marked([b"In", b"New", b"York", b"!"], ["O", "B-city", "I-city", "O"])
        [('In ', ''), ('New York', 'city'), (' !', '')]
    """
    decoded = [word.decode(errors="replace") for word in words]
    pieces: list[tuple[str, str]] = []
    end = 0
    for kind, first, last in get_entities(list(tags)):
        space = " " if end else ""
        between = "".join(f"{word} " for word in decoded[end:first])
        pieces += [(space + between, ""), (" ".join(decoded[first : last + 1]), kind)]
        end = last + 1
    rest = " ".join(decoded[end:])
    pieces.append((f" {rest}" if end and rest else rest, ""))
    return [piece for piece in pieces if piece[0]]
