"""Exports of real datasets, and what independent readers find in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.store.convert import fiftyone_label
from osv_lab.store.export import export
from osv_lab.store.formats import open_source
from osv_lab.store.formats.write import write_source
from osv_lab.store.geometry import rotated_corners
from osv_lab.store.records import FIELDS, Box, Keypoints, Label, OrientedBox, Polygon, Record

SIZE = (80, 60)


def image(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((SIZE[1], SIZE[0], 3), shade, np.uint8))
    return path


def examples() -> dict[str, Label]:
    mask = np.zeros((30, 40), bool)
    mask[5:25, 5:35] = True
    return {
        "box": Box("cat", (0.125, 0.25, 0.5, 0.5), attributes={"occluded": True}),
        "mask": Box("cat", (0.25, 0.25, 0.5, 0.5), mask=mask),
        "polygon": Polygon("cat", (((0.2, 0.2), (0.8, 0.25), (0.7, 0.9)),)),
        "oriented_box": OrientedBox("cat", rotated_corners(20, 20, 60, 40, 30, SIZE)),
        "keypoints": Keypoints("cat", ((0.2, 0.2), (0.4, 0.4), (0.3, 0.6)), (2, 1, 2), (0.1, 0.1, 0.5, 0.6)),
    }


@pytest.fixture
def dataset(fo, dataset_name, tmp_path):  # type: ignore[no-untyped-def]
    """Six images in three splits: boxes in the first four, an empty one, an unlabelled one."""
    made = fo.Dataset(dataset_name)
    made.default_classes = ["dog", "cat"]
    samples = []
    for k, split in enumerate(("train", "train", "val", "test", "train", None)):
        # Two share a name.
        path = image(tmp_path / "media" / f"{k}" / ("same.png" if k < 2 else f"{k}.png"), 40 * k)
        sample = fo.Sample(str(path), tags=[split] if split else [], labelled=k < 5)
        sample.metadata = fo.ImageMetadata(width=SIZE[0], height=SIZE[1])
        if k < 4:
            labels = [
                Box("cat", (0.1 * k + 0.05, 0.1, 0.4, 0.5)),
                Box("dog", (0.5, 0.25, 0.25, 0.5), confidence=0.5),
            ]
            sample["ground_truth"] = fiftyone_label(labels, "box")
        elif k == 4:
            sample["ground_truth"] = fo.Detections()
        samples.append(sample)
    made.add_samples(samples)
    return made


def test_yolo_is_what_ultralytics_reads(dataset, tmp_path) -> None:  # type: ignore[no-untyped-def]
    report = export(dataset, tmp_path / "detect", "yolo")
    assert report.format == "yolo-detect"
    assert report.images == {"train": 3, "val": 1, "test": 1, "": 1}
    assert report.labels == {"box": 8}
    assert report.losses == {"confidence": 4}
    assert report.classes == ("dog", "cat")
    tasks = {"detect": "detect"}
    for kind, task in (
        ("polygon", "segment"),
        ("mask", "segment"),
        ("keypoints", "pose"),
        ("oriented_box", "obb"),
    ):
        records = [
            Record(image(tmp_path / "media" / f"{split}.png"), [examples()[kind]], split=split, size=SIZE)
            for split in ("train", "val")
        ]
        write_source(records, tmp_path / kind, f"yolo-{task}")
        tasks[kind] = task
    found = ultralytics_labels(tmp_path, tasks)

    assert found["detect"]["names"] == {"0": "dog", "1": "cat"}
    files = found["detect"]["files"]
    assert files["images/train/same-2.png"] == pytest.approx([1, 0.35, 0.35, 0.4, 0.5, 0, 0.625, 0.5, 0.25, 0.5])
    assert sorted(files) == [
        "images/test/3.png", "images/train/4.png", "images/train/5.png", "images/train/same-2.png",
        "images/train/same.png", "images/val/2.png",
    ]  # fmt: skip
    expected = {
        "polygon": [0, 0.5, 0.55, 0.6, 0.7],
        # The mask is true from pixel 25 to 55 and 20 to 40.
        "mask": [0, 40 / 80, 30 / 60, 30 / 80, 20 / 60],
        "keypoints": [0, 0.35, 0.4, 0.5, 0.6],
    }
    for kind, row in expected.items():
        assert found[kind]["files"]["images/train/train.png"] == pytest.approx(row, abs=1e-6)
    for kind in tasks:
        assert len(found[kind]["files"]) == (6 if kind == "detect" else 2)


def ultralytics_labels(root: Path, tasks: dict[str, str]) -> dict:
    """What Ultralytics' own loader finds, in a process of its own: its settings and caches stay out of this one."""
    script = """
import json, os, sys
import osv_lab
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset
root, tasks = os.path.realpath(sys.argv[1]), json.loads(sys.argv[2])
answer = {}
for name, task in tasks.items():
    data = check_det_dataset(f"{root}/{name}/data.yaml", autodownload=False)
    files = {}
    for split in ("train", "val", "test"):
        if data.get(split):
            for label in YOLODataset(data[split], data=data, task=task, augment=False, imgsz=64).labels:
                rows = zip(label["cls"].reshape(-1).tolist(), label["bboxes"].tolist())
                files[label["im_file"].removeprefix(f"{root}/{name}/")] = [v for c, box in rows for v in (c, *box)]
    answer[name] = {"names": data["names"], "files": files}
print(json.dumps(answer))
"""
    command = [sys.executable, "-c", script, str(root), json.dumps(tasks)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, env=dict(os.environ))
    assert run.returncode == 0, run.stderr[-2000:]
    assert "corrupt image/label" not in run.stdout + run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_coco_is_what_pycocotools_reads(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    labels = examples()
    written_labels = [labels["box"], labels["mask"], labels["polygon"], labels["keypoints"]]
    record = Record(image(tmp_path / "x.png"), written_labels, split="val", size=SIZE)
    write_source([record], tmp_path / "out", "coco")
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_val.json"))
    found = coco.loadAnns(coco.getAnnIds())
    assert [a["bbox"] for a in found[:2]] == [[10, 15, 40, 30], [20, 15, 40, 30]]
    mask = coco.annToMask(found[1])
    assert mask.shape == (60, 80)
    assert mask[20:40, 25:55].all()
    assert mask.sum() == 600
    assert abs(int(coco.annToMask(found[2]).sum()) - found[2]["area"]) < 40
    assert found[3]["num_keypoints"] == 3
    assert coco.loadCats(found[3]["category_id"])[0]["keypoints"] == ["point 1", "point 2", "point 3"]


@pytest.mark.parametrize("format", ["yolo", "coco", "voc"])
def test_fiftyone_reads_it_back(dataset, fo, format, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """FiftyOne's own importers, where they exist, find the same boxes."""
    out = tmp_path / "out"
    labelled = dataset.match({"labelled": True})
    export(labelled, out, format)
    read: dict[str, list] = {}
    for split in ("train", "val", "test"):
        if format == "yolo":
            found = fo.Dataset.from_dir(
                dataset_type=fo.types.YOLOv5Dataset,
                yaml_path=str(out / "data.yaml"),
                split=split,
                label_field="found",
            )
        elif format == "coco":
            found = fo.Dataset.from_dir(
                dataset_type=fo.types.COCODetectionDataset, data_path=str(out / "images" / split), label_field="found",
                labels_path=str(out / "annotations" / f"instances_{split}.json"), label_types="detections",
            )  # fmt: skip
        else:
            if split != "train":
                continue
            found = fo.Dataset.from_dir(
                dataset_type=fo.types.VOCDetectionDataset, data_path=str(out / "JPEGImages"),
                labels_path=str(out / "Annotations"), label_field="found",
            )  # fmt: skip
        for sample in found:
            detections = sample["found"].detections if sample["found"] else []
            read[Path(sample.filepath).name] = [(d.label, *d.bounding_box) for d in detections]
        found.delete()
    # FiftyOne cuts VOC's coordinates to whole pixels.
    tolerance = 1.01 / min(SIZE) if format == "voc" else 1e-6
    assert len(read) == 5
    for name, sample in (("2.png", labelled.skip(2).first()), ("same-2.png", labelled.skip(1).first())):
        expected = [(d.label, *d.bounding_box) for d in sample["ground_truth"].detections]
        assert [row[0] for row in read[name]] == [row[0] for row in expected]
        np.testing.assert_allclose([r[1:] for r in read[name]], [r[1:] for r in expected], atol=tolerance)


def test_we_read_what_fiftyone_writes(dataset, fo, tmp_path) -> None:  # type: ignore[no-untyped-def]
    labelled = dataset.match({"labelled": True})
    for name, kind in (
        ("yolo", fo.types.YOLOv5Dataset),
        ("coco", fo.types.COCODetectionDataset),
        ("voc", fo.types.VOCDetectionDataset),
        ("cvat", fo.types.CVATImageDataset),
    ):
        labelled.export(
            str(tmp_path / name), dataset_type=kind, label_field="ground_truth", classes=["dog", "cat"]
        )
        source, records = open_source(tmp_path / name)
        assert source.format == name
        found = {record.path.stem: record for record in records}
        assert len(found) == 5
        assert sum(len(record.labels) for record in found.values()) == 8
        (cat,) = [label for label in found["2"].labels if label.label == "cat"]
        # Its VOC and CVAT files hold whole pixels.
        assert cat.xywh == pytest.approx(
            (0.25, 0.1, 0.4, 0.5), abs=1e-5 if name in ("yolo", "coco") else 1.01 / 60
        )
        assert not [problem for record in found.values() for problem in record.problems]


def test_report_names_everything_lost(dataset, fo, tmp_path) -> None:  # type: ignore[no-untyped-def]
    sample = dataset.first()
    for label in examples().values():
        if label.kind not in ("box", "mask"):
            sample[FIELDS[label.kind]] = fiftyone_label([label], label.kind)
    sample["ground_truth"].detections[0].index = 3
    sample["ground_truth"].detections[0]["occluded"] = True
    sample["ground_truth"].detections[1].mask = np.ones((3, 3), bool)
    sample["ground_truth_class"] = fo.Classification(label="night")
    sample.tags.append("odd")
    sample.save()
    report = export(dataset, tmp_path / "out", "yolo-detect")
    assert report.labels == {"box": 7, "mask": 1, "polygon": 1, "oriented_box": 1, "keypoints": 1}
    assert report.losses == {
        "confidence": 4,
        "track ids": 1,
        "attribute 'occluded'": 1,
        "tags": 1,
        "image classes": 1,
        "masks, written as their boxes": 1,
        "outlines, written as their boxes": 1,
        "rotation, written as the boxes around it": 1,
        "keypoints, written as the boxes around them": 1,
    }
    assert "not said" in report.summary()
    assert {row["what"] for row in report.rows()} == {"written", "cannot be said", "note"}
    json.dumps(report.to_dict())


def test_fields_and_classes_are_chosen(dataset, fo, tmp_path) -> None:  # type: ignore[no-untyped-def]
    sample = dataset.first()
    sample["predictions"] = fo.Detections(detections=[fo.Detection(label="eel", bounding_box=[0, 0, 1, 1])])
    sample.save()
    assert export(dataset, tmp_path / "a", "voc").fields == ("ground_truth",)
    assert export(dataset, tmp_path / "b", "voc", fields="predictions").labels == {"box": 1}
    only = export(dataset, tmp_path / "c", "coco", classes=["cat"])
    assert (only.labels, only.losses["labels of other classes"], only.classes) == ({"box": 4}, 4, ("cat",))
    with pytest.raises(NotFoundError, match="did you mean 'predictions'"):
        export(dataset, tmp_path / "d", "voc", fields=["predictons"])
    with pytest.raises(UsageError, match="did you mean 'coco'"):
        export(dataset, tmp_path / "d", "cocoo")
    with pytest.raises(InvalidDataError, match="nothing to export"):
        export(dataset.limit(0).view(), tmp_path / "d", "voc")
    assert not (tmp_path / "d").exists()


def test_an_export_is_whole_or_absent(tmp_path: Path) -> None:
    def records():  # type: ignore[no-untyped-def]
        yield Record(image(tmp_path / "x.png"), [examples()["box"]], split="train", size=SIZE)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_source(records(), tmp_path / "out", "coco")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_a_killed_export_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    path = image(tmp_path / "x.png")
    script = f"""
import os, signal
from pathlib import Path
from osv_lab.store.formats.write import write_source
from osv_lab.store.records import Record
def records():
    yield Record(Path({str(path)!r}), [], split="train", size={SIZE})
    os.kill(os.getpid(), signal.SIGKILL)
write_source(records(), {str(tmp_path / "out")!r}, "voc")
"""
    killed = subprocess.run([sys.executable, "-c", script], timeout=60)
    assert killed.returncode == -9
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.iterdir())) == 2
    write_source([Record(path, [], split="train", size=SIZE)], tmp_path / "out", "voc")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "x.png"]


