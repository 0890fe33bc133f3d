"""PPO: its arithmetic against NumPy, its training against policies that are known to be best."""

import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from callbacks import BestWeights, PolicyGuard
from callbacks.policy_guard import PolicyLost
from tests.training.killed import run_script
from tests.training.toy_gan import state_of
from tests.training.toy_ppo import STEPS_PER_EPOCH, SYMBOLS, World, prompts
from training import ppo
from training.checkpoint import Checkpoint
from training.loop import fit
from training.setup import start

MASK = np.array(
    [[0, 1, 1, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 1, 1]],
    "float32",
)
"""Answers of unequal length: in the middle of a row, of one token, none, whole, in two turns."""
TURNS = [[1, 2, 3], [0], [], [0, 1, 2, 3, 4], [1, 3, 4]]
"""Positions of the tokens of each answer."""


def rows(seed: int) -> np.ndarray:
    """Returns numbers whose masked ones are NaN."""
    numbers = np.random.default_rng(seed).normal(size=MASK.shape).astype("float32")
    return np.where(MASK > 0, numbers, np.nan)


def at_tokens(array) -> np.ndarray:
    """Returns the numbers at the tokens of the answers; the others must be 0."""
    array = np.asarray(array)
    assert (array[MASK == 0] == 0).all()
    return array[MASK > 0]


