import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import token_classification as app
from models import bert, elmo
from preprocessing import tokens
from serving import checks
from serving.predict import main as predict

ODD = [
    "",
    "word " * 10_000,
    "\U0001f600 \U0001f468‍\U0001f469‍\U0001f467",
    "شكرا جزيلا",
    "a\0b",
    b"\xff\xfe not UTF-8",
    "\n\t ",
]
SMALL = {"length": 16, "vocabulary_size": 300, "batch_size": 16, "epochs": 1}


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bert.BERT_SIZES, "tiny", bert.BertSize(1, 16, 2))
        patch.setitem(elmo.ELMO_SIZES, "tiny", elmo.ElmoSize(8, 4, 1, ((1, 4), (2, 4))))
        yield


def config(out: Path, data: Path, **changes) -> app.Config:
    units = {} if changes.get("model") in app.BERT else {"units": 16}
    return app.Config(**{**SMALL, **units, "out": out, "data": str(data), **changes})


def sentence(rng: np.random.Generator, length: int) -> list[tuple[str, str]]:
    """Words and tags: a colour and what follows `the` are of an entity, `New-York` a place."""
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


@pytest.fixture(scope="module")
def things(tmp_path_factory) -> Path:
    """Sentences of 4 to 30 words, so that some need several rows."""
    path = tmp_path_factory.mktemp("data") / "things.conll"
    rng = np.random.default_rng(0)
    sentences = [sentence(rng, int(rng.integers(4, 30))) for _ in range(150)]
    lines = ["\n".join(f"{word}\t{tag}" for word, tag in words) for words in sentences]
    path.write_text("\n\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, things, run_here) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("runs") / "things"
    return folder, run_here(app, config(folder, things, epochs=6, learning_rate=0.02))


@pytest.fixture(scope="module")
def served(trained):
    return tf.saved_model.load(trained[0] / "1").signatures


def ask(served, *texts: str | bytes) -> dict[str, np.ndarray]:
    answer = served["serving_default"](text=tf.constant(texts))
    return {name: answer[name].numpy() for name in answer}


def test_entities_are_learnt_and_the_run_folder_is_whole(trained):
    folder, scores = trained
    assert scores["f1"] > 0.95
    assert scores["accuracy"] > 0.95
    assert set(scores) == {"f1", "precision", "recall", "accuracy", "loss", "validation_f1"}
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
    history = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert float(history[-1]["val_accuracy"]) > 0.95
    report = (folder / "report.html").read_text()
    for part in ("Confusion of tags", "Entities by type", "True: ", "Found: ", "<small>thing"):
        assert part in report


def test_a_text_is_answered_word_by_word(served):
    answer = ask(served, "was Ärger red hat.", "New-York")
    assert [word.decode() for word in answer["words"][0]] == ["was", "Ärger", "red", "hat", "."]
    assert answer["tags"].tolist() == [
        [b"O", b"O", b"B-thing", b"I-thing", b"O"],
        # One word of the data is three of a text.
        [b"B-place", b"I-place", b"I-place", b"", b""],
    ]
    assert answer["starts"].tolist() == [[0, 4, 11, 15, 18], [0, 3, 4, -1, -1]]
    assert answer["ends"].tolist() == [[3, 10, 14, 18, 19], [3, 4, 8, -1, -1]]
    assert np.all(answer["scores"][0] > 0.5)
    assert answer["scores"][1, 3:].tolist() == [0, 0]


def test_all_signatures_answer_as_the_keras_model(trained, things, served):
    folder, _ = trained
    model = keras.models.load_model(folder / "model.keras", compile=False)
    chosen = config(folder, things)
    data = app.load(chosen)
    words, _ = next(iter(data.test.ragged_batch(5)))
    features, places = app.make_reader(chosen, data).encode(words, True)
    assert len(features["token_ids"]) > 5
    logits = model.predict(features, verbose=0)
    answer = served["from_tokens"](**features)
    np.testing.assert_allclose(answer["logits"], logits, atol=1e-5)
    of_words = tf.nn.softmax(tokens.at_first_pieces(tf.constant(logits), places["first_piece"]))
    wide = tf.pad(words.to_tensor(), [[0, 0], [0, 3]])
    answer = served["from_words"](words=wide)
    text = ask(served, *tf.strings.reduce_join(words, axis=1, separator=" ").numpy())
    for row, length in enumerate(words.row_lengths()):
        best = of_words[row, :length].numpy()
        expected = [data.tags[number].encode() for number in best.argmax(axis=-1)]
        assert answer["tags"][row].numpy().tolist()[:length] == expected
        assert not any(answer["tags"][row].numpy()[length:])
        np.testing.assert_allclose(answer["scores"][row, :length], best.max(axis=-1), atol=1e-5)
        # Words begin where parts of words do, and of those each word's first one speaks for it.
        ends = np.cumsum([len(word) + 1 for word in words[row].numpy()])
        first = np.searchsorted(text["starts"][row, text["ends"][row] > 0], [0, *ends[:-1]])
        assert text["tags"][row, first].tolist() == expected


def test_any_text_gets_an_answer_and_leaves_its_neighbours_alone(served):
    alone = ask(served, "a red hat")
    among = ask(served, *ODD, "a red hat")
    assert np.isfinite(among["scores"]).all()
    counts = (among["starts"] >= 0).sum(axis=1)
    assert counts.tolist() == [0, 10_000, 4, 2, 2, 5, 0, 3]
    for name in ("words", "tags"):
        assert among[name].shape == (8, 10_000)
        assert np.array_equal(among[name] != b"", among["starts"] >= 0)
        assert among[name][-1, :3].tolist() == alone[name][0].tolist()
    np.testing.assert_allclose(among["scores"][-1, :3], alone["scores"][0], atol=1e-5)
    assert ask(served, "", "")["tags"].shape == (2, 0)


def test_words_of_a_client_are_padded_with_nothing(served):
    answer = served["from_words"](words=tf.constant([["red", "hat", ""], ["", "New-York", "a"]]))
    assert answer["tags"].numpy()[0].tolist() == [b"B-thing", b"I-thing", b""]
    # A gap is a word that the network does not know.
    assert answer["tags"].numpy()[1, 1:].tolist() == [b"B-place", b"O"]
    assert answer["tags"].numpy()[1, 0] != b""
    assert served["from_words"](words=tf.constant([["", ""]]))["tags"].shape == (1, 2)


def test_the_export_passes_every_check_of_verify(trained):
    folder, _ = trained
    assert [found for found in checks.run(folder / "1") if not found.passed] == []


def test_predict_shows_a_row_a_word(trained, tmp_path, capsys):
    folder, _ = trained
    path = tmp_path / "lines.txt"
    path.write_text("a red hat\n\nNew-York\n")
    assert predict(str(folder), (path,)) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["file", "tags", "words", "scores", "ends", "starts"]
    assert rows[1][:3] == [f"{path}:1", "O", "a"]
    assert [row[:2] for row in rows[2:4]] == [["B-thing", "red"], ["I-thing", "hat"]]
    assert rows[4] == [f"{path}:2"]
    assert rows[5][:3] == [f"{path}:3", "B-place", "New"]
    assert len(rows) == 8


def test_long_sentences_become_rows_and_each_part_of_a_word_has_one_label(things, tmp_path):
    chosen = config(tmp_path, things)
    data = app.load(chosen)
    rows = list(app.labelled_rows(data, app.make_reader(chosen, data), data.train))
    assert len(rows) > len(data.train)
    found = np.concatenate([labels[labels >= 0] for _, labels in rows])
    # `New-York` has three parts, the other words have one.
    expected = []
    for words, tags in data.train.as_numpy_iterator():
        for word, tag in zip(words, tags, strict=True):
            place = [data.tags.index("B-place"), *2 * [data.tags.index("I-place")]]
            expected += place if word == b"New-York" else [tag]
    assert sorted(found) == sorted(expected)


def test_a_tag_goes_on_as_itself_where_there_is_no_other():
    tags = ("O", "B-a", "I-a", "B-b", "noun")
    assert app.going_on(tags).numpy().tolist() == [0, 2, 2, 3, 4]


def test_words_are_split_at_marks_and_their_parts_go_on_with_the_tag():
    words = tf.ragged.constant([["@ada", "is", "New-York"], [], ["x"]])
    tags = tf.ragged.constant([[1, 0, 1], [], [2]])
    more = app.going_on(("O", "B-name", "I-name"))
    parts, of_parts = app.split_at_marks(words, tags, more)
    assert parts.to_list() == [[b"@", b"ada", b"is", b"New", b"-", b"York"], [], [b"x"]]
    assert of_parts.to_list() == [[1, 2, 0, 1, 2, 2], [], [2]]


def test_shares_of_tags_are_counted_with_one_more_of_each():
    labels = [[0, 0, app.NOTHING], [2, app.NOTHING, 0]]
    rows = tf.data.Dataset.from_tensor_slices((tf.zeros(2), labels))
    assert app.tag_shares(rows, 4).tolist() == [4 / 8, 1 / 8, 2 / 8, 1 / 8]


def test_a_pretrained_elmo_stays_as_it_is_and_tags_any_text(things, tmp_path, shorten):
    shorten(app)
    backbone = elmo.elmo_backbone("tiny")
    elmo.save_elmo(backbone, tmp_path / "preset")
    preset = str(tmp_path / "preset")
    chosen = config(tmp_path / "run", things, model="elmo", preset=preset)
    app.main(chosen)
    model = keras.models.load_model(chosen.out / "model.keras", compile=False)
    found = model.get_layer("elmo").get_weights()
    for before, after in zip(backbone.get_weights(), found, strict=True):
        np.testing.assert_array_equal(before, after)
    served = tf.saved_model.load(chosen.out / "1").signatures
    answer = ask(served, *ODD, "a red hat " * 20)
    assert (answer["starts"] >= 0).sum(axis=1).tolist() == [0, 10_000, 4, 2, 2, 5, 0, 60]
    assert np.array_equal(answer["tags"] != b"", answer["starts"] >= 0)
    features = tokens.Characters().encode_rows(tf.ragged.constant([["red", "hat"]]), chosen.length)[
        0
    ]
    logits = served["from_characters"](**features)["logits"]
    np.testing.assert_allclose(logits, model.predict(features, verbose=0), atol=1e-5)
    scores = served["from_words"](words=tf.constant([["red", "hat"]]))["scores"]
    np.testing.assert_allclose(scores, tf.nn.softmax(logits).numpy().max(-1)[:, 1:3], atol=1e-5)


def test_elmo_with_random_weights_is_trained_unless_it_is_frozen(things, tmp_path):
    for freeze in (None, True):
        chosen = config(tmp_path, things, model="elmo_tiny", freeze=freeze)
        reader = app.make_reader(chosen, app.load(chosen))
        built = app.build(chosen, reader, np.full(3, 1 / 3))
        weights = {id(weight) for weight in built.trainable_weights}
        trained = [id(weight) in weights for weight in built.get_layer("elmo").weights]
        assert any(trained) == all(trained) == (not freeze)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("gru", {"layers": 2, "bidirectional": False, "layer_normalization": True}),
        ("bert_tiny", {"layer_decay": 0.8, "length": 32, "lowercase": True}),
    ],
)
def test_every_network_answers(model, changes, things, tmp_path, shorten):
    shorten(app)
    app.main(config(tmp_path, things, model=model, **changes))
    loaded = tf.saved_model.load(tmp_path / "1").signatures
    answer = ask(loaded, "a red hat " * 20)
    assert answer["scores"].shape == (1, 60)
    assert np.all(answer["scores"] > 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "elmo2"}, "`model` must be one of rnn, lstm, gru"),
        ({"model": "bert"}, "`preset` must be given with model elmo or bert, and else not"),
        ({"preset": "folder"}, "`preset` must be given with model elmo or bert, and else not"),
        ({"freeze": False}, "`freeze` is for elmo"),
        ({"layer_decay": 0.9}, "`layer_decay` is for bert"),
        ({"epochs": 0}, "`epochs` must be at least 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, tmp_path, **changes)
