import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from callbacks import EarlyStopping
from training.checkpoint import Checkpoint
from training.loop import Interrupted, NotFinite, _Run, fit


def network(rate=0.1, activation="relu", dropout=0.25) -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(8, activation=activation)(inputs)
    x = keras.layers.Dropout(dropout)(keras.layers.BatchNormalization()(x))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def examples(count: int) -> tf.data.Dataset:
    random = np.random.default_rng(0)
    features = random.normal(size=(count, 4)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((features, (features[:, 0] > 0).astype("int32")))


def batches(start: int) -> tf.data.Dataset:
    return examples(100).batch(10).repeat().skip(start)


def train(folder=None, *, epochs=3, callbacks=(), model=None, **options):
    model = model or network()
    validation = examples(37).batch(10)
    history = fit(
        model,
        batches,
        epochs=epochs,
        steps_per_epoch=10,
        validation=validation,
        callbacks=callbacks,
        checkpoint=Checkpoint(folder) if folder else None,
        **options,
    )
    return model, history


def assert_same_weights(left, right):
    for a, b in zip(left.get_weights(), right.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_equals_keras_fit():
    model, history = train()
    reference = network()
    expected = reference.fit(
        batches(0),
        epochs=3,
        steps_per_epoch=10,
        validation_data=examples(37).batch(10),
        shuffle=False,
        verbose=0,
    )
    for name, values in expected.history.items():
        assert history[name] == pytest.approx(values, rel=1e-5), name
    for a, b in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_step_compiled_by_xla_trains_as_any_other():
    model, history = train(model=network(dropout=0.0))  # XLA draws other numbers.
    compiled, compiled_history = train(model=network(dropout=0.0), jit_compile=True)
    assert compiled_history["loss"] == pytest.approx(history["loss"], rel=1e-5)
    for a, b in zip(compiled.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow  # Compiles the step three times.
def test_a_step_compiled_by_xla_resumes_with_the_same_bits(tmp_path):
    whole, _ = train(jit_compile=True)
    with pytest.raises(Interrupted):
        train(tmp_path, callbacks=[StopAsking(after=2)], jit_compile=True)
    resumed, _ = train(tmp_path, jit_compile=True)
    assert_same_weights(resumed, whole)


def test_a_step_is_not_compiled_by_xla_for_several_workers_on_cpus(monkeypatch):
    monkeypatch.setattr("training.loop.has_other_workers", lambda strategy: True)
    with pytest.raises(ValueError, match="`jit_compile` needs GPUs where several workers train"):
        train(jit_compile=True)


def test_weights_of_labels_count_as_in_keras_fit():
    def weighted(examples):
        # Every other label counts for nothing, the others by themselves.
        return examples.enumerate().map(lambda i, pair: (*pair, tf.cast(i % 2, tf.float32)))

    def compiled():
        model = network()
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        )
        model.compile("sgd", loss, weighted_metrics=["accuracy"], jit_compile=False)
        return model

    training, validation = weighted(examples(100)).batch(10), weighted(examples(37)).batch(10)
    options = {"epochs": 2, "steps_per_epoch": 10}
    history = fit(
        compiled(),
        lambda start: training.repeat().skip(start),
        validation=validation,
        **options,
    )
    reference = compiled()
    expected = reference.fit(
        training.repeat(), validation_data=validation, shuffle=False, verbose=0, **options
    )
    for name, values in expected.history.items():
        assert history[name] == pytest.approx(values, rel=1e-5), name


class StopAsking(keras.callbacks.Callback):
    """Sends the signal of Ctrl-C after some calls of the training step."""

    def __init__(self, after: int):
        super().__init__()
        self.after = after

    def on_train_batch_end(self, batch, logs=None):
        self.after -= 1
        if self.after == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def unbroken():
    return train()


@pytest.mark.parametrize(
    "after", [*(pytest.param(calls, marks=pytest.mark.slow) for calls in (1, 2)), 5]
)
def test_interrupted_run_continues_to_the_same_bits(unbroken, tmp_path, after):
    whole, history = unbroken
    options = {"checkpoint_every": 4}
    with pytest.raises(Interrupted, match="same command continues"):
        train(tmp_path, callbacks=[StopAsking(after)], **options)
    resumed, resumed_history = train(tmp_path, **options)
    assert resumed_history == history
    assert_same_weights(whole, resumed)


def test_run_that_early_stopping_ended_is_not_trained_on(tmp_path):
    stopping = EarlyStopping("val_loss", patience=2)
    first, history = train(tmp_path, epochs=30, callbacks=[stopping], model=network(rate=1.0))
    assert len(history["loss"]) < 30
    again = EarlyStopping("val_loss", patience=2)
    second, same = train(tmp_path, epochs=30, callbacks=[again], model=network(rate=1.0))
    assert same == history
    assert again.stopped_epoch == stopping.stopped_epoch
    assert_same_weights(first, second)


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("tanh", r"`loss` became NaN or infinite at step 17 \(epoch 2\).*is of step 10\. Try"),
        # ReLU turns NaN into 0 and hides it from the loss, but not from the next checkpoint.
        ("relu", r"A weight had become NaN or infinite at step 20 .*is of step 10\. Try"),
    ],
)
def test_lost_run_stops_naming_step_and_checkpoint(tmp_path, activation, message):
    def poisoned(start):
        def poison(index, batch):
            features, labels = batch
            return tf.where(index == 16, np.nan, features), labels

        return batches(0).enumerate().map(poison).skip(start)

    with pytest.raises(NotFinite, match=message):
        fit(
            network(activation=activation),
            poisoned,
            epochs=3,
            steps_per_epoch=10,
            checkpoint=Checkpoint(tmp_path),
            checkpoint_every=10,
        )


