import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import alignment, dialogue
from apps.stages import every, policies, ppo, sft
from apps.stages import reward as app
from apps.stages.rollouts import compare, texts_of
from data import demonstrations
from data.dialogues import Dialogue
from models.actor_critic import policy_of
from models.decoders import pretrained_decoder
from preprocessing.answers import answer_reader, turns_of
from preprocessing.byte_tokens import Bytes, as_features
from preprocessing.turns import TurnTokens
from runs import command, presets
from runs.run import start
from serving import checks
from serving.writing import filled
from tests.apps.every_app import Small
from tests.apps.test_bert_pretraining import COLORS, ODD, THINGS
from tests.models.tiny_llama import write_llama


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
    bad={"stage": "sft", "lora_rank": -1, "policy": "no_run", "half": "third"},
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

    def answers(self, prompts, seed, temperature, **choice):
        assert temperature == 1
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
        read(alignment.Config, "", ["--stage", "rlhf"])


def test_the_stage_decides_what_runs(monkeypatch):
    monkeypatch.setattr(ppo.Config, "__post_init__", lambda config: None)
    for name, stage in {"reward": app, "sft": sft, "ppo": ppo, "all": every}.items():
        monkeypatch.setattr(stage, "main", lambda config, name=name: {name: 0.0})
        assert alignment.main(alignment.Config.of_stage(name)()) == {name: 0.0}


def test_all_stages_run_in_order_but_for_those_that_are_finished(policy_run, tmp_path, monkeypatch):
    ran = []

    def run(config):
        ran.append(config)
        if not config.out.exists():
            shutil.copytree(policy_run, config.out)
        (config.out / "config.json").write_text(json.dumps(config.saved))
        return {"score": 1.0}

    for stage in (app, sft, ppo):
        monkeypatch.setattr(stage, "main", run)
    settings = {"model": "gpt_tiny", "length": 64, "max_tokens": 8, "epochs": 2, "seed": 3}
    config = every.Config(data="a", prompts="b", out=tmp_path / "out", **settings)
    assert every.main(config) == {"score": 1.0}
    first, rater, judge, last = ran
    assert [one.out.name for one in ran] == ["out_sft", "out_reward", "out_judge", "out"]
    assert [one.data for one in ran] == ["a", "a", "a", "b"]
    assert [one.seed for one in ran] == [3, 3, 4, 3]
    assert (rater.half, judge.half, rater.writer) == ("first", "second", first.out)
    assert (first.epochs, last.continued, last.max_tokens) == (2, first.out, 8)
    assert (last.reward, last.judge) == (str(rater.out), str(judge.out))
    ran.clear()
    shutil.rmtree(last.out)
    every.main(config)
    assert [one.out.name for one in ran] == ["out"]


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


PROMPTS = [b"Hi", TALK.encode(), b"A red car, a blue one, and a few more of them, please."]


@pytest.fixture(scope="module")
def policy_run(tmp_path_factory):
    """The folder of a finished run of the stage sft, without an export."""
    folder = tmp_path_factory.mktemp("policy")
    keras.utils.set_random_seed(0)
    config = sft.Config(model="gpt_tiny", length=64, max_tokens=8)
    tokens = TurnTokens(Bytes())
    dialogue.build(config, tokens).save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps(config.saved))
    (folder / "tokenizer").mkdir()
    return folder


class Spaces:
    """Rates answers by the number of their spaces."""

    size = 0

    def __call__(self, prompts, answers):
        only_spaces = tf.strings.regex_replace(answers, "[^ ]", "")
        return tf.cast(tf.strings.length(only_spaces), tf.float32)


spaces: Any = Spaces()


@pytest.fixture(scope="module")
def taught(policy_run, tmp_path_factory):
    """Settings, tokens and a model for the stage ppo."""
    config = ppo.Config.continuing(
        policy_run,
        value="head",
        max_tokens=8,
        batch_size=3,
        minibatches=3,
        out=tmp_path_factory.mktemp("out"),
    )
    tokens = TurnTokens(Bytes())
    return config, tokens, ppo.build(run := start(config), tokens, {"reward": spaces}, 1), run


