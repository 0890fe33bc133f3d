import keras
import numpy as np
import pytest
import tensorflow as tf

from models.bert import FEATURES
from models.recurrent import (
    CELLS,
    POOLS,
    attention_weights,
    recurrent_classifier,
    recurrent_tagger,
    without_cudnn,
)
from tests.models.blueprint import count

SMALL = {"units": 4, "embedding_dim": 6}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
BIASES = {"lstm": 4, "gru": 6, "rnn": 1}
NORMALISED = {"lstm": 10, "gru": 6, "rnn": 1}
"""Matrices, biases, and gains and shifts of a cell, in units."""

PADDED = [
    *({"cell": cell, "layer_normalization": norm} for cell in CELLS for norm in (False, True)),
    *({"pooling": pool, "cell": cell} for pool in ("last", "max") for cell in CELLS),
    *({"pooling": pool, "bidirectional": False} for pool in POOLS),
    {"pooling": "last", "layers": 2, "layer_normalization": True},
]


def features(rows=3, tokens=7, vocabulary=30, seed=0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    lengths = tokens - np.arange(rows) % tokens
    mask = np.arange(tokens) < lengths[:, None]
    return {
        "token_ids": (random.integers(1, vocabulary, (rows, tokens)) * mask).astype("int32"),
        "segment_ids": (random.integers(0, 2, (rows, tokens)) * mask).astype("int32"),
        "padding_mask": mask.astype("int32"),
    }


def padded(inputs, more=4) -> dict[str, np.ndarray]:
    longer = {name: np.pad(values, ((0, 0), (0, more))) for name, values in inputs.items()}
    longer["token_ids"][:, -more:] = 9  # the values in padding must not matter
    return longer


def shaken(model) -> keras.Model:
    """Gives each weight a random value that no direction, gate or gain shares."""
    random = np.random.default_rng(3)
    for weight in model.weights:
        weight.assign(np.asarray(weight) + random.normal(0, 0.3, weight.shape))
    return model


def cell_parameters(cell, channels, units, normalized) -> int:
    matrices = GATES[cell] * (channels + units) * units
    return matrices + (BIASES[cell] + NORMALISED[cell] * normalized) * units


@pytest.mark.parametrize("normalized", [False, True], ids=["plain", "normalized"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("cell", CELLS)
def test_parameters_are_those_of_the_formula(cell, bidirectional, normalized):
    choices = {"bidirectional": bidirectional, "layer_normalization": normalized, "layers": 2}
    with keras.StatelessScope(initialize_variables=False):
        model = recurrent_classifier(30, 5, cell, **SMALL, **choices)
        tagger = recurrent_tagger(30, 5, cell, **SMALL, **choices)
    directions = 1 + bidirectional
    wide = 4 * directions
    recurrent = sum(directions * cell_parameters(cell, n, 4, normalized) for n in (6, wide))
    attention = wide * 4 + 4 + 4
    assert count(model.weights) == (30 + 2) * 6 + recurrent + attention + (wide + 1) * 5
    assert count(tagger.weights) == count(model.weights) - attention


@pytest.mark.parametrize("choices", PADDED, ids=str)
def test_padding_changes_no_class(choices):
    model = shaken(recurrent_classifier(30, 3, **choices, **SMALL))
    answer = np.asarray(model(features()))
    assert answer.shape == (3, 3) and answer.std() > 0.01
    np.testing.assert_allclose(model(padded(features())), answer, atol=1e-5)


def test_padding_changes_no_tag():
    model = shaken(recurrent_tagger(30, 3, layers=2, **SMALL))
    inputs = features()
    real = inputs["padding_mask"] > 0
    answer = np.asarray(model(inputs))
    assert answer.shape == (3, 7, 3)
    np.testing.assert_allclose(
        np.asarray(model(padded(inputs)))[:, :7][real], answer[real], atol=1e-5
    )


def test_every_token_and_segment_counts_in_every_pooling():
    for pooling in POOLS:
        model = shaken(recurrent_classifier(30, 3, pooling=pooling, **SMALL))
        inputs = features(rows=1)
        answer = np.asarray(model(inputs))
        for name in ("token_ids", "segment_ids"):
            changed = {key: value.copy() for key, value in inputs.items()}
            changed[name][0, 3] = 1 - changed[name][0, 3] % 2
            assert np.abs(np.asarray(model(changed)) - answer).max() > 1e-5


def test_one_way_sees_no_later_token_and_both_ways_do():
    inputs = features(rows=1)
    changed = {**inputs, "token_ids": inputs["token_ids"] + (np.arange(7) == 4)}
    for bidirectional in (False, True):
        model = shaken(recurrent_tagger(31, 3, bidirectional=bidirectional, **SMALL))
        moved = np.abs(np.asarray(model(changed)) - np.asarray(model(inputs))).max(axis=(0, 2))
        assert (moved[4:] > 1e-6).all()
        assert (moved[:4] > 1e-6).all() == bidirectional
        assert bidirectional or (moved[:4] == 0).all()


def test_the_lstm_and_the_attention_written_out():
    model = shaken(recurrent_classifier(30, 3, bidirectional=False, **SMALL))
    inputs = features()
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    x = weights["token_embedding"][0][inputs["token_ids"]]
    x = x + weights["segment_embedding"][0][inputs["segment_ids"]]
    kernel, recurrent, bias = weights["lstm1"]
    h = c = np.zeros((3, 4))
    states = []
    for step in range(7):
        i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent + bias, 4, axis=-1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        states.append(h)
    states = np.stack(states, axis=1)
    kernel, bias, query = weights["attention"]
    scores = np.exp((np.tanh(states @ kernel + bias) @ query)[..., 0]) * inputs["padding_mask"]
    scores = scores / scores.sum(-1, keepdims=True)
    kernel, bias = weights["logits"]
    wanted = np.einsum("bt,btu->bu", scores, states) @ kernel + bias
    np.testing.assert_allclose(model(inputs), wanted, atol=1e-5)
    found = attention_weights(model, {**inputs, "lengths": np.arange(3)})
    np.testing.assert_allclose(found, scores, atol=1e-5)


def test_the_features_are_those_of_bert():
    for build in (recurrent_classifier, recurrent_tagger):
        assert set(build(30, 3, **SMALL).input) == set(FEATURES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "cell", "normalized"),
    [
        (recurrent_classifier, "lstm", False),
        pytest.param(recurrent_classifier, "lstm", True, marks=pytest.mark.slow),
        pytest.param(recurrent_classifier, "gru", True, marks=pytest.mark.slow),
        (recurrent_classifier, "rnn", True),
        (recurrent_tagger, "gru", False),
    ],
)
def test_every_model_survives_saving_and_compiles(build, cell, normalized, tmp_path):
    model = shaken(build(30, 3, cell, layer_normalization=normalized, **SMALL))
    inputs = features()
    answer = np.asarray(model(inputs))
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(restored(inputs), answer, atol=1e-6)
    # As a server does it: a graph of any batch and length, of which XLA compiles one.
    signature = {name: tf.TensorSpec((None, None), tf.int32) for name in inputs}
    graph = tf.function(lambda x: model(x), input_signature=[signature], autograph=False)
    graph = graph.get_concrete_function()
    compiled = tf.function(lambda x: graph(*tf.nest.flatten(x)), jit_compile=True)
    np.testing.assert_allclose(compiled(inputs), answer, atol=1e-5)


@pytest.mark.parametrize("pooling", ["last", "max"])
def test_every_pooling_compiles(pooling):
    model = recurrent_classifier(30, 3, pooling=pooling, **SMALL)
    compiled = tf.function(model, jit_compile=True, autograph=False)(features())
    np.testing.assert_allclose(compiled, model(features()), atol=1e-5)


@pytest.mark.parametrize(
    ("cell", "pooling"),
    [*((cell, "attention") for cell in CELLS), ("lstm", "last"), ("gru", "max")],
)
def test_mixed_precision_gives_logits_in_float32(cell, pooling):
    plain = shaken(recurrent_classifier(30, 3, cell, pooling=pooling, **SMALL))
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = recurrent_classifier(30, 3, cell, pooling=pooling, **SMALL)
    model.set_weights(plain.get_weights())
    logits = model(features())
    assert logits.dtype == "float32"
    np.testing.assert_allclose(logits, plain(features()), atol=0.05)


@pytest.mark.parametrize(
    ("build", "cell", "normalized"),
    [
        (recurrent_classifier, "lstm", False),
        pytest.param(recurrent_classifier, "lstm", True, marks=pytest.mark.slow),
        pytest.param(recurrent_classifier, "gru", True, marks=pytest.mark.slow),
        (recurrent_classifier, "rnn", True),
        (recurrent_tagger, "gru", False),
    ],
)
def test_the_loss_falls_on_one_batch(build, cell, normalized):
    model = build(30, 3, cell, dropout=0.0, layer_normalization=normalized, **SMALL)
    labels = np.arange(3) if build is recurrent_classifier else np.arange(21).reshape(3, 7) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss, run_eagerly=True)
    losses = []
    for _ in range(4):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(features(), labels)))
    assert losses[-1] < 0.9 * losses[0]


