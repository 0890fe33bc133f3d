"""What a classifier says of the test examples."""

import keras
import numpy as np
import pytest
from sklearn.metrics import classification_report

from metrics import classification
from metrics.classification import Evaluation, refusals


def evaluation(labels, predictions, num_classes: int) -> Evaluation:
    """Predicts classes with certainty."""
    return Evaluation(np.array(labels), np.eye(num_classes)[np.array(predictions)])


def test_scores_of_two_classes_by_hand():
    # Of class 0 two of three are found, with one wrong; of class 1 one of two, with one wrong.
    test = evaluation([0, 0, 0, 1, 1], [0, 0, 1, 1, 0], 2)
    heading, rows = test.by_class(["cat", "dog"])
    assert heading == ("class", "precision", "recall", "F1", "test examples")
    assert rows == [
        ("cat", "0.667", "0.667", "0.667", 3),
        ("dog", "0.500", "0.500", "0.500", 2),
    ]
    assert next(iter(test.scores)) == "accuracy" and test.scores["accuracy"] == 3 / 5
    assert test.scores["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert test.scores["weighted_f1"] == pytest.approx((3 * 2 / 3 + 2 * 1 / 2) / 5)


def test_scores_are_those_of_scikit_learn_also_of_classes_that_never_occur():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    predictions = np.where(rng.random(200) < 0.4, rng.integers(0, 5, 200), labels)
    predictions[predictions == 3] = 0
    test = evaluation(labels, predictions, 6)
    # Class 3 is never predicted, class 4 has no example, class 5 neither.
    report = classification_report(labels, predictions, output_dict=True, zero_division=0)
    names = [str(number) for number in range(6)]
    for name, precision, recall, f1, count in test.by_class(names)[1]:
        row = report.get(name, {"precision": 0, "recall": 0, "f1-score": 0, "support": 0})
        assert [float(precision), float(recall), float(f1), count] == pytest.approx(
            list(row.values()), abs=5e-4
        )
    assert test.scores["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    assert test.scores["weighted_f1"] == pytest.approx(report["weighted avg"]["f1-score"])


def test_classes_without_a_correct_prediction_are_named():
    names = ["cat", "dog", "eel", "fox"]
    # Of cats one is right, of dogs none; there is no eel; the fox is right.
    test = evaluation([0, 0, 1, 1, 3], [0, 1, 0, 2, 3], 4)
    assert test.warnings(names) == ["Classes never predicted correctly: dog."]
    assert evaluation([0, 3], [0, 3], 4).warnings(names) == []
    many = evaluation(range(1, 13), [0] * 12, 13).warnings([f"c{number}" for number in range(13)])
    assert many == [
        "Classes never predicted correctly: "
        + ", ".join(f"c{number}" for number in range(1, 11))
        + " and 2 more."
    ]


def test_the_most_frequent_errors_are_named_with_their_share():
    test = evaluation([0, 0, 0, 1, 1, 1, 2], [1, 1, 0, 0, 2, 2, 2], 3)
    heading, rows = test.confusions(["cat", "dog", "eel"])
    assert heading[:2] == ("true", "predicted")
    assert rows == [
        ("cat", "dog", 2, "67%"),
        ("dog", "eel", 2, "67%"),
        ("dog", "cat", 1, "33%"),
    ]
    assert evaluation([0, 1], [0, 1], 2).confusions(["cat", "dog"])[1] == []
    labels, predictions = zip(*((i, j) for i in range(4) for j in range(4) if i != j), strict=True)
    assert len(evaluation(labels, predictions, 4).confusions("abcd")[1]) == 10


def test_calibration_is_worked_out_in_ten_intervals():
    confidence = np.array([1.0, 0.95, 0.91, 0.9, 0.81, 0.5])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    confidences, accuracies, counts = Evaluation(
        np.array([0, 0, 1, 1, 1, 0]), probabilities
    ).calibration
    assert confidences == pytest.approx([0.5, (0.9 + 0.81) / 2, (1 + 0.95 + 0.91) / 3])
    assert accuracies == pytest.approx([1, 0, 2 / 3])
    assert counts.tolist() == [1, 2, 3]


def test_worst_are_the_wrong_answers_of_the_largest_losses():
    unsure = [[0.40, 0.35, 0.25]] * 12
    wrong = [[0.45, 0.55, 0.0], [0.1, 0.9, 0.0], [0.3, 0.0, 0.7]]
    evaluation = Evaluation(np.zeros(15, int), np.array(unsure + wrong))
    assert evaluation.worst == [13, 14, 12]
    many = Evaluation(np.zeros(20, int), np.array([[0.2, 0.8]] * 20))
    assert many.worst == list(range(12))


def test_thresholds_of_two_classes_by_hand():
    positive = np.array([0.05, 0.35, 0.4, 0.8])
    test = Evaluation(np.array([0, 0, 1, 1]), np.stack([1 - positive, positive], 1))
    heading, rows = test.thresholds
    assert heading == ("threshold", "precision", "recall", "F1", "false positive rate")
    found = {threshold: scores for threshold, *scores in rows}
    # Both positives, and one of two negatives.
    assert found[0.3] == ["0.667", "1.000", "0.800", "0.500"]
    # At least the threshold is enough.
    assert found[0.4] == ["1.000", "1.000", "1.000", "0.000"]
    assert found[0.8] == ["1.000", "0.500", "0.667", "0.000"]
    assert found[0.99] == ["0.000", "0.000", "0.000", "0.000"]
    assert found[0.05] == ["0.500", "1.000", "0.667", "1.000"]


def test_curves_of_two_classes_by_hand():
    positive = np.array([0.1, 0.4, 0.35, 0.8])
    test = Evaluation(np.array([0, 0, 1, 1]), np.stack([1 - positive, positive], 1))
    false_positive_rate, recall, area = test.roc
    # Of four pairs of a negative and a positive, three are in order.
    assert area == 0.75 and test.has_thresholds
    assert [0.0, 0.5] in np.stack([false_positive_rate, recall], 1).tolist()
    recall, precision, average = test.precision_recall
    assert [1.0, 2 / 3] in np.stack([recall, precision], 1).tolist()
    assert average == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # Without examples of both, there is nothing to choose between.
    assert not evaluation([1, 1], [0, 1], 2).has_thresholds
    assert not evaluation([0, 1], [0, 1], 3).has_thresholds


def test_twelve_correct_predictions_are_spread_over_the_examples():
    labels = np.zeros(100, int)
    predictions = np.arange(100) % 2  # The even ones are right.
    found = evaluation(labels, predictions, 2).correct
    assert len(found) == 12 and found[0] == 0 and found[-1] == 98
    assert all(number % 2 == 0 for number in found) and min(np.diff(found)) >= 8
    assert evaluation([0, 0, 1], [1, 0, 1], 2).correct == [1, 2]
    assert evaluation([0], [1], 2).correct == []


def test_texts_of_no_class_are_refused_below_the_confidence_of_most_validation_texts():
    def evaluation(*best):
        return Evaluation(np.zeros(len(best), int), np.array([[one, 1 - one] for one in best]))

    validation = evaluation(*np.linspace(0.6, 1.0, 21))  # Of which 5 % lie below 0.62.
    found = refusals(validation, evaluation(0.9, 0.61, 0.7, 0.8), evaluation(0.55, 0.6, 0.95))
    assert found["threshold"] == pytest.approx(0.62)
    assert found["out_of_scope_recall"] == pytest.approx(2 / 3)
    assert found["in_scope_acceptance"] == 0.75
    # On other data the threshold is that of the run.
    other = evaluation(0.61, 0.63)
    kept = refusals(other, other, other, found)
    assert kept["threshold"] == found["threshold"] and kept["in_scope_acceptance"] == 0.5
    with pytest.raises(ValueError, match="Fix: train it with --out-of-scope, or leave that out"):
        refusals(other, other, other, {"accuracy": 0.5})


def test_weighted_cross_entropy_weighs_each_example_by_its_class():
    labels = np.array([[1, 0, 0], [0, 0, 1], [0.25, 0, 0.75]], "float32")
    logits = np.random.default_rng(0).normal(size=(3, 3)).astype("float32")
    log_shares = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smooth = 0.9 * labels + 0.1 / 3
    expected = [2.0, 0.5, 0.25 * 2 + 0.75 * 0.5] * -(smooth * log_shares).sum(1)
    loss = classification.cross_entropy(0.1, [2.0, 1.0, 0.5])
    assert float(loss(labels, logits)) == pytest.approx(expected.mean(), rel=1e-5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(labels, logits)) == float(loss(labels, logits))
    plain, ones = classification.cross_entropy(0.1), classification.cross_entropy(0.1, [1, 1, 1])
    assert float(plain(labels, logits)) == pytest.approx(float(ones(labels, logits)), rel=1e-6)
