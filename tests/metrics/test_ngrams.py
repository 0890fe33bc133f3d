import math
from dataclasses import replace

import numpy as np
import pytest

from metrics.ngrams import Guesses, Ngrams, witten_bell

TEXT = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2, 0])
"""Ten words: 0 four times, 1 three times, 2 twice, 3 once; 4 is never seen."""


def counted() -> Ngrams:
    return Ngrams.counted(np.array([-1, *TEXT[:-1]]), TEXT, 5)


def test_counts_of_ten_words_are_those_by_hand():
    ngrams = counted()
    np.testing.assert_allclose(ngrams.unigram, np.array([5, 4, 3, 2, 1]) / 15)
    pairs = {(0, 1): 1.0, (1, 2): 2 / 3, (1, 3): 1 / 3, (2, 0): 1.0, (3, 0): 1.0}
    assert ngrams.pairs.tolist() == [context * 5 + word for context, word in pairs]
    np.testing.assert_allclose(ngrams.shares, list(pairs.values()))


def test_losses_interpolate_and_fall_back_to_the_word_alone():
    mixed = replace(counted(), weight=0.6)
    contexts, words = np.array([1, 1, -1, 4, 0]), np.array([3, 0, 3, 1, 4])
    wanted = [
        0.6 / 3 + 0.4 * 2 / 15,  # seen
        0.4 * 5 / 15,  # never seen after this context
        2 / 15,  # no context
        4 / 15,  # a context that nothing followed
        0.4 / 15,  # a word that was never seen
    ]
    np.testing.assert_allclose(mixed.losses(contexts, words), -np.log(wanted))
    np.testing.assert_allclose(
        counted().losses(contexts, words), -np.log([2, 5, 2, 4, 1]) + np.log(15)
    )


def test_probabilities_after_each_context_sum_to_1():
    ngrams = counted().tuned(TEXT[:-1], TEXT[1:])
    assert ngrams.weight == 0.99
    for context in range(-1, 5):
        losses = ngrams.losses(np.full(5, context), np.arange(5))
        assert np.exp(-losses).sum() == pytest.approx(1)


def test_the_likeliest_word_is_that_of_all_probabilities_written_out():
    random = np.random.default_rng(0)
    text = random.zipf(1.5, 400) % 12
    for weight in (0.0, 0.3, 0.9):
        ngrams = replace(Ngrams.counted(text[:-1], text[1:], 12), weight=weight)
        contexts = np.arange(-1, 12)
        losses = [ngrams.losses(np.full(12, context), np.arange(12)) for context in contexts]
        smallest = np.min(losses, axis=1)
        found = ngrams.likeliest(contexts)
        np.testing.assert_allclose(np.array(losses)[np.arange(13), found], smallest)


def test_the_weight_is_the_best_for_the_words_it_is_chosen_by():
    # After 0 comes 1 in the counts, but only every other time here.
    ngrams = Ngrams.counted(np.array([0] * 50 + [1] * 50), np.array([1] * 50 + [0] * 50), 2)
    contexts, words = np.zeros(100, int), np.arange(100) % 2
    # P(1 | 0) = weight + (1 - weight) / 2, so that 1/2 is best, which weight 0 gives.
    assert ngrams.tuned(contexts, words).weight == 0.0
    three_quarters = (np.arange(100) % 4 > 0).astype(int)
    assert ngrams.tuned(contexts, three_quarters).weight == pytest.approx(0.5)


def test_without_pairs_only_words_count():
    ngrams = Ngrams.counted(np.full(3, -1), np.array([0, 1, 1]), 2).tuned(
        np.array([0]), np.array([1])
    )
    guesses = ngrams.guess(np.array([0, -1]), np.array([1, 0]))
    np.testing.assert_allclose(guesses.losses, -np.log([3 / 5, 2 / 5]))
    assert guesses.hits.tolist() == [True, False]


def test_scores_are_the_share_of_hits_and_e_to_the_mean_loss():
    first = Guesses(np.array([math.log(2)]), np.array([True]))
    both = first.joined(Guesses(np.array([math.log(8)]), np.array([False])))
    assert both.scores == {"accuracy": 0.5, "perplexity": pytest.approx(4.0)}


def test_witten_bell_by_hand():
    # After the first token: 1, 0, 1, 1; the pairs 0 1, 1 0, 0 1, 1 1.
    counted, predicted = np.array([0, 1, 0, 1, 1]), np.array([0, 1, 1, 2, 0])
    # Alone: 1 three times and 0 once, two kinds, of three tokens: (count + 2 / 3) / 6.
    alone = np.array([1 + 2 / 3, 3 + 2 / 3, 2 / 3]) / 6
    np.testing.assert_allclose(witten_bell(counted, predicted, 3, 1), -np.log(alone[[1, 1, 2, 0]]))
    after_0 = (np.array([0, 2, 0]) + alone) / 3
    after_1 = (np.array([1, 1, 0]) + 2 * alone) / 4
    # Nothing was counted after 2.
    expected = [after_0[1], after_1[1], after_1[2], alone[0]]
    np.testing.assert_allclose(witten_bell(counted, predicted, 3, 2), -np.log(expected))


def test_witten_bell_probabilities_of_all_tokens_sum_to_1():
    random = np.random.default_rng(0)
    counted, begin = random.integers(0, 4, 60), [1, 3, 2]
    total = sum(
        np.exp(-witten_bell(counted, np.array([*begin, token]), 4, 4)[-1]) for token in range(4)
    )
    assert total == pytest.approx(1)


def test_longer_ngrams_predict_a_repeated_text_better():
    text = np.tile(np.frombuffer(b"the dog saw the hat and the cat ", np.uint8), 30)
    losses = [witten_bell(text[:800], text[800:], 257, order).mean() for order in range(1, 7)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.1
