import json

import pytest

from callbacks import PolicyGuard
from callbacks.policy_guard import PolicyLost

STEPS_PER_EPOCH = 20


def guard(max_kl=10.0):
    callback = PolicyGuard(max_kl, lambda: "The last good checkpoint, x, is of step 3.")
    callback.set_params({"steps": STEPS_PER_EPOCH, "epochs": 3})
    callback.on_train_begin()
    return callback


def play(callback, calls, epoch=0, begin=0):
    """Plays calls of the training step: the steps of each, and the logs of each of its steps."""
    callback.on_epoch_begin(epoch)
    done, sums = begin, {"kl": 0.0, "entropy": 0.0}
    for steps, logs in calls:
        callback.on_train_batch_begin(done)
        logs = {"kl": 1.0, "entropy": 2.0, "ratio": 1.1, **logs}
        sums = {name: total + steps * logs[name] for name, total in sums.items()}
        done += steps
        means = {name: total / done for name, total in sums.items()}
        callback.on_train_batch_end(done - 1, {**logs, **means})


def test_kl_of_the_latest_steps_is_seen_behind_the_mean_of_the_epoch():
    # The mean of the epoch is (18 * 1 + 2 * 10.5) / 20 = 1.95.
    message = (
        r"KL divergence rose to 10.5 nats per answer \(`max_kl` is 10\) by step 40 \(epoch 2\)\. "
        r"The last good checkpoint, x, is of step 3\. Try a larger or an adaptive beta"
    )
    with pytest.raises(PolicyLost, match=message):
        play(guard(), [(18, {}), (2, {"kl": 10.5})], epoch=1)


def test_values_within_the_limits_pass_in_every_epoch():
    callback = guard()
    for epoch in range(3):
        within = {"kl": 9.9, "entropy": 0.21, "ratio": 9.9}
        play(callback, [(10, {}), (10, within)], epoch)


def test_entropy_is_compared_with_the_start_of_the_run():
    callback = guard()
    play(callback, [(10, {"entropy": 2.0}), (10, {"entropy": 1.0})])
    with pytest.raises(
        PolicyLost, match=r"fell to 0\.19 nats per token \(2 at the start\) by.* 30"
    ):
        play(callback, [(10, {"entropy": 0.19})], epoch=1)


def test_ratio_of_one_minibatch_is_enough():
    with pytest.raises(PolicyLost, match=r"rose to 10\.1 times .*\(limit: 10\) on the average by"):
        play(guard(), [(10, {"ratio": 10.1})])


def test_state_continues_inside_an_epoch_after_a_checkpoint():
    callback, resumed = guard(), guard()
    play(callback, [(10, {"kl": 5.0, "entropy": 4.0})])
    resumed.set_state(json.loads(json.dumps(callback.get_state())))
    resumed.on_epoch_begin(0)
    resumed.on_train_batch_begin(10)
    # Means of 10 steps of 5 and 10 of 9, and of 10 of 4 and 10 of 0.5.
    resumed.on_train_batch_end(19, {"kl": 7.0, "entropy": 2.25, "ratio": 1.0})
    assert (resumed.first_entropy, resumed.steps) == (4.0, 20)
    with pytest.raises(PolicyLost, match=r"KL divergence rose to 11 nats"):
        play(resumed, [(10, {"kl": 11.0})], epoch=1)


def test_max_kl_must_be_positive():
    with pytest.raises(ValueError, match="`max_kl` must be above 0"):
        PolicyGuard(0.0, str)
