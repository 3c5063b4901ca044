"""YOLO folders in the shapes they come in, and what is wrong with them."""

from __future__ import annotations

import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.store.formats import open_source
from osv_lab.store.records import Box, Keypoints, OrientedBox, Polygon, Record, Source


def image(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix or ".png", np.zeros((size[1], size[0], 3), np.uint8))
    assert ok
    path.write_bytes(data.tobytes())
    return path


def text(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, format: str = "auto") -> tuple[Source, dict[str, Record]]:
    source, records = open_source(path, format)
    return source, {record.path.name: record for record in records}


def ultralytics(root: Path, rows: str | bytes, extra: str = "", names: str = "[a, b]") -> Path:
    image(root / "images" / "train" / "x.png")
    text(root / "labels" / "train" / "x.txt", rows)
    text(root / "data.yaml", f"train: images/train\nval: images/train\nnames: {names}\n{extra}")
    return root


def test_ultralytics_folder(tmp_path: Path) -> None:
    image(tmp_path / "images" / "train" / "one.png")
    image(tmp_path / "images" / "val" / "two.png")
    image(tmp_path / "images" / "val" / "three.png")
    text(tmp_path / "labels" / "train" / "one.txt", "0 0.5 0.5 0.2 0.4\n1 .25 .25 .5 .5\n")
    text(tmp_path / "labels" / "val" / "two.txt", "")
    text(tmp_path / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: a\n  1: b\n")
    source, records = read(tmp_path)
    assert (source.format, source.classes, source.info["task"]) == ("yolo", ("a", "b"), "detect")
    assert [label.label for label in records["one.png"].labels] == ["a", "b"]
    assert records["one.png"].labels[0].xywh == pytest.approx((0.4, 0.3, 0.2, 0.4))
    assert {name: (r.split, r.labelled, len(r.labels)) for name, r in records.items()} == {
        "one.png": ("train", True, 2),
        "two.png": ("val", True, 0),
        "three.png": ("val", False, 0),
    }
    assert not source.problems


@pytest.mark.parametrize(
    ("row", "what", "kept"),
    [
        ("7 0.5 0.5 0.1 0.1", "class id 7 is not one of 0 to 1", False),
        ("-1 0.5 0.5 0.1 0.1", "class id -1", False),
        ("99999999999999999999999 0.5 0.5 0.1 0.1", "class id 1e+23", False),
        ("0.5 0.5 0.5 0.1 0.1", "not a whole number", False),
        ("cat 0.5 0.5 0.1 0.1", "not a number", False),
        ("0 nan 0.5 0.1 0.1", "not a finite number", False),
        ("0 inf 0.5 0.1 0.1", "not a finite number", False),
        ("0 0.5 0.5 1e999 0.1", "not a finite number", False),
        ("0 0.5 0.5 -0.1 0.1", "negative width", False),
        ("0 0.5 0.5 0 0.1", "without area", False),
        ("0 1.5 0.5 0.1 0.1", "outside the image", False),
        ("0 0.95 0.5 0.2 0.1", "was cut", True),
        ("0 320 240 100 80", "not relative", False),
        ("0 0.5 0.5 0.1", "4 values", False),
        ("0", "1 values", False),
        ("0 0.5 0.5 0.1 0.1 7", "no confidence", True),
        ("0 0,5 0,5 0,1 0,1", "not a number", False),
    ],
)
def test_a_bad_row_costs_itself_only(tmp_path: Path, row: str, what: str, kept: bool) -> None:
    _, records = read(ultralytics(tmp_path, f"1 0.5 0.5 0.5 0.5\n{row}\n0 0.25 0.25 0.1 0.1\n"))
    record = records["x.png"]
    assert len(record.labels) == 2 + kept
    (problem,) = record.problems
    assert what in problem.what
    assert (problem.file, problem.where) == ("labels/train/x.txt", "line 2")
    assert problem.consequence == ("label kept" if kept else "label dropped")
    assert all(math.isfinite(sum(label.xywh)) for label in record.labels)


def test_repeated_rows(tmp_path: Path) -> None:
    _, records = read(ultralytics(tmp_path, "0 .5 .5 .1 .1\n1 .5 .5 .1 .1\n0 .5 .5 .1 .1\n"))
    assert len(records["x.png"].labels) == 2
    assert [p.what for p in records["x.png"].problems] == ["the same row as line 1"]


def test_byte_order_mark_windows_ends_and_rubbish(tmp_path: Path) -> None:
    _, records = read(ultralytics(tmp_path, b"\xef\xbb\xbf0 .5 .5 .1 .1\r\n\r\n\xff\xfe\x00 1 2 3\r\n"))
    assert len(records["x.png"].labels) == 1
    assert len(records["x.png"].problems) == 1


def test_thousands_of_bad_rows_are_counted(tmp_path: Path) -> None:
    _, records = read(ultralytics(tmp_path, "0 .5 .5 .2 .2\n" + "\n".join(f"9 {k}" for k in range(1500))))
    assert len(records["x.png"].problems) == 1001
    assert records["x.png"].problems[-1].what == "500 more bad rows"


@pytest.mark.parametrize(
    ("row", "extra", "task", "kind"),
    [
        ("0 .5 .5 .2 .2", "", "detect", Box),
        ("0 .1 .1 .5 .2 .4 .6", "", "segment", Polygon),
        ("0 .1 .1 .5 .1 .5 .3 .1 .3", "", "obb", OrientedBox),
        ("0 .1 .1 .5 .1 .5 .3 .1 .3", "task: segment", "segment", Polygon),
        ("0 .5 .5 .4 .4 .4 .4 2 .6 .6 1", "kpt_shape: [2, 3]", "pose", Keypoints),
        ("0 .5 .5 .4 .4 .4 .4 .6 .6", "kpt_shape: [2, 2]", "pose", Keypoints),
        ("0 .5 .5 .4 .4 .4 .4 2 .6 .6 0", "", "pose", Keypoints),
    ],
)
def test_what_rows_are(tmp_path: Path, row: str, extra: str, task: str, kind: type) -> None:
    source, records = read(ultralytics(tmp_path, row, extra))
    assert source.info["task"] == task
    assert [type(label) for label in records["x.png"].labels] == [kind]
    assert not records["x.png"].problems


def test_pose_flags(tmp_path: Path) -> None:
    row = "1 .5 .5 .4 .4 .4 .4 2 .6 .6 1 0 0 0"
    source, records = read(
        ultralytics(tmp_path, row, "kpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\nkpt_names: {1: [n, l, r]}")
    )
    (label,) = records["x.png"].labels
    assert label.visible == (2, 1, 0)
    assert label.points[:2] == ((0.4, 0.4), (0.6, 0.6))
    assert math.isnan(label.points[2][0])
    assert source.info["flip_idx"] == [0, 2, 1]
    assert source.skeletons == {"b": ("n", "l", "r")}


def test_rows_with_confidence(tmp_path: Path) -> None:
    _, records = read(ultralytics(tmp_path, "0 .5 .5 .2 .2 .75"))
    assert records["x.png"].labels[0].confidence == 0.75


def test_label_without_image_and_other_files(tmp_path: Path) -> None:
    ultralytics(tmp_path, "0 .5 .5 .2 .2")
    text(tmp_path / "labels" / "train" / "gone.txt", "0 .5 .5 .2 .2")
    text(tmp_path / "notes.docx", "?")
    source, _ = read(tmp_path)
    assert sorted((p.file, p.what) for p in source.problems) == [
        ("labels/train/gone.txt", "label file without an image"),
        ("notes.docx", "not part of the yolo data set"),
    ]


@pytest.mark.parametrize("escape", ["../../outside", "/nowhere/at/all", "images/../../../outside"])
def test_entries_do_not_leave_the_folder(tmp_path: Path, escape: str) -> None:
    image(tmp_path / "outside" / "secret.png")
    root = tmp_path / "inner" / "data"
    ultralytics(root, "0 .5 .5 .2 .2")
    text(root / "data.yaml", f"train: images/train\nval: {escape}\nnames: [a]\n")
    source, records = read(root)
    assert list(records) == ["x.png"]
    assert len(source.problems) == 1


def test_list_of_images(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    image(tmp_path / "images" / "b.png")
    outside = image(tmp_path.parent / f"{tmp_path.name}-elsewhere" / "c.png")
    text(tmp_path / "labels" / "a.txt", "0 .5 .5 .2 .2")
    text(tmp_path / "train.txt", f"./images/a.png\nimages/gone.png\n../{outside.parent.name}/c.png\n{outside}\n")
    text(tmp_path / "val.txt", "images/b.png\nimages/a.png\n")
    text(tmp_path / "data.yaml", "train: train.txt\nval: val.txt\nnames: [a]\n")
    source, records = read(tmp_path)
    assert {name: record.split for name, record in records.items()} == {
        "a.png": "train",
        "b.png": "val",
        "c.png": "train",
    }
    assert records["c.png"].path == outside
    whats = [problem.what for problem in source.problems]
    assert [bool("missing" in w) for w in whats] == [True, False, False]
    assert "leaves" in whats[1]
    assert "both train and val" in whats[2]


def test_roboflow_layout(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        image(tmp_path / split / "images" / f"{split}.png")
        text(tmp_path / split / "labels" / f"{split}.txt", "0 .5 .5 .2 .2")
    text(
        tmp_path / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['x']\n",
    )
    source, records = read(tmp_path)
    assert {record.split: len(record.labels) for record in records.values()} == {"train": 1, "val": 1}
    assert [problem.where for problem in source.problems] == ["test"]


@pytest.mark.parametrize("there", ["train", "val", "test"])
def test_a_folder_that_stands_in_for_absent_splits_keeps_its_own(tmp_path: Path, there: str) -> None:
    image(tmp_path / "images" / there / "x.png")
    text(tmp_path / "labels" / there / "x.txt", "0 .5 .5 .2 .2")
    folder = f"images/{there}"
    text(tmp_path / "data.yaml", f"train: {folder}\nval: {folder}\ntest: {folder}\nnames: [a]\n")
    source, records = read(tmp_path)
    assert records["x.png"].split == there
    assert not source.problems


def test_only_the_number_of_classes(tmp_path: Path) -> None:
    ultralytics(tmp_path, "1 .5 .5 .2 .2\n2 .5 .5 .2 .2")
    text(tmp_path / "data.yaml", "train: images/train\nnc: 2\n")
    source, records = read(tmp_path)
    assert source.classes == ("class_0", "class_1")
    assert [label.label for label in records["x.png"].labels] == ["class_1"]


def test_darknet_beside_images(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    text(tmp_path / "a.txt", "1 .5 .5 .2 .2")
    image(tmp_path / "b.jpg")
    text(tmp_path / "classes.txt", "cat\ndog\n")
    source, records = read(tmp_path)
    assert source.format == "yolo"
    assert source.classes == ("cat", "dog")
    assert records["a.jpg"].labels[0].label == "dog"
    assert not records["b.jpg"].labelled


def test_darknet_data_paths(tmp_path: Path) -> None:
    image(tmp_path / "obj_train_data" / "a.jpg")
    text(tmp_path / "obj_train_data" / "a.txt", "0 .5 .5 .2 .2")
    text(tmp_path / "obj.names", "cat\n")
    text(tmp_path / "obj.data", "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n")
    text(tmp_path / "train.txt", "data/obj_train_data/a.jpg\n")
    source, records = read(tmp_path)
    assert records["a.jpg"].split == "train"
    assert records["a.jpg"].labels[0].label == "cat"
    assert not source.problems


def test_no_names_at_all(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    text(tmp_path / "a.txt", "3 .5 .5 .2 .2")
    source, records = read(tmp_path)
    assert records["a.png"].labels[0].label == "class_3"
    assert "no class names" in source.problems[0].what


def test_yaml_file_by_name(tmp_path: Path) -> None:
    root = ultralytics(tmp_path / "set", "0 .5 .5 .2 .2")
    config = text(tmp_path / "config" / "blood.yaml", f"path: {root}\ntrain: images/train\nnames: [a]\n")
    _, records = read(config)
    assert len(records["x.png"].labels) == 1


@pytest.mark.parametrize(
    "content",
    [
        "names: [a\ntrain: x",
        "train: images\n",
        "names: [a]\nnc: many\ntrain: x\nnames: {x: a}",
        "a: &a [1]\nb: *a\nnames: [c]",
    ],
)
def test_broken_yaml_says_where(tmp_path: Path, content: str) -> None:
    image(tmp_path / "images" / "x.png")
    text(tmp_path / "data.yaml", content)
    with pytest.raises(InvalidDataError) as error:
        read(tmp_path, "yolo")
    assert "data.yaml" in str(error.value)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    raw = os.fsdecode(b"caf\xe9")
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    image(tmp_path / "images" / "x.png").rename(tmp_path / "images" / f"{raw}.png")
    text(tmp_path / "labels" / f"{raw}.txt", "0 .5 .5 .2 .2\n9 .5 .5 .2 .2")
    text(tmp_path / "classes.txt", b"caf\xe9\n")
    source, records = read(tmp_path)
    (record,) = records.values()
    assert [label.label for label in record.labels] == ["café"]
    assert record.problems[0].file == "labels/caf\\xe9.txt"
    record.problems[0].file.encode()
    assert any("Latin-1" in problem.what for problem in source.problems)


def test_nothing_there_and_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        open_source(tmp_path / "absent")
    text(tmp_path / "a.docx", "x")
    with pytest.raises(InvalidDataError) as error:
        open_source(tmp_path)
    assert "1 .docx in 1 folder" in str(error.value)
    assert "coco" in error.value.fix
    with pytest.raises(UsageError, match="did you mean 'yolo'"):
        open_source(tmp_path, "yoloo")


def test_two_formats_at_once(tmp_path: Path) -> None:
    ultralytics(tmp_path, "0 .5 .5 .2 .2")
    text(tmp_path / "all.json", '{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(InvalidDataError, match="more than one data format"):
        open_source(tmp_path)
    assert read(tmp_path, "yolo")[0].format == "yolo"


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    image(tmp_path / "real" / "a.png")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    source, records = read(tmp_path / "real")
    assert list(records) == ["a.png"]
    assert source.format == "images"
