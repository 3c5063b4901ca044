"""An ingest that is killed at any moment is finished by the next run, with nothing doubled and nothing lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from osv_lab.core.settings import SEED
from osv_lab.store.ingest import ingest
from osv_lab.store.records import FIELDS

IMAGES, BOXES = 120, 3

# A small batch and a pause per batch stretch the ingest, so that kills land in all of its phases. READY says that the
# database is up and the clock may start.
SCRIPT = """
import sys, time
from osv_lab.store import ingest_run
from osv_lab.store.database import connect
connect()
ingest_run.BATCH = 8
def pause(label, done, total):
    time.sleep(0.01)
print("READY", flush=True)
for line in sys.stdin:
    source, dataset = line.split()
    from osv_lab.store.ingest import ingest
    print("DONE", ingest(source, dataset, progress=pause).added, flush=True)
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A YOLO data set in which every image differs."""
    folder = tmp_path / "data"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    (folder / "data.yaml").write_text("train: images\nnames: [a, b, c]\n")
    for k in range(IMAGES):
        picture = np.random.default_rng(k).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"images/{k:04d}.jpg"), picture)
        rows = [f"{(k + j) % 3} 0.5 0.5 0.{j + 1} 0.{j + 1}" for j in range(BOXES)]
        (folder / f"labels/{k:04d}.txt").write_text("\n".join(rows))
    return folder


def started() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "READY"
    return process


def state(dataset: Any) -> dict[str, Any]:
    digests = dataset.values("content_digest")
    return {
        "samples": len(dataset),
        "distinct": len(set(digests)),
        "boxes": dataset.count("ground_truth.detections"),
        "classes": dataset.count_values("ground_truth.detections.label"),
        "splits": {
            digest: [tag for tag in tags if tag in ("train", "val", "test")]
            for digest, tags in zip(digests, dataset.values("tags"), strict=True)
        },
        "default_classes": dataset.default_classes,
    }


def test_kill_9_at_ten_random_moments(images: Path, fo: Any, dataset_name: str) -> None:
    """One process forks a child per kill, so that FiftyOne is imported once."""
    script = """
import os, signal, sys, time
from osv_lab.store import database, ingest_run
import fiftyone, fiftyone.core.odm, pymongo, PIL.Image, yaml
import osv_lab.store.ingest, osv_lab.store.formats, osv_lab.detect.images
ingest_run.BATCH = 4
source, dataset, *delays = sys.argv[1:]
for delay in delays:
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        database.connect()
        os.write(tell, b".")
        osv_lab.store.ingest.ingest(source, dataset, progress=lambda *step: time.sleep(0.03))
        os._exit(0)
    os.read(ready, 1)
    time.sleep(float(delay))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print("KILLED" if os.WIFSIGNALED(status) else "FINISHED", flush=True)
"""
    # Thirty pauses of 0.03 s: the first eight kills come before the end, the last two around it.
    chance = random.Random(SEED)
    delays = [f"{chance.uniform(0.05, 0.85):.3f}" for _ in range(8)] + ["0.95", "1.1"]
    answer = subprocess.run(
        [sys.executable, "-c", script, str(images), dataset_name, *delays],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert answer.stdout.split().count("KILLED") >= 8, answer.stdout

    ingest(images, dataset_name)
    dataset = fo.load_dataset(dataset_name)
    found = state(dataset)
    clean = f"{dataset_name}-clean"
    try:
        ingest(images, clean)
        assert found == state(fo.load_dataset(clean))
    finally:
        if fo.dataset_exists(clean):
            fo.delete_dataset(clean)
    assert found["samples"] == found["distinct"] == IMAGES
    assert found["boxes"] == IMAGES * BOXES
    again = ingest(images, dataset_name)
    assert (again.added, again.updated) == (0, 0)
    assert state(dataset) == found
    assert dataset.get_field(FIELDS["box"]) is not None


def test_two_ingests_at_the_same_time_do_not_double(images: Path, fo: Any, dataset_name: str) -> None:
    processes = [started() for _ in range(2)]
    try:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{images} {dataset_name}\n")
            process.stdin.flush()
        added = []
        for process in processes:
            assert process.stdout is not None
            added.append(int(process.stdout.readline().split()[1]))
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
    found = state(fo.load_dataset(dataset_name))

    assert sum(added) == IMAGES, added
    assert found["samples"] == found["distinct"] == IMAGES
    assert found["boxes"] == IMAGES * BOXES
    assert all(len(some) == 1 for some in found["splits"].values())
