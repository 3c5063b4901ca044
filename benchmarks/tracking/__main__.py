"""Trackers side by side: ``python -m benchmarks.tracking [--peer NAME=PYTHON ...] [--compiled] [--rounds N]
[--objects 10 50 200 1000] [--only bytetrack botsort+motion ...]``.

Each peer runs in an environment of its own (``--peer roboflow=/envs/trackers/bin/python``), on the same detections in
the same run; the packages take turns, and the CPU time of ``update`` alone counts. ``--compiled`` adds our compiled
update (it needs Numba). ``+motion``: the same camera motion is given to everyone. DeepSORT's embeddings are one random
vector per true identity, seen with noise, the same for both sides. Accuracy is on the second halves of
the MOT17 sequences in ``OSV_SHARED_DATA``, else on generated scenes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from track_scenes import detector_view, mot17, walk

from osv_lab.track.boxes import iou_matrix
from osv_lab.track.bytetrack import ByteTrack
from osv_lab.track.metrics import evaluate_sequences
from osv_lab.track.tracks import Tracks

TRACKERS = {
    "ours": ("bytetrack", "botsort", "botsort+motion", "default", "default+motion", "deepsort"),
    "compiled": ("bytetrack", "botsort", "botsort+motion", "default", "default+motion"),
    "ultralytics": ("bytetrack", "botsort", "botsort+motion"),
    "supervision": ("bytetrack",),
    "roboflow": ("bytetrack", "botsort", "botsort+motion"),
    "boxmot": ("bytetrack", "botsort", "botsort+motion"),
    "deep-sort-realtime": ("deepsort",),
}
SLOW_MS = 10.0
WORKER = Path(__file__).with_name("worker.py")
Scenes = dict[str, tuple[Tracks, list[np.ndarray], float, np.ndarray]]
"""Truth, (n, 5) boxes and confidences per frame, frame rate, and the (frames, 2, 3) camera motion."""
STILL = np.eye(2, 3)


class Peer:
    """One package, alive in its own process for the whole run."""

    def __init__(self, package: str, python: str, log: IO[str]) -> None:
        self.package = package
        self.process = subprocess.Popen(
            [python, str(WORKER), package], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )

    def run(self, tracker: str, scenes: Path, out: Path | None) -> tuple[float, int]:
        """CPU seconds and frames."""
        request = {
            "tracker": tracker, "scenes": str(scenes), "out": str(out or ""), "looks": tracker == "deepsort",
        }  # fmt: skip
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.package} stopped with status {self.process.wait()}")
        values = json.loads(answer)
        return values["seconds"], values["frames"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


def real_scenes() -> Scenes:
    scenes: Scenes = {}
    for name, sequence in mot17().items():
        frames = [np.column_stack((f.xyxy, f.confidence)) for _, f in sequence.detections.frames(sequence.frames)]
        scenes[name] = sequence.truth, frames, sequence.info.frame_rate, sequence.motion.reshape(-1, 2, 3)
    if not scenes:
        for seed in range(4):
            truth = walk(25, 300, seed=seed)
            frames = [np.column_stack(view) for view in detector_view(truth, seed)]
            scenes[f"generated-{seed}"] = truth, frames, 30.0, np.tile(STILL, (len(frames), 1, 1))
    return scenes


def crowd(objects: int, frames: int = 60) -> Scenes:
    """So many objects on a field that grows with them, to be found in every frame."""
    rng = np.random.default_rng(objects)
    side = 130 * objects**0.5
    place, speed = rng.uniform(0, side, (objects, 2)), rng.normal(0, 1.5, (objects, 2))
    size = np.column_stack((rng.uniform(30, 60, objects), rng.uniform(80, 140, objects)))
    seen = []
    for k in range(frames):
        corner = place + k * speed + rng.normal(0, 1, (objects, 2))
        score = np.where(
            rng.random(objects) < 0.9, rng.uniform(0.7, 0.95, objects), rng.uniform(0.2, 0.6, objects)
        )
        seen.append(np.column_stack((corner, corner + size, score))[rng.permutation(objects)])
    return {f"{objects} objects": (Tracks.empty(), seen, 30.0, np.tile(STILL, (frames, 1, 1)))}


def looks_of(truth: Tracks, frames: list[np.ndarray]) -> np.ndarray:
    """(m, 128) an embedding of each detection: its true identity's random vector with noise, or noise alone."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(truth.track_id.max(initial=0) + 1, 128))
    found = []
    for rows, (_, true) in zip(frames, truth.frames(len(frames)), strict=True):
        look = 0.3 * rng.normal(size=(len(rows), 128))
        if len(true) and len(rows):
            overlap = iou_matrix(rows[:, :4], true.xyxy)
            known = overlap.max(axis=1) > 0.5
            look[known] += vectors[true.track_id[overlap.argmax(axis=1)[known]]]
        found.append(look)
    return np.concatenate(found).astype(np.float32)


