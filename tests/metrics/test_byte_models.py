from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from metrics import byte_models

SIZE = 4
ROWS = SimpleNamespace(
    streams={"train": np.array([3, 0, 1, 0, 1, 3]), "test": np.array([3, 0, 1, 2, 3])},
    num_bytes={"test": 3},
)


def uniform(features, training):
    return {"logits": tf.zeros((*features.shape, SIZE))}


def batches(weights):
    labels = tf.constant([ROWS.streams["test"][1:]])
    parts = (labels, {"logits": labels}, {"logits": tf.constant([weights])})
    return tf.data.Dataset.from_tensors(parts)


def test_a_uniform_network_needs_the_logarithm_of_the_vocabulary_for_each_token():
    scores = byte_models.evaluate(uniform, batches([1.0, 1, 1, 1]), ROWS, SIZE)
    assert scores["bits_per_byte"] == pytest.approx(4 * 2 / 3)
    losses = byte_models.witten_bell(*ROWS.streams.values(), SIZE, byte_models.NGRAM)
    assert scores["ngram_bits_per_byte"] == pytest.approx(losses.sum() / np.log(2) / 3)


def test_only_predicted_tokens_count_in_both():
    predicted = np.array([False, False, False, True, True])
    scores = byte_models.evaluate(uniform, batches([0.0, 0, 1, 1]), ROWS, SIZE, predicted)
    assert scores["bits_per_byte"] == pytest.approx(2 * 2 / 3)
    losses = byte_models.witten_bell(*ROWS.streams.values(), SIZE, byte_models.NGRAM)
    assert scores["ngram_bits_per_byte"] == pytest.approx(losses[2:].sum() / np.log(2) / 3)
