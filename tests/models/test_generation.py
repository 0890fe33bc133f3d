from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from models import writing
from models.generation import (
    CANDIDATES,
    Choice,
    Steps,
    Stop,
    choose,
    generate,
    occurring,
    piece_bytes,
    uniforms,
)
from models.writing import continuing, latest, scoring
from serving.signature import Network
from serving.writing import checked, checked_stop, filled, stop_bytes

FEW, MORE = CANDIDATES
GREEDY = {
    "max_tokens": 8,
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
    "seed": 0,
}
TYPES = {"max_tokens": tf.int32, "top_k": tf.int32, "seed": tf.int64}
WAYS = {
    "temperature": {"temperature": 0.7},
    "top_k": {"temperature": 1.0, "top_k": 3},
    "top_p": {"temperature": 1.0, "top_p": 0.8},
    "all": {"temperature": 1.3, "top_k": 5, "top_p": 0.7, "repetition_penalty": 1.5},
}


def choices(*rows) -> Choice:
    """The settings of rows, each a dict of what differs from greedy choice."""
    named = {
        name: tf.constant([{**GREEDY, **row}[name] for row in rows], TYPES.get(name, tf.float32))
        for name in GREEDY
    }
    return Choice(**named)


def table_steps(table) -> Steps:
    """A network whose logits depend on the last token alone, a row of the table for each."""
    table = tf.constant(table, tf.float32)

    def start(prompt, room):
        lengths = tf.reduce_sum(tf.cast(prompt >= 0, tf.int32), axis=1)
        return tf.gather(table, tf.gather(prompt, lengths - 1, batch_dims=1)), ()

    return Steps(start, lambda state, tokens: (tf.gather(table, tokens), state))


def written(table, prompt, choice, limit=8, end_id=0, jit_compile=False):
    def run(prompt, choice):
        steps = table_steps(table)
        return generate(steps, prompt, prompt, choice, limit=limit, end_id=end_id)

    run = tf.function(run, jit_compile=True, autograph=False) if jit_compile else run
    return run(tf.constant(prompt), choice)


def log_softmax(logits):
    return logits - np.log(np.sum(np.exp(logits - logits.max()))) - logits.max()


def distribution(logits, seen, *, temperature, top_k=0, top_p=1.0, repetition_penalty=1.0):
    """Probabilities of all tokens, as the papers define them; float64, token by token."""
    logits = np.array(logits, np.float64)
    for token in np.flatnonzero(seen):
        positive = logits[token] > 0
        logits[token] *= 1 / repetition_penalty if positive else repetition_penalty
    logits /= temperature
    order = np.argsort(-logits, kind="stable")
    if top_k:
        logits[order[top_k:]] = -np.inf
    probabilities = np.exp(log_softmax(logits))
    count = 1
    while top_p < 1 and probabilities[order[:count]].sum() < top_p:
        count += 1
    if top_p < 1:
        probabilities[order[count:]] = 0
    return probabilities / probabilities.sum()


# Choosing one token.


