import keras
import pytest

from runs.presets import with_weights_of, write_preset


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
