"""What holds for every app: one whole run of each, checked from its folder to its answers."""

import csv
import importlib
import json
import os
import re
import signal
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tyro

from apps.__main__ import descriptions
from callbacks import Throughput
from runs import report as report_module
from runs import run as run_module
from serving import checks, graph, parity
from serving.predict import main as predict
from serving.versions import numbered
from tests.apps.every_app import ANY, BAD, Small
from training.checkpoint import Checkpoint
from training.loop import Interrupted

APPS = sorted(descriptions())
OF_MISTAKES = ("Most frequent errors", "Worst mistakes", "Most confident mistakes")
OF_BASELINES = (
    *("majority_", "linear_", "dictionary_", "copied_", "retrieved_", "ngram_"),
    *("longer_", "propagated_"),
)
"""What the names of the scores of baselines begin with."""


def small(name: str) -> Small:
    module = importlib.import_module(f"tests.apps.test_{name}")
    return module.SMALL


def app_of(name: str) -> Any:
    return importlib.import_module(small(name).module or f"apps.{name}")


@dataclass
class Finished:
    """A finished run: its folder and scores, and what it exported.

    `loaded` is the export as it was loaded before it appeared.
    """

    folder: Path
    config: Any
    scores: dict[str, float]
    model: Any
    signatures: dict[str, Any]
    warmup: dict[str, np.ndarray]
    loaded: Any

    @property
    def version(self) -> Path:
        return self.folder / "1"

    @property
    def served(self) -> Any:
        return self.loaded.signatures["serving_default"]


_finished: dict[tuple[str, bool], Finished] = {}


@pytest.fixture
def finished(request, tmp_path_factory) -> Finished:
    """The run of an app, which takes place once: pytest-xdist leaves a module in one process."""
    # The graphs of slow tests are optimized, which may round differently.
    key = request.param, request.node.get_closest_marker("slow") is not None
    if key not in _finished:
        _finished[key] = run_small(request.param, tmp_path_factory.mktemp(request.param))
    return _finished[key]


def run_small(name: str, folder: Path, **changes: Any) -> Finished:
    """Runs an app as its SMALL says, with some settings changed."""
    app, wanted = app_of(name), small(name)
    exported: dict[str, Any] = {}
    (folder / "data").mkdir()
    config = app.Config(
        **{
            **wanted.settings,
            "data": wanted.write(folder / "data"),
            "out": folder / "out",
            **changes,
        }
    )

    def export(base, model, signatures, warmup, card):
        exported.update(model=model, signatures=signatures, warmup=warmup)
        return real_export(base, model, signatures, warmup, card)

    def load(folder):
        exported["loaded"] = real_load(folder)
        return exported["loaded"]

    def query(command, **options):
        # In this process: a new one takes seconds to import TensorFlow.
        done = type("Done", (), {"returncode": predict(command[-2], (Path(command[-1]),))})
        return done

    real_export, real_load = run_module.export, graph.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "export", export)
        patch.setattr(graph, "load", load)
        patch.setattr(run_module, "subprocess", SimpleNamespace(run=query))
        scores = app.main(config)
    return Finished(folder / "out", config, scores, **exported)


def each_app():
    """Parametrizes a test by app."""
    return pytest.mark.parametrize("finished", APPS, indirect=True)


