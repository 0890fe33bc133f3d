"""A run of several stages, each with a checkpoint of its own."""

import keras
import numpy as np
import pytest

from callbacks import BestWeights
from tests.training.test_loop import batches, network
from training.checkpoint import Checkpoint, check_resume
from training.loop import fit

STAGES = ("imitation", "reward", "policy")
CONFIG = {"data": "toy", "epochs": 2}


class FailingAt(keras.callbacks.Callback):
    """Raises an error after some calls of the training step."""

    def __init__(self, calls: int):
        super().__init__()
        self.calls = calls

    def on_train_batch_end(self, batch, logs=None):
        self.calls -= 1
        if self.calls == 0:
            raise OSError("no space left")


def run(folder, fail_in: str = "", calls: int = 0):
    """Runs all stages; returns each one's weights, history, best epoch and first step."""
    results = {}
    for index, stage in enumerate(STAGES):
        checkpoint = Checkpoint(folder, stage)
        first_step = check_resume(checkpoint, CONFIG, required=False)
        begun: list[int] = []

        def from_step(step, begun=begun):
            begun.append(step)
            return batches(step)

        best = BestWeights("accuracy")
        model = network(rate=0.1 / (index + 1))
        history = fit(
            model,
            from_step,
            epochs=2,
            steps_per_epoch=10,
            callbacks=[best, *([FailingAt(calls)] if stage == fail_in else [])],
            checkpoint=checkpoint,
            checkpoint_every=4,
            config=CONFIG,
        )
        results[stage] = (model.get_weights(), history, best.best_epoch, first_step, begun)
    return results


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return run(tmp_path_factory.mktemp("unbroken"))


@pytest.mark.slow
def test_a_run_of_three_stages_resumes_in_the_stage_where_it_was(unbroken, tmp_path):
    with pytest.raises(OSError, match="no space left"):
        run(tmp_path, fail_in="reward", calls=5)  # after step 14
    resumed = run(tmp_path)
    for stage in STAGES:
        weights, history, best_epoch, *_ = resumed[stage]
        expected_weights, expected_history, expected_epoch, *_ = unbroken[stage]
        assert (history, best_epoch) == (expected_history, expected_epoch)
        for mine, other in zip(weights, expected_weights, strict=True):
            np.testing.assert_array_equal(mine, other)
    # A finished stage reads no batches.
    assert {stage: result[3:] for stage, result in resumed.items()} == {
        "imitation": (20, []),
        "reward": (12, [12]),
        "policy": (0, [0]),
    }


def test_a_finished_stage_of_another_network_is_refused(tmp_path):
    options = {"epochs": 1, "steps_per_epoch": 2}
    fit(network(), batches, checkpoint=Checkpoint(tmp_path), **options)
    larger = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    larger.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="2 variables, 9 in the checkpoint"):
        fit(larger, batches, checkpoint=Checkpoint(tmp_path), **options)
