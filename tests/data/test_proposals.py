import numpy as np
import pytest
import tensorflow as tf

from data import objects, proposals
from data.proposals import cache_folder, with_proposals
from data.selective_search import search_into, selective_search
from tests.apps.test_object_detection import squares


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "voc").mkdir()
    return objects.load(squares(tmp_path / "voc", 6), image_size=(32, 32))


def found(data, **settings):
    return with_proposals(data, **{"mode": "single", "smallest": 4, "most": 5} | settings)


def test_boxes_are_in_pixels_of_the_upright_image_and_padded(data):
    image, one = next(found(data).train.as_numpy_iterator())
    most = found(data).num_proposals
    assert one["proposals"].shape == (most, 4) and one["proposals"].dtype == np.float32
    assert found(data, most=3).num_proposals == 3 < most
    half = tf.image.resize(tf.io.decode_png(image), (32, 32), antialias=True)
    expected = 2 * selective_search(np.round(half).astype(np.uint8), "single", smallest=4)[:most]
    padding = np.zeros((most - len(expected), 4))
    np.testing.assert_array_equal(one["proposals"], np.concatenate([expected, padding]))


def test_a_stopped_search_continues_and_settings_have_boxes_of_their_own(data, monkeypatch):
    searched = []

    def search(file, *arguments):
        if len(searched) == 2:
            raise KeyboardInterrupt
        searched.append(file)
        search_into(file, *arguments)

    monkeypatch.setattr(proposals, "search_into", search)
    with pytest.raises(KeyboardInterrupt):
        found(data)
    assert {file for file in cache_folder().rglob("*") if file.is_file()} == {*searched}
    searched.clear()
    monkeypatch.setattr(
        proposals, "search_into", lambda *task: (searched.append(task[0]), search_into(*task))
    )
    for settings, more in (({}, 4), ({}, 0), ({"most": 3}, 0), ({"smallest": 5}, 6)):
        before = len(searched)
        found(data, **settings)
        assert len(searched) - before == more, settings


@pytest.mark.slow
def test_several_processes_find_the_same(data, monkeypatch):
    alone = [one["proposals"] for _, one in found(data).train.as_numpy_iterator()]
    for file in cache_folder().rglob("*"):
        if file.is_file():
            file.unlink()
    monkeypatch.setattr(proposals, "WORTH_PROCESSES", 1)
    together = [one["proposals"] for _, one in found(data).train.as_numpy_iterator()]
    np.testing.assert_array_equal(alone, together)
