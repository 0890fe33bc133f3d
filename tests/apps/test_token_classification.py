from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import token_classification as app
from metrics import tagging
from metrics.classification import Evaluation
from models import elmo
from preprocessing import tagged_words, tokens
from preprocessing.readers import word_reader
from tests.apps.every_app import Small

ODD = [
    "",
    "word " * 10_000,
    "\U0001f600 \U0001f468‍\U0001f469‍\U0001f467",
    "شكرا جزيلا",
    "a\0b",
    b"\xff\xfe not UTF-8",
    "\n\t ",
]


def sentence(rng: np.random.Generator, length: int) -> list[tuple[str, str]]:
    """Words and tags: a color and what follows are an entity, `New-York` is a place."""
    words: list[tuple[str, str]] = []
    while len(words) < length:
        kind = rng.integers(4)
        if kind == 0:
            words += [("red", "B-thing"), (str(rng.choice(["car", "hat"])), "I-thing")]
        elif kind == 1:
            words.append(("New-York", "B-place"))
        else:
            words.append((str(rng.choice(["a", "of", ".", "was", "Ärger"])), "O"))
    return words


def things(folder: Path) -> str:
    """Writes sentences of 4 to 30 words, so that some need several rows."""
    rng = np.random.default_rng(0)
    sentences = [sentence(rng, int(rng.integers(4, 30))) for _ in range(150)]
    lines = ["\n".join(f"{word}\t{tag}" for word, tag in words) for words in sentences]
    path = folder / "things.conll"
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


SMALL = Small(
    write=things,
    settings={
        "epochs": 2,
        "units": 16,
        "length": 16,
        "vocabulary_size": 300,
        "batch_size": 8,
        "learning_rate": 0.02,
    },
    beats=("f1", 0.9),
    sections=[
        "Entities by type",
        "Confusion matrix",
        "Calibration",
        "Worst mistakes",
        "Entities in test sentences",
        "Training sentences",
    ],
    few=("new.conll", "a O\nof O\n\nred B-thing\nhat I-thing\n"),
    odd=[{"text": text} for text in ODD],
    free=["tag_column"],
    ignored=[
        {"preset": "folder"},
        {"freeze": False},
        {"layer_decay": 0.9},
        {"model": "bert_tiny", "embeddings": "glove.txt"},
        {"model": "elmo_tiny", "word_dropout": 0.1},
        {"model": "elmo_tiny", "tokens": "words"},
        {"model": "bert", "preset": "folder", "tokens": "words"},
        {"model": "elmo_tiny", "layers": 2},
        {"model": "elmo_tiny", "bidirectional": False},
        {"model": "elmo_tiny", "vocabulary_size": 100},
        {"model": "elmo_tiny", "lowercase": True},
        {"model": "bert_tiny", "units": 64},
        {"model": "bert_tiny", "layer_normalization": True},
        {"model": "bert", "preset": "folder", "lowercase": True},
        {"model": "bert", "preset": "folder", "vocabulary_size": 100},
        {"model": "bert", "preset": "folder", "dropout": 0.5},
    ],
    files=["tokenizer"],
)


