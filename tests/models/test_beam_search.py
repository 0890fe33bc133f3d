import itertools

import numpy as np
import pytest
import tensorflow as tf

from models.beam_search import beam_search, length_penalty
from models.generation import Steps
from tests.models.test_generation import log_softmax

VOCABULARY = 5
END = 0


def steps_of(tables) -> Steps:
    """A network whose logits depend on the row, and on the two tokens before."""
    tables = tf.constant(tables, tf.float32)  # (rows, before, last, vocabulary)

    def logits(state):
        rows, before, last = state
        return tf.gather_nd(tables, tf.stack([rows, before, last], axis=1))

    def start(rows, room):
        state = (rows, tf.zeros_like(rows), tf.zeros_like(rows))
        return logits(state), state

    def step(state, tokens):
        new = (state[0], state[2], tokens)
        return logits(new), new

    def pick(state, rows):
        return tuple(tf.gather(part, rows) for part in state)

    return Steps(start, step, pick)


def search(tables, max_tokens, alpha, beams, jit_compile=False):
    limit = max(max_tokens)

    @tf.function(jit_compile=jit_compile, autograph=False)
    def run(rows, max_tokens, alpha):
        steps = steps_of(tables)
        return beam_search(steps, rows, max_tokens, alpha, beams=beams, limit=limit, end_id=END)

    rows = tf.range(len(max_tokens))
    return run(rows, tf.constant(max_tokens), tf.constant(alpha, tf.float32))


def texts(token_ids):
    return [[token for token in row if token >= 0] for row in token_ids.numpy().tolist()]


def all_scores(table, most, alpha):
    """The score of each text of at most `most` tokens, all enumerated, with its log-probability."""
    scored = {}
    for count in range(1, most + 1):
        for text in itertools.product(range(VOCABULARY), repeat=count):
            if END in text[:-1] or (count < most and text[-1] != END):
                continue
            before, last, total = 0, 0, 0.0
            for token in text:
                total += log_softmax(table[before, last].astype(np.float64))[token]
                before, last = last, token
            shown = tuple(token for token in text if token != END)
            scored[shown] = total / ((5 + count) / 6) ** alpha, total
    return scored


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_enough_beams_find_the_best_of_all_texts(alpha, jit_compile):
    tables = np.random.default_rng(0).normal(0, 2, (6, *[VOCABULARY] * 3))
    tables[3:, ..., END] -= 2  # Long texts, and short ones.
    most = [1, 2, 3, 4, 4, 4]
    found = search(tables, most, [alpha] * 6, VOCABULARY**3, jit_compile)
    for row in range(6):
        every = all_scores(tables[row], most[row], alpha)
        best = sorted(every, key=lambda text: -every[text][0])[:5]
        assert [tuple(text) for text in texts(found.token_ids[row])[:5]] == best
        expected = [every[text] for text in best]
        np.testing.assert_allclose(found.score[row, :5], [one for one, _ in expected], rtol=1e-5)
        np.testing.assert_allclose(
            found.log_probability[row, :5], [one for _, one in expected], rtol=1e-5
        )


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_one_beam_finds_what_greedy_choice_finds(alpha):
    tables = np.random.default_rng(1).normal(0, 1, (20, *[VOCABULARY] * 3))
    found = search(tables, [6] * 20, [alpha] * 20, 1)
    for row, table in enumerate(tables):
        expected, before, last = [], 0, 0
        while len(expected) < 6:
            token = int(np.argmax(table[before, last]))
            if token == END:
                break
            expected.append(token)
            before, last = last, token
        assert texts(found.token_ids[row]) == [expected]


def test_a_finished_hypothesis_collects_no_more_log_probabilities():
    # After the first token ends the best text, all others stay unlikely.
    table = np.full((1, *[VOCABULARY] * 3), 0.0)
    table[0, 0, 0, END] = 3.0
    found = search(table, [8], [0.0], 3)
    assert texts(found.token_ids[0])[0] == []
    assert float(found.log_probability[0, 0]) == pytest.approx(log_softmax(table[0, 0, 0])[END])


def test_the_length_penalty_decides_between_a_short_and_a_long_text():
    # "" has probability 0.5, and 1 has 0.4 and then continues surely to the end.
    table = np.full((1, *[VOCABULARY] * 3), -20.0)
    table[0, 0, 0] = np.log([0.5, 0.4, 0.05, 0.03, 0.02])
    for before, last in itertools.product(range(VOCABULARY), range(1, VOCABULARY)):
        table[0, before, last, last] = 20.0
    short, long = (search(table, [8], [alpha], 2) for alpha in (0.0, 1.0))
    assert texts(short.token_ids[0])[0] == []
    assert texts(long.token_ids[0])[0] == [1] * 8
    assert float(long.score[0, 0]) == pytest.approx(np.log(0.4) / (13 / 6), rel=1e-4)


def test_rows_do_not_change_each_other():
    tables = np.random.default_rng(2).normal(0, 2, (4, *[VOCABULARY] * 3))
    together = search(tables, [4, 1, 3, 2], [0.6, 0.0, 1.0, 0.6], 3)
    for row, (most, alpha) in enumerate(zip((4, 1, 3, 2), (0.6, 0.0, 1.0, 0.6), strict=True)):
        alone = search(tables[row : row + 1], [most], [alpha], 3)
        assert texts(together.token_ids[row]) == texts(alone.token_ids[0])
        np.testing.assert_allclose(together.score[row], alone.score[0], rtol=1e-6)


def test_the_penalty_is_that_of_the_paper():
    assert float(length_penalty(tf.constant(13), tf.constant(0.6))) == pytest.approx(3**0.6)