def save(scenes: Scenes, path: Path) -> Path:
    content: dict[str, Any] = {"names": np.array(list(scenes))}
    for name, (truth, frames, rate, motion) in scenes.items():
        content[f"{name}/rows"] = np.concatenate(frames)
        content[f"{name}/spans"] = np.cumsum([0, *(len(frame) for frame in frames)])
        content[f"{name}/rate"], content[f"{name}/motion"] = rate, motion
        content[f"{name}/looks"] = looks_of(truth, frames)
    np.savez(path, **content)
    return path


def take_turns(
    peers: Mapping[str, Peer], scenes: Path, rounds: int, folder: Path | None
) -> dict[tuple[str, str], float]:
    """Least milliseconds of CPU per update, of each package and tracker."""
    best: dict[tuple[str, str], float] = {}
    for turn in range(rounds):
        for package, peer in peers.items():
            # A package that takes a hundred times as long is measured well enough by one round.
            if turn and min((best[package, name] for name in TRACKERS[package]), default=0.0) > SLOW_MS:
                continue
            for tracker in TRACKERS[package]:
                out = folder / f"{package}-{tracker}.npz" if folder and not turn else None
                seconds, frames = peer.run(tracker, scenes, out)
                key = package, tracker
                best[key] = min(best.get(key, float("inf")), 1000 * seconds / frames)
    return best


def accuracy(file: Path, scenes: Scenes) -> dict[str, float]:
    real = all(name.startswith("MOT") for name in scenes)
    with np.load(file) as found:
        pairs = {
            name: (truth, Tracks(found[name][:, 0], found[name][:, 1], found[name][:, 2:]))
            for name, (truth, *_) in scenes.items()
        }
    lengths = {name: len(frames) for name, (_, frames, *_) in scenes.items()}
    return evaluate_sequences(pairs, frames=lengths, benchmark="mot17" if real else None).combined.values()


def memory_growth() -> float:
    """Bytes by which Python's memory grows from frame 1,000 to frame 10,000 of a scene where objects come and go."""
    import tracemalloc

    rng = np.random.default_rng(0)
    tracker = ByteTrack()
    before = 0
    tracemalloc.start()
    for number in range(10_000):
        corner = np.column_stack(
            (np.arange(20) * 60.0 + number % 7, 100.0 + 400 * ((number // 50 + np.arange(20)) % 2))
        )
        tracker.update(np.hstack((corner, corner + 50)), rng.uniform(0.5, 1, 20))
        if number == 1000:
            before = tracemalloc.get_traced_memory()[0]
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return after - before


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.tracking", description=__doc__)
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=PYTHON", help="a package's interpreter"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objects", type=int, nargs="*", default=[10, 50, 200])
    parser.add_argument("--compiled", action="store_true", help="our compiled update too")
    parser.add_argument("--only", nargs="*", default=[], metavar="TRACKER")
    options = parser.parse_args()
    if options.only:
        for package, trackers in TRACKERS.items():
            TRACKERS[package] = tuple(name for name in trackers if name in options.only)
    interpreters = {"ours": sys.executable, "ultralytics": sys.executable}
    if options.compiled:
        interpreters["compiled"] = sys.executable
    interpreters.update(item.split("=", 1) for item in options.peer)
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the peers
    peers = {name: Peer(name, python, log) for name, python in interpreters.items()}
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            scenes = real_scenes()
            spent = take_turns(peers, save(scenes, folder / "scenes.npz"), options.rounds, folder)
            print(f"{', '.join(scenes)}; ms of CPU per update, and how many times ours takes the same tracker")
            for (package, tracker), least in spent.items():
                values = accuracy(folder / f"{package}-{tracker}.npz", scenes)
                base = spent["ours", tracker]
                percent = "  ".join(f"{name} {100 * values[name]:6.2f}" for name in ("HOTA", "MOTA", "IDF1"))
                switches = f"IDSW {values['IDSW']:4.0f}"
                print(
                    f"{package:18} {tracker:14} {percent}  {switches}  {least:8.3f} ms  {least / base:6.2f}x",
                    flush=True,
                )
            for objects in options.objects:
                spent = take_turns(peers, save(crowd(objects), folder / "crowd.npz"), options.rounds, None)
                print(f"{objects} objects: ms of CPU per update")
                for (package, tracker), least in spent.items():
                    print(
                        f"{package:18} {tracker:14} {least:8.3f} ms  {least / spent['ours', tracker]:6.2f}x",
                        flush=True,
                    )
    finally:
        for peer in peers.values():
            peer.close()
    print(f"memory from frame 1,000 to 10,000: {memory_growth() / 1e6:+.3f} MB")


if __name__ == "__main__":
    main()
