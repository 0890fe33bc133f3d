import json
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from apps import language_pretraining as app
from models import bert, elmo
from preprocessing.tokens import SPECIAL_TOKENS, Characters, WordPieces
from serving import verify
from training.setup import prepare

COLOURS = ["red", "green", "blue", "white", "black"]
THINGS = ["house", "car", "tree", "dog", "hat", "boat", "door"]
ODD = [
    "",
    "word " * 10_000,
    "[MASK] " * 10_000,
    "\U0001f600 \U0001f468‍\U0001f469‍\U0001f467",
    "a\0b",
    b"\xff\xfe not UTF-8",
]


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """Documents about things of one colour each."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for split, count in {"train": 40, "dev": 8, "test": 8}.items():
        documents = []
        for _ in range(count):
            colour, lines = random.choice(COLOURS), []
            for thing in random.permutation(THINGS):
                lines.append(f"The {thing} that he had seen was a {colour} {thing} again.")
            documents.append("\n".join(lines))
        (folder / f"{split}.txt").write_text("\n\n".join(documents))
    return folder


def config(data: Path, out: Path, **changes) -> app.Config:
    small = {"length": 32, "vocabulary_size": 120, "batch_size": 16, "learning_rate": 3e-3}
    return app.Config(**{"data": str(data), "out": out, **small, **changes})


@pytest.fixture(scope="module")
def trained_bert(tmp_path_factory, colours) -> tuple[app.Config, dict[str, float]]:
    chosen = config(colours, tmp_path_factory.mktemp("bert"), epochs=4)
    return chosen, app.main(chosen)


@pytest.fixture(scope="module")
def trained_elmo(tmp_path_factory, colours) -> tuple[app.Config, dict[str, float]]:
    changes = {"model": "elmo_tiny", "length": 12, "batch_size": 32, "learning_rate": 0.01}
    chosen = config(colours, tmp_path_factory.mktemp("elmo"), epochs=6, **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(elmo.ELMO_SIZES, "tiny", elmo.ElmoSize(48, 24, 1, ((1, 8), (3, 24))))
        # The process that asks the export takes seconds, and one test of it is enough.
        patch.setattr(app, "answer_one", lambda *arguments: None)
        return chosen, app.main(chosen)


def prepared(chosen: app.Config) -> app.Bert | app.Elmo:
    prepare(chosen.seed)
    kind = app.Elmo if chosen.model in app.ELMO else app.Bert
    return kind.prepared(chosen, app.load(chosen))


def kept(chosen: app.Config) -> keras.Model:
    return keras.models.load_model(chosen.out / "model.keras", compile=False)


@pytest.mark.parametrize("family", ["bert", "elmo"])
def test_the_network_learns_and_the_run_folder_is_whole(family, request):
    chosen, scores = request.getfixturevalue(f"trained_{family}")
    name = "masked_perplexity" if family == "bert" else "perplexity"
    assert 1 <= scores[name] < 0.7 * scores["unigram_perplexity"]
    assert 1 < scores["bigram_perplexity"] < scores["unigram_perplexity"] < 120
    assert np.isfinite(list(scores.values())).all()
    files = {path.name for path in chosen.out.glob("[!.]*")} - {"example.csv"}
    assert files == {
        "1",
        "config.json",
        "history.csv",
        "model.keras",
        "preset",
        "report.html",
        "scores.json",
    }
    assert not list(chosen.out.glob(".export*"))
    assert json.loads((chosen.out / "scores.json").read_text()) == scores
    report = (chosen.out / "report.html").read_text()
    assert ("in gaps" if family == "bert" else "least expected words") in report
    assert "alone" in report


def test_the_export_passes_every_check_of_verify(trained_bert, capsys):
    chosen, _ = trained_bert
    assert verify.main(chosen.out) == 0, capsys.readouterr().out


def test_other_apps_get_the_features_of_the_trained_bert(trained_bert):
    chosen, _ = trained_bert
    pieces = WordPieces.from_preset(chosen.out / "preset")
    features = pieces.encode(tf.constant([["the blue dog", "a red hat."]]), 16)
    backbone = bert.pretrained_backbone(str(chosen.out / "preset"))
    model = kept(chosen)
    encoder = keras.Model(
        {name: model.input[name] for name in bert.FEATURES},
        model.get_layer("transformer_layer_1").output,
    )
    assert pieces.vocabulary_size == backbone.vocabulary_size <= 120
    np.testing.assert_allclose(backbone(features)["sequence_output"], encoder(features), atol=1e-5)


def test_kerashub_takes_the_preset_as_it_is(trained_bert):
    chosen, _ = trained_bert
    preset = str(chosen.out / "preset")
    classifier = keras_hub.models.BertTextClassifier.from_preset(preset, num_classes=2)
    assert classifier.preprocessor.sequence_length == chosen.length
    assert classifier.predict(["the blue dog"], verbose=0).shape == (1, 2)


def test_other_apps_get_the_features_of_the_trained_elmo(trained_elmo):
    chosen, _ = trained_elmo
    characters = Characters().encode_words(tf.ragged.constant([["the", "blue", "dog"], ["hat"]]))
    backbone = elmo.pretrained_elmo(chosen.out / "preset")
    model = kept(chosen)
    top = keras.Model(model.input, model.get_layer("layer2").output)
    np.testing.assert_allclose(backbone(characters)[-1], top(characters), atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "elmo"])
def test_a_run_goes_on_with_a_preset(family, request, tmp_path):
    chosen, _ = request.getfixturevalue(f"trained_{family}")
    preset = str(chosen.out / "preset")
    further = prepared(config(chosen.data, tmp_path, model=family, preset=preset))
    model, before = further.build(), kept(chosen)
    for layer in filter(lambda layer: layer.weights, further.backbone().layers):
        weights = model.get_layer(layer.name).get_weights()
        for weight, old in zip(weights, before.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(weight, old)
    if family == "bert":
        vocabulary = prepared(chosen).pieces.tokenizer.vocabulary
        assert further.pieces.tokenizer.vocabulary == vocabulary
        with pytest.raises(ValueError, match="`length` must be at most 32"):
            prepared(config(chosen.data, tmp_path, model="bert", preset=preset, length=64)).build()


def test_scores_of_bert_are_those_of_its_logits_at_fixed_hidden_words(trained_bert):
    chosen, scores = trained_bert
    task, model = prepared(chosen), kept(chosen)
    logs, hits, contexts = [], [], []
    for features, labels, weights in task.batches("test").as_numpy_iterator():
        probabilities = tf.nn.softmax(model(features)["masked_words"]).numpy()
        for row, column in np.argwhere(weights["masked_words"] > 0):
            true, place = (
                labels["masked_words"][row, column],
                features["mask_positions"][row, column],
            )
            logs.append(np.log(probabilities[row, column, true]))
            hits.append(probabilities[row, column].argmax() == true)
            before = features["token_ids"][row, place - 1]
            contexts.append(-1 if before == task.pieces.mask_id else before)
    assert scores["masked_perplexity"] == pytest.approx(np.exp(-np.mean(logs)), rel=1e-4)
    assert scores["masked_accuracy"] == pytest.approx(np.mean(hits))
    np.testing.assert_array_equal(task.told_by_neighbours("test")[0], contexts)


def test_a_run_that_goes_on_hides_the_words_that_an_unbroken_one_hides(trained_bert):
    task = prepared(trained_bert[0])
    first, second = list(task.train_batches(0).take(2))
    again = next(iter(task.train_batches(1)))
    assert first[0]["mask_positions"].shape[0] == 16
    tf.nest.map_structure(np.testing.assert_array_equal, again, second)


def test_gaps_are_filled_as_the_keras_model_does(trained_bert):
    chosen, _ = trained_bert
    served = tf.saved_model.load(chosen.out / "1").signatures
    pieces = WordPieces.from_preset(chosen.out / "preset")
    texts = ["the [MASK] that he[MASK] seen", "no gap", "a [MASK]"]
    answer = served["serving_default"](text=tf.constant(texts))
    assert answer["words"].shape == answer["scores"].shape == (3, 2, 5)
    the, that, he, seen = pieces.ids(tf.constant(["the", "that", "he", "seen"])).to_list()
    gap = [pieces.mask_id]
    line = [pieces.start_id, *the, *gap, *that, *he, *gap, *seen, pieces.end_id]
    places = [place for place, token in enumerate(line) if token == pieces.mask_id]
    features = {
        "token_ids": tf.constant([line]),
        "segment_ids": tf.zeros((1, len(line)), tf.int32),
        "padding_mask": tf.ones((1, len(line)), tf.int32),
        "mask_positions": tf.constant([places]),
    }
    probabilities = tf.nn.softmax(kept(chosen)(features)["masked_words"])[0].numpy()
    best = np.argsort(-probabilities, axis=-1)[:, :5]
    np.testing.assert_allclose(
        answer["scores"][0], np.take_along_axis(probabilities, best, 1), atol=1e-5
    )
    assert answer["words"][0, 0, 0] == pieces.id_to_token(best[0, 0])
    assert not answer["scores"].numpy()[1].any() and (answer["words"].numpy()[1] == b"").all()
    assert answer["scores"].numpy()[2].any(axis=-1).tolist() == [True, False]


def test_words_are_measured_as_the_keras_model_tells_them(trained_elmo):
    chosen, _ = trained_elmo
    task, model = prepared(chosen), kept(chosen)
    served = tf.saved_model.load(chosen.out / "1").signatures
    answer = served["serving_default"](text=tf.constant(["The dog zzz", "", "The"]))
    assert answer["words"].numpy()[0].tolist() == [b"The", b"dog", b"zzz"]
    names = task.words.vocabulary
    line = [1, names.index("The"), names.index("dog"), 0, 2]
    words = tf.ragged.constant([["The", "dog", "zzz"]])
    logits = model(Characters().encode_words(words))
    forward, backward = (
        tf.nn.log_softmax(logits[name])[0].numpy() for name in ("forward", "backward")
    )
    told = [forward[place - 1, line[place]] for place in range(1, 5)]
    told_back = [backward[place + 1, line[place]] for place in range(4)]
    assert float(answer["perplexity"][0]) == pytest.approx(
        np.exp(-np.mean(told + told_back)), rel=1e-4
    )
    np.testing.assert_allclose(
        answer["log_probabilities"][0], np.add(told[:3], told_back[1:]) / 2, atol=1e-4
    )
    assert not answer["log_probabilities"][1].numpy().any()


@pytest.mark.parametrize("family", ["bert", "elmo"])
def test_any_text_gets_an_answer_and_leaves_its_neighbours_alone(family, request):
    chosen, _ = request.getfixturevalue(f"trained_{family}")
    ask = tf.saved_model.load(chosen.out / "1").signatures["serving_default"]
    text = "the [MASK] dog"
    alone, among = (ask(text=tf.constant(texts)) for texts in ([text], [*ODD, text]))
    for name, values in among.items():
        assert len(values) == len(ODD) + 1
        if values.dtype != tf.string:
            assert np.isfinite(values).all()
            last = np.asarray(values)[-1:]
            shown = last[:, : alone[name].shape[1]] if last.ndim > 1 else last
            np.testing.assert_allclose(shown, alone[name], rtol=1e-4, atol=1e-5)


def test_a_vocabulary_that_is_given_is_used(colours, tmp_path):
    pieces = [*SPECIAL_TOKENS, *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "aeiou"), "the"]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(pieces))
    task = prepared(config(colours, tmp_path, vocabulary=str(path)))
    assert task.pieces.tokenizer.vocabulary == pieces
    assert task.pieces.ids(tf.constant(["The"])).to_list() == [[len(pieces) - 1]]


def test_a_preset_appears_whole_in_the_place_of_the_last(tmp_path):
    chosen = config(tmp_path, tmp_path)

    class Task:
        def __init__(self, name, fails=False):
            self.name, self.fails = name, fails

        def save(self, model, folder):
            folder.mkdir()
            (folder / self.name).touch()
            assert keras.config.dtype_policy().name == "float32"
            if self.fails:
                raise OSError("no space left")

    keras.config.set_dtype_policy("mixed_bfloat16")
    app.write_preset(chosen, Task("old"), None)
    app.write_preset(chosen, Task("new"), None)
    with pytest.raises(OSError, match="no space left"):
        app.write_preset(chosen, Task("third", fails=True), None)
    assert [path.name for path in (tmp_path / "preset").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["preset"]
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_a_document_of_one_word_is_refused(tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.txt").write_text("a" if split == "dev" else "two words. " * 9)
    with pytest.raises(ValueError, match="The validation texts must hold at least two words"):
        prepared(config(tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "gpt_tiny"}, "`model` must be one of bert, bert_tiny.*elmo_original"),
        ({"model": "bert"}, "`preset` goes with the models bert and elmo"),
        ({"preset": "folder"}, "`preset` goes with the models bert and elmo"),
        ({"model": "elmo_tiny", "vocabulary": "vocab.txt"}, "`vocabulary` is for bert_tiny"),
        ({"length": 7}, "`length` must be at least 8. Received: length=7"),
        ({"vocabulary_size": 5}, "`vocabulary_size` must be at least 6"),
        ({"epochs": 0}, "`epochs` must be at least 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, tmp_path, **changes)
