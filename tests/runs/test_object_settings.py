import pytest

from apps.image_classification import Config as Classification
from apps.object_detection import Config


def test_networks_for_small_images_are_narrow():
    small = Config().widths((128, 400))
    assert small == {
        "pyramid_channels": 64,
        "head_units": 256,
        "regions": 128,
        "canonical_size": 112,
        "region_size": 7,
    }
    large = Config(regions=77).widths((128, 416))
    assert large == {
        "pyramid_channels": 256,
        "head_units": 1024,
        "regions": 77,
        "canonical_size": 224,
        "region_size": 14,
    }


def test_patience_lasts_until_the_next_validation():
    Config(evaluate_every=3, patience=3)
    with pytest.raises(ValueError, match="`patience` must be 0 or at least evaluate_every"):
        Config(evaluate_every=3, patience=2)


@pytest.mark.parametrize("config", [Classification, Config])
def test_weights_may_come_from_a_file(config, tmp_path):
    file = tmp_path / "lite0.safetensors"
    with pytest.raises(ValueError, match="`preset` must be a file that exists"):
        config(preset=str(file))
    file.write_bytes(b"")
    name = "model" if config is Classification else "backbone"
    chosen = config(preset=str(file), **{name: "efficientnet_lite0"})
    assert chosen.weights_file == file
    assert config().weights_file is None


def test_a_file_has_weights_of_some_networks_only(tmp_path):
    file = tmp_path / "lite0.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="`preset` is for the models efficientnet_lite0"):
        Classification(model="lenet5", preset=str(file))
    with pytest.raises(
        ValueError, match="`preset` must be none, or `backbone` one of resnet50, effic"
    ):
        Config(backbone="resnet18", preset=str(file))
    with pytest.raises(ValueError, match="or `backbone` one of vgg16, resnet50, resnet101, mobil"):
        Config(backbone="resnet18", preset="imagenet")
    assert Config(backbone="mobilenet", preset="imagenet").is_pretrained
