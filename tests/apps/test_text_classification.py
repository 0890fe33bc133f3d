import csv
import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import text_classification as app
from models import bert, elmo, gpt
from preprocessing.tokens import Characters
from serving import checks
from training.setup import prepare

ODD = [
    "",
    "word " * 10_000,
    "\U0001f600 \U0001f468‍\U0001f469‍\U0001f467",
    "شكرا جزيلا",
    "a\0b",
    b"\xff\xfe not UTF-8",
]


PAIRS = {"text_column": "first", "pair_column": "second", "label_column": "colour"}


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bert.BERT_SIZES, "tiny", bert.BertSize(1, 16, 2))
        patch.setitem(gpt.GPT_SIZES, "tiny", gpt.GPTSize(1, 16, 2))
        patch.setitem(elmo.ELMO_SIZES, "tiny", elmo.ElmoSize(8, 4, 1, ((1, 4), (2, 4))))
        yield


def config(out: Path, **changes) -> app.Config:
    small = {"length": 24, "vocabulary_size": 600, "batch_size": 32, "epochs": 1}
    if changes.get("model") not in (*app.BERT, *app.GPT):
        small["units"] = 16
    return app.Config(**{**small, "out": out, **changes})


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """Sentences whose class is a word in them, with a second sentence that denies or repeats it."""
    path = tmp_path_factory.mktemp("data") / "colours.csv"
    rng = np.random.default_rng(0)
    names, things = ["red", "green", "blue"], ["house", "car", "tree", "dog", "hat"]
    rows = []
    for number in range(300):
        colour, thing = rng.choice(names), rng.choice(things)
        rows.append([f"the {colour} {thing} number {number}", f"a {colour} one", colour])
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["first", "second", "colour"], *rows])
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, colours, run_here) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("runs") / "colours"
    columns = {"text_column": "first", "label_column": "colour"}
    chosen = config(folder, data=str(colours), epochs=12, learning_rate=0.01, **columns)
    return folder, run_here(app, chosen)


def test_texts_are_learnt_and_the_run_folder_is_whole(trained):
    folder, scores = trained
    assert scores["accuracy"] > 0.9
    assert sorted(path.name for path in folder.glob("[!.]*")) == [
        "1",
        "config.json",
        "example.csv",
        "history.csv",
        "model.keras",
        "report.html",
        "scores.json",
    ]
    assert json.loads((folder / "scores.json").read_text()) == scores
    report = (folder / "report.html").read_text()
    assert "Confusion matrix" in report and "Attention in test text 1" in report


def test_both_signatures_answer_as_the_keras_model(trained, colours):
    folder, _ = trained
    served = tf.saved_model.load(folder / "1")
    model = keras.models.load_model(folder / "model.keras", compile=False)
    chosen = config(folder, data=str(colours), text_column="first", label_column="colour")
    data = app.load(chosen)
    reader = app.make_reader(chosen, data)
    texts = np.array([texts for texts, _ in data.test.take(5).as_numpy_iterator()], object)
    features = reader.encode(tf.constant(texts), True)
    logits = model.predict(features, verbose=0)
    np.testing.assert_allclose(
        served.signatures["from_tokens"](**features)["logits"], logits, atol=1e-5
    )
    answer = served.signatures["serving_default"](text=tf.constant(texts[:, 0]))
    assert [name.decode() for name in answer["classes"].numpy()[:, 0]] == [
        data.classes[index] for index in logits.argmax(axis=1)
    ]
    best = tf.reduce_max(tf.nn.softmax(logits), axis=1)
    np.testing.assert_allclose(answer["scores"][:, 0], best, atol=1e-5)


def test_any_text_gets_an_answer_and_leaves_its_neighbours_alone(trained):
    folder, _ = trained
    ask = tf.saved_model.load(folder / "1").signatures["serving_default"]
    alone = ask(text=tf.constant(["the red house"]))["scores"]
    among = ask(text=tf.constant([*ODD, "the red house"]))["scores"]
    assert among.shape == (len(ODD) + 1, 3)
    assert np.isfinite(among).all()
    np.testing.assert_allclose(among[-1:], alone, atol=1e-5)


def test_the_export_passes_every_check_of_verify(trained):
    folder, _ = trained
    assert [found for found in checks.run(folder / "1") if not found.passed] == []


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (
            "lstm",
            {"layers": 2, "bidirectional": False, "layer_normalization": True, "pooling": "last"},
        ),
        (
            "bert_tiny",
            {"layer_decay": 0.8, "pooling": "mean", "attention_head": 1, "symmetric": True},
        ),
        ("gpt_tiny", {"symmetric": True}),
    ],
)
def test_every_family_takes_pairs(model, changes, colours, tmp_path, shorten):
    shorten(app)
    chosen = config(tmp_path, data=str(colours), model=model, **PAIRS, **changes)
    app.main(chosen)
    served = tf.saved_model.load(tmp_path / "1").signatures["serving_default"]
    answer = served(text=tf.constant(["the red hat"]), pair=tf.constant(["a red one"]))
    assert answer["scores"].shape == (1, 3)
    assert float(tf.reduce_sum(answer["scores"])) == pytest.approx(1.0, abs=1e-5)
    if chosen.symmetric:
        swapped = served(text=tf.constant(["a red one"]), pair=tf.constant(["the red hat"]))
        np.testing.assert_allclose(swapped["scores"], answer["scores"], atol=1e-6)


