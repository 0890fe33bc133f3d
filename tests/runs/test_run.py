import csv
import json
import os
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import keras
import numpy as np
import pytest
import tensorflow as tf

from data.feed import Feed
from data.splits import Splits
from metrics import language_models
from runs import run as run_module
from runs.pictures import learning_curves
from runs.presets import network
from runs.report import Picture, Table
from runs.run import Example, configured_optimizer, counted, finish, start, train
from runs.settings import Checked, Settings
from serving.signature import tensors
from training.loop import Interrupted


@dataclass(frozen=True)
class Config(Settings):
    data: str = "points"
    model: str = "dense"
    epochs: int = 4
    out: Path = Path("out")
    batch_size: int = 8
    learning_rate: float | None = 0.05


def points(count: int, seed: int) -> tf.data.Dataset:
    values = np.random.default_rng(seed).normal(size=(count, 3)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((values, (values.sum(axis=1) > 0).astype("int32")))


DATA = Splits(train=points(64, 0), validation=points(16, 1), test=points(16, 2))


def build() -> keras.Model:
    inputs = keras.Input((3,), name="point")
    return keras.Model(inputs, keras.layers.Dense(2, name="logits")(inputs))


def trained(config: Config, data: Splits = DATA, **options):
    run = start(config)
    made = train(
        run,
        build,
        Feed(data),
        loss=keras.losses.SparseCategoricalCrossentropy(True),
        metrics=lambda: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        **options,
    )
    return run, made


def finished(run, made, **options) -> dict[str, float]:
    meanings = {"point": "three numbers", "logits": "of two classes"}
    return finish(
        run,
        made,
        task="points",
        warmup={"point": np.ones((2, 3), "float32")},
        example=Example("a test point", {"point": "1"}),
        **{
            "signatures": {
                "serving_default": tensors(
                    {"point": tf.TensorSpec((None, 3), tf.float32)}, meanings
                )
            },
            "scores": {"accuracy": 0.5},
            "num_test": 16,
            "examples": "points",
            "facts": {"classes": ("low", "high")},
            "report": [
                Table("Mistakes", ("point", "class"), [("a", "b")]),
                Table("Samples", ("point", "class"), [("c", "d")], in_card=True),
            ],
            **options,
        },
    )


@pytest.fixture
def answered(monkeypatch):
    """Replaces the process that queries the export; returns its commands."""
    commands = []

    def run(command, **options):
        commands.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(run_module.subprocess, "run", run)
    return commands


def test_the_best_epoch_is_kept_and_the_last_if_asked(tmp_path, capsys):
    worse = {"learning_rate": 5.0, "optimizer": "sgd", "schedule": "constant", "epochs": 5}
    _, best = trained(Config(out=tmp_path / "best", **worse), monitor="val_accuracy")
    _, last = trained(Config(out=tmp_path / "last", keep="last", **worse), monitor="val_accuracy")
    values = best.history["val_accuracy"]
    assert values == last.history["val_accuracy"]
    near = max(values) - (max(values) * (1 - max(values)) / len(DATA.validation)) ** 0.5
    (*_, kept) = (epoch for epoch, value in enumerate(values) if value >= near)
    assert best.choice.startswith(f"epoch {kept + 1}, ")
    assert best.history["kept_epoch"][-1] == kept + 1
    assert last.choice == "epoch 5, the last"
    model = best.model
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True), metrics=["accuracy"])
    scored = model.evaluate(DATA.validation.batch(16), verbose=0, return_dict=True)
    assert scored["accuracy"] == pytest.approx(values[kept])


def test_a_task_without_validation_trains_to_its_last_epoch(tmp_path):
    _, made = trained(Config(out=tmp_path), Splits(train=DATA.train))
    assert made.choice == "epoch 4, the last"
    assert [name for name in made.history if name.startswith("val_")] == []


