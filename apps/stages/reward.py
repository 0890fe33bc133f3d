"""The reward model, which rates the answers of networks that write as people prefer them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from data import preferences
from data.feed import Feed
from metrics import preferences as measures
from models import bert, gpt, transformers
from models.reward import Rating, reward_model
from preprocessing import tokens
from preprocessing.answers import AnswerReader, answer_reader
from runs import presets, reading
from runs.pictures import reliability_curve
from runs.report import Picture, Section, Table
from runs.run import Example, Run, counted, finish, start, train
from runs.settings import AUTO, Auto, Training
from runs.text_settings import TextSettings
from serving.signature import Network, Signature, tensors

MODELS = (*bert.NAMES, *(name for name in gpt.NAMES if name != "gpt"))
PROMPT = (
    "one turn of the user, or a transcript whose turns begin with Human: and Assistant: after a "
    "blank line, the user's last; in UTF-8"
)
MEANINGS = {
    **tokens.MEANINGS,
    "prompt": PROMPT,
    "response": "the answer to rate, in UTF-8",
    "response_a": "an answer, in UTF-8",
    "response_b": "another answer, in UTF-8",
    "reward": "rating of the answer, higher is better; 0 is the mean of the preferred answers to "
    "the training prompts",
    "probability": "probability that response_a is preferred to response_b",
}
"""Meanings of all inputs and outputs."""


@dataclass(frozen=True)
class Config(TextSettings):
    ROWS = 2
    data: str = "python_docs"
    """`python_docs` (built in), or .jsonl or .json files (also .gz) of `chosen` and `rejected`
    (transcripts, or answers to `prompt`), `prompt` and `ranked`, or `instruction`, `response1`,
    `response2` and `label`; or a folder with such files, or with a sub-folder for each set."""
    model: str = "gpt_tiny"
    """The network; `--model help` lists them. `bert` needs `--preset`."""
    out: Path = Path("saved_models/alignment_reward")
    stage: Literal["reward", "sft"] = "reward"
    """The stage to run: `reward` trains a reward model, `sft` a network that replies."""
    length: int = 128
    """Maximum number of tokens of prompt and answer. The oldest turns are dropped."""
    dropout: Training[Auto[float]] = AUTO
    """Dropout rate of a network with random weights, in [0, 1). Default: 0. A pretrained network is
    always trained without dropout."""
    normalize: Training[bool] = False
    """Scale the rewards so that those of the preferred answers to the training prompts have the
    standard deviation 1, in addition to the mean 0. Accuracy and probabilities stay the same."""

    def __post_init__(self):
        if self.stage != "reward":
            raise ValueError(
                f"`stage` has settings of its own: use Config.of_stage({self.stage!r}) of "
                f"apps.alignment. Received: stage={self.stage!r}"
            )
        super().__post_init__()
        self.require_network(MODELS)

    @property
    def usual(self) -> dict[str, Any]:
        # A reward model overfits in its second epoch, unless it has to learn to read first.
        pretrained = {"epochs": 1} if self.preset != "none" else {}
        return super().usual | {"dropout": 0.0} | pretrained


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test preferences."""
    run = start(config)
    data = counted(run, load(config), "preferences")
    reader = answer_reader(config.family, data.texts(), **config.reading)
    reading.lengths(run, data.best("train"), reader, "prompts with their best answers")
    fed = feed(config, data, reader)
    trained = train(
        run,
        partial(build, config, reader),
        fed,
        loss=measures.PairwiseLoss(),
        metrics=lambda: [measures.accuracy()],
        rates=config.rates(transformers.width, transformers.depths),
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    if not config.EVALUATES:
        calibrate(run, trained.model, fed)
    test = evaluate(config, data, trained.model, fed)
    return finish(
        run,
        trained,
        task="alignment",
        signatures=signatures(data, reader),
        warmup=data.table("validation", 8),
        example=example(data),
        scores=test.scores,
        num_test=len(data.test),
        examples="preferences",
        facts={"vocabulary": reader.tokens.vocabulary_size, "test pairs": len(test.margins)},
        report=report(data, test),
        baselines=lambda: {"longer": ("the longer answer", test.longer)},
        tokens=getattr(reader.tokens, "tokens", reader.tokens),
    )


def load(config: Config) -> preferences.Preferences:
    return preferences.load(**config.loading)


def feed(config: Config, data: preferences.Preferences, reader: AnswerReader) -> Feed:
    return Feed(
        data,
        prepare_many=reader.labeled,
        batch=lambda features, there: (
            tokens.trimmed(features, unless=config.fixed_lengths),
            there,
        ),
        length=tokens.lengths,
    )


def build(config: Config, reader: AnswerReader) -> keras.Model:
    if config.continued:
        rater = presets.network(config.continued)
        if not config.EVALUATES:
            # The loss has a scale of its own.
            head = rater.get_layer("reward")
            head.calibrate(head.bias, head.gain)
    else:
        family = bert.encoder if config.family == "bert" else gpt.decoder
        rater = reward_model(family(reader.tokens.vocabulary_size, **config.transformer))
    return Rating(rater, drops=config.dropout > 0)


def calibrate(run: Run, rater: keras.Model, fed: Feed) -> None:
    """Sets the zero of the rewards, and with `normalize` their unit."""
    config: Any = run.config
    batches: Any = fed.evaluation("train", config.batch_size)
    best = batches.map(lambda features, _: {name: one[:, 0] for name, one in features.items()})
    rewards = rater.predict(best, verbose=0)
    deviation = rewards.std() if config.normalize else 1.0
    rater.get_layer("reward").calibrate(rewards.mean(), deviation)
    run.facts["reward 0"] = f"mean of the preferred answers to {len(rewards):,} training prompts"
    run.facts["reward 1"] = (
        "their standard deviation" if config.normalize else "a logit of a preference"
    )


def evaluate(
    config: Config, data: preferences.Preferences, rater: keras.Model, fed: Feed
) -> measures.Preferences:
    """Rates the test answers, on the scale of the loss."""
    batches: Any = fed.evaluation("test", config.batch_size)
    rewards = Rating(rater).predict(batches.map(lambda features, _: features), verbose=0)
    gain = float(rater.get_layer("reward").gain)
    return measures.Preferences(rewards / gain, data.lengths("test"), data.sets["test"])


def signatures(data: preferences.Preferences, reader: AnswerReader) -> dict[str, Signature]:
    def read_both(prompt, response_a, response_b):
        answers = tf.concat([response_a, response_b], axis=0)
        return reader.encode(tf.tile(prompt, [2]), answers, False)

    def difference(network: Network, features):
        first, second = tf.split(network(features), 2)
        return (first - second) / tf.convert_to_tensor(network.model.get_layer("reward").gain)

    text = tf.TensorSpec((None,), tf.string)
    pairs = data.first("validation", 4)
    texts = {
        "prompt": np.array([prompt for prompt, _ in pairs], object),
        "response_a": np.array([answers[0] for _, answers in pairs], object),
        "response_b": np.array([answers[1] for _, answers in pairs], object),
    }
    # Better and worse answers: where all rewards are small, rounding would be large beside them.
    some = data.table("validation", 4)
    features = reader.encode(tf.constant(some["prompt"]), tf.constant(some["response"]), True)
    return {
        "serving_default": Signature(
            inputs={"prompt": text, "response": text},
            preprocess=lambda prompt, response: reader.encode(prompt, response, False),
            postprocess=lambda rewards: {"reward": rewards},
            meanings=MEANINGS,
            resources=reader.tokens.resources,
        ),
        "compare": Signature(
            inputs=dict.fromkeys(texts, text),
            preprocess=read_both,
            core=difference,
            postprocess=lambda margins: {"probability": tf.sigmoid(margins)},
            meanings=MEANINGS,
            resources=reader.tokens.resources,
            examples=texts,
        ),
        "from_tokens": tensors(
            {name: tf.TensorSpec((None, None), tf.int32) for name in features},
            MEANINGS,
            examples={name: value.numpy() for name, value in features.items()},
            preprocess=dict,
            postprocess=lambda rewards: {"reward": rewards},
        ),
    }


def report(data: preferences.Preferences, test: measures.Preferences) -> list[Section]:
    prompt, better, worse = (numbers[test.worst].tolist() for numbers in test.pairs)
    rows = []
    for pair, (text, answers) in enumerate(data.picked("test", prompt)):
        texts = [
            one.decode().strip() for one in (text, answers[better[pair]], answers[worse[pair]])
        ]
        probability = f"{test.probabilities[test.worst[pair]]:.1%}"
        rows.append((*texts, probability, data.origin("test", prompt[pair])))
    heading = ("prompt", "preferred answer", "other answer", "probability", "from")
    return [
        Table("Accuracy by set", *test.by_set()),
        Picture("Calibration", reliability_curve(test)),
        Table("Accuracy by difference of the rewards", *test.by_difference()),
        Table("Worst mistakes", heading, rows),
    ]


def example(data: preferences.Preferences) -> Example:
    ((prompt, answers),) = data.first("test", 1)
    inputs = {"prompt": prompt.decode(), "response": answers[0].decode()}
    return Example("the preferred answer to a test prompt", inputs)
