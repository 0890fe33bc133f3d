import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from apps import text_classification as app
from metrics import classification
from models import elmo
from preprocessing.readers import text_reader
from runs.report import Picture, Shaded
from tests.apps.every_app import Small

ODD = [
    "",
    "word " * 10_000,
    "\U0001f600 \U0001f468‍\U0001f469‍\U0001f467",
    "شكرا جزيلا",
    "a\0b",
    b"\xff\xfe not UTF-8",
]
PAIRS = {"text_column": "first", "pair_column": "second", "label_column": "color"}


def colors(folder: Path) -> str:
    """Writes sentences whose class is a word in them, with a second sentence that repeats it."""
    rng = np.random.default_rng(0)
    names, things = ["red", "green", "blue"], ["house", "car", "tree", "dog", "hat"]
    rows = []
    for number in range(300):
        color, thing = rng.choice(names), rng.choice(things)
        rows.append([f"the {color} {thing} number {number}", f"a {color} one", color])
    path = folder / "colors.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["first", "second", "color"], *rows])
    return str(path)


SMALL = Small(
    write=colors,
    settings={
        "text_column": "first",
        "label_column": "color",
        "epochs": 3,
        "units": 16,
        "length": 24,
        "vocabulary_size": 300,
        "batch_size": 16,
        "learning_rate": 0.02,
    },
    beats=("accuracy", 0.8),
    sections=[
        *("Scores by class", "Confusion matrix", "Most frequent errors", "Calibration"),
        *("Worst mistakes", "Correct predictions", "Training texts", "Attention in test texts"),
    ],
    few=("new.csv", "text,label\nthe red house number 9,red\n"),
    odd=[{"text": text} for text in ODD],
    bad={"pooling": "no_such_pooling", "orders": "no_such_order"},
    free=[
        *("text_column", "pair_column", "label_column", "out_of_scope"),
        "windows",
        *("attention_layer", "attention_head"),
    ],
    ignored=[
        {"preset": "folder"},
        {"freeze": True},
        {"layer_decay": 0.9},
        {"model": "bert_tiny", "embeddings": "glove.txt"},
        {"model": "elmo_tiny", "word_dropout": 0.1},
        {"model": "elmo_tiny", "tokens": "words"},
        {"model": "bert", "preset": "folder", "tokens": "words"},
        {"orders": "symmetric"},
        {"attention_head": 0},
        {"attention_layer": 0},
        {"pooling": "mean"},
        {"model": "elmo_tiny", "pooling": "max"},
        {"model": "elmo_tiny", "bidirectional": False},
        {"model": "elmo_tiny", "vocabulary_size": 100},
        {"model": "bert_tiny", "layers": 2},
        {"model": "bert_tiny", "layer_normalization": True},
        {"model": "gpt_tiny", "units": 64},
        {"model": "gpt_tiny", "pooling": "last"},
        {"model": "bert", "preset": "folder", "vocabulary_size": 100},
        {"model": "bert", "preset": "folder", "dropout": 0.5},
        {"model": "gpt", "preset": "folder", "dropout": 0.5},
        {"model": "gpt", "preset": "folder", "word_dropout": 0.1},
    ],
    files=["tokenizer"],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(colors(tmp_path_factory.mktemp("data")))


def parts(data: str, **changes):
    """Loads and builds what an app does before it trains."""
    small = {"length": 24, "data": data, **PAIRS, **changes}
    chosen = app.Config(**small)
    loaded = app.load(chosen)
    reader = text_reader(chosen.family, loaded.texts, **chosen.reading)
    return chosen, loaded, reader, app.build(chosen, loaded, reader)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "lstm", "layers": 2, "bidirectional": False, "layer_normalization": True}
        | {"pooling": "last", "units": 8},
        pytest.param(
            {"model": "bert_tiny", "pooling": "mean", "orders": "symmetric", "attention_head": 1},
            marks=pytest.mark.slow,
        ),
        pytest.param({"model": "gpt_tiny", "orders": "symmetric"}, marks=pytest.mark.slow),
        pytest.param({"model": "elmo_tiny", "units": 8}, marks=pytest.mark.slow),
    ],
    ids=lambda changes: changes["model"],
)
def test_every_family_takes_pairs(changes, data):
    chosen, loaded, reader, model = parts(data, **changes)
    batch = next(iter(app.feed(chosen, loaded, reader).evaluation("validation", 4)))
    model.compile("adam", "mse", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(*batch))
    signature = app.signatures(loaded, reader)["serving_default"]
    texts = tf.constant(["the red hat", *ODD, "a red one"])
    answer = signature.answer(signature.compute(model), {"text": texts, "pair": texts[::-1]})
    assert answer["scores"].shape == (8, 3)
    np.testing.assert_allclose(tf.reduce_sum(answer["scores"], 1), 1.0, atol=1e-5)
    if chosen.orders == "symmetric":
        np.testing.assert_allclose(answer["scores"], answer["scores"][::-1], atol=1e-5)
    sections = list(app.attended(chosen, loaded, reader, model))
    shown = {"bert": [Picture] * 3, "elmo": [Shaded]}.get(chosen.family, [])
    assert [type(section) for section in sections] == shown


