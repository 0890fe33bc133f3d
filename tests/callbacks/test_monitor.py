import math
import warnings

import pytest

from callbacks.monitor import Monitor


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("val_loss", "min"),
        ("mean_squared_error", "min"),
        ("val_accuracy", "max"),
        ("val_judge", "max"),
    ],
)
def test_auto_reads_the_direction_from_the_name(name, mode):
    assert Monitor(name).mode == mode


@pytest.mark.parametrize("name", ["bleu", ("val_accuracy", "val_loss"), ("f1", "bleu"), ()])
def test_auto_refuses_names_that_do_not_show_one_direction(name):
    with pytest.raises(ValueError, match=r"unless the names of all metrics.*'bleu'|'val_|no name"):
        Monitor(name)
    assert Monitor(name, "max").mode == "max"


def test_the_mean_of_several_metrics_counts():
    monitor = Monitor(("val_f1", "val_accuracy"))
    assert monitor.mode == "max"
    assert monitor.read({"val_f1": 0.5, "val_accuracy": 0.75}) == 0.625
    with pytest.warns(UserWarning, match="'val_accuracy' is not in the logs"):
        assert monitor.read({"val_f1": 0.5}) is None


def test_better_means_by_more_than_min_delta_in_the_right_direction():
    falling, rising = Monitor("loss", min_delta=0.25), Monitor("accuracy", min_delta=0.25)
    assert falling.is_better(0.5, 1.0) and not falling.is_better(0.75, 1.0)
    assert rising.is_better(1.0, 0.5) and not rising.is_better(0.75, 0.5)


def test_nan_is_never_better_and_any_number_beats_none():
    monitor = Monitor("loss")
    assert not monitor.is_better(math.nan, None)
    assert not monitor.is_better(math.nan, 1.0)
    assert monitor.is_better(5.0, None)


def test_a_missing_metric_warns_once_and_names_those_available():
    monitor = Monitor("val_loss")
    with pytest.warns(UserWarning, match=r"'val_loss'.*Available: accuracy, loss"):
        assert monitor.read({"loss": 1.0, "accuracy": 0.5}) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert monitor.read({"loss": 1.0}) is None
    assert monitor.read({"val_loss": 2}) == 2.0


def test_mode_and_min_delta_are_checked():
    with pytest.raises(ValueError, match="`mode`"):
        Monitor("loss", "down")
    with pytest.raises(ValueError, match="`min_delta`"):
        Monitor("loss", min_delta=-0.1)
