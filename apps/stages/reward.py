"""The reward model, which rates the answers of networks that write as people prefer them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from apps.stages.policies import AS_TRAINED, LIMITS, Policy
from data import preferences
from data.feed import Feed
from metrics import preferences as measures
from models import bert, gpt, transformers
from models.reward import Rating, pretrained_rater, rater_of, reward_model
from preprocessing import tokens
from preprocessing.answers import AnswerReader, answer_reader
from runs import presets, reading
from runs.pictures import reliability_curve
from runs.report import Picture, Section, Table
from runs.run import Example, Run, counted, finish, start, train
from runs.settings import AUTO, Auto, Data, Training
from runs.text_settings import TextSettings
from serving import ratings
from serving.signature import Signature

MODELS = (*bert.NAMES, *gpt.NAMES)
REFERENCE = 500
"""Maximum number of training prompts that the policy answers for the calibration."""


@dataclass(frozen=True)
class Config(TextSettings):
    ROWS = 2
    data: str = "python_docs"
    """`python_docs` (built in), or .jsonl or .json files (also .gz) of `chosen` and `rejected`
    (transcripts, or answers to `prompt`), `prompt` and `ranked`, or `instruction`, `response1`,
    `response2` and `label`; or a folder with such files, or with a sub-folder for each set."""
    model: str = "gpt_tiny"
    """The network; `--model help` lists them. `bert` and `gpt` need `--preset`."""
    preset: str = "none"
    """Folder of a finished reward model, to train further, or of a finished run of the stage sft,
    of dialogue or of text_generation with a GPT, whose weights and tokens it begins with; or a
    pretrained BERT (model bert), GPT-2 or Llama (model gpt). `none`: random weights."""
    out: Path = Path("saved_models/alignment_reward")
    stage: Literal["reward", "sft", "ppo", "all"] = "reward"
    """The stage to run: `sft` trains a network that replies, `reward` a reward model, `ppo` the
    network of sft further, for higher rewards, and `all` does all of it."""
    half: Data[Literal["both", "first", "second"]] = "both"
    """Half of the training prompts that it learns from; a judge may learn from the other one."""
    length: int = 128
    """Maximum number of tokens of prompt and answer. The oldest turns are dropped."""
    dropout: Training[Auto[float]] = AUTO
    """Dropout rate of a network with random weights, in [0, 1). Default: 0. A pretrained network is
    always trained without dropout."""
    lora_rank: Training[int] = 0
    """Rank of the updates of the queries and values of each head that a pretrained gpt learns, by
    LoRA, in addition to the head. 0: all weights learn."""
    policy: Training[str] = "none"
    """Folder of a finished run whose network writes the answers to training prompts that get the
    mean reward 0. `none`: the preferred answers get it."""
    normalize: Training[bool] = False
    """Scale the rewards so that those of the reference have the standard deviation 1, in addition
    to the mean 0. Accuracy and probabilities stay the same."""

    def __post_init__(self):
        if self.stage != "reward":
            raise ValueError(
                f"`stage` has settings of its own: use Config.of_stage({self.stage!r}) of "
                f"apps.alignment. Received: stage={self.stage!r}"
            )
        super().__post_init__()
        self.require_network(MODELS)
        self.require_least(0, "lora_rank")
        self.require_only(["gpt"], "lora_rank")
        if self.policy != "none" and not (Path(self.policy) / "config.json").is_file():
            self._refuse("policy", "the folder of a finished run, or none")
        most = self.values_of(self.writer) if self.writer else {"model": "gpt"}
        if most["model"] != "gpt" and self.length > most["length"]:
            self._refuse("length", f"at most {most['length']}, as in {self.writer}")

    @property
    def continued(self) -> Path | None:
        run = super().continued
        return run if run and self.values_of(run).get("stage") == "reward" else None

    @property
    def writer(self) -> Path | None:
        """Folder of the run whose network that writes the reward model begins with, if any."""
        return None if self.continued else super().continued

    @classmethod
    def network_of(cls, run: str | Path) -> dict[str, Any]:
        values = cls.values_of(run)
        if values.get("stage") == "reward":
            return super().network_of(run)
        return {"model": "gpt", **{name: values[name] for name in ("length", "precision")}}

    @property
    def reading(self) -> dict[str, Any]:
        folder = {"preset": str(self.writer / "tokenizer")} if self.writer else {}
        return super().reading | folder

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
        calibrate(run, trained.model, fed, reader, data)
    test = evaluate(config, data, trained.model, fed)
    run.facts["limits"] = LIMITS
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
        batch=lambda rows, there: (tokens.trimmed(rows, unless=config.fixed_lengths), there),
        length=tokens.lengths,
    )


def build(config: Config, reader: AnswerReader) -> keras.Model:
    if config.continued:
        rater = presets.network(config.continued)
        if not config.EVALUATES:
            # The loss has a scale of its own.
            head = rater.get_layer("reward")
            head.calibrate(head.bias, head.gain)
    elif config.writer:
        rater = rater_of(presets.network(config.writer), config.lora_rank)
    elif config.model == "gpt":
        size = reader.tokens.vocabulary_size
        rater = pretrained_rater(config.preset, config.length, size, config.lora_rank)
    else:
        family = bert.encoder if config.family == "bert" else gpt.decoder
        rater = reward_model(family(reader.tokens.vocabulary_size, **config.transformer))
    return Rating(rater, drops=config.dropout > 0)


def calibrate(run: Run, rater: keras.Model, fed: Feed, reader: AnswerReader, data) -> None:
    """Sets the zero of the rewards, and with `normalize` their unit."""
    config: Any = run.config
    if config.policy == "none":
        batches: Any = fed.evaluation("train", config.batch_size)
        some = batches.map(lambda features, _: {name: one[:, 0] for name, one in features.items()})
        whose = "the preferred answers"
    else:
        prompts = data.prompts("train", REFERENCE)
        answers = Policy(Path(config.policy)).answers(prompts, config.seed, **AS_TRAINED)
        rows = reader.encode(tf.constant(prompts), tf.constant(answers), True)
        some = tf.data.Dataset.from_tensor_slices(rows).batch(config.batch_size)
        whose = f"the answers of {Path(config.policy).name}"
    rewards = rater.predict(some, verbose=0)
    deviation = rewards.std() if config.normalize else 1.0
    rater.get_layer("reward").calibrate(rewards.mean(), deviation)
    run.facts["reward 0"] = f"mean of {whose} to {len(rewards):,} training prompts"
    unit = "their standard deviation" if config.normalize else "a logit of a preference"
    run.facts["reward 1"] = unit


def evaluate(config: Config, data, rater: keras.Model, fed: Feed) -> measures.Preferences:
    """Rates the test answers, on the scale of the loss."""
    batches: Any = fed.evaluation("test", config.batch_size)
    rewards = Rating(rater).predict(batches.map(lambda features, _: features), verbose=0)
    gain = float(rater.get_layer("reward").gain)
    return measures.Preferences(rewards / gain, data.lengths("test"), data.sets["test"])


def signatures(data: preferences.Preferences, reader: AnswerReader) -> dict[str, Signature]:
    pairs = [(prompt, *answers[:2]) for prompt, answers in data.first("validation", 4)]
    columns = zip(("prompt", "response_a", "response_b"), zip(*pairs, strict=True), strict=True)
    # Better and worse answers: where all rewards are small, rounding would be large beside them.
    some = data.table("validation", 4)
    rows = reader.encode(tf.constant(some["prompt"]), tf.constant(some["response"]), True)
    return ratings.signatures(
        lambda prompts, answers: reader.encode(prompts, answers, False),
        gain=lambda model: model.get_layer("reward").gain,
        pairs={name: np.array(column, object) for name, column in columns},
        rows={name: value.numpy() for name, value in rows.items()},
        meanings=tokens.MEANINGS,
        resources=reader.tokens.resources,
    )


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