@each_app()
def test_the_folder_of_the_run_is_complete(finished, request):
    wanted = small(request.node.callspec.params["finished"])
    names = {path.name for path in finished.folder.glob("[!.]*")}
    example = {name for name in names if name.startswith("example.")}
    assert len(example) == 1
    further = set(wanted.files) & set(report_module.FILES)
    usual = {"config.json", "history.csv", "report.html", "scores.json"} | further
    others = {"1", "model.keras", "model_card.md", "model_card.json", "reports"}
    assert names - example == usual | others | set(wanted.files)
    # A server that is given the folder of the run must find no model below it.
    assert not [path for path in finished.folder.iterdir() if path.is_dir() and numbered(path)]
    kept = finished.folder / "reports" / "version_1"
    assert {path.name for path in kept.iterdir()} == usual
    assert all((kept / n).read_bytes() == (finished.folder / n).read_bytes() for n in usual)
    assert json.loads((finished.folder / "scores.json").read_text()) == finished.scores
    saved = json.loads((finished.folder / "config.json").read_text())
    assert saved.keys() == {"sources", *(field.name for field in fields(finished.config))}
    rows = list(csv.DictReader((finished.folder / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == [str(i + 1) for i in range(finished.config.epochs)]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())


@each_app()
def test_the_score_beats_chance(finished, request):
    name, bound = small(request.node.callspec.params["finished"]).beats
    if name.startswith("-"):
        assert finished.scores[name[1:]] < bound
    else:
        assert finished.scores[name] > bound


@each_app()
def test_the_report_has_its_sections(finished, request):
    wanted = small(request.node.callspec.params["finished"])
    page = (finished.folder / "report.html").read_text()
    titles = re.findall(r"<h2>([^<]*)</h2>", page)
    # Most test sets are so small that the report warns of it.
    titles = titles[titles[0] == "Warnings" :]
    compared = ["Baselines"] if any(n.startswith(OF_BASELINES) for n in finished.scores) else []
    assert titles[0].startswith("Scores on ")
    expected = [*compared, "Learning curves", *wanted.sections]
    # A network without mistakes has none to show.
    shown = [title for title in expected if title in titles or title not in OF_MISTAKES]
    assert titles[1:-3] == shown
    assert titles[-3:] == ["Use this model", "The run", "Settings"]
    assert page.count("<img") == page.count('src="data:image/') > 0


@each_app()
def test_the_export_passes_every_check(finished, monkeypatch):
    def network_alone(subject):
        cores = real(subject).items()
        return {names: core for names, core in cores if any(n.startswith("from_") for n in names)}

    # Loops that write texts take seconds to compile.
    real = checks._compiled
    monkeypatch.setattr(checks, "_compiled", network_alone)
    assert_checked(finished, monkeypatch)


@pytest.mark.slow
@each_app()
def test_every_core_compiles(finished, monkeypatch):
    assert_checked(finished, monkeypatch)


def assert_checked(finished, monkeypatch):
    # One size: each one compiles anew.
    monkeypatch.setattr(checks, "XLA_BATCH_SIZES", (8,))
    results = list(checks.run(finished.version))
    assert {result.check: result.detail for result in results if not result.passed} == {}
    assert [result.check for result in results] == list(checks.CHECKS)
    assert not graph.is_compiled(graph.read(finished.version))


@each_app()
def test_the_export_answers_as_the_saved_model_does(finished):
    model = keras.saving.load_model(finished.folder / "model.keras", compile=False)
    signature = finished.signatures["serving_default"]
    tensors = {name: tf.constant(values) for name, values in finished.warmup.items()}
    answer = signature.answer(signature.compute(model), tensors)
    live = {name: value.numpy() for name, value in answer.items()}
    served = {name: value.numpy() for name, value in finished.served(**tensors).items()}
    parity.difference([(live, served)], 1e-4, signature.ties)


@each_app()
def test_odd_inputs_are_answered_without_touching_their_neighbors(finished, request):
    odd = small(request.node.callspec.params["finished"]).odd
    first = {name: values[0] for name, values in finished.warmup.items()}
    rows = [first, *odd, first]
    alone = _answer(finished, [first])
    together = _answer(finished, rows)
    for name, value in alone.items():
        for index in (0, -1):
            row = together[name][[index]]
            inner = row[tuple(slice(size) for size in value.shape)]
            if value.dtype.kind == "f":
                np.testing.assert_allclose(inner, value, atol=1e-4)
            else:
                np.testing.assert_array_equal(inner, value)
        assert len(together[name]) == len(rows)
        if together[name].dtype.kind == "f":
            assert np.isfinite(together[name]).all(), name


def _answer(finished: Finished, rows) -> dict[str, np.ndarray]:
    columns = {name: tf.constant([row[name] for row in rows]) for name in rows[0]}
    return {name: value.numpy() for name, value in finished.served(**columns).items()}


@pytest.mark.slow
@each_app()
def test_an_evaluation_on_the_same_data_repeats_the_scores(
    finished, request, tmp_path, monkeypatch
):
    # To draw the pictures again would take longer than all else.
    monkeypatch.setattr(report_module, "_figure", lambda caption, figure: caption)
    app = app_of(request.node.callspec.params["finished"])
    config = app.Config.evaluating(finished.folder, out=tmp_path / "evaluation")
    assert app.main(config) == finished.scores
    names = {path.name for path in config.out.iterdir()}
    further = set(small(request.node.callspec.params["finished"]).files) & set(report_module.FILES)
    assert names == {"config.json", "report.html", "scores.json"} | further
    assert json.loads((config.out / "scores.json").read_text()) == finished.scores


@pytest.mark.slow
@each_app()
def test_one_or_two_examples_are_enough_to_evaluate(
    finished, request, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(report_module, "_figure", lambda caption, figure: caption)
    name = request.node.callspec.params["finished"]
    app, few = app_of(name), small(name).few
    if callable(few):
        (tmp_path / "new").mkdir()
        data = few(tmp_path / "new")
    else:
        path, content = few
        file = tmp_path / "new" / path
        file.parent.mkdir(parents=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        data = str(file if file.parent.name == "new" else file.parent.parent)
    config = app.Config.evaluating(finished.folder, data=data, out=tmp_path / "evaluation")
    scores = app.main(config)
    # Predictors that would be made from these examples are left out, and so is validation.
    _, *simpler = getattr(app, "PREDICTORS", {"": ""}).values()
    left_out = (*simpler, *OF_BASELINES, "validation_")
    known = [one for one in finished.scores if not one.startswith(left_out)]
    assert known[0] in scores and scores.keys() <= {*known}
    assert all(map(np.isfinite, scores.values()))
    said = capsys.readouterr().out
    assert "Evaluated: all examples" in said and "simpler predictor" not in said
    assert "Training" not in said and "training" not in said
    page = (config.out / "report.html").read_text()
    assert "<h2>Training" not in page and "training rows" not in page


WRITERS = ["dialogue", "text_generation", "translation"]


@pytest.mark.parametrize("finished", WRITERS, indirect=True)
def test_the_table_of_signatures_has_those_of_apps_that_write(finished, request):
    lines = (Path(__file__).parents[2] / "docs" / "export.md").read_text("utf-8").splitlines()
    rows = {name: line for name in WRITERS for line in lines if line.startswith(f"| {name} |")}
    row = rows[request.node.callspec.params["finished"]]
    assert all(f"`{name}`" in row for name in finished.signatures.keys() - {"serving_default"})
    generate = rows["text_generation"] + row  # The others refer to it.
    assert all(f"`{name}`" in generate for name in finished.signatures["generate"].inputs)


@pytest.mark.parametrize("finished", WRITERS, indirect=True)
def test_apps_that_write_texts_say_their_share_of_padding(finished):
    assert "of the tokens of training batches." in (finished.folder / "report.html").read_text()


@each_app()
def test_a_run_repeats_or_continues_another_with_its_settings(finished, request):
    app = app_of(request.node.callspec.params["finished"])
    assert app.Config.load(finished.folder) == finished.config
    config = app.Config.continuing(finished.folder)
    assert config.continued == finished.folder
    for name in app.Config.NETWORK:
        assert getattr(config, name) == getattr(finished.config, name)
    assert set(app.Config.NETWORK) <= {f.name for f in fields(config)}


@pytest.mark.slow
@each_app()
def test_a_run_that_is_stopped_inside_an_epoch_ends_with_the_same_bits(
    finished, request, tmp_path, monkeypatch
):
    app, calls, ended = app_of(request.node.callspec.params["finished"]), [], []
    # So that at most three steps are taken at once.
    config = replace(finished.config, out=tmp_path / "out", checkpoint_every=3)
    real = Throughput.on_train_batch_end

    def stop_at_second_call(self, batch, logs=None):
        calls.append(batch)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, batch, logs)

    def finish(run, trained, **options):
        ended.append((run, trained.model))
        return {}

    monkeypatch.setattr(app, "finish", finish)
    with monkeypatch.context() as patch:
        patch.setattr(Throughput, "on_train_batch_end", stop_at_second_call)
        with pytest.raises(Interrupted):
            app.main(config)
    assert not ended
    state = Checkpoint(config.out / "checkpoint").load(arrays=False)
    assert state and state["step"] == 6 and state["history"] == {}
    app.main(config)
    ((run, model),) = ended
    assert "after step 6 of " in run.facts["resumed"]
    for after, expected in zip(model.get_weights(), finished.model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize("name", APPS)
def test_help_names_every_setting(name):
    text = tyro.extras.get_parser(app_of(name).Config).format_help()
    for field in fields(app_of(name).Config):
        assert f"--{field.name.replace('_', '-')}" in text


@pytest.mark.parametrize("name", APPS)
def test_every_bad_setting_is_refused_by_name(name):
    app, wanted = app_of(name), small(name)
    known = {field.name for field in fields(app.Config)}
    bad = {key: value for key, value in (BAD | dict(wanted.bad)).items() if key in known}
    assert known == bad.keys() | (known & {*ANY, *wanted.free})
    for field, value in bad.items():
        with pytest.raises(ValueError, match=f"`{field}`"):
            app.Config(**{field: value})


@pytest.mark.parametrize("name", APPS)
def test_settings_that_the_network_ignores_are_refused(name):
    app, wanted = app_of(name), small(name)
    assert wanted.ignored
    for settings in wanted.ignored:
        *_, ignored = settings
        with pytest.raises(ValueError, match=f"`{ignored}`"):
            app.Config(**settings)