def test_a_rollout_has_the_log_probabilities_of_a_plain_pass(taught, policy_run):
    config, tokens, _, _ = taught
    policy = keras.saving.load_model(policy_run / "model.keras")
    write = ppo.writer(config, tokens, policy)
    rollout = write(tf.constant(PROMPTS), tf.constant([1, 2, 3], tf.int64))
    logits = policy(rollout.features)["logits"]
    logs = tf.gather(tf.nn.log_softmax(logits), tf.maximum(rollout.targets, 0), batch_dims=2)
    past, _ = tokens.prompts(
        turns_of(tf.constant(PROMPTS))[0].to_tensor(""), tf.fill((3,), ""), tf.fill((3,), 55)
    )
    outputs = dialogue.signatures(config, tokens, np.array([["Hi"]], object))
    written = outputs["generate_from_tokens"]
    columns = filled({**config.choice, "temperature": 1.0}, 3) | {
        "token_ids": past,
        "seed": tf.constant([1, 2, 3], tf.int64),
    }
    found = written.answer(written.compute(policy), columns)
    np.testing.assert_allclose(
        tf.reduce_sum(logs * rollout.mask, axis=1), found["log_probability"], atol=1e-4
    )
    texts = tokens.decode(found["token_ids"])
    np.testing.assert_array_equal(texts_of(rollout, tokens), texts)
    ends = tf.reduce_sum(rollout.mask, axis=1) - tf.cast(rollout.ended, tf.float32)
    np.testing.assert_array_equal(
        ends, tf.reduce_sum(tf.cast(found["token_ids"] >= 0, tf.float32), 1)
    )


def test_a_step_of_ppo_changes_the_policy_and_not_the_reference(taught, policy_run):
    _, _, model, run = taught
    before = [np.asarray(weight) for weight in model.network.trainable_variables]
    reference = keras.saving.load_model(policy_run / "model.keras")
    model.optimizers["network"].build(model.network.trainable_variables)
    rollout = model.write(tf.constant(PROMPTS), tf.constant([1, 2, 3], tf.int64))
    expected = reference(rollout.features)["logits"]
    logs = model.train_step(tf.constant(PROMPTS))
    assert float(logs["kl"]) == pytest.approx(0, abs=1e-4)
    moved = [
        float(np.abs(np.asarray(new) - old).max())
        for new, old in zip(model.network.trainable_variables, before, strict=True)
    ]
    assert min(moved[:3]) > 0 and model.updates_per_step == 12
    np.testing.assert_array_equal(model.read_reference(rollout.features), expected)
    assert run.facts["memory"].startswith("Memory before the first step: ")


def test_with_lora_policy_and_reference_share_one_base(tmp_path):
    write_llama(tmp_path, vocab_size=300, max_position_embeddings=64)
    pretrained_decoder(tmp_path, 64).save(tmp_path / "model.keras")
    sft_config = sft.Config(model="gpt", preset="folder", length=64, max_tokens=8)
    (tmp_path / "config.json").write_text(json.dumps(sft_config.saved))
    settings: dict[str, Any] = {"value": "head", "max_tokens": 8, "lora_rank": 2}
    config = ppo.Config.continuing(tmp_path, **settings, out=tmp_path / "out")
    tokens, run = TurnTokens(Bytes()), start(config)
    model = ppo.build(run, tokens, {"reward": spaces}, 1)
    assert " 0 for the values, 0 for the reference, " in run.facts["memory"]
    names = {variable.name for variable in model.network.trainable_variables}
    assert names == {"lora_kernel_a", "lora_kernel_b", "kernel", "bias"}
    for variable in model.network.trainable_variables:
        variable.assign(keras.random.normal(variable.shape, 0.0, 0.5, seed=0))
    prompts, seeds = tf.constant(PROMPTS), tf.constant([1, 2, 3], tf.int64)
    rollout = model.write(prompts, seeds)
    before = presets.network(tmp_path, lora_rank=2)(rollout.features)["logits"]
    np.testing.assert_array_equal(model.read_reference(rollout.features), before)
    logits = model.network(rollout.features)["logits"]
    assert np.abs(logits - before).max() > 0.1
    merged = policy_of(model.network)
    np.testing.assert_allclose(merged(rollout.features)["logits"], logits, atol=1e-4)
    again = ppo.writer(config, tokens, merged)(prompts, seeds)
    np.testing.assert_array_equal(again.targets, rollout.targets)


def test_runs_that_are_gone_are_named(policy_run, tmp_path):
    config = ppo.Config.continuing(policy_run, reward=str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"gone: expected the finished run .* `reward`\."):
        alignment.main(config)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gru", "lstm"])
