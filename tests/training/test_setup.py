import keras
import numpy as np
import pytest

from tests.training.test_loop import assert_same_weights, network, train
from training.setup import POLICIES, is_chief, start, undistributed


@pytest.mark.parametrize("precision", POLICIES)
def test_start_sets_policy_and_seed(precision):
    strategy = start(5, precision)
    assert keras.config.dtype_policy().name == POLICIES[precision]
    first = keras.random.uniform((3,))
    start(5, precision)
    np.testing.assert_array_equal(first, keras.random.uniform((3,)))
    assert is_chief(strategy)


@pytest.mark.slow
def test_mirrored_strategy_trains_to_the_same_weights():
    single, history = train()
    strategy = start(0, strategy="mirrored")
    with strategy.scope():
        model = network()
    mirrored, mirrored_history = train(model=model)
    assert mirrored_history["loss"] == pytest.approx(history["loss"], rel=1e-5)
    copy = undistributed(mirrored, network)
    assert_same_weights(copy, mirrored)
    assert copy.count_params() == single.count_params()
    alone = undistributed(single, network)
    assert all(a is b for a, b in zip(alone.variables, single.variables, strict=True))
    assert single.compiled and not alone.compiled
    # Left to Keras it would be compiled by XLA on a GPU, anew for each length of a batch.
    assert not alone.jit_compile and not copy.jit_compile


def test_metrics_made_outside_the_scope_of_the_strategy_are_refused():
    strategy = start(0, strategy="mirrored")
    metric = keras.metrics.SparseCategoricalAccuracy()
    with strategy.scope():
        model = network()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=[metric], jit_compile=False)
    with pytest.raises(ValueError, match=r"metrics must be made inside `strategy\.scope\(\)`"):
        train(model=model)


def test_a_model_that_is_not_functional_is_built_again():
    def build():
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

    model = build()
    copy = undistributed(model, build)
    assert_same_weights(copy, model)
    assert copy.weights[0] is not model.weights[0]
