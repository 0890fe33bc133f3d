import keras
import numpy as np
import pytest
import tensorflow as tf

from models.elmo import (
    ELMO_SIZES,
    WORD_LENGTH,
    ElmoSize,
    elmo_backbone,
    elmo_classifier,
    elmo_language_model,
    elmo_tagger,
    pretrained_elmo,
    save_elmo,
)
from tests.models.blueprint import count, with_slow

PUBLISHED = {"small": 13.6, "medium": 28.0, "original": 93.6}
"""Millions of parameters of the backbone, that is without the softmax."""

MODELS = {
    "language model": lambda backbone: elmo_language_model(backbone, 20),
    "frozen classifier": lambda backbone: elmo_classifier(backbone, 3, units=4),
    "classifier": lambda backbone: elmo_classifier(backbone, 3, trainable=True, units=4),
    "tagger": lambda backbone: elmo_tagger(backbone, 4, units=4),
}


@pytest.fixture(autouse=True)
def quick_size(monkeypatch):
    monkeypatch.setitem(ELMO_SIZES, "quick", ElmoSize(6, 4, 1, ((1, 3), (2, 5))))


def quick_backbone(dropout: float = 0.0) -> keras.Model:
    """A small backbone whose weights are large enough that every one shows."""
    backbone = elmo_backbone("quick", num_characters=30, dropout=dropout)
    random = np.random.default_rng(3)
    for weight in backbone.weights:
        weight.assign(np.asarray(weight) + random.normal(0, 0.3, weight.shape))
    return backbone


def text(rows=3, words=5, seed=0) -> np.ndarray:
    """Characters `(rows, words, 50)`; each row has one word less, each word 1 to 5 letters."""
    random = np.random.default_rng(seed)
    characters = random.integers(1, 30, (rows, words, WORD_LENGTH))
    characters *= np.arange(WORD_LENGTH) < random.integers(1, 6, (rows, words, 1))
    characters *= (np.arange(words) < words - np.arange(rows)[:, None])[:, :, None]
    return characters.astype("int32")


def given(name: str, characters: np.ndarray):
    """What a model takes: heads take their features by name, as those of other networks do."""
    return characters if name == "language model" else {"characters": characters}


def numpy_lstm(x, mask, weights, backwards):
    kernel, recurrent, bias, projection = weights
    h, c = np.zeros((len(x), len(recurrent))), np.zeros((len(x), len(projection)))
    outputs = np.zeros((*x.shape[:2], len(recurrent)))
    for step in reversed(range(x.shape[1])) if backwards else range(x.shape[1]):
        i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent + bias, 4, axis=-1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        carry = np.clip(f * c + i * np.tanh(g), -3, 3)
        hidden = np.clip((o * np.tanh(carry)) @ projection, -3, 3)
        real = mask[:, step, None]
        h, c = np.where(real, hidden, h), np.where(real, carry, c)
        outputs[:, step] = np.where(real, hidden, 0)
    return outputs


def numpy_elmo(backbone, characters) -> list[np.ndarray]:
    weights = {layer.name: layer.get_weights() for layer in backbone.layers}
    mask = (characters > 0).any(-1)
    x = weights["character_embedding"][0][characters]
    found = []
    for width in (1, 2):
        kernel, bias = weights[f"convolution{width}"]
        windows = np.lib.stride_tricks.sliding_window_view(x, width, axis=2)  # (..., dim, width)
        answers = np.einsum("bwpdk,kdf->bwpf", windows, kernel[0]) + bias
        found.append(np.maximum(answers.max(axis=2), 0))
    x = np.concatenate(found, axis=-1)
    kernel, bias, gate_kernel, gate_bias = weights["highway1"]
    gate = 1 / (1 + np.exp(-(x @ gate_kernel + gate_bias)))
    x = gate * np.maximum(x @ kernel + bias, 0) + (1 - gate) * x
    kernel, bias = weights["projection"]
    x = (x @ kernel + bias) * mask[:, :, None]
    stacks = []
    for direction in ("forward", "backward"):
        first, second = (weights[f"{direction}{number}"] for number in (1, 2))
        one = numpy_lstm(x, mask, first, direction == "backward")
        two = one + numpy_lstm(one, mask, second, direction == "backward")
        stacks.append([x, one, two])
    return [np.concatenate(pair, axis=-1) for pair in zip(*stacks, strict=True)]


