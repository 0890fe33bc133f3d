from functools import cache

import keras
import numpy as np
import pytest

from models import imagenet
from models.imagenet import (
    PRESETS,
    Preset,
    download,
    pretrained,
    transfer,
    weighted_layers,
    with_preprocessing,
)
from tests.models.blueprint import blueprint, with_slow

DEEPER = ("resnet101", "resnet152", "vgg19")
"""What is built as another one is, only with more layers."""
SIDES = {"inception_v3": 75, "inception_resnet_v2": 75, "mobilenet": 65}
PREPROCESS = {
    "caffe": keras.applications.resnet.preprocess_input,
    "tf": keras.applications.mobilenet.preprocess_input,
}


def randomize(model: keras.Model) -> None:
    """Gives all weights values that no initializer gives, of a size that lets signals through."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name == "kernel" and weight.shape[-1] == 1:
            # Depthwise, which initializers treat as a kernel over all channels.
            weight.assign(random.normal(0, 0.5, weight.shape))
        elif weight.name == "kernel":
            # From Glorot's variance to He's, which ReLU needs.
            weight.assign(weight * 2**0.5)
        elif weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.6, 1.4, weight.shape))
        else:
            weight.assign(random.normal(0, 0.1, weight.shape))


def application(preset: Preset, side: int) -> keras.Model:
    model = preset.application(
        weights=None, input_shape=(side, side, 3), classes=7, classifier_activation=None
    )
    randomize(model)
    return model


def random_images(height: int, width: int) -> np.ndarray:
    """Two images of noise, a dark and a bright one."""
    noise = np.random.default_rng(1).uniform(0, 0.5, (2, height, width, 3)).astype("float32")
    return noise + np.array([0, 0.5], "float32").reshape(2, 1, 1, 1)


def largest_difference(answer, expected) -> float:
    """As a share of the largest expected number."""
    answer, expected = np.asarray(answer), np.asarray(expected)
    assert answer.shape == expected.shape
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * np.abs(expected).max()
    return np.abs(answer - expected).max() / np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", with_slow(sorted(PRESETS.keys() - DEEPER), PRESETS.keys() - {"mobilenet"})
)
def test_network_with_transferred_weights_answers_as_keras_applications(name):
    preset, side = PRESETS[name], SIDES.get(name, 32)
    source = application(preset, side)
    images = random_images(side, side)
    logits = source(PREPROCESS[preset.mode](images * 255), training=False)
    target = preset.build(input_shape=(side, side, 3), num_classes=7)
    target = with_preprocessing(target, preset.mode)
    loaded = transfer(source, target, preset.mode)
    assert sum(len(layer.weights) for layer in loaded) == len(target.weights)
    assert largest_difference(target(images, training=False), logits) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEPER)
def test_deeper_networks_meet_kernels_of_the_same_shapes_in_the_same_order(name):
    def kernels(model):
        layers = weighted_layers(model)
        return [w.shape for layer in layers for w in layer.weights if w.name == "kernel"]

    preset, shape = PRESETS[name], (32, 32, 3)
    source = blueprint(preset.application, weights=None, input_shape=shape, classes=7)
    assert kernels(blueprint(preset.build, shape, 7)) == kernels(source)


@cache
def downloaded(name: str, include_top: bool, side: int) -> keras.Model:
    """What a download gives, made once for all tests: they do not change it."""
    made = PRESETS[name].application(
        weights=None, include_top=include_top, input_shape=(side, side, 3)
    )
    randomize(made)
    return made


def fake_download(monkeypatch, side: int) -> list[keras.Model]:
    def fake(name, include_top):
        sources.append(downloaded(name, include_top, side))
        return sources[-1]

    sources: list[keras.Model] = []
    monkeypatch.setattr(imagenet, "download", fake)
    return sources


@pytest.mark.parametrize(
    ("name", "last"),
    [
        pytest.param("vgg16", "pool5", marks=pytest.mark.slow),
        pytest.param("resnet50", "conv5_block3", marks=pytest.mark.slow),
    ],
)
def test_new_classes_get_a_new_head_on_the_same_trunk(name, last, monkeypatch):
    sources = fake_download(monkeypatch, 32)
    model = pretrained(name, (32, 32, 3), num_classes=5)
    images = random_images(32, 32)
    trunk = keras.Model(model.input, model.get_layer(last).output)
    features = sources[0](PREPROCESS["caffe"](images * 255), training=False)
    assert largest_difference(trunk(images, training=False), features) < 1e-4
    assert model(images).shape == (2, 5)


@pytest.mark.slow
def test_the_classes_of_imagenet_keep_their_head(monkeypatch):
    sources = fake_download(monkeypatch, 96)
    model = pretrained("mobilenet", (64, 64, 3))
    kernel = np.squeeze(sources[0].get_layer("conv_preds").kernel)
    np.testing.assert_array_equal(model.get_layer("logits").kernel, kernel)


@pytest.mark.slow
def test_vgg_at_another_size_gets_a_new_head(monkeypatch):
    sources = fake_download(monkeypatch, 32)
    model = pretrained("vgg16", (32, 32, 3), num_classes=1000)
    assert "predictions" not in {layer.name for layer in sources[0].layers}
    last = model.get_layer("conv5_3")
    np.testing.assert_array_equal(last.kernel, sources[0].get_layer("block5_conv3").kernel)


def test_a_frozen_trunk_stays_as_it_is_and_the_head_learns(monkeypatch):
    fake_download(monkeypatch, 32)
    model = pretrained("mobilenet", (32, 32, 3), num_classes=3, trainable=False)
    assert model.trainable_weights == model.get_layer("logits").weights
    before = [np.array(weight) for weight in model.weights]
    images = random_images(32, 32)
    inference = model(images, training=False)
    model.get_layer("dropout").rate = 0
    np.testing.assert_allclose(model(images, training=True), inference, rtol=1e-4, atol=1e-5)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    model.train_on_batch(images, np.eye(3, dtype="float32")[:2])
    changed = {
        weight.path
        for weight, old in zip(model.weights, before, strict=True)
        if np.any(np.array(weight) != old)
    }
    assert changed == {"logits/kernel", "logits/bias"}


@pytest.mark.slow
def test_an_unfrozen_trunk_learns(monkeypatch):
    fake_download(monkeypatch, 32)
    model = pretrained("mobilenet", (32, 32, 3), num_classes=3)
    assert model.get_layer("conv1").kernel in model.trainable_weights


@pytest.mark.slow
def test_pretrained_model_survives_saving(monkeypatch, tmp_path):
    fake_download(monkeypatch, 32)
    model = pretrained("mobilenet", (32, 32, 3), num_classes=3, trainable=False)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    images = random_images(32, 32)
    np.testing.assert_array_equal(restored(images), model(images))
    assert len(restored.trainable_weights) == 2


def test_layers_are_met_from_the_output_branch_by_branch():
    images = keras.Input((8,))
    stem = keras.layers.Dense(4, name="stem")(images)
    left = keras.layers.Dense(2, name="left")(stem)
    right = keras.layers.ReLU()(keras.layers.Dense(2, name="right")(stem))
    last = keras.layers.Dense(1, name="last")(keras.layers.Concatenate()([left, right]))
    model = keras.Model(images, last)
    assert [layer.name for layer in weighted_layers(model)] == ["last", "left", "stem", "right"]


def test_another_network_is_refused():
    source = application(PRESETS["mobilenet"], 32)
    target = PRESETS["mobilenet"].build(input_shape=(32, 32, 3), num_classes=7, width=0.5)
    with pytest.raises(ValueError, match=r"conv_dw|conv_pw|conv_preds"):
        transfer(source, target, "tf")


@pytest.mark.parametrize("include_top", [True, False], ids=["top", "no_top"])
@pytest.mark.parametrize("name", ["vgg19", "resnet50", "inception_v3", "mobilenet"])
def test_without_network_the_error_names_file_and_address(name, include_top, monkeypatch):
    tried = []

    def fail(fname, origin, **kwargs):
        tried.append((fname, origin))
        raise Exception(f"URL fetch failure on {origin}: no route to host")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fail)
    with (
        keras.StatelessScope(initialize_variables=False),
        pytest.raises(ConnectionError, match="no route to host") as raised,
    ):
        download(name, include_top)
    [(file, address)] = tried
    assert f"or at {address}." in str(raised.value)
    assert f"~/.keras/models/{file}" in str(raised.value)
    assert "KERAS_HOME" in str(raised.value)


def test_unknown_preset_and_gray_images_are_refused():
    with pytest.raises(ValueError, match=r"`name` must be one of vgg16.*Received: name='lenet5'"):
        pretrained("lenet5")
    with pytest.raises(ValueError, match=r"must be \(height, width, 3\).*Received.*\(32, 32, 1\)"):
        pretrained("resnet50", (32, 32, 1))
