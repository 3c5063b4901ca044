"""Pascal VOC and CVAT XML, sound and hostile."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.formats import open_source
from osv_lab.store.records import Box, ImageClass, Keypoints, OrientedBox, Polygon, Record, Source

BOMB = """<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>"""


def image(path: Path, size: tuple[int, int] = (100, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((size[1], size[0], 3), np.uint8))
    return path


def read(root: Path) -> tuple[Source, dict[str, Record]]:
    source, records = open_source(root)
    return source, {record.path.name: record for record in records}


def voc_object(box: str = "10 5 30 15", name: str = "cat", extra: str = "") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=False)
    corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def voc(
    root: Path, body: str, size: str = "<size><width>100</width><height>50</height></size>", head: str = ""
) -> Record:
    image(root / "x.png")
    (root / "x.xml").write_text(f"<annotation>{head}<filename>wrong.jpg</filename>{size}{body}</annotation>")
    return read(root)[1]["x.png"]


def test_voc_attributes(tmp_path: Path) -> None:
    extra = "<difficult>1</difficult><truncated>0</truncated><pose>Left</pose>"
    extra += "<attributes><attribute><name>colour</name><value>red</value></attribute></attributes>"
    record = voc(tmp_path, voc_object(extra=extra))
    (label,) = record.labels
    assert label.xywh == pytest.approx((0.1, 0.1, 0.2, 0.2))
    assert label.attributes == {"difficult": True, "pose": "Left", "colour": "red"}


def test_voc_counts_pixels_from_one_where_the_challenge_does(tmp_path: Path) -> None:
    head = "<source><database>The VOC2007 Database</database></source>"
    record = voc(tmp_path, voc_object("1 1 100 50"), head=head)
    assert record.labels[0].xywh == (0, 0, 1, 1)
    assert not record.problems
    source, _ = read(tmp_path)
    assert source.info["pixel_convention"] == "from 1, ends included"


@pytest.mark.parametrize(
    ("box", "what", "kept"),
    [
        ("30 15 10 5", "swapped", True),
        ("10 5 10 5", "without area", False),
        ("10 5 130 15", "was cut", True),
        ("200 5 230 15", "outside the image", False),
        ("nan 5 30 15", "not a finite", False),
        ("ten 5 30 15", "not a number", False),
        ("10 5 30", "not a number: None", False),
        ("1e400 5 30 15", "not a finite", False),
    ],
)
def test_voc_bad_boxes(tmp_path: Path, box: str, what: str, kept: bool) -> None:
    record = voc(tmp_path, voc_object(box) + voc_object("50 5 60 15"))
    assert len(record.labels) == 1 + kept
    (problem,) = record.problems
    assert what in problem.what
    assert (problem.file, problem.where) == ("x.xml", "object 1")


def test_voc_size_is_taken_from_the_image(tmp_path: Path) -> None:
    record = voc(tmp_path, voc_object(), size="<size><width>0</width><height>0</height></size>")
    assert record.labels[0].xywh == pytest.approx((0.1, 0.1, 0.2, 0.2))
    assert "100x50" in record.problems[0].what


def test_voc_repeated_object_and_no_name(tmp_path: Path) -> None:
    record = voc(tmp_path, voc_object() + voc_object() + voc_object(name="") + "<object><name>a</name></object>")
    assert len(record.labels) == 1
    assert [problem.where for problem in record.problems] == ["object 2", "object 3", "object 4"]


@pytest.mark.parametrize(
    "content", [BOMB + "<annotation><name>&b;</name></annotation>", "<annotation><size>", "<annotation>\xff"]
)
def test_voc_broken_or_hostile_file(tmp_path: Path, content: str) -> None:
    image(tmp_path / "x.png")
    image(tmp_path / "y.png")
    (tmp_path / "x.xml").write_text(content, encoding="latin-1")
    (tmp_path / "y.xml").write_text(
        f"<annotation><size><width>9</width><height>9</height></size>{voc_object('1 1 5 5')}</annotation>"
    )
    _, records = read(tmp_path)
    assert not records["x.png"].labelled
    assert records["x.png"].problems[0].consequence == "file broken"
    assert len(records["y.png"].labels) == 1


def test_voc_sets(tmp_path: Path) -> None:
    body = f"<annotation><size><width>100</width><height>50</height></size>{voc_object()}</annotation>"
    for stem in ("a", "b", "c"):
        image(tmp_path / "JPEGImages" / f"{stem}.jpg")
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(body)
    (tmp_path / "Annotations" / "orphan.xml").write_text(body)
    sets = tmp_path / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("a\n")
    (sets / "val.txt").write_text("b\na\n")
    (sets / "trainval.txt").write_text("a\nb\n")
    (sets / "test.txt").write_text("c\ngone\n")
    (sets / "cat_train.txt").write_text("a 1\nc -1\n")
    source, records = read(tmp_path)
    assert {name: record.split for name, record in records.items()} == {
        "a.jpg": "train",
        "b.jpg": "val",
        "c.jpg": "test",
    }
    assert sorted(problem.what for problem in source.problems) == [
        "a is also in train", "annotation without its image", "image 'gone' of the list is missing"
    ]  # fmt: skip


def cvat(root: Path, body: str, name: str = "x.png") -> Record:
    image(root / "images" / "x.png")
    (root / "annotations.xml").write_text(
        f'<annotations><image id="0" name="{name}" width="100" height="50">{body}</image></annotations>'
    )
    return read(root)[1]["x.png"]


def test_cvat_shapes(tmp_path: Path) -> None:
    record = cvat(
        tmp_path,
        '<box label="a" xtl="10" ytl="5" xbr="30" ybr="15" occluded="1" z_order="2">'
        '<attribute name="n">3</attribute></box>'
        '<box label="a" xtl="10" ytl="5" xbr="30" ybr="15" rotation="90.0"/>'
        '<polygon label="b" points="0,0;10,0;10,10"/>'
        '<polyline label="b" points="0,0;10,0"/>'
        '<points label="c" points="1,1;2,2"/>'
        '<mask label="d" rle="1, 2, 1" left="4" top="4" width="2" height="2"/>'
        '<tag label="night"/>'
        '<skeleton label="hand"><points label="tip" points="5,5" outside="0" occluded="1"/>'
        '<points label="wrist" points="0,0" outside="1" occluded="0"/></skeleton>'
        '<ellipse label="e" cx="1" cy="1" rx="1" ry="1"/>',
    )
    kinds = [type(label) for label in record.labels]
    assert kinds == [Box, OrientedBox, Polygon, Polygon, Keypoints, Box, ImageClass, Keypoints]
    box, turned, _, line, _, mask, _, hand = record.labels
    assert box.attributes == {"occluded": True, "z_order": 2, "n": 3}
    assert turned.corners[0] == pytest.approx((0.25, 0.0))
    assert not line.closed
    assert mask.mask.tolist() == [[False, True], [True, False]]
    assert hand.visible == (1, 0)
    (problem,) = record.problems
    assert "ellipse of 'e' has no counterpart" in problem.what
    source, _ = read(tmp_path)
    assert source.skeletons == {"hand": ("tip", "wrist")}


@pytest.mark.parametrize(
    "shape",
    [
        '<box label="a" xtl="x" ytl="5" xbr="30" ybr="15"/>',
        '<box label="a" xtl="10" ytl="5" xbr="10" ybr="15"/>',
        '<box xtl="10" ytl="5" xbr="30" ybr="15"/>',
        '<polygon label="a" points="1,2;3"/>',
        '<polygon label="a" points="1,2;3,4"/>',
        '<mask label="a" rle="1,2" left="4" top="4" width="2" height="2"/>',
        '<mask label="a" rle="0,4" left="99" top="4" width="2" height="2"/>',
        '<mask label="a" rle="0,4" left="1" top="4" width="99999999" height="99999999"/>',
        '<skeleton label="a"/>',
    ],
)
def test_cvat_bad_shapes(tmp_path: Path, shape: str) -> None:
    record = cvat(tmp_path, shape + '<tag label="kept"/>')
    assert [label.label for label in record.labels] == ["kept"]
    assert record.problems[0].where.startswith("image 0, ")


def test_cvat_image_that_leaves_the_folder(tmp_path: Path) -> None:
    cvat(tmp_path, "")
    with_escape = (tmp_path / "annotations.xml").read_text().replace("x.png", "../../etc/passwd")
    (tmp_path / "annotations.xml").write_text(with_escape)
    source, records = read(tmp_path)
    assert "leaves the data set" in source.problems[0].what
    assert not records["x.png"].labelled


@pytest.mark.parametrize("content", [BOMB + "<annotations>&b;</annotations>", "<annotations><image"])
def test_cvat_broken_file_is_the_source_s_end(tmp_path: Path, content: str) -> None:
    image(tmp_path / "x.png")
    (tmp_path / "annotations.xml").write_text(content)
    with pytest.raises(InvalidDataError, match=r"annotations\.xml"):
        open_source(tmp_path)


def track(label: str, number: int, *boxes: tuple[int, float, int]) -> str:
    shapes = "".join(
        f'<box frame="{frame}" keyframe="1" outside="{outside}" xtl="{x}" ytl="10" xbr="{x + 10}" ybr="20"/>'
        for frame, x, outside in boxes
    )
    return f'<track id="{number}" label="{label}">{shapes}</track>'


def video_xml(*tracks: str) -> str:
    meta = "<meta><task><original_size><width>100</width><height>50</height></original_size></task></meta>"
    return f"<annotations><version>1.1</version>{meta}{''.join(tracks)}</annotations>"


def test_cvat_tracks_between_key_frames(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"not looked into")
    (tmp_path / "annotations.xml").write_text(
        video_xml(track("car", 3, (0, 10, 0), (4, 50, 0), (5, 50, 1), (8, 60, 0)), track("van", 4, (2, 0, 0)))
    )
    source, records = read(tmp_path)
    assert source.classes == ("car", "van")
    frames = records["clip.mp4"].frames
    assert frames is not None
    cars = {f: label.xywh[0] for f, labels in frames.items() for label in labels if label.label == "car"}
    assert cars == pytest.approx({1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4, 5: 0.5, 9: 0.6})
    assert {label.index for label in frames[3]} == {3, 4}


def test_cvat_tracks_over_frame_images(tmp_path: Path) -> None:
    for frame in range(3):
        image(tmp_path / "images" / f"frame_{frame:06d}.png")
    (tmp_path / "annotations.xml").write_text(video_xml(track("car", 0, (0, 10, 0), (5, 60, 0))))
    source, records = read(tmp_path)
    assert [len(record.labels) for record in records.values()] == [1, 1, 1]
    assert records["frame_000002.png"].labels[0].xywh[0] == pytest.approx(0.3)
    assert records["frame_000002.png"].fields["frame_number"] == 3
    assert Counter(problem.consequence for problem in source.problems) == {"file skipped": 3}


def test_cvat_tracks_without_media(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text(video_xml(track("car", 0, (0, 10, 0))))
    source, records = read(tmp_path)
    assert not records
    assert "the video or its frames are missing (1 tracks)" in source.problems[0].what
