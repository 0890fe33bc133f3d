"""Bad files, folders and CSVs: one message that names them all, or none of them used."""

import re
import shutil
from collections import Counter

import pytest

from data import images
from data.labeled_files import divided, labeled_files, without_conflicts
from data.sources import SPLITS, BadData, Fault
from preprocessing.images import decode


def faults_of(data, **options):
    with pytest.raises(BadData) as caught:
        images.load(str(data), **options)
    return str(caught.value)


def spoil(folder, draw):
    """Puts one of each kind of bad file in; returns how many files that makes useless."""
    (folder / "cat" / "text.jpg").write_text("not an image")
    (folder / "cat" / "nothing.jpg").write_bytes(b"")
    whole = (folder / "dog" / "0.png").read_bytes()
    (folder / "dog" / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "broken.png").symlink_to(folder / "gone.png")
    shutil.copy(folder / "dog" / "2.png", folder / "cat" / "copy.png")
    (folder / "bird").mkdir()
    draw(folder / "loose.png", seed=500)
    return 4 + 2 + 1


def test_all_faults_of_a_folder_are_reported_at_once(folder, draw):
    spoil(folder, draw)
    message = faults_of(folder)
    for line in (
        "7 problems",
        "cat/text.jpg: expected a complete JPEG, PNG, BMP, GIF or WebP image. Received: text.",
        "cat/nothing.jpg: expected a complete JPEG, PNG, BMP, GIF or WebP image. Received: an",
        "WebP image. Received: a truncated, damaged or unusual PNG image.",
        "dog/broken.png: expected a complete JPEG, PNG, BMP, GIF or WebP image. Received: no such",
        "the same content in class 'cat' as dog/2.png in class 'dog'. Fix: keep one of them.",
        "bird/: expected at least one file (.bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .png, .webp)",
        "loose.png: expected files in class folders only. Received: a file outside",
        "--skip-bad",
    ):
        assert line in message


def test_a_loose_file_beside_the_classes_of_train_makes_no_classes_of_the_splits(folder, draw):
    for split in ("train", "test"):
        shutil.copytree(folder, folder / split, ignore=shutil.ignore_patterns("train"))
    for name in ("cat", "dog"):
        shutil.rmtree(folder / name)
    shutil.rmtree(folder / "test" / "train", ignore_errors=True)
    (folder / "train" / "labels.csv").write_text("cat/1.png,cat")
    (folder / "notes").mkdir()
    found, findings = labeled_files(str(folder), images.SUFFIXES)
    assert findings == [
        "Splits: train from train, test from test.",
        "Not read: notes/, 1 file (.csv).",
    ]
    assert {file.label for file in found} == {"cat", "dog"}
    assert {file.split for file in found} == {"train", "test"}
    draw(folder / "train" / "montage.png", seed=77)
    found, findings = labeled_files(str(folder), images.SUFFIXES)
    assert {file.label for file in found} == {"cat", "dog"}
    faults = [finding for finding in findings if isinstance(finding, Fault)]
    assert [fault.received for fault in faults] == ["a file outside the class folders"]
    # Loose pictures, a class beside it and no classes in test/: train is a class, too.
    for name in ("cat", "dog"):
        shutil.rmtree(folder / "test" / name)
    draw(folder / "test" / "3.png", seed=78)
    for path in ("train/1.png", "notes/2.png"):
        draw(folder / path, seed=len(path))
    found, _ = labeled_files(str(folder), images.SUFFIXES)
    assert {file.label for file in found} == {"train", "test", "notes"}


def test_skip_bad_leaves_out_and_counts(folder, draw):
    useless = spoil(folder, draw)
    found = images.load(str(folder), skip_bad=True)
    assert found.skipped == useless and found.classes == ("cat", "dog")
    assert sum(len(getattr(found, split)) for split in SPLITS) == 99
    for data, _ in found.train:
        decode(data, found.input_shape)


def test_faults_of_a_csv_name_file_and_line(folder):
    table = folder / "labels.csv"
    good = [f"{path.relative_to(folder)},{path.parent.name}" for path in folder.rglob("*.png")]
    table.write_text("\n".join(["path,label", "cat/1.png,", "cat/gone.png,cat", ",dog", *good]))
    message = faults_of(table)
    assert "labels.csv line 2: expected path,label. Received: no label in 'cat/1.png,'." in message
    assert "labels.csv line 3 (cat/gone.png): expected a complete JPEG" in message
    assert "labels.csv line 4: expected path,label. Received: no path" in message
    assert images.load(str(table), skip_bad=True).skipped == 3


