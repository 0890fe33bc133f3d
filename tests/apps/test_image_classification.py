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
from PIL import Image

from apps import image_classification as app
from models.image_classifiers import MODELS
from runs import run as run_module
from runs.run import Example
from tests.apps.every_app import Small

ROOT = Path(__file__).parents[2]
STOPPING = {
    "epochs": 20,
    "patience": 2,
    "learning_rate": 0.01,
    "schedule": "constant",
    "checkpoint_every": 10,
}
"""Settings of a run that stops early."""


def halves(folder: Path) -> str:
    """Writes 200 images of which the upper or the left half, its class, is brighter."""
    for number in range(200):
        levels = np.random.default_rng(number).integers(0, 100, (12, 12)).astype(np.uint8)
        levels[:6] += 120
        kind = "upper" if number % 2 else "left"
        path = folder / kind / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(levels if number % 2 else levels.T).save(path)
    return str(folder)


def encoded(size: tuple[int, int], mode: str) -> bytes:
    return tf.io.encode_png(np.zeros((*size, len(mode)), np.uint8)).numpy()


SMALL = Small(
    write=halves,
    settings={
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "augment": "none",
        "image_size": (12, 12),
    },
    beats=("accuracy", 0.75),
    sections=[
        *("Scores by class", "Confusion matrix", "Most frequent errors", "Calibration"),
        "ROC and precision-recall curve",
        "Thresholds, with &#x27;upper&#x27; as the positive class",
        *("Worst mistakes", "Correct predictions", "Training images, as the network sees them"),
    ],
    few=("left/new.png", tf.io.encode_png(np.full((9, 12, 1), 90, np.uint8)).numpy()),
    odd=[
        {"image_bytes": encoded((1, 1), "L")},
        {"image_bytes": encoded((300, 2), "RGB")},
        {"image_bytes": encoded((5, 7), "RGBA")},
    ],
    bad={
        "norm": "no_such_norm",
        "pool": "no_such_pool",
        "image_size": (0, 5),
        "channels": 2,
        "augment": "no_such_augmentation",
        "preset": "no_such_preset",
        "freeze": True,
    },
    ignored=[
        {"model": "mlp", "pool": "lp"},
        {"model": "lenet5", "norm": "batch"},
        {"model": "lenet5", "preset": "imagenet"},
        {"model": "resnet50", "preset": "imagenet", "norm": "group"},
        {"model": "resnet50", "preset": "imagenet", "channels": 1},
    ],
)


def config(out: Path, **changes) -> app.Config:
    return app.Config(**{"epochs": 2, "batch_size": 62, "out": out, **changes})


@pytest.mark.parametrize(
    "name",
    [
        "cifar_resnet20",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("vit_tiny", "googlenet")),
    ],
)
def test_a_network_learns_from_one_batch_and_answers(name, tmp_path):
    sizes = {"googlenet": (72, 72), "vit_tiny": (32, 32)}
    chosen = config(tmp_path, model=name, image_size=sizes.get(name))
    data = app.load(chosen)
    model = app.build(chosen, data)
    images, labels = next(iter(app.feed(chosen, data).training(batch_size=8, seed=0, epochs=1)))
    model.compile(
        keras.optimizers.Adam(1e-3), keras.losses.CategoricalCrossentropy(True), run_eagerly=True
    )
    losses = [float(model.train_on_batch(images, labels)) for _ in range(4)]
    assert min(losses[1:]) < losses[0]
    signature = app.signatures(data)["serving_default"]
    image = tf.constant([data.first("test", 1)[0][0]])
    answer = signature.answer(signature.compute(model), {"image_bytes": image})
    assert answer["classes"].shape == (1, 5)


def test_precision_and_options_reach_the_model(tmp_path, monkeypatch):
    made = config(
        tmp_path,
        epochs=1,
        model="cifar_resnet20",
        precision="bfloat16",
        norm="group",
        optimizer="nesterov",
        weight_decay=1e-4,
        warmup_epochs=0.5,
        image_size=(16, 16),
        label_smoothing=0.1,
    )
    models = []

    def fit(model, batches, **options):
        models.append(model)
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "fit", fit)
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


