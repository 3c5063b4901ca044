"""A create, push, delete or erasure killed at any moment leaves the store as it was, or done, and never between."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

IMAGES = 40

# Children of one process that has imported everything, none of which has a connection when it is forked. A child kills
# itself just before or just after the n-th time that it moves, removes, packs or sends a file.
SCRIPT = """
import os, pathlib, signal, sys
from osv_lab.store import database, versions
import fiftyone, fiftyone.core.odm, pymongo, yaml, osv_lab.store.ingest
from dvc.repo import Repo
from osv_lab.store.versions import places, shards
dataset, remote, victim, *moments = sys.argv[1:]
shards.SHARD_BYTES = 20_000
left = 0

def watched(owner, name, after):
    original = getattr(owner, name)
    def run(*args, **options):
        global left
        left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        done = original(*args, **options)
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    setattr(owner, name, run)

def work(what):
    loaded = lambda: database.connect().load_dataset(dataset)
    if what == "create":
        versions.create_version(loaded(), "new")
    elif what == "push":
        versions.push(f"{dataset}@v1", remote)
    elif what == "delete":
        versions.delete(f"{dataset}@v2")
    else:
        versions.erase([victim])

for moment in moments:
    what, number = moment.split(":")
    child = os.fork()
    if child == 0:
        left = int(number)
        for owner, name in (
            (pathlib.Path, "replace"), (pathlib.Path, "unlink"), (shards.Packer, "_append"), (places.Remote, "write"),
            (places.Remote, "remove"),
        ):
            watched(owner, name, after=left % 2)
        work(what)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    ended = "KILLED" if os.WIFSIGNALED(status) else "FINISHED" if status == 0 else "FAILED"
    print(ended, what, flush=True)
    input()
"""


@pytest.fixture
def dataset(fo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Images that all differ, in a lab of their own."""
    import cv2

    from osv_lab.store.ingest import ingest

    monkeypatch.setenv("OSV_HOME", str(tmp_path / "home"))
    (tmp_path / "images").mkdir()
    for number in range(IMAGES):
        noise = np.random.default_rng(number).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"images/{number:03d}.png"), noise)
    before, name = set(fo.list_datasets()), f"test-kill-{uuid.uuid4().hex[:8]}"
    ingest(tmp_path / "images", name)
    yield fo.load_dataset(name)
    for found in set(fo.list_datasets()) - before:
        fo.delete_dataset(found)


def state(ref: str) -> tuple[str, int] | None:
    """A version that is there must be whole; ``None`` where there is none."""
    from osv_lab.core.errors import NotFoundError
    from osv_lab.store.versions import find_version, verify

    try:
        found = find_version(ref)
    except NotFoundError:
        return None
    report = verify(found)
    assert report.problems == () and report.samples == found.samples, (ref, report.problems)
    return found.digest, found.samples


def test_sigkill_at_many_moments(dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from osv_lab.store.versions import create_version, delete, erase, list_remote, pull, push, shards, verify
    from osv_lab.store.versions.objects import Objects

    monkeypatch.setattr(shards, "SHARD_BYTES", 20_000)
    name, remote = dataset.name, str(tmp_path / "remote")
    victim = dataset.first().content_digest
    first = create_version(dataset.limit(IMAGES // 2))
    second = create_version(dataset.skip(5).limit(20))
    whole = state(f"{name}@v1")
    moments = [
        f"{what}:{number}"
        for what, numbers in (
            ("create", (1, 2, 9, 16, 21, 23, 400)),
            ("push", (1, 2, 3, 4, 5, 400)),
            ("delete", (1, 2, 5, 400)),
            ("erase", (1, 2, 3, 5, 9, 14, 20, 400)),
        )
        for number in numbers
    ]
    command = [sys.executable, "-c", SCRIPT, name, remote, victim, *moments]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert run.stdin is not None and run.stdout is not None
    ended = []
    for moment in moments:
        line = run.stdout.readline().split()
        assert line and line[0] in ("KILLED", "FINISHED"), (moment, line)
        ended.append(line[0])
        what = moment.split(":")[0]
        now = {ref: state(f"{name}@{ref}") for ref in ("v1", "v2", "new")}
        if what == "create":
            assert (now["v1"], now["v2"] is not None) == (whole, True)
            if now["new"] is not None:
                assert now["new"][1] == IMAGES
                delete(f"{name}@new")
        elif what == "push":
            # What the remote names can be pulled whole on another machine.
            for version in list_remote(remote).versions:
                with monkeypatch.context() as other:
                    other.setenv("OSV_HOME", str(tmp_path / uuid.uuid4().hex))
                    assert verify(pull(version.ref, remote)).problems == () and version.digest == first.digest
        elif what == "delete":
            assert now["v1"] == whole
            if now["v2"] is None:
                create_version(dataset.skip(5).limit(20), "v2")
            assert state(f"{name}@v2") == (second.digest, second.samples)
        else:
            assert now["v1"] is not None and now["v1"][1] in (IMAGES // 2, IMAGES // 2 - 1)
        run.stdin.write("\n")
        run.stdin.flush()
    assert run.wait(timeout=60) == 0
    # Numbers beyond the last operation let it finish.
    assert ended.count("KILLED") >= 16, dict(zip(moments, ended, strict=True))

    # Whatever was begun is finished by doing it again, and nothing is left over.
    push(f"{name}@v1", remote)
    erase([victim])
    assert (state(f"{name}@v1") or ("", 0))[1] == IMAGES // 2 - 1
    assert not any(victim.encode() in path.read_bytes() for path in Path(remote).rglob("*") if path.is_file())
    delete(f"{name}@v1")
    delete(f"{name}@v2")
    assert list(Objects().every()) == []