def test_dropout_drops_embeddings_layers_and_pooled_features():
    model = recurrent_classifier(30, 3, layers=3, dropout=0.2, **SMALL)
    rates = {layer.name: layer.rate for layer in model.layers if "dropout" in layer.name}
    assert rates == dict.fromkeys(["embedding_dropout", "dropout1", "dropout2", "dropout"], 0.2)


def test_without_cudnn_reaches_every_layer():
    model = recurrent_classifier(30, 3, layers=2, **SMALL)
    one_way = recurrent_tagger(30, 3, "gru", bidirectional=False, **SMALL)
    inputs = model.input
    without_cudnn(keras.Model(inputs, [model(inputs), one_way(inputs)]))
    both = (model.get_layer(f"bidirectional_lstm{number}") for number in (1, 2))
    layers = [layer for each in both for layer in (each.forward_layer, each.backward_layer)]
    assert all(layer.use_cudnn is False for layer in (*layers, one_way.get_layer("gru1")))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"cell": "qrnn"}, "`cell` must be one of lstm, gru, rnn"),
        ({"pooling": "mean"}, "`pooling` must be one of attention, last, max"),
        ({"layers": 0}, "`layers` must be at least 1"),
    ],
    ids=str,
)
def test_unknown_choices_are_refused(choices, message):
    with pytest.raises(ValueError, match=message):
        recurrent_classifier(30, 3, **choices)


