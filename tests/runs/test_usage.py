"""What the report says about the use of a model, tried as it stands."""

import base64
import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tyro

from apps import image_classification, text_classification
from apps.stages import sft
from runs import usage
from runs.usage import command_line, commits, snippets
from serving.signature import Signature, tensors


def signature(*names: str, dtype=tf.string) -> Signature:
    inputs = {name: tf.TensorSpec((None,), dtype) for name in names}
    return tensors(inputs, {name: name for name in (*names, "logits")})


def requested(script: str, folder: Path) -> tuple[str, dict]:
    """Runs the commands for a shell with a stand-in for curl; returns URL and body."""
    stand_in = folder / "curl"
    stand_in.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        "_, silent, url, option, data = sys.argv\n"
        "data = sys.stdin.read() if data == '@-' else data\n"
        "json.dump([url, data], sys.stdout)\n"
    )
    stand_in.chmod(0o755)
    path = f"{folder}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=True
    )
    url, data = json.loads(done.stdout)
    return url, json.loads(data)


def answers(script: str, monkeypatch) -> list[tuple]:
    """Runs a script with a stand-in for the client; returns what it asks for."""
    calls = []

    class Client:
        def __init__(self, target):
            calls.append(target)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def predict(self, model, inputs):
            calls.append((model, inputs))
            return {"scores": np.ones(1)}

    monkeypatch.setitem(sys.modules, "serving.client", SimpleNamespace(Client=Client))
    exec(script, {})
    return calls


def test_a_text_is_sent_as_it_is(tmp_path, monkeypatch, capsys):
    model, file = tmp_path / "my models" / "it's", tmp_path / "example.csv"
    texts = {"text": """It's "5 %" \\ `x` $HOME \N{SNOWMAN}""", "pair": "two\nlines"}
    (_, line), (_, shell), (_, script) = snippets(model, signature("text", "pair"), texts, file)
    assert shlex.split(line) == ["hornbook", "predict", str(model), str(file)]
    serve, _, curl = shell.partition("\n\n")
    assert shlex.split(serve) == ["hornbook", "serve", str(tmp_path / "my models")]
    url, body = requested(curl, tmp_path)
    assert url == "http://localhost:8501/v1/models/it%27s:predict"
    assert body == {"instances": [texts]}
    inputs = {name: [text] for name, text in texts.items()}
    assert answers(script, monkeypatch) == ["grpc://localhost:8500", ("it's", inputs)]
    assert capsys.readouterr().out == "scores [1.]\n"


def test_several_texts_are_sent_as_a_list(tmp_path, monkeypatch):
    turns = ["It's me.", "Who?", "x" * 1000]
    _, (_, shell), (_, script) = snippets(
        tmp_path, signature("turns"), {"turns": turns}, tmp_path / "example.jsonl"
    )
    _, body = requested(shell.partition("\n\n")[2], tmp_path)
    shown = [*turns[:2], "x" * 500]
    assert body == {"instances": [{"turns": shown}]}
    assert answers(script, monkeypatch)[1] == (tmp_path.name, {"turns": [shown]})


def test_an_image_is_read_from_its_file(tmp_path, monkeypatch):
    file = tmp_path / "an example's.png"
    file.write_bytes(bytes(range(256)) * 4)
    inputs = {"image_bytes": file.read_bytes()}
    _, (_, shell), (_, script) = snippets(tmp_path, signature("image_bytes"), inputs, file)
    _, body = requested(shell.partition("\n\n")[2], tmp_path)
    ((value,),) = (one.values() for one in body["instances"])
    assert base64.b64decode(value["b64"]) == file.read_bytes()
    assert answers(script, monkeypatch)[1] == (
        tmp_path.name,
        {"image_bytes": [file.read_bytes()]},
    )


def test_inputs_have_the_names_that_are_served(tmp_path):
    column = signature("Size (cm)", dtype=tf.float32)
    ((served,),) = (column.served.values(),)
    _, (_, shell), (_, script) = snippets(tmp_path, column, {"Size (cm)": "1.5"}, tmp_path / "a")
    _, body = requested(shell.partition("\n\n")[2], tmp_path)
    assert body == {"instances": [{served: 1.5}]} and f'"{served}": [1.5]' in script


def test_the_current_folder_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (_, line), (_, shell), _ = snippets(Path("."), signature("text"), {"text": "a"}, Path("a.csv"))
    assert shlex.split(line)[2] == str(tmp_path)
    assert shell.startswith(f"hornbook serve {tmp_path.parent}\n")


@pytest.mark.parametrize(
    ("app", "arguments", "shown"),
    [
        (image_classification, {}, ""),
        (image_classification, {"epochs": 80, "warmup_epochs": 0.0}, ""),
        (
            image_classification,
            {"epochs": 3, "image_size": (8, 9), "skip_bad": True, "data": "my pets/"},
            "--data 'my pets/' --epochs 3 --image-size 8 9 --skip-bad",
        ),
        # A preset has other defaults: these are the usual ones of networks without.
        (
            image_classification,
            {"model": "vgg16", "preset": "imagenet", "epochs": 80, "warmup_epochs": 0.5},
            "--model vgg16 --preset imagenet --epochs 80",
        ),
        (
            text_classification,
            {"bidirectional": False, "text_column": "-x", "learning_rate": 1e-5},
            "--no-bidirectional --text-column=-x --learning-rate 1e-05",
        ),
        (
            text_classification,
            {"model": "bert_tiny", "attention_layer": -2, "out": Path("a b")},
            "--attention-layer=-2 --model bert_tiny --out 'a b'",
        ),
        (sft, {"epochs": 3}, "--stage sft --epochs 3"),
    ],
)
def test_the_command_line_repeats_the_run(app, arguments, shown):
    config = app.Config(**arguments)
    program, name, *words = shlex.split(command_line("the_app", config))
    assert (program, name) == ("hornbook", "the_app")
    assert sorted(words) == sorted(shlex.split(shown))
    assert tyro.cli(app.Config, args=words) == config


def git(folder: Path, *arguments: str) -> str:
    named = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *named, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_of_the_current_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(usage, "CHECKOUT", tmp_path / "elsewhere")
    assert commits() == {}
    git(tmp_path, "init")
    assert commits() == {}
    (tmp_path / "a.txt").write_text("a")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-m", "a")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "new.txt").write_text("not in git")
    assert commits() == {"git commit of the current folder": commit}
    (tmp_path / "a.txt").write_text("b")
    assert commits() == {"git commit of the current folder": f"{commit}, with changes"}
    # In the checkout itself it is Hornbook's, and is named once.
    monkeypatch.setattr(usage, "CHECKOUT", tmp_path.resolve())
    assert list(commits()) == ["git commit of Hornbook"]
    # What is installed below another project is no checkout.
    (tmp_path / "packages").mkdir()
    monkeypatch.setattr(usage, "CHECKOUT", tmp_path.resolve() / "packages")
    assert list(commits()) == ["git commit of the current folder"]


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert commits() == {}
