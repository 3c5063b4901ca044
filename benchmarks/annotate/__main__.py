"""Send to CVAT and pull, against FiftyOne's own backend, on one server: ``python -m benchmarks.annotate``.

Needs a CVAT server: OSV_CVAT_URL, OSV_CVAT_USER and OSV_CVAT_PASSWORD. Both sides send the same images with the same
boxes and one attribute, and bring back what nobody touched; they take turns at going first, and each round's tasks are
deleted.
FiftyOne's backend has the settings with which it is fastest here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.annotate.calls import cpu_of, recorded

VARIABLES = ("OSV_CVAT_URL", "OSV_CVAT_USER", "OSV_CVAT_PASSWORD")


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.annotate", description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--boxes", type=int, default=10, help="boxes per image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--server", type=int, nargs="*", default=(), help="processes of the server, to add their CPU"
    )
    parser.add_argument("--calls", action="store_true", help="show what was asked of the server, and waited for")
    options = parser.parse_args()
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if missing:
        print(f"no CVAT server to measure on: set {', '.join(missing)}")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="osv-bench-"))
    os.environ.update(
        OSV_HOME=str(folder / "home"),
        FIFTYONE_DATABASE_DIR=str(folder / "mongo"),
        FIFTYONE_SHOW_PROGRESS_BARS="false",
    )
    try:
        show(measure(folder, options), options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds by side and direction, one per round; the first round, which loads libraries, is not counted."""
    from osv_lab.store.database import connect

    connect()
    dataset = scene(folder, options.images, options.boxes)
    seconds: dict[str, list[float]] = {}
    for number in range(options.rounds + 1):
        # Each goes first in every other round: what one leaves to the server's database may hinder the next.
        for name, run in (("ours", ours), ("FiftyOne", theirs))[:: 1 if number % 2 else -1]:
            sides: list[Callable[[], Any]] = run(dataset, f"round{number}")
            for direction, step in zip(("out", "back", ""), sides, strict=True):
                start, busy, there = time.perf_counter(), time.process_time(), cpu_of(options.server)
                with recorded() as calls:
                    step()
                if direction and number:
                    spent = {
                        "": time.perf_counter() - start,
                        " CPU": time.process_time() - busy,
                        " server": cpu_of(options.server) - there,
                    }
                    for kind, value in spent.items():
                        seconds.setdefault(f"{name} {direction}{kind}", []).append(value)
                    if options.calls:
                        print(f"\nround {number}, {name} {direction}", *calls.lines(), sep="\n", flush=True)
    dataset.delete()
    return seconds


def scene(folder: Path, images: int, boxes: int) -> Any:
    """Noise, which does not compress, and boxes on it."""
    import cv2
    import fiftyone as fo

    random = np.random.default_rng(0)
    samples = []
    for number in range(images):
        path = folder / f"{number:05}.jpg"
        cv2.imwrite(
            str(path), random.integers(0, 255, (480, 640, 3), dtype=np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 50]
        )
        detections = [
            fo.Detection(
                label=str(random.choice(["RBC", "WBC", "platelets"])),
                bounding_box=random.uniform(0.05, 0.4, 4).tolist(),
                confidence=float(random.random()),
                count=int(random.integers(9)),
            )
            for _ in range(boxes)
        ]
        labels = {
            field: fo.Detections(detections=[one.copy() for one in detections]) for field in ("ours", "theirs")
        }
        samples.append(fo.Sample(filepath=str(path), **labels))
    dataset = fo.Dataset("annotate")
    dataset.add_samples(samples, dynamic=True, progress=False)
    dataset.compute_metadata(progress=False)
    return dataset


def ours(dataset: Any, key: str) -> list[Callable[[], Any]]:
    from osv_lab.annotate import AnnotationLoop

    loop = AnnotationLoop(dataset, organization="")

    def end() -> None:
        loop.cancel(key)
        loop.close()

    return [lambda: loop.send(dataset, key, "ours"), lambda: loop.pull(key, done="any"), end]


def theirs(dataset: Any, key: str) -> list[Callable[[], Any]]:
    url, user, password = (os.environ[name] for name in VARIABLES)
    server = {"url": url, "username": user, "password": password}

    def out() -> None:
        fastest = {"task_size": None, "use_cache": True, "chunk_size": 8}
        dataset.annotate(key, backend="cvat", label_field="theirs", launch_editor=False, **fastest, **server)

    def back() -> None:
        dataset.load_annotations(key, cleanup=False, progress=False, **server)

    def end() -> None:
        results = dataset.load_annotation_results(key, **server)
        results.cleanup()
        dataset.delete_annotation_run(key)

    return [out, back, end]


def show(seconds: dict[str, list[float]], options: argparse.Namespace) -> None:
    boxes = options.images * options.boxes
    print(f"\n{options.images:,} images with {boxes:,} boxes, seconds (median of {options.rounds})\n")
    print(f"{'':<12} {'ours':>8} {'FiftyOne':>9} {'ratio':>7}")
    # What the client itself computes, and the server, beside all the waiting.
    kinds = ("", " CPU", " server") if options.server else ("", " CPU")
    for direction in (f"{way}{kind}" for kind in kinds for way in ("out", "back")):
        mine, other = (statistics.median(seconds[f"{name} {direction}"]) for name in ("ours", "FiftyOne"))
        print(f"{direction:<12} {mine:>8.1f} {other:>9.1f} {other / mine:>6.1f}x")


if __name__ == "__main__":
    raise SystemExit(main())
