"""Networks for policy optimization: a policy that writes, and the values of what it writes.

The values predict, at each token, the reward that the rest of the answer will bring.
"""

from typing import Any

import keras
from keras import ops

from models.decoders import PretrainedDecoder, decoder_features, next_token_logits


class ActorCritic(keras.Model):
    """A policy and a network of its own for the values.

    Args:
        policy: From features to a dict with `logits`.
        critic: From the same features to values, float32 `(batch, tokens)`, as from `critic_of`.

    Output shape:
        `logits`, as the policy returns them, and `values`, in a dict.
    """

    def __init__(self, policy: keras.Model, critic: keras.Model):
        super().__init__()
        self.policy = policy
        self.critic = critic
        self.built = True  # Both networks are.

    def call(self, features, training=None):
        logits = self.policy(features, training=training)["logits"]
        return {"logits": logits, "values": self.critic(features, training=training)}


@keras.saving.register_keras_serializable(package="hornbook")
class PretrainedActorCritic(PretrainedDecoder):
    """A pretrained decoder that predicts the next token and a value from the same features."""

    learned = ("values",)

    @staticmethod
    def head(backbone: Any) -> Any:
        values = _values(decoder_features(backbone))
        return {"logits": next_token_logits(backbone), "values": values}


@keras.saving.register_keras_serializable(package="hornbook")
class PretrainedCritic(PretrainedDecoder):
    """A pretrained decoder that predicts values."""

    learned = ("values",)

    @staticmethod
    def head(backbone: Any) -> Any:
        return _values(decoder_features(backbone))


def with_values(policy: keras.Model) -> keras.Model:
    """Returns a policy with a head for values, which begin as 0.

    Reference:
        Ziegler et al., Fine-Tuning Language Models from Human Preferences, 2019, section 2.1.
        https://arxiv.org/abs/1909.08593

    Args:
        policy: A GPT, a recurrent network or a pretrained decoder. The result has its layers,
            unless it is pretrained.
    """
    if isinstance(policy, PretrainedDecoder):
        return _as(PretrainedActorCritic, policy)
    names = [layer.name for layer in policy.layers]
    # The head of a recurrent network reads the features of its last layer as they are.
    is_gpt = "layer_norm" in names
    features = policy.get_layer("layer_norm").output if is_gpt else policy.get_layer("logits").input
    values = _values(features)
    return keras.Model(policy.input, {"logits": policy.output["logits"], "values": values})


def critic_of(rater: keras.Model) -> keras.Model:
    """Returns a network for values that begins with a reward model: at the last token it agrees.

    Reference:
        Ouyang et al., Training Language Models to Follow Instructions with Human Feedback, 2022,
        appendix C.4. https://arxiv.org/abs/2203.02155

    Args:
        rater: From `models.reward`, on a GPT or a pretrained decoder. A GPT shares its layers with
            the result.
    """
    if isinstance(rater, PretrainedDecoder):
        critic = _as(PretrainedCritic, rater)
    else:
        features = rater.get_layer("layer_norm").output
        critic = keras.Model(rater.input, _values(features), name="critic")
    reward, values = rater.get_layer("reward"), critic.get_layer("values")
    values.kernel.assign((reward.gain * reward.kernel)[:, None])
    values.bias.assign(ops.reshape(reward.bias, (1,)))
    return critic


def part_that_writes(network: keras.Model) -> keras.Model:
    """Returns the part of a network from `ActorCritic` or `with_values` with the policy's weights.

    It shares them with the network, while it is trained.
    """
    return network.policy if isinstance(network, ActorCritic) else network


def policy_of(network: keras.Model) -> keras.Model:
    """Returns the policy of a network from `ActorCritic` or `with_values`, without adapters."""
    policy = part_that_writes(network)
    if isinstance(policy, PretrainedDecoder):
        policy = policy.finished()
        return policy if isinstance(network, ActorCritic) else _as(PretrainedDecoder, policy)
    if isinstance(network, ActorCritic):
        return policy
    return keras.Model(network.input, {"logits": network.output["logits"]}, name="policy")


def _values(features: Any) -> Any:
    dense = keras.layers.Dense(1, kernel_initializer="zeros", dtype="float32", name="values")
    return ops.squeeze(dense(features), axis=-1)


def _as(kind: type[PretrainedDecoder], network: PretrainedDecoder) -> PretrainedDecoder:
    """Returns a network of another kind with the same weights; those that it lacks are new."""
    made = kind.from_config(network.get_config())
    return made.with_weights_of({variable.path: variable for variable in network.variables})