@pytest.mark.slow
def test_texts_of_no_class_are_refused_by_the_threshold_of_validation(data, monkeypatch):
    chosen, loaded, reader, model = parts(data, units=8)
    outside = loaded.test.map(lambda texts, label: (tf.strings.upper(texts), -tf.ones_like(label)))
    loaded = replace(loaded, other={"oos": outside})
    given = {}
    monkeypatch.setattr(app, "load", lambda config: loaded)
    monkeypatch.setattr(app, "text_reader", lambda family, texts, **options: reader)
    monkeypatch.setattr(app, "train", lambda *arguments, **options: SimpleNamespace(model=model))
    monkeypatch.setattr(app, "finish", lambda run, trained, **options: given.update(options))
    app.main(replace(chosen, out_of_scope="oos"))
    fed = app.feed(chosen, loaded, reader)
    validation, test, other = (
        classification.evaluate(model, fed.evaluation(split, 32))
        for split in ("validation", "test", "oos")
    )
    expected = classification.refusals(validation, test, other)
    assert expected.items() <= given["scores"].items() and expected
    assert given["scores"]["accuracy"] == test.scores["accuracy"]


def test_a_pretrained_bert_reads_pairs_in_both_orders_and_single_texts_in_one(data):
    chosen = app.Config(model="bert", preset="folder")
    assert chosen.orders == "both" and app.Config(model="gpt", preset="folder").orders == "given"
    assert app.Config().orders == app.Config(model="bert_tiny").orders == "given"
    pairs = parts(data, model="bert_tiny", orders="both")
    single = parts(data, model="bert_tiny", orders="both", pair_column=None)
    for made, shape in ((pairs, (2, 2, 24)), (single, (2, 24))):
        _, loaded, reader, model = made
        batch, _ = reader.read_columns(loaded.table("test", 2).values(), True)
        assert batch["token_ids"].shape == shape
        assert model(batch).shape == (2, 3)


@pytest.mark.parametrize(("columns", "orders"), [(1, "given"), (2, "both")])
def test_the_network_of_a_run_reads_pairs_in_its_own_orders(columns, orders, tmp_path):
    saved = app.Config(model="bert_tiny", orders="both").saved
    inputs = [{"name": name} for name in ("text", "pair")[:columns]]
    served = {"serving_default": {"inputs": inputs}}
    for name, values in {
        "config.json": saved,
        "model_card.json": {"task": "text classification", "signatures": served},
        "model.keras": {},
    }.items():
        (tmp_path / name).write_text(json.dumps(values))
    loaded = app.Config.load(tmp_path, preset=str(tmp_path))
    for made in (app.Config.continuing(tmp_path), app.Config.evaluating(tmp_path), loaded):
        assert made.orders == orders and made.needs_pairs == (orders == "both")
    if orders == "both":
        with pytest.raises(ValueError, match="`orders` must be 'both', as in"):
            app.Config.continuing(tmp_path, orders="given")
    (tmp_path / "config.json").write_text(
        json.dumps({**{k: v for k, v in saved.items() if k != "orders"}, "symmetric": True})
    )
    assert app.Config.load(tmp_path).orders == "symmetric"