SHARES = np.array([0.8, 0.05, 0.05, 0.05, 0.05])
"""Frequencies of the tags that networks begin with."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return app.load(app.Config(data=things(tmp_path_factory.mktemp("data"))))


def parts(data, **changes):
    """Makes what the app does before it trains."""
    chosen = app.Config(**{"length": 16, **changes})
    reader = word_reader(chosen.family, data.words, lowercase=chosen.lowercase, **chosen.reading)
    return chosen, reader, app.build(chosen, reader, SHARES)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "gru", "layers": 2, "bidirectional": False, "layer_normalization": True}
        | {"units": 8, "vocabulary_size": 100},
        pytest.param(
            {"model": "bert_tiny", "layer_decay": 0.8, "lowercase": True, "vocabulary_size": 100},
            marks=pytest.mark.slow,
        ),
        pytest.param({"model": "elmo_tiny", "units": 8}, marks=pytest.mark.slow),
    ],
    ids=lambda changes: changes["model"],
)
def test_every_network_learns_from_a_batch_and_tags_each_word(changes, data):
    _, reader, model = parts(data, **changes)
    words = tf.ragged.constant([["was", "red", "hat"], ["New-York"]])
    next_tags = tagged_words.continuations(data.tags)
    batch = tagged_words.labeled(
        reader.encode, words, tf.ragged.constant([[0, 3, 4], [1]]), next_tags
    )
    loss = keras.losses.SparseCategoricalCrossentropy(True, ignore_class=tagging.IGNORED)
    metric = tagging.EntityF1(data.tags)
    model.compile("adam", loss, metrics=[metric], run_eagerly=True)
    bias = model.get_layer("logits").bias
    np.testing.assert_allclose(tf.nn.softmax(bias), SHARES, rtol=1e-5)
    assert np.isfinite(model.train_on_batch(*batch)).all()
    assert int(metric.num_true) == 2
    signature = app.signatures(data, reader)["serving_default"]
    texts = tf.constant(["", "\U0001f600!", *ODD[3:], "a red hat " * 20])
    answer = signature.answer(signature.compute(model), {"text": texts})
    is_word = answer["starts"] >= 0
    assert tf.math.count_nonzero(is_word, 1).numpy().tolist() == [0, 2, 2, 2, 5, 0, 60]
    for name in ("tags", "words"):
        np.testing.assert_array_equal(answer[name] != b"", is_word)
    np.testing.assert_array_equal(answer["scores"] > 0, is_word)


def test_words_and_tokens_and_whole_splits_are_answered_alike(data):
    chosen, reader, model = parts(data, units=8, vocabulary_size=100)
    signatures = app.signatures(data, reader)
    words = signatures["from_words"].examples["words"]
    features, positions = reader.encode(tf.RaggedTensor.from_tensor(words, padding=b""), False)
    assert len(features["token_ids"]) > len(words)
    logits = signatures["from_tokens"].answer(model, features)["logits"]
    expected = tf.nn.softmax(tokens.at_first_pieces(logits, positions["first_piece"]))
    found = signatures["from_words"].answer(model, {"words": tf.pad(words, [[0, 0], [0, 2]])})
    tagged = app.evaluate(chosen, data, reader, model, "validation")
    assert tagged.lengths.sum() == len(tagged.words.labels) == len(tagged.words.probabilities)
    for row, length in enumerate((words != b"").sum(axis=1)):
        names = [data.tags[i].encode() for i in np.argmax(expected[row, :length], axis=-1)]
        assert found["tags"][row].numpy().tolist()[:length] == names
        assert not any(found["tags"][row].numpy()[length:])
        best = np.max(expected[row, :length], axis=-1)
        np.testing.assert_allclose(found["scores"][row, :length], best, atol=1e-5)
        assert [tag.encode() for tag in tagged.predicted[row]] == names


def test_entities_are_shown_and_the_example_has_some(data):
    labels = np.concatenate([tags for _, tags in data.test.as_numpy_iterator()])
    lengths = np.array([len(tags) for _, tags in data.test.as_numpy_iterator()])
    everywhere = np.eye(len(data.tags))[np.full(len(labels), data.tags.index("B-thing"))]
    test = tagging.Tagging(Evaluation(labels, everywhere), lengths, data.tags)
    *_, mistakes, marked, training = app.report(data, test)
    assert len(mistakes.rows) == 12 and len(marked.texts) == 2 * min(12, len(lengths))
    for word, true, predicted, confidence, sentence, where in mistakes.rows:
        assert word in sentence and true != predicted == "B-thing" and confidence == "100%"
        assert where in data.origins["test"]
    assert len(training.texts) == 8
    assert all(any(kind for _, kind in pieces) for pieces in training.texts)
    assert marked.texts[0][0] == ("True: ", "") and marked.texts[1][0] == ("Predicted: ", "")
    assert ("New-York", "place") in [piece for text in marked.texts for piece in text]
    what, inputs, _ = app.example(data)
    assert what.startswith("a test sentence, true entities: ") and "(" in what
    assert inputs["text"].split() == [
        word.decode() for word in next(data.test.as_numpy_iterator())[0]
    ]


def test_a_pretrained_elmo_is_loaded_as_it_was_saved_and_stays_unless_it_is_not_frozen(
    data, tmp_path
):
    backbone = elmo.elmo_backbone("tiny")
    elmo.save_elmo(backbone, tmp_path)
    for changes, trained in (
        ({"model": "elmo", "preset": str(tmp_path)}, False),
        ({"model": "elmo", "preset": str(tmp_path), "freeze": False}, True),
        ({"model": "elmo_tiny"}, True),
        ({"model": "elmo_tiny", "freeze": True}, False),
    ):
        *_, model = parts(data, units=8, **changes)
        layer = model.get_layer("elmo")
        weights = {id(weight) for weight in model.trainable_weights}
        assert all((id(weight) in weights) == trained for weight in layer.weights)
        if changes["model"] == "elmo":
            for before, after in zip(backbone.get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "elmo2"}, "`model` must be one of rnn, lstm, gru"),
        ({"model": "bert"}, "`preset` must be given with model elmo or bert"),
        ({"freeze": False}, "`freeze` is for the models elmo, elmo_tiny"),
        ({"model": "bert", "preset": "x", "lowercase": True}, "`lowercase` is for the models rnn"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        app.Config(**changes)
