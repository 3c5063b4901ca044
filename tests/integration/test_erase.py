"""Erased samples are nowhere in the lab any more; an erasure killed at any moment is finished by the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from osv_lab.core.errors import UsageError

# A child that kills itself just before the n-th file it removes, moves or dataset it takes samples from.
SCRIPT = """
import os, pathlib, signal, sys
from osv_lab.store import erase as module
from osv_lab.store.database import connect
fo = connect()
dataset, victim, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
view, left = fo.load_dataset(dataset).select(victim), number

def watched(owner, name):
    original = getattr(owner, name)
    def run(*args, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **options)
    setattr(owner, name, run)

watched(pathlib.Path, "unlink"); watched(pathlib.Path, "replace"); watched(fo.Dataset, "delete_samples")
module.erase(view)
"""


def holding(folders: list[Path], needle: bytes) -> list[Path]:
    """Files that hold some bytes."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in files if needle in path.read_bytes()]


@pytest.fixture
def lab(fo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """Two datasets with one photo in common, a version on a remote, a training run and a captured image of it."""
    from osv_lab.serve.observe import Observation
    from osv_lab.serve.spool import Captured, Spool
    from osv_lab.store.export import export
    from osv_lab.store.ingest import ingest
    from osv_lab.store.versions import create_version, push

    home = tmp_path / "home"
    monkeypatch.setenv("OSV_HOME", str(home))
    (home / "media" / "photos").mkdir(parents=True)
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        cv2.imwrite(str(home / f"media/photos/{number}.png"), noise)
    before, name = set(fo.list_datasets()), f"test-erase-{uuid.uuid4().hex[:8]}"
    ingest(home / "media" / "photos", name)
    dataset = fo.load_dataset(name)
    dataset.persistent = True
    victim = dataset.sort_by("filepath").first()
    for sample in dataset:
        sample["ground_truth"] = fo.Detections(
            detections=[fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.5, 0.5])]
        )
        sample.save()
    other = fo.Dataset(f"{name}-other", persistent=True)
    (home / "elsewhere").mkdir()
    copy = home / "elsewhere" / "renamed.png"
    copy.write_bytes(Path(victim.filepath).read_bytes())
    other.add_sample(fo.Sample(str(copy), content_digest=victim.content_digest))
    push(create_version(dataset), str(tmp_path / "remote"))
    run = home / "runs" / "one"
    export(dataset, run / "data", "yolo", ["ground_truth"])
    (run / "run.json").write_text(json.dumps({"run_id": "abc123"}))
    (run / "validation").mkdir()
    (run / "validation" / "val_batch0_pred.jpg").write_bytes(b"a mosaic")
    logged = home / "mlartifacts" / "x" / "abc123" / "artifacts" / "validation"
    logged.mkdir(parents=True)
    (logged / "val_batch0_pred.jpg").write_bytes(b"a mosaic")
    (home / "access.log").write_text(f"kept\n200 {victim.content_digest}\nkept too\n")
    seen = Observation(model="m", width=50, height=40, brightness=0.5)
    spool = Spool(home / "captures")
    spool.make()
    spool.put(Captured(victim.content_digest, ".png", 1.0, {"r": "why"}, seen), copy.read_bytes())
    yield dataset, victim
    for found in set(fo.list_datasets()) - before:
        fo.delete_dataset(found)


def nowhere(tmp_path: Path, victim: Any, photo: bytes) -> None:
    folders = [tmp_path / "home", tmp_path / "remote"]
    assert not holding(folders, photo[-2000:]) and not holding(folders, victim.content_digest.encode())
    assert not list((tmp_path / "home").rglob("val_batch0_pred.jpg"))


def test_nothing_of_it_is_left_and_the_rest_is(lab: tuple[Any, Any], fo: Any, tmp_path: Path) -> None:
    from osv_lab.store.erase import erase, unfinished
    from osv_lab.store.versions import list_versions, verify

    dataset, victim = lab
    photo = Path(victim.filepath).read_bytes()
    labels = len(list((tmp_path / "home/runs").rglob("labels/**/*.txt")))
    looked = erase(dataset.select(victim.id), dry_run=True)
    assert not looked.done and looked.exit_code == 0 and Path(victim.filepath).is_file() and len(dataset) == 6
    assert all(one.before == one.after for one in looked.places)
    report = erase(dataset.select(victim.id))
    assert report.done and report.exit_code == 0 and not report.outside and not unfinished()
    assert {one.place: one.after for one in report.places if one.after} == {}
    found = {one.place.split(" '")[0]: one.before for one in report.places}
    assert found["pictures of training runs"] == 2 and found["texts that name them"] >= 1
    nowhere(tmp_path, victim, photo)
    dataset.reload()
    assert len(dataset) == 5 and len(fo.load_dataset(f"{dataset.name}-other")) == 0
    assert (tmp_path / "home/access.log").read_text() == "kept\nkept too\n"
    assert len(list((tmp_path / "home/runs").rglob("labels/**/*.txt"))) == labels - 1
    assert [version.samples for version in list_versions(dataset.name).versions] == [5]
    assert verify(f"{dataset.name}@v1").problems == ()
    with pytest.raises(UsageError, match="nothing to erase"):
        erase()


def test_files_outside_the_lab_are_named_unless_asked_for(lab: tuple[Any, Any], tmp_path: Path, fo: Any) -> None:
    from osv_lab.store.erase import erase

    dataset, _ = lab
    owned = tmp_path / "photos"
    owned.mkdir()
    path = owned / "mine.png"
    cv2.imwrite(str(path), np.full((30, 30, 3), 7, np.uint8))
    for outside in (False, True):
        sample = fo.Sample(str(path))
        dataset.add_sample(sample)
        report = erase(dataset.select(sample.id), outside=outside)
        assert path.exists() != outside
        assert (report.outside, report.exit_code) == ((), 0) if outside else ((str(path),), 6)


@pytest.mark.parametrize("moment", [1, 4, 12, 20])
def test_killed_and_repeated(lab: tuple[Any, Any], tmp_path: Path, moment: int) -> None:
    from osv_lab.store.erase import erase, unfinished

    dataset, victim = lab
    photo = Path(victim.filepath).read_bytes()
    command = [sys.executable, "-c", SCRIPT, dataset.name, victim.id, str(moment)]
    ended = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    dataset.reload()
    if unfinished():
        assert erase().exit_code == 0
    else:
        assert victim.id in dataset and Path(victim.filepath).is_file()
        erase(dataset.select(victim.id))
    nowhere(tmp_path, victim, photo)
    dataset.reload()
    assert len(dataset) == 5 and not unfinished()
