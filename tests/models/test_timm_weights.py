from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_sample_image

from models.efficientnet_lite import efficientnet_lite
from models.imagenet import pretrained
from models.timm_weights import load_timm


def as_timm(model: keras.Model) -> dict[str, np.ndarray]:
    """Writes the weights of EfficientNet-Lite0 by timm's names, from its published structure."""
    layers = {layer.name: layer for layer in model.layers}
    tensors = {}

    def put_norm(name, layer):
        values = {weight.name: np.asarray(weight) for weight in layers[layer].weights}
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = values["gamma"], values["beta"]
        tensors[f"{name}.running_mean"] = values["moving_mean"]
        tensors[f"{name}.running_var"] = values["moving_variance"]

    def put_convolution(name, layer, axes=(3, 2, 0, 1)):
        tensors[f"{name}.weight"] = np.asarray(layers[layer].kernel).transpose(axes).copy()

    put_convolution("conv_stem", "stem")
    put_norm("bn1", "stem_norm")
    put_convolution("conv_head", "head")
    put_norm("bn2", "head_norm")
    tensors["classifier.weight"] = np.asarray(layers["logits"].kernel).T.copy()
    tensors["classifier.bias"] = np.asarray(layers["logits"].bias)
    for stage, blocks in enumerate([1, 2, 2, 3, 3, 4, 1]):
        for block in range(blocks):
            ours, theirs = f"stage{stage}_block{block}", f"blocks.{stage}.{block}"
            first = 1
            if stage:
                put_convolution(f"{theirs}.conv_pw", f"{ours}_expand")
                put_norm(f"{theirs}.bn1", f"{ours}_expand_norm")
                first = 2
            put_convolution(f"{theirs}.conv_dw", f"{ours}_depthwise", (2, 3, 0, 1))
            put_norm(f"{theirs}.bn{first}", f"{ours}_depthwise_norm")
            put_convolution(f"{theirs}.conv_pw{'l' if stage else ''}", f"{ours}_project")
            put_norm(f"{theirs}.bn{first + 1}", f"{ours}_project_norm")
    return tensors


def with_values(model: keras.Model) -> keras.Model:
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    save_file(as_timm(with_values(efficientnet_lite((32, 32, 3), 4))), path)
    return path


def test_every_tensor_reaches_its_weight(file):
    model = efficientnet_lite((32, 32, 3), 4)
    assert load_timm(model, file)[0].name == "stem"
    expected = with_values(efficientnet_lite((32, 32, 3), 4))
    for weight, given in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(weight, given)


def test_another_number_of_classes_leaves_the_head_as_it_is(file):
    model = pretrained("efficientnet_lite0", (32, 32, 3), 7, trainable=False, file=file)
    assert np.std(model.get_layer("logits").kernel) < 0.2
    assert [layer.name for layer in model.layers if layer.trainable_weights] == ["logits"]


@pytest.mark.parametrize("change", ["missing", "more", "shape", "no file of tensors"])
def test_a_file_of_another_network_is_refused(file, change, tmp_path):
    tensors = load_file(file)
    match change:
        case "missing":
            del tensors["bn1.bias"]
        case "more":
            tensors["blocks.9.0.bn1.bias"] = np.zeros(2, "float32")
        case "shape":
            tensors["conv_stem.weight"] = tensors["conv_stem.weight"][:16].copy()
    save_file(tensors, tmp_path / "other.safetensors")
    if change == "no file of tensors":
        (tmp_path / "other.safetensors").write_text("nothing")
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        load_timm(efficientnet_lite((32, 32, 3), 4), tmp_path / "other.safetensors")


@pytest.mark.slow
def test_weights_of_imagenet_recognise_two_photographs(shared_presets):
    file = shared_presets / "efficientnet_lite0.safetensors"
    model = pretrained("efficientnet_lite0", file=file)
    palace, bell_cote, monastery, daisy = 698, 442, 663, 985
    top = {}
    for name in ("china.jpg", "flower.jpg"):
        image = load_sample_image(name)[:, 106:-107] / np.float32(255)
        small = keras.ops.image.resize(image, (224, 224), antialias=True)
        top[name] = np.argsort(np.asarray(model(small[None]))[0])[::-1][:5]
    assert top["china.jpg"][0] == palace and {bell_cote, monastery} <= {*top["china.jpg"]}
    assert top["flower.jpg"][0] == daisy