@pytest.mark.parametrize("size", PUBLISHED)
def test_parameters_round_to_the_published_millions(size):
    with keras.StatelessScope(initialize_variables=False):
        backbone = elmo_backbone(size)
    assert round(count(backbone.weights) / 1e6, 1) == PUBLISHED[size]


def test_parameters_are_those_of_the_formula():
    # Published: 262 characters of 16, 2048 filters, 2 highway layers, projections and LSTMs.
    filters = sum(width * 16 * number + number for width, number in ELMO_SIZES["original"].filters)
    highways = 2 * 2 * (2048 * 2048 + 2048)
    lstm = (512 + 512) * 4 * 4096 + 4 * 4096 + 4096 * 512
    published = 262 * 16 + filters + highways + 2048 * 512 + 512 + 4 * lstm
    with keras.StatelessScope(initialize_variables=False):
        backbone = elmo_backbone()
        model = elmo_language_model(backbone, 1000)
    assert count(backbone.weights) == published == 93_600_864
    assert count(model.weights) == published + (512 + 1) * 1000


def test_layers_are_those_of_elmo_written_out():
    backbone = quick_backbone()
    layers = backbone(text())
    wanted = numpy_elmo(backbone, text())
    assert len(layers) == 3
    for found, layer in zip(layers, wanted, strict=True):
        assert found.shape == (3, 5, 8)
        np.testing.assert_allclose(found, layer, atol=1e-5)
    np.testing.assert_array_equal(layers[0][:, :, :4], layers[0][:, :, 4:])


def test_each_direction_sees_only_its_own_side():
    model = elmo_language_model(quick_backbone(), 20)
    characters = text(rows=1)
    changed = characters.copy()
    changed[0, 2, 0] += 1
    before, after = model(characters), model(changed)
    for direction, sees in (("forward", slice(2, None)), ("backward", slice(None, 3))):
        moved = np.abs(np.asarray(after[direction]) - np.asarray(before[direction])).max((0, 2))
        seen = np.zeros(5, bool)
        seen[sees] = True
        assert (moved[seen] > 1e-6).all() and (moved[~seen] == 0).all(), direction


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_no_answer(name):
    model = MODELS[name](quick_backbone())
    characters = text()
    longer = np.pad(characters, ((0, 0), (0, 4), (0, 0)))
    real = (characters > 0).any(-1)
    answers = [tf.nest.flatten(model(given(name, some))) for some in (characters, longer)]
    for short, long in zip(*answers, strict=True):
        short, long = np.asarray(short), np.asarray(long)
        if short.ndim == 3:
            short, long = short[real], long[:, :5][real]
        np.testing.assert_allclose(short, long, atol=1e-5)


def test_one_softmax_serves_both_directions():
    backbone = quick_backbone()
    model = elmo_language_model(backbone, 20)
    kernel, bias = model.get_layer("softmax").get_weights()
    top = np.asarray(backbone(text())[-1])
    answer = model(text())
    np.testing.assert_allclose(answer["forward"], top[..., :4] @ kernel + bias, atol=1e-5)
    np.testing.assert_allclose(answer["backward"], top[..., 4:] @ kernel + bias, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", with_slow(MODELS, ("frozen classifier",)))
def test_every_model_survives_saving_and_compiles(name, tmp_path):
    model = MODELS[name](quick_backbone(0.1))
    features = given(name, text())
    answer = model(features)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    compiled = tf.function(model, jit_compile=True, autograph=False)(features)
    for other in (restored(features), compiled):
        tf.nest.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), answer, other
        )
    for kind in ("weights", "trainable_weights"):
        assert count(getattr(restored, kind)) == count(getattr(model, kind))


