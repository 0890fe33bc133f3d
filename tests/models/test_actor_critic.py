import keras
import numpy as np
import pytest

from models.actor_critic import ActorCritic, critic_of, policy_of, with_values
from models.decoders import pretrained_decoder
from models.gpt import gpt_backbone, gpt_language_model
from models.reward import rater_of
from tests.models.test_decoders import INPUTS
from tests.models.tiny_llama import write_llama

LAST = ([0, 1], [4, 2])
"""The last tokens of the rows of `INPUTS`."""


@pytest.fixture(params=["gpt", "llama"])
def load(request, tmp_path):
    """Loads a policy."""
    if request.param == "llama":
        write_llama(tmp_path)
        return lambda: pretrained_decoder(tmp_path, 20)
    keras.utils.set_random_seed(0)
    gpt_language_model(gpt_backbone("tiny", 20, 12, 0.0)).save(tmp_path / "model.keras")
    return lambda: keras.saving.load_model(tmp_path / "model.keras")


def test_a_head_for_values_leaves_the_policy_as_it_is(load):
    network, logits = with_values(load()), np.asarray(load()(INPUTS)["logits"])
    outputs = network(INPUTS)
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-5)
    np.testing.assert_array_equal(outputs["values"], np.zeros((2, 5)))
    network.get_layer("values").kernel.assign(
        keras.random.normal(network.get_layer("values").kernel.shape, seed=0)
    )
    assert np.abs(network(INPUTS)["values"]).min() > 1e-4
    np.testing.assert_allclose(policy_of(network)(INPUTS)["logits"], logits, atol=1e-5)


def test_a_critic_begins_with_the_rewards(load):
    rater = rater_of(load())
    rater.get_layer("reward").calibrate(0.5, 2.0)
    network = ActorCritic(load(), critic_of(rater))
    outputs = network(INPUTS)
    np.testing.assert_allclose(np.asarray(outputs["values"])[LAST], rater(INPUTS), atol=1e-5)
    np.testing.assert_allclose(outputs["logits"], load()(INPUTS)["logits"], atol=1e-5)
    assert policy_of(network) is network.policy
    assert len(network.trainable_variables) == len(
        {id(v) for one in (network.policy, network.critic) for v in one.trainable_variables}
    )
