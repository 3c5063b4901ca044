"""An ingest that is killed at any moment is finished by the next run, with nothing doubled and nothing lost."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from osv_lab.core.settings import SEED
from osv_lab.store.ingest import ingest

IMAGES, BOXES = 120, 3

# Children of one process that has imported everything: FiftyOne alone takes ten seconds. None of them has a connection
# when it is forked.
SCRIPT = """
import os, signal, sys, time
from osv_lab.store import database, ingest_run
import fiftyone, fiftyone.core.odm, pymongo, PIL.Image, yaml
import osv_lab.store.ingest, osv_lab.store.formats, osv_lab.detect.images
source, together, dataset, *delays = sys.argv[1:]

ingest_run.BATCH = 8
children = []
for _ in range(2):
    children.append(os.fork())
    if children[-1] == 0:
        added = osv_lab.store.ingest.ingest(source, together, progress=lambda *step: time.sleep(0.01)).added
        os.write(1, f"ADDED {added}\\n".encode())
        os._exit(0)
if any(os.waitpid(child, 0)[1] for child in children):
    sys.exit("an ingest failed")

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


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO data set in which every image differs."""
    folder = tmp_path_factory.mktemp("kill") / "data"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    (folder / "data.yaml").write_text("train: images\nnames: [a, b, c]\n")
    for k in range(IMAGES):
        picture = np.random.default_rng(k).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"images/{k:04d}.jpg"), picture)
        rows = [f"{(k + j) % 3} 0.5 0.5 0.{j + 1} 0.{j + 1}" for j in range(BOXES)]
        (folder / f"labels/{k:04d}.txt").write_text("\n".join(rows))
    return folder


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


@pytest.fixture(scope="module")
def names(fo: Any) -> Iterator[tuple[str, str, str]]:
    """Datasets: of two ingests at once, of the killed one, of one left in peace."""
    found = tuple(f"test-kill-{uuid.uuid4().hex[:8]}" for _ in range(3))
    yield found[0], found[1], found[2]
    for name in found:
        if fo.dataset_exists(name):
            fo.delete_dataset(name)


@pytest.fixture(scope="module")
def lines(images: Path, names: tuple[str, str, str]) -> list[str]:
    """What the script says about two ingests at once and ten kills."""
    # Thirty pauses of 0.03 s: the first eight kills come before the end, the last two around it.
    chance = random.Random(SEED)
    delays = [f"{chance.uniform(0.05, 0.85):.3f}" for _ in range(8)] + ["0.95", "1.1"]
    command = [sys.executable, "-c", SCRIPT, str(images), names[0], names[1], *delays]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout.splitlines()


def test_kill_9_at_ten_random_moments(
    images: Path, fo: Any, names: tuple[str, str, str], lines: list[str]
) -> None:
    assert lines.count("KILLED") >= 8, lines

    ingest(images, names[1])
    dataset = fo.load_dataset(names[1])
    found = state(dataset)
    ingest(images, names[2])

    assert found == state(fo.load_dataset(names[2]))
    assert found["samples"] == found["distinct"] == IMAGES
    assert found["boxes"] == IMAGES * BOXES
    again = ingest(images, names[1])
    assert (again.added, again.updated) == (0, 0)
    assert state(dataset) == found


def test_two_ingests_at_the_same_time_do_not_double(
    fo: Any, names: tuple[str, str, str], lines: list[str]
) -> None:
    found = state(fo.load_dataset(names[0]))

    assert sum(int(line.split()[1]) for line in lines if line.startswith("ADDED")) == IMAGES, lines
    assert found["samples"] == found["distinct"] == IMAGES
    assert found["boxes"] == IMAGES * BOXES
    assert all(len(some) == 1 for some in found["splits"].values())
