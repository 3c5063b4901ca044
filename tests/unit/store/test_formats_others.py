"""Folders, CSV, MOTChallenge, and the real data where it is there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import shared_data

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.formats import open_source
from osv_lab.store.records import Record, Source


def image(path: Path, size: tuple[int, int] = (100, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((size[1], size[0], 3), np.uint8))
    return path


def read(root: Path) -> tuple[Source, dict[str, Record]]:
    source, records = open_source(root)
    return source, {record.path.name: record for record in records}


def test_plain_images(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a.jpg")
    image(tmp_path / "b.png")
    source, records = read(tmp_path)
    assert source.format == "images"
    assert {name: (r.split, r.labelled) for name, r in records.items()} == {
        "a.jpg": ("train", False),
        "b.png": (None, False),
    }


def test_one_image(tmp_path: Path) -> None:
    image(tmp_path / "b.png")
    path = image(tmp_path / "a.jpg")
    assert list(read(path)[1]) == ["a.jpg"]


@pytest.mark.parametrize("split", ["", "train"])
def test_class_folders(tmp_path: Path, split: str) -> None:
    image(tmp_path / split / "cats" / "a.jpg")
    image(tmp_path / split / "dogs" / "b.jpg")
    (tmp_path / split / "empty").mkdir()
    source, records = read(tmp_path)
    assert (source.format, source.classes) == ("classes", ("cats", "dogs", "empty"))
    assert {name: (r.labels[0].label, r.split) for name, r in records.items()} == {
        "a.jpg": ("cats", split or None),
        "b.jpg": ("dogs", split or None),
    }
    assert source.problems[0].what == "class folder without an image"


def test_images_and_videos_are_two_things(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    (tmp_path / "b.mp4").write_bytes(b"")
    with pytest.raises(InvalidDataError, match="more than one data format"):
        open_source(tmp_path)
    (tmp_path / "a.jpg").unlink()
    source, records = read(tmp_path)
    assert source.format == "videos"
    assert records["b.mp4"].frames == {}


TABLES = {
    "tensorflow": "filename,width,height,class,xmin,ymin,xmax,ymax\nx.png,100,50,cat,10,5,30,15\n",
    "relative": "image_path,label,x_min,y_min,x_max,y_max\nx.png,cat,0.1,0.1,0.3,0.3\n",
    "sides": "file_name;x;y;w;h;label\nx.png;10;5;20;10;cat\n",
    "centre": "image\tcx\tcy\tw\th\tclass_name\nx.png\t0.2\t0.2\t0.2\t0.2\tcat\n",
    "open images": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\nx,a,cat,1,0.1,0.3,0.1,0.3\n",
    "retinanet": "x.png,10,5,30,15,cat\n",
    "mark and quotes": '\ufefffilename,class,xmin,ymin,xmax,ymax\n"x.png","cat",10,5,30,15\n',
}


@pytest.mark.parametrize("name", list(TABLES))
def test_tables_of_boxes(tmp_path: Path, name: str) -> None:
    image(tmp_path / "x.png")
    (tmp_path / "boxes.csv").write_text(TABLES[name], encoding="utf-8")
    source, records = read(tmp_path)
    assert (source.format, source.classes) == ("csv", ("cat",))
    (label,) = records["x.png"].labels
    assert label.xywh == pytest.approx((0.1, 0.1, 0.2, 0.2))
    assert source.info["coordinates"] == (
        "relative" if "0.1" in TABLES[name] or "0.2" in TABLES[name] else "pixels"
    )
    assert not source.problems
    assert not records["x.png"].problems


def test_a_bad_row_costs_itself_only(tmp_path: Path) -> None:
    image(tmp_path / "x.png")
    image(tmp_path / "y.png")
    rows = [
        "filename,class,xmin,ymin,xmax,ymax,colour,confidence",
        "x.png,cat,10,5,30,15,red,0.5",
        "x.png,cat,30,5,10,15,,",
        "x.png,cat,10,5,10,15,,",
        "x.png,cat,ten,5,10,15,,",
        "x.png,,10,5,30,15,,",
        "x.png,cat,10,5,30,15,red,0.5",
        "gone.png,cat,10,5,30,15,,",
        "../../x.png,cat,10,5,30,15,,",
        ",cat,10,5,30,15,,",
        "y.png,,,,,,,",
        "x.png,cat,1",
    ]
    (tmp_path / "train_labels.csv").write_text("\n".join(rows))
    source, records = read(tmp_path)
    labels = records["x.png"].labels
    assert len(labels) == 2
    assert (labels[0].attributes, labels[0].confidence) == ({"colour": "red"}, 0.5)
    assert [problem.where for problem in records["x.png"].problems] == [f"line {k}" for k in (3, 4, 5, 6, 7, 12)]
    assert [problem.where for problem in source.problems] == ["line 10", "line 8", "line 9"]
    assert (records["y.png"].labelled, records["y.png"].labels, records["y.png"].split) == (True, [], "train")


def mot(root: Path, rows: str, frames: int = 3) -> Path:
    for frame in range(1, frames + 1):
        image(root / "img1" / f"{frame:06d}.jpg")
    (root / "gt").mkdir(parents=True)
    (root / "gt" / "gt.txt").write_text(rows)
    (root / "seqinfo.ini").write_text("[Sequence]\nname=S-01\nimDir=img1\nseqLength=3\nimWidth=100\nimHeight=50\n")
    return root


def test_mot_sequence(tmp_path: Path) -> None:
    rows = ["1,7,10,5,20,10,1,1,0.5", "2,7,-5,5,20,10,0,3,1"]
    rows += ["3,7,x,5,20,10", "3,8,1,1,0,4,1", "3,9,1,1,4", "0,9,1,1,4,4", "2,7,1,1,4,4", "9,1,1,1,4,4"]
    source, records = read(mot(tmp_path / "train" / "S-01", "\n".join(rows)))
    assert source.format == "mot"
    first = records["000001.jpg"]
    assert first.labels[0].xywh == pytest.approx((0.1, 0.1, 0.2, 0.2))
    assert (first.labels[0].label, first.labels[0].index) == ("pedestrian", 7)
    assert first.labels[0].attributes == {"visibility": 0.5}
    assert first.fields == {"sequence": "S-01", "frame_number": 1}
    second = records["000002.jpg"].labels[0]
    assert (second.label, second.attributes["ignored"], second.xywh[0]) == ("car", True, -0.05)
    assert [problem.where for problem in source.problems] == [
        "line 3",
        "line 4",
        "line 5",
        "line 6",
        "line 7",
        "S-01",
    ]


def test_mot_without_frames_says_so(tmp_path: Path) -> None:
    source, records = read(mot(tmp_path, "1,7,10,5,20,10,1,1,1\n", frames=0))
    assert not records
    (problem,) = source.problems
    assert "no img1/ folder with frames and no video; its 1 boxes have no image" in problem.what


def test_mot_over_a_video(tmp_path: Path) -> None:
    root = mot(tmp_path / "S", "2,7,10,5,20,10,1,1,1\n", frames=0)
    (root / "S.mp4").write_bytes(b"")
    _, records = read(root)
    frames = records["S.mp4"].frames
    assert frames is not None
    assert [label.index for label in frames[2]] == [7]


def test_every_object_of_a_real_set_is_accounted_for(tmp_path: Path) -> None:
    """BCCD: 364 images, 4,888 objects, two of them without area. A clone without it has a set with the same flaws."""
    data = shared_data()
    root, images, objects, flawed = tmp_path, 3, 12, ["Annotations/b1.xml object 2"]
    if data is not None:
        root, images, objects = data / "bccd" / "BCCD", 364, 4888
        flawed = ["Annotations/BloodImage_00338.xml object 13", "Annotations/BloodImage_00343.xml object 4"]
    else:
        for k in range(3):
            image(tmp_path / "JPEGImages" / f"b{k}.jpg")
            boxes = [(5, 5, 5, 5) if k == 1 and n == 1 else (n, 1, n + 9, 9) for n in range(4)]
            body = "".join(
                f"<object><name>RBC</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
                "</bndbox></object>"
                for a, b, c, d in boxes
            )
            path = tmp_path / "Annotations" / f"b{k}.xml"
            path.parent.mkdir(exist_ok=True)
            size = "<size><width>100</width><height>50</height></size>"
            path.write_text(f"<annotation>{size}{body}</annotation>")
    source, records = read(root)
    assert len(records) == images
    problems = [problem for record in records.values() for problem in record.problems]
    kept = sum(len(record.labels) for record in records.values())
    assert kept + sum(problem.consequence == "label dropped" for problem in problems) == objects
    assert sorted(f"{problem.file} {problem.where}" for problem in problems) == flawed
    assert not source.problems
    if data is not None:
        assert Counter(record.split for record in records.values()) == {"train": 205, "val": 87, "test": 72}


def test_real_sequences_without_frames(tmp_path: Path) -> None:
    data = shared_data()
    if data is None:
        for name in "ABCD":
            mot(tmp_path / name, "1,7,10,5,20,10,1,1,1\n", frames=0)
    source, records = read(tmp_path if data is None else data / "mot17")
    assert not records
    assert len(source.problems) == 4
    assert all("no img1/ folder" in problem.what for problem in source.problems)
