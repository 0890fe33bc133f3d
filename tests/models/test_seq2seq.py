import keras
import numpy as np
import pytest

from models.seq2seq import seq2seq


def test_there_are_as_many_parameters_as_on_paper():
    v, u = 50, 8
    gru = 3 * (u * u // 4 + u * u // 2 + u)  # Of 4 features from 8, with two biases.
    gru = 3 * (u * (u // 2) + (u // 2) ** 2 + 2 * (u // 2))
    decoder = 3 * (u * u + u * u + 2 * u)
    none = v * u + 2 * gru + decoder
    assert seq2seq(v, "gru", "none", units=u).count_params() == none
    attentional = 2 * u * u
    assert seq2seq(v, "gru", "luong", "dot", u).count_params() == none + attentional
    general = none + attentional + u * u
    assert seq2seq(v, "gru", "luong", "general", u).count_params() == general
    concat = none + attentional + 2 * u * u + u
    assert seq2seq(v, "gru", "luong", "concat", u).count_params() == concat
    bahdanau = none + 3 * u * u + (2 * u * u + u) + 3 * u * u
    assert seq2seq(v, "gru", "bahdanau", units=u).count_params() == bahdanau


@pytest.mark.parametrize("score", ["dot", "general", "concat"])
def test_the_scores_are_those_of_luong(score):
    model = seq2seq(20, "gru", "luong", score, units=4)
    ids = {"source_ids": np.array([[3, 4, 1]], "int32"), "target_ids": np.array([[1, 7]], "int32")}
    encoder, decoder, attended = (
        keras.Model(model.input, model.get_layer(name).output)
        for name in ("encoder", "decoder", "attended")
    )
    source, state = np.asarray(encoder(ids)[0])[0], np.asarray(decoder(ids))[0]
    layers = {layer.name: layer.get_weights() for layer in model.layers}
    if score == "concat":
        (query,), (key,), (scale,) = (
            layers[f"attention_{name}"] for name in ("query", "key", "weights")
        )
        scores = np.array([[np.tanh(s @ query + h @ key) @ scale for h in source] for s in state])
    else:
        keys = source @ layers["attention_key"][0] if score == "general" else source
        scores = state @ keys.T
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    expected = np.concatenate([weights @ source, state], axis=1)
    np.testing.assert_allclose(attended(ids)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell": "rnn"}, "`cell` must be one of gru, lstm"),
        ({"attention": "self"}, "`attention` must be one of bahdanau, luong, none"),
        ({"score": "cosine"}, "`score` must be one of dot, general, concat"),
        ({"units": 7}, "`units` must be even"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        seq2seq(20, **settings)