@pytest.mark.parametrize("size", [12, 2 * FEW], ids=["all_sorted", "some_sorted"])
@pytest.mark.parametrize("way", WAYS)
def test_tokens_are_drawn_from_the_distribution_of_the_papers(way, size):
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=size)
    seen = random.random(size) < 0.3
    expected = distribution(logits, seen, **WAYS[way])
    count = 20_000
    drawn = np.random.default_rng(1).random(count).astype("float32")
    got = choose(
        tf.repeat(tf.constant(logits[None], tf.float32), count, axis=0),
        tf.repeat(tf.constant(seen[None]), count, axis=0),
        Choice(*(tf.repeat(part, count) for part in choices(WAYS[way]))),
        tf.constant(drawn),
    ).tokens.numpy()
    counts = np.bincount(got, minlength=size)
    assert not counts[expected == 0].any()
    # Chi-squared over cells of at least 5 expected draws; the rest is one cell.
    big = expected * count >= 5
    observed = np.append(counts[big], counts[~big].sum())
    wanted = np.append(expected[big], expected[~big].sum()) * count
    there = wanted > 0
    statistic = np.sum((observed - wanted)[there] ** 2 / wanted[there])
    # Wilson & Hilferty: its cube root is nearly normal; 3.09 is the quantile of 0.999.
    freedom = there.sum() - 1
    normal = ((statistic / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) / (2 / (9 * freedom)) ** 0.5
    assert normal < 3.09


@pytest.mark.parametrize("way", [*WAYS, "greedy"])
def test_choosing_among_the_likeliest_alone_changes_no_choice(way, monkeypatch):
    random = np.random.default_rng(2)
    settings = WAYS.get(way, {})
    # Some rows are nearly uniform, so that a few tokens do not suffice.
    logits = random.normal(size=(64, 300)) * np.repeat([0.01, 4], 32)[:, None]
    seen = tf.constant(random.random((64, 300)) < 0.2)
    drawn = tf.constant(random.random(64), tf.float32)
    answers = []
    for candidates in ((4,), (4, 16), (16, 64), ()):
        monkeypatch.setattr("models.generation.CANDIDATES", candidates)
        choice = choices(*[settings] * 64)
        answers.append(choose(tf.constant(logits, tf.float32), seen, choice, drawn).tokens.numpy())
    assert len(set(answers[0])) > 20
    for answer in answers[:-1]:
        np.testing.assert_array_equal(answer, answers[-1])


def test_a_row_without_a_cut_looks_its_number_up_in_the_order_of_the_ids():
    shares = [0.0, 0.2, 0.0, 0.5, 0.3, 0.0]
    cases = [(0.0, 1), (0.19, 1), (0.21, 3), (0.69, 3), (0.71, 4), (1 - 2**-24, 4)]
    drawn, expected = zip(*cases, strict=True)
    logits = tf.math.log(tf.constant([shares] * len(cases)))
    choice = choices(*[{"temperature": 1.0}] * len(cases))
    got = choose(logits, tf.zeros(logits.shape, tf.bool), choice, tf.constant(drawn))
    assert got.tokens.numpy().tolist() == list(expected)


def test_a_vocabulary_is_sorted_only_for_rows_that_need_it(monkeypatch):
    sizes: list[int] = []
    top_k = tf.math.top_k
    monkeypatch.setattr(tf.math, "top_k", lambda x, k: sizes.append(k) or top_k(x, k))
    logits = tf.random.stateless_normal((3, 2 * MORE), (0, 0), stddev=0.01)
    seen, drawn = tf.zeros(logits.shape, tf.bool), tf.fill((3,), 0.99)
    uncut, cut = {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.9}

    def sorted_sizes(*rows, done=(False, False, False)):
        sizes.clear()
        choose(logits, seen, choices(*rows), drawn, tf.constant(done))
        return sizes[1:]  # The first finds the likeliest.

    assert sorted_sizes({}, uncut, uncut) == []
    assert sorted_sizes({}, uncut, cut, done=(False, False, True)) == []
    assert sorted_sizes({}, uncut, {**uncut, "top_k": 9}) == [FEW]
    assert sorted_sizes({}, uncut, {**cut, "top_p": 0.02}) == [FEW]
    assert sorted_sizes({}, {**cut, "temperature": 0.0}, {**uncut, "top_k": 9}) == [FEW]
    assert sorted_sizes({}, uncut, {**cut, "top_p": 0.3}) == [FEW, MORE]
    assert sorted_sizes({}, uncut, cut) == [FEW, MORE, 2 * MORE]


def test_equal_logits_give_the_lowest_id_and_a_tiny_temperature_the_likeliest():
    logits = tf.constant([[1.0, 5.0, 5.0, 2.0]] * 2 + [[1.0, 5.0, 9.0, 2.0]])
    choice = choices({}, {"top_p": 1e-9, "temperature": 1.0}, {"temperature": 1e-30})
    got = choose(logits, tf.zeros((3, 4), tf.bool), choice, tf.constant([0.9, 0.9, 0.99]))
    assert got.tokens.numpy().tolist() == [1, 1, 2]


def test_extreme_settings_give_a_token():
    logits = tf.constant([[1.0, 5.0, 5.0, -2.0]] * 4)
    seen = tf.constant([[True, False, False, True]] * 4)
    ways = [{"repetition_penalty": 0.01}, {"repetition_penalty": 100.0}, {"top_p": 1e-6}]
    rows = [{"temperature": 1.0, **way} for way in (*ways, {"top_p": 1e-45})]
    got = choose(logits, seen, choices(*rows), tf.fill((4,), 0.4))
    assert got.tokens.numpy().tolist() == [0, 1, 1, 1]


def test_the_penalty_divides_positive_logits_and_multiplies_negative_ones():
    logits = tf.constant([[2.0, 1.5, -1.0], [-2.0, -1.5, -4.0]])
    seen = tf.constant([[True, False, False], [False, True, False]])
    choice = choices(*[{"repetition_penalty": 1.4}] * 2)
    # 2 / 1.4 < 1.5, and -1.5 * 1.4 < -2.
    got = choose(logits, seen, choice, tf.zeros((2,)))
    assert got.tokens.numpy().tolist() == [1, 0]
    np.testing.assert_allclose(got.gap, [1.5 - 2 / 1.4, 1.5 * 1.4 - 2], rtol=1e-5)


# The loop.


def test_a_greedy_text_follows_the_table_to_its_end():
    table = np.full((5, 5), -2.0)
    for token, following in ((4, 2), (2, 3), (3, 1), (1, 0)):
        table[token, following] = 3.0
    got = written(table, [[4, -1], [2, 3], [1, -1]], choices({}, {}, {}), limit=5)
    assert got.token_ids.numpy().tolist() == [[2, 3, 1, -1, -1], [1, -1, -1, -1, -1], [-1] * 5]
    each = log_softmax(table[4])[2]
    np.testing.assert_allclose(got.log_probability, [4 * each, 2 * each, each], rtol=1e-5)
    assert got.ended.numpy().all()


def test_the_smallest_gap_to_the_next_token_is_that_of_the_steps_that_were_taken():
    table = np.zeros((4, 4))
    table[1] = [0, 0, 5, 4]  # The next is 2, with a gap of 1.
    table[2] = [0, 2.75, 0, 3]
    table[3] = [3, 0, 0, 0]
    rows = [{}, {"max_tokens": 1}, {"temperature": 1.0}]
    got = written(table, [[1], [1], [1]], choices(*rows))
    np.testing.assert_allclose(got.gap, [0.25, 1, np.inf])


def test_each_row_stops_at_its_own_number_of_tokens():
    table = np.zeros((3, 3))
    table[:, 2] = 1.0
    limits = [{"max_tokens": 1}, {"max_tokens": 3}, {"max_tokens": 9}]
    got = written(table, [[1], [1], [1]], choices(*limits), limit=4)
    assert got.token_ids.numpy().tolist() == [[2, -1, -1, -1], [2, 2, 2, -1], [2, 2, 2, 2]]
    assert not got.ended.numpy().any()
    each = log_softmax(table[0])[2]
    np.testing.assert_allclose(got.log_probability, [each, 3 * each, 4 * each], rtol=1e-5)


def test_the_loop_ends_with_the_last_row():
    calls = []

    def step(state, tokens):
        calls.append(tokens)
        return tf.gather(tf.constant([[0.0, 1.0], [1.0, 0.0]]), tokens), state

    steps = Steps(lambda features, room: (tf.constant([[0.0, 1.0]]), ()), step)
    generate(steps, None, tf.constant([[1]]), choices({}), limit=100, end_id=0)
    assert len(calls) == 2


def test_sampled_text_is_what_numpy_samples_with_the_same_numbers():
    random = np.random.default_rng(3)
    table = 2 * random.normal(size=(7, 7))
    table[:, 0] = -30.0
    ways = [{**way, "seed": seed} for seed, way in enumerate(WAYS.values())]
    prompt = np.array([[1, 2, -1], [3, -1, -1], [4, 5, 6], [2, 2, 2]], "int32")
    got = written(table, prompt, choices(*ways), limit=8)
    for row, way in enumerate(ways):
        settings = {name: value for name, value in way.items() if name != "seed"}
        numbers = uniforms(tf.constant([way["seed"]], tf.int64), 8)[0].numpy()
        tokens, total = [token for token in prompt[row] if token >= 0], 0.0
        for number in numbers:
            logits = table[tokens[-1]]
            seen = np.isin(np.arange(7), tokens)
            probabilities = distribution(logits, seen, **settings)
            is_cut = "top_k" in settings or "top_p" in settings
            order = np.argsort(-probabilities, kind="stable") if is_cut else np.arange(7)
            chosen = order[np.searchsorted(np.cumsum(probabilities[order]), number, side="right")]
            total += log_softmax(logits)[chosen]
            tokens.append(chosen)
        assert got.token_ids[row].numpy().tolist() == tokens[-8:]
        assert got.log_probability[row].numpy() == pytest.approx(total, rel=1e-5)


def test_a_seed_gives_the_same_text_in_another_batch_and_row_and_with_xla():
    table = np.random.default_rng(4).normal(size=(50, 50))
    rows = [{"temperature": 1.0, "top_p": 0.9, "seed": seed} for seed in range(16)]
    prompt = np.random.default_rng(5).integers(1, 50, (16, 1)).astype("int32")
    whole = written(table, prompt, choices(*rows)).token_ids.numpy()
    reverse = written(table, prompt[::-1], choices(*rows[::-1])).token_ids.numpy()[::-1]
    single = written(table, prompt[9:10], choices(rows[9])).token_ids.numpy()
    compiled = written(table, prompt, choices(*rows), jit_compile=True).token_ids.numpy()
    np.testing.assert_array_equal(reverse, whole)
    np.testing.assert_array_equal(compiled, whole)
    np.testing.assert_array_equal(single, whole[[9]])
    assert len({tuple(row) for row in whole}) == 16
    again = written(table, np.repeat(prompt[:1], 2, 0), choices(*[rows[0]] * 2)).token_ids.numpy()
    np.testing.assert_array_equal(again, whole[[0, 0]])


def test_no_rows_give_no_text():
    got = written(np.eye(3), np.zeros((0, 2), "int32"), Choice(*(p[:0] for p in choices({}))))
    assert got.token_ids.shape == (0, 8)


@pytest.mark.parametrize("prompt", [[[2]], [[2, 1, 2]], [[2] * 9]])
def test_the_end_token_before_a_prompt_does_not_count_as_repeated(prompt):
    # The end token, 1, is likeliest until it is penalized.
    steps = table_steps([[1.8, 2.0, 0.0]] * 3)
    way = {**GREEDY, "max_tokens": 3, "repetition_penalty": 1.2}
    features = {"token_ids": tf.constant(prompt), **filled(way, 1)}
    tokens = SimpleNamespace(begin_id=1, end_id=1, pieces=())
    found = continuing(lambda model: steps, 8, tokens)(Network(None), features)
    assert bool(found["ended"][0]) and found["token_ids"].numpy().max() == -1


# At fixed sizes.


@pytest.mark.parametrize(("rows", "tokens"), [(0, 1), (1, 9), (3, 2), (9, 5)])
def test_texts_at_fixed_sizes_are_those_without(rows, tokens, monkeypatch):
    table = 2 * np.random.default_rng(0).normal(size=(9, 9))
    shapes, looked_for = [], []

    def function(write, jit_compile, autograph):
        def seen(features):
            shapes.append({name: tuple(value.shape) for name, value in features.items()})
            looked_for.append(bool(tf.reduce_any(features["stop"] >= 0)))
            return write(features)

        return seen

    def core(sizes):
        tokens = SimpleNamespace(begin_id=0, end_id=0, pieces=PIECES)
        return continuing(lambda model: table_steps(table), 17, tokens, limit=6, sizes=sizes)

    random = np.random.default_rng(1)
    ids = random.integers(1, 9, (rows, tokens)).astype("int32")
    ids[::2, 1:] = -1
    way = {**GREEDY, "max_tokens": 6, "temperature": 1.0, "repetition_penalty": 1.5}
    features = {"token_ids": tf.constant(ids), **filled(way, rows)}
    features |= {"seed": tf.range(rows, dtype=tf.int64), "room": tf.zeros((6,))}
    stops = stop_bytes(tf.constant([["", "", "c", "", "abc"]] * rows or np.zeros((0, 5), object)))
    monkeypatch.setattr(writing.tf, "function", function)
    sizes = {"rows": (1, 4), "prompt": (4, 16), "stop": (3, 7)}
    for every in (features, {**features, "stop": stops}):
        expected = core(None)(Network(None), every)
        found = core(sizes)(Network(None), every)
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)
    size, width = 1 if rows < 2 else 4, 4 if tokens < 4 else 16
    blocks = max(1, -(-rows // size))
    assert looked_for == [False] * blocks + [rows > 0] * blocks
    assert {(one["prompt"], one["stop"], one["top_p"]) for one in shapes} == {
        ((size, width), (size, 3, 7), (size,))
    }


@pytest.mark.parametrize(("rows", "tokens"), [(0, 1), (1, 9), (3, 2), (9, 5)])
def test_a_beam_search_at_fixed_sizes_finds_what_it_finds_without(rows, tokens):
    table = 2 * np.random.default_rng(0).normal(size=(9, 9))
    steps = table_steps(table)._replace(pick=lambda state, rows: state)
    kinds = SimpleNamespace(begin_id=0, end_id=0, pieces=PIECES)
    sizes = {"rows": (1, 4), "prompt": (4, 16), "stop": (3, 7)}
    random = np.random.default_rng(1)
    features = {
        "token_ids": tf.constant(random.integers(1, 9, (rows, tokens)), tf.int32),
        "max_tokens": tf.constant(random.integers(1, 7, rows), tf.int32),
        "length_penalty": tf.constant(random.uniform(0, 2, rows), tf.float32),
    }
    plain, fixed = (
        continuing(lambda model: steps, 17, kinds, beams=3, limit=6, sizes=some)
        for some in (None, sizes)
    )
    expected, found = (core(Network(None), features) for core in (plain, fixed))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    assert found["token_ids"].shape == (rows, 3, 6)


# What it is made of.


def test_numbers_of_a_seed_lie_between_0_and_1_and_are_spread_evenly():
    seeds = tf.constant([0, 1, -1, 2**62], tf.int64)
    numbers = uniforms(seeds, 20_000).numpy()
    compiled = tf.function(uniforms, jit_compile=True)(seeds, 20_000)
    np.testing.assert_array_equal(compiled, numbers)
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.stack([np.bincount((row * 10).astype(int), minlength=10) for row in numbers])
    assert np.abs(counts - 2000).max() < 4 * (2000 * 0.9) ** 0.5
    assert len(np.unique(numbers[:, :4])) == 16
    np.testing.assert_array_equal(uniforms(seeds[2:3], 20_000)[0], numbers[2])


def test_tokens_of_prompts_are_found_without_their_padding():
    got = occurring(tf.constant([[-1, -1], [0, 3]]), 4).numpy()
    assert got.tolist() == [[False] * 4, [True, False, False, True]]


def test_a_long_prompt_loses_its_oldest_tokens():
    tokens = tf.constant([[1, 2, 3, 4, 5], [6, 7, -1, -1, -1], [8, 9, 8, 9, -1]])
    kept, dropped = latest(tokens, tf.constant([3, 3, 1]), 3)
    assert kept.numpy().tolist() == [[3, 4, 5], [6, 7, -1], [9, -1, -1]]
    assert dropped.numpy().tolist() == [2, 0, 3]


PIECES = [b"", b"a", b"b", b"ab", b"c", b"abcab", "\u00e9".encode(), b" a", b" "]


def stopped(tokens, stops, max_tokens=8, jit_compile=False, hides_space=False):
    """Writes the tokens of each row, one after the other; the text and why it ended."""
    rows = tf.constant([[*row, *[0] * (9 - len(row))] for row in tokens])
    logits = tf.one_hot(rows, len(PIECES), 9.0, 0.0)  # (rows, positions, vocabulary)

    def start(features, room):
        return logits[:, 0], tf.ones((len(tokens),), tf.int32)

    def step(positions, _):
        return tf.gather(logits, tf.minimum(positions, 8), batch_dims=1), positions + 1

    strings = stop_bytes(tf.constant(stops))

    @tf.function(jit_compile=jit_compile, autograph=False)
    def run(strings):
        choice = choices(*[{"max_tokens": max_tokens}] * len(tokens))
        prompt = tf.fill((len(tokens), 1), -1)
        stop = Stop(strings, piece_bytes(PIECES), hides_space)
        return generate(Steps(start, step), 0, prompt, choice, limit=8, end_id=0, stop=stop)

    found = run(strings)
    texts = []
    for row, kept in zip(found.token_ids.numpy(), found.num_bytes.numpy(), strict=True):
        text = b"".join(PIECES[token] for token in row if token >= 0)
        texts.append(text if kept < 0 else text[:kept])
    return texts, found.ended.numpy().tolist(), found


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_text_ends_before_the_first_stop_string(jit_compile):
    cases = [  # tokens, stop strings, text, ended
        ([1, 1, 5, 2], ["bc", ""], b"aaa", True),  # inside one token
        ([1, 2, 4, 1, 4], ["abc", ""], b"", True),  # over three tokens, the first text
        ([2, 3, 4, 4], ["xyz", "cc"], b"bab", True),  # the second of two
        ([1, 6, 2], ["\u00e9b", "a\u00e9b"], b"", True),  # both end in one token
        ([1, 2, 0], ["c", "ba"], b"ab", True),  # never: the end token
        ([1] * 8, ["b", "ab"], b"a" * 8, False),  # never
        ([5, 1], ["ab", "bcab"], b"", True),  # the one that begins first
        ([2, 1, 1], ["", ""], b"baa", True),
    ]
    tokens, stops, expected, ended = zip(*cases, strict=True)
    texts, found_ended, _ = stopped(tokens, stops, jit_compile=jit_compile)
    assert texts == list(expected) and found_ended == list(ended)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_space_that_is_not_shown_is_in_no_stop_string(jit_compile):
    cases = [  # tokens, stop strings, text with its first space, ended
        ([7, 2, 7, 2], [" a"], b" ab", True),  # the second word, not the first
        ([7, 2, 7, 2], ["a"], b" ", True),  # the first word without its space
        ([8, 1, 8, 1], [" "], b" a", True),  # a space alone
        ([8, 8, 1], [" "], b" ", True),  # of two, the second one is shown
        ([7, 2, 0], [" ab"], b" ab", True),  # the end token
        ([1, 7, 2], [" a"], b"a", True),  # a text without a space at its beginning
    ]
    tokens, stops, expected, ended = zip(*cases, strict=True)
    texts, found_ended, found = stopped(tokens, stops, 8, jit_compile, hides_space=True)
    assert texts == list(expected) and found_ended == list(ended)
    assert found.num_bytes.numpy().tolist() == [3, 1, 2, 1, -1, 1]


def test_the_token_that_completes_a_stop_string_is_the_last_one():
    _, _, found = stopped([[1, 4, 1, 1]], [["c"]])
    assert found.token_ids.numpy().tolist() == [[1, 4, *[-1] * 6]]
    logs = log_softmax(np.eye(len(PIECES))[1] * 9.0)[1]
    assert float(found.log_probability[0]) == pytest.approx(2 * logs, rel=1e-3)


def test_a_single_token_may_hold_a_stop_string():
    texts, ended, _ = stopped([[5]], [["ca"]], max_tokens=1)
    assert texts == [b"ab"] and ended == [True]


def test_no_stop_string_at_all_is_allowed():
    empty = np.zeros((2, 0), object)
    texts, ended, _ = stopped([[1, 2], [1] * 8], empty)
    assert texts == [b"ab", b"a" * 8] and ended == [True, False]


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        ([["a"] * 8, ["a"] * 9], "`stop` must have at most 8 strings"),
        ([["a"], ["a" * 257]], "`stop` must have strings of at most 256 bytes"),
    ],
)
def test_stop_strings_out_of_range_are_refused_by_row(stop, message):
    width = max(map(len, stop))
    rows = tf.constant([row + [""] * (width - len(row)) for row in stop])
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{message}[^\n]*\n1"):
        checked_stop(rows)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [("top_p", [1e-6, 1.0], [1e-45, 9e-7]), ("repetition_penalty", [0.01, 100.0], [1e-38, 101.0])],
)
def test_settings_that_float32_cannot_follow_are_refused(name, good, bad):
    assert checked({name: tf.constant(good)}, 8)[name].numpy().tolist() == pytest.approx(good)
    for value in bad:
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{name}` must be in"):
            checked({name: tf.constant([value])}, 8)


@pytest.mark.parametrize("context", [2, 5, 8, 40])
def test_each_token_of_a_long_text_is_scored_once_with_at_least_half_of_the_context(context):
    table = np.random.default_rng(0).normal(0, 1, (6, 6)).astype("float32")
    read = []

    def network(features):
        assert features["token_ids"].shape[1] <= context
        read.append(int(tf.reduce_sum(features["padding_mask"])))
        return {"logits": tf.gather(tf.constant(table), features["token_ids"])}

    rows = np.random.default_rng(1).integers(0, 6, (3, 23)).astype("int32")
    rows[1, 9:] = -1
    first = np.array([1, 3, 12], "int32")
    found = scoring(context)(network, {"token_ids": tf.constant(rows), "first": tf.constant(first)})
    for row in range(3):
        text = rows[row][rows[row] >= 0]
        expected = sum(
            log_softmax(table[text[i - 1]])[text[i]] for i in range(first[row], len(text))
        )
        assert float(found[row]) == pytest.approx(expected, rel=1e-5)
    assert len(read) == 1 + max(0, -(-(22 - context) // (context // 2)))
