from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from metrics.language_models import (
    SmoothedCrossEntropy,
    both_ways,
    cross_entropy,
    evaluate,
    fill_gaps,
    least_expected,
    masked_contexts,
    measure_words,
    with_prior_bias,
)
from metrics.ngrams import Guesses


def test_loss_is_the_mean_over_weighted_positions():
    logits = np.log([[[0.5, 0.5], [0.25, 0.75]], [[0.9, 0.1], [0.2, 0.8]]]).astype("float32")
    true, weights = np.array([[0, 1], [1, 0]]), np.array([[1.0, 1.0], [0.0, 0.0]], "float32")
    loss = float(cross_entropy()(true, logits, weights))
    assert loss == pytest.approx(-np.log([0.5, 0.75]).mean(), rel=1e-6)
    assert float(cross_entropy()(true, logits, 0 * weights)) == 0.0


def test_a_network_first_predicts_the_frequencies_of_words():
    shares = np.array([0.5, 0.3, 0.2])
    for room in (3, 5):
        words = keras.Sequential([keras.Input((4,)), keras.layers.Dense(room, name="words")])
        predicted = np.exp(with_prior_bias(words, "words", "bias", shares)(np.zeros((1, 4))))[0]
        np.testing.assert_allclose(predicted, [0.5, 0.3, 0.2, 0.2, 0.2][:room], rtol=1e-6)


def test_guesses_are_those_whose_weights_are_not_0():
    def model(features, training):
        assert not training
        return {"words": tf.math.log(features)}

    features = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.2, 0.6, 0.2]], "float32")
    labels, weights = {"words": np.array([0, 1, 2])}, {"words": np.array([1.0, 0.0, 1.0])}
    batches = tf.data.Dataset.from_tensor_slices((features, labels, weights)).batch(2)
    guesses = evaluate(model, batches)["words"]  # type: ignore[arg-type]
    np.testing.assert_allclose(guesses.losses, -np.log([0.5, 0.2]), rtol=1e-6)
    assert guesses.hits.tolist() == [True, False]


def test_scores_of_both_directions_by_hand():
    ahead = Guesses(np.log([2.0, 8.0]), np.array([True, False]))
    back = Guesses(np.log([4.0, 4.0, 4.0]), np.array([True, True, True]))
    expected = {
        "x_accuracy": 0.8,
        "x_perplexity": 4.0,
        "x_forward_perplexity": 4.0,
        "x_backward_perplexity": 4.0,
    }
    assert both_ways({"forward": ahead, "backward": back}, "x_") == pytest.approx(expected)


def test_contexts_of_hidden_pieces_are_what_the_network_sees():
    mask = 4
    features = {
        "token_ids": tf.constant([[2, 7, mask, mask, 9, 3], [2, mask, 8, 5, 3, 0]]),
        "mask_positions": tf.constant([[3, 2, 4], [1, 3, 0]]),
    }
    # The piece at 4 was left as it is, that at 3 of the second row became a random one.
    labels = {"masked_words": tf.constant([[11, 10, 9], [12, 13, 0]])}
    weights = {"masked_words": tf.constant([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])}
    contexts, hidden = masked_contexts([(features, labels, weights)] * 2, mask)
    assert contexts.tolist() == [-1, 7, -1, 2, 8] * 2
    assert hidden.tolist() == [11, 10, 9, 12, 13] * 2


def test_gaps_are_filled_with_the_likeliest_pieces():
    shares = np.array([0.05, 0.4, 0.2, 0.15, 0.12, 0.08], "float32")
    logits = {"masked_words": np.log(shares)[None, None].repeat(2, axis=1)}
    found = fill_gaps(list("abcdef"))(logits, tf.constant([[True, False]]))
    assert found["words"][0].numpy().tolist() == [
        list(b"bcdef"[i : i + 1] for i in range(5)),
        [b""] * 5,
    ]
    np.testing.assert_allclose(found["scores"][0], [np.sort(shares)[:0:-1], np.zeros(5)], rtol=1e-6)


def test_fewer_pieces_than_are_named_are_all_named():
    logits = {"masked_words": np.zeros((1, 1, 2), "float32")}
    found = fill_gaps(["a", "b"])(logits, tf.constant([[True]]))
    assert found["scores"].numpy().tolist() == [[[0.5, 0.5]]]


def test_perplexity_of_texts_by_hand():
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(6), size=(2, 2, 4)).astype("float32")
    logits = {"forward": np.log(shares[0]), "backward": np.log(shares[1])}
    positions = {
        "words": tf.constant([["a", "b"], ["", ""]]),
        "line": tf.constant([[1, 3, 4, 2], [1, 2, -1, -1]]),
    }
    found = measure_words(logits, positions)
    forward, backward = shares[:, 0]
    ahead = [forward[0, 3], forward[1, 4], forward[2, 2]]  # a after <S>, b after a, </S> after b
    back = [backward[1, 1], backward[2, 3], backward[3, 4]]  # <S> before a, a before b, ...
    expected = np.exp(-np.log([*ahead, *back]).mean())
    empty = np.exp(-np.log([shares[0, 1, 0, 2], shares[1, 1, 1, 1]]).mean())
    np.testing.assert_allclose(found["perplexity"], [expected, empty], rtol=1e-5)
    of_words = [np.log(ahead[0] * back[1]) / 2, np.log(ahead[1] * back[2]) / 2]
    np.testing.assert_allclose(found["log_probabilities"], [of_words, [0, 0]], rtol=1e-5)


def test_the_three_least_expected_words_are_named_without_padding():
    words, shares = [b"a", b"b", b"c", b"d", b""], [0.5, 0.001, 0.02, 0.1, 1e-9]
    assert least_expected(words, np.log(shares)) == "b 1.0e-03, c 2.0e-02, d 1.0e-01"
    assert least_expected([b"a", b""], [np.log(0.5), 0.0]) == "a 5.0e-01"


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_smoothed_loss_and_gradient_are_those_of_keras_with_one_hot_labels(share):
    random = np.random.default_rng(0)
    logits = tf.constant(random.normal(0, 2, (3, 4, 7)), tf.float32)
    labels = random.integers(0, 7, (3, 4))
    weights = (random.random((3, 4)) < 0.7).astype("float32")
    theirs = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=share, reduction="mean_with_sample_weight"
    )
    found = []
    for loss, true in ((cross_entropy(share), labels), (theirs, np.eye(7)[labels])):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(true, logits, weights)
        found.append((value, tape.gradient(value, logits)))
    (ours, gradient), (expected, expected_gradient) = found
    assert float(ours) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)
    assert keras.losses.deserialize(keras.losses.serialize(cross_entropy(share))).label_smoothing


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_with_sample_weight"])
def test_smoothed_loss_is_reduced_as_other_losses_are(reduction, monkeypatch):
    random = np.random.default_rng(0)
    logits = tf.constant(random.normal(0, 2, (3, 4, 7)), tf.float32)
    labels = random.integers(0, 7, (3, 4))
    weights = (random.random((3, 4)) < 0.7).astype("float32")
    ours = SmoothedCrossEntropy(0.1, reduction)
    theirs = keras.losses.CategoricalCrossentropy(True, 0.1, reduction=reduction)
    whole = ours(labels, logits, weights)
    np.testing.assert_allclose(whole, theirs(np.eye(7)[labels], logits, weights), rtol=1e-5)
    # The gradients of two replicas are added, so that each has half of a mean.
    two = SimpleNamespace(num_replicas_in_sync=2)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: two)
    share = 0.5 if "mean" in reduction else 1.0
    np.testing.assert_allclose(ours(labels, logits, weights), share * whole, rtol=1e-6)
