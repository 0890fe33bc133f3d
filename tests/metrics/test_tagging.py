import numpy as np
import pytest

from metrics.classification import Evaluation
from metrics.tagging import TagAccuracy, Tagging, marked

TAGS = ("O", "B-place", "I-place", "B-person", "I-person")


def tagging(*sentences: tuple[str, str]) -> Tagging:
    """Of sentences, true tags and those found, each a digit a word; sure by 60 %."""
    true = [int(tag) for tags, _ in sentences for tag in tags]
    found = [int(tag) for _, tags in sentences for tag in tags]
    probabilities = np.full((len(true), len(TAGS)), 0.1)
    probabilities[np.arange(len(found)), found] = 0.6
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
            "precision": precision,
            "recall": recall,
            "accuracy": 9 / 12,
            "loss": -(9 * np.log(0.6) + 3 * np.log(0.1)) / 12,
        }
    )
    assert test.by_type == [
        ("type", "precision", "recall", "F1", "entities"),
        ("person", "0.000", "0.000", "0.000", 1),
        ("place", "0.500", "0.667", "0.571", 3),
        ("all", "0.500", "0.500", "0.500", 4),
        ("mean of the types", "0.250", "0.333", "0.286", 4),
    ]


@pytest.mark.parametrize(
    ("true", "found", "f1"),
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
def test_what_the_network_says_is_not_mended(true, found, f1):
    assert tagging((true, found)).scores["f1"] == f1


def test_without_any_entity_the_table_is_empty():
    assert len(tagging(("00", "00")).by_type) == 1


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
    assert marked(["New", "York"], tags) == pieces