def test_advantages_and_returns_of_three_tokens_computed_on_paper():
    rewards, values = np.array([[0, 0, 1]], "float32"), np.full((1, 3), 0.5, "float32")
    found, returns = ppo.advantages(rewards, values, np.ones((1, 3), "float32"), 1.0, 0.95)
    np.testing.assert_allclose(found, [[0.45125, 0.475, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(returns, [[0.95125, 0.975, 1.0]], rtol=1e-6)


def test_advantages_are_sums_of_discounted_errors():
    rewards, values, gamma, lambda_ = rows(0), rows(1), 0.9, 0.8
    expected = np.zeros(MASK.shape)
    for row, turn in enumerate(TURNS):
        own = [*values[row, turn], 0.0]
        errors = [rewards[row, t] + gamma * own[i + 1] - own[i] for i, t in enumerate(turn)]
        for i, t in enumerate(turn):
            expected[row, t] = sum(
                (gamma * lambda_) ** k * error for k, error in enumerate(errors[i:])
            )
    found, returns = ppo.advantages(rewards, values, MASK, gamma, lambda_)
    np.testing.assert_allclose(at_tokens(found), expected[MASK > 0], rtol=1e-5)
    np.testing.assert_allclose(at_tokens(returns), (expected + values)[MASK > 0], rtol=1e-5)


def test_rewards_of_tokens_are_the_penalty_and_at_the_end_the_score():
    log_probs, reference, scores = rows(0), rows(1), np.arange(1.0, 6.0, dtype="float32")
    expected = -0.3 * (log_probs - reference)
    for row, turn in enumerate(TURNS):
        expected[row, turn[-1:]] += scores[row]
    found = ppo.token_rewards(log_probs, reference, scores, MASK, 0.3)
    np.testing.assert_allclose(at_tokens(found), expected[MASK > 0], rtol=1e-5)


@pytest.mark.parametrize("keep_mean", [False, True])
def test_whitening(keep_mean):
    values = 3.0 * rows(0) + 2.0
    real = values[MASK > 0]
    expected = (real - real.mean()) / real.std() + (real.mean() if keep_mean else 0.0)
    found = ppo.whiten(values, MASK, keep_mean)
    np.testing.assert_allclose(at_tokens(found), expected, rtol=1e-5, atol=1e-6)


def test_clipped_loss_of_the_policy_and_its_gradient():
    log_probs, old, gains = tf.constant(0.5 * rows(0)), 0.5 * rows(1), rows(2)
    with tf.GradientTape() as tape:
        tape.watch(log_probs)
        loss, share = ppo.policy_loss(log_probs, old, gains, MASK, 0.2)
    ratio = np.exp(log_probs - old)[MASK > 0]
    gain = gains[MASK > 0]
    is_clipped = ((gain > 0) & (ratio > 1.2)) | ((gain < 0) & (ratio < 0.8))
    assert 0 < is_clipped.sum() < is_clipped.size
    terms = np.where(is_clipped, np.clip(ratio, 0.8, 1.2), ratio) * -gain
    np.testing.assert_allclose(loss, terms.mean(), rtol=1e-5)
    np.testing.assert_allclose(share, is_clipped.mean(), rtol=1e-6)
    slopes = np.where(is_clipped, 0.0, -gain * ratio) / is_clipped.size
    gradient = at_tokens(tape.gradient(loss, log_probs))
    np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-8)


def test_clipped_loss_of_the_values_and_its_gradient():
    values, old, returns = tf.constant(rows(0)), rows(1), rows(2)
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss = ppo.value_loss(values, old, returns, MASK, 0.2)
    now, before, goal = (np.asarray(one)[MASK > 0] for one in (values, old, returns))
    near = np.clip(now, before - 0.2, before + 0.2)
    larger = np.maximum((now - goal) ** 2, (near - goal) ** 2)
    np.testing.assert_allclose(loss, 0.5 * larger.mean(), rtol=1e-5)
    is_clipped = (near - goal) ** 2 > (now - goal) ** 2
    assert 0 < is_clipped.sum() < is_clipped.size
    slopes = np.where(is_clipped, 0.0, now - goal) / now.size
    np.testing.assert_allclose(at_tokens(tape.gradient(loss, values)), slopes, rtol=1e-5, atol=1e-8)


def test_divergences_and_explained_variance():
    log_probs, reference = rows(0), rows(1)
    difference = np.where(MASK > 0, log_probs - reference, 0.0)
    ratio = np.exp(-difference)
    kl, low_variance = ppo.divergences(log_probs, reference, MASK)
    np.testing.assert_allclose(kl, difference.sum(axis=1), rtol=1e-5)
    expected = (ratio - 1 - np.log(ratio)).sum(axis=1)
    np.testing.assert_allclose(low_variance, expected, rtol=1e-5)
    errors = (reference - log_probs)[MASK > 0]
    share = 1 - errors.var() / reference[MASK > 0].var()
    np.testing.assert_allclose(ppo.explained_variance(log_probs, reference, MASK), share, rtol=1e-5)
    assert ppo.explained_variance(log_probs, np.ones_like(MASK), MASK) == 0.0


def test_nothing_is_learned_from_rows_without_an_answer():
    nothing, numbers = np.zeros_like(MASK), rows(0)
    loss, share = ppo.policy_loss(numbers, numbers, numbers, nothing, 0.2)
    assert (loss, share, ppo.value_loss(numbers, numbers, numbers, nothing, 0.2)) == (0, 0, 0)


def test_beta_follows_the_error_of_the_kl_divergence():
    control = ppo.AdaptiveKL(0.1, target=6.0, horizon=1000)
    expected = 0.1
    for kl in (6.6, 5.4, 60.0, 0.0, 6.0):
        control.update(tf.constant(kl), tf.constant(50))
        expected *= 1 + np.clip(kl / 6 - 1, -0.2, 0.2) * 50 / 1000
        np.testing.assert_allclose(control.beta, expected, rtol=1e-6)


def test_beta_is_fixed_without_a_target():
    control = ppo.AdaptiveKL(0.1)
    control.update(tf.constant(60.0), tf.constant(50))
    assert float(control.beta) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -0.1}, "`beta` must be at least 0"),
        ({"beta": 0.0, "target": 6.0}, "above 0 if there is a `target`"),
        ({"target": 0.0}, "`target` must be above 0 or None"),
        ({"horizon": 0}, "`horizon` above 0"),
        ({"update_epochs": 0}, "`update_epochs` must be at least 1"),
        ({"lambda_": 1.1}, r"`lambda_` must be in \[0, 1\]"),
        ({"clip": 0.0}, "`clip` must be above 0"),
        ({"value_weight": -1.0}, "`value_weight` must be at least 0"),
    ],
)
def test_wrong_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        World(1).ppo(keras.optimizers.SGD(), **options)


def test_strategies_are_refused():
    with (
        tf.distribute.OneDeviceStrategy("CPU:0").scope(),
        pytest.raises(ValueError, match=r"on one device.* Received: OneDeviceStrategy"),
    ):
        World(1).ppo(keras.optimizers.SGD())