def test_an_occupied_folder_is_left_alone(tmp_path: Path) -> None:
    record = Record(image(tmp_path / "x.png"), [], split="train", size=SIZE)
    mine = tmp_path / "out" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("dear")
    with pytest.raises(UsageError, match="not empty"):
        write_source([record], tmp_path / "out", "voc")
    assert mine.read_text() == "dear"
    write_source([record], tmp_path / "out", "voc", overwrite=True)
    assert not mine.exists()
    assert (tmp_path / "out" / "JPEGImages" / "x.png").exists()


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
def test_media_are_placed_as_asked(link, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = image(tmp_path / "x.png")
    write_source([Record(path, [], split="train", size=SIZE)], tmp_path / "out", "voc", link=link)
    placed = tmp_path / "out" / "JPEGImages" / "x.png"
    assert placed.is_symlink() == (link == "symlink")
    assert placed.samefile(path) == (link != "copy")
    assert placed.read_bytes() == path.read_bytes()


def test_a_jpeg_that_would_be_repaired_in_place_is_copied(tmp_path: Path) -> None:
    path = image(tmp_path / "x.jpg")
    path.write_bytes(path.read_bytes()[:-2])
    write_source([Record(path, [], split="train", size=SIZE)], tmp_path / "out", "yolo")
    assert not (tmp_path / "out" / "images" / "train" / "x.jpg").samefile(path)


def test_names_that_collide(tmp_path: Path) -> None:
    """Label files are named by stem, so a.jpg, A.png and another a.jpg need three names."""
    paths = [image(tmp_path / "1" / "a.jpg"), image(tmp_path / "2" / "a.jpg"), image(tmp_path / "3" / "A.png")]
    records = [
        Record(path, [Box("cat", (0.1 * k, 0.1, 0.3, 0.3))], split="val", size=SIZE)
        for k, path in enumerate(paths)
    ]
    write_source(records, tmp_path / "out", "yolo")
    again = {record.path.name: record.labels[0].xywh[0] for record in open_source(tmp_path / "out")[1]}
    assert again == pytest.approx({"a.jpg": 0.0, "a-2.jpg": 0.1, "A-3.png": 0.2})


def test_bad_records_cost_themselves_only(tmp_path: Path) -> None:
    good = Record(
        image(tmp_path / "x.png"), [examples()["box"], Box("cat", (0.1, 0.1, float("nan"), 0.2))], split="train"
    )
    gone = Record(tmp_path / "gone.png", [examples()["box"]], split="train")
    for format in ("yolo", "coco", "voc", "cvat-images"):
        _, written = write_source([gone, good], tmp_path / format, format)
        assert (written.images, written.labels) == ({"train": 1}, {"box": 1})
        assert sorted(problem.consequence for problem in written.problems) == ["file skipped", "label dropped"]


def test_odd_names_survive_xml(tmp_path: Path) -> None:
    path = image(tmp_path / 'a & <b> "c".png')
    record = Record(
        path, [Box("x\x01<&>", (0.1, 0.1, 0.2, 0.2), attributes={'k"<': "v>&"})], split="val", size=SIZE
    )
    for format in ("voc", "cvat-images"):
        write_source([record], tmp_path / format, format)
        (again,) = list(open_source(tmp_path / format)[1])
        assert again.path.name == path.name
        assert (again.labels[0].label, again.labels[0].attributes) == ("x?<&>", {'k"<': "v>&"})
