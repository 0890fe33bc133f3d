from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import elmo_pretraining as app
from data import word_rows
from data.word_rows import WordRows
from metrics.ngrams import Ngrams
from models import elmo
from preprocessing.tokens import Characters
from serving.signature import ask
from tests.apps.every_app import Small
from tests.apps.test_bert_pretraining import ODD, colors

SMALL = Small(
    write=colors,
    settings={
        "epochs": 2,
        "batch_size": 32,
        "length": 12,
        "vocabulary_size": 120,
        "learning_rate": 0.02,
    },
    beats=("-perplexity", 8),
    sections=["Words of the test texts, predicted from one side", "Least expected words"],
    few=("new.txt", "The house that he had seen was a red house again."),
    odd=[{"text": text} for text in ODD],
    ignored=[{"preset": "folder"}, {"model": "elmo", "preset": "folder", "dropout": 0.5}],
    files=["preset", "tokenizer"],
)


class Parts(NamedTuple):
    """What a run makes before it trains."""

    config: app.Config
    rows: WordRows
    counts: Ngrams
    model: keras.Model


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return colors(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def parts(data) -> Parts:
    chosen = app.Config(data=data, length=12, vocabulary_size=30)
    rows = word_rows.arrange(app.load(chosen), chosen.vocabulary_size, chosen.length)
    pairs = rows.contexts_and_targets("train")["forward"]
    counts = Ngrams.counted(*pairs, rows.words.vocabulary_size)
    return Parts(chosen, rows, counts, app.build(chosen, rows, counts))


@pytest.fixture(scope="module")
def preset(parts, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("run") / "preset"
    app.save(parts.config, parts.model, folder)
    return str(folder)


def test_a_new_network_predicts_the_frequencies_of_words(parts):
    (bias,) = (w for w in parts.model.get_layer("softmax").weights if w.name == "bias")
    np.testing.assert_allclose(bias, np.log(parts.counts.unigram), rtol=1e-5)


def test_pairs_of_words_predict_better_than_words_alone(parts, data):
    batches = app.feed(parts.config, parts.rows).evaluation("test", 8)
    counts = {
        name: Ngrams.counted(*pair, parts.rows.words.vocabulary_size)
        for name, pair in parts.rows.contexts_and_targets("train").items()
    }
    scores = app.evaluate(parts.rows, counts, parts.model, batches)
    assert 1 < scores["bigram_perplexity"] < scores["unigram_perplexity"] < 30
    # The network begins with the frequencies of words.
    assert scores["perplexity"] == pytest.approx(scores["unigram_perplexity"], rel=0.3)


def test_words_are_measured_as_the_network_predicts_them(parts):
    served = app.signatures(parts.config, parts.rows)["serving_default"]
    answer = ask(served, parts.model, {"text": ["The dog zzz", "", "The"]})
    assert answer["words"][0].tolist() == [b"The", b"dog", b"zzz"]
    names = parts.rows.words.vocabulary
    line = [1, names.index("The"), names.index("dog"), 0, 2]
    logits = parts.model(Characters().encode_words(tf.ragged.constant([["The", "dog", "zzz"]])))
    forward, backward = (tf.nn.log_softmax(logits[name])[0].numpy() for name in app.DIRECTIONS)
    ahead = [forward[position - 1, line[position]] for position in range(1, 5)]
    back = [backward[position + 1, line[position]] for position in range(4)]
    assert answer["perplexity"][0] == pytest.approx(np.exp(-np.mean(ahead + back)), rel=1e-4)
    of_words = np.add(ahead[:3], back[1:]) / 2
    np.testing.assert_allclose(answer["log_probabilities"][0], of_words, atol=1e-4)
    assert not answer["log_probabilities"][1].any()


def test_other_apps_get_the_features_of_the_trained_network(parts, preset):
    characters = Characters().encode_words(tf.ragged.constant([["the", "blue", "dog"], ["hat"]]))
    backbone = elmo.pretrained_elmo(preset)
    top = keras.Model(parts.model.input, parts.model.get_layer("layer2").output)
    np.testing.assert_allclose(backbone(characters)[-1], top(characters), atol=1e-5)


def test_a_run_continues_with_a_preset(parts, preset, data):
    chosen = app.Config(data=data, model="elmo", preset=preset)
    further = app.build(chosen, parts.rows, parts.counts)
    for layer in filter(lambda layer: layer.weights, elmo.pretrained_elmo(preset).layers):
        old, new = (model.get_layer(layer.name).get_weights() for model in (parts.model, further))
        assert all(map(np.array_equal, old, new))
