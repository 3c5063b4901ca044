"""Measure curation: ``python -m benchmarks.curate [--seeds 0 1 2] [--hashes 100000] [--samples 10000]``."""

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
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.curate", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the planted faults")
    parser.add_argument("--model", type=Path, help="a detector of BCCD, the given one without")
    parser.add_argument("--hashes", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=10_000, help="of the dataset that health looks at")
    parser.add_argument("--only", choices=("hashes", "health", "planted"))
    parser.add_argument("--measure-hashes", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--measure-health", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_hashes:
        print(json.dumps(measure_hashes(options.measure_hashes)))
        return 0
    if options.measure_health:
        print(json.dumps(measure_health(options.measure_health)))
        return 0
    if options.only in (None, "hashes"):
        hashes(options.hashes)
    if options.only in (None, "health"):
        healths(options.samples)
    if options.only in (None, "planted"):
        planted(options.seeds, options.model)
    return 0


def hashes(most: int) -> None:
    """Near duplicates among random hashes, one in twenty of them a near copy: time against n, each n in a process."""
    print(f"{'hashes':>10} {'pairs':>8} {'seconds':>8} {'peak MB':>8}")
    for n in (most // 8, most // 4, most // 2, most):
        command = [sys.executable, "-m", "benchmarks.curate", "--measure-hashes", str(n)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        one = json.loads(run.stdout)
        print(f"{n:>10,} {one['pairs']:>8,} {one['seconds']:>8.2f} {one['peak_mb']:>8.0f}", flush=True)


def measure_hashes(n: int) -> dict[str, float]:
    from osv_lab.curate.duplicates import RADIUS
    from osv_lab.curate.hamming import pairs_within, unique_hashes

    random = np.random.default_rng(51)
    values = random.integers(0, 2**64, n, dtype=np.uint64)
    copies = random.choice(n, n // 20, replace=False)
    sources = random.integers(0, n, len(copies))
    flips = np.zeros(len(copies), np.uint64)
    for _ in range(6):
        flips |= np.uint64(1) << random.integers(0, 64, len(copies)).astype(np.uint64)
    values[copies] = values[sources] ^ flips
    begin = time.perf_counter()
    pairs = sum(len(i) for i, _, _ in pairs_within(unique_hashes(values)[0], RADIUS))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"pairs": pairs, "seconds": time.perf_counter() - begin, "peak_mb": peak}


def healths(most: int) -> None:
    """``health`` of datasets with 13 boxes in each image, as many as BCCD has: each size in a process and a lab."""
    print(f"{'samples':>10} {'boxes':>8} {'seconds':>8} {'peak MB':>8} {'before':>8}")
    for n in (most // 4, most // 2, most):
        folder = Path(tempfile.mkdtemp(prefix="osv-bench-"))
        places = {"OSV_HOME": folder / "home", "FIFTYONE_DATABASE_DIR": folder / "mongo"}
        environment = {**os.environ, **{name: str(path) for name, path in places.items()}}
        environment.pop("FIFTYONE_DATABASE_URI", None)
        command = [sys.executable, "-m", "benchmarks.curate", "--measure-health", str(n)]
        try:
            run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        one = json.loads(run.stdout.splitlines()[-1])
        columns = f"{one['seconds']:>8.2f} {one['peak_mb']:>8.0f} {one['before_mb']:>8.0f}"
        print(f"{n:>10,} {one['boxes']:>8,} {columns}", flush=True)


def measure_health(n: int, boxes: int = 13) -> dict[str, float]:
    from osv_lab.core.privacy import silence

    silence()
    from osv_lab.curate.health import health
    from osv_lab.store.bulk import NewSample, Writer
    from osv_lab.store.database import connect
    from osv_lab.store.records import Box

    random = np.random.default_rng(51)
    corner, size = random.uniform(0, 0.8, (n, boxes, 2)), random.uniform(0.02, 0.2, (n, boxes, 2))
    names = random.choice(["Platelets", "RBC", "WBC"], (n, boxes), p=[0.08, 0.84, 0.08])
    dataset = connect().Dataset("bench")
    writer = Writer(dataset, {"ground_truth": "Detections"})
    metadata = {"_cls": "ImageMetadata", "width": 640, "height": 480}
    for begin in range(0, n, 500):
        writer.insert(
            [
                NewSample(
                    f"/nowhere/{place}.jpg",
                    f"{place:064x}",
                    metadata,
                    {
                        "ground_truth": [
                            Box(str(name), (float(x), float(y), float(w), float(h)))
                            for name, (x, y), (w, h) in zip(names[place], corner[place], size[place], strict=True)
                        ]
                    },
                    tags=[("train", "val", "test")[place % 3]],
                )
                for place in range(begin, min(begin + 500, n))
            ]
        )
    writer.finish()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report = health(dataset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"boxes": sum(report.objects.values()), "seconds": report.duration_s}
    return {**found, "before_mb": before, "peak_mb": peak}


def planted(seeds: Sequence[int], model: Path | None) -> None:
    """Recall of planted faults on BCCD, as it is and mended, in the mean and the least of the seeds."""
    shared = Path(os.environ.get("OSV_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    source, model = shared / "bccd" / "BCCD", model or shared / "models" / "bccd_yolo11n.onnx"
    if not source.is_dir() or not model.is_file():
        print("BCCD and its model are not here: set OSV_SHARED_DATA")
        return
    folder = Path(tempfile.mkdtemp(prefix="osv-bench-"))
    os.environ.update(
        OSV_HOME=str(folder / "home"),
        FIFTYONE_DATABASE_DIR=str(folder / "mongo"),
        FIFTYONE_SHOW_PROGRESS_BARS="false",
    )
    try:
        results = [_planted(source, Path(shutil.copy(model, folder)), folder, seed) for seed in seeds]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    columns = ("as it is", "mended", "Brain, as it is")
    print(f"{'mean (least)':32}" + "".join(f"{one:>18}" for one in columns) + f"   ({len(seeds)} seeds)")
    for name in dict.fromkeys(name for one in results for column in columns for name in one[column]):
        cells = []
        for column in columns:
            found = [one[column][name] for one in results if name in one[column]]
            cells.append(f"{np.mean(found):.2f} ({np.min(found):.2f})" if found else "-")
        print(f"{name:32}" + "".join(f"{cell:>18}" for cell in cells))


def _planted(source: Path, model: Path, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Per column of the table what is found."""
    from benchmarks.curate import planted as plan
    from benchmarks.curate import reviewed
    from osv_lab.curate.label_errors import find_label_errors
    from osv_lab.curate.quality import quality
    from osv_lab.detect import load_detector
    from osv_lab.store.database import connect
    from osv_lab.store.ingest import ingest
    from osv_lab.store.predict import predict

    fo = connect()
    if not fo.dataset_exists("clean"):
        ingest(source, "clean")
        predict(fo.load_dataset("clean"), load_detector(str(model)))
    table: dict[str, dict[str, float]] = {}
    for state in ("as it is", "mended"):
        dataset = fo.load_dataset("clean").clone(f"{state}-{seed}")
        if state == "mended":
            reviewed.mend(fo, dataset)
        faults = plan.plant_labels(fo, dataset, seed)
        begin = time.perf_counter()
        found = find_label_errors(dataset, limit=1_000_000)
        seconds = time.perf_counter() - begin
        verdicts = {verdict: reviewed.boxes(dataset, verdict) for verdict in reviewed.VERDICTS}
        own = plan.recall_of_labels(faults, found, verdicts)
        told = ", ".join(f"{fault} {share:.2f}" for fault, share in own.items() if fault in plan.KIND_OF)
        print(f"seed {seed}, BCCD {state}: {told} ({seconds:.0f} s)", flush=True)
        own |= plan.first_missing(faults, found, verdicts)
        if state == "as it is":
            brain = plan.brain_labels(fo, dataset, faults)
            plan.plant_images(fo, dataset, plan.fresh_folder(folder / f"images-{seed}"), seed, faults)
            own |= plan.recall_of_images(faults, quality(dataset))
            table["Brain, as it is"] = brain | plan.brain_copies(dataset, faults)
        table[state] = own
        dataset.delete()
    return table


if __name__ == "__main__":
    raise SystemExit(main())