def train(
    world,
    optimizer,
    *,
    rows,
    epochs,
    folder=None,
    callbacks=(),
    every=None,
    validation=None,
    **options,
):
    start(0)
    model = world.ppo(optimizer, **options)
    history = fit(
        model,
        prompts(rows),
        epochs=epochs,
        steps_per_epoch=STEPS_PER_EPOCH,
        validation=validation,
        callbacks=callbacks,
        checkpoint=Checkpoint(folder) if folder else None,
        checkpoint_every=every,
    )
    return model, history


@pytest.mark.parametrize(("policy", "minibatches"), [("float32", 1), ("mixed_bfloat16", 5)])
def test_step_of_a_policy_that_does_not_move_logs_what_numpy_computes(
    monkeypatch, policy, minibatches
):
    keras.config.set_dtype_policy(policy)
    world, rollouts, ratios = World(2, end=0, dropout=0.5), [], []
    network, policy_loss = world.network(), ppo.policy_loss

    def write(batch, seeds):
        assert seeds.dtype == tf.int64 and len({*seeds.numpy()}) == 64
        rollouts.append(world.write(network, seeds))
        return rollouts[-1]

    def read_reference(features):
        return 0.5 * network(features)["logits"]

    def noting(log_probs, old_log_probs, gains, mask, clip):
        ratios.extend(np.exp(log_probs - old_log_probs)[mask > 0])
        return policy_loss(log_probs, old_log_probs, gains, mask, clip)

    monkeypatch.setattr(ppo, "policy_loss", noting)
    options = {"beta": 0.3, "gamma": 0.9, "minibatches": minibatches}
    optimizer = keras.optimizers.SGD(0.0)
    model = ppo.PPO(network, read_reference, write, world.score, optimizer, **options)
    logs = {name: float(value) for name, value in model.train_step(tf.zeros((64,))).items()}

    (rollout,) = rollouts
    mask, targets = rollout.mask.numpy(), np.maximum(rollout.targets, 0)
    outputs = network(rollout.features)["logits"]
    # Sums over the 8 symbols in 16 bits would be wrong by 1 %.
    logits = np.asarray(tf.cast(outputs, tf.float32))
    logs_of_all = [one - np.log(np.exp(one).sum(-1, keepdims=True)) for one in (logits, logits / 2)]
    entropies = -(np.exp(logs_of_all[0]) * logs_of_all[0]).sum(-1)
    log_probs, reference = (
        np.take_along_axis(one, targets[..., None], -1)[..., 0] for one in logs_of_all
    )
    difference = (log_probs - reference) * mask
    scores = np.where(rollout.ended, world.score(None, rollout), -1.0)
    rewards = -0.3 * difference
    lengths = mask.sum(axis=1).astype(int)
    rewards[np.arange(64), lengths] += scores  # The prompt is at position 0.
    # The values are 0.
    returns = rewards.copy()
    returns[:, 1] += 0.9 * 0.95 * returns[:, 2]
    expected = {
        "reward": scores.mean(),
        "kl": difference.sum(axis=1).mean(),
        "kl_low_variance": (np.exp(-difference) - 1 + difference).sum(axis=1).mean(),
        "entropy": entropies[mask > 0].mean(),
        "clipped": 0.0,
        "policy_loss": 0.0,
        "value_loss": 0.5 * (returns[mask > 0] ** 2).mean(),
        "explained_variance": 0.0,
        "length": lengths.mean(),
        "ended": np.asarray(rollout.ended).mean(),
        "beta": 0.3,
        "ratio": 1.0,
    }
    assert {1, 2} == {*lengths} and 0 < expected["ended"] < 1
    times = [logs.pop(f"time_{part}") for part in ("writing", "scoring", "updates")]
    assert min(times) > 0 and sum(times) == pytest.approx(1.0)
    assert len(ratios) == 4 * lengths.sum()
    np.testing.assert_allclose(ratios, 1.0, atol=1e-5)
    assert int(optimizer.iterations) == model.updates_per_step == 4 * minibatches
    if minibatches > 1:  # Means over minibatches that have unequal numbers of tokens.
        for name in ("policy_loss", "value_loss"):
            del logs[name], expected[name]
    assert logs == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_answers_without_an_end_keep_their_score_where_nothing_replaces_it():
    world = World(2, end=SYMBOLS)
    logs = world.ppo(keras.optimizers.SGD(0.0), missing_end=None).train_step(tf.zeros((8,)))
    replaced = world.ppo(keras.optimizers.SGD(0.0), missing_end=-5.0).train_step(tf.zeros((8,)))
    assert logs["ended"] == replaced["ended"] == 0
    assert replaced["reward"] == -5.0 != logs["reward"]