class Minutes(keras.callbacks.Callback):
    """A clock by which each epoch takes a quarter of a second."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def on_epoch_end(self, epoch, logs=None):
        self.now += 0.25

    def __call__(self) -> float:
        return self.now


def test_a_run_of_200_short_epochs_writes_a_handful_of_checkpoints(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Checkpoint, "save", lambda _, state: saved.append(state))
    clock = Minutes()
    fit(
        network(),
        batches,
        epochs=200,
        steps_per_epoch=1,
        callbacks=[clock],
        checkpoint=Checkpoint(tmp_path),
        clock=clock,
    )
    assert [(state["step"], state["finished"]) for state in saved] == [
        *((step, False) for step in (40, 80, 120, 160)),
        (200, True),
    ]


def test_trains_without_a_validation_set(unbroken):
    model = network()
    history = fit(model, batches, epochs=3, steps_per_epoch=10)
    assert history.keys() == {"loss", "accuracy"}
    assert_same_weights(model, unbroken[0])


def test_epochs_between_validations_log_nan():
    class Tests(keras.callbacks.Callback):
        number = 0

        def on_test_end(self, logs=None):
            self.number += 1

    counted = Tests()
    _, history = train(epochs=5, validate_every=2, callbacks=[counted])
    _, always = train(epochs=5)
    measured = np.array([False, True, False, True, True])  # The last epoch always is.
    assert counted.number == 3 and history.keys() == always.keys()
    for name, values in history.items():
        expected = np.where(measured | (not name.startswith("val_")), always[name], np.nan)
        np.testing.assert_array_equal(values, expected)


def test_validation_loss_that_is_lost_stops_the_run():
    broken = examples(20).batch(10).map(lambda x, y: (x * np.inf, y))
    with pytest.raises(
        NotFinite, match=r"`val_loss` became NaN or infinite at step 10 \(epoch 1\)"
    ):
        fit(network(), batches, epochs=2, steps_per_epoch=10, validation=broken)


def test_the_network_computes_no_batches_but_those_of_the_data():
    """Made-up ones may have rows of padding only, which cuDNN's recurrent layers refuse."""
    seen = []

    class Spy(keras.layers.Layer):
        def call(self, inputs):
            tf.py_function(lambda x: seen.append(x.numpy()), [inputs], [])
            return inputs

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(Spy()(inputs)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    train(model=model, epochs=1)
    read = [x for x, _ in (*batches(0).take(10), *examples(37).batch(10))]
    assert len(seen) == len(read)
    assert all(np.array_equal(*pair) for pair in zip(seen, read, strict=True))


def test_the_test_step_is_traced_for_batches_of_any_size():
    traced, model = [], network()
    step = model.test_step
    model.test_step = lambda batch: traced.append(batch) or step(batch)
    train(model=model, epochs=2)
    assert {batch[0].shape[0] for batch in traced} == {None}


def test_workers_that_find_other_checkpoints_are_refused(tmp_path):
    other = [0.0, 0.0]

    class Two:
        """With another worker."""

        def run(self, function, arguments):
            return function(*arguments)

        def reduce(self, kind, value, axis):
            return (value + tf.constant(other, tf.float64)) / 2

    run = _Run(network(), Checkpoint(tmp_path), None, 1, 1, [], jit_compile=False)
    run.require_same_step(7)
    run.strategy = Two()
    run.require_same_step(0)
    with pytest.raises(ValueError, match=r"one folder that they share\. Received: step 7 in"):
        run.require_same_step(7)
    other = [14.0 - 7, 0.0 + 5**2 + 9**2]  # As if two more were at 5 and 9.
    with pytest.raises(ValueError, match="Received: step 7 in"):
        run.require_same_step(7)
    other = [2.0**25 + 1, (2**25 + 1) ** 2]
    run.require_same_step(2**25 + 1)
