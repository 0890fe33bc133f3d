"""Files are answered by an exported version from the command line."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.predict import FilePredictor, as_plain, as_table, main, quiet
from tests.serving.conftest import encoded


@pytest.fixture
def files(tmp_path) -> list[Path]:
    paths = [tmp_path / f"{i}.png" for i in range(40)]
    for path, content in zip(paths, encoded(len(paths)), strict=True):
        path.write_bytes(content)
    return paths


def test_a_fresh_process_answers_quietly_with_tensorflow_alone(exported, files):
    script = f"""
import sys
from pathlib import Path
from serving.predict import main
status = main(Path({str(exported)!r}), (Path({str(files[0])!r}),))
ours = {{"apps", "callbacks", "data", "layers", "models", "training", "tensorflow_serving"}}
print(sorted(ours & {{name.split(".")[0] for name in sys.modules}}))
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    header, first, second, modules = done.stdout.splitlines()
    assert header.split() == ["file", "classes", "scores"]
    assert first.split()[0] == str(files[0])
    assert float(first.split()[2]) >= float(second.split()[1])
    assert modules == "[]"


def test_json_holds_what_the_model_answers(exported, files, capsys):
    assert main(exported / "1", tuple(files), as_json=True) == 0
    answers = json.loads(capsys.readouterr().out)
    assert list(answers) == [str(path) for path in files]
    model = tf.saved_model.load(str(exported / "1")).signatures["serving_default"]
    expected = model(image_bytes=tf.constant([files[7].read_bytes()]))
    answer = answers[str(files[7])]
    assert answer["classes"] == [name.decode() for name in expected["classes"].numpy()[0]]
    np.testing.assert_allclose(answer["scores"], expected["scores"][0], rtol=1e-5)


def test_bad_files_are_named_and_the_others_answered(exported, files, tmp_path, capsys):
    bad, missing = tmp_path / "bad.jpg", tmp_path / "missing.png"
    bad.write_text("not an image")
    assert main(exported, (files[0], bad, missing, files[1]), as_json=True) == 1
    said = capsys.readouterr()
    answers = json.loads(said.out)
    assert "scores" in answers[str(files[0])]
    assert "scores" in answers[str(files[1])]
    assert "error" in answers[str(bad)]
    lines = said.err.splitlines()
    assert len(lines) == 2
    assert f"{missing}: No such file or directory" in lines
    assert any(line.startswith(f"{bad}: ") and "must hold JPEG" in line for line in lines)


def test_no_file_no_version_and_other_inputs_are_refused(exported, files, tmp_path, capsys):
    assert main(exported, ()) == 1
    assert "at least one file" in capsys.readouterr().err
    assert main(tmp_path / "nowhere", (files[0],)) == 1
    assert "which is not there" in capsys.readouterr().err
    module = tf.Module()
    module.serve = tf.function(
        lambda x: {"y": x}, input_signature=[tf.TensorSpec((None,), name="x")]
    )
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.serve)
    with pytest.raises(ValueError, match=r"which takes x \(float32\)"):
        FilePredictor(tmp_path)
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\x01")
    with pytest.raises(ValueError, match=r"cannot load .*1: .*damaged"):
        FilePredictor(tmp_path)


def test_outputs_become_json():
    assert as_plain("classes", np.array([b"a", "ä".encode()], object)) == ["a", "ä"]
    assert as_plain("scores", np.float32(0.1)) == 0.1
    assert as_plain("count", np.int64(3)) == 3
    assert as_plain("mask_bytes", b"\xff") == {"b64": base64.b64encode(b"\xff").decode()}


def test_a_table_has_a_row_a_rank_or_a_row_a_file():
    ranks = {"a": {"classes": np.array([b"x", b"y"], object), "scores": np.float32([0.75, 0.25])}}
    assert as_table(ranks).splitlines() == [
        "file  classes  scores",
        "a     x        0.75",
        "      y        0.25",
    ]
    mixed = {"a": {"answer": b"text", "map": np.zeros((4, 4), "float32"), "box": np.array([1, 2])}}
    assert as_table(mixed).splitlines()[1].split(maxsplit=2) == [
        "a",
        "text",
        "float32 (4, 4)  [1, 2]",
    ]


def test_quiet_hides_only_what_is_written_within(capfd):
    with quiet():
        os.write(2, b"noise")
    os.write(2, b"news")
    assert capfd.readouterr().err == "news"
