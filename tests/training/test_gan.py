"""The loop trains a model with its own `train_step` and two optimizers."""

import os
import signal
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.killed import run_script
from tests.training.toy_gan import STEPS_PER_EPOCH, ToyGan, UnseededGan, batches, state_of
from training.checkpoint import Checkpoint
from training.loop import Interrupted, NotFinite, fit
from training.setup import start, undistributed


def train(folder=None, *, epochs=3, callbacks=(), make_model=ToyGan, data=batches, **options):
    start(0)
    model = make_model()
    history = fit(
        model,
        data,
        epochs=epochs,
        steps_per_epoch=STEPS_PER_EPOCH,
        callbacks=callbacks,
        checkpoint=Checkpoint(folder) if folder else None,
        **options,
    )
    return model, history


def test_gan_learns_to_draw_from_the_distribution_of_the_data():
    model, history = train(epochs=40)
    assert history.keys() == {"generator_loss", "discriminator_loss"}
    samples = np.asarray(model.generator(keras.random.normal((200, 2), seed=1)))
    assert np.asarray(model.mean_of_real) == pytest.approx(3.0, abs=0.2)
    assert samples.mean() == pytest.approx(3.0, abs=0.5)
    assert samples.std() == pytest.approx(0.5, abs=0.25)


class Failing(keras.callbacks.Callback):
    """Raises an error, or sends the signal of Ctrl-C, after some calls of the training step."""

    def __init__(self, after: int, by_signal: bool):
        super().__init__()
        self.after = after
        self.by_signal = by_signal

    def on_train_batch_end(self, batch, logs=None):
        self.after -= 1
        if self.after == 0 and self.by_signal:
            os.kill(os.getpid(), signal.SIGINT)
        elif self.after == 0:
            raise OSError("no space left")


# The generator stops in the middle of an update.
OPTIONS = {"make_model": partial(UnseededGan, accumulate=3), "checkpoint_every": 7}


@pytest.fixture(scope="module")
def whole():
    return train(**OPTIONS)


@pytest.mark.parametrize(
    ("by_signal", "error"),
    [(True, Interrupted), pytest.param(False, OSError, marks=pytest.mark.slow)],
)
def test_interrupted_gan_continues_to_the_same_bits(whole, tmp_path, by_signal, error):
    with pytest.raises(error):
        train(tmp_path, callbacks=[Failing(5, by_signal)], **OPTIONS)
    resumed, history = train(tmp_path, **OPTIONS)
    assert history == whole[1]
    for mine, other in zip(state_of(resumed), state_of(whole[0]), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_loss_of_any_name_that_is_lost_stops_the_run():
    def poisoned(step):
        return batches(step).enumerate().map(lambda i, x: tf.where(i == 13, np.nan, x))

    with pytest.raises(
        NotFinite, match=r"`discriminator_loss` became NaN or infinite at step 14 \(epoch 2\)"
    ):
        train(data=poisoned)


def test_logs_that_are_no_metrics_are_refused():
    class Wrong(ToyGan):
        def train_step(self, real):
            return {**super().train_step(real), "penalty": tf.constant(1.0)}

    with pytest.raises(ValueError, match=r"metrics, which are generator_loss.*also: penalty"):
        train(make_model=Wrong)


def test_an_optimizer_that_is_not_named_after_a_network_is_refused():
    class Misnamed(ToyGan):
        def __init__(self):
            super().__init__()
            self.optimizers = {"critic": keras.optimizers.Adam()}

    with pytest.raises(ValueError, match=r"named after the networks.*'critic' in Misnamed"):
        train(make_model=Misnamed)


def test_an_optimizer_that_is_built_trains_what_it_was_built_on():
    class Partial(ToyGan):
        def __init__(self):
            super().__init__()
            self.optimizers = {"first_layer": keras.optimizers.SGD(1.0)}
            self.optimizers["first_layer"].build(self.generator.layers[0].trainable_variables)

        def train_step(self, real):
            weights = self.generator.layers[0].trainable_variables
            self.optimizers["first_layer"].apply([tf.ones(w.shape) for w in weights], weights)
            return {}

    untrained, (trained, history) = Partial(), train(make_model=Partial, epochs=1)
    moved = trained.generator.layers[0].kernel - untrained.generator.layers[0].kernel
    assert history == {}
    assert moved.shape == (2, 8)


def test_variables_that_the_first_step_makes_are_refused(tmp_path):
    class Late(ToyGan):
        def train_step(self, real):
            if len(self.losses_of) == 2:
                self.losses_of = {**self.losses_of, "late": keras.metrics.Mean("late")}
            return super().train_step(real)

    with pytest.raises(ValueError, match="in its constructor, so that a resumed run finds them"):
        train(tmp_path, make_model=Late, checkpoint_every=5)


def test_copy_without_a_strategy_has_its_own_equal_weights():
    model, _ = train(epochs=1)
    copy = undistributed(model, ToyGan)
    assert isinstance(copy, ToyGan) and not copy.jit_compile
    for mine, other in zip(copy.weights, model.weights, strict=True):
        assert mine is not other
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(other))


KILLED = """
import os, sys
import numpy as np
from tests.training.killed import kill_at_call
from tests.training.test_gan import train
from tests.training.toy_gan import UnseededGan, state_of
from training import loop

owners = {"take_steps": loop._Run, "fsync": os, "replace": os}
folder, result, name, number = sys.argv[1:]
if name:
    kill_at_call(owners[name], name, int(number))
model, history = train(folder, checkpoint_every=4, make_model=UnseededGan)
np.savez(result, *state_of(model), *history.values())
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("unbroken")
    assert run_script(KILLED, folder / "checkpoint", folder / "result.npz", "", 0) == 0
    return dict(np.load(folder / "result.npz"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "call"),
    [
        pytest.param("take_steps", 5, id="inside an epoch"),
        # Writing a checkpoint flushes the file, renames it and flushes the folder.
        pytest.param("fsync", 5, id="while a checkpoint is written"),
        pytest.param("replace", 3, id="before a checkpoint replaces the last"),
        pytest.param("fsync", 2, id="after the first checkpoint"),
    ],
)
def test_killed_gan_ends_as_if_it_had_never_been(unbroken, tmp_path, name, call):
    checkpoint, result = tmp_path / "checkpoint", tmp_path / "result.npz"
    assert run_script(KILLED, checkpoint, result, name, call) == -signal.SIGKILL
    assert Checkpoint(checkpoint).path.exists() and not result.exists()
    assert run_script(KILLED, checkpoint, result, "", 0) == 0
    resumed = np.load(result)
    assert resumed.files == list(unbroken)
    for key in unbroken:
        np.testing.assert_array_equal(resumed[key], unbroken[key])
