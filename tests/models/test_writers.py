"""What holds for every network that writes text."""

from functools import partial
from types import SimpleNamespace

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from models import decoder_layers
from models.decoders import PretrainedDecoder, decoder_steps
from models.generation import Choice, generate
from models.gpt import GPT_SIZES, GPTSize, gpt_backbone, gpt_language_model
from models.recurrent import recurrent_language_model, recurrent_steps
from models.writing import answering, scoring
from serving.signature import Network
from tests.models.blueprint import with_slow

VOCABULARY = 11
CONTEXT = 12
PROMPTS = np.array([[3, 1, 4, 1], [5, -1, -1, -1], [9, 2, -1, -1]], "int32")


def gpt(dropout=0.0):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(GPT_SIZES, "quick", GPTSize(2, 16, 2))
        return gpt_language_model(gpt_backbone("quick", VOCABULARY, CONTEXT, dropout))


def llama(tied=True):
    """Two query heads share each head of keys, and the slow rotations are Llama 3.1's."""
    backbone = keras_hub.models.Llama3Backbone(
        *(VOCABULARY, 2, 4, 16, 24, 2),
        rope_frequency_adjustment_factor=8.0,
        rope_low_freq_factor=1.0,
        rope_high_freq_factor=4.0,
        rope_pretraining_sequence_length=16,
        layer_norm_epsilon=1e-3,
        tie_word_embeddings=tied,
    )
    return PretrainedDecoder(backbone, name="llama")


def recurrent(cell):
    return recurrent_language_model(VOCABULARY, cell, 8, layers=2)


WRITERS = {
    "gpt": (gpt, decoder_steps),
    "llama": (llama, partial(decoder_steps, context=CONTEXT)),
    "untied llama": (partial(llama, tied=False), partial(decoder_steps, context=CONTEXT)),
    "lstm": (lambda: recurrent("lstm"), recurrent_steps),
    "gru": (lambda: recurrent("gru"), recurrent_steps),
    "rnn": (lambda: recurrent("rnn"), recurrent_steps),
}


@pytest.fixture(params=with_slow(WRITERS, {"rnn", "untied llama"}))
def writer(request):
    keras.utils.set_random_seed(0)
    make, steps = WRITERS[request.param]
    model, random = make(), np.random.default_rng(1)
    for weight in model.weights:  # So that no gain is 1, and no shift 0.
        weight.assign(np.asarray(weight) + random.normal(0, 0.3, weight.shape))
    return model, steps(model)


def whole(model, tokens):
    """Logits of a text from the network, without a state."""
    # KerasHub warns of attention to a single token.
    ids, mask = np.array([[*tokens, 0]], "int32"), np.array([[*[1] * len(tokens), 0]], "int32")
    return model({"token_ids": ids, "padding_mask": mask})["logits"][0, :-1].numpy()


def test_a_token_does_not_see_those_after_it_or_padding(writer):
    model, _ = writer
    ids = np.array([[3, 1, 4, 1, 5]], "int32")
    other = np.array([[3, 1, 4, 7, 7]], "int32")
    mask = np.array([[1, 1, 1, 0, 0]], "int32")
    one = model({"token_ids": ids, "padding_mask": np.ones_like(ids)})["logits"]
    two = model({"token_ids": other, "padding_mask": mask})["logits"]
    np.testing.assert_allclose(one[:, :3], two[:, :3], atol=1e-6)
    assert one.shape == (1, 5, VOCABULARY) and one.dtype == "float32"


def test_steps_give_the_logits_of_the_whole_text_whatever_the_other_rows(writer):
    model, steps = writer
    texts = [[token for token in row if token >= 0] for row in PROMPTS]
    logits, state = steps.start(tf.constant(PROMPTS), 8)
    each = [logits]
    for token in (7, 0, 2, 2):
        for row, text in enumerate(texts):
            text.append((token + row) % VOCABULARY)
        logits, state = steps.step(state, tf.constant([text[-1] for text in texts]))
        each.append(logits)
    for text, found in zip(texts, np.stack(each, axis=1), strict=True):
        np.testing.assert_allclose(found, whole(model, text)[-5:], atol=1e-5)


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_loop_writes_the_likeliest_tokens_with_and_without_xla(writer, jit):
    model, steps = writer

    def write(prompts):
        zeros, ones = tf.zeros((3,)), tf.ones((3,))
        choice = Choice(
            tf.constant([4, 6, 8]),
            zeros,
            tf.zeros((3,), tf.int32),
            ones,
            ones,
            tf.zeros((3,), "int64"),
        )
        return generate(steps, prompts, prompts, choice, limit=8, end_id=VOCABULARY)

    answer = tf.function(write, jit_compile=jit, autograph=False)(tf.constant(PROMPTS))
    for row, count in enumerate((4, 6, 8)):
        text, got = PROMPTS[row][PROMPTS[row] >= 0], answer.token_ids[row].numpy()
        assert (got[count:] == -1).all()
        logits = whole(model, [*text, *got[:count]])[len(text) - 1 : -1]
        assert got[:count].tolist() == logits.argmax(-1).tolist()
        total = float(tf.reduce_sum(tf.reduce_max(tf.nn.log_softmax(logits), axis=-1)))
        assert float(answer.log_probability[row]) == pytest.approx(total, rel=1e-4)


