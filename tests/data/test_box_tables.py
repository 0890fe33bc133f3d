"""Tables of boxes: headers, rows without one, images without objects, faults of rows."""

import pytest

from data import box_tables, objects
from data.sources import BadData, Evaluated
from tests.data.annotated import encoded_image


def write(folder, rows, count=8):
    for number in range(count):
        (folder / f"{number}.png").write_bytes(encoded_image(number))
    (folder / "boxes.csv").write_text("\n".join(rows))
    return folder / "boxes.csv"


@pytest.mark.parametrize("header", ["path,xmin,ymin,xmax,ymax,label", ""])
def test_a_table_with_and_without_a_header(header, tmp_path):
    rows = [f"{number}.png,1,2,5,6,cat" for number in range(6)]
    rows += ["0.png,3,2,10,8,dog", "6.png,,,,,", "7.png"]
    path = write(tmp_path, [header, *rows] if header else rows)
    read = box_tables.read(path, None)
    assert [len(image.annotations) for image in read.images] == [2, 1, 1, 1, 1, 1, 0, 0]
    assert read.images[0].annotations[1].box == (3, 2, 10, 8)
    assert read.images[7].where.endswith("(7.png)")
    if header:
        found = objects.load(str(tmp_path))
        assert sum(len(found.split(split)) for split in ("train", "validation", "test")) == 8
        boxes = {tuple(things["boxes"][0].numpy()) for _, things in found.train}
        assert boxes <= {(1, 2, 5, 6), (0, 0, 0, 0)}


def test_a_header_in_another_order_with_splits_and_sizes(tmp_path):
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax,split,pose"]
    splits = ["train"] * 6 + ["val", "test"]
    rows += [f"{n}.png,10,8,cat,1,1,4,4,{split},left" for n, split in enumerate(splits)]
    path = write(tmp_path, rows)
    found = objects.load(str(path))
    assert [len(found.split(split)) for split in ("train", "validation", "test")] == [6, 1, 1]
    assert any("Not read: pose." in remark for remark in found.remarks)
    assert len(box_tables.read(path, Evaluated()).images) == 1


def test_faults_name_the_row(tmp_path):
    rows = ["path,xmin,ymin,xmax,ymax,label,split"]
    rows += [f"{number}.png,1,2,5,6,cat," for number in range(8)]
    rows += ["0.png,1,2,1,6,cat,", "0.png,1,2,x,6,cat,", "0.png,1,2,5,6,,", "0.png,1,2,5,6,cat,odd"]
    rows += ["0.png,1,2,5,6,cat,test", ",1,2,5,6,cat,", "lost.png,1,2,5,6,cat,"]
    with pytest.raises(BadData) as caught:
        objects.load(str(write(tmp_path, rows)))
    skippable = [fault for fault in caught.value.faults if fault.skippable]
    assert {fault.where.removeprefix("boxes.csv "): fault.received for fault in skippable} == {
        "line 10": "a box of zero area (1, 2, 1, 6)",
        "line 11": "the sides ['1', '2', 'x', '6']",
        "line 12": "no label",
        "line 13": "the split 'odd'",
        "line 14": "the split test, but another in boxes.csv line 2",
        "line 15": "no path",
        "line 16 (lost.png)": "no such file",
    }
