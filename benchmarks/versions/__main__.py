"""Measure versions: ``python -m benchmarks.versions [--samples 1000 3000 10000] [--boxes 10]``.

Per size, each in a process of its own: create a first version (media packed), a second one after a few edits, the diff
of the two, push and pull through a folder; then the diff against the number of changed samples.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLASSES = ("circle", "square", "star")
PEAK_LIMIT_MIB = 2048
CHANGED = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.versions", description=__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 3000, 10_000])
    parser.add_argument("--boxes", type=int, default=10)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        count, boxes, folder = options.measure
        print("RESULT " + json.dumps(measure(int(count), int(boxes), Path(folder))))
        return 0
    results = [run(count, options.boxes) for count in options.samples]
    show(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))
    return int(any(result["peak_mib"] > PEAK_LIMIT_MIB for result in results))


def run(count: int, boxes: int) -> dict[str, Any]:
    """One size, in a process and a lab of its own."""
    folder = Path(tempfile.mkdtemp(prefix="osv-bench-"))
    environment = {
        **os.environ,
        "OSV_HOME": str(folder / "home"),
        "FIFTYONE_DATABASE_DIR": str(folder / "mongo"),
        "FIFTYONE_CONFIG_PATH": str(folder / "fiftyone.json"),
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
    }
    environment.pop("FIFTYONE_DATABASE_URI", None)
    command = [sys.executable, "-m", "benchmarks.versions", "--measure", str(count), str(boxes), str(folder)]
    try:
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if answer.returncode:
        raise SystemExit(answer.stderr[-3000:])
    line = next(line for line in answer.stdout.splitlines() if line.startswith("RESULT "))
    return dict(json.loads(line.removeprefix("RESULT ")))


def measure(count: int, boxes: int, folder: Path) -> dict[str, Any]:
    """Seconds of each step at one size."""
    from osv_lab.core.privacy import silence

    silence()
    from osv_lab.store.database import connect
    from osv_lab.store.diff import diff_versions
    from osv_lab.store.ingest import ingest
    from osv_lab.store.versions import create_version, delete, pull, push

    write_yolo(folder / "data", count, boxes)
    fo = connect()
    ingest(folder / "data", "bench")
    dataset = fo.load_dataset("bench")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        done = work()
        seconds[name] = time.perf_counter() - start
        return done

    first = timed("create", lambda: create_version(dataset))
    seconds["dvc add of the same files"] = dvc_add(folder)
    edit(dataset, 0, CHANGED)
    second = timed(f"create, {CHANGED} changed", lambda: create_version(dataset))
    found = timed(f"diff, {CHANGED} changed", lambda: diff_versions(first, second))
    assert found.samples["changed"] == CHANGED and sum(found.objects["moved"].values()) == CHANGED
    timed("push", lambda: push(second, str(folder / "remote")))
    timed("push of the other", lambda: push(first, str(folder / "remote")))
    delete(first)
    delete(second)
    timed("pull", lambda: pull(second.ref, str(folder / "remote")))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    done = CHANGED
    for share in (0.01, 0.1, 1.0):
        changed = max(int(count * share), CHANGED)
        edit(dataset, done, changed)
        done = changed
        other = create_version(dataset)
        found = timed(f"diff, {share:.0%} changed", lambda other=other: diff_versions(second, other))
        assert found.samples["changed"] == changed - CHANGED
    peak = max(peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {
        "samples": count,
        "seconds": seconds,
        "start_mib": before,
        "peak_mib": peak,
        "size_bytes": first.size_bytes,
    }


def dvc_add(folder: Path) -> float:
    """Seconds of the peer: DVC itself on the folder of images and labels, as its guide has it."""
    from dvc.repo import Repo

    shutil.copytree(folder / "data", folder / "peer" / "data")
    with Repo.init(str(folder / "peer"), no_scm=True) as project:
        start = time.perf_counter()
        project.add(str(folder / "peer" / "data"))
        return time.perf_counter() - start


def edit(dataset: Any, start: int, stop: int) -> None:
    """Move one box in each of the samples from ``start`` to ``stop``, by their place in the file names' order."""
    view = dataset.sort_by("filepath")[start:stop]
    moved = view.values("ground_truth.detections.bounding_box")
    for boxes in moved:
        boxes[0][0] += 0.001
    view.set_values("ground_truth.detections.bounding_box", moved)


def write_yolo(folder: Path, count: int, boxes: int) -> None:
    """Images of noise, some 25 KB each, all different, with boxes that do not overlap."""
    import cv2
    import numpy as np

    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "data.yaml").write_text(f"train: images\nnames: [{', '.join(CLASSES)}]\n")
    base = np.random.default_rng(51).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    data = bytes(cv2.imencode(".jpg", base, [cv2.IMWRITE_JPEG_QUALITY, 40])[1])
    for number in range(count):
        # A comment segment makes each file a different one without encoding it anew.
        comment = f"{number:08d}".encode()
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        (folder / f"images/{number:06d}.jpg").write_bytes(data[:2] + segment + data[2:])
        rows = [
            f"{(number + k) % 3} {(k + 0.5) / boxes:.6f} {0.2 + number % 7 / 20:.6f} {0.8 / boxes:.6f} 0.1"
            for k in range(boxes)
        ]
        (folder / f"labels/{number:06d}.txt").write_text("\n".join(rows))


def show(results: list[dict[str, Any]]) -> None:
    """One column per size."""
    names = list(dict.fromkeys(name for result in results for name in result["seconds"]))
    print(f"{'seconds':28}" + "".join(f"{result['samples']:>12,}" for result in results))
    for name in names:
        print(f"{name:28}" + "".join(f"{result['seconds'][name]:12.3f}" for result in results))
    print(f"{'media, MiB':28}" + "".join(f"{result['size_bytes'] / 2**20:12.0f}" for result in results))
    print(f"{'peak memory, MiB':28}" + "".join(f"{result['peak_mib']:12.0f}" for result in results))
    print(f"{'  before the first version':28}" + "".join(f"{result['start_mib']:12.0f}" for result in results))
    if len(results) > 1:
        a, b = results[0], results[-1]
        growth = b["samples"] / a["samples"]
        ratios = ", ".join(f"{name} ×{b['seconds'][name] / a['seconds'][name]:.1f}" for name in names)
        print(f"images ×{growth:.0f}: {ratios}")


if __name__ == "__main__":
    raise SystemExit(main())