def test_a_pretrained_elmo_is_loaded_as_it_was_saved(data, tmp_path):
    backbone = elmo.elmo_backbone("tiny")
    elmo.save_elmo(backbone, tmp_path)
    *_, model = parts(data, model="elmo", preset=str(tmp_path), units=8)
    found = model.get_layer("elmo").get_weights()
    for before, after in zip(backbone.get_weights(), found, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_layer": 1}, "`attention_layer` must be in -1 to 0"),
        ({"attention_head": 2}, "`attention_head` must be in 0 to 1"),
        ({"out_of_scope": "test"}, "`out_of_scope` must be one of the further splits .*: none"),
        (
            {"orders": "symmetric", "pair_column": None},
            "pairs of texts in both orders. Received: single",
        ),
        ({"windows": True}, "`windows` is for single texts. Received: pairs of texts"),
    ],
)
def test_what_the_network_and_the_data_lack_is_refused(changes, message, data):
    with pytest.raises(ValueError, match=message):
        parts(data, **{"model": "bert_tiny", **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "elmo2"}, "`model` must be one of rnn, lstm, gru"),
        ({"model": "bert"}, "`preset` must be given with model elmo or bert or gpt"),
        ({"model": "elmo_tiny", "pooling": "max"}, "must be one of attention with model='elmo_t"),
        ({"model": "gpt_tiny", "pooling": "last"}, "must be left out with model='gpt_tiny'"),
        ({"model": "bert", "preset": "x", "dropout": 0.5}, "`dropout` is for the models rnn"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        app.Config(**changes)


def test_a_long_text_is_the_mean_of_its_windows(data):
    options = {"pair_column": None, "units": 8, "length": 8, "windows": True}
    chosen, loaded, reader, model = parts(data, **options)
    signature = app.signatures(loaded, reader)["serving_default"]
    # Six pieces fit into a row, and the next row begins five pieces later.
    words = ["the", "red", "house", "the", "green", "tree", "a", "blue", "hat", "dog", "car"]
    pieces = [reader.tokens.ids(tf.constant([word])).values.numpy().tolist() for word in words]
    assert all(len(ids) == 1 for ids in pieces)
    windows = [" ".join(words[begin : begin + 6]) for begin in (0, 5)]
    texts = ["the red hat", " ".join(words), *windows]
    scores = signature.answer(signature.compute(model), {"text": tf.constant(texts)})
    by_class = [
        dict(zip(names, values, strict=True))
        for names, values in zip(scores["classes"].numpy(), scores["scores"].numpy(), strict=True)
    ]
    for name in by_class[0]:
        mean = (by_class[2][name] + by_class[3][name]) / 2
        np.testing.assert_allclose(by_class[1][name], mean, rtol=1e-5)
    assert by_class[2] != by_class[3]
    whole = replace(chosen, windows=False)
    cut = text_reader(whole.family, loaded.texts, **whole.reading)
    alone = app.signatures(loaded, cut)["serving_default"]
    answer = alone.answer(alone.compute(model), {"text": tf.constant(texts)})
    for row in (0, 2, 3):
        np.testing.assert_allclose(answer["scores"][row], scores["scores"][row], rtol=1e-5)
    np.testing.assert_allclose(answer["scores"][1], scores["scores"][2], rtol=1e-5)


@pytest.mark.parametrize(
    "model", ["gru", *(pytest.param(n, marks=pytest.mark.slow) for n in ("gpt_tiny", "elmo_tiny"))]
)
def test_windows_are_examples_in_training_and_texts_in_the_evaluation(model, data):
    units = {} if model == "gpt_tiny" else {"units": 8}
    options = {"pair_column": None, "length": 8, "windows": True, "model": model, **units}
    chosen, loaded, reader, network = parts(data, **options)
    long = [b" ".join([word] * 9) for word in (b"red", b"green")]
    texts = tf.data.Dataset.from_tensor_slices(([[long[0]], [b"blue"], [long[1]]], [0, 1, 2]))
    loaded = replace(loaded, train=texts, validation=texts, test=texts)
    fed = app.feed(chosen, loaded, reader)
    counts = reader.row_counts(loaded.texts_of("test"))
    assert counts[1] == 1 and counts[0] == counts[2] == 2
    labels = np.concatenate([labels for _, labels in fed.evaluation("test", 2)]).argmax(-1)
    assert labels.tolist() == [0, 0, 1, 2, 2]
    found = classification.evaluate(network, fed.evaluation("test", 2), counts)
    signature = app.signatures(loaded, reader)["serving_default"]
    answer = signature.answer(
        signature.compute(network), {"text": tf.constant([long[0], b"blue", long[1]])}
    )
    np.testing.assert_allclose(found.probabilities.max(1), answer["scores"][:, 0], rtol=1e-4)
    assert found.labels.tolist() == [0, 1, 2]
    sections = {"gru": 1, "elmo_tiny": 1, "bert_tiny": 3, "gpt_tiny": 0}
    assert len(list(app.attended(chosen, loaded, reader, network))) == sections[model]


def test_word_vectors_are_the_embeddings_of_their_words(data, tmp_path, capsys):
    path = tmp_path / "vectors.txt"
    path.write_text("red 0.5 1 2\nnowhere 3 3 3\n")
    chosen, loaded, reader, _ = parts(data, units=8, embeddings=str(path))
    run = app.start(replace(chosen, out=tmp_path))
    vectors = app.reading.word_vectors(run, reader.tokens)
    model = app.build(chosen, loaded, reader, vectors)
    (embedding,) = model.get_layer("token_embedding").get_weights()
    assert embedding.shape == (reader.tokens.vocabulary_size, 3)
    assert embedding[reader.tokens.vocabulary.index("red")].tolist() == [0.5, 1, 2]
    said = f"1 of the {len(embedding):,} tokens of the vocabulary are in {path}"
    assert said in capsys.readouterr().out and said in run.facts["word vectors"]
