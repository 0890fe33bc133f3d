from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from data.splits import ClassSplits
from metrics.classification import Evaluation
from runs.classified import classified, tabled
from runs.report import Table

TEXTS = tf.data.Dataset.from_tensor_slices((["a", "b", "c", "d"], [0, 1, 1, 0]))


def show(title, examples, notes):
    return SimpleNamespace(title=title, examples=[text for text, _ in examples], notes=notes)


def sections(probabilities, classes, origins):
    data = ClassSplits(train=TEXTS, test=TEXTS, classes=classes, origins=origins)
    test = Evaluation(np.array([0, 1, 1, 0]), np.array(probabilities))
    return {section.title: section for section in classified(test, data, show)}


def test_mistakes_and_correct_predictions_are_shown_with_their_origin():
    lines = {"test": [f"a.csv line {number}" for number in range(4)]}
    found = sections([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]], ("no", "yes"), lines)
    wrong, right = found["Worst mistakes"], found["Correct predictions"]
    assert wrong.examples == [b"d", b"c"] and right.examples == [b"a", b"b"]
    names = ("true", "predicted", "confidence", "from")
    assert [tuple(one) for one in wrong.notes] == [names, names]
    assert [tuple(one.values()) for one in wrong.notes] == [
        ("no", "yes", "80%", "a.csv line 3"),
        ("yes", "no", "60%", "a.csv line 2"),
    ]


def test_examples_stand_in_a_table_with_what_is_noted_of_them():
    notes = {"true": "no", "predicted": "yes", "confidence": "80%", "from": "a.csv line 3"}
    table = tabled("letter", bytes.decode)("Mistakes", [(b"a", 0)], [notes])
    assert table.title == "Mistakes"
    assert table.heading == ("letter", "true", "predicted", "confidence", "from")
    assert table.rows == [("a", "no", "yes", "80%", "a.csv line 3")]


def test_examples_from_no_file_have_no_origin():
    found = sections(np.eye(2)[[0, 1, 0, 0]], ("no", "yes"), {})
    assert [one["from"] for one in found["Correct predictions"].notes] == ["", "", ""]


@pytest.mark.parametrize("classes", [("no", "yes"), ("no", "yes", "maybe")])
def test_only_two_classes_have_thresholds(classes):
    found = sections(np.eye(len(classes))[[0, 1, 0, 0]], classes, {})
    title = "Thresholds, with 'yes' as the positive class"
    assert (title in found) == ("ROC and precision-recall curve" in found) == (len(classes) == 2)
    if len(classes) == 2:
        assert isinstance(found[title], Table) and len(found[title].rows) == 13
