"""The moving average of the weights in the loop; what a checkpoint holds is in test_gan.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from callbacks import BestWeights
from tests.training.test_loop import assert_same_weights
from training.checkpoint import Checkpoint
from training.loop import fit
from training.optimizers import optimizer

X = np.linspace(-1, 1, 8, dtype="float32")[:, None]
DATA = tf.data.Dataset.from_tensor_slices((X, 2 * X)).batch(8)


class Recorder(keras.callbacks.Callback):
    """Keeps the weight as training has it and as the end of the epoch sees it."""

    def __init__(self):
        super().__init__()
        self.trained: list[float] = []
        self.seen: list[float] = []

    def on_train_batch_end(self, batch, logs=None):
        self.trained.append(self.model.get_weights()[0].item())

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.model.get_weights()[0].item())


def train(average, callbacks=(), checkpoint=None, epochs=6, accumulate=1):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    made = optimizer("momentum", 0.3, average=average, accumulate=accumulate)
    model.compile(made, "mse", jit_compile=False)
    history = fit(
        model,
        lambda step: DATA.repeat().skip(step),
        epochs=epochs,
        steps_per_epoch=1,
        validation=DATA,
        callbacks=callbacks,
        checkpoint=checkpoint,
        checkpoint_every=1,
    )
    return model, history


def test_validation_callbacks_and_the_end_see_the_averaged_weights():
    recorder = Recorder()
    model, history = train(0.5, [recorder])
    averages = [recorder.trained[0]]
    for weight in recorder.trained[1:]:
        averages.append(0.5 * averages[-1] + 0.5 * weight)
    assert recorder.seen == pytest.approx(averages)
    losses = [np.mean((weight * X - 2 * X) ** 2) for weight in averages]
    assert history["val_loss"] == pytest.approx(losses)
    assert model.get_weights()[0].item() == pytest.approx(averages[-1])


def test_training_itself_is_the_same_with_an_average():
    averaged, plain = Recorder(), Recorder()
    train(0.9, [averaged])
    train(None, [plain])
    assert averaged.trained == plain.trained == plain.seen != averaged.seen


def test_average_before_the_first_update_is_the_initial_weights():
    recorder = Recorder()
    train(0.5, [recorder], accumulate=4)
    assert recorder.seen[:3] == recorder.trained[:3] == [recorder.trained[0]] * 3
    assert recorder.seen[3] == recorder.trained[3] != recorder.trained[2]


def test_best_epoch_is_chosen_and_kept_by_its_averaged_weights():
    best, recorder = BestWeights("val_loss"), Recorder()
    model, history = train(0.5, [best, recorder], epochs=12)
    assert best.best == min(history["val_loss"]) < best.last
    assert model.get_weights()[0].item() == recorder.seen[best.best_epoch]


def test_resumed_run_with_an_average_ends_with_the_same_bits(tmp_path):
    class FailsIn(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise OSError("no space left")

    whole, history = train(0.8, [BestWeights("val_loss")])
    checkpoint = Checkpoint(tmp_path)
    with pytest.raises(OSError, match="no space left"):
        train(0.8, [BestWeights("val_loss"), FailsIn()], checkpoint)
    for _ in range(2):  # The second time from the finished run.
        resumed, resumed_history = train(0.8, [BestWeights("val_loss")], checkpoint)
        assert resumed_history == history
        assert_same_weights(resumed, whole)
