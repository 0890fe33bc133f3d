import json

import keras
import numpy as np
import pytest

from models import bert, elmo, gpt, recurrent
from runs.presets import app_of, card, network, with_weights_of, write_preset


def test_a_preset_appears_whole_in_place_of_the_last(tmp_path):
    def save(name, fails=False):
        def write(folder):
            folder.mkdir()
            (folder / name).touch()
            assert keras.config.dtype_policy().name == "float32"
            if fails:
                raise OSError("no space left")

        return write

    keras.config.set_dtype_policy("mixed_bfloat16")
    write_preset(tmp_path / "preset", save("old"))
    assert write_preset(tmp_path / "preset", save("new")) == tmp_path / "preset"
    with pytest.raises(OSError, match="no space left"):
        write_preset(tmp_path / "preset", save("third", fails=True))
    assert [path.name for path in (tmp_path / "preset").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["preset"]
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_a_backbone_gets_the_weights_of_the_layers_of_its_names():
    def backbone():
        inputs = keras.Input((3,))
        return keras.Model(inputs, keras.layers.Dense(2, name="inner")(inputs))

    trained = backbone()
    model = keras.Model(trained.input, keras.layers.Dense(1, name="head")(trained.output))
    new = with_weights_of(model, backbone())
    assert (new.get_weights()[0] == trained.get_weights()[0]).all()


@pytest.fixture
def run(tmp_path):
    """A folder with a network of two inputs that share a layer, and three classes."""
    pair = [keras.Input((4,), name=name) for name in "ab"]
    inner = keras.Input((4,))
    trunk = keras.Model(inner, keras.layers.Dense(5, activation="tanh", name="fc")(inner))
    x = keras.layers.Concatenate()([trunk(one) for one in pair])
    x = keras.layers.BatchNormalization(name="norm")(x)
    logits = keras.layers.Dense(3, name="logits")(x)
    model = keras.Model(pair, logits)
    for weight in model.weights:
        weight.assign(keras.random.uniform(weight.shape, 0.1, 1, seed=1))
    model.save(tmp_path / "model.keras")
    return tmp_path, model


POINTS = [np.random.default_rng(i).normal(size=(6, 4)).astype("float32") for i in (0, 1)]


def test_the_network_of_a_run_answers_as_it_did(run):
    folder, model = run
    for again in (network(folder), network(folder, 3)):
        np.testing.assert_allclose(again(POINTS), model(POINTS), atol=1e-6)


def test_new_classes_get_new_weights_and_known_ones_keep_theirs(run):
    folder, model = run
    wider = network(folder, 5)
    logits = keras.ops.convert_to_numpy(wider(POINTS))
    assert logits.shape == (6, 5) and len(wider.weights) == len(model.weights)
    np.testing.assert_allclose(logits[:, :3], model(POINTS), atol=1e-6)
    kernel, bias = wider.get_layer("logits").get_weights()
    assert kernel[:, 3:].std() > 0 and (bias[3:] == 0).all()
    wider.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    wider.train_on_batch(POINTS, np.array([0, 1, 2, 3, 4, 4]))


@pytest.mark.parametrize(
    ("freeze", "names"), [(True, {"logits"}), (False, {"fc", "norm", "logits"})]
)
@pytest.mark.parametrize("num_classes", [3, 4])
def test_a_head_is_trained_alone_or_with_all_layers(freeze, names, num_classes, run):
    folder, model = run
    model.trainable = not freeze
    model.save(folder / "model.keras")
    trained = network(folder, num_classes, freeze).trainable_variables
    assert {variable.path.split("/")[-2] for variable in trained} == names
    as_saved = network(folder).trainable_variables
    assert len(as_saved) == (0 if freeze else len(trained))


def test_the_app_of_a_run_is_that_of_its_newest_card(run):
    folder, _ = run
    for number, task in (("2", "BERT pretraining"), ("1", "image classification")):
        path = folder / number / "assets.extra" / "model_card.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"task": task, "classes": ["a"]}))
    assert app_of(folder) == "bert_pretraining"
    assert card(folder)["classes"] == ["a"]
    with pytest.raises(
        FileNotFoundError, match=r"expected a finished run\. Received: no model\.keras"
    ):
        app_of(folder / "1")


def bert_network():
    backbone = bert.bert_backbone("tiny", vocabulary_size=30, max_length=8, dropout=0.0)
    return bert.bert_classifier(backbone, 3, pooling="mean")


def gpt_network():
    return gpt.gpt_classifier(gpt.gpt_backbone("tiny", 30, 8, 0.0), 3, orders="symmetric")


def elmo_network():
    return elmo.elmo_language_model(elmo.elmo_backbone("tiny"), 3)


def recurrent_network():
    return recurrent.recurrent_tagger(30, 3, units=4, layers=2, layer_normalization=True)


@pytest.mark.parametrize("build", [bert_network, gpt_network, elmo_network, recurrent_network])
def test_every_family_of_text_networks_grows(build, tmp_path, monkeypatch):
    monkeypatch.setitem(bert.BERT_SIZES, "tiny", bert.BertSize(1, 8, 2))
    monkeypatch.setitem(gpt.GPT_SIZES, "tiny", gpt.GPTSize(1, 8, 2))
    monkeypatch.setitem(elmo.ELMO_SIZES, "tiny", elmo.ElmoSize(8, 4, 1, ((1, 4), (2, 4))))
    model = build()
    for seed, weight in enumerate(model.weights):
        weight.assign(keras.random.normal(weight.shape, stddev=0.3, seed=seed))
    model.save(tmp_path / "model.keras")
    shapes = {name: [size or 6 for size in part.shape] for name, part in _named(model.input)}
    inputs = {name: np.ones(shape, "int32") for name, shape in shapes.items()}
    wanted = _named(model(inputs if isinstance(model.input, dict) else inputs[""]))
    grown = network(tmp_path, 5)
    found = dict(_named(grown(inputs if isinstance(model.input, dict) else inputs[""])))
    for name, logits in wanted:
        assert found[name].shape[-1] == 5
        np.testing.assert_allclose(found[name][..., :3], logits, atol=1e-5)


def _named(tensors) -> list:
    """Returns tensors by name; a single one is called ""."""
    return list(tensors.items()) if isinstance(tensors, dict) else [("", tensors)]


def test_the_card_is_that_of_the_network_whatever_versions_there_are(tmp_path):
    for name, folder in {"later": tmp_path, "older": tmp_path / "1" / "assets.extra"}.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model_card.json").write_text(json.dumps({"task": name}))
    assert card(tmp_path)["task"] == "later"
    (tmp_path / "model_card.json").unlink()
    assert card(tmp_path)["task"] == "older"


def test_a_network_with_more_classes_than_its_card_says_is_refused(run):
    folder, _ = run
    with pytest.raises(ValueError, match="`preset` must have at most 2 classes"):
        network(folder, 2)