def test_picked_rows_go_on_as_they_would_have(writer):
    model, steps = writer
    _, state = steps.start(tf.constant(PROMPTS), 8)
    texts = [[token for token in row if token >= 0] for row in PROMPTS for _ in range(2)]
    state = steps.pick(state, [0, 0, 1, 1, 2, 2])
    for order in ([1, 0, 3, 3, 4, 4], [0, 0, 3, 2, 5, 4]):
        texts = [[*text, row] for row, text in enumerate(texts)]
        logits, state = steps.step(state, tf.range(6))
        for text, found in zip(texts, logits, strict=True):
            np.testing.assert_allclose(found, whole(model, text)[-1], atol=1e-5)
        state, texts = steps.pick(state, order), [texts[row] for row in order]


def test_a_cache_has_room_for_prompt_and_answer_and_not_for_the_whole_context():
    keras.utils.set_random_seed(0)
    model = gpt()
    _, (caches, _) = decoder_steps(model).start(tf.constant(PROMPTS), 3)
    assert {tuple(part.shape) for part in tf.nest.flatten(caches)} == {(3, 2, 4 + 3, 8)}
    _, (caches, _) = decoder_steps(model).start(tf.constant(PROMPTS), 100)
    assert {tuple(part.shape) for part in tf.nest.flatten(caches)} == {(3, 2, CONTEXT, 8)}
    choice = Choice(
        *(tf.fill((3,), value) for value in (3, 0.9, 0, 1.0, 1.0)), tf.constant([1, 2, 3], "int64")
    )
    texts = [
        generate(
            decoder_steps(model), prompts, prompts, choice, limit=8, end_id=VOCABULARY, room=room
        )
        for prompts in [tf.constant(PROMPTS)]
        for room in (3, 8)
    ]
    np.testing.assert_array_equal(texts[0].token_ids, texts[1].token_ids)
    np.testing.assert_allclose(texts[0].log_probability, texts[1].log_probability, rtol=1e-5)


def test_a_saved_network_writes_the_same(writer, tmp_path):
    model, steps = writer
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    is_decoder = model.name in ("gpt_language_model", "llama")
    new = decoder_steps(again, CONTEXT) if is_decoder else recurrent_steps(again)
    expected, got = (one.start(tf.constant(PROMPTS), 8)[0] for one in (steps, new))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_bfloat16_gpt_gives_float32_logits_near_those_of_float32():
    keras.utils.set_random_seed(0)
    model = gpt()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = gpt()
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(model.get_weights())
    logits, state = decoder_steps(mixed).start(tf.constant(PROMPTS), 8)
    logits, _ = decoder_steps(mixed).step(state, tf.constant([1, 2, 3]))
    assert logits.dtype == "float32"
    _, state = decoder_steps(model).start(tf.constant(PROMPTS), 8)
    expected, _ = decoder_steps(model).step(state, tf.constant([1, 2, 3]))
    np.testing.assert_allclose(logits, expected, atol=0.02)
    # The products with the vocabulary have all digits, as the network's own have.
    logits, _ = decoder_steps(mixed).start(tf.constant(PROMPTS[:1]), 8)
    np.testing.assert_allclose(logits[0], whole(mixed, PROMPTS[0])[-1], atol=0.01)
    for found in (logits, whole(mixed, PROMPTS[0])):
        rounded = tf.cast(tf.cast(found, tf.bfloat16), tf.float32)
        assert np.mean(rounded == found) < 0.1


@pytest.mark.parametrize(
    ("size", "millions"), [("nano", 0.80), ("baby", 10.65)], ids=["nano", "baby"]
)
def test_sizes_of_nanogpt_have_its_number_of_parameters(size, millions):
    # nanoGPT prints them without its position embeddings, and has no biases and no shifts; its
    # vocabulary is 65 characters.
    backbone = gpt_backbone(size, 65, 8)
    width = GPT_SIZES[size].hidden_dim
    unbiased = [w for w in backbone.weights if w.name not in ("bias", "beta")]
    total = sum(int(np.prod(w.shape)) for w in unbiased) - 8 * width
    assert round(total / 1e6, 2) == millions


