"""Examples of one group, such as a patient, are in one split."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from data import images, text
from data.labeled_files import divided, labeled_files
from data.sources import SPLITS, BadData


def splits_of_groups(files):
    splits = defaultdict(set)
    for file in files:
        splits[file.group].add(file.split)
    return splits


@pytest.fixture
def patients(tmp_path, draw):
    """A folder of 40 patients, ill or well, with three images each."""
    for number in range(120):
        patient = number // 3
        label = "ill" if patient % 2 else "well"
        draw(tmp_path / "data" / label / f"p{patient}" / f"{number}.png", seed=number)
    return tmp_path / "data"


def test_a_level_of_folders_holds_the_groups(patients):
    found, _ = labeled_files(str(patients), {".png"}, group="1")
    files, remarks = divided(found)
    splits = splits_of_groups(files)
    assert set(splits) == {f"p{patient}" for patient in range(40)}
    assert all(len(one) == 1 for one in splits.values())
    counts = Counter(split for (split,) in splits.values())
    assert min(counts[split] for split in SPLITS) >= 2
    assert remarks[-1] == f"Groups: {', '.join(f'{counts[split]} {split}' for split in SPLITS)}."
    alone, _ = divided([replace(file, group="") for file in found])
    named = [replace(one, group=one.name.split("/")[1]) for one in alone]
    assert any(len(one) > 1 for one in splits_of_groups(named).values())
    assert remarks[-1] in images.load(str(patients), group="1").remarks


def test_groups_that_share_an_image_count_as_one(patients):
    found, _ = labeled_files(str(patients), {".png"}, group="1")
    copies = {f"p{patient}": "same" for patient in range(0, 40, 2)}
    files, _ = divided([replace(one, fingerprint=copies.get(one.group, "")) for one in found])
    assert len({one.split for one in files if one.group in copies}) == 1


def test_a_column_holds_the_groups_of_a_table(patients, tmp_path):
    table = patients / "table.csv"
    rows = [
        f"{path.relative_to(patients)},{path.parts[-3]},{path.parts[-2]}"
        for path in sorted(patients.rglob("*.png"))
    ]
    table.write_text("\n".join(["path,label,patient", *rows]))
    found, remarks = labeled_files(str(table), {".png"}, group="patient")
    assert remarks == ["Columns: path from 'path', label from 'label', group from 'patient'."]
    by_folder, _ = labeled_files(str(patients), {".png"}, group="1")
    assert [one.group for one in found] == [one.group for one in by_folder]
    texts = tmp_path / "texts.csv"
    lines = [f"text {number},{'ab'[number % 2]},w{number // 4}" for number in range(200)]
    texts.write_text("\n".join(["text,label,writer", *lines]))
    loaded = text.load(str(texts), group="writer")
    writers = [
        {int(one.split()[1]) // 4 for (one,), _ in loaded.split(split).as_numpy_iterator()}
        for split in SPLITS
    ]
    assert sum(map(len, writers)) == len(set.union(*writers)) == 50
    assert sum(len(loaded.split(split)) for split in SPLITS) == 200


def test_groups_in_two_splits_of_the_user_are_named(tmp_path):
    table = tmp_path / "texts.csv"
    lines = [
        f"text {number},{'ab'[number % 2]},w{number % 7},{SPLITS[number % 3]}"
        for number in range(63)
    ]
    table.write_text("\n".join(["text,label,writer,split", *lines]))
    remarks = text.load(str(table), group="writer").remarks
    assert "In test, 7 of 7 different groups are also in train, such as 'w2'." in remarks


def test_bad_groups_are_named(patients, tmp_path):
    with pytest.raises(BadData, match=r"0\.png: expected a folder 2 levels below the class"):
        images.load(str(patients), group="2")
    with pytest.raises(BadData, match=r"expected the number of a level of folders .* 'patient'"):
        images.load(str(patients), group="patient")
    with pytest.raises(ValueError, match="`group` is for files of your own"):
        images.load("digits", group="1")
    table = tmp_path / "texts.csv"
    table.write_text("text,label\ngood,a\nbad,b\n")
    with pytest.raises(BadData, match=r"expected a column 'writer'.*as --group"):
        text.load(str(table), group="writer")
    (patients / "table.csv").write_text("ill/p1/3.png,ill\n")
    with pytest.raises(BadData, match="expected a column 'patient', as --group says"):
        images.load(str(patients / "table.csv"), group="patient")


def test_groups_of_a_lower_level_are_folders_within_folders(tmp_path, draw):
    for number in range(80):
        patient, visit = divmod(number, 2)
        label = "ill" if patient % 2 else "well"
        draw(tmp_path / label / f"p{patient}" / f"visit{visit}" / "image.png", seed=number)
    found, _ = labeled_files(str(tmp_path), {".png"}, group="2")
    assert len({file.group for file in found}) == 80
    assert found[0].group == "p1/visit0"


def test_the_column_of_the_groups_is_no_text(tmp_path):
    rows = [f"d{number // 2},body {number},{'ab'[number % 2]}" for number in range(80)]
    (tmp_path / "a.csv").write_text("document,review,label\n" + "\n".join(rows))
    found = text.load(str(tmp_path / "a.csv"), group="document")
    assert "text from 'review'" in " ".join(found.remarks)
