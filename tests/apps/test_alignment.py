import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import alignment, dialogue
from apps.stages import reward as app
from apps.stages import sft
from preprocessing.answers import answer_reader
from runs import command
from runs.run import start
from tests.apps.every_app import Small
from tests.apps.test_bert_pretraining import COLORS, ODD, THINGS


def colors(folder: Path) -> str:
    """Writes answers about things of one color each; the better one names the color."""
    random = np.random.default_rng(0)
    for split, count in {"train": 64, "dev": 8, "test": 12}.items():
        lines = []
        for _ in range(count):
            color, thing = random.choice(COLORS), random.choice(THINGS)
            prompt = f"\n\nHuman: I have a {thing}.\n\nAssistant: A what?\n\nHuman: A {color} one."
            answers = f"Oh, {color}.", "I do not know."
            chosen, rejected = (f"{prompt}\n\nAssistant: {answer}" for answer in answers)
            lines.append(json.dumps({"chosen": chosen, "rejected": rejected}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return str(folder)


SMALL = Small(
    write=colors,
    settings={
        "model": "bert_tiny",
        "epochs": 3,
        "batch_size": 8,
        "length": 48,
        "vocabulary_size": 300,
        "learning_rate": 0.02,
        "normalize": True,
    },
    beats=("accuracy", 0.9),
    sections=["Calibration", "Accuracy by difference of the rewards", "Worst mistakes"],
    few=("new.jsonl", '{"prompt": "A red car.", "chosen": "Oh, red.", "rejected": "What?"}'),
    odd=[
        *({"prompt": text, "response": text} for text in ODD),
        {"prompt": "", "response": "\n\nHuman: a\n\nAssistant: b"},
        {"prompt": "\n\nAssistant:\n\nHuman:", "response": "[SEP] <|im_end|>"},
    ],
    bad={"stage": "sft", "lora_rank": -1, "policy": "no_run"},
    free=["normalize"],
    ignored=[
        {"preset": "no_run"},
        {"model": "bert", "preset": "folder", "lora_rank": 8},
        {"model": "bert", "preset": "folder", "dropout": 0.5},
        {"model": "bert", "preset": "folder", "vocabulary_size": 500},
    ],
    files=["tokenizer"],
    module="apps.stages.reward",
)


def served(signature, rater, columns) -> np.ndarray:
    """What a signature answers, without the graph that the export has."""
    tensors = {name: tf.constant(columns[name]) for name in signature.inputs}
    (answer,) = signature.answer(signature.compute(rater), tensors).values()
    return answer.numpy()


TALK = "\n\nHuman: I have a car.\n\nAssistant: A what?\n\nHuman: A red one."


@pytest.fixture(
    scope="module", params=["bert_tiny", pytest.param("gpt_tiny", marks=pytest.mark.slow)]
)
def parts(request, tmp_path_factory):
    """Settings, data, the reader and an untrained network."""
    keras.utils.set_random_seed(0)
    config = app.Config(
        data=colors(tmp_path_factory.mktemp("colors")),
        model=request.param,
        length=48,
        vocabulary_size=300,
        normalize=True,
    )
    data = app.load(config)
    reader = answer_reader(config.family, data.texts(), **config.reading)
    return config, data, reader, app.build(config, reader).rater


def test_the_best_training_answers_have_mean_0_and_deviation_1(parts):
    config, data, reader, rater = parts
    fed = app.feed(config, data, reader)
    before = app.evaluate(config, data, rater, fed)
    app.calibrate(run := start(config), rater, fed, reader, data)
    prompts, answers = np.stack([*data.best("train").as_numpy_iterator()]).T
    columns = {"prompt": prompts, "response": answers}
    rewards = served(app.signatures(data, reader)["serving_default"], rater, columns)
    assert [rewards.mean(), rewards.std()] == pytest.approx([0, 1], abs=1e-3)
    assert run.facts["reward 0"] == "mean of the preferred answers to 64 training prompts"
    # The scores are on the scale of the loss.
    after = app.evaluate(config, data, rater, fed)
    np.testing.assert_allclose(after.margins, before.margins, atol=1e-4)


class Parrot:
    """A policy that repeats the prompt."""

    def __init__(self, run):
        assert (run / "config.json").is_file()

    def answers(self, prompts, seed):
        return [prompt.decode() for prompt in prompts]


def test_the_answers_of_a_policy_have_mean_0(parts, tmp_path, monkeypatch):
    config, data, reader, rater = parts
    monkeypatch.setattr(app, "Policy", Parrot)
    (folder := tmp_path / "folder").mkdir()
    (folder / "config.json").touch()
    config = replace(config, policy=str(folder))
    app.calibrate(run := start(config), rater, app.feed(config, data, reader), reader, data)
    prompts = data.prompts("train", 500)
    columns = {"prompt": prompts, "response": prompts}
    rewards = served(app.signatures(data, reader)["serving_default"], rater, columns)
    assert [rewards.mean(), rewards.std()] == pytest.approx([0, 1], abs=1e-3)
    assert run.facts["reward 0"] == "mean of the answers of folder to 64 training prompts"
    assert len(data.prompts("train", 10)) == 10 and set(data.prompts("train", 10)) < {*prompts}


def test_compare_is_the_sigmoid_of_the_difference_before_the_gain(parts):
    _, data, reader, rater = parts
    head = rater.get_layer("reward")
    head.calibrate(head.bias + 3.0, head.gain * 2.0)
    signatures = app.signatures(data, reader)
    prompts, first, second = [TALK, "Hi"], ["Oh, red.", "Ho"], ["I do not know.", "Ho"]

    def rewards(answers):
        columns = {"prompt": prompts, "response": answers}
        return served(signatures["serving_default"], rater, columns)

    query = {"prompt": prompts, "response_a": first, "response_b": second}
    found = served(signatures["compare"], rater, query)
    expected = 1 / (1 + np.exp(-2 * (rewards(first) - rewards(second))))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[1] == pytest.approx(0.5, abs=1e-6)
    features = reader.encode(tf.constant(prompts), tf.constant(first), True)
    of_tokens = served(signatures["from_tokens"], rater, features)
    np.testing.assert_allclose(of_tokens, rewards(first), atol=1e-5)


def test_rewards_do_not_depend_on_the_batch(parts):
    _, data, reader, rater = parts
    table = data.table("test", 8)
    signature = app.signatures(data, reader)["serving_default"]
    rewards = served(signature, rater, table)
    for rows in (slice(3, 4), slice(None, None, -1)):
        some = {name: column[rows] for name, column in table.items()}
        np.testing.assert_allclose(served(signature, rater, some), rewards[rows], atol=1e-4)


def test_a_run_that_is_continued_trains_on_the_scale_of_the_loss(parts, tmp_path, monkeypatch):
    config, _, reader, rater = parts
    rater.get_layer("reward").calibrate(1.0, 2.0)
    monkeypatch.setattr(app.presets, "network", lambda run: rater)
    monkeypatch.setattr(app.Config, "continued", tmp_path)
    head = app.build(config, reader).rater.get_layer("reward")
    assert [float(head.gain), float(head.bias)] == pytest.approx([1, 0], abs=1e-5)


def test_each_stage_has_settings_of_its_own(tmp_path):
    with pytest.raises(ValueError, match=r"use Config\.of_stage\('sft'\)"):
        alignment.Config(stage="sft")
    chosen = alignment.Config.of_stage("sft")(train_on="all", out=tmp_path / "out")
    (tmp_path / "config.json").write_text(json.dumps(chosen.saved))
    again = alignment.Config.load(tmp_path, epochs=3)
    assert type(again) is sft.Config and (again.train_on, again.epochs) == ("all", 3)
    (tmp_path / "model.keras").touch()
    assert alignment.Config.evaluating(tmp_path, data="new").stage == "sft"
    read = command.read
    assert read(alignment.Config, "", ["--stage", "sft", "--system", "Hi"]).system == "Hi"
    assert read(alignment.Config, "", ["--config", str(tmp_path)]) == chosen
    assert type(read(alignment.Config, "", [])) is alignment.Config
    assert type(read(alignment.Config, "", ["--stage=reward"])) is alignment.Config
    with pytest.raises(SystemExit):
        read(alignment.Config, "", ["--stage", "ppo"])


def test_the_stage_decides_what_runs(monkeypatch):
    for stage in (app, sft):
        monkeypatch.setattr(stage, "main", lambda config, name=stage.__name__: {name: 0.0})
        config = alignment.Config.of_stage(stage.__name__.rpartition(".")[2])()
        assert alignment.main(config) == {stage.__name__: 0.0}


def test_a_run_that_writes_gives_its_network_and_its_tokens(tmp_path):
    writer = dialogue.Config(model="gpt_tiny", length=64)
    (tmp_path / "model.keras").touch()
    (tmp_path / "config.json").write_text(json.dumps(writer.saved))
    config = app.Config.continuing(tmp_path, epochs=2)
    assert (config.continued, config.writer) == (None, tmp_path)
    assert (config.model, config.length, config.epochs) == ("gpt", 64, 2)
    assert config.reading["preset"] == str(tmp_path / "tokenizer")
    (tmp_path / "config.json").write_text(json.dumps(app.Config(length=32).saved))
    config = app.Config.continuing(tmp_path)
    assert (config.continued, config.writer, config.length) == (tmp_path, None, 32)


def test_a_pretrained_network_is_trained_for_one_epoch_and_without_dropout():
    config = app.Config(model="bert", preset="folder")
    assert (config.epochs, config.dropout) == (1, 0.0)
    assert app.Config().epochs == 10
