"""Stable splits, the one message about bad data, and TensorFlow Datasets."""

import warnings
from types import SimpleNamespace

import pytest

from data import sources
from data.sources import SPLITS, BadData, Fault


def test_splits_have_the_given_shares():
    names = [f"cat/{i}.jpg" for i in range(5000)]
    splits = [sources.split_of(name, validation=0.2, test=0.1) for name in names]
    assert abs(splits.count("validation") / 5000 - 0.2) < 0.02
    assert abs(splits.count("test") / 5000 - 0.1) < 0.02
    assert set(splits) == set(sources.SPLITS)


def test_split_and_order_of_a_name_never_change():
    assert [sources.split_of(f"{i}") for i in (7, 8, 9)] == ["train", "validation", "test"]
    assert sources.stable_order("a") == 0xCA978112CA1BBDCA


def test_message_lists_ten_faults_and_a_fix():
    faults = [Fault(f"cats/{i}.jpg", "text", "an image") for i in range(12)]
    message = str(BadData("photos", faults))
    assert message.startswith("photos cannot be used: 12 problems (the first 10 are listed):")
    assert "cats/9.jpg: expected an image. Received: text.\n" in message
    assert "cats/10.jpg" not in message
    assert message.endswith("Fix: correct or remove them, or pass --skip-bad.")


def test_message_about_one_fault_ends_with_its_fix():
    heic = Fault("cat/7.jpg", "HEIC", "a JPEG or PNG image", "convert it")
    assert str(BadData("photos", [heic])) == (
        "photos cannot be used: 1 problem:\n  cat/7.jpg: expected a JPEG or PNG image. "
        "Received: HEIC. Fix: convert it, or pass --skip-bad."
    )


def test_message_does_not_offer_to_skip_what_cannot_be_skipped():
    fault = Fault("the training split", "one class", "two", skippable=False)
    assert "--skip-bad" not in str(BadData("photos", [fault]))


def test_names_that_are_not_utf8_can_be_printed():
    said = sources.reported("a", ["Not read: caf\udce9/.", "Not read: caf\udce9/."], False)
    assert said == {"skipped": 0, "remarks": ("Not read: caf\\udce9/.",)}
    assert str(BadData("caf\udce9", [Fault("a", "b", "c")])).startswith("caf\\udce9 cannot be")


def test_long_work_shows_its_rate_on_stderr_and_short_work_nothing(capsys, monkeypatch):
    seconds = iter([0.0, 0.1, 0.2, 0.3])
    monkeypatch.setattr(sources.time, "monotonic", lambda: next(seconds))
    assert list(sources.watched(["ab", "cd"], 4, "Checking")) == ["ab", "cd"]
    assert capsys.readouterr() == ("", "")
    seconds = iter([0.0, 2.0, 2.5, 3.0])
    assert list(sources.watched(["ab", "cd"], 4, "Checking")) == ["ab", "cd"]
    written = capsys.readouterr().err
    assert "Checking: 2 of 4, 1.0/s, 2 s left" in written
    assert "Checking: 4 of 4 in 3 s" in written


NAMES = {
    "train": ("train", "Training", " TRAIN "),
    "validation": ("validation", "valid", "Val", "dev", "development", "testa"),
    "test": ("test", "Testing", "eval", "evaluation", "testb", "holdout"),
    "": ("trains", "contest", "late", "", "eval 2"),
}


@pytest.mark.parametrize(("split", "name"), [(s, name) for s in NAMES for name in NAMES[s]])
def test_usual_names_of_splits_are_known(split, name):
    assert sources.split_named(name) == split


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("eng.testa", "validation"),
        ("eng.testb", "test"),
        ("en_ewt-ud-train.conllu", "train"),
        ("dev-v1.1.json", "validation"),
        ("wnut17train.conll", "train"),
        ("Holdout_2.CSV", "test"),
        ("trainable.csv", ""),
        ("contest.csv", ""),
    ],
)
def test_a_split_may_be_a_word_of_the_name_of_a_file(name, split):
    assert sources.split_named(name, word=True) == split


def test_what_is_not_read_is_named_and_files_of_other_kinds_are_counted(tmp_path):
    (tmp_path / "old").mkdir()
    paths = [tmp_path / name for name in ("old", "b.csv", "x.md", "y.MD", "LICENSE", ".git")]
    assert sources.not_read(paths, {".csv"}) == [
        "Not read: old/, b.csv, 1 file without a suffix, 2 files (.md)."
    ]
    assert sources.not_read(paths[1:3]) == ["Not read: b.csv, x.md."]
    assert sources.not_read(paths[-1:]) == []


@pytest.mark.parametrize(
    ("splits", "named"),
    [
        (["train", "dev"], {"train": "train", "validation": "dev"}),
        (["dev", "test", "training", "train", "validation"], {split: split for split in SPLITS}),
        (["training", "valid", "val"], {"train": "training", "validation": "valid"}),
        (["train", "extra", "test"], {"train": "train"}),
    ],
)
def test_splits_of_tfds_go_by_their_own_name_or_else_an_alias(splits, named):
    builder = SimpleNamespace(name="tiny", info=SimpleNamespace(splits=splits))
    unusable = () if "validation" in splits else ("test",)
    assert sources.named_splits(builder, unusable) == named
    with pytest.raises(BadData, match=r"expected a train split\. Received: only "):
        sources.named_splits(builder, ("train", "training"))


def test_tfds_cuts_a_missing_validation_split_from_train(shared_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared_tfds))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        splits = sources.tfds_splits(sources.tfds_builder("fashion_mnist"))
    assert {split: len(examples) for split, examples in splits.items()} == {
        "train": 54_000,
        "validation": 6_000,
        "test": 10_000,
    }


def test_unknown_tfds_name_suggests_near_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(BadData, match=r"Received: 'fashion_mnits'\. Fix: try fashion_mnist"):
        sources.tfds_builder("fashion_mnits")


def test_unknown_tfds_version_says_which_there_are(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(BadData, match=r"cannot be loaded at version 9\.9\.9"):
        sources.tfds_builder("mnist:9.9.9")
