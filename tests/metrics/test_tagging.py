import keras
import numpy as np
import pytest
import tensorflow as tf
from seqeval.metrics import f1_score

from metrics.classification import Evaluation
from metrics.tagging import EntityF1, TagAccuracy, Tagging, best_tags, frequencies, marked

TAGS = ("O", "B-place", "I-place", "B-person", "I-person")


def tagging(*sentences: tuple[str, str]) -> Tagging:
    """Takes the true and the predicted tags of sentences, a digit for each word, with 60 %."""
    true = [int(tag) for tags, _ in sentences for tag in tags]
    predicted = [int(tag) for _, tags in sentences for tag in tags]
    probabilities = np.full((len(true), len(TAGS)), 0.1)
    probabilities[np.arange(len(predicted)), predicted] = 0.6
    lengths = np.array([len(tags) for tags, _ in sentences])
    return Tagging(Evaluation(np.array(true), probabilities), lengths, TAGS)


def test_an_entity_counts_if_its_type_and_both_ends_are_right():
    # Of four true places and persons two are found whole, of which one is of the wrong type;
    # three are found.
    test = tagging(("012034", "012012"), ("01", "01"), ("0120", "0100"))
    precision, recall = 2 / 4, 2 / 4
    assert test.scores == pytest.approx(
        {
            "f1": 2 * precision * recall / (precision + recall),
            # From three times the second sentence, or the third, or some that have all errors.
            "f1_low": 0.0,
            "f1_high": 1.0,
            "precision": precision,
            "recall": recall,
            "accuracy": 9 / 12,
            "loss": -(9 * np.log(0.6) + 3 * np.log(0.1)) / 12,
        }
    )
    assert test.by_type == [
        ("person", "0.000", "0.000", "0.000", 1),
        ("place", "0.500", "0.667", "0.571", 3),
        ("all", "0.500", "0.500", "0.500", 4),
        ("mean of the types", "0.250", "0.333", "0.286", 4),
    ]


@pytest.mark.parametrize(
    ("true", "predicted", "f1"),
    [
        # As conlleval counts it: I- begins an entity after O and after another type.
        ("012", "022", 1.0),
        ("012", "042", 0.0),
        ("112", "122", 0.0),
        ("1012", "1022", 1.0),
        ("000", "000", 0.0),
        ("010", "000", 0.0),
    ],
)
def test_predicted_tags_are_read_as_they_are(true, predicted, f1):
    assert tagging((true, predicted)).scores["f1"] == f1
    metric = EntityF1(TAGS)
    metric.update_state([[int(tag) for tag in true]], one_hot([[int(tag) for tag in predicted]]))
    assert float(metric.result()) == f1


def one_hot(tags) -> np.ndarray:
    return np.eye(len(TAGS), dtype="float32")[np.asarray(tags)]


