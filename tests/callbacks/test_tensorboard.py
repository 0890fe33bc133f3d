import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from callbacks import TensorBoardLogs
from callbacks.tensorboard import write_images

EPOCHS = [
    {"loss": 0.5, "val_loss": 0.25, "kept_epoch": 1},
    {"loss": 0.25, "val_loss": 0.5, "kept_epoch": 1},
    {"loss": np.float32(0.125), "val_loss": 0.75, "kept_epoch": 3},
]
LOSSES = [(1, "loss", 0.5), (2, "loss", 0.25), (3, "loss", 0.125)]


def events(folder):
    """The values in the files of a folder, in the order in which TensorBoard reads them."""
    records = tf.data.TFRecordDataset([str(path) for path in sorted(folder.glob("events.*"))])
    found = [tf.compat.v1.Event.FromString(one) for one in records.as_numpy_iterator()]
    return [(event.step, value) for event in found for value in event.summary.value]


def scalars(folder):
    return [(step, value.tag, value.simple_value) for step, value in events(folder)]


def play(callback, epochs, first_epoch=0):
    callback.set_model(keras.Sequential())
    callback.on_train_begin()
    for epoch, logs in enumerate(epochs, first_epoch):
        callback.on_epoch_end(epoch, logs)
    return callback


def test_training_and_validation_share_the_names_of_their_curves(tmp_path):
    play(TensorBoardLogs(tmp_path), EPOCHS).on_train_end()
    found = scalars(tmp_path / "train")
    assert [one for one in found if one[1] == "loss"] == LOSSES
    assert (3, "kept_epoch", 3.0) in found and len(found) == 6
    assert scalars(tmp_path / "validation") == [
        *((1, "loss", 0.25), (2, "loss", 0.5), (3, "loss", 0.75)),
    ]


def test_an_epoch_can_be_seen_at_its_end(tmp_path):
    play(TensorBoardLogs(tmp_path), EPOCHS[:1])
    assert scalars(tmp_path / "train")[0] == (1, "loss", 0.5)


@pytest.mark.parametrize("known", [1, 2])
def test_no_epoch_is_there_twice_after_a_resumption(tmp_path, known):
    # The run was interrupted after two epochs; its checkpoint knows one or both of them.
    play(TensorBoardLogs(tmp_path), EPOCHS[:2])
    history = {name: [logs[name] for logs in EPOCHS[:known]] for name in EPOCHS[0]}
    play(TensorBoardLogs(tmp_path, history), EPOCHS[known:], known).on_train_end()
    assert [one for one in scalars(tmp_path / "train") if one[1] == "loss"] == LOSSES


def test_a_new_run_replaces_the_logs_and_nothing_else(tmp_path):
    play(TensorBoardLogs(tmp_path), EPOCHS).on_train_end()
    (tmp_path / "train" / "notes.txt").touch()
    play(TensorBoardLogs(tmp_path), [{"loss": 2.0}]).on_train_end()
    assert scalars(tmp_path / "train") == [(1, "loss", 2.0)]
    assert scalars(tmp_path / "validation") == []
    assert (tmp_path / "train" / "notes.txt").exists()


def test_it_works_in_fit(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data, logs = np.ones((4, 1)), TensorBoardLogs(tmp_path)
    history = model.fit(
        data, data, epochs=2, validation_data=(data, data), verbose=0, callbacks=[logs]
    ).history
    for part, name in (("train", "loss"), ("validation", "val_loss")):
        losses = [value for _, tag, value in scalars(tmp_path / part) if tag == "loss"]
        assert losses == pytest.approx(history[name])


def test_images_are_written_as_they_are(tmp_path):
    content = io.BytesIO()
    Image.new("RGBA", (5, 3)).save(content, "PNG")
    for titles in (["Old"], ["Confusion matrix", "Mistakes"]):
        write_images(tmp_path, dict.fromkeys(titles, content.getvalue()))
    found = [value for _, value in events(tmp_path)]
    assert [value.tag for value in found] == ["Confusion matrix", "Mistakes"]
    image = found[0].image
    assert (image.height, image.width, image.colorspace) == (3, 5, 4)
    assert image.encoded_image_string == content.getvalue()
