"""Ingest: identity, duplicates, splits, media types, reports that add up."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support import shared_data

from osv_lab.core.errors import (
    InterruptedJobError,
    InvalidDataError,
    NotFoundError,
    UsageError,
)
from osv_lab.store.ingest import ingest
from osv_lab.store.ingest_report import IngestReport


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8))


def yolo(folder: Path, count: int = 10, first: int = 0) -> Path:
    """A YOLO data set of ``count`` images with two boxes each and no splits."""
    for k in range(first, first + count):
        picture(folder / f"images/{k:03d}.jpg", k)
        label = folder / f"labels/{k:03d}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text(f"{k % 2} 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.1 0.1\n")
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder


def video(path: Path, frames: int = 6, seed: int = 0, codec: str = "mp4v") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, (64, 48))
    for k in range(frames):
        writer.write(np.random.default_rng(seed * 100 + k).integers(0, 255, (48, 64, 3), dtype=np.uint8))
    writer.release()


def adds_up(report: IngestReport, dataset: Any) -> None:
    labels = report.labels
    assert labels["read"] == labels["kept"] + labels["dropped"] + labels["skipped"] + labels["broken"]
    assert len(report.files) == report.added + report.updated + report.skipped + report.broken
    assert report.samples == len(dataset)


def test_a_folder_becomes_a_persistent_dataset_with_everything_in_it(
    tmp_path: Path, fo: Any, dataset_name: str
) -> None:
    report = ingest(yolo(tmp_path), dataset_name, tags=["first"])
    dataset = fo.load_dataset(dataset_name)

    adds_up(report, dataset)
    assert dataset.persistent and dataset.media_type == "image"
    assert (report.added, report.labels["kept"], dataset.count("ground_truth.detections")) == (10, 20, 20)
    assert dataset.default_classes == ["cat", "dog"]
    assert dataset.count_sample_tags() == {"first": 10, "train": 8, "val": 1, "test": 1}
    assert report.splits_made and report.splits == {"train": 8, "val": 1, "test": 1}
    sample = dataset.first()
    assert (sample.metadata.width, sample.metadata.height, sample.metadata.mime_type) == (32, 24, "image/jpeg")
    assert len(sample.content_digest) == 64 and sample.labelled
    assert dataset.info["sources"] == [{"format": "yolo", "root": str(tmp_path)}]
    assert "10 added" in report.summary() and "20 labels read: 20 kept" in report.summary()
    assert len(report.rows()) == 10 and "<table" in report._repr_html_()
    assert report.to_dict()["counts"] == {"added": 10, "updated": 0, "skipped": 0, "broken": 0}


def test_a_second_run_adds_nothing_and_a_renamed_copy_is_recognised(
    tmp_path: Path, fo: Any, dataset_name: str
) -> None:
    ingest(yolo(tmp_path / "a"), dataset_name)
    second = ingest(tmp_path / "a", dataset_name)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b/images/003.jpg").rename(tmp_path / "b/images/renamed.jpg")
    (tmp_path / "b/labels/003.txt").rename(tmp_path / "b/labels/renamed.txt")
    third = ingest(tmp_path / "b", dataset_name)
    dataset = fo.load_dataset(dataset_name)

    assert {line.why for line in second.files} == {"already in the dataset"}
    assert (third.added, third.skipped, len(dataset)) == (0, 10, 10)
    [line] = [line for line in third.files if line.file == "images/renamed.jpg"]
    assert line.why == f"already in the dataset as {tmp_path}/a/images/003.jpg"
    adds_up(third, dataset)


def test_a_file_that_was_moved_is_found_again(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    ingest(yolo(tmp_path / "a"), dataset_name)
    (tmp_path / "a").rename(tmp_path / "b")
    report = ingest(tmp_path / "b", dataset_name)
    dataset = fo.load_dataset(dataset_name)

    assert (report.updated, len(dataset)) == (10, 10)
    assert report.files[0].why == f"moved here from {tmp_path}/a/images/000.jpg"
    assert all(Path(path).is_file() for path in dataset.values("filepath"))


def test_other_labels_are_named_and_taken_when_asked(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    ingest(yolo(tmp_path), dataset_name)
    (tmp_path / "labels/002.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    kept = ingest(tmp_path, dataset_name)
    before = fo.load_dataset(dataset_name).count("ground_truth.detections")
    taken = ingest(tmp_path, dataset_name, on_duplicate="update")
    dataset = fo.load_dataset(dataset_name)

    [line] = [line for line in kept.files if "other labels" in line.why]
    assert (line.file, before) == ("images/002.jpg", 20)
    assert (taken.updated, taken.skipped, len(dataset)) == (1, 9, 10)
    assert dataset.count("ground_truth.detections") == 19
    adds_up(taken, dataset)


def test_an_unlabelled_source_does_not_wipe_labels(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    ingest(yolo(tmp_path / "a"), dataset_name)
    shutil.copytree(tmp_path / "a/images", tmp_path / "plain")
    report = ingest(tmp_path / "plain", dataset_name, on_duplicate="update")

    assert report.updated == 0
    assert fo.load_dataset(dataset_name).count("ground_truth.detections") == 20


def test_duplicates_can_be_an_error_with_nothing_added(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    yolo(tmp_path)
    shutil.copy(tmp_path / "images/001.jpg", tmp_path / "images/copy.jpg")
    with pytest.raises(InvalidDataError, match=r"1 files are duplicates: images/copy\.jpg \(same content as"):
        ingest(tmp_path, dataset_name, on_duplicate="error")
    assert not fo.dataset_exists(dataset_name)

    (tmp_path / "images/copy.jpg").unlink()
    ingest(tmp_path, dataset_name, on_duplicate="error")
    yolo(tmp_path, 1, first=50)
    with pytest.raises(InvalidDataError, match="10 files are duplicates"):
        ingest(tmp_path, dataset_name, on_duplicate="error")
    assert len(fo.load_dataset(dataset_name)) == 10


def test_splits_stay_when_more_data_comes(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    ingest(yolo(tmp_path, 20), dataset_name)
    dataset = fo.load_dataset(dataset_name)
    before = dict(zip(dataset.values("content_digest"), dataset.values("tags"), strict=True))
    ingest(yolo(tmp_path, 80, first=20), dataset_name)
    dataset.reload()
    after = dict(zip(dataset.values("content_digest"), dataset.values("tags"), strict=True))

    assert {digest: after[digest] for digest in before} == before
    assert Counter(tag for tags in after.values() for tag in tags) == {"train": 80, "val": 10, "test": 10}


def test_splits_are_given_by_name_by_ratio_or_not_at_all(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    yolo(tmp_path)
    for split, expected in (
        ("val", {"val": 10}),
        ((0.5, 0.5), {"train": 5, "val": 5}),
        ({"train": 6, "test": 4}, {"train": 6, "test": 4}),
        ("none", {}),
    ):
        report = ingest(tmp_path, dataset_name, split=split)  # type: ignore[arg-type]
        assert report.splits == expected
        assert fo.load_dataset(dataset_name).count_sample_tags() == expected
        fo.delete_dataset(dataset_name)


def test_splits_of_the_source_are_kept(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    for k, split in enumerate(["train", "train", "val", "test"]):
        picture(tmp_path / split / f"{k}.jpg", k)
    report = ingest(tmp_path, dataset_name)

    assert report.splits == {"train": 2, "val": 1, "test": 1} and not report.splits_made
    assert ingest(tmp_path, dataset_name, split=(1, 1)).splits == {"train": 2, "val": 1, "test": 1}


def test_samples_added_through_fiftyone_are_recognised(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    yolo(tmp_path)
    dataset = fo.Dataset(dataset_name)
    dataset.add_sample(fo.Sample(filepath=str(tmp_path / "images/004.jpg"), tags=["mine"]))
    report = ingest(tmp_path, dataset, on_duplicate="update")

    assert (report.added, report.updated, len(dataset)) == (9, 1, 10)
    mine = dataset.match_tags("mine").first()
    assert len(mine.ground_truth.detections) == 2 and mine.labelled


def test_a_zip_is_a_source_twice_is_once(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    yolo(tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in sorted((tmp_path / "data").rglob("*.*")):
            archive.write(path, str(path.relative_to(tmp_path)))
        archive.writestr("../escape.jpg", b"x")
    first = ingest(tmp_path / "data.zip", dataset_name)
    second = ingest(tmp_path / "data.zip", dataset_name)

    assert (first.added, second.added, second.skipped) == (10, 0, 10)
    assert [problem.what for problem in first.problems] == ["its name leads out of the archive's folder"]
    assert all(Path(path).is_file() for path in fo.load_dataset(dataset_name).values("filepath"))
    assert not (tmp_path / "escape.jpg").exists()


def test_videos_are_probed_and_what_a_browser_cannot_play_is_said(
    tmp_path: Path, fo: Any, dataset_name: str
) -> None:
    video(tmp_path / "a.mp4", seed=1)
    video(tmp_path / "b.mp4", seed=2)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:3000])
    (tmp_path / "playlist.mp4").write_text("#EXTM3U\nhttp://127.0.0.1:9/a.ts\n")
    report = ingest(tmp_path, dataset_name)
    dataset = fo.load_dataset(dataset_name)
    lines = {line.file: line for line in report.files}

    assert dataset.media_type == "video"
    assert (lines["a.mp4"].outcome, lines["cut.mp4"].outcome) == ("added", "broken")
    assert "browsers do not play it (mp4v" in lines["a.mp4"].why.lower() or "fmp4" in lines["a.mp4"].why.lower()
    assert lines["playlist.mp4"].outcome == "broken" and "not a video" in lines["playlist.mp4"].why
    metadata = dataset.first().metadata
    assert (metadata.frame_width, metadata.frame_height, metadata.total_frame_count) == (64, 48, 6)
    assert metadata.frame_rate == pytest.approx(10)
    adds_up(report, dataset)


def test_a_dataset_has_one_media_type(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    ingest(yolo(tmp_path / "images"), dataset_name)
    video(tmp_path / "videos/a.mp4")
    report = ingest(tmp_path / "videos", dataset_name)

    [line] = report.files
    assert line.outcome == "skipped"
    assert line.why.endswith(f"'{dataset_name}' holds images: ingest videos into a dataset of their own")
    assert len(fo.load_dataset(dataset_name)) == 10


def test_nothing_usable_leaves_an_empty_dataset_and_a_report(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    for k in range(3):
        (tmp_path / f"{k}.jpg").write_bytes(b"")
    report = ingest(tmp_path, dataset_name)

    assert (report.added, report.broken, report.samples) == (0, 3, 0)


def test_stopping_says_how_to_continue(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    def stop(label: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(InterruptedJobError, match="run the same again"):
        ingest(yolo(tmp_path), dataset_name, progress=stop)
    report = ingest(tmp_path, dataset_name)

    assert report.samples == 10 and report.splits == {"train": 8, "val": 1, "test": 1}


def test_arguments_are_checked_before_anything_is_done(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    yolo(tmp_path)
    with pytest.raises(NotFoundError, match="no such file or folder"):
        ingest(tmp_path / "nowhere", dataset_name)
    with pytest.raises(UsageError, match="did you mean 'train'"):
        ingest(tmp_path, dataset_name, split="trian")
    with pytest.raises(UsageError, match="did you mean 'skip'"):
        ingest(tmp_path, dataset_name, on_duplicate="skipp")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="tags must be a list"):
        ingest(tmp_path, dataset_name, tags="mine")
    with pytest.raises(UsageError, match="did you mean 'yolo'"):
        ingest(tmp_path, dataset_name, format="yolov")
    assert not fo.dataset_exists(dataset_name)


def test_flaws_of_a_voc_set_are_named_one_by_one(tmp_path: Path, fo: Any, dataset_name: str) -> None:
    """On BCCD where it is, whose two flaws are boxes without area; else on a set with the same flaw."""
    data = shared_data()
    source = data / "bccd" / "BCCD" if data else voc(tmp_path / "voc")
    files, read, flaws = (
        (364, 4888, {"00338": "object 13", "00343": "object 4"}) if data else (6, 12, {"3": "object 2"})
    )
    report = ingest(source, dataset_name)
    dataset = fo.load_dataset(dataset_name)

    adds_up(report, dataset)
    assert (len(report.files), report.added, report.labels["read"]) == (files, files, read)
    assert report.labels["kept"] == dataset.count("ground_truth.detections") == read - len(flaws)
    assert {Path(p.file).stem.split("_")[-1]: p.where for p in report.problems} == flaws
    assert sum(report.splits.values()) == files and not report.splits_made


def voc(folder: Path) -> Path:
    """Six images of two boxes each in Pascal VOC, one box without area, with lists of the splits."""
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for k in range(6):
        picture(folder / f"JPEGImages/{k}.jpg", k)
        corners = ["<xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax>"] * 2
        corners[1] = corners[1].replace("9", "2" if k == 3 else "20")
        objects = "".join(f"<object><name>a</name><bndbox>{some}</bndbox></object>" for some in corners)
        size = "<size><width>32</width><height>24</height><depth>3</depth></size>"
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / f"Annotations/{k}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        lists[["train", "val", "test"][k % 3]].append(str(k))
    (folder / "ImageSets/Main").mkdir(parents=True)
    for name, stems in lists.items():
        (folder / f"ImageSets/Main/{name}.txt").write_text("\n".join(stems))
    return folder