def test_rewards_can_be_whitened_around_their_mean():
    options = {"whiten_rewards": True, "update_epochs": 1}
    logs = World(1).ppo(keras.optimizers.SGD(0.0), **options).train_step(tf.zeros((8,)))
    # The values are 0, the policy is the reference, and the square of the returns has the mean
    # variance + mean^2.
    expected = 0.5 * (1 + float(logs["reward"]) ** 2)
    assert float(logs["value_loss"]) == pytest.approx(expected, rel=1e-5)


def test_graph_has_one_update_for_all_of_a_step(monkeypatch):
    traced, value_loss = [], ppo.value_loss
    monkeypatch.setattr(ppo, "value_loss", lambda *given: traced.append(1) or value_loss(*given))
    model = World(1).ppo(keras.optimizers.SGD(), update_epochs=9, minibatches=7)
    tf.function(model.train_step).get_concrete_function(tf.TensorSpec((None,)))
    assert traced == [1]


ENDING = {"rows": 16, "epochs": 2, "every": 7, "minibatches": 3, "target": 1.0, "horizon": 1000}


def test_run_that_the_guard_stopped_resumes_inside_an_epoch_and_ends_with_the_same_bits(tmp_path):
    def run(folder, max_kl):
        world, checkpoint = World(2, end=0), Checkpoint(folder)
        guard = PolicyGuard(max_kl, checkpoint.last_good)
        adam = keras.optimizers.Adam(0.01)
        model, history = train(world, adam, folder=folder, callbacks=[guard], **ENDING)
        for trained, built in zip(world.reference.weights, world.network().weights, strict=True):
            np.testing.assert_array_equal(trained, built)
        assert len(model.variables) == 4  # Table, values, beta and seeds, but no reference.
        return model, history

    whole, history = run(tmp_path / "whole", 10.0)
    with pytest.raises(PolicyLost, match=r"by step 20 .*state.npz, is of step 14\."):
        run(tmp_path / "stopped", history["kl"][1])
    resumed, same = run(tmp_path / "stopped", 10.0)
    for name in same:
        assert name.startswith("time_") or same[name] == history[name], name
    for mine, other in zip(state_of(resumed), state_of(whole), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_the_judge_decides_which_epoch_is_kept():
    world, epochs, rated = World(1), [], []

    def judge(batch, rollout):
        rated.append(-world.score(batch, rollout))
        return rated[-1]

    noting = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: epochs.append(noting.model.network.get_weights())
    )
    best = BestWeights("val_judge")
    model, history = train(
        world,
        keras.optimizers.Adam(0.05),
        rows=16,
        epochs=2,
        validation=tf.data.Dataset.from_tensor_slices(tf.zeros((24,))).batch(16),
        callbacks=[noting, best],
        judge=judge,
    )
    np.testing.assert_allclose(history["val_judge"], -np.array(history["val_reward"]), rtol=1e-5)
    assert history["val_reward"] == sorted(history["val_reward"]) and best.kept_epoch == 0
    for kept, first, last in zip(model.network.get_weights(), *epochs, strict=True):
        np.testing.assert_array_equal(kept, first)
        assert not np.array_equal(kept, last)
    rated.clear()
    model.reset_metrics()
    for size in (16, 8):
        logs = model.test_step(tf.zeros((size,)))
    ratings = np.concatenate(rated)
    assert ratings.shape == (24,)
    assert float(logs["judge"]) == pytest.approx(history["val_judge"][0], rel=1e-5)
    assert float(logs["judge"]) == pytest.approx(ratings.mean(), rel=1e-5)
    assert float(logs["judge_error"]) == pytest.approx(ratings.std() / 24**0.5, rel=1e-4)