def random_tags(rng: np.random.Generator, rows: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, a third of them ignored, and predictions that often agree."""
    labels = rng.integers(-2, len(TAGS), (rows, tokens)).clip(-1)
    changed = rng.random(labels.shape) < 0.3
    return labels, np.where(
        changed | (labels < 0), rng.integers(0, len(TAGS), labels.shape), labels
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_f1_of_batches_is_that_of_seqeval_over_all_rows(compiled):
    metric = EntityF1(TAGS)
    update = tf.function(metric.update_state, jit_compile=compiled, reduce_retracing=True)
    rng = np.random.default_rng(0)
    true, predicted = [], []
    for rows, tokens in ((7, 9), (3, 9), (1, 1), (40, 9)):
        labels, predictions = random_tags(rng, rows, tokens)
        update(tf.constant(labels), tf.constant(one_hot(predictions)))
        for row, is_word in enumerate(labels >= 0):
            true.append([TAGS[tag] for tag in labels[row, is_word]])
            predicted.append([TAGS[tag] for tag in predictions[row, is_word]])
        expected = f1_score(true, predicted, zero_division=0)
        assert float(metric.result()) == pytest.approx(expected, abs=1e-6)
    assert 0.2 < expected < 0.8
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_an_entity_does_not_go_on_in_the_next_row():
    metric = EntityF1(TAGS)
    metric.update_state([[-1, 1], [2, -1]], one_hot([[0, 1], [2, 0]]))
    assert [int(count) for count in (metric.num_true, metric.num_correct)] == [2, 2]


def test_the_metric_is_made_again_from_its_config():
    metric = keras.metrics.deserialize(keras.metrics.serialize(EntityF1(TAGS)))
    assert isinstance(metric, EntityF1) and metric.tags == TAGS and metric.name == "f1"
    with pytest.raises(ValueError, match="`tags` must begin with O"):
        EntityF1(TAGS[1:])


def test_frequencies_are_counted_with_one_more_of_each_tag():
    labels = tf.constant([[0, 0, -1], [2, -1, 0]])
    batches = tf.data.Dataset.from_tensor_slices((tf.zeros(2), labels)).batch(1)
    assert frequencies(batches, 4).tolist() == [4 / 8, 1 / 8, 2 / 8, 1 / 8]


def test_the_best_tag_of_each_word_has_its_probability_and_padding_has_none():
    logits = tf.math.log([[[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]]])
    best = best_tags(TAGS[:3], logits, tf.constant([[True, False]]))
    assert best["tags"].numpy().tolist() == [[b"B-place", b""]]
    np.testing.assert_allclose(best["scores"], [[0.5, 0.0]], atol=1e-6)


def test_types_of_which_no_entity_is_found_are_named():
    # The person is found as one, but not to its end.
    test = tagging(("01", "01"), ("034", "030"))
    assert test.warnings == ["Types never predicted correctly: person."]
    assert tagging(("00", "01")).warnings == tagging(("034", "034")).warnings == []
    assert test.f1 == test.scores["f1"] == 0.5 and tagging(("00", "00")).f1 == 0.0


def test_without_any_entity_the_table_is_empty():
    assert tagging(("00", "00")).by_type == []


def test_a_word_is_found_again_in_its_sentence():
    test = tagging(("01", "01"), ("3", "0"), ("012", "012"))
    assert [test.position(word) for word in range(6)] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (2, 0),
        (2, 1),
        (2, 2),
    ]
    assert test.true == [["O", "B-place"], ["B-person"], ["O", "B-place", "I-place"]]
    assert test.words.worst == [2]
    assert tagging(("00", "00"), ("01", "00"), ("0", "0"), ("0", "3")).with_entities == [1, 3]


def test_true_and_predicted_entities_of_a_sentence_stand_below_each_other():
    test = tagging(("0", "0"), ("012", "010"))
    assert test.marked([1], [[b"in", b"New", b"York"]]) == [
        [("True: ", ""), ("in ", ""), ("New York", "place")],
        [("Predicted: ", ""), ("in ", ""), ("New", "place"), (" York", "")],
    ]


def test_accuracy_leaves_out_tokens_without_label_over_all_batches():
    accuracy = TagAccuracy()
    logits = np.eye(3, dtype="float32")[[[0, 1, 2, 0]]]
    accuracy.update_state(np.array([[0, -1, -1, -1]]), logits)
    accuracy.update_state(np.array([[-1, 0, 2, 1]]), logits)
    assert float(accuracy.result()) == pytest.approx(2 / 4)
    accuracy.reset_state()
    accuracy.update_state(np.array([[-1, -1, -1, -1]]), logits)
    assert float(accuracy.result()) == 0.0


@pytest.mark.parametrize(
    ("tags", "pieces"),
    [
        (["O", "O"], [("New York", "")]),
        (["B-place", "I-place"], [("New York", "place")]),
        (["B-place", "B-place"], [("New", "place"), (" ", ""), ("York", "place")]),
        (["O", "I-place"], [("New ", ""), ("York", "place")]),
        (["B-place", "O"], [("New", "place"), (" York", "")]),
    ],
)
def test_marked_pieces_are_the_sentence(tags, pieces):
    assert marked([b"New", b"York"], tags) == pieces
