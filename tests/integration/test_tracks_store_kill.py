"""Tracking that is killed or stopped continues, and leaves nothing doubled."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from support import ROOT
from tracks_store_scenes import Blocks, content

from osv_lab.core.errors import InterruptedJobError
from osv_lab.store.tracks import track

# Children of one process that has imported everything. Only writing is slowed down, so that kills fall into it.
SCRIPT = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from tracks_store_scenes import Blocks
from osv_lab.store import bulk_tracks, database, tracks
import fiftyone, fiftyone.core.odm, pymongo, cv2
name, *delays = sys.argv[2:]
bulk_tracks.FRAME_BATCH = 4
write = bulk_tracks.Writer.set_frame_labels
def slow(*args):
    time.sleep(0.02)
    write(*args)
bulk_tracks.Writer.set_frame_labels = slow
for delay in delays:
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        dataset = database.connect().load_dataset(name)
        os.write(tell, b".")
        tracks.track(dataset, Blocks("new"), "bytetrack")
        os._exit(0)
    os.read(ready, 1)
    time.sleep(float(delay))
    os.kill(child, signal.SIGKILL)
    print("KILLED" if os.WIFSIGNALED(os.waitpid(child, 0)[1]) else "FINISHED", flush=True)
"""


def test_kill_9_while_tracking_and_writing(fo: Any, videos: Any) -> None:
    track(videos, Blocks("old"))
    old = content(videos)
    delays = [f"{0.1 * k:.2f}" for k in range(1, 9)]
    command = [sys.executable, "-c", SCRIPT, str(ROOT / "tests"), videos.name, *delays]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert answer.stdout.splitlines().count("KILLED") >= 3, answer.stdout

    report = track(videos, Blocks("new"), "bytetrack")
    assert len(report.clips) + report.kept == 3 and not report.problems
    videos.reload()
    found = content(videos)
    assert len(found) == len({row[:3] for row in found}) == 3 * 30 * 3, "nothing doubled, nothing lost"
    assert videos.distinct("frames.tracks.made_by") == [report.made_by]
    assert videos.count("frames") == 90
    assert [row[:2] for row in found] == [row[:2] for row in old]


def test_a_run_that_is_stopped_continues(videos: Any) -> None:
    def stop(label: str, done: int, total: int | None) -> None:
        assert total == 90
        if done == 40:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedJobError, match="run the same again"):
        track(videos, Blocks(), progress=stop)
    report = track(videos, Blocks())
    assert (report.kept, len(report.clips)) == (1, 2)
