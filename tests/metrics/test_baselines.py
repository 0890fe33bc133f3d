"""Predictors without a network, on small data that they can or cannot learn."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from pycocotools import mask

from metrics import baselines
from metrics.classification import Evaluation
from metrics.detections import Evaluation as Detections
from metrics.tagging import Tagging


def examples(inputs, labels) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((inputs, np.array(labels, np.int32)))


def scores(found: dict[str, baselines.Baseline]) -> dict[str, float]:
    return {name: baseline.score for name, baseline in found.items()}


def images(count: int, seed: int, flip: bool = False) -> tf.data.Dataset:
    """Levels of 6 x 4 pixels, of which the upper half is brighter in class 1, a third of all."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3 == 0
    levels = rng.integers(0, 100, (count, 6, 4, 1))
    levels[:, :3] += 120 * labels[:, None, None, None]
    return examples(levels.astype(np.uint8), labels != flip)


def of_images(**changes):
    data = {"train": images(90, 0), "test": images(30, 1), "classes": ("a", "b")}
    shapes = []

    def decode(levels, shape):
        shapes.append(shape)
        return tf.cast(tf.image.resize(levels, shape[:2]), tf.uint8)

    data = {**data, "input_shape": (6, 4, 1), **changes}
    return baselines.of_images(SimpleNamespace(**data), decode), shapes[0]


def test_pixels_tell_bright_halves_apart_and_the_majority_does_not():
    found, _ = of_images()
    assert scores(found) == {"majority": pytest.approx(2 / 3), "linear": 1.0}
    assert found["linear"].description == (
        "logistic regression on 6 x 4 x 1 pixels, from 90 training examples"
    )


def test_labels_of_the_test_examples_only_score():
    usual, turned = scores(of_images()[0]), scores(of_images(test=images(30, 1, flip=True))[0])
    # The predictions are the same: those that were right are wrong.
    assert {name: 1 - score for name, score in usual.items()} == pytest.approx(turned)


@pytest.mark.parametrize(
    ("input_shape", "num_classes", "seen"),
    [
        ((64, 40, 1), 2, (32, 32, 1)),
        ((28, 28, 1), 10, (28, 28, 1)),
        ((224, 20, 3), 1000, (4, 4, 3)),
        ((224, 224, 3), 10**6, (1, 1, 3)),
    ],
)
def test_the_linear_model_sees_few_pixels(input_shape, num_classes, seen):
    train = examples(np.zeros((2, 8, 8, 3 if seen[2] == 3 else 1), np.uint8), [0, 1])
    classes = range(num_classes)
    found, shape = of_images(train=train, test=train, input_shape=input_shape, classes=classes)
    assert shape == seen
    assert " x ".join(map(str, seen)) in found["linear"].description


def test_only_the_first_training_examples_are_used(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_EXAMPLES", 12)
    found, _ = of_images()
    assert "from 12 training examples" in found["linear"].description


def test_training_examples_of_one_class_leave_nothing_to_fit():
    found, _ = of_images(train=images(90, 0).filter(lambda levels, label: label == 1))
    assert scores(found) == pytest.approx({"majority": 1 / 3, "linear": 1 / 3})


def of_texts(train, test, num_classes: int = 2):
    columns = (zip(*some, strict=True) for some in (train, test))
    made = [examples(np.array(texts, object), labels) for texts, labels in columns]
    data = SimpleNamespace(train=made[0], test=made[1], classes=range(num_classes))
    return baselines.of_texts(data)


def test_words_decide_in_any_letters_and_odd_texts_do_not_hurt():
    words = [("red", 0), ("BLUE", 1)] * 9
    train = [([f"The {word} house, {number}"], label) for number, (word, label) in enumerate(words)]
    test = [(["a Red dog"], 0), (["blue!"], 1), (["red " * 9000], 0), ([b"\xff blue \0"], 1)]
    assert scores(of_texts(train, test)) == {"majority": 0.5, "linear": 1.0}


def test_texts_without_any_word_are_no_error():
    blank = [([" "], 0), ([""], 1), ([b"\xff"], 1)]
    assert scores(of_texts(blank[:2], blank))["majority"] == pytest.approx(1 / 3)


def test_pairs_are_told_apart_by_what_they_share():
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(8)]

    def pairs(count: int):
        for number in range(count):
            first, second, third, other = rng.permutation(words)[:4]
            same = number % 2
            yield [f"{first} {second}", f"{first if same else third} {other}"], same

    found = of_texts(list(pairs(400)), list(pairs(200)))
    assert found["majority"].score == 0.5 and found["linear"].score > 0.9


def test_many_classes_leave_fewer_words(monkeypatch):
    monkeypatch.setitem(baselines.MAX_WEIGHTS, "words", 12)
    train = [(["often often rare"], 0), (["often other"], 1)]
    assert "of 3 words" in of_texts(train, train)["linear"].description
    assert "of 1 words" in of_texts(train, train, num_classes=9)["linear"].description


def test_words_get_their_most_frequent_tag_and_unknown_words_that_of_all():
    tags = ("O", "B-place", "I-place")
    train = [
        (["in", "Rome"], [0, 1]),
        (["Rome", "is", "New", "York"], [1, 0, 1, 2]),
        (["a", "new", "Rome"], [0, 0, 0]),
        (["is", "is"], [0, 0]),
    ]
    test = [(["Rome", "is", "Oslo"], [1, 0, 1]), (["New", "York"], [1, 2])]

    def dataset(sentences):
        words, labels = (tf.ragged.constant(column) for column in zip(*sentences, strict=True))
        return tf.data.Dataset.from_tensor_slices((words, labels)).map(lambda *example: example)

    labels = np.array([tag for _, some in test for tag in some])
    tagging = Tagging(Evaluation(labels, np.zeros((5, 3))), np.array([3, 2]), tags)
    found = baselines.of_tags(SimpleNamespace(train=dataset(train), test=dataset(test)), tagging)
    # Rome and New York are found, Oslo is not.
    assert scores(found) == {"majority": 0.0, "dictionary": pytest.approx(2 * 2 / (3 + 2))}
    assert found["dictionary"].description.endswith("each word in 4 training sentences")


def test_the_same_boxes_are_found_in_every_image():
    # Cats are near one corner and dogs near another, twice as often; a test image is twice as large
    # as the network's.
    near = np.random.default_rng(0).normal(0, 0.5, (30, 4))
    centers = np.array([[0, 0, 40, 40], [50, 50, 90, 90], [50, 50, 90, 90]] * 10)
    data = SimpleNamespace(train_boxes=centers + near, train_classes=np.array([0, 1, 1] * 10))

    def score(**changes) -> float:
        truth = {"boxes": 2.0 * centers[:2], "classes": np.array([0, 1]), "kind": np.array([1, 1])}
        truths = [{**truth, "size": (200, 200), "scale": 0.5, **changes}]
        return baselines.of_boxes(data, Detections(truths, [], ["cat", "dog"], 2))["majority"].score

    assert score() == pytest.approx(1)
    assert score(classes=np.array([0, 0])) == pytest.approx(0.5, abs=0.01)
    assert score(classes=np.array([1, 0])) == 0
    masks = np.zeros((200, 200, 2), np.uint8, order="F")
    masks[:80, :80, 0] = masks[100:180, 100:180, 1] = 1
    assert score(masks=mask.encode(masks)) == pytest.approx(1)
    masks[:, :60] = 0
    assert score(masks=mask.encode(masks)) == pytest.approx(0.5, abs=0.01)