@pytest.mark.slow
def test_other_settings_are_refused_with_the_differences(tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        app.main(config(tmp_path, epochs=1))
    with pytest.raises(ValueError, match="batch_size: 62 in the checkpoint, 32 now"):
        app.main(config(tmp_path, epochs=1, batch_size=32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "lenet"}, "`model` must be one of mlp, lenet5"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be at least 0"),
        ({"preset": "imagenet"}, "`preset` is for the models vgg16"),
        ({"freeze": True, "model": "vgg16"}, "`freeze` needs a preset"),
        ({"warmup_epochs": 80}, "`warmup_epochs` must be below the number of epochs, 80"),
        ({"seed": 2**31}, r"`seed` must be below 2\*\*31"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(app.Config(), **changes)


def test_command_line_sets_the_fields():
    made = tyro.cli(app.Config, args=["--epochs", "3", "--image-size", "8", "9"])
    assert (made.epochs, made.image_size) == (3, (8, 9))
    assert made.saved["image_size"] == [8, 9] == json.loads(json.dumps(made.saved))["image_size"]


def test_every_network_is_one_that_the_help_can_list():
    assert all(app.Config(model=name).model == name for name in MODELS)


KILLED = """
import json, os, signal, sys
from pathlib import Path
from apps import image_classification as app
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


def history(folder: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    return [{k: v for k, v in row.items() if k != "examples_per_second"} for row in rows]


def weights(folder: Path) -> list[np.ndarray]:
    return keras.models.load_model(folder / "model.keras", compile=False).get_weights()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert app.main(config(folder, **STOPPING))["accuracy"] > 0.9
    return folder


@pytest.mark.slow
def test_a_run_stops_early_and_its_export_is_queried_in_a_process_of_its_own(trained, capfd):
    assert 3 <= len(history(trained)) < 20
    example = Example("a test image", {"image_bytes": (trained / "example.png").read_bytes()})
    assert run_module.query_export(trained / "1", example)
    assert "classes" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        pytest.param("loop._Run", "take_steps", 4, id="inside an epoch"),
        pytest.param("app", "finish", 1, id="after training, before the export"),
    ],
)
def test_killed_run_ends_as_if_it_had_never_been(trained, tmp_path, capsys, module, name, call):
    folder = tmp_path / "run"
    arguments = [str(folder), module, name, str(call), json.dumps(STOPPING)]
    command = [sys.executable, "-c", KILLED, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not list(folder.glob("[0-9]*"))
    app.main(config(folder, **STOPPING))
    assert "Resuming the run" in capsys.readouterr().out
    assert history(folder) == history(trained)
    for a, b in zip(weights(folder), weights(trained), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not (folder / "checkpoint").exists()


WORKER = """
import sys
from pathlib import Path
import numpy as np
from apps import image_classification as app
from runs import run

real = run.fit
def fit(model, *arguments, **options):
    history = real(model, *arguments, **options)
    np.save(sys.argv[1] + ".npy", np.concatenate([w.ravel() for w in model.get_weights()]))
    return history
run.fit = fit
run.query_export = lambda *arguments: True
app.main(app.Config(epochs=1, batch_size=62, strategy=sys.argv[2], out=Path(sys.argv[1])))
"""


def start_worker(out: Path, strategy: str, tf_config: dict | None = None) -> subprocess.Popen:
    environment = {**os.environ, **({"TF_CONFIG": json.dumps(tf_config)} if tf_config else {})}
    command = [sys.executable, "-c", WORKER, str(out), strategy]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)


@pytest.mark.slow
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
    metrics = [
        {k: float(v) for k, v in history(tmp_path / n)[0].items()} for n in ("worker0", "single")
    ]
    # The metrics cover the global batch, not the chief's part of it.
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-4)
    assert (tmp_path / "worker0" / "1" / "saved_model.pb").exists()
    assert not (tmp_path / "worker1").exists()


def test_a_pretrained_network_is_advised_while_none_is_used():
    assert "--preset imagenet" in app.Config().advice
    assert not app.Config(model="vgg16", preset="imagenet").advice
