from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from metrics import byte_models

SIZE = 4
ROWS = SimpleNamespace(
    streams={"train": np.array([3, 0, 1, 0, 1, 3]), "test": np.array([3, 0, 1, 2, 3])},
    num_bytes={"test": 3},
    num_words={"test": 2},
)


def uniform(features, training):
    return {"logits": tf.zeros((*features.shape, SIZE))}


def batches(weights):
    labels = tf.constant([ROWS.streams["test"][1:]])
    parts = (labels, {"logits": labels}, {"logits": tf.constant([weights])})
    return tf.data.Dataset.from_tensors(parts)


def test_a_uniform_network_needs_the_logarithm_of_the_vocabulary_for_each_token():
    scores = byte_models.evaluate(uniform, batches([1.0, 1, 1, 1]), ROWS)
    assert scores == {
        "bits_per_byte": pytest.approx(4 * 2 / 3),
        "accuracy": 1 / 4,
        "perplexity": pytest.approx(4),
        "word_perplexity": pytest.approx(4 ** (4 / 2)),
    }


def test_only_predicted_tokens_count():
    scores = byte_models.evaluate(uniform, batches([0.0, 0, 1, 1]), ROWS)
    assert scores["bits_per_byte"] == pytest.approx(2 * 2 / 3)
    assert scores["word_perplexity"] == pytest.approx(4 ** (2 / 2))


def test_ngrams_are_measured_on_the_same_tokens():
    losses = byte_models.witten_bell(*ROWS.streams.values(), SIZE, byte_models.NGRAM)
    (name, (what, bits)), *others = byte_models.baselines(ROWS, SIZE).items()
    assert (name, what, others) == ("ngram", "the 4 bytes before, counted", [])
    assert bits == pytest.approx(losses.sum() / np.log(2) / 3)
    predicted = np.array([False, False, False, True, True])
    _, bits = byte_models.baselines(ROWS, SIZE, predicted)["ngram"]
    assert bits == pytest.approx(losses[2:].sum() / np.log(2) / 3)


def test_perplexity_per_word_counts_the_nats_of_all_tokens():
    # "to be" and its end: 6 tokens of 1 bit are 3 bits for each of the 2 words.
    assert byte_models.word_perplexity(np.full(6, np.log(2)), 2) == pytest.approx(2**3)


@pytest.mark.parametrize("num_words", [0, 1])
def test_without_white_space_there_is_no_perplexity_per_word(num_words):
    assert byte_models.word_perplexity(np.full(2000, 1.0), num_words) == np.inf
    rows = SimpleNamespace(num_bytes={"test": 3}, num_words={"test": 0})
    assert "word_perplexity" not in byte_models.evaluate(uniform, batches([1.0] * 4), rows)


def test_losses_are_converted_by_the_tokens_per_byte_of_the_validation_texts():
    rows = SimpleNamespace(num_bytes={"validation": 5})
    history = {"loss": [np.log(4), np.log(2)], "val_loss": [np.log(8), np.log(4)], "rate": [1, 2]}
    found = byte_models.in_bits(history, batches([0.0, 1, 1, 1]).repeat(2), rows)
    assert found == {
        "bits_per_byte": pytest.approx([2 * 6 / 5, 1 * 6 / 5]),
        "val_bits_per_byte": pytest.approx([3 * 6 / 5, 2 * 6 / 5]),
    }
    assert byte_models.in_bits({}, batches([1.0] * 4), rows) == {}
