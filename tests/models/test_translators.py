"""What holds for every network that translates."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.seq2seq import seq2seq, seq2seq_attention, seq2seq_steps
from models.transformer import (
    TRANSFORMER_SIZES,
    TransformerSize,
    transformer,
    transformer_attention,
    transformer_steps,
)
from models.translators import attention_of, steps_of
from models.translators import translator as translator_of
from models.writing import chosen, translating
from serving.signature import Network
from serving.writing import GREEDY, filled
from tests.models.blueprint import with_slow

# Keras warns of the softmax over a single token.
pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*using a softmax over axis")
VOCABULARY, BEGIN, LIMIT = 11, 1, 6
SOURCES = np.array([[3, 4, 5, 1], [6, 1, -1, -1], [1, -1, -1, -1]], "int32")
TARGETS = np.array([[1, 7, 8, 9], [1, 2, 3, 4], [1, 9, 9, 2]], "int32")


def made(norm_first):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRANSFORMER_SIZES, "quick", TransformerSize(2, 16, 24, 2))
        return transformer(VOCABULARY, "quick", 0.1, norm_first)


def recurrent(*kind):
    return lambda: seq2seq(VOCABULARY, *kind, units=8)


def of_transformer(model):
    return transformer_steps(model, BEGIN, LIMIT)


def of_seq2seq(model):
    return seq2seq_steps(model, BEGIN)


TRANSLATORS = {
    "transformer": (lambda: made(False), of_transformer, transformer_attention),
    "norm_first": (lambda: made(True), of_transformer, transformer_attention),
    "bahdanau_gru": (recurrent("gru", "bahdanau"), of_seq2seq, seq2seq_attention),
    "bahdanau_lstm": (recurrent("lstm", "bahdanau"), of_seq2seq, seq2seq_attention),
    "dot": (recurrent("lstm", "luong", "dot"), of_seq2seq, seq2seq_attention),
    "general": (recurrent("gru", "luong", "general"), of_seq2seq, seq2seq_attention),
    "concat": (recurrent("gru", "luong", "concat"), of_seq2seq, seq2seq_attention),
    "none_gru": (recurrent("gru", "none"), of_seq2seq, None),
    "none_lstm": (recurrent("lstm", "none"), of_seq2seq, None),
}


# The others have the same parts in other combinations.
SLOW = {"norm_first", "bahdanau_lstm", "dot", "none_lstm"}


@pytest.fixture(params=with_slow(TRANSLATORS, SLOW))
def translator_name(request):
    keras.utils.set_random_seed(0)
    return request.param


@pytest.fixture
def translator(translator_name):
    make, steps, attention = TRANSLATORS[translator_name]
    model, random = make(), np.random.default_rng(1)
    for weight in model.weights:  # So that no gain is 1, and no shift 0.
        weight.assign(np.asarray(weight) + random.normal(0, 0.3, weight.shape))
    return model, steps, attention


def whole(model, sources, targets):
    return model({"source_ids": sources, "target_ids": targets})["logits"].numpy()


def test_logits_step_by_step_are_those_of_the_whole_translation(translator):
    model, steps, _ = translator
    found = steps(model)
    logits, state = found.start(tf.constant(SOURCES), LIMIT)
    each = [logits]
    for tokens in TARGETS.T[1:]:
        logits, state = found.step(state, tf.constant(tokens))
        each.append(logits)
    np.testing.assert_allclose(np.stack(each, 1), whole(model, SOURCES, TARGETS), atol=1e-5)


@pytest.mark.parametrize("name", ["seq2seq", "transformer_tiny"])
def test_each_name_gives_a_network_how_it_writes_and_to_what_it_attends(name, monkeypatch):
    monkeypatch.setitem(TRANSFORMER_SIZES, "tiny", TransformerSize(2, 16, 24, 2))
    kind = {"cell": "lstm", "attention": "luong", "luong_score": "dot", "norm_first": True}
    model = translator_of(name, VOCABULARY, **kind, units=8, dropout=0.0)
    logits, _ = steps_of(name, BEGIN, LIMIT)(model).start(tf.constant(SOURCES), LIMIT)
    np.testing.assert_allclose(logits, whole(model, SOURCES, TARGETS)[:, 0], atol=1e-5)
    weights = attention_of(name, "luong")(model, SOURCES, TARGETS)
    assert weights.shape == (3, 4, 4)
    np.testing.assert_allclose(np.sum(weights, -1), 1, atol=1e-5)
    assert (np.asarray(weights)[np.repeat(SOURCES[:, None] < 0, 4, 1)] == 0).all()


def test_a_network_may_have_no_attention():
    assert attention_of("seq2seq", "none") is None
    assert attention_of("transformer_tiny", "none") is not None


def test_logits_of_a_bfloat16_network_have_all_digits_as_its_own_have(translator_name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        make, steps, _ = TRANSLATORS[translator_name]
        model = make()
    finally:
        keras.config.set_dtype_policy("float32")
    logits, _ = steps(model).start(tf.constant(SOURCES), LIMIT)
    expected = whole(model, SOURCES, TARGETS)[:, 0]
    np.testing.assert_allclose(logits, expected, atol=0.05)
    for found in (logits, expected):
        rounded = tf.cast(tf.cast(found, tf.bfloat16), tf.float32)
        assert np.mean(rounded == found) < 0.1


def test_picked_rows_go_on_as_they_would_have(translator):
    model, steps, _ = translator
    found, sources = steps(model), np.repeat(SOURCES, 2, axis=0)
    _, state = found.start(tf.constant(SOURCES), LIMIT)
    state = found.pick(state, tf.constant([0, 0, 1, 1, 2, 2]))
    targets = np.stack([np.full(6, BEGIN), [7, 0, 2, 8, 4, 3]], 1).astype("int32")
    for order in ([1, 0, 3, 3, 4, 4], [0, 0, 3, 2, 5, 4]):
        logits, state = found.step(state, tf.constant(targets[:, -1]))
        np.testing.assert_allclose(logits, whole(model, sources, targets)[:, -1], atol=1e-5)
        state = found.pick(state, tf.constant(order))
        following = np.arange(6)[:, None] + targets.shape[1]
        targets = np.concatenate([targets[order], following.astype("int32")], axis=1)


def test_padding_has_no_influence(translator):
    model, _, _ = translator
    together = whole(model, SOURCES, TARGETS)
    for row, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        alone = whole(model, source[source >= 0][None], target[None])
        np.testing.assert_allclose(together[row], alone[0], atol=1e-5)
    padded = np.where(np.arange(4) < 2, TARGETS, -1)
    np.testing.assert_allclose(whole(model, SOURCES, padded)[:, :2], together[:, :2], atol=1e-5)


def test_a_token_sees_the_whole_source_and_no_later_token(translator):
    model, _, _ = translator
    before = whole(model, SOURCES, TARGETS)
    later = TARGETS.copy()
    later[:, 3] = 5
    np.testing.assert_allclose(whole(model, SOURCES, later)[:, :3], before[:, :3], atol=1e-6)
    changed = np.where(np.eye(4, dtype=bool), 8, SOURCES[:1]).astype("int32")
    after = whole(model, changed, np.repeat(TARGETS[:1], 4, axis=0))
    assert (np.abs(after - before[:1]).min(-1).max(-1) > 0).all()


def test_the_loop_writes_what_the_network_finds_likeliest(translator):
    model, steps, _ = translator
    choice = filled({**GREEDY, "max_tokens": LIMIT}, len(SOURCES))
    features = {"source_ids": tf.constant(SOURCES), **choice}
    written = translating(steps, LIMIT, end_id=BEGIN)(Network(model), features)
    got = written["token_ids"].numpy()
    ended = np.asarray(written["ended"])
    count = (got >= 0).sum(axis=1) + ended  # With the token of the end.
    begun = np.column_stack([np.full(3, BEGIN), got]).astype("int32")[:, :LIMIT]
    logits = whole(model, SOURCES, begun)
    for row, tokens in enumerate(np.where(got >= 0, got, BEGIN)):
        assert ended[row] or count[row] == LIMIT
        assert tokens[: count[row]].tolist() == logits[row, : count[row]].argmax(-1).tolist()
    logs = tf.reduce_max(tf.nn.log_softmax(logits), axis=-1).numpy()
    totals = np.sum(logs, axis=1, where=np.arange(LIMIT) < count[:, None])
    np.testing.assert_allclose(written["log_probability"], totals, atol=1e-4)


def test_attention_is_a_mean_over_the_source_without_padding(translator):
    model, _, attention = translator
    if attention is None:
        with pytest.raises(ValueError, match="`model` must have attention"):
            seq2seq_attention(model, SOURCES, TARGETS)
        return
    weights = np.asarray(attention(model, tf.constant(SOURCES), tf.constant(TARGETS)))
    layers, rows, heads, *tokens = weights.shape
    assert (layers, rows, heads) == ((2, 3, 2) if model.name == "transformer" else (1, 3, 1))
    assert tokens == [4, 4]
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert not weights[:, 1, :, :, 2:].any() and (weights[:, 2, :, :, 0] == 1).all()
    np.testing.assert_allclose(chosen(weights, 0, 0), weights[0, :, 0])
    np.testing.assert_allclose(chosen(weights, None, None), weights.mean((0, 2)), atol=1e-6)


def test_it_is_saved_and_loaded(translator, tmp_path):
    model, _, _ = translator
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(whole(again, SOURCES, TARGETS), whole(model, SOURCES, TARGETS))
