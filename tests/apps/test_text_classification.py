import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import text_classification as app
from serving import verify
from training.setup import prepare

ODD = [
    "",
    "word " * 10_000,
    "\U0001f600 \U0001f468‍\U0001f469‍\U0001f467",
    "شكرا جزيلا",
    "a\0b",
    b"\xff\xfe not UTF-8",
]


def config(out: Path, **changes) -> app.Config:
    small = {"units": 16, "length": 24, "vocabulary_size": 600, "batch_size": 32, "epochs": 1}
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
def trained(tmp_path_factory, colours) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("runs") / "colours"
    columns = {"text_column": "first", "label_column": "colour"}
    chosen = config(folder, data=str(colours), epochs=12, learning_rate=0.01, **columns)
    return folder, app.main(chosen)


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


def test_the_export_passes_every_check_of_verify(trained, capsys):
    folder, _ = trained
    assert verify.main(folder) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("lstm", {"layers": 2, "layer_normalization": True, "pooling": "last"}),
        ("bert_tiny", {"layer_decay": 0.8, "pooling": "mean", "attention_head": 1}),
        ("gpt_tiny", {"symmetric": True}),
    ],
)
def test_every_family_takes_pairs(model, changes, colours, tmp_path, monkeypatch):
    # The process that asks the export takes seconds, and one test of it is enough.
    monkeypatch.setattr(app, "answer_one", lambda *arguments: None)
    columns = {"text_column": "first", "pair_column": "second", "label_column": "colour"}
    chosen = config(tmp_path, data=str(colours), model=model, **columns, **changes)
    app.main(chosen)
    served = tf.saved_model.load(tmp_path / "1").signatures["serving_default"]
    answer = served(text=tf.constant(["the red hat"]), pair=tf.constant(["a red one"]))
    assert answer["scores"].shape == (1, 3)
    assert float(tf.reduce_sum(answer["scores"])) == pytest.approx(1.0, abs=1e-5)


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
    found = app.refusals(chosen, data, reader, model)
    assert found["in_scope_acceptance"] > 0.8
    assert 0 < found["threshold"] < 1
    assert found["out_of_scope_recall"] == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "elmo2"}, "`model` must be one of rnn, lstm, gru"),
        ({"model": "bert"}, "`preset` goes with the models bert and gpt"),
        ({"preset": "folder"}, "`preset` goes with the models bert and gpt"),
        ({"symmetric": True}, "`symmetric` is for gpt"),
        ({"pooling": "mean"}, "`pooling` must be attention, last, max with model='gru'"),
        ({"model": "gpt_tiny", "pooling": "last"}, "`pooling` must be None with model='gpt_tiny'"),
        ({"epochs": 0}, "`epochs` must be at least 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)