def test_unknown_split_in_a_csv_is_named(folder):
    table = folder / "labels.csv"
    table.write_text("cat/1.png,cat,late\ndog/0.png,dog,train")
    assert "line 1: expected train, validation or test. Received: the split 'late'" in faults_of(
        table
    )


def test_two_folders_for_one_split_are_refused(folder):
    for name in ("Train", "val", "dev"):
        shutil.copytree(folder / "cat", folder / name / "cat")
    shutil.rmtree(folder / "cat")
    assert (
        "the validation split: expected one folder per split. Received: both dev and val. "
        "Fix: move one of them elsewhere." in faults_of(folder)
    )


def test_one_class_only_is_an_error_even_with_skip_bad(folder):
    shutil.rmtree(folder / "dog")
    for skip_bad in (False, True):
        message = faults_of(folder, skip_bad=skip_bad)
        assert "expected at least two classes. Received: only the class 'cat'." in message
        assert "--skip-bad" not in message


def test_class_without_training_examples_is_reported_or_left_out(folder, draw):
    root = folder.parent / "split"
    shutil.copytree(folder, root / "train")
    for i, label in enumerate(("cat", "dog", "eel")):
        draw(root / "test" / label / "extra.png", seed=1000 + i)
    assert (
        "class 'eel': expected at least one training example. Received: 1 example, none"
        in faults_of(root)
    )
    found = images.load(str(root), skip_bad=True)
    assert found.classes == ("cat", "dog") and len(found.test) == 2 and found.skipped == 1


def test_too_few_images_for_a_split_are_reported(tmp_path, draw):
    for i in range(4):
        draw(tmp_path / str(i % 2) / f"{i}.png", seed=i)
    assert "Fix: add examples, or provide a split" in faults_of(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "empty", "note.txt", "empty.csv"])
def test_data_that_is_not_there_says_what_is_expected(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "empty.csv").write_text("")
    message = faults_of(tmp_path / name)
    assert re.search("expected a(t least two classes| folder)", message)


def test_unknown_name_lists_the_built_in_samples():
    assert "tfds:NAME, or a built-in sample (digits)" in faults_of("digitz")


