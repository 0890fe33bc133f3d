from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from apps import bert_pretraining as app
from data import sentence_pairs
from data.feed import Feed
from data.sentence_pairs import SentencePairs
from metrics import ngrams
from models import bert
from preprocessing.tokens import SPECIAL_TOKENS, WordPieces
from serving.signature import ask
from tests.apps.every_app import Small

COLORS = ["red", "green", "blue", "white", "black"]
THINGS = ["house", "car", "tree", "dog", "hat", "boat", "door"]
ODD = [
    "",
    "word " * 10_000,
    "[MASK] " * 10_000,
    "\U0001f600 \U0001f468‍\U0001f469‍\U0001f467",
    "a\0b",
    b"\xff\xfe not UTF-8",
]


def colors(folder: Path) -> str:
    """Writes documents about things of one color each."""
    random = np.random.default_rng(0)
    for split, count in {"train": 40, "dev": 8, "test": 8}.items():
        documents = []
        for _ in range(count):
            color, lines = random.choice(COLORS), []
            for thing in random.permutation(THINGS):
                lines.append(f"The {thing} that he had seen was a {color} {thing} again.")
            documents.append("\n".join(lines))
        (folder / f"{split}.txt").write_text("\n\n".join(documents))
    return str(folder)


SMALL = Small(
    write=colors,
    settings={
        "epochs": 4,
        "batch_size": 16,
        "length": 32,
        "vocabulary_size": 120,
        "learning_rate": 0.01,
    },
    beats=("-masked_perplexity", 12),
    sections=["Hidden word pieces of the test texts", "Predictions for gaps"],
    few=("new.txt", "The house that he had seen was a red house again."),
    odd=[{"text": text} for text in ODD],
    free=["vocabulary"],
    ignored=[
        {"preset": "folder"},
        {"model": "bert", "preset": "folder", "dropout": 0.5},
        {"model": "bert", "preset": "folder", "lowercase": False},
        {"model": "bert", "preset": "folder", "vocabulary": "vocab.txt"},
        {"model": "bert", "preset": "folder", "vocabulary_size": 100},
        {"vocabulary": "vocab.txt", "vocabulary_size": 100},
    ],
    files=["preset", "tokenizer"],
)


