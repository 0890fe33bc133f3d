import time

import keras
import numpy as np
import pytest

from callbacks import Throughput


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when the test sets it, in seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def epoch(callback, clock, executions, validation_seconds=0.0):
    """Plays an epoch of (first batch, last batch, seconds) and returns its logs."""
    callback.on_epoch_begin(0)
    for first, last, seconds in executions:
        callback.on_train_batch_begin(first)
        clock[0] += seconds
        callback.on_train_batch_end(last)
    clock[0] += validation_seconds
    logs = {}
    callback.on_epoch_end(0, logs)
    return logs


def test_examples_are_divided_by_the_seconds_of_the_batches(clock):
    logs = epoch(Throughput(32), clock, [(0, 0, 1.0), (1, 1, 3.0)], validation_seconds=50.0)
    assert logs == {"examples_per_second": 16.0}  # 64 examples in 4 s


def test_several_steps_in_one_call_are_counted(clock):
    logs = epoch(Throughput(10), clock, [(0, 9, 1.0), (10, 19, 1.0)])
    assert logs == {"examples_per_second": 100.0}


def test_steps_beyond_the_end_of_the_epoch_are_not_counted(clock):
    callback = Throughput(10)
    callback.set_params({"steps": 15})
    assert epoch(callback, clock, [(0, 9, 1.0), (10, 19, 1.0)]) == {"examples_per_second": 75.0}


def test_a_resumed_epoch_counts_from_its_first_batch(clock):
    logs = epoch(Throughput(10), clock, [(7, 7, 1.0), (8, 8, 1.0)])
    assert logs == {"examples_per_second": 10.0}


def test_epochs_are_counted_apart_and_an_empty_one_has_no_rate(clock):
    callback = Throughput(10)
    assert epoch(callback, clock, [(0, 0, 1.0)]) == {"examples_per_second": 10.0}
    assert epoch(callback, clock, [(0, 0, 2.0)]) == {"examples_per_second": 5.0}
    assert epoch(callback, clock, []) == {}


def test_batch_size_is_checked():
    with pytest.raises(ValueError, match="`batch_size`"):
        Throughput(0)


def test_fit_with_steps_per_execution_logs_a_rate_for_every_epoch():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=4)
    x = np.ones((64, 1), "float32")
    history = model.fit(x, x, batch_size=8, epochs=2, verbose=0, callbacks=[Throughput(8)])
    rates = history.history["examples_per_second"]
    assert len(rates) == 2 and all(rate > 0 for rate in rates)