def test_a_recurrent_network_is_a_policy(tmp_path, model):
    before = sft.Config(model=model, units=8, length=64, max_tokens=8)
    tokens = TurnTokens(Bytes())
    dialogue.build(before, tokens).save(tmp_path / "model.keras")
    (tmp_path / "config.json").write_text(json.dumps(before.saved))
    config = ppo.Config.continuing(tmp_path, value="head", max_tokens=8, out=tmp_path / "out")
    trained = ppo.build(start(config), tokens, {"reward": spaces}, 1)
    rollout = trained.write(tf.constant(PROMPTS), tf.constant([1, 2, 3], tf.int64))
    outputs = trained.network(rollout.features)
    np.testing.assert_array_equal(outputs["logits"], trained.read_reference(rollout.features))
    assert outputs["values"].shape == rollout.mask.shape
    # The likeliest tokens of a network that is certain are those of a plain pass.
    head = trained.network.get_layer("logits")
    head.set_weights([1e6 * weight for weight in head.get_weights()])
    rollout = trained.write(tf.constant(PROMPTS), tf.constant([1, 2, 3], tf.int64))
    likeliest = tf.argmax(policy_of(trained.network)(rollout.features)["logits"], axis=-1)
    is_answer = rollout.mask.numpy() > 0
    np.testing.assert_array_equal(likeliest.numpy()[is_answer], rollout.targets[is_answer])


def test_answers_before_and_after_are_compared(taught, policy_run):
    config, tokens, _, _ = taught
    networks = tuple(keras.saving.load_model(policy_run / "model.keras") for _ in range(2))
    write_with = partial(ppo.writer, config, tokens)
    judges = {"reward": spaces, "judge": lambda prompts, answers: -spaces(prompts, answers)}
    groups = compare(networks, write_with, tokens, judges, PROMPTS, best_of=3)
    assert [*groups] == ["before", "before, best of 3", "after"]
    assert groups["after"].texts == groups["before"].texts
    np.testing.assert_allclose(groups["after"].kl, 0, atol=1e-4)
    best = groups["before, best of 3"].ratings["reward"]
    assert (best >= groups["before"].ratings["reward"]).all()


def test_the_perplexity_of_held_out_answers_is_that_of_their_tokens(taught, policy_run):
    config, tokens, _, run = taught
    assert config.held_out == "python_docs" and config.demonstrations == ""
    answers = ppo.held_out(run)
    assert {*answers.test} == {*demonstrations.load("python_docs").test}
    some = Dialogue(("A red car.", "Oh, red.")), Dialogue(("Hi", "Ho", "A", "Ah"), first_reply=3)
    policy, even = (keras.saving.load_model(policy_run / "model.keras") for _ in range(2))
    even.set_weights([np.zeros_like(weight) for weight in even.get_weights()])
    losses = []
    for one in some:
        past, _ = tokens.prompts(
            tf.constant([one.turns[:-1]]), tf.constant([""]), tf.constant([99])
        )
        reply = [*one.turns[-1].encode(), tokens.end_id]
        row = tf.constant([[tokens.begin_id, *past[0].numpy(), *reply]])
        logits = policy(as_features(row[:, :-1]))["logits"]
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(row[:, 1:], logits)
        losses += [*each[0].numpy()[-len(reply) :]]
    found = ppo.perplexities(config, tokens, replace(answers, test=some), (policy, even))
    assert found["perplexity"] == pytest.approx(tokens.vocabulary_size, rel=1e-4)
    assert found["perplexity_before"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)
    assert ppo.perplexities(config, tokens, None, (policy, even)) == {}


def test_the_stage_ppo_refuses_what_it_ignores(policy_run, tmp_path):
    for name, value in {
        "train_on": "all",
        "accumulate": 2,
        "patience": 1,
        "average": 0.9,
        "minibatches": 17,
        "gamma": 1.1,
        "clip": 0.0,
        "jit_compile": True,
        "lora_rank": 2,
        "prompt_length": 32,
        "target_kl": 0.0,
        "precision": "float16",
    }.items():
        with pytest.raises(ValueError, match=f"`{name}`"):
            ppo.Config.continuing(policy_run, **{name: value})
    with pytest.raises(ValueError, match="`preset` must be the folder of a finished run"):
        ppo.Config()
    with pytest.raises(ValueError, match="`out` must be another folder than `preset`"):
        ppo.Config.continuing(policy_run, out=policy_run)
    with pytest.raises(ValueError, match="`length` must be at most 64"):
        app.Config.continuing(policy_run, length=128)
    with pytest.raises(ValueError, match=r"`value` must be 'head'.*--preset"):
        (tmp_path / "config.json").write_text(json.dumps(app.Config(length=32).saved))
        policies.require_readable(ppo.Config.continuing(policy_run), tmp_path)