class Parts(NamedTuple):
    """What a run makes before it trains."""

    config: app.Config
    rows: SentencePairs
    counts: ngrams.Ngrams
    fed: Feed
    model: keras.Model

    @property
    def served(self):
        return app.signatures(self.config, self.rows)["serving_default"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return colors(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def parts(data) -> Parts:
    chosen = app.Config(data=data, length=32, vocabulary_size=120)
    texts = app.load(chosen)
    pieces = app.tokenizer(chosen, texts)
    rows = sentence_pairs.arrange(texts, pieces, chosen.length, chosen.seed)
    counts = ngrams.Ngrams.counted(*ngrams.with_previous(rows.documents), pieces.vocabulary_size)
    return Parts(chosen, rows, counts, app.feed(chosen, rows), app.build(chosen, pieces, counts))


@pytest.fixture(scope="module")
def preset(parts, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("run") / "preset"
    app.save(parts.config, parts.rows.pieces, parts.model, folder)
    return str(folder)


def test_a_new_network_predicts_the_frequencies_of_pieces(parts):
    (bias,) = (w for w in parts.model.get_layer("masked_words").weights if w.name == "output_bias")
    np.testing.assert_allclose(bias, np.log(parts.counts.unigram), rtol=1e-5)


def test_scores_are_those_of_the_logits_at_fixed_hidden_words(parts):
    scores = app.evaluate(parts.config, parts.fed, parts.rows, parts.counts, parts.model)
    losses, hits = [], []
    for features, labels, weights in parts.fed.evaluation("test", 64).as_numpy_iterator():
        probabilities = tf.nn.softmax(parts.model(features)["masked_words"]).numpy()
        for row, column in np.argwhere(weights["masked_words"] > 0):
            true = labels["masked_words"][row, column]
            losses.append(-np.log(probabilities[row, column, true]))
            hits.append(probabilities[row, column].argmax() == true)
    assert scores["masked_perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)
    assert scores["masked_accuracy"] == pytest.approx(np.mean(hits))
    assert 1 < scores["bigram_perplexity"] < scores["unigram_perplexity"] < 120


def test_a_resumed_run_hides_the_words_that_an_uninterrupted_one_hides(parts):
    feeding = {"batch_size": 16, "seed": 0, "epochs": 2}
    first, second = list(parts.fed.training(**feeding).take(2))
    again = next(iter(parts.fed.training(**feeding, start_step=1)))
    assert first[0]["mask_positions"].shape[0] == 16
    tf.nest.map_structure(np.testing.assert_array_equal, again, second)


def test_gaps_are_filled_as_the_network_predicts(parts):
    pieces = parts.rows.pieces
    texts = ["the [MASK] that he[MASK] seen", "no gap", "a [MASK]"]
    answer = ask(parts.served, parts.model, {"text": texts})
    assert answer["words"].shape == answer["scores"].shape == (3, 2, 5)
    the, that, he, seen = pieces.ids(tf.constant(["the", "that", "he", "seen"])).to_list()
    gap = [pieces.mask_id]
    line = [pieces.start_id, *the, *gap, *that, *he, *gap, *seen, pieces.end_id]
    features = {
        "token_ids": tf.constant([line]),
        "segment_ids": tf.zeros((1, len(line)), tf.int32),
        "padding_mask": tf.ones((1, len(line)), tf.int32),
        "mask_positions": tf.constant([np.flatnonzero(np.equal(line, pieces.mask_id))], tf.int32),
    }
    probabilities = tf.nn.softmax(parts.model(features)["masked_words"])[0].numpy()
    best = np.argsort(-probabilities, axis=-1)[:, :5]
    np.testing.assert_allclose(
        answer["scores"][0], np.take_along_axis(probabilities, best, 1), atol=1e-5
    )
    assert answer["words"][0, 0, 0].decode() == pieces.id_to_token(int(best[0, 0]))
    assert not answer["scores"][1].any() and (answer["words"][1] == b"").all()
    assert answer["scores"][2].any(axis=-1).tolist() == [True, False]


def test_other_apps_get_the_features_of_the_trained_network(parts, preset):
    pieces = WordPieces.from_preset(preset)
    features = pieces.encode(tf.constant([["the blue dog", "a red hat."]]), 16)
    backbone = bert.pretrained_backbone(preset)
    encoder = keras.Model(
        {name: parts.model.input[name] for name in bert.FEATURES},
        parts.model.get_layer("transformer_layer_0").output,
    )
    assert pieces.vocabulary_size == backbone.vocabulary_size <= 120
    np.testing.assert_allclose(backbone(features)["sequence_output"], encoder(features), atol=1e-5)


def test_kerashub_takes_the_preset(parts, preset):
    classifier = keras_hub.models.BertTextClassifier.from_preset(preset, num_classes=2)
    assert classifier.preprocessor.sequence_length == parts.config.length
    assert classifier.preprocessor(["the blue dog"])["token_ids"].shape == (1, 32)


def test_a_run_continues_with_a_preset(parts, preset, data):
    chosen = app.Config(data=data, model="bert", preset=preset, length=32)
    pieces = app.tokenizer(chosen, app.load(chosen))
    assert pieces.tokenizer.vocabulary == parts.rows.pieces.tokenizer.vocabulary
    further = app.build(chosen, pieces, parts.counts)
    for layer in bert.pretrained_backbone(preset).layers:
        old, new = (model.get_layer(layer.name).get_weights() for model in (parts.model, further))
        assert all(map(np.array_equal, old, new))
    with pytest.raises(ValueError, match="`length` must be at most 32"):
        app.build(replace(chosen, length=64), pieces, parts.counts)


def test_a_vocabulary_that_is_given_is_used(data, tmp_path):
    names = [*SPECIAL_TOKENS, *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "aeiou"), "the"]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(names))
    chosen = app.Config(data=data, vocabulary=str(path))
    pieces = app.tokenizer(chosen, app.load(chosen))
    assert pieces.tokenizer.vocabulary == names
    assert pieces.ids(tf.constant(["The"])).to_list() == [[len(names) - 1]]
