"""How long the track inspector takes to answer, and an edit to be done, at 300 tracks in 1,200 frames. Goal: a second.

An answer is all that the App's server does for one event: the panel's method, its page, and the JSON for the browser.
CPU is that of the process; the database's comes on top.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.app.__main__ import GOAL_S, answer, own_lab

PANEL = "@osv/tracks/track_inspector"


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.app_tracks", description=__doc__)
    parser.add_argument("--tracks", type=int, default=300)
    parser.add_argument("--frames", type=int, default=1200)
    args = parser.parse_args()
    with own_lab():
        from osv_lab.evaluate.track_timeline import track_timeline
        from osv_lab.store.track_edits import TrackEditor

        dataset, boxes = make("bench-tracks", args.tracks, args.frames)
        events = track_timeline(dataset.first()).kinds()
        print(
            f"{args.tracks} tracks, {args.frames:,} frames, {boxes:,} boxes; events: {events}; goal {GOAL_S:g} s"
        )
        answer(PANEL, dataset.name, "on_load", {})
        told = "track:1:300"
        for method, event in (
            ("on_load", {}),
            ("on_page", {"page": 3}),
            ("on_point", {"id": told}),
            ("on_load", {}),
        ):
            begin = time.process_time()
            one = answer(PANEL, dataset.name, method, {}, **event)
            line(f"panel {method}", one.took_s, time.process_time() - begin, f"{one.size / 1024:.0f} KiB")
        editor = TrackEditor(dataset.first())
        timed("timeline", lambda: track_timeline(dataset.first()))
        edits: dict[str, Callable[[], Any]] = {
            "swap": lambda: editor.swap(5, 6, args.frames // 2),
            "merge, dropping": lambda: editor.merge(1, 2, overlapping="drop"),
            "undo": editor.undo,
            "delete": lambda: editor.delete(9),
            "undo of it": editor.undo,
        }
        for name, edit in edits.items():
            timed(name, edit)


def make(name: str, tracks: int, frames: int) -> tuple[Any, int]:
    """A video of random walks with gaps, jumps and switches, searched for suspicious events; and its boxes."""
    from osv_lab.evaluate.suspicious import suspicious
    from osv_lab.store.database import connect
    from osv_lab.store.tracks import write_tracks
    from osv_lab.track.tracks import Tracks

    fo = connect()
    dataset = fo.Dataset(name)
    metadata = fo.VideoMetadata(frame_width=1920, frame_height=1080, frame_rate=25.0, total_frame_count=frames)
    dataset.add_sample(fo.Sample(filepath="/nowhere/bench.mp4", metadata=metadata))
    chance = np.random.default_rng(51)
    parts = []
    for identity in range(1, tracks + 1):
        first = int(chance.integers(1, frames // 2))
        number = np.arange(first, min(frames, first + int(chance.integers(frames // 12, 3 * frames // 4))) + 1)
        number = number[chance.random(len(number)) > 0.01]
        path = chance.uniform(100, 900, 2) + np.cumsum(chance.normal(0, 2, (len(number), 2)), axis=0)
        path[len(path) // 2 :] += 300 * (identity % 5 == 0)
        parts.append(Tracks(number, np.full(len(number), identity), np.hstack((path, path + 60))))
    every = Tracks.concatenate(parts)
    write_tracks(dataset.first(), every, class_names={0: "car"})
    suspicious(dataset)
    return dataset, len(every)


def timed(name: str, work: Callable[[], Any]) -> None:
    begin, cpu = time.perf_counter(), time.process_time()
    work()
    line(name, time.perf_counter() - begin, time.process_time() - cpu)


def line(name: str, took: float, cpu: float, more: str = "") -> None:
    told = "" if took < GOAL_S else "  over the goal"
    print(f"  {name:20} {took * 1000:7.0f} ms, CPU {cpu * 1000:6.0f} ms  {more}{told}", flush=True)


if __name__ == "__main__":
    main()
