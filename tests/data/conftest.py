"""Small images on disk, and small prepared data sets."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def draw():
    """A function that writes a small image that no other seed gives."""

    def write(path, seed, size=(8, 9), mode="RGB"):
        levels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).convert(mode).save(path)

    return write


@pytest.fixture
def folder(tmp_path, draw):
    """A folder of 50 cats and 50 dogs."""
    for i in range(100):
        draw(tmp_path / "pets" / ("cat" if i % 2 else "dog") / f"{i}.png", seed=i)
    return tmp_path / "pets"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A function that prepares a small data set of TensorFlow Datasets, found by its name."""
    import tensorflow_datasets as tfds

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))

    def write(features, **splits):
        tfds.dataset_builders.store_as_tfds_dataset(
            name="tiny",
            version="1.0.0",
            features=tfds.features.FeaturesDict(features),
            split_datasets={split: list(enumerate(rows)) for split, rows in splits.items()},
            data_dir=tmp_path / "tfds",
            disable_shuffling=True,
        )

    return write
