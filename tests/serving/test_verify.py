"""An export is checked in a process that knows only TensorFlow."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from serving import checks, verify
from serving.card import write_card
from serving.warmup import Record, write_records


def results(version) -> dict[str, verify.Check]:
    """The checks of `checks.run`, in this process, which saves importing TensorFlow again."""
    return {result.check: result for result in checks.run(version)}


def saved(folder, function, spec, write_warmup=True):
    """Writes a version by TensorFlow alone, with whatever faults `function` has."""
    module = tf.Module()
    module.serve = tf.function(function, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    inputs = {"x": np.ones((2, 3), "float32")}
    words = {"x": "numbers", "y": "numbers", "output_0": "numbers"}
    write_card(folder, {}, {"serving_default": words}, 1e-5)
    if write_warmup:
        outputs = {"y": 2 * inputs["x"]}
        write_records(folder, [Record("serving_default", inputs, outputs)])
    return folder


OPEN = tf.TensorSpec((None, 3), tf.float32, name="x")


@pytest.mark.slow
def test_an_export_passes_every_check_in_a_fresh_process(exported, capsys):
    assert verify.main(exported) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["check", "result", "detail"]
    assert [line.split("ok")[0].strip() for line in lines[1:]] == ["version", *checks.CHECKS]


def test_a_sound_version_of_any_kind_passes(tmp_path):
    found = results(saved(tmp_path, lambda x: {"y": 2 * x}, OPEN))
    assert list(found) == list(checks.CHECKS)
    assert not [check for check in found.values() if not check.passed]


@pytest.mark.parametrize(
    ("function", "spec", "check", "detail"),
    [
        (lambda x: 2 * x, OPEN, "signatures", "`output_0` of `serving_default` has no name"),
        (
            lambda x: {"y": tf.cast(2 * x, tf.bfloat16)},
            OPEN,
            "signatures",
            "`y` of `serving_default` is bfloat16, not float32",
        ),
        (
            lambda x: {"y": 2 * x},
            tf.TensorSpec((2, 3), tf.float32, name="x"),
            "signatures",
            "`x` of `serving_default` has no open first dimension",
        ),
        (
            lambda x: {
                "y": tf.ensure_shape(tf.numpy_function(lambda x: 2 * x, [x], tf.float32), (None, 3))
            },
            OPEN,
            "operations",
            "PyFunc",
        ),
        (
            lambda x: {
                "y": 2 * x * tf.cast(tf.io.read_file("/proc/sys/kernel/panic") != "", tf.float32)
            },
            OPEN,
            "paths",
            "absolute: /proc/sys/kernel/panic",
        ),
        (lambda x: {"y": 2.001 * x}, OPEN, "warmup", "`y` at (0, 0) is 2.001, expected 2"),
        (
            lambda x: {"y": 2 * x / tf.reduce_sum(x) * tf.reduce_sum(x[:1])},
            OPEN,
            "batch sizes",
            "apart, at most 1e-05 allowed",
        ),
        (
            lambda x: {"y": 2 * x * tf.strings.to_number(tf.strings.as_string(x[0, 0]))},
            OPEN,
            "XLA",
            "",
        ),
    ],
    ids=["no name", "bfloat16", "fixed batch", "python", "path", "answer", "batch", "no XLA"],
)
def test_a_fault_fails_its_check(tmp_path, function, spec, check, detail):
    found = results(saved(tmp_path, function, spec))
    assert not found[check].passed
    assert detail in found[check].detail


def test_a_network_that_answers_all_alike_is_told(tmp_path, exported):
    told = "all answers alike"
    assert told in results(saved(tmp_path, lambda x: {"y": 2 * x}, OPEN))["warmup"].detail
    assert told not in results(exported / "1")["warmup"].detail


@pytest.mark.parametrize(
    ("count", "passes"),
    [
        (lambda sizes: tf.ragged.range(sizes).to_tensor(-1), True),
        (lambda sizes: tf.repeat(tf.range(tf.reduce_max(sizes))[None], tf.size(sizes), 0), False),
    ],
    ids=["padded", "as long as the longest"],
)
def test_answers_may_be_padded_to_the_longest_of_a_batch(tmp_path, count, passes):
    def counted(x):
        return {"y": count(tf.cast(x[:, 0], tf.int32))}

    version = saved(tmp_path, counted, OPEN, write_warmup=False)
    inputs = [np.full((1, 3), 2, "float32"), np.float32([[3] * 3, [1] * 3])]
    records = [Record("serving_default", {"x": x}, {"y": counted(x)["y"].numpy()}) for x in inputs]
    write_records(version, records)
    found = results(version)
    assert found["warmup"].passed and "alike" not in found["warmup"].detail
    assert found["batch sizes"].passed == passes


def test_missing_warmup_and_card_fail(tmp_path):
    version = saved(tmp_path, lambda x: {"y": 2 * x}, OPEN, write_warmup=False)
    (version / "assets.extra" / "model_card.json").write_text("{}")
    found = results(version)
    assert "no requests for `serving_default`" in found["warmup"].detail
    assert "model_card.json has no ['date'" in found["model card"].detail


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        (lambda folder: (folder / "saved_model.pb").write_bytes(b"\x01" * 99), "graph"),
        (lambda folder: (folder / "saved_model.pb").write_bytes(b""), "graph"),
        (lambda folder: (folder / "saved_model.pb").unlink(), "graph"),
        (lambda folder: shutil.rmtree(folder / "variables"), "loads"),
        (lambda folder: next(folder.glob("variables/*.data*")).write_bytes(b"short"), "loads"),
    ],
    ids=["garbage", "empty", "no graph", "no variables", "short variables"],
)
def test_a_damaged_version_fails_with_a_line(tmp_path, exported, damage, check):
    shutil.copytree(exported, tmp_path / "copy")
    damage(tmp_path / "copy" / "1")
    found = results(tmp_path / "copy" / "1")
    assert list(found)[-1] == check
    assert not found[check].passed
    assert "\n" not in found[check].detail


def test_no_version_is_a_failure_without_traceback(tmp_path, capsys):
    assert verify.main(tmp_path / "nowhere") == 1
    assert "nowhere, which is not there" in capsys.readouterr().out
    assert verify.main(tmp_path, as_json=True) == 1
    (result,) = json.loads(capsys.readouterr().out)
    assert result["check"] == "version"
    assert not result["passed"]


def test_a_checking_process_that_dies_is_a_failure(tmp_path, monkeypatch):
    (tmp_path / "1").mkdir()
    monkeypatch.setattr(verify.sys, "executable", "/bin/false")
    *_, last = verify.verify(tmp_path)
    assert last == verify.Check(
        "process", False, "the checking process ended with status 1, saying: nothing"
    )