KILLED = """
import os, sys
from types import SimpleNamespace
import keras, numpy as np, tensorflow as tf
from callbacks import BestWeights
from tests.training.killed import kill_at_call
from tests.training.test_ppo import ENDING, train
from tests.training.toy_gan import state_of
from tests.training.toy_ppo import World
from training import ppo

moments = SimpleNamespace(rollout=lambda: np.int32(0), update=lambda: np.int32(0))
owners = {"fsync": os, "replace": os, "rollout": moments, "update": moments}

def during(moment):
    happens = tf.numpy_function(lambda: getattr(moments, moment)(), [], tf.int32)
    return tf.control_dependencies([happens])

class Noting(World):
    def write(self, network, seeds):
        with during("rollout"):
            return super().write(network, seeds)

def value_loss(*arguments):
    with during("update"):
        return tf.identity(real(*arguments))

real, ppo.value_loss = ppo.value_loss, value_loss
folder, result, name, number = sys.argv[1:]
if name:
    kill_at_call(owners[name], name, int(number))
world = Noting(2, end=0)
model, history = train(
    world,
    keras.optimizers.Adam(0.01),
    folder=folder,
    callbacks=[BestWeights("val_judge")],
    judge=lambda batch, rollout: -world.score(batch, rollout),
    validation=tf.data.Dataset.from_tensors(tf.zeros((24,))),
    **ENDING,
)
kept = [values for name, values in history.items() if not name.startswith("time_")]
np.savez(result, *state_of(model), *kept)
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
        # Of 20 steps of 12 updates, with a validation after each 10 and checkpoints after each 7.
        pytest.param("rollout", 18, id="in a rollout"),
        pytest.param("update", 105, id="in an update"),
        # Writing a checkpoint flushes the file, renames it and flushes the folder.
        pytest.param("fsync", 3, id="while a checkpoint is written"),
        pytest.param("replace", 2, id="before a checkpoint replaces the last"),
    ],
)
def test_killed_run_ends_as_if_it_had_never_been(unbroken, tmp_path, name, call):
    checkpoint, result = tmp_path / "checkpoint", tmp_path / "result.npz"
    assert run_script(KILLED, checkpoint, result, name, call) == -signal.SIGKILL
    assert Checkpoint(checkpoint).path.exists() and not result.exists()
    assert run_script(KILLED, checkpoint, result, "", 0) == 0
    resumed = np.load(result)
    assert resumed.files == list(unbroken)
    for key in unbroken:
        np.testing.assert_array_equal(resumed[key], unbroken[key])


def learn(world, **options):
    """Trains with a rate that falls to 0.

    Returns:
        The model; of all possible answers the log-probabilities under policy and reference, and
        the scores.
    """
    steps = 30 * STEPS_PER_EPOCH
    rate = keras.optimizers.schedules.PolynomialDecay(0.05, 4 * steps, 0.0)
    adam = keras.optimizers.Adam(rate, epsilon=1e-5)
    model, _ = train(world, adam, rows=512, epochs=30, missing_end=None, **options)
    table = np.asarray(model.network.get_layer("table").embeddings)
    policy, reference = (world.log_probabilities(one) for one in (table, world.reference_logits))
    is_possible = np.isfinite(reference)
    return model, *(one[is_possible] for one in (policy, reference, world.scores))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("length", "end"),
    [
        pytest.param(1, None, id="one token"),
        pytest.param(3, None, id="three tokens"),
        pytest.param(3, 0, id="up to three tokens"),
    ],
)
def test_policy_comes_to_the_optimum(length, end):
    """The policy that PPO maximizes is proportional to `reference * exp(score / beta)`."""
    beta = 0.5
    _, policy, reference, scores = learn(World(length, end), beta=beta)
    best = reference + scores / beta
    best -= np.log(np.exp(best).sum())
    found, optimum = np.exp(policy), np.exp(best)
    numbers = {
        "total variation": 0.5 * np.abs(found - optimum).sum(),
        "reward": (found * scores).sum() / (optimum * scores).sum(),
        "kl": (found * (policy - reference)).sum() / (optimum * (best - reference)).sum(),
    }
    assert 0.5 * np.abs(np.exp(reference) - optimum).sum() > 0.3
    assert numbers == pytest.approx({"total variation": 0, "reward": 1, "kl": 1}, abs=0.03)
    assert numbers["total variation"] < 0.02


@pytest.mark.slow
def test_adaptive_beta_holds_the_kl_divergence_at_its_target():
    model, policy, reference, _ = learn(World(3), beta=0.05, target=1.0, horizon=5000)
    kl = (np.exp(policy) * (policy - reference)).sum()
    assert kl == pytest.approx(1.0, rel=0.2)
    assert float(model.beta) > 0.2