def test_a_pretrained_elmo_stays_as_it_is_and_answers_any_pair(colours, tmp_path, shorten):
    shorten(app)
    backbone = elmo.elmo_backbone("tiny")
    elmo.save_elmo(backbone, tmp_path / "preset")
    preset = str(tmp_path / "preset")
    chosen = config(tmp_path / "run", data=str(colours), model="elmo", preset=preset, **PAIRS)
    app.main(chosen)
    model = keras.models.load_model(chosen.out / "model.keras", compile=False)
    found = model.get_layer("elmo").get_weights()
    for before, after in zip(backbone.get_weights(), found, strict=True):
        np.testing.assert_array_equal(before, after)
    served = tf.saved_model.load(chosen.out / "1").signatures
    texts, others = tf.constant([*ODD, "a red hat"]), tf.constant(["a red hat", *ODD])
    scores = served["serving_default"](text=texts, pair=others)["scores"]
    features = Characters().encode(tf.stack([texts, others], 1), chosen.length)
    logits = served["from_characters"](**features)["logits"]
    np.testing.assert_allclose(logits, model.predict(features, verbose=0), atol=1e-5)
    np.testing.assert_allclose(scores[:, 0], tf.reduce_max(tf.nn.softmax(logits), 1), atol=1e-5)
    assert "Attention in test text 1" in (chosen.out / "report.html").read_text()


@pytest.mark.parametrize(
    ("model", "freeze", "trained"),
    [
        ("elmo", None, False),
        ("elmo", False, True),
        ("elmo_tiny", None, True),
        ("elmo_tiny", True, False),
    ],
)
def test_elmo_is_trained_unless_it_is_pretrained_or_frozen(
    model, freeze, trained, colours, tmp_path
):
    elmo.save_elmo(elmo.elmo_backbone("tiny"), tmp_path)
    preset = str(tmp_path) if model == "elmo" else "none"
    chosen = config(tmp_path, data=str(colours), model=model, preset=preset, freeze=freeze, **PAIRS)
    data = app.load(chosen)
    built = app.build(chosen, data, app.make_reader(chosen, data))
    weights = {id(weight) for weight in built.trainable_weights}
    assert all((id(w) in weights) == trained for w in built.get_layer("elmo").weights)


def test_texts_of_no_class_are_refused_by_a_threshold_from_validation(trained, colours):
    folder, _ = trained
    chosen = config(folder, data=str(colours), text_column="first", label_column="colour")
    prepare(0)
    data = app.load(chosen)
    reader = app.make_reader(chosen, data)
    model = keras.models.load_model(folder / "model.keras", compile=False)
    assert app.refusals(chosen, data, reader, model) == {}
    foreign = tf.data.Dataset.from_tensor_slices(([["number"], ["nothing"]], [-1, -1]))
    data.other["test_oos"] = foreign
    found = app.refusals(replace(chosen, out_of_scope="test_oos"), data, reader, model)
    assert found["in_scope_acceptance"] > 0.8
    assert 0 < found["threshold"] < 1
    assert found["out_of_scope_recall"] == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_layer": 1}, "`attention_layer` must be in -1 to 0"),
        ({"attention_head": 2}, "`attention_head` must be in 0 to 1"),
        ({"out_of_scope": "test_oos"}, "`out_of_scope` must be one of the further splits, none"),
    ],
)
def test_what_the_network_and_the_data_lack_is_refused(changes, message, colours, tmp_path):
    chosen = config(tmp_path, data=str(colours), model="bert_tiny", **PAIRS, **changes)
    with pytest.raises(ValueError, match=message):
        data = app.load(chosen)
        app.build(chosen, data, app.make_reader(chosen, data))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "elmo2"}, "`model` must be one of rnn, lstm, gru"),
        ({"model": "bert"}, "`preset` must be given with model elmo or bert or gpt"),
        ({"preset": "folder"}, "`preset` must be given with model elmo or bert or gpt"),
        ({"freeze": True}, "`freeze` is for elmo"),
        ({"layer_decay": 0.9}, "`layer_decay` is for bert"),
        ({"model": "elmo_tiny", "pooling": "max"}, "`pooling` must be attention with model='elmo_"),
        ({"symmetric": True}, "`symmetric` is for gpt.*, bert_tiny"),
        ({"model": "bert_tiny", "layers": 2}, "`layers` is for rnn, lstm, gru. Received"),
        ({"model": "elmo_tiny", "bidirectional": False}, "`bidirectional` is for rnn"),
        ({"model": "gpt_tiny", "units": 64}, "`units` is for rnn, lstm, gru, elmo"),
        ({"attention_head": 0}, "`attention_head` is for bert"),
        ({"pooling": "mean"}, "`pooling` must be attention, last, max with model='gru'"),
        ({"model": "gpt_tiny", "pooling": "last"}, "`pooling` must be None with model='gpt_tiny'"),
        ({"epochs": 0}, "`epochs` must be at least 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)
