import sys

import keras
import matplotlib.image
import numpy as np
import pytest

from callbacks import FeatureVisualization
from callbacks.feature_visualization import draw_grid, only_strongest, strongest_units


def small_cnn(channels=1):
    model = keras.Sequential(
        [
            keras.Input((8, 8, channels)),
            keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="c1"),
            keras.layers.MaxPooling2D(2, name="s2"),
            keras.layers.Conv2D(6, 3, activation="relu", name="c3"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


IMAGES = np.random.default_rng(0).uniform(size=(12, 8, 8, 1)).astype("float32")


def play(callback, model, epochs):
    callback.set_model(model)
    callback.on_train_begin()
    for epoch in range(epochs):
        callback.on_epoch_end(epoch, {})


def test_units_are_ranked_by_their_largest_activation():
    activations = np.zeros((2, 2, 2, 3))
    activations[0, 1, 1] = [1.0, 5.0, 0.0]
    activations[1, 0, 1] = [2.0, 0.0, 3.0]
    assert strongest_units(activations, 2) == [1, 2]


def test_only_the_strongest_activation_of_the_unit_is_kept():
    activations = np.arange(16.0).reshape(2, 2, 2, 2)
    activations[1, 0, 1, 1] = 50.0
    expected = np.zeros_like(activations)
    expected[0, 1, 1, 1] = 7.0
    expected[1, 0, 1, 1] = 50.0
    np.testing.assert_array_equal(only_strongest(activations, 1), expected)


def test_a_picture_is_drawn_at_the_end_of_each_chosen_epoch(tmp_path):
    callback = FeatureVisualization(
        IMAGES, "c3", tmp_path / "features", units=[0, 5], epochs=[0, 2], images_per_unit=3
    )
    play(callback, small_cnn(), epochs=4)
    assert [path.name for path in callback.paths] == ["c3-epoch-000.png", "c3-epoch-002.png"]
    # Two rows; three projections, three images and the label of the row.
    height, width = matplotlib.image.imread(callback.paths[0]).shape[:2]
    assert (height, width) == (240, 630)


def test_colour_images_and_a_silent_unit_are_drawn(tmp_path):
    model = small_cnn(channels=3)
    images = np.repeat(IMAGES, 3, axis=-1)
    kernel, bias = model.get_layer("c1").get_weights()
    bias[2] = -1e3
    model.get_layer("c1").set_weights([kernel, bias])
    callback = FeatureVisualization(images, "c1", tmp_path, units=[1, 2], images_per_unit=2)
    play(callback, model, epochs=1)
    assert callback.paths[0].exists()


def test_the_grid_shows_projections_around_grey_on_the_left_and_images_on_the_right(tmp_path):
    projection = np.array([[[-1.0], [1.0]], [[0.0], [0.0]]])
    image = np.zeros((2, 2, 1))
    draw_grid([(7, projection[None], image[None])], 1, "title", tmp_path / "grid.png")
    pixels = matplotlib.image.imread(tmp_path / "grid.png")[..., 0]
    left, right = np.split(pixels, 2, axis=1)
    for shade in (0.0, 0.5, 1.0):
        assert np.isclose(left, shade, atol=0.01).mean() > 0.02
    assert np.isclose(right, 0.0).mean() > np.isclose(left, 0.0).mean()


def test_pyplot_and_its_global_state_stay_out(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    play(FeatureVisualization(IMAGES, "c1", tmp_path, images_per_unit=1), small_cnn(), epochs=1)
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.slow
def test_fit_draws_every_epoch_and_a_second_run_starts_a_new_list(tmp_path):
    model = small_cnn()
    callback = FeatureVisualization(IMAGES, "c3", tmp_path, units=[0], images_per_unit=1)
    labels = np.arange(12) % 3
    model.fit(IMAGES, labels, epochs=2, verbose=0, callbacks=[callback])
    assert [path.exists() for path in callback.paths] == [True, True]
    model.fit(IMAGES, labels, epochs=1, verbose=0, callbacks=[callback])
    assert len(callback.paths) == 1


def test_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match=r"`images`.*\(2, 8, 8\)"):
        FeatureVisualization(np.zeros((2, 8, 8)), "c1", tmp_path)
    with pytest.raises(ValueError, match="`images_per_unit`"):
        FeatureVisualization(IMAGES, "c1", tmp_path, images_per_unit=0)
    with pytest.raises(ValueError, match=r"\[0, 4\).*units=\[4\]"):
        play(FeatureVisualization(IMAGES, "c1", tmp_path, units=[4]), small_cnn(), epochs=1)
