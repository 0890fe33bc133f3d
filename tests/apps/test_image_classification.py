import csv
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tyro

from apps import image_classification as app
from data import images
from preprocessing.images import decode_batch
from runs import run as settings

ROOT = Path(__file__).parents[2]


STOPPING = {"epochs": 20, "patience": 2, "learning_rate": 0.01, "schedule": "constant"}
"""Settings of a run that stops early."""


def config(out: Path, **changes) -> app.Config:
    return app.Config(**{"epochs": 2, "batch_size": 62, "out": out, **changes})


def history(folder: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    return [{k: v for k, v in row.items() if k != "examples_per_second"} for row in rows]


def weights(folder: Path) -> list[np.ndarray]:
    return keras.models.load_model(folder / "model.keras", compile=False).get_weights()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    return folder, app.main(config(folder, **STOPPING))


def test_digits_are_learnt_and_the_run_folder_is_whole(trained):
    folder, scores = trained
    assert scores["accuracy"] > 0.9
    assert 3 <= len(history(folder)) < 20
    assert sorted(path.name for path in folder.glob("[!.]*")) == [
        "1",
        "config.json",
        "example.png",
        "history.csv",
        "model.keras",
        "report.html",
        "scores.json",
    ]
    assert json.loads((folder / "scores.json").read_text()) == scores
    assert json.loads((folder / "config.json").read_text())["batch_size"] == 62
    assert "Confusion matrix" in (folder / "report.html").read_text()


def test_saved_model_answers_as_the_keras_model(trained):
    folder, _ = trained
    data = images.load("digits")
    encoded = [image for image, _ in data.test.take(5).as_numpy_iterator()]
    pixels = decode_batch(tf.constant(encoded), data.input_shape)
    logits = keras.models.load_model(folder / "model.keras", compile=False).predict(pixels)
    served = tf.saved_model.load(folder / "1")
    answer = served.signatures["serving_default"](image_bytes=tf.constant(encoded))
    assert answer["scores"].shape == (5, 5)
    assert [name.decode() for name in answer["classes"][:, 0].numpy()] == [
        data.classes[index] for index in logits.argmax(axis=1)
    ]
    order = np.sort(tf.nn.softmax(logits).numpy(), axis=1)[:, ::-1]
    np.testing.assert_allclose(answer["scores"], order[:, :5], atol=1e-5)
    from_pixels = served.signatures["from_pixels"](images=pixels)
    np.testing.assert_allclose(from_pixels["logits"], logits, atol=1e-4)


def test_undecodable_image_fails_the_request_naming_its_index(trained):
    folder, _ = trained
    served = tf.saved_model.load(folder / "1")
    good = next(iter(images.load("digits").test))[0].numpy()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Undecodable indices.*1"):
        served.signatures["serving_default"](image_bytes=tf.constant([good, b"no image", good]))


KILLED = """
import json, os, signal, sys
from pathlib import Path
from apps import image_classification as app
from serving import export
from training import loop

def killed_at_call(module, name, number):
    real, calls = getattr(module, name), []
    def counted(*arguments, **options):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(module, name, counted)

killed_at_call(eval(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
app.main(app.Config(**json.loads(sys.argv[5]), batch_size=62, out=Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        pytest.param("loop._Run", "take_steps", 4, id="inside an epoch"),
        pytest.param("app", "export_model", 1, id="after training, before the export"),
    ],
)
def test_killed_run_ends_as_if_it_had_never_been(
    trained, run_here, tmp_path, capsys, module, name, call
):
    whole, _ = trained
    folder = tmp_path / "run"
    arguments = [str(folder), module, name, str(call), json.dumps(STOPPING)]
    command = [sys.executable, "-c", KILLED, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not list(folder.glob("[0-9]*"))
    run_here(app, config(folder, **STOPPING))
    assert "Continuing the run" in capsys.readouterr().out
    assert history(folder) == history(whole)
    for a, b in zip(weights(folder), weights(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not (folder / "checkpoint").exists()


WORKER = """
import sys
from pathlib import Path
import numpy as np
from apps import image_classification as app
from runs import run as settings

real = settings.fit
def fit(model, *arguments, **options):
    history = real(model, *arguments, **options)
    np.save(sys.argv[1] + ".npy", np.concatenate([w.ravel() for w in model.get_weights()]))
    return history
settings.fit = fit
app.answer_one = lambda *arguments: None
app.main(app.Config(epochs=1, batch_size=62, strategy=sys.argv[2], out=Path(sys.argv[1])))
"""


def start_worker(out: Path, strategy: str, tf_config: dict | None = None) -> subprocess.Popen:
    environment = {**os.environ, **({"TF_CONFIG": json.dumps(tf_config)} if tf_config else {})}
    command = [sys.executable, "-c", WORKER, str(out), strategy]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)


def test_two_workers_match_one_process_and_only_the_chief_writes(tmp_path):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    cluster = {"worker": [f"127.0.0.1:{opened.getsockname()[1]}" for opened in sockets]}
    for opened in sockets:
        opened.close()
    tasks = [{"type": "worker", "index": index} for index in (0, 1)]
    workers = [
        start_worker(
            tmp_path / f"worker{task['index']}", "multi_worker", {"cluster": cluster, "task": task}
        )
        for task in tasks
    ]
    try:
        assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
        assert start_worker(tmp_path / "single", "none").wait(timeout=300) == 0
    finally:
        for worker in workers:
            worker.kill()
    chief, other, single = (
        np.load(tmp_path / f"{n}.npy") for n in ("worker0", "worker1", "single")
    )
    np.testing.assert_array_equal(chief, other)
    assert np.abs(chief - single).max() < 1e-5  # after 20 steps
    assert (tmp_path / "worker0" / "1" / "saved_model.pb").exists()
    assert not (tmp_path / "worker1").exists()


def test_other_settings_are_refused_with_the_differences(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "export_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        app.main(config(tmp_path, epochs=1))
    with pytest.raises(ValueError, match="batch_size: 62 in the checkpoint, 32 now"):
        app.main(config(tmp_path, epochs=1, batch_size=32))


def test_bfloat16_and_options_reach_the_model(tmp_path, monkeypatch):
    made = config(
        tmp_path,
        epochs=1,
        model="cifar_resnet20",
        precision="bfloat16",
        norm="group",
        optimizer="nesterov",
        weight_decay=1e-4,
        warmup_epochs=0.5,
        augment="light",
        image_size=(16, 16),
        label_smoothing=0.1,
    )
    models = []

    def fit(model, batches, **options):
        models.append(model)
        raise KeyboardInterrupt

    monkeypatch.setattr(settings, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        app.main(made)
    (model,) = models
    assert model.input_shape == (None, 16, 16, 1)
    assert any("GroupNormalization" in type(layer).__name__ for layer in model.layers)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert isinstance(model.optimizer, keras.optimizers.SGD) and model.optimizer.nesterov
    assert model.optimizer.weight_decay == 1e-4
    assert float(model.optimizer.learning_rate) == 0.0  # at the first step of the warm-up
    assert model.loss.label_smoothing == 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "lenet"}, "`model` must be one of mlp, lenet5"),
        ({"epochs": 0}, "`epochs` must be at least 1"),
        ({"learning_rate": -0.1}, "`learning_rate` must be at least 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be at least 0"),
        ({"preset": "imagenet"}, "`preset` imagenet exists for vgg16"),
        ({"freeze": True}, "`freeze` needs a preset"),
        ({"clip_norm": 0.0}, "`clip_norm` must be above 0"),
        (
            {"model": "resnet50", "preset": "imagenet", "norm": "group"},
            "`preset` fixes normalisation, pooling and colour. Received: norm=group, pool=None",
        ),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(app.Config(), **changes)


def test_command_line_sets_the_fields():
    made = tyro.cli(app.Config, args=["--epochs", "3", "--image-size", "8", "9", "--freeze"][:-1])
    assert (made.epochs, made.image_size) == (3, (8, 9))
    assert made.saved["image_size"] == [8, 9] == json.loads(json.dumps(made.saved))["image_size"]


def test_network_without_a_choice_says_so():
    data = images.load("digits")
    with pytest.raises(ValueError, match="mlp has no such choice"):
        app.build(app.Config(model="mlp", pool="lp"), data)