def test_without_epochs_the_network_is_exported_as_it_is(tmp_path, answered, capsys):
    run, made = trained(Config(out=tmp_path, epochs=0, warmup_epochs=1.0))
    keras.utils.set_random_seed(0)
    kernel, _ = build().get_weights()
    finished(run, made)
    exported = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(exported.get_weights()[0], kernel)
    assert "Evaluated and exported: not trained" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert "not trained" in page and "Learning curves" not in page
    assert (tmp_path / "1").is_dir() and not (tmp_path / "checkpoint").exists()


def test_a_network_that_is_not_trained_is_built_once(tmp_path):
    built = []

    def sequential():
        built.append(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
        return built[-1]

    made = train(start(Config(out=tmp_path, epochs=0, warmup_epochs=1.0)), sequential, Feed(DATA))
    assert made is not None and built == [made.model] and not made.model.jit_compile


def test_without_epochs_an_interrupted_run_is_neither_resumed_nor_deleted(tmp_path):
    with pytest.raises(FileNotFoundError, match="No checkpoint to resume from"):
        trained(Config(out=tmp_path, epochs=0, resume=True))
    trained(Config(out=tmp_path))
    with pytest.raises(ValueError, match="epochs: 4 in the checkpoint, 0 now\n"):
        trained(Config(out=tmp_path, epochs=0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"monitor": "val_f2"}, "`monitor` must be one of val_loss, val_accuracy. Received"),
        ({"accumulate": 33}, "`accumulate` must be at most 32, the steps of the run"),
    ],
)
def test_what_the_run_cannot_do_is_refused_before_the_first_step(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trained(Config(out=tmp_path, **changes))
    assert not (tmp_path / "checkpoint").exists()


def test_a_metric_to_watch_must_be_one_that_the_validation_logs(tmp_path):
    """A model with its own test step logs what that returns, not all of its metrics."""

    class Own(keras.Model):
        def test_step(self, batch):
            return {"accuracy": super().test_step(batch)["accuracy"]}

    def own() -> keras.Model:
        plain = build()
        return Own(plain.inputs, plain.outputs)

    config = Config(out=tmp_path, monitor="val_accuracy")
    _, made = trained(config)
    assert "val_accuracy" in made.choice
    run = start(replace(config, out=tmp_path / "own", monitor="val_loss"))
    with pytest.raises(ValueError, match=r"`monitor` must be one of val_accuracy\. Received"):
        train(
            run,
            own,
            Feed(DATA),
            loss=keras.losses.SparseCategoricalCrossentropy(True),
            metrics=lambda: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
    nothing = Splits(train=DATA.train)
    with pytest.raises(ValueError, match="`monitor` must be one of none, without a validation"):
        trained(replace(config, out=tmp_path / "nothing"), nothing)


def test_a_check_of_the_data_builds_no_network_and_leaves_a_checkpoint_alone(tmp_path):
    trained(Config(out=tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    run = start(Config(out=tmp_path, check=True))
    with pytest.raises(Checked):
        train(run, lambda: pytest.fail("built"), Feed(DATA))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_file_is_no_folder_for_a_run(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="`out` must be a folder"):
        start(Config(out=tmp_path / "file"))


def test_early_stopping_needs_validation(tmp_path):
    with pytest.raises(ValueError, match="`patience` needs a validation set"):
        trained(Config(out=tmp_path, patience=1), Splits(train=DATA.train))


def test_the_learning_rate_of_the_steps_is_noted(tmp_path):
    _, made = trained(Config(out=tmp_path, epochs=2, accumulate=2))
    # 64 points in batches of 8 are 8 updates of 2 batches each.
    steps = np.arange(0, 16, 2)
    cosine = 0.05 * (1 + np.cos(np.pi * steps / 16)) / 2
    assert list(made.rates) == steps.tolist()
    assert list(made.rates.values()) == pytest.approx(cosine, abs=1e-7)


def test_the_noted_learning_rate_is_that_of_the_optimizer(tmp_path):
    settings = {"epochs": 8, "keep": "last", "schedule": "constant", "warmup_epochs": 2.0}
    _, made = trained(Config(out=tmp_path, **settings))
    assert len(made.rates) == 60 and max(made.rates) == 63
    assert made.rates[0] == 0.0 and made.rates[63] == pytest.approx(0.05)
    rising = {step: rate for step, rate in made.rates.items() if step < 16}
    assert rising == pytest.approx({step: 0.05 * step / 16 for step in rising}, abs=1e-7)


def test_a_warm_up_as_long_as_the_run_leaves_one_update(tmp_path):
    changes = {"epochs": 1, "warmup_epochs": 0.9, "accumulate": 8}
    _, made = trained(Config(out=tmp_path, **changes))
    assert made.choice.startswith("epoch 1, the best by val_loss")


def test_a_run_is_not_resumed_with_other_data(tmp_path):
    trained(Config(out=tmp_path, epochs=1))
    more = Splits(train=points(65, 0), validation=DATA.validation)
    with pytest.raises(ValueError, match="rows of train: 64 in the checkpoint, 65 now"):
        trained(Config(out=tmp_path, epochs=1), more)
    turned = Splits(train=DATA.train.map(lambda x, y: (x, 1 - y)), validation=DATA.validation)
    with pytest.raises(ValueError, match="settings or data:\n  checksum of train"):
        trained(Config(out=tmp_path, epochs=1), turned)


def test_a_stage_is_trained_once(tmp_path):
    run, _ = trained(Config(out=tmp_path, epochs=1), stage="reward")
    with pytest.raises(ValueError, match="Received twice: 'reward'"):
        train(run, build, Feed(DATA), loss="mse", stage="reward")


def test_accumulated_batches_train_like_large_ones(tmp_path):
    _, large = trained(Config(out=tmp_path / "a", batch_size=64, epochs=8))
    _, small = trained(Config(out=tmp_path / "b", batch_size=8, accumulate=8, epochs=8))
    for a, b in zip(large.model.get_weights(), small.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_rate_of_a_set_smaller_than_a_batch_counts_its_examples(tmp_path, monkeypatch):
    sizes = []

    class Throughput(run_module.Throughput):
        def __init__(self, batch_size):
            sizes.append(batch_size)
            super().__init__(batch_size)

    monkeypatch.setattr(run_module, "Throughput", Throughput)
    trained(Config(out=tmp_path, batch_size=100, epochs=1))
    trained(Config(out=tmp_path / "b", batch_size=32, epochs=1))
    assert sizes == [64, 32]


def test_stages_have_a_history_each_and_resume_where_they_were(tmp_path, answered):
    def stages(folder: Path, stop_before: str = ""):
        run = start(Config(out=folder, epochs=2))
        for stage in ("reward", "policy"):
            if stage == stop_before:
                raise Interrupted("stopped")
            made = train(
                run,
                build,
                Feed(DATA),
                loss=keras.losses.SparseCategoricalCrossentropy(True),
                stage=stage,
            )
        return run, made

    _, whole = stages(tmp_path / "whole")
    with pytest.raises(Interrupted):
        stages(tmp_path, "policy")
    assert (tmp_path / "checkpoint" / "reward").exists()
    run, made = stages(tmp_path)
    for resumed, unbroken in zip(made.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(resumed, unbroken)
    assert list(run.stages) == ["reward", "policy"]
    finished(run, made)
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        *(("reward", "1"), ("reward", "2"), ("policy", "1"), ("policy", "2"))
    ]
    page = (tmp_path / "report.html").read_text()
    assert "Learning curves: reward" in page and "Learning curves: policy" in page
    assert not (tmp_path / "checkpoint").exists()


CONFIG = Config(optimizer="adam")


class Generator(keras.Model):
    """Two networks with an optimizer each, of which one is exported."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        self.critic = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        self.optimizers = {
            "generator": configured_optimizer(CONFIG, 8),
            "critic": keras.optimizers.SGD(),
        }
        self.losses_seen = [keras.metrics.Mean(name=f"{name}_loss") for name in self.optimizers]

    def call(self, noise):
        return self.critic(self.generator(noise))

    def train_step(self, batch):
        points, _ = batch
        for name, seen in zip(self.optimizers, self.losses_seen, strict=True):
            with tf.GradientTape() as tape:
                noise = keras.random.normal((tf.shape(points)[0], 2))
                made = self.critic(self.generator(noise))
                real = self.critic(points)
                loss = tf.reduce_mean((made - (name == "generator")) ** 2) + tf.reduce_mean(
                    (real - 1.0) ** 2
                )
            weights = getattr(self, name).trainable_variables
            self.optimizers[name].apply(tape.gradient(loss, weights), weights)
            seen.update_state(loss)
        return {seen.name: seen.result() for seen in self.losses_seen}

    def finished(self) -> keras.Model:
        return self.generator


def test_networks_with_a_train_step_and_optimizers_of_their_own_train(tmp_path):
    config = Config(out=tmp_path, epochs=2)
    run = start(config)
    made = train(run, Generator, Feed(Splits(train=DATA.train)))
    assert made.model.output_shape == (None, 3)
    assert [len(made.history[name]) for name in ("generator_loss", "critic_loss")] == [2, 2]
    assert made.choice == "epoch 2, the last"
    assert made.rates == {}


def test_a_finished_run_says_what_it_left(tmp_path, answered, capsys):
    run, made = trained(Config(out=tmp_path))
    written = []
    scores = finished(run, made, preset=lambda folder: written.append(folder.mkdir()))
    assert scores == {"accuracy": 0.5}
    said = capsys.readouterr().out
    assert "Evaluated and exported: epoch" in said
    assert "Test accuracy 0.5 on 16 points" in said
    for name in ("preset", "1", "report.html"):
        assert (tmp_path / name).exists() and str(tmp_path / name) in said
    card = json.loads((tmp_path / "1" / "assets.extra" / "model_card.json").read_text())
    assert (card["task"], card["classes"], card["num_test"]) == ("points", ["low", "high"], 16)
    assert card["Samples"] == [{"point": "c", "class": "d"}] and "Mistakes" not in card
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored == run.config.saved | {"sources": ["points"]}
    assert Config.load(tmp_path) == run.config
    text = (tmp_path / "model_card.md").read_text()
    assert text == (tmp_path / "1" / "assets.extra" / "model_card.md").read_text()
    assert "# Points: dense on points\n" in text and "- **classes**: low, high\n" in text
    page = (tmp_path / "report.html").read_text()
    assert "2: low, high" in page
    assert f"<pre>hornbook points --out {tmp_path}</pre>" in page
    assert f"<pre>hornbook predict {tmp_path} {tmp_path / 'example.csv'}</pre>" in page
    differing = page.partition("Settings that differ from their defaults")[2]
    assert "<td>out</td>" in differing.partition("<details")[0]
    (command,) = answered
    assert command[-2:] == [str(tmp_path / "1"), str(tmp_path / "example.csv")]


def test_the_interval_of_the_score_is_said_after_it(tmp_path, answered, capsys):
    run, made = trained(Config(out=tmp_path, epochs=1))
    scores = {"accuracy": 0.98889, "accuracy_low": 0.97407, "accuracy_high": 1.0, "loss": 0.04}
    assert finished(run, made, scores=scores) == scores
    said = capsys.readouterr().out
    assert "Test accuracy 0.9889 (95 % interval 0.974 to 1), loss 0.04 on 16 points\n" in said


def test_baselines_are_scores_of_the_run_and_warnings_stand_before_them(tmp_path, answered, capsys):
    run, made = trained(Config(out=tmp_path, epochs=1))
    baselines = {"majority": ("always low", 0.25), "linear": ("a line", 0.98765)}
    scores = finished(run, made, baselines=lambda: baselines, warnings=["No point is found."])
    assert scores == {"accuracy": 0.5, "majority_accuracy": 0.25, "linear_accuracy": 0.98765}
    assert json.loads((tmp_path / "scores.json").read_text()) == scores
    card = json.loads((tmp_path / "1" / "assets.extra" / "model_card.json").read_text())
    assert card["scores"] == scores
    *_, first, second, third, score, compared, _, _, _, _ = capsys.readouterr().out.splitlines()
    assert first == "Warning: No point is found."
    assert second.startswith("Warning: A simpler predictor beats this network")
    assert third == "Warning: The test set has fewer than 100 points: 16."
    assert score == "Test accuracy 0.5 on 16 points"
    assert compared == "Baselines: accuracy of majority 0.25, linear 0.9877"
    page = (tmp_path / "report.html").read_text()
    assert all(line.removeprefix("Warning: ") in page for line in (first, second, third))


def logged(folder: Path) -> list[tuple[int, str]]:
    """The step and name of each value that is logged for TensorBoard."""
    records = tf.data.TFRecordDataset([str(path) for path in sorted(folder.glob("events.*"))])
    found = [tf.compat.v1.Event.FromString(one) for one in records.as_numpy_iterator()]
    return [(event.step, value.tag) for event in found for value in event.summary.value]


@pytest.mark.slow
def test_logs_for_tensorboard_have_each_epoch_once_also_after_an_interruption(
    tmp_path, answered, capsys, monkeypatch
):
    class Stopped(run_module.Throughput):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(run_module, "Throughput", Stopped)
        trained(Config(out=tmp_path, tensorboard=True))
    folder = tmp_path / "tensorboard"
    for part in ("train", "validation"):
        losses = [step for step, name in logged(folder / part) if name == "loss"]
        assert losses == [1, 2, 3]
    run, made = trained(Config(out=tmp_path, tensorboard=True))
    _, whole = trained(Config(out=tmp_path / "whole"))
    for resumed, unbroken in zip(made.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(resumed, unbroken)
    for part in ("train", "validation"):
        losses = [step for step, name in logged(folder / part) if name == "loss"]
        assert losses == [1, 2, 3, 4]
    sections = [Picture("A line", learning_curves({"loss": [1.0]})), Picture("Nothing", None)]
    finished(run, made, report=sections)
    assert logged(folder / "report") == [(0, "A line")]
    assert f"Logs   {folder}" in capsys.readouterr().out
    assert not (tmp_path / "whole" / "tensorboard").exists()


def test_a_run_may_be_resumed_with_logs_or_without(tmp_path):
    trained(Config(out=tmp_path, tensorboard=True))
    trained(Config(out=tmp_path))


def test_a_query_without_an_answer_ends_in_one_clear_error(tmp_path, monkeypatch, capsys):
    failed = SimpleNamespace(returncode=1)
    monkeypatch.setattr(run_module.subprocess, "run", lambda command, **options: failed)
    run, made = trained(Config(out=tmp_path, epochs=1))
    with pytest.raises(ValueError, match="1 did not answer a test point"):
        finished(run, made)
    assert "Test accuracy 0.5 on 16 points" in capsys.readouterr().out
    assert (tmp_path / "report.html").exists() and (tmp_path / "1").exists()


def test_the_example_is_written_as_the_file_that_it_is(tmp_path, answered):
    example = Example("an image", {"image_bytes": b"\x89PNG"}, ".png")
    assert run_module.query_export(tmp_path / "1", example)
    assert (tmp_path / "example.png").read_bytes() == b"\x89PNG"
    example = Example("a dialogue", {"turns": ["Hi", "é"], "system": ""})
    assert run_module.query_export(tmp_path / "1", example)
    (row,) = (tmp_path / "example.jsonl").read_text("utf-8").splitlines()
    assert json.loads(row) == example.inputs


@dataclass(frozen=True, kw_only=True)
class Points(Splits):
    LABELS = "classes"
    classes: tuple[str, ...] = ("low", "high")


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "source"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "query_export", lambda *arguments: True)
        run, made = trained(Config(out=folder))
        finished(run, made, scores={"accuracy": 0.5, "validation_accuracy": 0.75})
    return folder


@pytest.fixture
def source(tmp_path, finished_once) -> Path:
    """The folder of a finished run with the classes low and high."""
    return shutil.copytree(finished_once, tmp_path / "source")


def test_classes_get_the_numbers_that_a_continued_network_knows(source, tmp_path, capsys):
    run = start(Config.continuing(source, out=tmp_path / "new"))
    classes = ("high", "middle")
    data = counted(run, Points(**vars(DATA) | {"classes": classes}), "points")
    assert data.classes == ("low", "high", "middle")
    assert [int(label) for _, label in data.test] == [int(label) + 1 for _, label in DATA.test]
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"The network of {source} knows 2 classes. New classes: middle. "
        "Known classes without examples: low."
    )


def evaluated(source: Path, data: Splits = DATA, data_name: str = "others", **options):
    """Evaluates the network of a run; returns the network and the scores."""
    config = Config.evaluating(source, data=data_name)
    run = start(config)
    counted(run, data, "points")
    made = train(run, lambda: network(source), Feed(data))
    return config, made, finished(run, made, **options)


def test_an_evaluation_neither_trains_nor_exports(source, capsys):
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    options = {
        "scores": {"accuracy": 0.25},
        "baselines": lambda: {"majority": ("always low", 0.125)},
        "facts": {"rows": "16", "training rows": "64"},
        "report": [Table("Training points", ("x",), [(1,)]), Table("Points", ("x",), [(1,)])],
    }
    config, made, scores = evaluated(source, **options)
    whole = keras.saving.load_model(source / "model.keras")
    for one, other in zip(made.model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # What is chosen or learned on other data says nothing about the network.
    assert scores == {"accuracy": 0.25}
    assert json.loads((config.out / "scores.json").read_text()) == scores
    names = {path.name for path in config.out.iterdir()}
    assert names == {"config.json", "report.html", "scores.json"}
    assert before == {path: path.read_bytes() for path in before}
    assert not (source / "2").exists()
    *_, last = capsys.readouterr().out.splitlines()
    assert last == f"Report {source / 'evaluations' / 'evaluation_1' / 'report.html'}"
    page = (config.out / "report.html").read_text()
    assert f"those of {source}" in page and "Learning curves" not in page
    assert "Points" in page and "Training points" not in page and "training rows" not in page
    *_, scores = evaluated(source, data_name="points", **options)
    assert scores == options["scores"] | {"majority_accuracy": 0.125}


def test_predictors_that_are_counted_on_other_data_are_not_compared(source):
    scores = {"accuracy": 0.5, "ngram_accuracy": 0.75, "ngram_weight": 0.1}
    predictors = {"the network": "", "n-grams": "ngram_"}
    own, other = (start(Config.evaluating(source, data=data)) for data in ("points", "others"))
    assert own.compared(scores, predictors) == scores
    assert other.compared(scores, predictors) == {"accuracy": 0.5}
    assert other.is_foreign and not own.is_foreign
    assert language_models.comparison({"accuracy": 0.5}, predictors, ["accuracy"])[1] == [
        ("the network", "0.5")
    ]
    assert language_models.beaten({"accuracy": 0.5}, predictors, "accuracy") == []


def test_data_with_other_inputs_is_not_evaluated(source):
    meanings = {"circle": "three numbers", "logits": "of two classes"}
    signature = tensors({"circle": tf.TensorSpec((None, 3), tf.float32)}, meanings)
    with pytest.raises(ValueError, match=r"reads: point\. Received: others with circle\. Fix"):
        evaluated(source, signatures={"serving_default": signature})


@pytest.mark.parametrize(
    ("data_name", "data", "said"),
    [
        ("points", DATA, ["The network was trained on this data: its test split is evaluated."]),
        ("others", Splits(test=DATA.test, remarks=("Evaluated: all.",)), ["Evaluated: all."]),
    ],
)
def test_an_evaluation_says_what_it_evaluates(data_name, data, said, source, capsys):
    run = start(Config.evaluating(source, data=data_name))
    found = counted(run, data, "points")
    assert found.test is DATA.test
    assert (found.train is DATA.train) == (data_name == "points")
    assert (found.train is DATA.test) == (data_name == "others")
    assert capsys.readouterr().out.splitlines() == ["16 test points", *said]
    assert counted(run, DATA, "rows").train is DATA.train


def test_classes_that_are_new_in_the_data_of_the_training_are_refused(source):
    run = start(Config.evaluating(source))
    data = Points(**vars(DATA) | {"classes": ("high", "middle")})
    with pytest.raises(ValueError, match=r"knows: low, high\. .* by now also has middle\. Fix"):
        counted(run, data, "points")


def test_the_files_of_an_earlier_run_stay_beside_its_version(tmp_path, answered):
    for number, score in (("1", 0.25), ("2", 0.5)):
        run, made = trained(Config(out=tmp_path, epochs=int(number)))
        finished(run, made, scores={"accuracy": score})
    for number, score in (("1", 0.25), ("2", 0.5)):
        kept = tmp_path / "reports" / f"version_{number}"
        assert json.loads((kept / "scores.json").read_text()) == {"accuracy": score}
        assert json.loads((kept / "config.json").read_text())["epochs"] == int(number)
        assert len((kept / "history.csv").read_text().splitlines()) == 1 + int(number)
    assert (kept / "report.html").read_text() == (tmp_path / "report.html").read_text()


def test_examples_are_counted_aloud(capsys):
    run = start(Config())
    assert counted(run, DATA, "points") is DATA
    assert run.facts["points"] == "64 training, 16 validation, 16 test points"
    assert capsys.readouterr().out == "64 training, 16 validation, 16 test points\n"
    counted(run, replace(DATA, remarks=("Not read: a.", "Read: b.")), "points")
    assert run.facts["remarks"] == "Not read: a. Read: b."
    assert capsys.readouterr().out.splitlines()[1:] == ["Not read: a.", "Read: b."]


def test_few_examples_bring_the_advice_of_the_app(monkeypatch):
    monkeypatch.setattr(Config, "advice", "Try a preset.")
    run = start(Config())
    counted(run, DATA, "points")
    assert run.facts["remarks"] == "There are few points to train on. Try a preset."
    counted(run, replace(DATA, train=DATA.train.repeat(16)), "more points")
    assert len(DATA.train.repeat(16)) > 1000 and "few more" not in run.facts["remarks"]


def test_the_data_of_the_training_is_known_by_its_path_and_split_as_then(tmp_path, monkeypatch):
    @dataclass(frozen=True)
    class Grouped(Config):
        group: Annotated[str | None, "data"] = None

    folder = tmp_path / "run"
    (tmp_path / "photos").mkdir()
    folder.mkdir()
    before = Grouped(data=str(tmp_path / "photos"), group="1", out=folder)
    (folder / "config.json").write_text(json.dumps(before.saved))
    (folder / "model.keras").touch()
    monkeypatch.chdir(tmp_path)

    def is_own(**changes):
        return not start(Grouped.evaluating(folder, **changes)).is_foreign

    assert is_own() and is_own(data="photos/") and is_own(data="./photos")
    assert not is_own(data="others")
    with pytest.raises(ValueError, match="`group` must be '1' for the data that the network was"):
        is_own(data="photos", group=None)


def test_data_is_that_of_the_training_wherever_it_is_named_and_that_of_earlier_runs_is_remarked(
    tmp_path, monkeypatch, capsys
):
    for name in ("photos", "more", "elsewhere/photos", "elsewhere/points"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def ended(name: str, **settings) -> Path:
        config = Config(out=tmp_path / name, **settings)
        config.out.mkdir()
        stored = config.saved | {"sources": config.sources}
        (config.out / "config.json").write_text(json.dumps(stored))
        (config.out / "model.keras").touch()
        return config.out

    built_in = ended("built_in", data="points")
    first = ended("first", data="photos")
    second = ended("second", data="more", preset="first")
    monkeypatch.chdir("elsewhere")
    remark = "A run before this one was trained on this data: the network has seen"
    for folder, data, is_foreign, is_remarked in (
        (built_in, "points", False, False),
        (built_in, "./points", True, False),
        (first, "../photos", False, False),
        (first, "photos", True, False),
        (second, "../more", False, False),
        (second, "../photos", True, True),
    ):
        run = start(Config.evaluating(folder, data=data))
        counted(run, DATA, "points")
        assert run.is_foreign == is_foreign
        assert (remark in capsys.readouterr().out) == is_remarked
