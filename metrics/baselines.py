"""Scores of simple predictors without a network: the most frequent answer, and linear models."""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from metrics import detections
from metrics.classification import Evaluation
from metrics.tagging import Tagging

MAX_EXAMPLES = 10_000
"""Maximum number of training examples that a baseline learns from: the first ones."""
MAX_SIDE = 32
"""Maximum height and width, in pixels, of the images of the linear model."""
MAX_WEIGHTS = {"pixels": 50_000, "words": 1_000_000}
"""Maximum number of features times classes, so that a linear model takes seconds."""
MAX_CLUSTERS = 10
"""Maximum number of boxes of a class that are given for every image."""
MAX_CHARACTERS = 5000
"""Maximum number of characters that the linear model reads of a text: the first ones."""

SPREADS = 50
"""Number of steps in which labels spread to neighbors."""


class Baseline(NamedTuple):
    """A predictor and its score on the test examples.

    Args:
        description: What it predicts from, in words.
        score: The score that a network is measured by.
    """

    description: str
    score: float


def of_images(
    data: Any, decode: Callable[[tf.Tensor, tuple[int, int, int]], tf.Tensor]
) -> dict[str, Baseline]:
    """Scores the most frequent class, and logistic regression on pixels, by accuracy.

    Args:
        data: Has `train` and `test`, datasets of `(encoded image, label)`; `classes`, their names;
            and `input_shape`, `(height, width, channels)` of the network in pixels. The linear
            model sees at most 32 x 32 pixels, fewer with many classes.
        decode: `preprocessing.images.decode`.
    """
    height, width, channels = data.input_shape
    pixels = MAX_WEIGHTS["pixels"] // (len(data.classes) * channels)
    side = max(1, min(MAX_SIDE, isqrt(pixels)))
    shape = (min(side, height), min(side, width), channels)

    @tf.autograph.experimental.do_not_convert
    def read(encoded, label):
        return tf.reshape(decode(encoded, shape), [-1]), label

    def arrays(examples: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
        levels, labels = _columns(examples.map(read, num_parallel_calls=tf.data.AUTOTUNE))
        return levels.astype("float32") / 255, labels

    features = f"{' x '.join(map(str, shape))} pixels"
    return _of_classes(arrays(data.train.take(MAX_EXAMPLES)), arrays(data.test), features)


def of_texts(data: Any) -> dict[str, Baseline]:
    """Scores the most frequent class, and logistic regression on words, by accuracy.

    The features of a text are the TF-IDF of its words. Those of a pair are both texts' and their
    absolute difference.

    Args:
        data: Has `train` and `test`, datasets of `(texts, label)`, strings `(1,)` or `(2,)`; and
            `classes`, their names.
    """
    texts, labels = _columns(data.train.take(MAX_EXAMPLES))
    test_texts, test_labels = _columns(data.test)
    parts = 2 * texts.shape[1] - 1
    words = TfidfVectorizer(
        analyzer=_words,
        decode_error="replace",
        max_features=max(1, MAX_WEIGHTS["words"] // (parts * len(data.classes))),
        sublinear_tf=True,
        dtype=np.float32,
    ).fit(texts.ravel())

    def features(texts: np.ndarray) -> Any:
        columns = [words.transform(column) for column in texts.T]
        if len(columns) == 2:
            columns.append(abs(columns[0] - columns[1]))
        return sparse.hstack(columns, "csr")

    return _of_classes(
        (features(texts), labels),
        (features(test_texts), test_labels),
        f"the TF-IDF of {len(words.vocabulary_):,} words",
    )


def of_nodes(data: Any) -> dict[str, Baseline]:
    """Scores the most frequent class, a linear model on features, and the spreading of labels.

    Label propagation knows the links and no features: each node takes the mean of its neighbors'
    classes, again and again, and the training nodes keep theirs.

    Reference:
        Zhou et al., Learning with Local and Global Consistency, 2004.

    Args:
        data: A `data.graphs.Graph`.
    """
    train, test = data.indices("train"), data.indices("test")
    labels, test_labels = data.labels[train], data.labels[test]
    linear = _of_classes(
        (data.features[train], labels),
        (data.features[test], test_labels),
        f"{data.features.shape[1]:,} features",
    )
    senders, receivers, weights = data.links
    count = len(data.ids)
    links = sparse.csr_matrix((weights, (receivers, senders)), (count, count))
    degrees = np.maximum(np.asarray(links.sum(axis=1)), 1e-9)
    start = np.zeros((count, len(data.classes)), np.float32)
    start[train, labels] = 1
    spread = start
    for _ in range(SPREADS):
        spread = np.asarray(links @ spread) / degrees
        spread[train] = start[train]
    # Nodes that no label reaches get the most frequent class.
    spread += 1e-9 * np.bincount(labels, minlength=len(data.classes))
    hits = spread[test].argmax(axis=1) == test_labels
    description = f"label propagation from {len(train):,} training nodes, without features"
    return {**linear, "propagated": Baseline(description, float(hits.mean()))}


def of_tags(data: Any, test: Tagging) -> dict[str, Baseline]:
    """Scores the most frequent tag, and the most frequent tag of each word, by F1 of entities.

    A word that is not in the training sentences gets the most frequent tag of all words.

    Args:
        data: Has `train` and `test`, datasets of `(words, tags)`.
        test: Has the true tags of the test sentences.
    """
    by_word: dict[bytes, Counter[int]] = defaultdict(Counter)
    sentences = data.train.take(MAX_EXAMPLES)
    for words, tags in sentences.as_numpy_iterator():
        for word, tag in zip(words.tolist(), tags.tolist(), strict=True):
            by_word[word][tag] += 1
    totals: Counter[int] = Counter()
    for counts in by_word.values():
        totals.update(counts)
    ((majority, _),) = totals.most_common(1)
    frequent = {word: counts.most_common(1)[0][0] for word, counts in by_word.items()}
    test_words = [word for words, _ in data.test.as_numpy_iterator() for word in words.tolist()]

    def f1(predictions: list[int]) -> float:
        certain = np.eye(len(test.tags))[predictions]
        return replace(test, words=Evaluation(test.words.labels, certain)).f1

    learned = f"in {len(sentences):,} training sentences"
    return {
        "majority": Baseline("the most frequent tag", f1([majority] * len(test_words))),
        "dictionary": Baseline(
            f"the most frequent tag of each word {learned}",
            f1([frequent.get(word, majority) for word in test_words]),
        ),
    }


def of_boxes(data: Any, test: detections.Evaluation) -> dict[str, Baseline]:
    """Scores the same boxes in every image: the centers of clusters of the training boxes.

    The score of a box is the share of the training boxes in its cluster. Its mask is filled.

    Args:
        data: Has `train_boxes` and `train_classes`, as `data.objects.Objects`.
        test: Has the true objects of the test images, the `size` of each, height and width, and its
            `scale`, by which boxes are multiplied for the network.
    """
    from pycocotools import mask

    most = max(1, min(MAX_CLUSTERS, test.most // len(test.classes)))
    boxes, classes = data.train_boxes[:MAX_EXAMPLES], data.train_classes[:MAX_EXAMPLES]
    centers, labels, scores = [], [], []
    with threadpool_limits(1):
        for label in np.unique(classes):
            members = boxes[classes == label]
            number = min(most, len(np.unique(members, axis=0)))
            found = KMeans(number, n_init=1, random_state=0).fit(members)
            centers.append(found.cluster_centers_)
            labels += [label] * number
            scores.append(np.bincount(found.labels_, minlength=number) / len(boxes))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    given = {"classes": np.array(labels)[order], "scores": np.concatenate(scores)[order]}

    def in_image(truth):
        height, width = truth["size"]
        placed = np.concatenate(centers)[order] / truth["scale"]
        found = {**given, "boxes": np.clip(placed, 0, [width, height, width, height])}
        if "masks" in truth:
            corners = found["boxes"].copy()
            corners[:, 2:] -= corners[:, :2]
            found["masks"] = mask.frPyObjects(corners, height, width)
        return found

    constant = replace(test, found=[in_image(truth) for truth in test.truths])
    what = f"the {len(order)} most frequent boxes, centers of clusters of the training boxes"
    return {"majority": Baseline(what, constant.map50)}


def _of_classes(
    train: tuple[Any, np.ndarray], test: tuple[Any, np.ndarray], features: str
) -> dict[str, Baseline]:
    """Scores the most frequent class, and logistic regression on features `(n, features)`."""
    (inputs, labels), (test_inputs, test_labels) = train, test
    majority = np.bincount(labels).argmax()
    predictions = np.full(len(test_labels), majority)
    if len(np.unique(labels)) > 1:
        # One thread: several would contend with the threads of TensorFlow.
        with threadpool_limits(1), warnings.catch_warnings():
            # After 100 steps it is good enough to compare with.
            warnings.simplefilter("ignore", ConvergenceWarning)
            predictions = LogisticRegression().fit(inputs, labels).predict(test_inputs)
    description = f"logistic regression on {features}, from {len(labels):,} training examples"
    return {
        "majority": Baseline("the most frequent class", float((test_labels == majority).mean())),
        "linear": Baseline(description, float((test_labels == predictions).mean())),
    }


def _columns(examples: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns the parts of all examples `(part, label)` in an array each."""
    parts, labels = zip(*examples.batch(256).as_numpy_iterator(), strict=True)
    return np.concatenate(parts), np.concatenate(labels)


def _words(text: str) -> list[str]:
    """Splits a text into words in lower case and single other characters; never into nothing."""
    return re.findall(r"\w+|[^\w\s]", text[:MAX_CHARACTERS].lower()) or [""]
