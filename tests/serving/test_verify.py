"""An export is checked in a process that knows only TensorFlow."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from serving import checks, verify
from serving.card import Description, write_card
from serving.export import export
from serving.signature import Signature
from serving.warmup import Record, write_records


def results(version) -> dict[str, verify.Check]:
    """The checks of `checks.run`, in this process, which saves importing TensorFlow again."""
    return {result.check: result for result in checks.run(version)}


def saved(folder, function, spec, write_warmup=True):
    """Writes a version with only TensorFlow, with the faults of `function`."""
    module = tf.Module()
    module.serve = tf.function(function, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    inputs = {"x": np.ones((2, 3), "float32")}
    meanings = dict.fromkeys(("x", "y", "scores", "output_0"), "numbers")
    write_card(folder, {}, {"serving_default": Description(meanings)}, 1e-5)
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


@pytest.mark.parametrize("ties", [{"y": "scores"}, None], ids=["ties", "no ties"])
def test_tied_rows_are_swapped_only_if_the_card_says_so(tmp_path, ties):
    def ranked(x):
        return {"y": tf.stack([x[:, 0], x[:, 1]], 1), "scores": 0.0 * x[:, :2]}

    version = saved(tmp_path, ranked, OPEN, write_warmup=False)
    inputs = {"x": np.float32([[1, 2, 3]])}
    swapped = {"y": np.float32([[2, 1]]), "scores": np.float32([[0, 0]])}
    write_records(version, [Record("serving_default", inputs, swapped)])
    meanings = dict.fromkeys(("x", "y", "scores"), "numbers")
    write_card(version, {}, {"serving_default": Description(meanings, ties=ties)}, 1e-5)
    assert results(version)["warmup"].passed == bool(ties)


def export_texts(base, core, **options):
    """Exports a network whose signature takes texts; `core` is where XLA matters."""
    rows = keras.Input((2,), name="rows")
    signature = Signature(
        inputs={"text": tf.TensorSpec((None,), tf.string)},
        preprocess=lambda text: tf.repeat(tf.strings.to_number(text)[:, None], 2, axis=1),
        postprocess=lambda outputs: {"text": tf.strings.as_string(outputs)},
        meanings={"text": "numbers"},
        core=core,
        **options,
    )
    model = keras.Model(rows, keras.layers.Dense(1, kernel_initializer="ones")(rows))
    warmup = {"text": np.array([b"1", b"2", b"3"], object)}
    return export(base, model, {"serving_default": signature}, warmup, {})


def by_strings(model, features):
    return tf.strings.to_number(tf.strings.as_string(model(features)))


def test_the_core_of_a_signature_with_strings_compiles_apart(tmp_path):
    def doubled(model, features):
        def is_small(x):
            return x < 9.0

        (grown,) = tf.while_loop(
            lambda x: tf.reduce_any(is_small(x)),
            lambda x: [tf.where(is_small(x), 2.0 * x, x)],
            [features],
        )
        return model(grown)

    found = results(export_texts(tmp_path / "loop", doubled))
    assert not [check for check in found.values() if not check.passed]
    assert found["XLA"].detail.startswith("serving_default at 1, 8, 32: at most")
    assert not results(export_texts(tmp_path / "strings", by_strings))["XLA"].passed


def test_a_core_that_says_why_it_does_not_compile_is_left_alone(tmp_path):
    version = export_texts(tmp_path, by_strings, no_xla="strings have no kernel")
    check = results(version)["XLA"]
    assert check.passed
    assert check.detail == "serving_default: not compiled, strings have no kernel"


def test_a_core_of_several_signatures_is_compiled_once(exported):
    assert results(exported / "1")["XLA"].detail.startswith("serving_default at 1, 8, 32:")


def test_a_network_with_equal_answers_to_all_is_reported(tmp_path, exported):
    words = "all answers equal"
    assert words in results(saved(tmp_path, lambda x: {"y": 2 * x}, OPEN))["warmup"].detail
    assert words not in results(exported / "1")["warmup"].detail


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
    assert found["warmup"].passed and "equal" not in found["warmup"].detail
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
