"""Reward models: a Transformer that rates answers, and its training on answers in order of rank."""

from typing import Any

import keras
from keras import ops

from layers import RewardHead
from models.decoders import PretrainedDecoder, decoder_features, pretrained_decoder


def reward_model(backbone: Any) -> keras.Model:
    """Builds a network that rates the answer at the end of a row.

    Reference:
        Ouyang et al., Training Language Models to Follow Instructions with Human Feedback, 2022,
        section 3.5. https://arxiv.org/abs/2203.02155

    Args:
        backbone: From `models.gpt.gpt_backbone`, `models.bert.bert_backbone` or
            `models.bert.pretrained_backbone`.

    Returns:
        A model from the features that the backbone reads, int32 `(batch, tokens)` each, to rewards,
        float32 `(batch,)`.
    """
    features = backbone.output
    if isinstance(features, dict):  # BERT: the pooling would get no gradient.
        features = features["sequence_output"]
    reward = RewardHead(name="reward")(features, mask=backbone.input["padding_mask"])
    return keras.Model(backbone.input, reward, name="reward_model")


@keras.saving.register_keras_serializable(package="hornbook")
class PretrainedRater(PretrainedDecoder):
    """Rates the answer at the end of a row with a pretrained decoder, as `reward_model` does."""

    learned = ("reward",)

    @staticmethod
    def head(backbone: Any) -> Any:
        mask = backbone.input["padding_mask"]
        return RewardHead(name="reward")(decoder_features(backbone), mask=mask)


def pretrained_rater(
    preset: str, length: int, vocabulary_size: int, lora_rank: int = 0
) -> keras.Model:
    """Loads a decoder as `models.decoders.pretrained_decoder` does, with the head of a reward."""
    return pretrained_decoder(preset, length, vocabulary_size, lora_rank, PretrainedRater)


def rater_of(writer: keras.Model, lora_rank: int = 0) -> keras.Model:
    """Makes a network that rates answers from one that writes them, with its weights.

    Args:
        writer: A GPT or a pretrained decoder, with the outputs of `next_token_logits`.
        lora_rank: As of `PretrainedDecoder.enable_lora`; a GPT has none.
    """
    if isinstance(writer, PretrainedDecoder):
        rater = PretrainedRater.from_config(writer.get_config())
        rater.with_weights_of({variable.path: variable for variable in writer.variables})
        if lora_rank:
            rater.enable_lora(lora_rank)
        return rater
    if "layer_norm" not in [layer.name for layer in writer.layers]:
        raise ValueError(f"`writer` must be a GPT or a Llama. Received: {writer.name}")
    features = writer.get_layer("layer_norm").output
    reward = RewardHead(name="reward")(features, mask=writer.input["padding_mask"])
    return keras.Model(writer.input, reward, name="reward_model")


@keras.saving.register_keras_serializable(package="hornbook")
class Rating(keras.Model):
    """Rates several answers of each prompt with one reward model, as its training needs it.

    Args:
        rater: From `reward_model`.
        drops: Whether the dropout of the network is active in training.

    Input shape:
        Features, int32 `(batch, answers, tokens)` each; the number of answers is known.

    Output shape:
        Rewards, float32 `(batch, answers)`.
    """

    def __init__(self, rater: keras.Model, drops: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.rater = rater
        self.drops = drops

    def call(self, features, training=None):
        answers = features["padding_mask"].shape[1]
        rows = {
            name: ops.reshape(value, (-1, ops.shape(value)[-1])) for name, value in features.items()
        }
        rewards = self.rater(rows, training=bool(training) and self.drops)
        return ops.reshape(rewards, (-1, answers))

    def finished(self) -> keras.Model:
        """Returns the network that rates single answers."""
        finished = getattr(self.rater, "finished", None)
        return finished() if finished else self.rater