@pytest.mark.parametrize(("changes", "name"), [({"cell": "no"}, "cell"), ({"layers": 0}, "layers")])
def test_a_bad_recurrent_writer_is_refused(changes, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        recurrent_language_model(VOCABULARY, **changes)


@pytest.fixture(params=["gpt", "llama"])
def after_prefix(request):
    """A network, and how it reads with and without a prefix."""
    keras.utils.set_random_seed(0)
    model = {"gpt": gpt, "llama": llama}[request.param]()
    random = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(np.asarray(weight) + random.normal(0, 0.3, weight.shape))
    return model, partial(decoder_steps, context=CONTEXT)


PREFIX = (6, 8, 2)


def test_a_prefix_is_read_once_and_gives_the_logits_of_the_whole_text(after_prefix, monkeypatch):
    model, steps_of = after_prefix
    steps, read = steps_of(model, prefix=PREFIX), []
    for kind in (decoder_layers.DecoderLayer, decoder_layers.LlamaLayer):
        original = kind.read

        def spy(layer, x, *others, original=original):
            read.append(x.shape[0])
            return original(layer, x, *others)

        monkeypatch.setattr(kind, "read", spy)
    logits, state = steps.start(tf.constant(PROMPTS), 5)
    # Tokens that each layer reads: those of the prefix, and then those of all rows.
    assert read == [3, 3, 3 * 4, 3 * 4]
    texts, each = [[*PREFIX, *row[row >= 0].tolist()] for row in PROMPTS], [logits]
    for token in (7, 0):
        for row, text in enumerate(texts):
            text.append((token + row) % VOCABULARY)
        logits, state = steps.step(state, tf.constant([text[-1] for text in texts]))
        each.append(logits)
    for text, found in zip(texts, np.stack(each, axis=1), strict=True):
        np.testing.assert_allclose(found, whole(model, text)[-3:], atol=1e-5)


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_answers_are_scored_as_they_are_after_the_whole_text(after_prefix, jit):
    model, steps_of = after_prefix
    tokens = SimpleNamespace(begin_id=None, end_id=0)
    answers = np.array([[[7, -1, -1], [2, 9, 4]], [[5, 5, -1], [1, -1, -1]], [[3] * 3] * 2])
    features = {"token_ids": tf.constant(PROMPTS), "answer_ids": tf.constant(answers, tf.int32)}
    core = answering(partial(steps_of, prefix=PREFIX), CONTEXT - 3, tokens, begun=True)
    network = Network(model)
    found = tf.function(lambda given: core(network, given), jit_compile=jit, autograph=False)(
        features
    )
    assert found.shape == (3, 2)
    for row, column in np.ndindex(3, 2):
        before = [*PREFIX, *PROMPTS[row][PROMPTS[row] >= 0].tolist()]
        answer = [token for token in answers[row, column] if token >= 0]
        ids = np.array([[*before, *answer]], "int32")
        expected = scoring(CONTEXT)(network, {"token_ids": ids, "first": np.array([len(before)])})
        assert float(found[row, column]) == pytest.approx(float(expected[0]), rel=1e-4)


def test_what_does_not_fit_between_prefix_and_answer_is_dropped_from_the_prompt(after_prefix):
    model, steps_of = after_prefix
    tokens, long = SimpleNamespace(begin_id=None, end_id=0), np.array([[1] * 9 + [4, 2]], "int32")
    core = answering(partial(steps_of, prefix=PREFIX), CONTEXT - 3, tokens, begun=True)
    found, kept = (
        core(Network(model), {"token_ids": ids, "answer_ids": np.array([[[8, 3]]], "int32")})
        for ids in (long, long[:, -7:])
    )
    np.testing.assert_allclose(found, kept, rtol=1e-6)


def test_a_longer_answer_in_another_row_takes_nothing_from_a_prompt(after_prefix):
    model, steps_of = after_prefix
    tokens = SimpleNamespace(begin_id=None, end_id=0)
    core = answering(partial(steps_of, prefix=PREFIX), CONTEXT - 3, tokens, begun=True)
    prompts, answers = np.array([[1] * 6 + [4, 2]] * 2, "int32"), [[[8, -1, -1]], [[5, 2, 7]]]
    together = core(Network(model), {"token_ids": prompts, "answer_ids": tf.constant(answers)})
    alone = core(
        Network(model), {"token_ids": prompts[:1], "answer_ids": np.array([[[8]]], "int32")}
    )
    np.testing.assert_allclose(together[:1], alone, rtol=1e-5)
