"""An ingest that is killed at any moment is finished by the next run, with nothing doubled and nothing lost."""

from __future__ import annotations

import random
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

# Children of one process that has imported everything: FiftyOne alone takes ten seconds. None of them has a connection
# when it is forked.
IMPORTS = """
import os, signal, sys, time
from osv_lab.store import database, ingest_run
import fiftyone, fiftyone.core.odm, pymongo, PIL.Image, yaml
import osv_lab.store.ingest, osv_lab.store.formats, osv_lab.detect.images
source, dataset, *delays = sys.argv[1:]
"""
KILLS = (
    IMPORTS
    + """
ingest_run.BATCH = 4
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
)
TWO = (
    IMPORTS
    + """
ingest_run.BATCH = 8
children = []
for _ in range(2):
    children.append(os.fork())
    if children[-1] == 0:
        added = osv_lab.store.ingest.ingest(source, dataset, progress=lambda *step: time.sleep(0.01)).added
        os.write(1, f"{added}\\n".encode())
        os._exit(0)
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""
)


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


def run(script: str, *arguments: str) -> list[str]:
    """The words that a script prints."""
    command = [sys.executable, "-c", script, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout.split()


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
    # Thirty pauses of 0.03 s: the first eight kills come before the end, the last two around it.
    chance = random.Random(SEED)
    delays = [f"{chance.uniform(0.05, 0.85):.3f}" for _ in range(8)] + ["0.95", "1.1"]
    words = run(KILLS, str(images), dataset_name, *delays)
    assert words.count("KILLED") >= 8, words

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
    added = [int(word) for word in run(TWO, str(images), dataset_name)]
    found = state(fo.load_dataset(dataset_name))

    assert sum(added) == IMAGES, added
    assert found["samples"] == found["distinct"] == IMAGES
    assert found["boxes"] == IMAGES * BOXES
    assert all(len(some) == 1 for some in found["splits"].values())