@pytest.mark.parametrize("name", MODELS)
def test_mixed_precision_gives_logits_in_float32(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = MODELS[name](quick_backbone())
    for logits in tf.nest.flatten(model(given(name, text()))):
        assert logits.dtype == tf.float32 and np.isfinite(logits).all()


def test_a_frozen_backbone_keeps_its_weights_and_drops_nothing():
    backbone = quick_backbone(dropout=0.5)
    model = elmo_classifier(backbone, 3, units=4, dropout=0.0)
    trained = count(model.trainable_weights)
    attention, lstm = 8 * 4 + 4 + 4, 2 * 4 * ((8 + 4) * 4 + 4)
    assert trained == 3 + 1 + lstm + attention + (8 + 1) * 3
    features = {"characters": text()}
    np.testing.assert_allclose(model(features, training=True), model(features), atol=1e-6)
    before = backbone.get_weights()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, run_eagerly=True)
    model.train_on_batch(features, np.arange(3))
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_fine_tuning_trains_the_backbone_too_and_drops():
    frozen = count(elmo_tagger(quick_backbone(), 3, units=4, dropout=0.0).trainable_weights)
    backbone = quick_backbone(dropout=0.5)
    model = elmo_tagger(backbone, 3, trainable=True, units=4, dropout=0.0)
    assert count(model.trainable_weights) == frozen + count(backbone.weights)
    features = {"characters": text()}
    assert not np.allclose(model(features, training=True), model(features), atol=1e-4)


@pytest.mark.slow  # The app trains it, too.
def test_the_loss_of_the_language_model_falls_on_one_batch():
    model = elmo_language_model(quick_backbone(), 20)
    words = np.random.default_rng(0).integers(1, 20, (3, 5))
    real = (text() > 0).any(-1)
    # 0 is not a word: past the end, before the beginning, and in padding.
    targets = {
        "forward": np.pad(words * real, ((0, 0), (0, 1)))[:, 1:],
        "backward": np.pad(words * real, ((0, 0), (1, 0)))[:, :-1] * real,
    }
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(
        keras.optimizers.Adam(0.05), {"forward": loss, "backward": loss}, run_eagerly=True
    )
    losses = []
    for _ in range(6):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(text(), targets)[0]))
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classifier", "tagger"])
def test_the_loss_of_a_head_falls_on_one_batch(name):
    model = MODELS[name](quick_backbone())
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    labels = np.arange(15).reshape(3, 5) % 4 if name == "tagger" else np.arange(3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss, run_eagerly=True)
    losses = []
    for _ in range(6):
        model.reset_metrics()
        losses.append(float(model.train_on_batch({"characters": text()}, labels)))
    assert losses[-1] < 0.9 * losses[0]


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="`size` must be one of tiny, small, medium, original"):
        elmo_backbone("huge")


def test_a_preset_gives_back_the_backbone(tmp_path):
    backbone = quick_backbone(dropout=0.2)
    save_elmo(backbone, tmp_path / "preset")
    restored = pretrained_elmo(tmp_path / "preset")
    assert count(restored.trainable_weights) == count(backbone.trainable_weights)
    for layer, other in zip(backbone(text()), restored(text()), strict=True):
        np.testing.assert_array_equal(layer, other)
    drops = [layer.rate for layer in restored.layers if isinstance(layer, keras.layers.Dropout)]
    assert drops == [0.2] * 4


def test_a_preset_takes_the_precision_of_the_policy(tmp_path):
    backbone = quick_backbone()
    save_elmo(backbone, tmp_path)
    keras.config.set_dtype_policy("mixed_bfloat16")
    loaded = pretrained_elmo(tmp_path)
    assert {layer.compute_dtype for layer in loaded.layers} == {"bfloat16"}
    assert {
        cell.compute_dtype for layer in loaded.layers if (cell := getattr(layer, "cell", None))
    } == {"bfloat16"}
    for found, wanted in zip(loaded(text()), backbone(text()), strict=True):
        np.testing.assert_allclose(tf.cast(found, tf.float32), wanted, atol=0.02)


def test_the_backbone_below_a_language_model_can_be_saved_by_itself(tmp_path):
    backbone = quick_backbone()
    elmo_language_model(backbone, 20)
    save_elmo(backbone, tmp_path)
    np.testing.assert_array_equal(pretrained_elmo(tmp_path)(text())[-1], backbone(text())[-1])


def test_a_folder_without_elmo_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"`folder` must hold elmo\.keras.*Received: folder="
    ):
        pretrained_elmo(tmp_path)