def test_weights_of_a_model_without_attention_are_refused():
    model = recurrent_classifier(30, 3, pooling="max", **SMALL)
    with pytest.raises(ValueError, match="must pool by attention"):
        attention_weights(model, features())


def as_pair(first, second, tokens=9) -> dict[str, np.ndarray]:
    """Encodes a pair as `[CLS] first [SEP] second [SEP]`, ids 2 and 3."""
    ids = [2, *first, 3, *second, 3]
    segments = [0] * (len(first) + 2) + [1] * (len(second) + 1)
    rows = {"token_ids": ids, "segment_ids": segments, "padding_mask": [1] * len(ids)}
    return {
        name: np.pad(np.array([row], "int32"), ((0, 0), (0, tokens - len(ids))))
        for name, row in rows.items()
    }


@pytest.mark.parametrize("pooling", POOLS)
def test_a_pair_is_the_combination_of_its_texts_read_by_the_same_weights(pooling):
    model = shaken(recurrent_classifier(30, 3, pooling=pooling, pairs=True, **SMALL))
    u_and_v = keras.Model(model.input, model.get_layer("dropout").output)
    u, v = np.asarray(u_and_v(as_pair([7, 8], [9, 5, 6])))
    # Each text is read as if it were the first and the other one were another.
    for first, second in (([7, 8], [6]), ([9, 5, 6], [])):
        alone = np.asarray(u_and_v(as_pair(first, second)))[0]
        np.testing.assert_allclose(alone, u if first == [7, 8] else v, atol=1e-6)
    combined = np.concatenate([u, v, np.abs(u - v), u * v])
    kernel, bias = model.get_layer("combined").get_weights()
    hidden = np.maximum(combined @ kernel + bias, 0)
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(
        model(as_pair([7, 8], [9, 5, 6]))[0], hidden @ kernel + bias, atol=1e-5
    )
    compiled = tf.function(model, jit_compile=True, autograph=False)
    np.testing.assert_allclose(
        compiled(as_pair([7, 8], [9, 5, 6], 20)), model(as_pair([7, 8], [9, 5, 6])), atol=1e-5
    )


def test_attention_to_a_pair_stands_at_the_tokens_of_the_pair():
    model = shaken(recurrent_classifier(30, 3, pairs=True, **SMALL))
    pairs = [as_pair([7, 8], [9]), as_pair([9], [7, 8, 6])]
    inputs = {name: np.concatenate([pair[name] for pair in pairs]) for name in pairs[0]}
    found = np.asarray(attention_weights(model, inputs))
    swapped = np.asarray(attention_weights(model, as_pair([9], [7, 8])))[0]
    np.testing.assert_allclose(found[0, 1:4], swapped[3:6], atol=1e-6)
    np.testing.assert_allclose(found[0, 4:6], swapped[1:3], atol=1e-6)
    np.testing.assert_allclose(found[0, 1:4].sum(), 0.5, atol=1e-6)
    assert (found[:, 0] == 0).all() and (found[0, 6:] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-6)
    # A row of padding alone has no token to attend to.
    nothing = {name: np.zeros((1, 9), "int32") for name in inputs}
    assert np.isfinite(np.asarray(model(nothing))).all()
    assert (np.asarray(attention_weights(model, nothing)) == 0).all()


@pytest.mark.parametrize("build", [recurrent_classifier, recurrent_tagger])
def test_vectors_are_the_embeddings_that_training_begins_with(build):
    vectors = np.arange(60, dtype="float32").reshape(30, 2)
    model = build(30, 3, units=4, vectors=vectors)
    layer = model.get_layer("token_embedding")
    assert layer.trainable
    np.testing.assert_array_equal(layer.get_weights()[0], vectors)
