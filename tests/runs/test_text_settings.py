import json

import keras
import pytest

from apps import dialogue, token_classification
from apps.text_classification import Config


def rate(width, **settings):
    model = "bert" if "preset" in settings else "lstm"
    chosen = Config(**{"model": model, **settings})
    return chosen.rates(lambda model: width, lambda model: {}).peak(None)


def test_a_pretrained_transformer_is_trained_more_carefully():
    chosen = Config(model="bert", preset="folder")
    assert (chosen.epochs, chosen.warmup_epochs, chosen.weight_decay) == (3, 0.3, 0.01)
    new = Config(model="bert_tiny")
    assert (new.epochs, new.warmup_epochs, new.weight_decay) == (10, 0.0, 0.05)
    assert Config(model="bert", preset="folder", optimizer="adam").weight_decay == 0.0


def test_what_the_user_gives_is_kept():
    given = {"epochs": 10, "warmup_epochs": 0.0, "weight_decay": 0.0}
    chosen = Config(model="bert", preset="folder", **given)
    assert {name: getattr(chosen, name) for name in given} == given
    assert rate(768, preset="folder", learning_rate=0.5) == 0.5


def test_recurrent_networks_hide_some_words():
    chosen = Config(model="lstm")
    assert (chosen.dropout, chosen.word_dropout) == (0.5, 0.1)
    assert Config(model="lstm", word_dropout=0.0).word_dropout == 0.0
    assert Config(model="lstm", tokens="words").reading["kind"] == "words"
    assert Config(model="lstm").reading["kind"] == "auto"
    assert Config(model="bert_tiny").reading["kind"] == "pieces"
    assert token_classification.Config(model="lstm").reading["kind"] == "pieces"
    for model, preset in (("bert_tiny", "none"), ("elmo_tiny", "none"), ("bert", "folder")):
        assert Config(model=model, preset=preset).word_dropout == 0.0


def test_elmo_with_random_weights_trains_longer():
    chosen = Config(model="elmo_tiny")
    assert (chosen.epochs, chosen.warmup_epochs, chosen.clip_norm) == (20, 1.0, 1.0)
    assert Config(model="lstm").clip_norm is None
    assert Config(model="elmo_tiny", epochs=1).warmup_epochs == 0.5
    assert Config(model="elmo", preset="folder").epochs == Config(model="lstm").epochs == 10


@pytest.mark.parametrize(
    ("width", "settings", "expected"),
    [
        (384, {"preset": "folder"}, 1e-4),
        (768, {"preset": "folder"}, 5e-5),  # the largest of BERT's paper
        (768, {"preset": "folder", "optimizer": "momentum"}, 2.5e-3),
        (384, {"preset": "folder", "model": "gpt"}, 1e-4),
        (384, {"preset": "folder", "model": "elmo"}, 1e-3),  # only a head is trained
        (384, {"model": "bert_tiny"}, 1e-3),
        (384, {"model": "elmo_tiny"}, 3e-3),
        (384, {}, 3e-3),
        (384, {"optimizer": "adam", "learning_rate": 0.1}, 0.1),
    ],
)
def test_the_learning_rate_falls_with_the_width_of_a_pretrained_transformer(
    width, settings, expected
):
    assert rate(width, **settings) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("preset", "freeze", "trainable"),
    [("folder", None, False), ("folder", False, True), ("none", None, True), ("none", True, False)],
)
def test_elmo_is_trained_unless_it_is_pretrained_or_frozen(preset, freeze, trainable):
    model = "elmo_tiny" if preset == "none" else "elmo"
    chosen = Config(model=model, preset=preset, freeze=freeze)
    assert chosen.elmo_head["trainable"] is trainable


def test_a_pretrained_network_is_advised_while_none_is_used():
    assert "--preset NAME" in Config().advice
    assert not Config(model="bert", preset="folder").advice


@pytest.mark.parametrize(
    ("model", "given", "batch_size", "accumulate"),
    [
        ("bert_tiny", {}, 32, 1),
        ("bert_tiny", {"length": 128}, 32, 1),
        ("bert_tiny", {"length": 256}, 8, 4),
        ("gpt_tiny", {"length": 512}, 2, 16),
        ("gru", {"length": 512}, 32, 1),
        ("bert_tiny", {"length": 512, "batch_size": 24}, 24, 1),
        ("bert_tiny", {"length": 512, "accumulate": 2}, 32, 2),
        ("bert", {"preset": "folder"}, 16, 1),
        ("bert", {"preset": "folder", "length": 256}, 8, 2),
    ],
)
def test_batches_of_long_texts_are_split_in_parts(model, given, batch_size, accumulate):
    chosen = Config(model=model, **given)
    assert (chosen.batch_size, chosen.accumulate) == (batch_size, accumulate)


def test_networks_that_write_choose_as_the_settings_say():
    chosen = dialogue.Config(length=64, seed=7)
    assert chosen.max_tokens == 32 and dialogue.Config(length=1024).max_tokens == 128
    assert chosen.choice == {
        "max_tokens": 32,
        "temperature": 0.8,
        "top_k": 0,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
        "seed": 7,
    }
    assert chosen.text_writer == {
        "length": 64,
        "units": 256,
        "layers": 1,
        "dropout": 0.1,
        "preset": "none",
        "lora_rank": 0,
    }
    with pytest.raises(ValueError, match="`max_tokens` must be below the length, 64"):
        dialogue.Config(length=64, max_tokens=64)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [("top_p", [1e-6, 1.0], [1e-45, 1.1]), ("repetition_penalty", [0.01, 100.0], [1e-38, 101.0])],
)
def test_networks_that_write_refuse_what_clients_may_not_choose(name, good, bad):
    for value in good:
        assert dialogue.Config(**{name: value}).choice[name] == value
    for value in bad:
        with pytest.raises(ValueError, match=f"`{name}` must be in"):
            dialogue.Config(**{name: value})


def test_recurrent_networks_that_write_learn_at_three_times_the_rate():
    def peak(**settings):
        return dialogue.Config(**settings).rates(lambda model: 128).peak(keras.Model())

    assert peak(model="gru") == pytest.approx(3e-3)
    assert peak(model="gpt_nano") == pytest.approx(3e-3)  # 128 features
    assert peak(learning_rate=0.5) == 0.5


@pytest.mark.parametrize(
    ("given", "batches"),
    [
        ({}, (2, 16)),
        ({"batch_size": 32}, (32, 1)),
        ({"batch_size": 16, "accumulate": 2}, (16, 2)),
        ({"batch_size": 2, "accumulate": 16}, (2, 16)),
    ],
)
def test_a_run_with_long_texts_is_repeated_with_its_batches(tmp_path, given, batches):
    config = Config(data="a", model="bert_tiny", length=512, **given)
    assert (config.batch_size, config.accumulate) == batches
    (tmp_path / "config.json").write_text(json.dumps(config.saved))
    again = Config.load(tmp_path)
    assert again == config
    chosen = batches == (2, 16)
    shorter = Config.load(tmp_path, length=128)
    assert (shorter.batch_size, shorter.accumulate) == ((32, 1) if chosen else batches)
    named = {"data", "model", "length"} | (set() if chosen else {"batch_size"})
    assert set(config.changed) - {"accumulate"} == named
    (tmp_path / "model.keras").touch()
    evaluating = Config.evaluating(tmp_path, data="b")
    assert (evaluating.batch_size, evaluating.accumulate) == batches
    assert Config.evaluating(tmp_path, data="b", batch_size=64).batch_size == 64