class Served:
    """An export with the answers of a classifier or of a reward model."""

    def __init__(self, inputs, outputs):
        self.signatures = {"serving_default": self}
        self.structured_input_signature = ((), dict.fromkeys(inputs))
        self.structured_outputs = dict.fromkeys(outputs)
        self.outputs = outputs

    def __call__(self, **inputs):
        assert inputs.keys() == self.structured_input_signature[1].keys()
        return {name: tf.constant(value) for name, value in self.outputs.items()}


def test_a_class_or_a_reward_model_rates_answers(monkeypatch):
    def judge(inputs, outputs, wanted=""):
        monkeypatch.setattr(policies.versions, "newest", lambda run: run)
        monkeypatch.setattr(policies.graph, "load", lambda _: Served(inputs, outputs))
        monkeypatch.setattr(policies.presets, "card", lambda run: {"classes": ["good", "bad"]})
        return policies.Judge(Path("run"), wanted)

    classes = {"classes": [["good", "bad"], ["bad", "good"]], "scores": [[0.75, 0.25], [1.0, 0.0]]}
    rate = judge(["text"], classes, "good")
    np.testing.assert_allclose(rate(None, ["a", "b"]), [np.log(3), np.log(1e-6)], rtol=1e-4)
    rewards = judge(["prompt", "response"], {"reward": [1.0, 2.0]})(["a", "b"], ["c", "d"])
    np.testing.assert_array_equal(rewards, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"must be one of .*: good, bad\. Received: 'Good'"):
        judge(["text"], classes, "Good")
    assert not judge(["prompt", "response"], {"reward": [1.0]}, "good").is_classifier
    with pytest.raises(ValueError, match="expected a run of alignment --stage reward"):
        judge(["image_bytes"], {"boxes": [1.0]})


@pytest.mark.slow
def test_the_stages_follow_one_another(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    data, size = colors(tmp_path / "data"), {"epochs": 1, "batch_size": 16}
    first = alignment.Config.of_stage("sft")(
        data=data, model="gpt_tiny", length=96, max_tokens=12, out=tmp_path / "sft", **size
    )
    alignment.main(first)
    rater = app.Config.continuing(tmp_path / "sft", data=data, out=tmp_path / "rater", **size)
    alignment.main(rater)
    settings = {"reward": str(tmp_path / "rater"), "judge": str(tmp_path / "rater"), **size}
    config = ppo.Config.continuing(
        tmp_path / "sft", data=data, out=tmp_path / "out", missing_end=0.0, **settings
    )
    scores = alignment.main(config)
    assert scores["judge"] == scores["reward"] and np.isfinite([*scores.values()]).all()
    assert scores["kl"] > 0 and scores["perplexity"] != scores["perplexity_before"] > 1
    said = capsys.readouterr().out
    assert "reward " in said and "Memory before the first step" in said
    assert "training prompts" in said and " longer than 47 tokens" in said
    assert "the best by val_judge" in said
    assert "Perplexity is measured on 12 dialogues of " in said
    page = (config.out / "report.html").read_text()
    assert "--stage ppo" in page and "Before and after" in page
    card = json.loads((config.out / "model_card.json").read_text())
    assert card["Before and after"][0].keys() >= {"prompt", "reward before", "judge after"}
    results = list(checks.run(config.out / "1"))
    assert {one.check: one.detail for one in results if not one.passed} == {}
    again = alignment.Config.evaluating(config.out, out=tmp_path / "evaluation")
    (tmp_path / "sft").rename(tmp_path / "moved")
    with pytest.raises(
        FileNotFoundError, match=r"sft: expected the finished run that is the `pres"
    ):
        alignment.main(again)
    (tmp_path / "moved").rename(tmp_path / "sft")
    repeated = alignment.main(again)
    assert {name: repeated[name] for name in ("reward", "kl", "length")} == pytest.approx(
        {name: scores[name] for name in ("reward", "kl", "length")}, rel=1e-3
    )
    texts = policies.Policy(config.out).answers([b"A red car."], max_tokens=3, temperature=0.0)
    assert len(texts) == 1 and len(texts[0].encode()) <= 3 * 4