def test_truncated_jpeg_and_unsupported_format_are_named(folder, draw):
    draw(folder / "cat" / "photo.jpg", seed=900, size=(64, 64))
    whole = (folder / "cat" / "photo.jpg").read_bytes()
    (folder / "cat" / "photo.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    (folder / "dog" / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    message = faults_of(folder)
    assert "Received: a truncated, damaged or unusual JPEG image." in message
    assert "WebP image. Received: HEIC. Fix: convert it." in message


def test_files_are_listed_by_their_path_below_the_folder(folder, draw):
    draw(folder / "cat" / "deep" / "a.PNG", seed=700)
    draw(folder / "cat" / ".hidden" / "b.png", seed=701)
    (folder / "cat" / "notes.txt").write_text("not an example")
    files, findings = labeled_files(str(folder), {".png"})
    assert len(files) == 101 and findings == ["Not read: 1 file (.txt)."]
    assert ("cat/deep/a.PNG", "cat", "") in {(file.name, file.label, file.split) for file in files}


def test_linked_folders_are_followed_and_circles_end(folder, draw):
    elsewhere = folder.parent / "elsewhere"
    draw(elsewhere / "eel" / "1.png", seed=800)
    draw(elsewhere / "more" / "2.png", seed=801)
    (folder / "eel").symlink_to(elsewhere / "eel")
    (folder / "cat" / "more").symlink_to(elsewhere / "more")
    (folder / "cat" / "circle").symlink_to(folder / "cat")
    (elsewhere / "more" / "back").symlink_to(elsewhere / "more")
    files, findings = labeled_files(str(folder), {".png"})
    assert len(files) == 102 and not findings
    found = {(file.name, file.label) for file in files}
    assert {("eel/1.png", "eel"), ("cat/more/2.png", "cat")} < found


def test_names_that_are_not_utf8_are_reported_or_left_out(folder):
    try:
        shutil.copy(folder / "cat" / "1.png", folder / "cat" / "caf\udce9.png")
    except OSError:
        pytest.skip("needs a file system that takes such names")
    with pytest.raises(BadData, match=r"'cat/caf\\udce9.png': expected a UTF-8 name"):
        images.load(str(folder))
    assert images.load(str(folder), skip_bad=True).skipped == 1


def test_a_path_that_is_not_utf8_is_named():
    with pytest.raises(BadData, match=r"the path of the data: expected UTF-8\. .* Fix: rename"):
        labeled_files("caf\udce9", {".png"})


def test_same_content_under_one_class_is_no_conflict(folder):
    files, _ = labeled_files(str(folder), {".png"})
    cats = [file for file in files if file.label == "cat"]
    kept, faults = without_conflicts(cats, [1] * len(cats))
    assert [file.path for file in kept] == [file.path for file in cats] and not faults
    marked, _ = without_conflicts(cats, range(len(cats)))
    assert [file.content for file in marked] == [str(number) for number in range(len(cats))]
    kept, faults = without_conflicts(files, [1, *range(2, len(files)), 1])
    assert len(kept) == len(files) - 2 and faults[0].examples == 2


def test_division_gives_every_file_a_split(folder):
    files, (made, classes) = divided(labeled_files(str(folder), {".png"})[0])
    assert len(files) == 100 and {file.split for file in files} == set(SPLITS)
    pairs = Counter((file.label, file.split) for file in files)
    counts = {label: [pairs[label, split] for split in SPLITS] for label in ("cat", "dog")}
    assert made == "Chosen by a hash: validation and test, about 10 % each."
    assert (
        classes
        == "Classes (train, validation, test): "
        + ", ".join(f"{label} ({', '.join(map(str, counts[label]))})" for label in counts)
        + "."
    )
    assert min(min(counts[label]) for label in counts) >= 5


def test_copies_of_an_image_share_a_split_and_those_in_two_given_ones_are_named(folder, draw):
    for i in range(30):
        shutil.copy(folder / "cat" / "1.png", folder / "cat" / f"copy{i}.png")
    found = images.load(str(folder))
    data = (folder / "cat" / "1.png").read_bytes()
    counts = [sum(one.numpy() == data for one, _ in getattr(found, split)) for split in SPLITS]
    assert sorted(counts) == [0, 0, 31]
    shutil.copytree(folder, folder.parent / "given" / "train")
    for name in ("cat/1.png", "dog/2.png"):
        draw(folder.parent / "given" / "test" / name, seed=int(name[4]))
    draw(folder.parent / "given" / "test" / "dog" / "new.png", seed=999)
    remarks = images.load(str(folder.parent / "given")).remarks
    assert (
        "In test, 2 of 3 different examples are also in train, such as 'test/cat/1.png'."
    ) in remarks


def test_a_csv_of_files_may_have_semicolons_and_its_encoding_is_named(folder):
    table = folder / "labels.csv"
    rows = [f"{path.relative_to(folder)};{path.parent.name}" for path in folder.rglob("*.png")]
    table.write_text("\n".join(["path;label", *rows]))
    files, remarks = labeled_files(str(table), {".png"})
    assert len(files) == 100 and remarks[0] == "labels.csv is separated by semicolons."
    table.write_bytes("\n".join([*rows, "cat/1.png;chàt"]).encode("latin1"))
    assert "labels.csv line 101: expected UTF-8 text. Received: bytes that are" in faults_of(table)


def test_columns_of_a_csv_that_are_not_read_are_named(folder):
    table = folder / "labels.csv"
    rows = [f"{path.relative_to(folder)},{path.parent.name},8" for path in folder.rglob("*.png")]
    table.write_text("\n".join(["file,class,width", *rows]))
    assert labeled_files(str(table), {".png"})[1] == [
        "Columns: path from 'file', label from 'class'. Not read: width."
    ]
    table.write_text("\n".join(["image,label,file", *rows]))
    files, remarks = labeled_files(str(table), {".png"})
    assert remarks == ["Columns: path from 'image', label from 'label'. Not read: file."]
    assert files[0].label in ("cat", "dog")
    table.write_text("\n".join(f"{row.rsplit(',', 1)[0]},train,8" for row in rows))
    assert labeled_files(str(table), {".png"})[1] == [
        "Columns: path from 'path', label from 'label', split from 'split'. Not read: column 4."
    ]


def test_an_unknown_header_of_a_csv_is_named_as_one(folder):
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in folder.rglob("*.png")]
    (folder / "labels.csv").write_text("\n".join(["img,kind", *rows]))
    assert (
        "labels.csv line 1: expected a header such as path, label. Received: the columns img, kind."
    ) in faults_of(folder / "labels.csv")


def test_paths_of_windows_in_a_csv_are_found(folder):
    rows = [rf"cat\{path.name},cat" for path in (folder / "cat").iterdir()]
    rows += [rf"dog\{path.name},dog" for path in (folder / "dog").iterdir()]
    (folder / "labels.csv").write_text("\n".join(rows))
    found, _ = labeled_files(str(folder / "labels.csv"), {".png"})
    assert {file.path for file in found} == {str(path) for path in folder.rglob("*.png")}
