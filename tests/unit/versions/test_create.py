"""What a version is: the same content has the same digest, and comes back as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from osv_lab.core.digests import file_digest
from osv_lab.core.errors import CheckFailedError, InvalidDataError, NotFoundError, UsageError
from osv_lab.store.snapshot import snapshot
from osv_lab.store.versions import (
    create_version,
    delete,
    export_version,
    find_version,
    list_versions,
    load_version,
    restore,
    verify,
)
from osv_lab.store.versions.objects import Objects

SCRIPT = """
import sys
from osv_lab.store.database import connect
from osv_lab.store.versions import create_version
print("DIGEST", create_version(connect().load_dataset(sys.argv[1])).digest)
"""


def labels_of(view: Any) -> dict[str, list[Any]]:
    """Boxes and classes per media digest, in an order of their own."""
    columns = ["content_digest", "ground_truth.detections.label", "ground_truth.detections.bounding_box", "tags"]
    rows = zip(*view.values(columns), strict=True)
    return {
        media: [sorted(zip(names or (), boxes or (), strict=True)), sorted(tags)]
        for media, names, boxes, tags in rows
    }


def test_the_digest_is_that_of_the_content(
    fo: Any, make: Callable[..., Any], tmp_path: Path, source: Path
) -> None:
    dataset = make()
    version = create_version(dataset)
    assert version.ref == f"{dataset.name}@v1"
    assert version.samples == len(dataset) and version.labels == dataset.count("ground_truth.detections")
    assert version.classes == dataset.count_values("ground_truth.detections.label")
    assert snapshot(dataset).digest == version.digest

    # Another order of samples and labels, other ids, tags and file names.
    other = fo.Dataset(f"{dataset.name}-other")
    samples = []
    for number, sample in enumerate(reversed(list(dataset))):
        link = tmp_path / f"other-{number}{Path(sample.filepath).suffix}"
        link.symlink_to(sample.filepath)
        copy = fo.Sample(str(link), tags=["seen", *sample.tags], labelled=sample.labelled)
        found = (
            [label.copy() for label in reversed(sample.ground_truth.detections)] if sample.ground_truth else None
        )
        copy["ground_truth"] = None if found is None else fo.Detections(detections=found)
        samples.append(copy)
    other.add_samples(samples)
    assert create_version(other).digest == version.digest

    # Another process and another lab.
    environment = {**os.environ, "OSV_HOME": str(tmp_path / "elsewhere")}
    dataset.persistent = True
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, dataset.name], env=environment, capture_output=True, text=True, check=True
    )
    assert f"DIGEST {version.digest}" in answer.stdout

    sample = dataset.match(fo.ViewField("ground_truth.detections").length() > 0).first()
    sample.ground_truth.detections[0].bounding_box[0] += 1e-9
    sample.save()
    assert create_version(dataset).digest != version.digest


def test_a_later_version_shares_the_shards_of_an_earlier_one(make: Callable[..., Any]) -> None:
    dataset = make()
    first = create_version(dataset)
    objects = Objects()
    before = set(objects.every())
    sample = dataset.first()
    sample.tags = ["hard"]
    sample.save()
    second = create_version(dataset)
    shards = [
        {oid for path, oid in objects.tree(version.tree).items() if path.endswith(".tar")}
        for version in (first, second)
    ]
    assert shards[0] == shards[1] and shards[0] <= before
    assert verify(first).problems == verify(second).problems == ()


def test_a_version_outlives_its_dataset(fo: Any, make: Callable[..., Any]) -> None:
    dataset = make()
    name, known = dataset.name, labels_of(dataset)
    names = set(dataset.values("filepath"))
    version = create_version(dataset)
    with pytest.raises(UsageError, match="exists already"):
        restore(version)
    dataset.delete()
    again = restore(f"{name}@v1")
    assert labels_of(again) == known
    assert {Path(path).name for path in again.values("filepath")} == {Path(path).name for path in names}
    assert [file_digest(path) for path in again.values("filepath")] == again.values("content_digest")
    assert again.persistent and snapshot(again).digest == version.digest
    again.delete_samples([again.first().id])
    assert len(restore(version, overwrite=True)) == len(known)


def test_views_and_fresh_datasets(fo: Any, small: Any) -> None:
    version = create_version(small)
    view = load_version(version)
    assert (view.dataset_name, len(view)) == (version.ref, 12)
    assert labels_of(load_version(version)) == labels_of(small)
    fresh = load_version(version, f"{small.name}-fresh")
    sample = fresh.match(fo.ViewField("ground_truth.detections").length() > 0).first()
    sample.ground_truth.detections = []
    sample.save()
    assert load_version(version).count("ground_truth.detections") == version.labels
    copy = fo.load_dataset(version.ref)
    copy.delete_samples([copy.first().id])
    with pytest.raises(CheckFailedError, match="not what it was"):
        load_version(version)


def test_every_kind_of_label_comes_back(fo: Any, home: Path, source: Path, make: Callable[..., Any]) -> None:
    import numpy as np

    path = make().first().filepath
    dataset = fo.Dataset(f"kinds-{home.parent.name}")
    dataset.skeletons["points"] = fo.KeypointSkeleton(labels=["left_eye", "right_eye"], edges=[[0, 1]])
    mask = np.random.default_rng(51).random((30, 20)) > 0.5
    sample = fo.Sample(
        path,
        boxes=fo.Detections(
            detections=[
                fo.Detection(label="a", bounding_box=[0.1, 0.2, 0.25, 0.5], mask=mask, index=3, occluded=True),
                fo.Detection(label="ü", bounding_box=[0, 0, 1, 1], confidence=0.1 + 0.2),
            ]
        ),
        outlines=fo.Polylines(
            polylines=[
                fo.Polyline(label="p", points=[[(0.1, 0.1), (0.9, 0.1), (0.5, 0.9)]], closed=True, filled=True),
                fo.Polyline(label="line", points=[[(0.1, 0.1), (0.9, 0.1)]], closed=False, filled=False),
            ]
        ),
        points=fo.Keypoints(
            keypoints=[fo.Keypoint(label="k", points=[(0.5, 0.25), (float("nan"), float("nan"))])]
        ),
        scene=fo.Classification(label="day"),
        empty=fo.Polylines(polylines=[]),
        patient="seven",
    )
    dataset.add_sample(sample)
    version = create_version(dataset, fields=["boxes", "outlines", "points", "scene", "empty"])
    found = load_version(version).first()
    for field in ("boxes", "outlines", "points", "scene", "empty"):
        assert type(found[field]) is type(sample[field])
    box = next(box for box in found.boxes.detections if box.label == "a")
    assert np.array_equal(box.mask, mask) and (box.index, box.occluded) == (3, True)
    other = next(box for box in found.boxes.detections if box.label == "ü")
    assert other.confidence == 0.1 + 0.2
    assert {line.label: (line.closed, line.filled) for line in found.outlines.polylines} == {
        "p": (True, True),
        "line": (False, False),
    }
    assert found.points.keypoints[0].points[0] == [0.5, 0.25]
    assert np.isnan(found.points.keypoints[0].points[1]).all()
    assert (found.scene.label, found.empty.polylines, found.patient) == ("day", [], "seven")
    copy = fo.load_dataset(version.ref)
    assert copy.skeletons["points"].labels == ["left_eye", "right_eye"]


def test_splits_keep_groups_together(fo: Any, make: Callable[..., Any]) -> None:
    dataset = make()
    dataset.set_values("patient", [f"p{number % 13}" for number in range(len(dataset))])
    version = create_version(dataset, splits=(0.7, 0.2, 0.1), group_by="patient")
    assert sum(version.splits.values()) == len(dataset)
    view = load_version(version)
    where = defaultdict(set)
    for patient, tags in zip(*view.values(["patient", "tags"]), strict=True):
        where[patient].add(tags[0])
    assert len(where) == 13 and all(len(splits) == 1 for splits in where.values())
    assert {split for splits in where.values() for split in splits} == {"train", "val", "test"}
    again = create_version(dataset.sort_by("filepath", reverse=True), splits=(0.7, 0.2, 0.1), group_by="patient")
    assert again.digest == version.digest
    assert create_version(dataset, splits=(0.7, 0.2, 0.1), group_by="patient", seed=7).digest != version.digest
    with pytest.raises(InvalidDataError, match="in more than one split"):
        create_version(dataset, group_by="patient")
    with pytest.raises(NotFoundError, match="did you mean 'patient'"):
        create_version(dataset, group_by="patent")


def test_names_and_deletion(small: Any) -> None:
    assert [create_version(small).name, create_version(small, "final").name, create_version(small).name] == [
        "v1", "final", "v2",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="exists already"):
        create_version(small, "final")
    with pytest.raises(UsageError, match="not a version name"):
        create_version(small, "../v9")
    deleted = delete(f"{small.name}@v1")
    assert verify(f"{small.name}@v2").problems == ()
    with pytest.raises(NotFoundError, match="did you mean"):
        find_version(deleted.ref)
    for version in list_versions(small.name).versions:
        delete(version)
    assert list(Objects().every()) == [] and list_versions(small.name).versions == ()


def test_media_that_are_missing_or_changed(
    fo: Any, make: Callable[..., Any], tmp_path: Path, source: Path
) -> None:
    from PIL import Image

    for number in range(3):
        (tmp_path / "own").mkdir(exist_ok=True)
        Image.new("RGB", (32, 24), (number * 50, 0, 0)).save(tmp_path / f"own/{number}.png")
    dataset = make(folder=tmp_path / "own")
    (tmp_path / "own/1.png").unlink()
    with pytest.raises(InvalidDataError, match=r"1\.png"):
        create_version(dataset, fields=[])
    Image.new("RGB", (32, 24), (9, 9, 9)).save(tmp_path / "own/1.png")
    with pytest.raises(InvalidDataError, match=r"not what it was when it was ingested: .*1\.png"):
        create_version(dataset, fields=[])
    assert list_versions(dataset.name).versions == ()


def test_export_and_what_a_report_says(small: Any, tmp_path: Path) -> None:
    version = create_version(small)
    report = export_version(version, tmp_path / "coco", "coco")
    assert sum(report.images.values()) == 12 and sum(report.labels.values()) == version.labels
    assert json.dumps(version.to_dict()) and version._repr_html_() and version.ref in version.summary()
    assert list_versions(small.name).to_frame()["version"].tolist() == [version.ref]


def test_damage_is_named(small: Any) -> None:
    version = create_version(small)
    objects = Objects()
    shard = next(oid for path, oid in objects.tree(version.tree).items() if path.endswith(".tar"))
    file = objects.path(shard)
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    report = verify(version)
    assert report.exit_code == 6 and any("shards/00000.tar is damaged" in problem for problem in report.problems)
    with pytest.raises(CheckFailedError, match=shard[2:]):
        load_version(version)
